// Package ui is what the example programs share towards people: progress on
// long work, tables, sizes, exit codes.
package ui

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Exit codes of the example programs.
const (
	ExitOK           = 0
	ExitFailed       = 1
	ExitUsage        = 2
	ExitVerification = 3
	ExitNothing      = 4
)

// ErrNothing says that there was nothing to do: exit code 4, for those who asked
// to be told so.
var ErrNothing = errors.New("nothing to do")

// UsageError is an error in how a program was called: exit code 2.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef makes a [UsageError].
func Usagef(format string, args ...any) error {
	return &UsageError{fmt.Errorf(format, args...)}
}

// VerificationError says that something is not what its checksum or signature
// says: exit code 3.
type VerificationError struct{ Err error }

func (e *VerificationError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *VerificationError) Unwrap() error { return e.Err }

// Exit gives the exit code for err and prints it to stderr, with what to do
// about it.
func Exit(stderr io.Writer, program string, err error) int {
	if err == nil {
		return ExitOK
	}
	if errors.Is(err, ErrNothing) {
		return ExitNothing // it was said as a result
	}
	fmt.Fprintf(stderr, "%s: %v\n", program, advised(program, err))
	if usage := (*UsageError)(nil); errors.As(err, &usage) {
		return ExitUsage
	}
	if verification := (*VerificationError)(nil); errors.As(err, &verification) {
		return ExitVerification
	}
	return ExitFailed
}

// Size prints bytes in the unit people read.
func Size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, exp := float64(n)/unit, 0
	for value >= unit && exp < 4 {
		value /= unit
		exp++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[exp])
}

// JSON prints v for programs.
func JSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Table prints rows in aligned columns.
func Table(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(tw, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// Progress shows long work: on a terminal one line that is drawn again, with
// rate and time left; elsewhere (CI) a plain line now and then. The zero value
// shows nothing.
type Progress struct {
	w        io.Writer
	terminal bool
	now      func() time.Time

	mu      sync.Mutex
	step    string
	started time.Time
	last    time.Time
	drawn   bool
}

// plainEvery and drawEvery limit how often a line is printed.
const (
	plainEvery = 5 * time.Second
	drawEvery  = 100 * time.Millisecond
)

// NewProgress shows progress on w. quiet shows nothing.
func NewProgress(w io.Writer, now func() time.Time, quiet bool) *Progress {
	if quiet {
		return &Progress{}
	}
	file, ok := w.(*os.File)
	return &Progress{w: w, terminal: ok && term.IsTerminal(int(file.Fd())), now: now}
}

// Update reports done of total (0: not known) of a step, in bytes if bytes is
// set. It may be called from several goroutines.
func (p *Progress) Update(step, phase string, done, total int64, bytes bool) {
	if p == nil || p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if key := step + " " + phase; key != p.step {
		p.clear()
		p.step, p.started, p.last = key, now, now
		if !p.terminal {
			fmt.Fprintln(p.w, strings.TrimSpace(key))
		}
		return
	}
	every := plainEvery
	if p.terminal {
		every = drawEvery
	}
	if now.Sub(p.last) < every {
		return
	}
	p.last = now
	line := progressLine(strings.TrimSpace(p.step), done, total, bytes, now.Sub(p.started))
	if !p.terminal {
		fmt.Fprintln(p.w, line)
		return
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", line)
	p.drawn = true
}

func progressLine(what string, done, total int64, bytes bool, elapsed time.Duration) string {
	amount := func(n int64) string {
		if bytes {
			return Size(n)
		}
		return fmt.Sprint(n)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", what, amount(done))
	if total > 0 {
		fmt.Fprintf(&b, " of %s (%d %%)", amount(total), done*100/total)
	}
	if seconds := elapsed.Seconds(); seconds >= 1 && done > 0 {
		rate := float64(done) / seconds
		fmt.Fprintf(&b, ", %s/s", amount(int64(rate)))
		if total > done {
			left := time.Duration(float64(total-done) / rate * float64(time.Second))
			fmt.Fprintf(&b, ", %s left", left.Round(time.Second))
		}
	}
	return b.String()
}

// Done ends the line that is being drawn.
func (p *Progress) Done() {
	if p == nil || p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.step = ""
}

func (p *Progress) clear() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.drawn = false
	}
}

// BuildTime is now, or SOURCE_DATE_EPOCH for those who build again what was
// built before.
func BuildTime() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Now().UTC(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, Usagef("SOURCE_DATE_EPOCH %q is not a number of seconds", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// Output has write fill a file, which is there whole or not at all; stdout in
// place of "" and "-".
func Output(stdout io.Writer, path string, write func(io.Writer) error) error {
	if path == "" || path == "-" {
		return write(stdout)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return &fs.PathError{Op: "write", Path: path, Err: syscall.EISDIR}
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if fault, ok := errors.AsType[*fs.PathError](err); ok {
		return &fs.PathError{Op: "write", Path: path, Err: fault.Err} // nobody asked for the temporary one
	}
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	err = errors.Join(write(temp), temp.Chmod(0o644), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	return err
}

// WrongArguments says that a command was called with another number of arguments
// than it takes.
func WrongArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return Usagef("1 argument, but it is %s", cmd.UseLine())
	}
	return Usagef("%d arguments, but it is %s", len(args), cmd.UseLine())
}

// Exists reports that the folder of a store or registry dir:PATH is not there,
// which opening it would make. Nothing else is looked at.
func Exists(url string) error {
	dir, ok := strings.CutPrefix(url, "dir:")
	if !ok {
		return nil
	}
	_, err := os.Stat(dir)
	return err
}

// Count is a number of things, as "1 file" and "2 files".
func Count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
