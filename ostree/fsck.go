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
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// FsckOptions configures [Repo.Fsck]. Nil is the zero value.
type FsckOptions struct {
	// Workers is how many objects are read at once, at most 64. 0: GOMAXPROCS.
	Workers int
	// Progress gets Phase "objects" with the objects done so far and in all.
	Progress func(Event)
}

// Fsck checks the repository: every ref names a commit that is there; every
// object, used or not, has the bytes that its checksum is of; names, modes,
// order and format are as this package would write them; and everything that a
// commit names, and what that names, is there or in the parent repository, which
// is not checked itself. A commit that is marked partial (see [Repo.Partial]) may
// lack objects; its parents may be absent.
//
// All faults come joined, sorted; each wraps [ErrCorrupt] and is an *[Error]
// that names the ref or object. Other errors end the check at once.
func (r *Repo) Fsck(ctx context.Context, opts *FsckOptions) error {
	if opts == nil {
		opts = &FsckOptions{}
	}
	workers := opts.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	if workers < 0 || workers > maxWorkers {
		return &Error{Op: "fsck", Target: r.path, Err: fmt.Errorf("%d workers, want 0 to %d", workers, maxWorkers)}
	}
	f := &fsck{repo: r, opts: opts, objects: make(map[claimKey]struct{}), broken: make(map[claimKey]struct{})}
	err := f.run(ctx, workers)
	if err != nil {
		return &Error{Op: "fsck", Target: r.path, Err: err}
	}
	slices.SortStableFunc(f.faults, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return errors.Join(f.faults...)
}

type fsck struct {
	repo    *Repo
	opts    *FsckOptions
	objects map[claimKey]struct{} // what is there
	done    atomic.Int64

	mu     sync.Mutex
	faults []error
	broken map[claimKey]struct{} // objects that are damaged or missing
}

// fault records what is wrong with target, or gives back an error that is none
// of the repository's content.
func (f *fsck) fault(target string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var inner *Error
	if errors.As(err, &inner) && inner.Op == "read" {
		err = inner.Err
	}
	if !errors.Is(err, ErrCorrupt) {
		err = corrupt(err)
	}
	f.mu.Lock()
	f.faults = append(f.faults, &Error{Op: "fsck", Target: target, Err: err})
	f.mu.Unlock()
	return nil
}

func (f *fsck) run(ctx context.Context, workers int) error {
	list, err := f.list(ctx)
	if err != nil {
		return err
	}
	// Every object alone.
	group, gctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range workers {
		group.Go(func() error {
			buf := make([]byte, 256<<10)
			for {
				i := int(next.Add(1)) - 1
				if i >= len(list) {
					return nil
				}
				if err := f.object(gctx, list[i], buf); err != nil {
					return err
				}
				if done := f.done.Add(1); f.opts.Progress != nil && (done%256 == 0 || done == int64(len(list))) {
					f.opts.Progress(Event{Step: "fsck", Phase: "objects", Done: done, Total: int64(len(list))})
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	// What names what.
	seen := make(map[claimKey]struct{})
	for _, key := range list {
		if key.kind != TypeCommit {
			continue
		}
		if partial, err := f.repo.Partial(ctx, key.sum); err != nil {
			return err
		} else if partial {
			continue
		}
		c, err := f.repo.ReadCommit(ctx, key.sum)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue // a fault that is known already
		}
		by := objectName(TypeCommit, key.sum)
		if err := f.named(ctx, TypeDirMeta, c.RootMeta, by); err != nil {
			return err
		}
		if err := f.tree(ctx, c.RootTree, by, 0, seen); err != nil {
			return err
		}
	}
	return f.refs(ctx)
}

// list gives the objects that are there, sorted.
func (f *fsck) list(ctx context.Context) ([]claimKey, error) {
	list, err := f.repo.listObjects(ctx, f.fault)
	for _, key := range list {
		f.objects[key] = struct{}{}
	}
	return list, err
}

// listObjects gives the repository's own objects, sorted. Files whose names are
// none of an object are given to bad.
func (r *Repo) listObjects(ctx context.Context, bad func(name string, err error) error) ([]claimKey, error) {
	kinds := map[string]ObjectType{r.ext(TypeFile): TypeFile}
	for _, t := range []ObjectType{TypeDirTree, TypeDirMeta, TypeCommit, TypeCommitMeta, TypeFileXattrs, TypeFileXattrsLink} {
		kinds[t.String()] = t
	}
	var list []claimKey
	for i := range 256 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		dir := fmt.Sprintf("%02x", i)
		entries, err := readNames(r.objects, dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name, ext, _ := strings.Cut(e.Name(), ".")
			kind, ok := kinds[ext]
			if !ok {
				continue // kinds of objects that this package doesn't know
			}
			c, err := ParseChecksum(dir + name)
			if err != nil {
				if err := bad("objects/"+dir+"/"+e.Name(), err); err != nil {
					return nil, err
				}
				continue
			}
			list = append(list, claimKey{kind, c})
		}
	}
	slices.SortFunc(list, func(a, b claimKey) int {
		return cmp.Or(slices.Compare(a.sum[:], b.sum[:]), cmp.Compare(a.kind, b.kind))
	})
	return list, nil
}

// object checks one object alone.
func (f *fsck) object(ctx context.Context, key claimKey, buf []byte) error {
	var err error
	switch key.kind {
	case TypeFile:
		err = f.content(ctx, key.sum, buf)
	case TypeDirTree:
		_, err = f.repo.ReadDirTree(ctx, key.sum)
	case TypeDirMeta:
		_, err = f.repo.ReadDirMeta(ctx, key.sum)
	case TypeCommit:
		_, err = f.repo.ReadCommit(ctx, key.sum)
	case TypeCommitMeta:
		_, err = f.repo.ReadMetadata(ctx, key.sum)
	case TypeFileXattrs, TypeFileXattrsLink:
		err = f.xattrs(key)
	}
	if err != nil {
		return f.faulty(key, err)
	}
	return nil
}

// faulty records what is wrong with an object.
func (f *fsck) faulty(key claimKey, err error) error {
	if err := f.fault(objectName(key.kind, key.sum), err); err != nil {
		return err
	}
	f.mu.Lock()
	f.broken[key] = struct{}{}
	f.mu.Unlock()
	return nil
}

func (f *fsck) content(ctx context.Context, c Checksum, buf []byte) error {
	o, err := f.repo.openContent(ctx, c)
	if err != nil {
		return err
	}
	if o.file.Mode&ModeType == ModeSymlink {
		o.Close()
		return o.file.verifyHeader(c)
	}
	body := o.body(ctx, c)
	defer body.Close()
	for {
		if _, err := body.Read(buf); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// xattrs checks an object of attributes.
func (f *fsck) xattrs(key claimKey) error {
	data, err := readFileAt(f.repo.objects, f.repo.objectPath(key.kind, key.sum), maxHeaderSize)
	if err != nil {
		return err
	}
	if got := sum(data); key.kind == TypeFileXattrs && got != key.sum {
		return corruptf("checksum is %s", got)
	}
	_, err = decodeXattrs(data)
	return err
}

// named checks that an object is there. One that isn't is one fault, however
// many name it.
func (f *fsck) named(ctx context.Context, kind ObjectType, c Checksum, by string) error {
	if _, ok := f.objects[claimKey{kind, c}]; !ok {
		f.objects[claimKey{kind, c}] = struct{}{}
		if f.repo.parent != nil {
			if ok, err := f.repo.parent.Has(ctx, kind, c); err != nil || ok {
				return err
			}
		}
		return f.faulty(claimKey{kind, c}, corruptf("is missing; %s names it", by))
	}
	return nil
}

// tree checks what a dirtree names, each only once.
func (f *fsck) tree(ctx context.Context, c Checksum, by string, depth int, seen map[claimKey]struct{}) error {
	key := claimKey{TypeDirTree, c}
	if _, ok := seen[key]; ok {
		return nil
	}
	seen[key] = struct{}{}
	if err := f.named(ctx, TypeDirTree, c, by); err != nil {
		return err
	}
	if depth > maxDepth {
		return f.fault(objectName(TypeDirTree, c), corruptf("directories nest deeper than %d", maxDepth))
	}
	d, err := f.repo.ReadDirTree(ctx, c)
	if err != nil {
		return ctx.Err() // else a fault that is known already
	}
	by = objectName(TypeDirTree, c)
	for i := range d.Files {
		if err := f.named(ctx, TypeFile, d.Files[i].Object, by); err != nil {
			return err
		}
	}
	for i := range d.Dirs {
		if err := f.named(ctx, TypeDirMeta, d.Dirs[i].Meta, by); err != nil {
			return err
		}
		if err := f.tree(ctx, d.Dirs[i].Tree, by, depth+1, seen); err != nil {
			return err
		}
	}
	return nil
}

// refs checks that every ref names a commit.
func (f *fsck) refs(ctx context.Context) error {
	return f.repo.eachRef(ctx, func(name string, c Checksum, err error) error {
		if err == nil {
			if _, ok := f.objects[claimKey{TypeCommit, c}]; ok {
				return nil
			}
			var there bool
			if there, err = f.repo.Has(ctx, TypeCommit, c); err == nil && !there {
				err = corruptf("names commit %s, which is missing", c)
			}
		}
		if err != nil {
			return f.fault(name, err)
		}
		return nil
	})
}
