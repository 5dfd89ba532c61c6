package rpmrepo

// Error says what failed at what.
type Error struct {
	Op     string // "check", "read"
	Target string // a stream, a repository
	Err    error
}

func (e *Error) Error() string {
	return "publish/rpmrepo: " + e.Op + " " + e.Target + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
