package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/internal/edsign"
	"github.com/okd-project/okd-streams/internal/pgp"
	"github.com/okd-project/okd-streams/internal/unix"
)

// RemoteVerifiers gives what a remote's commits and its summary must be signed
// with, as `ostree pull` reads it from the config: gpg-verify (true unless it is
// there), sign-verify, gpg-verify-summary and sign-verify-summary (false unless
// they are). The OpenPGP keys are those of NAME.trustedkeys.gpg in the
// repository or its parents, where `ostree remote gpg-import` puts them, and of
// gpgkeypath; the Ed25519 keys those of verification-ed25519-key and -file.
//
// machine are the keys of the machine (trusted.gpg.d, trusted.ed25519 and so
// on): GPG counts if the remote has no keyring of its own, Ed25519 if it has no
// such keys, RevokedEd25519 always. A remote that wants signatures while there
// are no keys gets a verifier that refuses everything. Where sign-verify names
// only kinds that are not checked here, the error wraps
// [errors.ErrUnsupported]; where there is no such remote, [fs.ErrNotExist].
func (r *Repo) RemoteVerifiers(ctx context.Context, remote string, machine KeyFiles) (commits, summary *Verifier, err error) {
	commits, summary, err = r.remoteVerifiers(ctx, remote, machine)
	if err != nil {
		return nil, nil, &Error{Op: "read keys of remote", Target: fmt.Sprintf("%.255s", remote), Err: err}
	}
	return commits, summary, nil
}

func (r *Repo) remoteVerifiers(ctx context.Context, name string, machine KeyFiles) (commits, summary *Verifier, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	remotes := r.Remotes()
	i := slices.IndexFunc(remotes, func(remote Remote) bool { return remote.Name == name })
	if i < 0 {
		return nil, nil, fmt.Errorf("no such remote in the config: %w", fs.ErrNotExist)
	}
	keys := remotes[i].Keys
	var v, s Verifier
	if v.needGPG, err = boolKey(keys, "gpg-verify", true); err != nil {
		return nil, nil, err
	}
	if s.needGPG, err = boolKey(keys, "gpg-verify-summary", false); err != nil {
		return nil, nil, err
	}
	if v.needSign, err = signKey(keys, "sign-verify"); err != nil {
		return nil, nil, err
	}
	if s.needSign, err = signKey(keys, "sign-verify-summary"); err != nil {
		return nil, nil, err
	}
	files := KeyFiles{RevokedEd25519: machine.RevokedEd25519}
	if v.needGPG || s.needGPG {
		if files.GPG, err = r.remoteKeyrings(name, keys, machine.GPG); err != nil {
			return nil, nil, err
		}
	}
	if v.needSign || s.needSign {
		if files.Ed25519, err = remoteEd25519(keys, machine.Ed25519); err != nil {
			return nil, nil, err
		}
	}
	if err := v.add(files); err != nil {
		return nil, nil, err
	}
	s.gpg, s.ed25519 = v.gpg, v.ed25519
	return &v, &s, nil
}

// remoteKeyrings are the OpenPGP keys for a remote.
func (r *Repo) remoteKeyrings(name string, keys map[string]string, machine [][]byte) ([][]byte, error) {
	var files [][]byte
	own := name + ".trustedkeys.gpg"
	for repo := r; repo != nil && files == nil; repo = repo.parent {
		data, err := readFileAt(repo.dir, own, pgp.MaxKeyringSize)
		switch {
		case err == nil:
			files = append(files, data)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	if files == nil {
		files = append(files, machine...)
	}
	for _, path := range splitList(keys["gpgkeypath"]) {
		more, err := readKeys(path, pgp.MaxKeyringSize)
		if err != nil {
			return nil, fmt.Errorf("gpgkeypath: %w", err)
		}
		files = append(files, more...)
	}
	return files, nil
}

// remoteEd25519 are the Ed25519 keys for a remote.
func remoteEd25519(keys map[string]string, machine [][]byte) ([][]byte, error) {
	inline, path := keys["verification-ed25519-key"], keys["verification-ed25519-file"]
	if inline == "" && path == "" {
		return machine, nil
	}
	var files [][]byte
	if inline != "" {
		files = append(files, []byte(inline))
	}
	if path != "" {
		data, err := readKeyFile(path, edsign.MaxKeyFileSize)
		if err != nil {
			return nil, fmt.Errorf("verification-ed25519-file: %w", err)
		}
		files = append(files, data)
	}
	return files, nil
}

func boolKey(keys map[string]string, key string, def bool) (bool, error) {
	switch text := keys[key]; text {
	case "":
		return def, nil
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	default:
		return false, fmt.Errorf("%s: %.80q is neither true nor false", key, text)
	}
}

// signKey reads a key that is true or false or lists kinds of signatures, of
// which one is enough.
func signKey(keys map[string]string, key string) (bool, error) {
	need, err := boolKey(keys, key, false)
	if err == nil {
		return need, nil
	}
	if slices.Contains(splitList(keys[key]), "ed25519") {
		return true, nil
	}
	return false, fmt.Errorf("%s: %.80q: %w", key, keys[key], errUnsupported)
}

// splitList splits a list in a config as libostree does.
func splitList(text string) []string {
	return strings.FieldsFunc(text, func(c rune) bool { return c == ';' || c == ',' })
}

// readKeys reads a file, or the files directly in a folder. Symbolic links are
// followed: the config's writer says where keys are.
func readKeys(path string, limit int64) ([][]byte, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		data, err := readKeyFile(path, limit)
		return [][]byte{data}, err
	}
	var files [][]byte
	for _, e := range entries {
		name := filepath.Join(path, e.Name())
		if st, err := os.Stat(name); err != nil || !st.Mode().IsRegular() {
			continue
		}
		data, err := readKeyFile(name, limit)
		if err != nil {
			return nil, err
		}
		files = append(files, data)
	}
	return files, nil
}

func readKeyFile(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe would wait
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s: not a regular file", path), err)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return data, err
}
