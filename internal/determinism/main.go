package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/stream"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "determinism:", err)
		os.Exit(1)
	}
}

// seeds of the trees that are committed; sizes and kinds differ.
var seeds = []uint64{1, 2, 3}

var stamp = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// printer writes lines "name digest" and keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(name string, digest fmt.Stringer, err error) {
	if p.err == nil && err != nil {
		p.err = fmt.Errorf("%s: %w", name, err)
	}
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.w, name, digest)
	}
}

// sum is a SHA-256.
type sum [sha256.Size]byte

func (s sum) String() string { return hex.EncodeToString(s[:]) }

func run(ctx context.Context, w io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "determinism-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p := &printer{w: w}
	for _, part := range []func(context.Context, *printer, string) error{commits, payloads, definitions} {
		if err := errors.Join(part(ctx, p, dir), p.err); err != nil {
			return err
		}
	}
	return nil
}

// commits prints commits, what repositories hold of them, and their images.
func commits(ctx context.Context, p *printer, dir string) error {
	for _, mode := range []ostree.Mode{ostree.ModeBareUser, ostree.ModeArchive} {
		path := filepath.Join(dir, string(mode))
		repo, err := ostree.Init(ctx, path, mode, nil)
		if err != nil {
			return err
		}
		defer repo.Close()
		var parent ostree.Checksum
		for _, seed := range seeds {
			c, err := repo.Commit(ctx, treegen.Tree(seed, nil), &ostree.CommitOptions{
				Ref: "sample", Parent: parent, Subject: "sample", Timestamp: stamp, NoFsync: true,
				Metadata: []ostree.MetadataItem{{Key: "version", Value: ostree.StringVariant("1")}},
			})
			p.line(fmt.Sprintf("commit of tree %d in %s", seed, mode), c, err)
			parent = c
		}
		content, err := folder(filepath.Join(path, "objects"))
		p.line("objects of "+string(mode), content, err)
		if mode == ostree.ModeBareUser {
			if err := images(ctx, p, dir, repo, parent); err != nil {
				return err
			}
		}
	}
	return nil
}

// definitions prints what the built-in definitions decode to.
func definitions(_ context.Context, p *printer, _ string) error {
	for _, name := range stream.BuiltinNames() {
		def, err := stream.Builtin(name)
		if err != nil {
			return err
		}
		text, err := json.Marshal(def)
		p.line("definition "+name, sum(sha256.Sum256(text)), err)
	}
	return nil
}

// folder is a digest of the paths and contents of the files below dir.
func folder(dir string) (sum, error) {
	hash := sha256.New()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content := []byte(nil)
		if e.Type().IsRegular() {
			if content, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(hash, "%s %x\n", filepath.ToSlash(name), sha256.Sum256(content))
		return nil
	})
	return sum(hash.Sum(nil)), err
}
