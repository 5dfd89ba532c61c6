package container

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/ostree"
)

// snapshotFS is a commit's tree as a file system that follows symbolic links
// inside the tree: what the readers of package databases need. Directories
// can't be listed.
type snapshotFS struct {
	ctx context.Context // of the one call that it lives in
	s   *snapshot
	at  map[string]int32  // directories by path
	of  [][2]int32        // the files of each directory: from, to
	dir map[string]string // resolved directories
}

func newSnapshotFS(ctx context.Context, s *snapshot) *snapshotFS {
	f := &snapshotFS{ctx: ctx, s: s, at: make(map[string]int32, len(s.dirs)), of: make([][2]int32, len(s.dirs)), dir: map[string]string{}}
	for i := range s.dirs {
		f.at[s.dirs[i].path] = int32(i)
	}
	for i := range s.files {
		d := s.files[i].dir
		if f.of[d][1] == 0 {
			f.of[d][0] = int32(i)
		}
		f.of[d][1] = int32(i) + 1
	}
	return f
}

// file gives the index of a file by its directory's path and its name.
func (f *snapshotFS) file(dir, name string) (int32, bool) {
	d, ok := f.at[dir]
	if !ok {
		return 0, false
	}
	from, to := f.of[d][0], f.of[d][1]
	for from < to { // sorted by name
		mid := from + (to-from)/2
		if f.s.files[mid].name < name {
			from = mid + 1
		} else {
			to = mid
		}
	}
	return from, from < f.of[d][1] && f.s.files[from].name == name
}

// resolve gives the path, without links, of the directory that a path names; ""
// is the root. false: there is none.
func (f *snapshotFS) resolve(dir string) (string, bool) { return f.follow(dir, 0) }

func (f *snapshotFS) follow(dir string, links int) (string, bool) {
	if _, ok := f.at[dir]; ok || dir == "" {
		return dir, true
	}
	if known, ok := f.dir[dir]; ok {
		return known, known != ""
	}
	f.dir[dir] = "" // also ends a circle
	if links > maxLinks {
		return "", false
	}
	parent, name := splitPath(dir)
	parent, ok := f.follow(parent, links+1)
	if !ok {
		return "", false
	}
	target := joinPath(parent, name)
	if _, ok := f.at[target]; !ok {
		i, ok := f.file(parent, name)
		if !ok {
			return "", false
		}
		link, err := f.s.repo.ReadFile(f.ctx, f.s.files[i].object)
		if err != nil || link.Target == "" {
			return "", false
		}
		if target, ok = f.follow(linkPath(parent, link.Target), links+1); !ok {
			return "", false
		}
	}
	f.dir[dir] = target
	return target, true
}

// linkPath is where a link in dir leads, never above the root.
func linkPath(dir, target string) string {
	if !strings.HasPrefix(target, "/") {
		target = dir + "/" + target
	}
	return strings.TrimPrefix(path.Clean("/"+target), "/")
}

// placeFile gives the file that a path names in the commit: its directory is
// without links there, and /etc in usr.
func (f *snapshotFS) placeFile(name string) (int32, bool) {
	dir, base := splitPath(name)
	if resolved, ok := f.resolve(dir); ok {
		if i, ok := f.file(resolved, base); ok {
			return i, true
		}
	}
	if strings.HasPrefix(name, "etc/") {
		return f.placeFile("usr/" + name)
	}
	return 0, false
}

// Open implements [fs.FS].
func (f *snapshotFS) Open(name string) (fs.File, error) {
	fail := func(err error) (fs.File, error) { return nil, &fs.PathError{Op: "open", Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return fail(fs.ErrInvalid)
	}
	at := name
	for range maxLinks {
		dir, base := splitPath(at)
		resolved, ok := f.resolve(dir)
		if !ok {
			return fail(fs.ErrNotExist)
		}
		i, ok := f.file(resolved, base)
		if !ok {
			if _, ok := f.at[joinPath(resolved, base)]; ok {
				return fail(fmt.Errorf("is a directory: %w", fs.ErrInvalid))
			}
			return fail(fs.ErrNotExist)
		}
		file, err := f.s.repo.ReadFile(f.ctx, f.s.files[i].object)
		if err != nil {
			return fail(err)
		}
		if file.Mode&ostree.ModeType == ostree.ModeSymlink {
			at = linkPath(resolved, file.Target)
			continue
		}
		content, err := file.Open(f.ctx)
		if err != nil {
			return fail(err)
		}
		return &snapshotFile{content, snapshotInfo{base, file.Size}}, nil
	}
	return fail(fmt.Errorf("too many symbolic links: %w", fs.ErrInvalid))
}

type snapshotFile struct {
	io.ReadCloser
	info snapshotInfo
}

func (f *snapshotFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// snapshotInfo says of a file what a commit knows; all are regular.
type snapshotInfo struct {
	name string
	size int64
}

func (i snapshotInfo) Name() string       { return i.name }
func (i snapshotInfo) Size() int64        { return i.size }
func (i snapshotInfo) Mode() fs.FileMode  { return 0o444 }
func (i snapshotInfo) ModTime() time.Time { return time.Time{} }
func (i snapshotInfo) IsDir() bool        { return false }
func (i snapshotInfo) Sys() any           { return nil }
