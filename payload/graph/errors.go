package graph

// Error says which verb failed at what: a version, a file, a URL.
type Error struct {
	Op     string // "decode", "build", "read", "apply", "select", "fetch", "path", "plan", "reach"
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
