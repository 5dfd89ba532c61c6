package ostreecmd

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/publish/ed25519signer"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

// signFlags are keys, as text or in files.
type signFlags struct {
	kind        string
	keys, files []string
}

func (f *signFlags) register(cmd *cobra.Command, name, short string) {
	cmd.Flags().StringVarP(&f.kind, name, short, "ed25519", "`ed25519|gpg`; of gpg, keys are files that gpg exported")
}

// signers reads secret keys. Keys as text are those of Ed25519.
func (f *signFlags) signers() ([]ostree.Signer, ostree.SignatureKind, error) {
	kind, err := f.signatureKind()
	if err != nil {
		return nil, "", err
	}
	keys := make([][]byte, len(f.keys))
	for i, key := range f.keys {
		keys[i] = []byte(key)
	}
	if len(keys) > 0 && kind == ostree.SignatureGPG {
		return nil, "", ui.Next(ui.Usagef("keys of gpg are given as files"), "export the key with gpg --export-secret-keys KEY-ID, and give that file")
	}
	for _, name := range f.files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, "", err
		}
		if kind == ostree.SignatureGPG {
			keys = append(keys, data)
			continue
		}
		for line := range bytes.Lines(data) {
			if line = bytes.TrimSpace(line); len(line) > 0 {
				keys = append(keys, line)
			}
		}
	}
	var list []ostree.Signer
	for _, key := range keys {
		var signer ostree.Signer
		if kind == ostree.SignatureGPG {
			signer, err = pgpsigner.ParseSigner(key, time.Now, &pgpsigner.SignerOptions{Form: pgpsigner.Detached})
		} else {
			signer, err = ed25519signer.ParseSigner(key)
		}
		if err != nil {
			return nil, "", ui.Next(&ui.UsageError{Err: err}, "a secret key of ed25519 is base64 of 64 bytes; one of gpg comes from gpg --export-secret-keys")
		}
		list = append(list, signer)
	}
	return list, kind, nil
}

func (f *signFlags) signatureKind() (ostree.SignatureKind, error) {
	switch f.kind {
	case "ed25519":
		return ostree.SignatureEd25519, nil
	case "gpg":
		return ostree.SignatureGPG, nil
	}
	return "", ui.Next(ui.Usagef("--sign-type=%s is not supported here", f.kind), "ed25519 and gpg are")
}

func (c *common) sign() *cobra.Command {
	var f signFlags
	var remove, verify bool
	cmd := c.leaf("sign COMMIT [KEY...]", "Sign a commit, check or delete its signatures", 1, -1, func(cmd *cobra.Command, args []string) error {
		f.keys = args[1:]
		kind, err := f.signatureKind()
		switch {
		case err != nil:
			return err
		case remove && verify:
			return ui.Usagef("either --delete or --verify, not both")
		case len(f.keys)+len(f.files) == 0:
			return ui.Usagef("no key: give one as an argument or with --keys-file")
		}
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			commit, err := resolve(ctx, r, args[0])
			switch {
			case err != nil:
				return err
			case verify:
				return c.verifySignatures(ctx, cmd, r, commit, &f)
			case remove:
				return removeSignatures(ctx, r, commit, kind, f.keys)
			}
			signers, kind, err := f.signers()
			if err != nil {
				return err
			}
			for _, signer := range signers {
				if err := r.Sign(ctx, commit, kind, signer); err != nil {
					return err
				}
			}
			return nil
		})
	})
	f.register(cmd, "sign-type", "s")
	flags := cmd.Flags()
	flags.BoolVarP(&remove, "delete", "d", false, "delete the signatures by these public keys; of gpg, by their key IDs")
	flags.BoolVar(&verify, "verify", false, "check that there is a good signature by one of these public keys")
	flags.StringArrayVar(&f.files, "keys-file", nil, "`FILE` of keys, of ed25519 one a line; may be repeated")
	refuse(cmd, "name the files in it with --keys-file", "keys-dir=")
	return cmd
}

