package components

// Error says which verb failed at what: a component, a repository, a list.
type Error struct {
	Op     string // "decode", "plan", "build", "spec"
	Target string
	Err    error
}

func (e *Error) Error() string {
	return "publish/components: " + e.Op + " " + e.Target + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
