package payload

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/okd-project/okd-streams/internal/readers"
	"github.com/okd-project/okd-streams/internal/verify"
)

// file is a regular file of a manifests folder.
type file struct {
	name    string
	data    []byte
	modTime time.Time
}

// folder is what one or more layers say about the direct children of a folder.
type folder struct {
	name       string // without a slash
	found      bool   // a layer has something of it
	files      map[string]file
	duplicates []string // names that one layer has twice
	escapes    []string // entries that point out of the folder
	size       int64
}

func newFolder(name string) *folder { return &folder{name: name, files: map[string]file{}} }

// sorted gives the files by name, byte-wise.
func (f *folder) sorted() []file {
	return slices.SortedFunc(maps.Values(f.files), func(a, b file) int { return cmp.Compare(a.name, b.name) })
}

// readLayers applies the layers with these indices, lowest first, to dir.
func (f *fetched) readLayers(ctx context.Context, dir *folder, layers ...int) error {
	for _, i := range layers {
		if err := f.readLayer(ctx, i, dir); err != nil {
			return fmt.Errorf("layer %d of %d: %w", i+1, len(f.manifest.Layers), err)
		}
	}
	return nil
}

// scanLayer reads layer i to its end with scan, which gives the diff ID. What
// scan met counts only if there is no error: digest, size and diff ID are as
// promised then.
func (f *fetched) scanLayer(ctx context.Context, i int, scan func(r io.Reader) (v1.Hash, error)) error {
	desc := f.manifest.Layers[i]
	if _, err := parseDigest(desc.Digest.String()); err != nil {
		return err
	}
	if desc.Size < 0 || desc.Size > MaxLayerSize {
		return fmt.Errorf("%s of %d bytes, limit %d", desc.Digest, desc.Size, int64(MaxLayerSize))
	}
	layer, err := f.img.LayerByDigest(desc.Digest)
	if err != nil {
		return err
	}
	rc, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	in, err := verify.NewReader(readers.Context{Ctx: ctx, R: rc}, desc.Digest, desc.Size)
	if err != nil {
		return err
	}
	diffID, scanErr := scan(in)
	// A fault of the bytes explains one of the scan.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	if scanErr != nil {
		return scanErr
	}
	if want := f.config.RootFS.DiffIDs[i]; diffID != want {
		return fmt.Errorf("content has diff ID %s, want %s: %w", diffID, want, ErrDigest)
	}
	return nil
}

// scanTar gives entry each entry of a tar stream, compressed or not, and gives
// the diff ID of its content, which has at most limit bytes.
func scanTar(r io.Reader, limit int64, entry func(*tar.Header, io.Reader) error) (v1.Hash, error) {
	plain, closer, err := decompress(bufio.NewReaderSize(r, 64<<10))
	if err != nil {
		return v1.Hash{}, err
	}
	defer closer()
	limited := &io.LimitedReader{R: plain, N: limit + 1}
	sum := sha256.New()
	content := io.TeeReader(limited, sum)
	tr := tar.NewReader(content)
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return v1.Hash{}, fmt.Errorf("tar: %w", err)
		}
		if err := entry(hdr, tr); err != nil {
			return v1.Hash{}, err
		}
	}
	if _, err := io.Copy(io.Discard, content); err != nil {
		return v1.Hash{}, err
	}
	if limited.N <= 0 {
		return v1.Hash{}, fmt.Errorf("content of more than %d bytes", limit)
	}
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}, nil
}

// readLayer reads layer i and applies what it has in dir.
func (f *fetched) readLayer(ctx context.Context, i int, dir *folder) error {
	next := &layerScan{dir: dir.name, files: map[string]file{}, budget: MaxPayloadSize - dir.size, room: MaxManifests - len(dir.files), limit: MaxLayerSize}
	if err := f.scanLayer(ctx, i, next.read); err != nil {
		return err
	}
	next.apply(dir)
	return nil
}

// layerScan collects what one layer has in a folder.
type layerScan struct {
	dir        string
	files      map[string]file
	removed    []string // whiteouts and what a non-file replaces
	cleared    bool     // nothing of lower layers is left
	found      bool
	duplicates []string
	escapes    []string
	budget     int64
	room       int
	limit      int64 // of the content, bytes
}

// read scans a layer, compressed or not, and gives the diff ID of its content.
func (s *layerScan) read(r io.Reader) (v1.Hash, error) {
	return scanTar(r, s.limit, s.entry)
}

