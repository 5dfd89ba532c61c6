package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// FS is what a commit holds as a file system, which also implements
// [fs.ReadLinkFS], [fs.ReadDirFS], [fs.StatFS] and [fs.ReadFileFS]. Symbolic links
// are followed inside the tree, whose root is that of absolute targets. Times are
// the epoch, for a commit has none; [fs.FileInfo.Sys] is an *[Entry] with owner,
// attributes and checksum. Content is verified as [File].Open does. ctx governs
// all that is read through it. Dirtrees that were read stay in memory.
func (r *Repo) FS(ctx context.Context, commit Checksum) (fs.FS, error) {
	c, err := r.ReadCommit(ctx, commit)
	if err != nil {
		return nil, err
	}
	return &commitFS{ctx: ctx, repo: r, root: DirTreeDir{Name: ".", Tree: c.RootTree, Meta: c.RootMeta}, trees: make(map[Checksum]*DirTree)}, nil
}

type commitFS struct {
	ctx  context.Context // of the call that made it
	repo *Repo
	root DirTreeDir

	mu    sync.Mutex
	trees map[Checksum]*DirTree
}

// maxLinks is how many symbolic links one path may go through, as on Linux.
const maxLinks = 40

// fsNode is a directory, or a file or link.
type fsNode struct {
	dir  *DirTreeDir
	file *DirTreeFile
}

func (f *commitFS) tree(c Checksum) (*DirTree, error) {
	f.mu.Lock()
	d := f.trees[c]
	f.mu.Unlock()
	if d != nil {
		return d, nil
	}
	d, err := f.repo.ReadDirTree(f.ctx, c)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.trees[c] = d
	f.mu.Unlock()
	return d, nil
}

// child finds a name in a directory.
func (d *DirTree) child(name string) (fsNode, bool) {
	if i, ok := slices.BinarySearchFunc(d.Files, name, func(f DirTreeFile, name string) int { return strings.Compare(f.Name, name) }); ok {
		return fsNode{file: &d.Files[i]}, true
	}
	if i, ok := slices.BinarySearchFunc(d.Dirs, name, func(f DirTreeDir, name string) int { return strings.Compare(f.Name, name) }); ok {
		return fsNode{dir: &d.Dirs[i]}, true
	}
	return fsNode{}, false
}

// find gives what a path names; follow: not a link at its end.
func (f *commitFS) find(name string, follow bool) (fsNode, error) {
	at := []*DirTreeDir{&f.root}
	rest := strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = at[:max(len(at)-1, 1)]
			continue
		}
		d, err := f.tree(at[len(at)-1].Tree)
		if err != nil {
			return fsNode{}, err
		}
		node, ok := d.child(part)
		if !ok {
			return fsNode{}, fs.ErrNotExist
		}
		if node.dir != nil {
			if len(at) > maxDepth {
				return fsNode{}, corruptf("directories nest deeper than %d", maxDepth)
			}
			at = append(at, node.dir)
			continue
		}
		if len(rest) == 0 && !follow {
			return node, nil
		}
		file, err := f.repo.ReadFile(f.ctx, node.file.Object)
		if err != nil {
			return fsNode{}, err
		}
		if file.Mode&ModeType != ModeSymlink {
			if len(rest) > 0 {
				return fsNode{}, fs.ErrNotExist
			}
			return node, nil
		}
		if links++; links > maxLinks {
			return fsNode{}, errors.New("too many symbolic links")
		}
		if strings.HasPrefix(file.Target, "/") {
			at = at[:1]
		}
		rest = append(strings.Split(file.Target, "/"), rest...)
	}
	return fsNode{dir: at[len(at)-1]}, nil
}

func fsError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// lookup is find for the methods of [fs.FS].
func (f *commitFS) lookup(op, name string, follow bool) (fsNode, error) {
	if !fs.ValidPath(name) {
		return fsNode{}, fsError(op, name, fs.ErrInvalid)
	}
	node, err := f.find(name, follow)
	return node, fsError(op, name, err)
}

// info reads what a node has besides its content.
func (f *commitFS) info(name string, node fsNode) (*fsInfo, *File, error) {
	if node.dir != nil {
		m, err := f.repo.ReadDirMeta(f.ctx, node.dir.Meta)
		if err != nil {
			return nil, nil, err
		}
		return &fsInfo{path.Base(name), Entry{Path: name, Mode: m.Mode, UID: m.UID, GID: m.GID, Xattrs: m.Xattrs, Object: node.dir.Meta, Detached: true}}, nil, nil
	}
	file, err := f.repo.ReadFile(f.ctx, node.file.Object)
	if err != nil {
		return nil, nil, err
	}
	return &fsInfo{path.Base(name), fileEntry(name, node.file.Object, file)}, file, nil
}

// fileEntry is the entry of a content object.
func fileEntry(name string, c Checksum, f *File) Entry {
	return Entry{Path: name, Target: f.Target, Mode: f.Mode, UID: f.UID, GID: f.GID, Xattrs: f.Xattrs, Size: f.Size, Object: c, Open: f.Open, Detached: true}
}

func (f *commitFS) Stat(name string) (fs.FileInfo, error)  { return f.stat("stat", name, true) }
func (f *commitFS) Lstat(name string) (fs.FileInfo, error) { return f.stat("lstat", name, false) }

