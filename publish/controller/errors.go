package controller

// Error says which request or document failed.
type Error struct {
	Op     string // "fetch", "decode", "encode", "generate"
	Target string // a URL without credentials, a stream
	Err    error
}

func (e *Error) Error() string {
	return "publish/controller: " + e.Op + " " + e.Target + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
