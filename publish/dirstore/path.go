package dirstore

import (
	"encoding/hex"
	"errors"
	"strings"

	"github.com/okd-project/okd-streams/internal/unix"
	"github.com/okd-project/okd-streams/publish"
)

const (
	ownDir  = ".okd-streams" // of this package, in the store's folder
	keysDir = "keys"
	tmpDir  = "tmp"

	maxName = 255 // bytes of a file name
	// hexPart is how much of a key in hexadecimal one folder name holds.
	hexPart = 240
)

// paths are the places where the object of key may lie, the plain one first.
func paths(key string) [][]string {
	var out [][]string
	if plain := strings.Split(key, "/"); plainFits(plain) {
		out = append(out, plain)
	}
	return append(out, encodedPath(key))
}

func plainFits(path []string) bool {
	if path[0] == ownDir {
		return false
	}
	for _, name := range path {
		if len(name) > maxName {
			return false
		}
	}
	return true
}

// encodedPath has room for every key: its bytes in hexadecimal, cut into names.
// Folders begin with d and files with f, so that no path ends inside another.
func encodedPath(key string) []string {
	text := hex.EncodeToString([]byte(key))
	path := []string{ownDir, keysDir}
	for len(text) > hexPart {
		path = append(path, "d"+text[:hexPart])
		text = text[hexPart:]
	}
	return append(path, "f"+text)
}

// decodeKey is the key of the encoded path below the folder of keys.
func decodeKey(path []string) (string, bool) {
	var text strings.Builder
	for i, name := range path {
		kind := byte('d')
		if i == len(path)-1 {
			kind = 'f'
		}
		if name[0] != kind {
			return "", false
		}
		text.WriteString(name[1:])
	}
	key, err := hex.DecodeString(text.String())
	if err != nil || publish.CheckKey(string(key)) != nil {
		return "", false
	}
	return string(key), true
}

// folder is an open folder; the store's own is not closed.
type folder struct {
	fd   int
	keep bool
}

func (f folder) close() {
	if !f.keep {
		unix.Close(f.fd)
	}
}

// errTaken says that a folder cannot be made because a file has its name.
var errTaken = errors.New("a file is in the way")

// walk opens the folder at path, step by step, following no link. make creates
// what is missing; the caller then holds the lock.
func (s *Store) walk(path []string, make bool) (folder, error) {
	at := folder{fd: int(s.root.Fd()), keep: true}
	for _, name := range path {
		next, err := openat(at.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if make && errors.Is(err, unix.ENOENT) {
			if err = unix.Mkdirat(at.fd, name, 0o755); err == nil {
				err = s.syncDir(at.fd)
			}
			if err == nil {
				next, err = openat(at.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
			}
			if err == nil {
				if err = unix.Fchmod(next, 0o755); err != nil { // whatever the umask
					unix.Close(next)
				}
			}
		}
		at.close()
		switch {
		case make && (errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)):
			return folder{}, errTaken
		case err != nil && !make:
			return folder{}, absent(err)
		case err != nil:
			return folder{}, err
		}
		at = folder{fd: next}
	}
	return at, nil
}

// openat is unix.Openat that goes on after a signal.
func openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, mode)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

func (s *Store) syncDir(fd int) error {
	if s.opts.NoSync {
		return nil
	}
	// Some file systems have no fsync for folders; they say EINVAL.
	if err := unix.Fsync(fd); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}
