package unix

// Of macOS's sys/unistd.h, in the other order than Linux's.
const (
	SEEK_HOLE = 3
	SEEK_DATA = 4
)
