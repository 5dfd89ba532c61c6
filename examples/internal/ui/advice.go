package ui

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"syscall"

	"github.com/okd-project/okd-streams/stream"
)

// AdviceError is an error with what to do about it.
type AdviceError struct {
	Err    error
	Advice string
}

func (e *AdviceError) Error() string { return e.Err.Error() + "\n  " + e.Advice }

// Unwrap gives the cause.
func (e *AdviceError) Unwrap() error { return e.Err }

// Next adds what to do about an error, unless it says so already. Of a nil error
// it makes none.
func Next(err error, advice string) error {
	if _, ok := errors.AsType[*AdviceError](err); ok || err == nil {
		return err
	}
	return &AdviceError{Err: err, Advice: advice}
}

// advised gives an error that nobody gave an advice the one that its kind
// allows, so that no failure ends without.
func advised(program string, err error) error {
	return Next(err, general(program, err))
}

func general(program string, err error) string {
	if _, ok := errors.AsType[*UsageError](err); ok {
		if program == "dailybuild" {
			return program + " -help shows what there is" // it has no commands
		}
		return program + " --help shows what there is, and COMMAND --help how it is called"
	}
	if _, ok := errors.AsType[*VerificationError](err); ok {
		return "don't use it: get it again from where it comes from"
	}
	if _, ok := errors.AsType[*stream.FieldError](err); ok {
		return "mend it with an editor; okd-streams stream lint FILE checks it again"
	}
	if advice := Advice(err); advice != "" {
		return advice
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return "choose another name, or remove what is there"
	case errors.Is(err, fs.ErrNotExist):
		return "check the name and where it is looked for"
	case errors.Is(err, errors.ErrUnsupported):
		return "it can't be done with this; " + program + " --help shows what can"
	}
	return "mend what it says; if there is nothing to mend, report it with the text above and the output of okd-streams version"
}

// noFolder finds the error of os.OpenRoot for what is no folder, which has no kind.
func noFolder(err error) bool {
	p, ok := errors.AsType[*fs.PathError](err)
	return ok && p.Err.Error() == "not a directory"
}

// Advice is what to do about an error of the machine, the network or a file that
// is of another kind, whatever the command; "": the error is none of these.
func Advice(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "it was stopped: run it again, what is done already is not done twice"
	case errors.Is(err, syscall.ENOSPC):
		return "make room and run it again: nothing half-written is left behind"
	case errors.Is(err, syscall.EROFS):
		return "the file system is read-only: mount it for writing, or name another place"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nobody listens there: check the address, and whether the server runs"
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program listens there: end it, or give another address with --listen"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine has no such address: give another with --listen"
	case errors.Is(err, syscall.ENOTDIR), noFolder(err):
		return "it has to be a folder: name another, or remove the file that is there"
	case errors.Is(err, syscall.EISDIR):
		return "it has to be a file: name another, or one in that folder"
	}
	if unknown, ok := errors.AsType[*net.DNSError](err); ok {
		return "check how " + unknown.Name + " is spelled, and whether this machine has a name server"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "if the server is to be trusted, give its certificate authority with --cert-dir"
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "the other side did not answer in time: run it again, it goes on where it was"
	}
	if errors.Is(err, fs.ErrPermission) {
		return "check who may do this: the owner of the file, or the credentials that --authfile or the environment give"
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return "it is not the JSON that is wanted there: name another file, or make this one again"
	}
	return ""
}
