package walk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/stream"
)

// source is an opened root filesystem.
type source struct {
	tree     ostree.Tree
	metadata []ostree.MetadataItem // of the commit it comes from
	close    func() error
}

// ownKeys are commit metadata that the daily build writes itself.
var ownKeys = []string{"version", "ostree.linux", "ostree.bootable", "ostree.ref-binding", "ostree.collection-binding", "coreos-assembler.basearch", "com.coreos.stream"}

// openSource opens dir:PATH, tar:PATH (as it is, or compressed by gzip, zstd or
// xz) or ostree:REPOSITORY:REF.
func openSource(ctx context.Context, spec string) (*source, error) {
	kind, rest, ok := strings.Cut(spec, ":")
	if !ok || rest == "" {
		return nil, ui.Usagef("source %q: want dir:PATH, tar:PATH or ostree:REPOSITORY:REF", spec)
	}
	switch kind {
	case "dir":
		root, err := os.OpenRoot(rest)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", spec, err)
		}
		return &source{tree: ostree.Dir(root), close: root.Close}, nil
	case "tar":
		file, err := os.Open(rest)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", spec, err)
		}
		content, err := decompress.NewReader(file)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("source %s: %w", spec, err), file.Close())
		}
		return &source{tree: ostree.Tar(io.Reader(content)), close: func() error {
			return errors.Join(content.Close(), file.Close())
		}}, nil
	case "ostree":
		at := strings.LastIndexByte(rest, ':')
		// A remote's ref has a colon of its own: REPOSITORY:REMOTE:REF.
		if before := strings.LastIndexByte(rest[:max(at, 0)], ':'); before > 0 && !strings.Contains(rest[before:at], "/") {
			at = before
		}
		if at <= 0 {
			return nil, ui.Usagef("source %q: want ostree:REPOSITORY:REF", spec)
		}
		repo, err := ostree.Open(ctx, rest[:at], nil)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", spec, err)
		}
		src, err := commitSource(ctx, repo, rest[at+1:])
		if err != nil {
			return nil, errors.Join(fmt.Errorf("source %s: %w", spec, err), repo.Close())
		}
		return src, nil
	}
	return nil, ui.Usagef("source %q: %q is none of dir, tar and ostree", spec, kind)
}

func commitSource(ctx context.Context, repo *ostree.Repo, rev string) (*source, error) {
	checksum, err := repo.Resolve(ctx, rev)
	if err != nil {
		return nil, err
	}
	commit, err := repo.ReadCommit(ctx, checksum)
	if err != nil {
		return nil, err
	}
	metadata := slices.DeleteFunc(slices.Clone(commit.Metadata), func(item ostree.MetadataItem) bool {
		return slices.Contains(ownKeys, item.Key)
	})
	return &source{tree: repo.Tree(checksum), metadata: metadata, close: repo.Close}, nil
}

// definedSource is the source that a definition names, "" if it names none
// that can be opened from here.
func definedSource(def *stream.Definition) string {
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
