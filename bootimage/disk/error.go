package disk

import "errors"

// ErrCorrupt is wrapped by errors that say that an image contradicts itself or
// its format.
var ErrCorrupt = errors.New("corrupt image")

// Error tells what could not be done with an image.
type Error struct {
	Op     string // "probe", "open", "read", "stamp", "convert", …
	Target string // the part of the image or the name of the file
	Err    error
}

// Error names operation, target and cause.
func (e *Error) Error() string { return "disk: " + e.Op + " " + e.Target + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
