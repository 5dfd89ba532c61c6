//go:build !linux && !darwin

package unix

// Linux's. Seek answers with an error.
const (
	SEEK_DATA = 3
	SEEK_HOLE = 4
)