func (f *commitFS) stat(op, name string, follow bool) (fs.FileInfo, error) {
	node, err := f.lookup(op, name, follow)
	if err != nil {
		return nil, err
	}
	info, _, err := f.info(name, node)
	if err != nil {
		return nil, fsError(op, name, err)
	}
	return info, nil
}

func (f *commitFS) ReadLink(name string) (string, error) {
	node, err := f.lookup("readlink", name, false)
	if err != nil {
		return "", err
	}
	if node.file == nil {
		return "", fsError("readlink", name, fs.ErrInvalid)
	}
	file, err := f.repo.ReadFile(f.ctx, node.file.Object)
	if err == nil && file.Mode&ModeType != ModeSymlink {
		err = fs.ErrInvalid
	}
	if err != nil {
		return "", fsError("readlink", name, err)
	}
	return file.Target, nil
}

func (f *commitFS) ReadDir(name string) ([]fs.DirEntry, error) {
	node, err := f.lookup("readdir", name, true)
	if err != nil {
		return nil, err
	}
	if node.dir == nil {
		return nil, fsError("readdir", name, errors.New("not a directory"))
	}
	list, err := f.entries(name, node.dir)
	return list, fsError("readdir", name, err)
}

// entries lists a directory, sorted by name.
func (f *commitFS) entries(name string, dir *DirTreeDir) ([]fs.DirEntry, error) {
	d, err := f.tree(dir.Tree)
	if err != nil {
		return nil, err
	}
	list := make([]fs.DirEntry, 0, len(d.Files)+len(d.Dirs))
	add := func(child string, node fsNode) error {
		info, _, err := f.info(path.Join(name, child), node)
		if err == nil {
			list = append(list, fs.FileInfoToDirEntry(info))
		}
		return err
	}
	for i := range d.Files {
		if err := add(d.Files[i].Name, fsNode{file: &d.Files[i]}); err != nil {
			return nil, err
		}
	}
	for i := range d.Dirs {
		if err := add(d.Dirs[i].Name, fsNode{dir: &d.Dirs[i]}); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

func (f *commitFS) Open(name string) (fs.File, error) {
	node, err := f.lookup("open", name, true)
	if err != nil {
		return nil, err
	}
	info, file, err := f.info(name, node)
	if err != nil {
		return nil, fsError("open", name, err)
	}
	if node.dir != nil {
		return &fsDir{fs: f, name: name, dir: node.dir, info: info}, nil
	}
	body, err := file.Open(f.ctx)
	if err != nil {
		return nil, fsError("open", name, err)
	}
	return &fsFile{body, info}, nil
}

// maxReadFile bounds what ReadFile holds in memory at once.
const maxReadFile = 1 << 30

func (f *commitFS) ReadFile(name string) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && info.Size() > maxReadFile {
		err = fmt.Errorf("%d bytes, at most %d", info.Size(), maxReadFile)
	}
	if err != nil {
		return nil, fsError("read", name, err)
	}
	// The length is what the object says: it grows with what is there.
	data, err := io.ReadAll(file)
	return data, fsError("read", name, err)
}

// fsInfo is an entry as [fs.FileInfo].
type fsInfo struct {
	name  string
	entry Entry
}

func (i *fsInfo) Name() string       { return i.name }
func (i *fsInfo) Size() int64        { return i.entry.Size }
func (i *fsInfo) Mode() fs.FileMode  { return goMode(i.entry.Mode) }
func (i *fsInfo) ModTime() time.Time { return time.Unix(0, 0).UTC() }
func (i *fsInfo) IsDir() bool        { return i.entry.Mode&ModeType == ModeDir }
func (i *fsInfo) Sys() any           { return &i.entry }

// goMode is st_mode as Go has it.
func goMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & ModeType {
	case ModeDir:
		m |= fs.ModeDir
	case ModeSymlink:
		m |= fs.ModeSymlink
	}
	for bit, is := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= is
		}
	}
	return m
}

type fsFile struct {
	io.ReadCloser
	info *fsInfo
}

func (f *fsFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// fsDir is an open directory.
type fsDir struct {
	fs     *commitFS
	name   string
	dir    *DirTreeDir
	info   *fsInfo
	list   []fs.DirEntry
	listed bool
	closed bool
}

func (d *fsDir) Stat() (fs.FileInfo, error) {
	if d.closed {
		return nil, fsError("stat", d.name, fs.ErrClosed)
	}
	return d.info, nil
}

func (d *fsDir) Read([]byte) (int, error) {
	return 0, fsError("read", d.name, errors.New("is a directory"))
}

func (d *fsDir) Close() error {
	if d.closed {
		return fsError("close", d.name, fs.ErrClosed)
	}
	d.closed = true
	return nil
}

func (d *fsDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.closed {
		return nil, fsError("readdir", d.name, fs.ErrClosed)
	}
	if !d.listed {
		list, err := d.fs.entries(d.name, d.dir)
		if err != nil {
			return nil, fsError("readdir", d.name, err)
		}
		d.list, d.listed = list, true
	}
	if n <= 0 || n > len(d.list) {
		if n > 0 && len(d.list) == 0 {
			return nil, io.EOF
		}
		n = len(d.list)
	}
	list := d.list[:n:n]
	d.list = d.list[n:]
	return list, nil
}
