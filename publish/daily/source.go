package daily

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/internal/readers"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/stream"
)

// Source is a root filesystem that [OpenSource] opened: a Tree or an Image.
type Source struct {
	Tree ostree.Tree // may be read once
	// Image is the base image of a coreos-assembler build.
	Image v1.Image
	// Disks are the boot images of that build, with their checksums.
	Disks []Disk
	// Metadata is that of the commit it comes from, without the keys that this
	// package writes itself.
	Metadata []ostree.MetadataItem
	closers  []func() error
}

// SourceOptions are options of [OpenSource].
type SourceOptions struct {
	// Arch is which build of a coreos-assembler folder is meant; "": x86_64.
	Arch stream.Arch
	// Scratch is a folder for a repository that is unpacked until Close; "": the
	// one of the machine for temporary files.
	Scratch string
}

// Close ends the reading of Tree and Image.
func (s *Source) Close() error {
	var errs []error
	for _, close := range slices.Backward(s.closers) {
		errs = append(errs, close())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// ownKeys are commit metadata that this package writes itself.
var ownKeys = []string{"version", "ostree.linux", "ostree.bootable", "ostree.ref-binding", "ostree.collection-binding", "coreos-assembler.basearch", "com.coreos.stream"}

// What pins a source stands at the end of its name.
const (
	pinSHA256 = "#sha256="
	pinCommit = "#commit="
)

// OpenSource opens a root filesystem by name:
//
//   - dir:PATH
//   - tar:PATH, as it is, or compressed by gzip, zstd or xz. With #sha256=HEX at
//     the end the tree has an error in place of its end, which wraps
//     [publish.ErrDigest], if the file as it lies on disk has another SHA-256.
//   - ostree:REPOSITORY:REF, where REF may be a commit. With #commit=HEX at the
//     end a ref that is not at that commit is an error.
//   - cosa:FOLDER, a folder that coreos-assembler works in or its folder of
//     builds: the newest build there of the architecture, or FOLDER#BUILD. The
//     commit is that of the build's OCI archive, which is verified by the build's
//     record, or of the tar of a repository that there was before; where the build
//     has neither any more, of the folder's tmp/repo.
//
// Other names are an error that wraps [io/fs.ErrInvalid].
func OpenSource(ctx context.Context, spec string, opts *SourceOptions) (*Source, error) {
	var o SourceOptions
	if opts != nil {
		o = *opts
	}
	kind, rest, _ := strings.Cut(spec, ":")
	src := &Source{}
	err := fmt.Errorf("want dir:PATH, tar:PATH, ostree:REPOSITORY:REF or cosa:FOLDER: %w", fs.ErrInvalid)
	switch {
	case rest == "":
	case kind == "dir":
		err = src.openDir(rest)
	case kind == "tar":
		err = src.openTar(rest)
	case kind == "ostree":
		err = src.openOSTree(ctx, rest)
	case kind == "cosa":
		err = src.openCosa(ctx, rest, o)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("daily: source %s: %w", spec, err), src.Close())
	}
	return src, nil
}

// cutPin takes a pin of 64 hexadecimal digits off the end of a name.
func cutPin(spec, pin string) (name, digits string) {
	at := strings.LastIndex(spec, pin)
	if at < 0 {
		return spec, ""
	}
	if _, err := ostree.ParseChecksum(spec[at+len(pin):]); err != nil {
		return spec, "" // part of a file's name
	}
	return spec[:at], spec[at+len(pin):]
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

func (s *Source) openTar(spec string) error {
	path, want := cutPin(spec, pinSHA256)
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, file.Close)
	var raw io.Reader = file
	sum := sha256.New()
	if want != "" {
		raw = io.TeeReader(file, sum)
	}
	content, err := decompress.NewReader(raw)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, content.Close)
	s.Tree = ostree.Tar(content)
	if want == "" {
		return nil
	}
	s.Tree = endingWith(s.Tree, func(ctx context.Context, fault error) error {
		// What lies behind the archive's end is part of the file, too.
		if _, err := io.Copy(sum, readers.Context{Ctx: ctx, R: file}); err != nil {
			return err
		}
		if got := hex.EncodeToString(sum.Sum(nil)); got != want {
			err := fmt.Errorf("%s has SHA-256 %s, wanted is %s: %w", path, got, want, publish.ErrDigest)
			if fault != nil {
				err = fmt.Errorf("%w (%w)", err, fault)
			}
			return err
		}
		return fault
	})
	return nil
}

// endingWith is a tree with a check at its end, of which fault is nil, or where
// it can't be read further; what check gives is the error then.
func endingWith(tree ostree.Tree, check func(ctx context.Context, fault error) error) ostree.Tree {
	return ostree.TreeFunc(func(ctx context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) {
			for e, err := range tree.Entries(ctx) {
				if err != nil {
					yield(ostree.Entry{}, check(ctx, err))
					return
				}
				if open := e.Open; open != nil {
					e.Open = func(ctx context.Context) (io.ReadCloser, error) {
						r, err := open(ctx)
						if err != nil {
							return nil, err
						}
						return &checkedReader{r, func(fault error) error { return check(ctx, fault) }}, nil
					}
				}
				if !yield(e, nil) {
					return
				}
			}
			if err := check(ctx, nil); err != nil {
				yield(ostree.Entry{}, err)
			}
		}
	})
}

// checkedReader asks about faults.
type checkedReader struct {
	io.ReadCloser
	check func(fault error) error
}

func (r *checkedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.check(err)
	}
	return n, err
}

func (s *Source) openOSTree(ctx context.Context, spec string) error {
	spec, pin := cutPin(spec, pinCommit)
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
	if pin != "" && checksum.String() != pin {
		return fmt.Errorf("%s is at commit %s, wanted is %s, which has to be named without a ref if none is at it any more: %w", spec[at+1:], checksum, pin, publish.ErrDigest)
	}
	return s.openCommit(ctx, repo, checksum)
}

func (s *Source) openCommit(ctx context.Context, repo *ostree.Repo, checksum ostree.Checksum) error {
	commit, err := repo.ReadCommit(ctx, checksum)
	if err != nil {
		return err
	}
	s.Tree, s.Metadata = repo.Tree(checksum), othersMetadata(commit)
	return nil
}

func othersMetadata(commit *ostree.Commit) []ostree.MetadataItem {
	return slices.DeleteFunc(slices.Clone(commit.Metadata), func(item ostree.MetadataItem) bool {
		return slices.Contains(ownKeys, item.Key)
	})
}

// SourceOf names the source of a definition for [OpenSource], with what pins it,
// "" if it names none that can be opened on this machine.
func SourceOf(def *stream.Definition) string {
	s := def.OS.Source
	switch {
	case s.Dir != "":
		return "dir:" + s.Dir
	case s.Tar != "" && s.SHA256 != "":
		return "tar:" + s.Tar + pinSHA256 + s.SHA256
	case s.Tar != "":
		return "tar:" + s.Tar
	case s.OSTree != nil && s.OSTree.Ref == "":
		return "ostree:" + s.OSTree.Repository + ":" + s.OSTree.Commit
	case s.OSTree != nil && s.OSTree.Commit != "":
		return "ostree:" + s.OSTree.Repository + ":" + s.OSTree.Ref + pinCommit + s.OSTree.Commit
	case s.OSTree != nil:
		return "ostree:" + s.OSTree.Repository + ":" + s.OSTree.Ref
	}
	return ""
}
