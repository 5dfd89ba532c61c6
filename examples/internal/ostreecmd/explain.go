package ostreecmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
)

// explain gives an error its exit code and says what to do about it.
func (c *common) explain(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	_, usage := errors.AsType[*ui.UsageError](err)
	switch {
	case usage:
		return ui.Next(err, cmd.CommandPath()+" --help says how it is called")
	case errors.Is(err, context.Canceled):
		return ui.Next(errors.New("stopped"), "nothing half-done is left: run it again")
	case errors.Is(err, ostree.ErrSignature):
		return &ui.VerificationError{Err: ui.Next(err, signatureAdvice(err))}
	case errors.Is(err, ostree.ErrCorrupt) && ofArchive(err):
		return ui.Next(err, "get the archive again: it is damaged, or no tar file")
	case errors.Is(err, ostree.ErrCorrupt):
		return &ui.VerificationError{Err: ui.Next(err, "okd-streams ostree fsck finds all damage; its --repair-from=REPOSITORY takes what is damaged from another one")}
	}
	return ui.Next(err, advice(err))
}

// ofArchive reports whether it is not the repository that is damaged but the tar
// file that a commit is made from.
func ofArchive(err error) bool {
	for e, ok := errors.AsType[*ostree.Error](err); ok; e, ok = errors.AsType[*ostree.Error](e.Err) {
		if e.Op == "tar" {
			return true
		}
	}
	return false
}

func signatureAdvice(err error) string {
	switch {
	case errors.Is(err, ostree.ErrRevoked):
		return "the key was revoked: sign again with another"
	case errors.Is(err, ostree.ErrExpired):
		return "sign again, or get the newest public key, which may say that it is good for longer"
	case errors.Is(err, ostree.ErrWeak):
		return "sign again with a stronger key or hash"
	case errors.Is(err, ostree.ErrUnknownKey):
		return "if the signer is to be trusted, give the public key as an argument or with --keys-file"
	}
	return "okd-streams ostree sign signs a commit; show --print-detached-metadata-key prints what it has"
}

// advice is what to do about errors that say by their kind what they are.
func advice(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "make room: nothing of what was written is left behind"
	case errors.Is(err, syscall.EROFS):
		return "the file system is read-only: mount it for writing or name another place"
	case errors.Is(err, fs.ErrPermission):
		return "run as the owner of the repository; one of mode bare needs root, bare-user does not"
	case errors.Is(err, errors.ErrUnsupported):
		return "it is not supported here; ostree may do it"
	case errors.Is(err, fs.ErrExist):
		return "choose another name, or remove what is there"
	case errors.Is(err, fs.ErrNotExist):
		return "check the name: okd-streams ostree refs lists refs, ls what is in a commit"
	}
	return "--verbose tells more"
}

// lines puts a list into a text for people.
func lines(list []string) string { return strings.Join(list, "\n") }

// quoted is a name in a message.
func quoted(name string) string { return fmt.Sprintf("%.200q", name) }
