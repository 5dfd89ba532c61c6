package container

// Error is what the verbs of this package return for a fault in one place.
type Error struct {
	Op     string // the verb: "encapsulate", "flatten", "components", "cache", …
	Target string // a layer, path, object or file
	Err    error
}

func (e *Error) Error() string { return "container: " + e.Op + " " + e.Target + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
