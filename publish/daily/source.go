package daily

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/stream"
)

// Source is a root filesystem that [OpenSource] opened.
type Source struct {
	Tree ostree.Tree // may be read once
	// Metadata is that of the commit it comes from, without the keys that this
	// package writes itself.
	Metadata []ostree.MetadataItem
	closers  []func() error
}

// Close ends the reading of Tree.
func (s *Source) Close() error {
	var errs []error
	for _, close := range s.closers {
		errs = append(errs, close())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// ownKeys are commit metadata that this package writes itself.
var ownKeys = []string{"version", "ostree.linux", "ostree.bootable", "ostree.ref-binding", "ostree.collection-binding", "coreos-assembler.basearch", "com.coreos.stream"}

// OpenSource opens a root filesystem by name: dir:PATH, tar:PATH (as it is, or
// compressed by gzip, zstd or xz) or ostree:REPOSITORY:REF. Other names are an
// error that wraps [io/fs.ErrInvalid].
func OpenSource(ctx context.Context, spec string) (*Source, error) {
	kind, rest, _ := strings.Cut(spec, ":")
	src := &Source{}
	err := fmt.Errorf("want dir:PATH, tar:PATH or ostree:REPOSITORY:REF: %w", fs.ErrInvalid)
	switch {
	case rest == "":
	case kind == "dir":
		err = src.openDir(rest)
	case kind == "tar":
		err = src.openTar(rest)
	case kind == "ostree":
		err = src.openCommit(ctx, rest)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("daily: source %s: %w", spec, err), src.Close())
	}
	return src, nil
}

func (s *Source) openDir(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, root.Close)
	s.Tree = ostree.Dir(root)
	return nil
}

func (s *Source) openTar(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, file.Close)
	content, err := decompress.NewReader(file)
	if err != nil {
		return err
	}
	s.closers = append([]func() error{content.Close}, s.closers...)
	s.Tree = ostree.Tar(content)
	return nil
}

func (s *Source) openCommit(ctx context.Context, spec string) error {
	at := strings.LastIndexByte(spec, ':')
	// A remote's ref has a colon of its own: REPOSITORY:REMOTE:REF.
	if before := strings.LastIndexByte(spec[:max(at, 0)], ':'); before > 0 && !strings.Contains(spec[before:at], "/") {
		at = before
	}
	if at <= 0 {
		return fmt.Errorf("want ostree:REPOSITORY:REF: %w", fs.ErrInvalid)
	}
	repo, err := ostree.Open(ctx, spec[:at], nil)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, repo.Close)
	checksum, err := repo.Resolve(ctx, spec[at+1:])
	if err != nil {
		return err
	}
	commit, err := repo.ReadCommit(ctx, checksum)
	if err != nil {
		return err
	}
	s.Tree = repo.Tree(checksum)
	s.Metadata = slices.DeleteFunc(slices.Clone(commit.Metadata), func(item ostree.MetadataItem) bool {
		return slices.Contains(ownKeys, item.Key)
	})
	return nil
}

// SourceOf names the source of a definition for [OpenSource], "" if it names
// none that can be opened on this machine.
func SourceOf(def *stream.Definition) string {
	s := def.OS.Source
	switch {
	case s.Dir != "":
		return "dir:" + s.Dir
	case s.Tar != "":
		return "tar:" + s.Tar
	case s.OSTree != nil:
		rev := s.OSTree.Commit
		if rev == "" {
			rev = s.OSTree.Ref
		}
		return "ostree:" + s.OSTree.Repository + ":" + rev
	}
	return ""
}
