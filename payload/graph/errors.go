package graph

// Error says which verb failed at what: a version, a file, a URL.
type Error struct {
	Op     string // "decode", "encode", "build", "read", "apply", "select", "updates", "path", "plan", "reach", "channel", "draw", "fetch"
	Target string
	Err    error
}

func (e *Error) Error() string {
	if e.Target == "" {
		return "payload/graph: " + e.Op + ": " + e.Err.Error()
	}
	return "payload/graph: " + e.Op + " " + e.Target + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
