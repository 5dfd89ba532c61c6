package ostree

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// ExportOptions configures [Repo.Export]. Nil is the zero value.
type ExportOptions struct {
	// Subpath is the directory of the commit to export, slash-separated. "": all.
	Subpath string
	// Prefix comes before every name. "": none, the root is "./".
	Prefix string
	// SkipXattrs leaves extended attributes out.
	SkipXattrs bool
	// HardLinks writes a file whose object came before as a hard link to that
	// name, as libostree does since 2023; else every file has its content.
	HardLinks bool
}

// Export writes a commit's tree to w as a tar stream, in the order of
// [Repo.Tree] (`ostree export` has a directory's files first): the names, modes,
// owners and times (the commit's) that `ostree export` gives. Attributes are in PAX records, SCHILY.xattr.NAME, which `ostree
// export` leaves out; [Tar] reads them. The same commit and options always give
// the same bytes. Content is verified before its end is written.
func (r *Repo) Export(ctx context.Context, w io.Writer, commit Checksum, opts *ExportOptions) error {
	if opts == nil {
		opts = &ExportOptions{}
	}
	if err := r.export(ctx, w, commit, opts); err != nil {
		if inner, ok := errors.AsType[*Error](err); ok && inner.Op == "export" {
			return err
		}
		return &Error{Op: "export", Target: commit.String(), Err: err}
	}
	return nil
}

func (r *Repo) export(ctx context.Context, w io.Writer, commit Checksum, opts *ExportOptions) error {
	c, err := r.ReadCommit(ctx, commit)
	if err != nil {
		return err
	}
	tree, meta, err := r.subpath(ctx, c, opts.Subpath)
	if err != nil {
		return err
	}
	if strings.ContainsRune(opts.Prefix, 0) {
		return fmt.Errorf("prefix %.80q contains NUL", opts.Prefix)
	}
	x := &exporter{opts: opts, time: c.Timestamp, out: tar.NewWriter(w), buf: make([]byte, 256<<10), seen: make(map[Checksum]string)}
	r.walk(ctx, ".", tree, meta, 0, maxDepth+1, func(e Entry, err error) bool {
		if err == nil {
			if err = x.entry(ctx, &e); err != nil {
				err = &Error{Op: "export", Target: quoted(e.Path), Err: err}
			}
		}
		x.err = err
		return err == nil
	})
	if x.err != nil {
		return x.err
	}
	return x.out.Close()
}

type exporter struct {
	opts *ExportOptions
	time time.Time
	out  *tar.Writer
	buf  []byte
	seen map[Checksum]string
	err  error
}

func (x *exporter) entry(ctx context.Context, e *Entry) error {
	name := x.opts.Prefix + e.Path
	if e.Path == "." {
		if name = x.opts.Prefix; name == "" {
			name = "./"
		}
	}
	h := &tar.Header{Name: name, Mode: int64(e.Mode & 0o7777), Uid: int(e.UID), Gid: int(e.GID), ModTime: x.time}
	if !x.opts.SkipXattrs {
		for _, a := range e.Xattrs {
			if strings.Contains(a.Name, "=") {
				return fmt.Errorf("attribute %.80q can't be in a tar header: %w", a.Name, errUnsupported)
			}
			if h.PAXRecords == nil {
				h.PAXRecords = make(map[string]string)
			}
			h.PAXRecords["SCHILY.xattr."+a.Name] = string(a.Value)
		}
	}
	switch e.Mode & ModeType {
	case ModeDir:
		h.Typeflag = tar.TypeDir
		if !strings.HasSuffix(h.Name, "/") {
			h.Name += "/"
		}
		return x.out.WriteHeader(h)
	case ModeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Target
		return x.out.WriteHeader(h)
	}
	if first, ok := x.seen[e.Object]; ok {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return x.out.WriteHeader(h)
	}
	if x.opts.HardLinks {
		x.seen[e.Object] = name
	}
	h.Typeflag, h.Size = tar.TypeReg, e.Size
	if err := x.out.WriteHeader(h); err != nil {
		return err
	}
	body, err := e.Open(ctx)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{x.out}, struct{ io.Reader }{body}, x.buf)
	if e := body.Close(); err == nil {
		err = e
	}
	return err
}
