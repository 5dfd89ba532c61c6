package container

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/ostree"
)

// Limits of a commit that is read, against trees that name one directory again
// and again.
const (
	maxDepth   = 2048
	maxEntries = 16 << 20
	// keepTrees bounds the serialized dirtrees kept for the commit layer, in
	// bytes; what is over is read again.
	keepTrees = 32 << 20
	// readAhead is how many dirtrees are read at a time.
	readAhead = 256
)

// snapshot is a commit's tree without content, compact enough for millions of
// files.
type snapshot struct {
	repo     *ostree.Repo
	commit   ostree.Checksum
	head     *ostree.Commit
	raw      []byte // the commit object
	detached []byte // the detached metadata object, nil if there is none

	dirs  []dirNode  // depth first, in dirtree order; the first is the root
	files []fileNode // the files of a directory before those of its subdirectories
	// byObject are indexes of files, by object and then in the order of files.
	byObject []int32
	// objects are the runs of byObject, and firsts where those begin whose
	// checksum's first two bytes are at least as high as the index.
	objects []objectRun
	firsts  []int32

	trees     map[ostree.Checksum][]byte
	treeBytes int
	lists     map[ostree.Checksum]*ostree.DirTree // of trees, while the tree is read
	metas     map[ostree.Checksum]*dirMeta
	sizes     []int64 // see objectSizes
}

type dirNode struct {
	path       string // "" is the root
	parent     int32
	end        int32 // the index after its last descendant
	tree, meta ostree.Checksum
}

type fileNode struct {
	object ostree.Checksum
	dir    int32
	name   string
}

type objectRun struct {
	object ostree.Checksum
	files  []int32
}

type dirMeta struct {
	raw            []byte
	uid, gid, mode uint32
}

func openSnapshot(ctx context.Context, repo *ostree.Repo, commit ostree.Checksum) (*snapshot, error) {
	s := &snapshot{
		repo: repo, commit: commit,
		trees: map[ostree.Checksum][]byte{}, metas: map[ostree.Checksum]*dirMeta{}, lists: map[ostree.Checksum]*ostree.DirTree{},
	}
	var err error
	if s.raw, err = repo.Object(ctx, ostree.TypeCommit, commit); err != nil {
		return nil, err
	}
	if s.head, err = ostree.DecodeCommit(s.raw); err != nil {
		return nil, err
	}
	if err := s.readDetached(ctx); err != nil {
		return nil, err
	}
	if err := s.readTrees(ctx); err != nil {
		return nil, err
	}
	if err := s.dir(ctx, "", -1, s.head.RootTree, s.head.RootMeta, 0); err != nil {
		return nil, err
	}
	s.lists = nil
	s.group()
	return s, nil
}

