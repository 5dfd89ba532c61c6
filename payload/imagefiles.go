package payload

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/readers"
)

// imageFiles finds a few files in the layers of several images. Every layer is
// fetched at most once, however many images have it, and none below the one
// that has the last file of an image. What is found lies in one temporary file
// without a name.
type imageFiles struct {
	spool  *os.File
	end    int64
	wanted map[string]bool // paths, in any image
	layers map[v1.Hash]*layerFiles
	limit  int64 // of the spool, bytes
}

// layerFiles is what one layer says of the wanted paths.
type layerFiles struct {
	files  map[string]imageFile
	hidden []string // whiteouts: what is at or below is gone in lower layers
	opaque []string // folders that hide all below them in lower layers
}

// imageFile is a file in the spool, or a link.
type imageFile struct {
	offset, size int64
	modTime      time.Time
	link         string // path of the target
	other        bool   // not a file
}

func newImageFiles(tempDir string, limit int64) (*imageFiles, error) {
	f, err := os.CreateTemp(tempDir, "payload-")
	if err != nil {
		return nil, err
	}
	// Without a name nothing is left behind, even by a kill.
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &imageFiles{spool: f, wanted: map[string]bool{}, layers: map[v1.Hash]*layerFiles{}, limit: limit}, nil
}

func (s *imageFiles) close() error { return s.spool.Close() }

const maxLinks = 8

// find gives the wanted file of an image. A missing one gives
// [io/fs.ErrNotExist].
func (s *imageFiles) find(ctx context.Context, f *fetched, name string) (imageFile, error) {
	at := name
	for range maxLinks {
		file, err := s.lookup(ctx, f, at)
		if err != nil {
			return imageFile{}, err
		}
		if file.link == "" {
			return file, nil
		}
		at = file.link
		if !s.wanted[at] {
			// Layers that were read before may have it.
			s.wanted[at] = true
			clear(s.layers)
		}
	}
	return imageFile{}, fmt.Errorf("%s: too many links", name)
}

func (s *imageFiles) lookup(ctx context.Context, f *fetched, name string) (imageFile, error) {
	for i := len(f.manifest.Layers) - 1; i >= 0; i-- {
		l, err := s.layer(ctx, f, i)
		if err != nil {
			return imageFile{}, fmt.Errorf("layer %d of %d: %w", i+1, len(f.manifest.Layers), err)
		}
		if file, ok := l.files[name]; ok {
			if file.other {
				return imageFile{}, fmt.Errorf("%s is not a regular file: %w", name, errors.ErrUnsupported)
			}
			return file, nil
		}
		if l.hides(name) {
			break
		}
	}
	return imageFile{}, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

func (l *layerFiles) hides(name string) bool {
	below := func(dir string) bool { return dir == "." || strings.HasPrefix(name, dir+"/") }
	return slices.ContainsFunc(l.hidden, func(p string) bool { return name == p || below(p) }) || slices.ContainsFunc(l.opaque, below)
}

// layer reads layer i of an image to its end, and keeps what it has only if
// its digest, size and diff ID are as promised.
func (s *imageFiles) layer(ctx context.Context, f *fetched, i int) (*layerFiles, error) {
	digest := f.manifest.Layers[i].Digest
	if l, ok := s.layers[digest]; ok {
		return l, nil
	}
	start := s.end
	l := &layerFiles{files: map[string]imageFile{}}
	err := f.scanLayer(ctx, i, func(r io.Reader) (v1.Hash, error) {
		return scanTar(r, MaxLayerSize, func(hdr *tar.Header, r io.Reader) error { return s.entry(hdr, r, l) })
	})
	if err != nil {
		s.end = start
		return nil, err
	}
	s.layers[digest] = l
	return l, nil
}

// entry looks at one entry of a layer.
func (s *imageFiles) entry(hdr *tar.Header, r io.Reader, l *layerFiles) error {
	name := strings.TrimSuffix(strings.TrimPrefix(hdr.Name, "./"), "/")
	if !fs.ValidPath(name) {
		return nil // it is nothing that is wanted
	}
	dir, base := path.Split(name)
	dir = path.Clean(dir)
	if gone, ok := strings.CutPrefix(base, ".wh."); ok {
		if gone == ".wh..opq" {
			l.opaque = append(l.opaque, dir)
		} else if gone != "" {
			l.hidden = append(l.hidden, path.Join(dir, gone))
		}
		return s.checkCount(l)
	}
	if hdr.Typeflag != tar.TypeDir {
		// Something else than a folder hides what is below it.
		for want := range s.wanted {
			if strings.HasPrefix(want, name+"/") {
				l.hidden = append(l.hidden, name)
				break
			}
		}
	}
	if !s.wanted[name] {
		return nil
	}
	if readers.Sparse(hdr) {
		return fmt.Errorf("%s is sparse: %w", name, errors.ErrUnsupported)
	}
	switch hdr.Typeflag {
	case tar.TypeReg:
		return s.keep(name, hdr, r, l)
	case tar.TypeLink:
		l.files[name] = imageFile{link: path.Clean(strings.TrimPrefix(hdr.Linkname, "./"))}
	case tar.TypeSymlink:
		target := path.Join(dir, hdr.Linkname)
		if path.IsAbs(hdr.Linkname) {
			target = path.Clean(hdr.Linkname)[1:]
		}
		l.files[name] = imageFile{link: target}
	default:
		l.files[name] = imageFile{other: true}
	}
	if link := l.files[name].link; link != "" && !fs.ValidPath(link) {
		l.files[name] = imageFile{other: true}
	}
	return s.checkCount(l)
}

func (s *imageFiles) checkCount(l *layerFiles) error {
	if n := len(l.hidden) + len(l.opaque); n > maxWhiteouts {
		return fmt.Errorf("more than %d whiteouts", maxWhiteouts)
	}
	return nil
}

// keep writes a file into the spool.
func (s *imageFiles) keep(name string, hdr *tar.Header, r io.Reader, l *layerFiles) error {
	if hdr.Size > MaxToolSize || hdr.Size > s.limit-s.end {
		return fmt.Errorf("%s of %d bytes, limit %d", name, hdr.Size, min(MaxToolSize, s.limit-s.end))
	}
	n, err := io.Copy(io.NewOffsetWriter(s.spool, s.end), r)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	l.files[name] = imageFile{offset: s.end, size: n, modTime: hdr.ModTime}
	s.end += n
	return nil
}

// open reads a file that was found.
func (s *imageFiles) open(f imageFile) *io.SectionReader {
	return io.NewSectionReader(s.spool, f.offset, f.size)
}

// want adds paths before anything is read.
func (s *imageFiles) want(paths ...string) {
	for _, p := range paths {
		s.wanted[p] = true
	}
}
