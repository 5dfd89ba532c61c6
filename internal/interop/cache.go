package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// CacheVariable names the folder of built peers and made trees; empty:
// okd-streams-peers in the user's cache folder.
const CacheVariable = "OKD_STREAMS_PEERS"

// Versions of the peers that are built here, also in the names of their folders.
const (
	VersitygwVersion = "v1.8.0"
	OstreeExtVersion = "0.15.3"
)

// CacheDir gives the folder of built peers and made trees, made if needed.
func CacheDir() (string, error) {
	dir := os.Getenv(CacheVariable)
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("interop: cache: %w", err)
		}
		dir = filepath.Join(base, "okd-streams-peers")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("interop: cache: %w", err)
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// cached gives the folder name in [CacheDir]; if it is not there, make fills a
// temporary folder that then gets the name. Processes that want the same name
// wait for each other.
func cached(ctx context.Context, name string, fill func(ctx context.Context, dir string) error) (string, error) {
	root, err := CacheDir()
	if err != nil {
		return "", err
	}
	final := filepath.Join(root, name)
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	lock, err := os.OpenFile(filepath.Join(root, "."+name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("interop: cache: %w", err)
	}
	defer lock.Close() // and unlock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("interop: cache: lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	work := filepath.Join(root, "."+name+".part") // one maker at a time: we hold the lock
	if err := os.RemoveAll(work); err != nil {
		return "", fmt.Errorf("interop: cache: %w", err)
	}
	if err := os.Mkdir(work, 0o755); err != nil {
		return "", fmt.Errorf("interop: cache: %w", err)
	}
	if err := fill(ctx, work); err != nil {
		return "", errors.Join(fmt.Errorf("interop: make %s: %w", name, err), os.RemoveAll(work))
	}
	if err := os.Rename(work, final); err != nil {
		return "", fmt.Errorf("interop: cache: %w", err)
	}
	return final, nil
}

// run starts a program and waits; the end of its output is in the error if it
// fails.
func run(ctx context.Context, dir string, env []string, name string, args ...string) error {
	_, err := output(ctx, dir, env, name, args...)
	return err
}

// output is [run] with the program's standard output.
func output(ctx context.Context, dir string, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s\n%s", name, err, tail(out.String(), 20), tail(diag.String(), 20))
	}
	return out.Bytes(), nil
}

// tail gives the last lines of text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}

// BuildVersitygw gives the path of versitygw, an S3 gateway over a folder,
// built from its Go module the first time.
func BuildVersitygw(ctx context.Context) (string, error) {
	dir, err := cached(ctx, "versitygw-"+VersitygwVersion, func(ctx context.Context, dir string) error {
		// Outside of our module, so that its requirements are its own.
		return run(ctx, dir, []string{"GOBIN=" + dir, "GOFLAGS=-trimpath", "GOWORK=off"},
			"go", "install", "github.com/versity/versitygw/cmd/versitygw@"+VersitygwVersion)
	})
	return filepath.Join(dir, "versitygw"), err
}

// BuildOstreeExt gives the path of the command line of ostree-ext, built with
// cargo from the wrapper crate beside this file the first time; that needs
// libostree-dev, libssl-dev, pkg-config and clang, and some minutes.
func BuildOstreeExt(ctx context.Context) (string, error) {
	dir, err := cached(ctx, "ostree-ext-"+OstreeExtVersion, func(ctx context.Context, dir string) error {
		root, err := Root()
		if err != nil {
			return err
		}
		target := filepath.Join(dir, "target")
		err = run(ctx, filepath.Join(root, "internal", "interop", "ostreeext"), nil,
			"cargo", "build", "--release", "--locked", "--target-dir", target)
		if err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(target, "release", "ostree-ext"), filepath.Join(dir, "ostree-ext")); err != nil {
			return err
		}
		return os.RemoveAll(target)
	})
	return filepath.Join(dir, "ostree-ext"), err
}

// OstreeExt is [BuildOstreeExt] for a test that is gated like [Peer].
func OstreeExt(t testing.TB) string {
	t.Helper()
	Peer(t, "skopeo")
	path, err := BuildOstreeExt(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return path
}
