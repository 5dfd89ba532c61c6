package container

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/dpkg"
	"github.com/okd-project/okd-streams/internal/rpmdb"
	"github.com/okd-project/okd-streams/ostree"
)

// PackagesOptions are for [Packages].
type PackagesOptions struct {
	// TempDir is where the layers are unpacked of an image that has no list, at most
	// 64 GiB; "": the system's.
	TempDir string
}

// Packages gives the packages of an image, sorted by name, architecture and
// version. It looks at what costs least first: the list that OpenShift's images
// have in their last layer, that in the commit's metadata if no layer was added
// to the commit, and the database of rpm or dpkg, for which all layers are read.
// That an image has none is an error that wraps [fs.ErrNotExist].
func Packages(ctx context.Context, img v1.Image, opts *PackagesOptions) ([]ostree.Package, error) {
	if opts == nil {
		opts = &PackagesOptions{}
	}
	list, err := imagePackages(ctx, img, opts)
	if err != nil {
		return nil, &Error{"packages", "image", err}
	}
	slices.SortFunc(list, func(a, b ostree.Package) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Arch, b.Arch), strings.Compare(a.EVR(), b.EVR()))
	})
	return list, nil
}

func imagePackages(ctx context.Context, img v1.Image, opts *PackagesOptions) ([]ostree.Package, error) {
	i, err := inspect(ctx, img)
	if err != nil {
		return nil, err
	}
	if n := len(i.Layers); n > 0 && i.Labels[LabelMetaLayer] == "true" {
		data, err := readFromLayer(ctx, img, i.Layers[n-1], metaLayerFile)
		if err == nil {
			list, err := decodeMetaLayer(data)
			if err != nil {
				return nil, fmt.Errorf("layer %d: %s: %w", n-1, metaLayerFile, err)
			}
			return list, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if i.Head != nil && !i.Layers[len(i.Layers)-1].Derived {
		if list, err := i.Head.Packages(); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return list, err
		}
	}
	return databasePackages(ctx, &Flattened{Image: img, TempDir: opts.TempDir})
}

const (
	// metaLayerFile lists the packages of OpenShift's node images; the source is
	// oc's pkg/cli/admin/release.
	metaLayerFile = "usr/share/openshift/base/meta.json"
	metaLayerKey  = "rpmdb.pkglist"
	// extensionsFile lists those of an extensions image.
	extensionsFile = "usr/share/rpm-ostree/extensions.json"

	maxListFile = 64 << 20
)

// readFromLayer reads a file of a layer, which must be a regular one, and then
// the rest of the layer, so that its digest is verified. No such file wraps
// [fs.ErrNotExist].
func readFromLayer(ctx context.Context, img v1.Image, l Layer, name string) ([]byte, error) {
	data, err := searchLayer(ctx, img, l, name)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %s: %w", l.Digest, name, err)
	}
	return data, nil
}

func searchLayer(ctx context.Context, img v1.Image, l Layer, name string) (data []byte, err error) {
	blob, err := img.LayerByDigest(l.Digest)
	if err != nil {
		return nil, err
	}
	plain, err := uncompressed(checkedLayer{blob, l})
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	found := false
	r := tar.NewReader(plain)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		h, err := r.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		if n == maxEntries {
			return nil, fmt.Errorf("more than %d entries: %w", int64(maxEntries), errors.ErrUnsupported)
		}
		if strings.TrimLeft(path.Clean(h.Name), "/") != name {
			continue
		}
		if found = h.Typeflag == tar.TypeReg; !found {
			continue
		}
		if h.Size > maxListFile {
			return nil, fmt.Errorf("%d bytes, limit %d", h.Size, int64(maxListFile))
		}
		var buf bytes.Buffer
		if _, err := io.Copy(&buf, r); err != nil {
			return nil, err
		}
		data = buf.Bytes()
	}
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("no such file: %w", fs.ErrNotExist)
	}
	return data, nil
}

// checkedLayer is a layer whose blob is verified as it is read.
type checkedLayer struct {
	v1.Layer
	l Layer
}

func (c checkedLayer) Compressed() (io.ReadCloser, error) {
	return openChecked(c.Layer, c.l.Digest, c.l.Size)
}

