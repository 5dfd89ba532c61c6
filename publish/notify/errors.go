package notify

// Error says which target could not be told.
type Error struct {
	Op     string // "send"
	Target string // kind and target, without secrets
	Err    error
}

func (e *Error) Error() string {
	return "publish/notify: " + e.Op + " " + e.Target + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
