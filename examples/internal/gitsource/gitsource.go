// Package gitsource fetches what components are built from with the program git.
package gitsource

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/components"
)

// Fetcher keeps a folder for each commit of each repository.
type Fetcher struct {
	// Program is git; "": "git".
	Program string
	// Dir is the folder that the others are in; it is made.
	Dir string
}

// Fetch is for [components.Env]. It may be called from any goroutine.
func (f *Fetcher) Fetch(ctx context.Context, s components.Source) (_ *components.Tree, err error) {
	if dir, ok := strings.CutPrefix(s.Repository, "file://"); ok {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return nil, errors.Join(err, fmt.Errorf("%s is no folder", dir))
		}
		return &components.Tree{Dir: dir}, nil
	}
	abs, err := filepath.Abs(f.Dir) // git works in folders below it
	if err != nil {
		return nil, err
	}
	f = &Fetcher{Program: f.Program, Dir: abs}
	if s.Commit != "" {
		if tree, err := f.tree(ctx, s, s.Commit); err == nil {
			return tree, nil
		}
	}
	if err := os.MkdirAll(f.Dir, 0o755); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(f.Dir, "tmp-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if _, err := f.git(ctx, work, "init", "--quiet"); err != nil {
		return nil, err
	}
	want, err := f.fetch(ctx, work, s)
	if err != nil {
		return nil, err
	}
	commit, err := f.git(ctx, work, "rev-parse", "--verify", want+"^{commit}")
	if err != nil {
		return nil, err
	}
	if _, err := f.git(ctx, work, "checkout", "--quiet", "--detach", commit); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(work, ".gitmodules")); err == nil {
		if _, err := f.git(ctx, work, "submodule", "--quiet", "update", "--init", "--recursive", "--depth", "1"); err != nil {
			return nil, err
		}
	}
	if err := os.Rename(work, f.path(s.Repository, commit)); err != nil && !isThere(f.path(s.Repository, commit)) {
		return nil, err
	}
	return f.tree(ctx, s, commit)
}

// fetch gets what a source names, and gives a name for it. Not all servers give
// a commit that no branch ends with; those give the branch's.
func (f *Fetcher) fetch(ctx context.Context, work string, s components.Source) (string, error) {
	want := s.Ref
	if s.Commit != "" {
		want = s.Commit
	}
	_, err := f.git(ctx, work, "fetch", "--quiet", "--depth", "1", "--no-tags", "--", s.Repository, want)
	if err == nil {
		return "FETCH_HEAD", nil
	}
	if s.Commit == "" || s.Ref == "" || ctx.Err() != nil {
		return "", err
	}
	if _, more := f.git(ctx, work, "fetch", "--quiet", "--no-tags", "--", s.Repository, s.Ref); more != nil {
		return "", errors.Join(err, more)
	}
	return s.Commit, nil
}

func (f *Fetcher) path(repository, commit string) string {
	sum := sha256.Sum256([]byte(repository))
	return filepath.Join(f.Dir, commit+"-"+hex.EncodeToString(sum[:8]))
}

func isThere(dir string) bool { _, err := os.Stat(dir); return err == nil }

// tree gives the folder of a commit, if it is there.
func (f *Fetcher) tree(ctx context.Context, s components.Source, commit string) (*components.Tree, error) {
	dir := f.path(s.Repository, commit)
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	text, err := f.git(ctx, dir, "log", "-1", "--format=%ct", commit)
	if err != nil {
		return nil, err
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("time of commit %s: %w", commit, err)
	}
	return &components.Tree{Dir: dir, Commit: commit, Time: time.Unix(seconds, 0)}, nil
}

// maxTail is how much of git's complaint an error has, in bytes.
const maxTail = 1000

func (f *Fetcher) git(ctx context.Context, dir string, args ...string) (string, error) {
	program := f.Program
	if program == "" {
		program = "git"
	}
	// What a repository says is to be run is not.
	cmd := exec.CommandContext(ctx, program, append([]string{"-C", dir, "-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", "-c", "advice.detachedHead=false"}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "GIT_TERMINAL_PROMPT=0")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if errors.Is(err, exec.ErrNotFound) {
			return "", ui.Usagef("%s: %w: install git, or name the program with --git", program, err)
		}
		text := strings.TrimSpace(stderr.String())
		if len(text) > maxTail {
			text = "…" + text[len(text)-maxTail:]
		}
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, text)
	}
	return strings.TrimSpace(stdout.String()), nil
}