// decodeMetaLayer reads the list in [metaLayerFile].
func decodeMetaLayer(data []byte) ([]ostree.Package, error) {
	var meta struct {
		List [][]json.RawMessage `json:"rpmdb.pkglist"`
	}
	if err := json.Unmarshal(data, &meta); err != nil {
		return nil, err
	}
	if len(meta.List) == 0 {
		return nil, fmt.Errorf("no %s", metaLayerKey)
	}
	list := make([]ostree.Package, len(meta.List))
	for i, row := range meta.List {
		p := &list[i]
		fields := []*string{&p.Name, &p.Epoch, &p.Version, &p.Release, &p.Arch}
		if len(row) != len(fields) {
			return nil, fmt.Errorf("%s: package %d has %d fields, want name, epoch, version, release, architecture", metaLayerKey, i+1, len(row))
		}
		for n, field := range fields {
			var number json.Number
			if err := json.Unmarshal(row[n], field); err == nil {
				continue
			} else if n != 1 || json.Unmarshal(row[n], &number) != nil {
				return nil, fmt.Errorf("%s: package %d: %w", metaLayerKey, i+1, err)
			}
			*field = number.String() // an epoch without quotes
		}
		if p.Epoch == "0" {
			p.Epoch = ""
		}
		if p.Name == "" {
			return nil, fmt.Errorf("%s: package %d has no name", metaLayerKey, i+1)
		}
	}
	return list, nil
}

// databasePackages reads the database in a tree.
func databasePackages(ctx context.Context, tree ostree.Tree) ([]ostree.Package, error) {
	files, err := collectFiles(ctx, tree, slices.Concat(rpmdb.Dirs[:], dpkg.Dirs[:]))
	if err != nil {
		return nil, err
	}
	convert := func(p *rpmdb.Package) ostree.Package {
		return ostree.Package{Name: p.Name, Epoch: p.Epoch, Version: p.Version, Release: p.Release, Arch: p.Arch}
	}
	var list []ostree.Package
	for p, err := range rpmdb.Packages(files) {
		if errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return nil, err
		}
		list = append(list, convert(&p))
	}
	if list != nil {
		return list, nil
	}
	for p, err := range dpkg.Packages(files, &dpkg.Options{NoChanges: true}) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("neither a list of packages nor a database of rpm or dpkg: %w", fs.ErrNotExist)
		} else if err != nil {
			return nil, err
		}
		q := rpmdb.Package(p)
		list = append(list, convert(&q))
	}
	return list, nil
}

// memoryFiles is a file system of a few files.
type memoryFiles map[string][]byte

// collectFiles reads the regular files directly and one level below dirs.
func collectFiles(ctx context.Context, tree ostree.Tree, dirs []string) (memoryFiles, error) {
	const most = 2 * rpmdb.MaxSize
	files, total := memoryFiles{}, int64(0)
	for e, err := range tree.Entries(ctx) {
		if err != nil {
			return nil, err
		}
		dir := path.Dir(e.Path)
		if e.Open == nil || !slices.Contains(dirs, dir) && !slices.Contains(dirs, path.Dir(dir)) {
			continue
		}
		if total += e.Size; total > most {
			return nil, fmt.Errorf("the package database has more than %d bytes: %w", int64(most), errors.ErrUnsupported)
		}
		rc, err := e.Open(ctx)
		if err != nil {
			return nil, err
		}
		var buf bytes.Buffer
		_, err = io.Copy(&buf, io.LimitReader(rc, e.Size))
		if err := errors.Join(err, rc.Close()); err != nil {
			return nil, err
		}
		files[e.Path] = buf.Bytes()
	}
	return files, nil
}

func (m memoryFiles) Open(name string) (fs.File, error) {
	data, ok := m[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return memoryFile{bytes.NewReader(data), path.Base(name)}, nil
}

// memoryFile is an open file and what is known of it.
type memoryFile struct {
	*bytes.Reader
	name string
}

func (f memoryFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f memoryFile) Close() error               { return nil }
func (f memoryFile) Name() string               { return f.name }
func (f memoryFile) Mode() fs.FileMode          { return 0o444 }
func (f memoryFile) ModTime() time.Time         { return time.Time{} }
func (f memoryFile) IsDir() bool                { return false }
func (f memoryFile) Sys() any                   { return nil }
