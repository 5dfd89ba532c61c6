package payload

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/readers"
)

// Archive gives the files of a tar archive of size bytes that is not
// compressed, such as one of an OCI layout or of a mirror in a folder, without
// unpacking it. Links lead to other entries only. More than
// [MaxArchiveEntries] entries, names that lead out of the archive and sparse
// files are errors; of an entry that is there twice the last counts. r is read
// by ReadAt as long as the files are.
func Archive(r io.ReaderAt, size int64) (fs.FS, error) {
	a, err := readArchive(r, size)
	if err != nil {
		return nil, &Error{Op: "open", Target: "archive", Err: err}
	}
	return a, nil
}

type archive map[string]*archived

// archived is a file, folder or link; a link has a target.
type archived struct {
	name    string // last element
	mode    fs.FileMode
	size    int64
	modTime time.Time
	data    *io.SectionReader
	target  string
	names   []string // of a folder, sorted
}

func readArchive(r io.ReaderAt, size int64) (archive, error) {
	section := io.NewSectionReader(r, 0, size)
	tr := tar.NewReader(section)
	a := archive{".": {name: ".", mode: fs.ModeDir | 0o555}}
	for n := 0; ; n++ {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("tar: %w", err)
		}
		if n == MaxArchiveEntries {
			return nil, fmt.Errorf("more than %d entries", MaxArchiveEntries)
		}
		offset, err := section.Seek(0, io.SeekCurrent) // the tar reader buffers nothing
		if err != nil {
			return nil, err
		}
		if err := a.add(hdr, io.NewSectionReader(r, offset, hdr.Size), size-offset); err != nil {
			return nil, err
		}
	}
	for name, f := range a {
		if name != "." {
			a[path.Dir(name)].names = append(a[path.Dir(name)].names, f.name)
		}
	}
	for _, f := range a {
		slices.Sort(f.names)
	}
	return a, nil
}

func (a archive) add(hdr *tar.Header, data *io.SectionReader, rest int64) error {
	name := strings.TrimPrefix(strings.TrimSuffix(hdr.Name, "/"), "./")
	if name == "" || name == "." {
		return nil
	}
	if !fs.ValidPath(name) || len(name) > maxArchivePath {
		return fmt.Errorf("entry %.300q: %w", hdr.Name, fs.ErrInvalid)
	}
	if n := 1 + strings.Count(name, "/"); n > maxArchiveDepth {
		return fmt.Errorf("entry %.300q: name of %d parts, limit %d: %w", hdr.Name, n, maxArchiveDepth, fs.ErrInvalid)
	}
	f := &archived{name: path.Base(name), mode: 0o444, modTime: hdr.ModTime}
	if readers.Sparse(hdr) {
		return fmt.Errorf("entry %q is sparse: %w", name, errors.ErrUnsupported)
	}
	switch hdr.Typeflag {
	case tar.TypeReg:
		if hdr.Size > rest {
			return fmt.Errorf("entry %q: %w", name, io.ErrUnexpectedEOF)
		}
		f.size, f.data = hdr.Size, data
	case tar.TypeDir:
		f.mode = fs.ModeDir | 0o555
	case tar.TypeLink:
		f.target = path.Clean(hdr.Linkname)
	case tar.TypeSymlink:
		if path.IsAbs(hdr.Linkname) {
			return fmt.Errorf("entry %q is a link to %.300q: %w", name, hdr.Linkname, fs.ErrInvalid)
		}
		f.target = path.Join(path.Dir(name), hdr.Linkname)
	default:
		f.mode = fs.ModeIrregular
	}
	if f.target != "" && !fs.ValidPath(f.target) {
		return fmt.Errorf("entry %q is a link to %.300q: %w", name, hdr.Linkname, fs.ErrInvalid)
	}
	if old := a[name]; old != nil && old.mode.IsDir() != f.mode.IsDir() {
		return fmt.Errorf("entry %q is a folder and something else", name)
	}
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		switch up := a[dir]; {
		case up == nil:
			a[dir] = &archived{name: path.Base(dir), mode: fs.ModeDir | 0o555}
			continue
		case !up.mode.IsDir():
			return fmt.Errorf("entry %q is below something that is no folder", name)
		}
		break
	}
	if len(a) > 2*MaxArchiveEntries {
		return fmt.Errorf("more than %d folders and files", 2*MaxArchiveEntries)
	}
	a[name] = f
	return nil
}

// find follows links, which may not be many.
func (a archive) find(op, name string) (*archived, error) {
	at := name
	for range 8 {
		f := a[at]
		switch {
		case !fs.ValidPath(name):
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
		case f == nil:
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		case f.target == "":
			return f, nil
		}
		at = f.target
	}
	return nil, &fs.PathError{Op: op, Path: name, Err: errors.New("too many links")}
}

func (a archive) Open(name string) (fs.File, error) {
	f, err := a.find("open", name)
	if err != nil {
		return nil, err
	}
	info := archivedInfo{f, path.Base(name)}
	if f.mode.IsDir() {
		return &archivedFolder{info: info, all: a, path: name}, nil
	}
	if f.data == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	return &archivedFile{io.NewSectionReader(f.data, 0, f.size), info}, nil
}

func (a archive) Stat(name string) (fs.FileInfo, error) {
	f, err := a.find("stat", name)
	if err != nil {
		return nil, err
	}
	return archivedInfo{f, path.Base(name)}, nil
}

type archivedInfo struct {
	f    *archived
	name string
}

func (i archivedInfo) Name() string       { return i.name }
func (i archivedInfo) Size() int64        { return i.f.size }
func (i archivedInfo) Mode() fs.FileMode  { return i.f.mode }
func (i archivedInfo) ModTime() time.Time { return i.f.modTime }
func (i archivedInfo) IsDir() bool        { return i.f.mode.IsDir() }
func (i archivedInfo) Sys() any           { return nil }

type archivedFile struct {
	*io.SectionReader
	info archivedInfo
}

func (f *archivedFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *archivedFile) Close() error               { return nil }

type archivedFolder struct {
	info archivedInfo
	all  archive
	path string
	done int
}

func (d *archivedFolder) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *archivedFolder) Close() error               { return nil }
func (d *archivedFolder) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.path, Err: errors.New("is a folder")}
}

func (d *archivedFolder) ReadDir(n int) ([]fs.DirEntry, error) {
	names := d.info.f.names[d.done:]
	if n > 0 {
		if len(names) == 0 {
			return nil, io.EOF
		}
		names = names[:min(n, len(names))]
	}
	d.done += len(names)
	out := make([]fs.DirEntry, 0, len(names))
	for _, name := range names {
		// A link that leads nowhere is listed as what it is, nothing to read.
		f, err := d.all.find("stat", path.Join(d.path, name))
		if err != nil {
			f = &archived{mode: fs.ModeIrregular}
		}
		out = append(out, fs.FileInfoToDirEntry(archivedInfo{f, name}))
	}
	return out, nil
}
