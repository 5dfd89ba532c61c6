package prow

// Error says what failed at what.
type Error struct {
	Op     string // "decode", "encode", "write", "check", "hand over", "watch", "open", "look at", "import", "tag", "untag", "map"
	Target string // a document, a file, a tag, an image stream with its tag
	Err    error
}

func (e *Error) Error() string {
	return "publish/prow: " + e.Op + " " + e.Target + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