func (s *layerScan) entry(hdr *tar.Header, r io.Reader) error {
	if len(s.removed)+len(s.duplicates)+len(s.escapes) > MaxManifests {
		return fmt.Errorf("more than %d entries in %s that are not files", MaxManifests, s.dir)
	}
	const whiteout = ".wh."
	name := strings.TrimPrefix(hdr.Name, "./")
	trimmed := strings.TrimSuffix(name, "/")
	switch trimmed {
	case s.dir:
		s.found = true
		if hdr.Typeflag != tar.TypeDir { // the folder is gone
			s.cleared = true
			clear(s.files)
		}
		return nil
	case whiteout + s.dir, whiteout + whiteout + ".opq":
		s.cleared = true
		return nil
	}
	rest, ok := strings.CutPrefix(trimmed, s.dir+"/")
	if !ok || rest == "" {
		return nil
	}
	s.found = true
	if strings.Contains(rest, "/") || rest == "." || rest == ".." {
		if slices.Contains(strings.Split(rest, "/"), "..") {
			s.escapes = append(s.escapes, hdr.Name)
		}
		return nil
	}
	if rest == whiteout+whiteout+".opq" {
		s.cleared = true
		return nil
	}
	if gone, ok := strings.CutPrefix(rest, whiteout); ok {
		s.removed = append(s.removed, gone)
		return nil
	}
	if readers.Sparse(hdr) {
		return fmt.Errorf("%s/%s is sparse: %w", s.dir, rest, errors.ErrUnsupported)
	}
	if hdr.Typeflag != tar.TypeReg {
		delete(s.files, rest)
		s.removed = append(s.removed, rest)
		return nil
	}
	return s.regular(rest, hdr, r)
}

func (s *layerScan) regular(name string, hdr *tar.Header, r io.Reader) error {
	if err := checkFileName(name); err != nil {
		return err
	}
	if old, ok := s.files[name]; ok {
		s.duplicates = append(s.duplicates, name)
		s.budget += int64(len(old.data))
	} else if s.room--; s.room < 0 {
		return fmt.Errorf("more than %d files in %s", MaxManifests, s.dir)
	}
	if hdr.Size > MaxManifestSize {
		return fmt.Errorf("%s/%s has %d bytes, limit %d", s.dir, name, hdr.Size, MaxManifestSize)
	}
	if s.budget -= hdr.Size; s.budget < 0 {
		return fmt.Errorf("files of more than %d bytes in %s", MaxPayloadSize, s.dir)
	}
	// The buffer grows with what really comes.
	var buf bytes.Buffer
	if _, err := io.Copy(&buf, r); err != nil {
		return fmt.Errorf("tar: %s/%s: %w", s.dir, name, err)
	}
	s.files[name] = file{name, buf.Bytes(), hdr.ModTime}
	return nil
}

// checkFileName refuses names that a manifest cannot have.
func checkFileName(name string) error {
	switch {
	case len(name) > MaxNameLength:
		return fmt.Errorf("file name of %d bytes, limit %d", len(name), MaxNameLength)
	case !utf8.ValidString(name), strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || r == '\\' }):
		return fmt.Errorf("file name %q has characters that it cannot have", name)
	}
	return nil
}

func (s *layerScan) apply(dir *folder) {
	dir.found = dir.found || s.found
	if s.cleared {
		clear(dir.files)
	}
	for _, name := range s.removed {
		delete(dir.files, name)
	}
	maps.Copy(dir.files, s.files)
	dir.duplicates = append(dir.duplicates, s.duplicates...)
	dir.escapes = append(dir.escapes, s.escapes...)
	dir.size = 0
	for _, f := range dir.files {
		dir.size += int64(len(f.data))
	}
}

// decompress finds out how a layer is compressed by looking at it; media types
// are often wrong. Unlike internal/decompress it refuses windows that eight
// readers at a time could not have.
func decompress(r *bufio.Reader) (io.Reader, func(), error) {
	nothing := func() {}
	magic, err := r.Peek(4)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, fmt.Errorf("gzip: %w", err)
		}
		return z, nothing, nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, nil, fmt.Errorf("zstd: %w", err)
		}
		return z, z.Close, nil
	}
	return r, nothing, nil
}

// noTime is what gzip has for no time; the zero value is written as another.
var noTime = time.Unix(0, 0)

// compressLayer writes the layer's bytes that write makes through gzip.
func compressLayer(write func(w io.Writer) error) (data []byte, diffID v1.Hash, err error) {
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.DefaultCompression)
	if err != nil {
		return nil, v1.Hash{}, err
	}
	z.ModTime = noTime
	sum := sha256.New()
	if err := errors.Join(write(io.MultiWriter(sum, z)), z.Close()); err != nil {
		return nil, v1.Hash{}, err
	}
	return buf.Bytes(), v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}, nil
}
