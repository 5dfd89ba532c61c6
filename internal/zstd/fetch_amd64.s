#include "textflag.h"

// place fetches the bucket of the place i bytes behind BX; DX is shortPrime.
#define place(i) \
	MOVQ       i(BX), SI; \
	IMULQ      DX, SI; \
	SHRQ       CX, SI; \
	SHLQ       $4, SI; \
	PREFETCHT0 (AX)(SI*1)

// func fetchPlaces(table *bucket, text *byte, shift uint)
TEXT ·fetchPlaces(SB), NOSPLIT, $0-24
	MOVQ table+0(FP), AX
	MOVQ text+8(FP), BX
	MOVQ shift+16(FP), CX
	MOVQ $0xcf1bbcdcbb000000, DX
	place(0)
	place(1)
	place(2)
	place(3)
	place(4)
	place(5)
	place(6)
	place(7)
	RET

// pair fetches what is at both places in CX.
#define pair \
	MOVL       CX, DX; \
	SHRL       $8, DX; \
	PREFETCHT0 (AX)(DX*1); \
	SHRQ       $40, CX; \
	PREFETCHT0 (AX)(CX*1)

// func fetchContent(content *byte, b *bucket)
TEXT ·fetchContent(SB), NOSPLIT, $0-16
	MOVQ content+0(FP), AX
	MOVQ b+8(FP), BX
	MOVQ 0(BX), CX
	pair
	MOVQ 8(BX), CX
	pair
	RET
