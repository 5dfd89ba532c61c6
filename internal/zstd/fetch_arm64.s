#include "textflag.h"

// place fetches the bucket of the place i bytes behind R1; R3 is shortPrime.
#define place(i) \
	MOVD i(R1), R4; \
	MUL  R3, R4, R4; \
	LSR  R2, R4, R4; \
	ADD  R4<<4, R0, R4; \
	PRFM (R4), PLDL1KEEP

// func fetchPlaces(table *bucket, text *byte, shift uint)
TEXT ·fetchPlaces(SB), NOSPLIT, $0-24
	MOVD table+0(FP), R0
	MOVD text+8(FP), R1
	MOVD shift+16(FP), R2
	MOVD $0xcf1bbcdcbb000000, R3
	place(0)
	place(1)
	place(2)
	place(3)
	place(4)
	place(5)
	place(6)
	place(7)
	RET

// pair fetches what is at both places in R2.
#define pair \
	UBFX $8, R2, $24, R3; \
	ADD  R3, R0, R3; \
	PRFM (R3), PLDL1KEEP; \
	ADD  R2>>40, R0, R3; \
	PRFM (R3), PLDL1KEEP

// func fetchContent(content *byte, b *bucket)
TEXT ·fetchContent(SB), NOSPLIT, $0-16
	MOVD content+0(FP), R0
	MOVD b+8(FP), R1
	MOVD 0(R1), R2
	pair
	MOVD 8(R1), R2
	pair
	RET
