package ostree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/internal/composefs"
)

// composefsKey is the metadata item of a commit that has the fs-verity digest
// of its composefs image, 32 bytes.
const composefsKey = "ostree.composefs.digest.v0"

// composefsDirs are what the image's root has in any case: libostree mounts
// something there. The source is libostree's ostree-repo-composefs.c.
var composefsDirs = []string{"boot", "etc", "sysroot", "usr", "var"}

// maxComposefs bounds the files and directories of an image, which take memory
// and may be many more than objects.
const maxComposefs = 1 << 24

// ComposefsOptions configures [Repo.WriteComposefs] and its kin. Nil is the zero
// value.
type ComposefsOptions struct {
	// NoVerity leaves the digests of files out of the image, as libostree does
	// where composefs is not signed. Such an image has another digest than
	// "ostree.composefs.digest.v0".
	NoVerity bool
	// Workers is how many objects are read at once, at most 64. 0: GOMAXPROCS.
	// It has no effect on the result.
	Workers int
	// Progress gets Phase "objects" with the content objects read so far.
	Progress func(Event)
}

// ComposefsMetadata is the metadata item "ostree.composefs.digest.v0" with the
// digest that [Repo.ComposefsDigest] gives, for [CommitOptions].Metadata. The
// digest is of files that must be committed first: commit them without ref, take
// the digest, and commit [Repo.Tree] of that commit again with this item, which
// writes a commit object alone.
func ComposefsMetadata(digest Checksum) MetadataItem {
	return MetadataItem{composefsKey, BytesVariant(digest[:])}
}

// ComposefsDigest gives the digest that c's metadata has, not verified; false: it
// has none. A value that is no digest wraps [ErrCorrupt].
func (c *Commit) ComposefsDigest() (digest Checksum, ok bool, err error) {
	v, ok := c.Lookup(composefsKey)
	if !ok {
		return Checksum{}, false, nil
	}
	data, err := v.AsBytes()
	if err != nil {
		return Checksum{}, false, fmt.Errorf("%s: %w", composefsKey, corrupt(err))
	}
	if digest, err = decodeChecksum(data); err != nil {
		return Checksum{}, false, fmt.Errorf("%s: %w", composefsKey, err)
	}
	return digest, true, nil
}

// ComposefsDigest gives the fs-verity digest of a commit's composefs image, the
// one that `ostree commit --generate-composefs-metadata` stores. It reads every
// content object once and verifies it. See [Repo.WriteComposefs].
func (r *Repo) ComposefsDigest(ctx context.Context, commit Checksum, opts *ComposefsOptions) (Checksum, error) {
	return r.WriteComposefs(ctx, io.Discard, commit, opts)
}

// WriteComposefs writes a commit's composefs image and gives the image's
// fs-verity digest. The image, an EROFS file system, is the one that libostree
// writes with libcomposefs (version 0 of its format): all directories, links,
// names and metadata; of regular files that are not empty the path below
// objects/ of a bare repository and their fs-verity digest. All times are 0; the
// directories boot, etc, sysroot, usr and var are there in any case.
//
// It takes about 200 bytes of memory for a file or directory, and no more than
// 16,777,216 of them; beyond, the error wraps [errors.ErrUnsupported]. A name,
// link target, or attributes that the format can't hold (255, 4095 and 32,767
// bytes) are an error that wraps [fs.ErrInvalid]. Where a link's target, with its
// attributes, takes more than a block of 4096 bytes, libostree 2026.5 aborts and
// the image is as `mkcomposefs` writes it.
func (r *Repo) WriteComposefs(ctx context.Context, w io.Writer, commit Checksum, opts *ComposefsOptions) (Checksum, error) {
	if opts == nil {
		opts = &ComposefsOptions{}
	}
	digest, err := r.writeComposefs(ctx, w, commit, opts)
	var inner *Error
	if err != nil && !errors.As(err, &inner) {
		err = &Error{Op: "composefs", Target: objectName(TypeCommit, commit), Err: err}
	}
	return digest, err
}