// readDetached reads the detached metadata, which is all of a commit that can
// change.
func (s *snapshot) readDetached(ctx context.Context) (err error) {
	s.detached, err = s.repo.Object(ctx, ostree.TypeCommitMeta, s.commit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// readTrees reads dirtrees into memory in parallel, as far as there is room for
// them: the disk and the checksums are most of the time that a snapshot takes.
func (s *snapshot) readTrees(ctx context.Context) error {
	seen := map[ostree.Checksum]bool{}
	queue := []ostree.Checksum{s.head.RootTree} // breadth first
	for len(queue) > 0 && len(seen) < maxEntries && s.treeBytes < keepTrees {
		batch := queue[:min(len(queue), readAhead)]
		queue = queue[len(batch):]
		raws := make([][]byte, len(batch))
		lists := make([]*ostree.DirTree, len(batch))
		var next atomic.Int64
		group, ctx := errgroup.WithContext(ctx)
		for range min(runtime.GOMAXPROCS(0), maxWorkers, len(batch)) {
			group.Go(func() error {
				for i := next.Add(1) - 1; i < int64(len(batch)); i = next.Add(1) - 1 {
					raw, err := s.repo.Object(ctx, ostree.TypeDirTree, batch[i])
					if err != nil {
						return err
					}
					list, err := ostree.DecodeDirTree(raw)
					if err != nil {
						return &ostree.Error{Op: "read", Target: batch[i].String() + ".dirtree", Err: err}
					}
					raws[i], lists[i] = raw, list
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		for i, raw := range raws {
			if s.treeBytes+len(raw) <= keepTrees {
				s.treeBytes += len(raw)
				s.trees[batch[i]], s.lists[batch[i]] = raw, lists[i]
			}
			for _, d := range lists[i].Dirs {
				if !seen[d.Tree] {
					seen[d.Tree] = true
					queue = append(queue, d.Tree)
				}
			}
		}
	}
	return nil
}

// dir reads a directory and all below it.
func (s *snapshot) dir(ctx context.Context, path string, parent int32, tree, meta ostree.Checksum, depth int) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if depth > maxDepth {
		return &ostree.Error{Op: "read", Target: path, Err: fmt.Errorf("over %d directories deep", maxDepth)}
	}
	if err := s.loadMeta(ctx, meta); err != nil {
		return err
	}
	list := s.lists[tree]
	if list == nil {
		raw, err := s.rawTree(ctx, tree)
		if err != nil {
			return err
		}
		if list, err = ostree.DecodeDirTree(raw); err != nil {
			return &ostree.Error{Op: "read", Target: tree.String() + ".dirtree", Err: err}
		}
	}
	if len(s.files)+len(s.dirs)+len(list.Files)+len(list.Dirs) > maxEntries {
		return &ostree.Error{Op: "read", Target: s.commit.String(), Err: fmt.Errorf("over %d entries", maxEntries)}
	}
	at := int32(len(s.dirs))
	s.dirs = append(s.dirs, dirNode{path: path, parent: parent, tree: tree, meta: meta})
	for i := range list.Files {
		s.files = append(s.files, fileNode{list.Files[i].Object, at, list.Files[i].Name})
	}
	for i := range list.Dirs {
		d := &list.Dirs[i]
		if err := s.dir(ctx, joinPath(path, d.Name), at, d.Tree, d.Meta, depth+1); err != nil {
			return err
		}
	}
	s.dirs[at].end = int32(len(s.dirs))
	return nil
}

func joinPath(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

func (s *snapshot) loadMeta(ctx context.Context, c ostree.Checksum) error {
	if s.metas[c] != nil {
		return nil
	}
	raw, err := s.repo.Object(ctx, ostree.TypeDirMeta, c)
	if err != nil {
		return err
	}
	m, err := ostree.DecodeDirMeta(raw)
	if err != nil {
		return &ostree.Error{Op: "read", Target: c.String() + ".dirmeta", Err: err}
	}
	s.metas[c] = &dirMeta{raw, m.UID, m.GID, m.Mode}
	return nil
}

// rawTree gives a dirtree object, from memory if it was read before and there
// is room.
func (s *snapshot) rawTree(ctx context.Context, c ostree.Checksum) ([]byte, error) {
	if raw, ok := s.trees[c]; ok {
		return raw, nil
	}
	raw, err := s.repo.Object(ctx, ostree.TypeDirTree, c)
	if err == nil && s.treeBytes+len(raw) <= keepTrees {
		s.treeBytes += len(raw)
		s.trees[c] = raw
	}
	return raw, err
}

// group sorts files by object: first by the first two bytes of the checksum, by
// which few are alike.
func (s *snapshot) group() {
	const prefixes = 1 << 16
	prefix := func(c *ostree.Checksum) int { return int(binary.BigEndian.Uint16(c[:])) }
	ends := make([]int32, prefixes)
	for i := range s.files {
		ends[prefix(&s.files[i].object)]++
	}
	for at, total := 0, int32(0); at < prefixes; at++ {
		ends[at], total = total, total+ends[at] // where it begins, as yet
	}
	s.byObject = make([]int32, len(s.files))
	for i := range s.files {
		end := &ends[prefix(&s.files[i].object)]
		s.byObject[*end] = int32(i)
		*end++
	}
	s.firsts = make([]int32, prefixes+1)
	from := int32(0)
	for at, end := range ends {
		s.firsts[at] = int32(len(s.objects))
		slices.SortFunc(s.byObject[from:end], func(a, b int32) int {
			return cmp.Or(bytes.Compare(s.files[a].object[:], s.files[b].object[:]), cmp.Compare(a, b))
		})
		for from < end {
			object := s.files[s.byObject[from]].object
			to := from + 1
			for to < end && s.files[s.byObject[to]].object == object {
				to++
			}
			s.objects = append(s.objects, objectRun{object, s.byObject[from:to:to]})
			from = to
		}
	}
	s.firsts[prefixes] = int32(len(s.objects))
}

// path gives a file's path in the tree.
func (s *snapshot) path(file int32) string {
	f := &s.files[file]
	return joinPath(s.dirs[f.dir].path, f.name)
}

// find gives the index of the run of an object.
func (s *snapshot) find(object ostree.Checksum) (int, bool) {
	start := binary.BigEndian.Uint16(object[:])
	from, to := s.firsts[start], s.firsts[int(start)+1]
	i, ok := slices.BinarySearchFunc(s.objects[from:to], object, func(r objectRun, c ostree.Checksum) int {
		return bytes.Compare(r.object[:], c[:])
	})
	return int(from) + i, ok
}

// below reports whether path is dir or inside it.
func below(path, dir string) bool {
	return strings.HasPrefix(path, dir) && (len(path) == len(dir) || path[len(dir)] == '/')
}
