// Package buildah builds images with the program buildah, for those who asked for
// an image: see [container.BuildNodeOptions].
package buildah

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree/container"
)

// Builder is buildah and how it is run.
type Builder struct {
	// Program, "" being "buildah", and the folders and driver of its storage, ""
	// being its own.
	Program, Root, RunRoot, Driver string
	Isolation                      string   // "": buildah's default
	Volumes, Secrets               []string // as of its flags
	// Output is told what buildah and the build steps say; nil: nobody.
	Output io.Writer
}

// Build is for [container.BuildNodeOptions].
func (b *Builder) Build(ctx context.Context, n *container.NodeBuild) error {
	args := []string{"build", "--layers", "--no-cache", "--identity-label=false", "--format", "oci", "--file", n.Containerfile, "--tag", "oci:" + n.Output}
	if n.From != "" {
		// Of the path buildah makes a name, which must have no capital letters.
		id, err := b.run(ctx, filepath.Dir(n.From), "pull", "--quiet", "oci:"+filepath.Base(n.From))
		if err != nil {
			return err
		}
		args = append(args, "--from", id)
	}
	if b.Isolation != "" {
		args = append(args, "--isolation", b.Isolation)
	}
	if !n.Created.IsZero() {
		args = append(args, "--timestamp", fmt.Sprint(n.Created.Unix()))
	}
	for flag, values := range map[string][]string{"--build-arg": n.Args, "--label": n.Labels, "--volume": b.Volumes, "--secret": b.Secrets} {
		for _, v := range values {
			args = append(args, flag, v)
		}
	}
	_, err := b.run(ctx, "", append(args, n.Context)...)
	return err
}

// maxTail is how much of buildah's complaint an error has, in bytes.
const maxTail = 2000

// oneWriter lets two streams write to what takes one at a time.
type oneWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (o *oneWriter) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(p)
}

// plainFolder makes a folder in which files belong to whoever makes them: in a volume of a
// Kubernetes pod with an fsGroup all would belong to that group, and folders would have the
// bit that hands it on, also in images.
func plainFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return errors.Join(os.Chown(dir, -1, os.Getegid()), os.Chmod(dir, 0o700))
}

func (b *Builder) run(ctx context.Context, dir string, args ...string) (string, error) {
	for _, folder := range []string{b.Root, b.RunRoot} {
		if folder == "" {
			continue
		}
		if err := plainFolder(folder); err != nil {
			return "", fmt.Errorf("buildah's storage: %w", err)
		}
	}
	var storage []string
	for _, f := range [][2]string{{"--root", b.Root}, {"--runroot", b.RunRoot}, {"--storage-driver", b.Driver}} {
		if f[1] != "" {
			storage = append(storage, f[0], f[1])
		}
	}
	program := b.Program
	if program == "" {
		program = "buildah"
	}
	cmd := exec.CommandContext(ctx, program, append(storage, args...)...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if b.Output != nil {
		out := &oneWriter{w: b.Output}
		cmd.Stdout, cmd.Stderr = io.MultiWriter(&stdout, out), io.MultiWriter(&stderr, out)
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if errors.Is(err, exec.ErrNotFound) {
			return "", ui.Usagef("%s %s: %w: install buildah, or name the program with --buildah", program, args[0], err)
		}
		text := strings.TrimSpace(stderr.String())
		if len(text) > maxTail {
			text = "…" + text[len(text)-maxTail:]
		}
		return "", fmt.Errorf("%s %s: %w: %s", program, args[0], err, text)
	}
	return strings.TrimSpace(stdout.String()), nil
}