// VerifyComposefs computes a commit's composefs digest and compares it with the
// one in its metadata. The error wraps [fs.ErrNotExist] if it has none, and
// [ErrCorrupt] if they differ. NoVerity has no effect.
func (r *Repo) VerifyComposefs(ctx context.Context, commit Checksum, opts *ComposefsOptions) error {
	c, err := r.ReadCommit(ctx, commit)
	if err != nil {
		return err
	}
	want, ok, err := c.ComposefsDigest()
	if err == nil && !ok {
		err = fmt.Errorf("no metadata %s: %w", composefsKey, fs.ErrNotExist)
	}
	if err != nil {
		return &Error{Op: "composefs", Target: objectName(TypeCommit, commit), Err: err}
	}
	o := ComposefsOptions{}
	if opts != nil {
		o = *opts
	}
	o.NoVerity = false
	got, err := r.ComposefsDigest(ctx, commit, &o)
	if err == nil && got != want {
		err = &Error{Op: "composefs", Target: objectName(TypeCommit, commit), Err: corruptf("digest is %s, %s says %s", got, composefsKey, want)}
	}
	return err
}

func (r *Repo) writeComposefs(ctx context.Context, w io.Writer, commit Checksum, opts *ComposefsOptions) (Checksum, error) {
	workers := cmp.Or(opts.Workers, runtime.GOMAXPROCS(0))
	if workers < 0 || workers > maxWorkers {
		return Checksum{}, fmt.Errorf("%d workers, want 0 to %d", opts.Workers, maxWorkers)
	}
	c, err := r.ReadCommit(ctx, commit)
	if err != nil {
		return Checksum{}, err
	}
	m := &composefsMaker{repo: r, opts: opts, builder: composefs.NewBuilder(), known: make(map[composefsObject]composefs.ID)}
	group, gctx := errgroup.WithContext(ctx)
	files := make(chan composefsFile, 256)
	for range workers {
		group.Go(func() error { return m.read(gctx, files) })
	}
	group.Go(func() error {
		defer close(files)
		return m.walk(gctx, c, files)
	})
	if err := group.Wait(); err != nil {
		return Checksum{}, err
	}
	m.known = nil
	var verity composefs.Verity
	if err := m.builder.Write(ctx, io.MultiWriter(w, &verity)); err != nil {
		return Checksum{}, err
	}
	return Checksum(verity.Sum()), nil
}

// composefsMaker makes an image. One goroutine walks the tree, others read the
// files that it finds.
type composefsMaker struct {
	repo    *Repo
	opts    *ComposefsOptions
	builder *composefs.Builder
	known   map[composefsObject]composefs.ID // of the one that walks
	done    atomic.Int64
}

// composefsObject is a content or dirmeta object.
type composefsObject struct {
	sum Checksum
	dir bool
}

// composefsFile is a content object and the inode that it is.
type composefsFile struct {
	object Checksum
	id     composefs.ID
}

// composefsDir is a directory on the way: its dirtree, zero for an empty one.
type composefsDir struct {
	tree  Checksum
	depth int
}

// walk hands the names to the builder, breadth first.
func (m *composefsMaker) walk(ctx context.Context, c *Commit, files chan<- composefsFile) error {
	root, err := m.directory(ctx, c.RootMeta)
	if err != nil {
		return err
	}
	m.builder.Root(root)
	queue := []composefsDir{{tree: c.RootTree}}
	var entries []composefs.Entry
	var trees []Checksum // of entries; zero for files
	for count := 0; len(queue) > 0; queue = queue[1:] {
		dir := queue[0]
		if dir.depth > maxDepth {
			return &Error{Op: "composefs", Target: objectName(TypeDirTree, dir.tree), Err: corruptf("directories nest deeper than %d", maxDepth)}
		}
		d := &DirTree{}
		if !dir.tree.IsZero() {
			if d, err = m.repo.ReadDirTree(ctx, dir.tree); err != nil {
				return err
			}
		}
		if count += len(d.Files) + len(d.Dirs); count > maxComposefs {
			return fmt.Errorf("more than %d files and directories: %w", maxComposefs, errUnsupported)
		}
		entries, trees = entries[:0], trees[:0]
		for f, s := d.Files, d.Dirs; len(f) > 0 || len(s) > 0; {
			if len(s) == 0 || len(f) > 0 && f[0].Name < s[0].Name {
				id, err := m.file(ctx, f[0].Object, files)
				if err != nil {
					return err
				}
				entries, trees = append(entries, composefs.Entry{Name: f[0].Name, Inode: id}), append(trees, Checksum{})
				f = f[1:]
				continue
			}
			id, err := m.directory(ctx, s[0].Meta)
			if err != nil {
				return err
			}
			entries, trees = append(entries, composefs.Entry{Name: s[0].Name, Inode: id, Dir: true}), append(trees, s[0].Tree)
			s = s[1:]
		}
		if dir.depth == 0 {
			if entries, trees, err = m.ensureDirs(entries, trees); err != nil {
				return err
			}
		}
		if err := m.builder.Children(entries); err != nil {
			return &Error{Op: "composefs", Target: objectName(TypeDirTree, dir.tree), Err: err}
		}
		for i, e := range entries {
			if e.Dir {
				queue = append(queue, composefsDir{trees[i], dir.depth + 1})
			}
		}
	}
	return nil
}

