package ostree

import (
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/internal/unix"
)

// inodes finds content objects by the files that hold them.
type inodes map[inodeID]Checksum

type inodeID struct{ dev, ino uint64 }

func (m inodes) find(id FileID) (Checksum, bool) {
	c, ok := m[inodeID{id.Dev, id.Ino}]
	return c, ok
}

// inodes lists the content objects that files of a checkout may be hard links
// to: of an archive repository none.
func (t *txn) inodes(ctx context.Context) (inodes, error) {
	if t.repo.settings.mode == ModeArchive {
		return nil, nil
	}
	type object struct {
		id  inodeID
		sum Checksum
	}
	var folders [256][]object
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(min(runtime.GOMAXPROCS(0), maxWorkers))
	for i := range folders {
		group.Go(func() error {
			if err := gctx.Err(); err != nil {
				return err
			}
			return t.present.fill(i, func(sum Checksum, id inodeID) { folders[i] = append(folders[i], object{id, sum}) })
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	n := 0
	for i := range folders {
		n += len(folders[i])
	}
	all := make(inodes, n)
	for i := range folders {
		for _, o := range folders[i] {
			all[o.id] = o.sum
		}
	}
	return all, nil
}

// fill lists one two-digit folder and gives what holds its content objects.
func (p *present) fill(folder int, content func(Checksum, inodeID)) error {
	f := &p.folders[folder]
	f.Lock()
	defer f.Unlock()
	known, same := false, false
	var dir unix.Stat_t
	var err error
	f.names, err = p.list(fmt.Sprintf("%02x", folder), func(o *listed) error {
		if o.key.kind != TypeFile {
			return nil
		}
		if !known {
			if err := unix.Fstat(o.dir, &dir); err != nil {
				return pathError("stat", "objects/"+o.folder, err)
			}
			known, same = true, direntInodes(o.dir)
		}
		id := inodeID{uint64(dir.Dev), o.ino} // what is in a folder has its device
		if !same {
			var st unix.Stat_t
			if err := retry(func() error { return unix.Fstatat(o.dir, string(o.name), &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
				return pathError("stat", o.path(), err)
			}
			id = inodeID{uint64(st.Dev), st.Ino}
		}
		content(o.key.sum, id)
		return nil
	})
	return err
}

// readLinked fills in what a hard link has of its object.
func (b *builder) readLinked(ctx context.Context, e *Entry) error {
	f, err := b.repo.readFile(ctx, e.Object)
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", objectName(TypeFile, e.Object), err)
	}
	linked := fileEntry(e.Path, e.Object, f)
	linked.Detached = true
	*e = linked
	return nil
}