// verifier makes what judges by the keys of the flags.
func (f *signFlags) verifier() (*ostree.Verifier, error) {
	var files [][]byte
	for _, key := range f.keys {
		files = append(files, []byte(key+"\n"))
	}
	for _, name := range f.files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		files = append(files, data)
	}
	keys := ostree.KeyFiles{Ed25519: files}
	if f.kind == "gpg" {
		keys = ostree.KeyFiles{GPG: files}
	}
	v, err := ostree.ParseVerifier(keys)
	if err == nil {
		return v, nil
	}
	return nil, ui.Next(&ui.UsageError{Err: err}, "a public key of ed25519 is base64 of 32 bytes; keyrings of gpg come from gpg --export, by --keys-file")
}

func (c *common) verifySignatures(ctx context.Context, cmd *cobra.Command, r *ostree.Repo, commit ostree.Checksum, f *signFlags) error {
	v, err := f.verifier()
	if err != nil {
		return err
	}
	verdicts, err := r.Verify(ctx, commit, v, time.Now())
	type verdictJSON struct {
		Kind   ostree.SignatureKind `json:"kind"`
		Good   bool                 `json:"good"`
		Signer string               `json:"signer,omitempty"`
		Fault  string               `json:"fault,omitempty"`
	}
	list := []verdictJSON{}
	for _, verdict := range verdicts {
		j := verdictJSON{Kind: verdict.Kind, Good: verdict.Err == nil, Signer: verdict.Signer}
		if verdict.Err != nil {
			j.Fault = verdict.Err.Error()
		}
		list = append(list, j)
	}
	printErr := ui.Print(cmd, list, func(w io.Writer) error {
		for _, j := range list {
			if !j.Good || err != nil {
				continue
			}
			signer := j.Signer
			// `ostree` prints the bytes of such a key in hexadecimal.
			if raw, decodeErr := base64.StdEncoding.DecodeString(signer); decodeErr == nil && j.Kind == ostree.SignatureEd25519 {
				signer = hex.EncodeToString(raw)
			}
			if _, err := fmt.Fprintf(w, "%s: Signature verified successfully with key '%s'\n", f.kind, signer); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, printErr)
}

// removeSignatures removes the signatures by public keys, of gpg by their IDs.
func removeSignatures(ctx context.Context, r *ostree.Repo, commit ostree.Checksum, kind ostree.SignatureKind, keys []string) error {
	if len(keys) == 0 {
		return ui.Usagef("--delete takes public keys or key IDs as arguments")
	}
	var good []ostree.Signature
	if kind == ostree.SignatureEd25519 {
		// Such signatures don't say who made them.
		v, err := (&signFlags{kind: "ed25519", keys: keys}).verifier()
		if err != nil {
			return err
		}
		verdicts, err := r.Verify(ctx, commit, v, time.Now())
		if err != nil && !errors.Is(err, ostree.ErrSignature) {
			return err
		}
		for _, verdict := range verdicts {
			if verdict.Err == nil {
				good = append(good, verdict.Signature)
			}
		}
	}
	n, err := r.RemoveSignatures(ctx, commit, func(s ostree.Signature) bool {
		if s.Kind != kind {
			return false
		}
		if kind == ostree.SignatureGPG {
			return slices.ContainsFunc(keys, func(id string) bool { return sameKeyID(s.KeyID, id) })
		}
		return slices.ContainsFunc(good, func(g ostree.Signature) bool { return bytes.Equal(g.Data, s.Data) })
	})
	if err == nil && n == 0 {
		err = ui.Next(fmt.Errorf("commit %s has no such signature", commit), "okd-streams ostree show prints the signatures that it has")
	}
	return err
}

// sameKeyID compares a key's ID with what is given for it: its end, or a
// fingerprint that ends with it.
func sameKeyID(id, given string) bool {
	given = string(bytes.ToUpper(bytes.TrimPrefix([]byte(given), []byte("0x"))))
	if len(given) < 8 || id == "" {
		return false
	}
	n := min(len(id), len(given))
	return id[len(id)-n:] == given[len(given)-n:]
}
