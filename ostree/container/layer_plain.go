package container

import (
	"context"
	"io"

	"github.com/okd-project/okd-streams/internal/ostreetar"
	"github.com/okd-project/okd-streams/ostree"
)

// writePlain writes the layer as that of an image that is no commit: files at
// their paths, the first of an object with its content and the others as hard
// links to it, below the directories that they need; the first layer has all
// directories.
func (l *layerPlan) writePlain(ctx context.Context, w *ostreetar.Writer) error {
	s := l.snapshot
	directory := func(d int32, path string) error {
		m := s.metas[s.dirs[d].meta]
		meta, err := ostree.DecodeDirMeta(m.raw)
		if err != nil {
			return err
		}
		if err := w.Xattrs(tarXattrs(meta.Xattrs)); err != nil {
			return err
		}
		return w.Directory(path, m.uid, m.gid, m.mode)
	}
	if l.commit {
		for i := range s.dirs {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			if err := directory(int32(i), "./"+ostreetar.ImagePath(s.dirs[i].path)); err != nil {
				return err
			}
		}
	}
	dirs := l.newDirs()
	for _, o := range l.objects {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		linked := false
		for _, f := range o.files {
			for _, d := range dirs.before(f) {
				if err := directory(d, ostreetar.ImagePath(s.dirs[d].path)); err != nil {
					return err
				}
			}
			path := ostreetar.ImagePath(s.path(f))
			if linked {
				if err := w.Path(path); err != nil {
					return err
				}
				continue
			}
			err := l.open(ctx, o.object, func(o *ostreetar.Object, content io.Reader) error {
				linked = !o.Symlink // a link to a symbolic link is more than tools can make
				return w.File(path, o, content)
			})
			if err != nil {
				return err
			}
		}
	}
	return w.Close()
}