// ensureDirs adds composefsDirs to those of the root.
func (m *composefsMaker) ensureDirs(entries []composefs.Entry, trees []Checksum) ([]composefs.Entry, []Checksum, error) {
	id := m.builder.Reserve()
	if err := m.builder.Set(id, composefs.Inode{Mode: ModeDir | 0o755}); err != nil {
		return nil, nil, err
	}
	for _, name := range composefsDirs {
		i, there := slices.BinarySearchFunc(entries, name, func(e composefs.Entry, name string) int { return cmp.Compare(e.Name, name) })
		if !there {
			entries = slices.Insert(entries, i, composefs.Entry{Name: name, Inode: id, Dir: true})
			trees = slices.Insert(trees, i, Checksum{})
		}
	}
	return entries, trees, nil
}

// directory gives the inode of a dirmeta object.
func (m *composefsMaker) directory(ctx context.Context, meta Checksum) (composefs.ID, error) {
	id, ok := m.known[composefsObject{meta, true}]
	if ok {
		return id, nil
	}
	d, err := m.repo.ReadDirMeta(ctx, meta)
	if err != nil {
		return 0, err
	}
	id = m.builder.Reserve()
	if err := m.builder.Set(id, composefs.Inode{Mode: d.Mode, UID: d.UID, GID: d.GID, Xattrs: composefsXattrs(d.Xattrs)}); err != nil {
		return 0, &Error{Op: "composefs", Target: objectName(TypeDirMeta, meta), Err: err}
	}
	m.known[composefsObject{meta, true}] = id
	return id, nil
}

// file gives the inode of a content object, which is read later.
func (m *composefsMaker) file(ctx context.Context, object Checksum, files chan<- composefsFile) (composefs.ID, error) {
	id, ok := m.known[composefsObject{object, false}]
	if ok {
		return id, nil
	}
	id = m.builder.Reserve()
	m.known[composefsObject{object, false}] = id
	select {
	case files <- composefsFile{object, id}:
		return id, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// read reads files until there are no more.
func (m *composefsMaker) read(ctx context.Context, files <-chan composefsFile) error {
	buf := make([]byte, 256<<10)
	var verity composefs.Verity
	for f := range files {
		in, err := m.inode(ctx, f.object, &verity, buf)
		if err != nil {
			return err
		}
		if err := m.builder.Set(f.id, in); err != nil {
			return &Error{Op: "composefs", Target: objectName(TypeFile, f.object), Err: err}
		}
		if done := m.done.Add(1); m.opts.Progress != nil && done%256 == 0 {
			m.opts.Progress(Event{Step: "composefs", Phase: "objects", Done: done})
		}
	}
	return nil
}

// inode reads and verifies a content object.
func (m *composefsMaker) inode(ctx context.Context, object Checksum, verity *composefs.Verity, buf []byte) (in composefs.Inode, err error) {
	o, err := m.repo.openContent(ctx, object)
	if err != nil {
		return in, &Error{Op: "read", Target: objectName(TypeFile, object), Err: err}
	}
	f := o.file
	in = composefs.Inode{Mode: f.Mode, UID: f.UID, GID: f.GID, Xattrs: composefsXattrs(f.Xattrs), Target: f.Target}
	if f.Mode&ModeType == ModeSymlink {
		defer o.Close()
		if err := f.verifyHeader(object); err != nil {
			return in, &Error{Op: "read", Target: objectName(TypeFile, object), Err: err}
		}
		return in, nil
	}
	body := o.body(ctx, object)
	defer body.Close()
	size, err := io.CopyBuffer(verity, struct{ io.Reader }{body}, buf)
	digest := verity.Sum()
	if err != nil || size == 0 {
		return in, err
	}
	in.Size, in.Object = size, object
	if !m.opts.NoVerity {
		in.Verity = digest
	}
	return in, nil
}

func composefsXattrs(xattrs []Xattr) []composefs.Xattr {
	list := make([]composefs.Xattr, len(xattrs))
	for i, x := range xattrs {
		list[i] = composefs.Xattr(x)
	}
	return list
}
