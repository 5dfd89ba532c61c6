package promotion

import "errors"

// Why a promotion does not go on.
var (
	// ErrBusy: another payload of the stream is being promoted; finish or abort
	// that first. The error names it, who began it and when.
	ErrBusy = errors.New("another promotion of the stream is not finished")
	// ErrOther: the journal, or what is in place, is of another promotion.
	ErrOther = errors.New("of another promotion")
	// ErrAborted: the promotion was taken back; its name is not used again.
	ErrAborted = errors.New("the promotion was aborted")
	// ErrStarted: pointers are being moved, or were; what people may have seen
	// is not taken back.
	ErrStarted = errors.New("the pointers are being moved")
	// ErrClock: the clock cannot be right.
	ErrClock = errors.New("the clock is wrong")
)

// Error says which verb failed at what: a release by its name, or a stream.
type Error struct {
	Op     string // "promote", "abort", "due", "shadow", "read", "decode"
	Target string
	Err    error
	// Retryable says that trying again later may help.
	Retryable bool
}

func (e *Error) Error() string {
	return "publish/promotion: " + e.Op + " " + e.Target + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
