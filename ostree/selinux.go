package ostree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/selinux"
)

// Policy is the SELinux policy of a tree: the label of every path in it. It is
// safe for concurrent use.
type Policy struct {
	// Epoch is how /usr/etc is labelled, which a booted system shows as /etc: 0,
	// as any other directory, which is what `ostree commit` does; 1, as if it were
	// /etc, as its --selinux-labeling-epoch=1 of 2024 does. It is set before the
	// first use.
	Epoch int

	policy *selinux.Policy
}

// ReadPolicy reads the policy that etc/selinux/config in fsys names, or
// usr/etc/selinux/config where there is no etc/selinux: [os.Root.FS] of a
// directory, [Repo.FS] of a commit. A tree without policy, or one that does not
// enable SELinux, is an error that wraps [fs.ErrNotExist]; patterns that only
// libselinux can match are one that wraps [errors.ErrUnsupported] and names file
// and line. At most 32 MiB of each file are read.
func ReadPolicy(fsys fs.FS) (*Policy, error) {
	p, err := selinux.Read(fsys)
	if err != nil {
		return nil, &Error{Op: "read policy", Target: "etc/selinux", Err: err}
	}
	return &Policy{policy: p}, nil
}

// TreePolicy is [ReadPolicy] for a tree that is no file system, such as an
// [Overlay] or a container's image. The tree is walked once: not for [Tar], of
// which nothing would be left to commit, unless it is read again. Links to files of
// the policy are not followed.
func TreePolicy(ctx context.Context, src Tree) (*Policy, error) {
	files := make(policyFiles)
	outside := prune{
		test:   func(path string) bool { return !wayToPolicy(path) && !inPolicy(path) },
		report: func(string) {},
	}
	for e, err := range entriesWithout(ctx, src, outside) {
		if err == nil {
			err = files.put(ctx, &e)
		}
		if err != nil {
			return nil, &Error{Op: "read policy", Target: "etc/selinux", Err: err}
		}
	}
	return ReadPolicy(files)
}

// Name is the policy's name, as "targeted".
func (p *Policy) Name() string { return p.policy.Name() }

// Label gives the label of a path, as [Entry.Path]; of mode, as [Entry.Mode], the
// file type counts. "" says that the policy has none for it.
func (p *Policy) Label(path string, mode uint32) (string, error) {
	name := "/"
	switch {
	case path == ".":
	case path == "proc":
		name = "/mnt" // as libostree: the policy has none for what is a mount point
	case p.Epoch == 1 && below(path, "usr/etc"):
		name = strings.TrimPrefix(path, "usr")
	default:
		name += path
	}
	return p.policy.Lookup(name, mode)
}

// labelXattr is where Linux keeps a file's label, with a NUL at its end.
const labelXattr = "security.selinux"

// labelled gives xattrs with the label of a path. Where the policy has none they
// stay as they are.
func (p *Policy) labelled(path string, mode uint32, xattrs []Xattr) ([]Xattr, error) {
	label, err := p.Label(path, mode)
	if err != nil || label == "" {
		return xattrs, err
	}
	value := label + "\x00"
	out := make([]Xattr, 0, len(xattrs)+1)
	for _, x := range xattrs {
		if x.Name == labelXattr {
			if string(x.Value) == value {
				return xattrs, nil
			}
			continue
		}
		out = append(out, x)
	}
	return append(out, Xattr{Name: labelXattr, Value: []byte(value)}), nil
}

// checkLabels refuses labels where objects could not keep them.
func (o *CommitOptions) checkLabels(r *Repo) error {
	switch mode := r.settings.mode; {
	case o.SELinux == nil:
		return nil
	case o.SELinux.Epoch < 0 || o.SELinux.Epoch > 1:
		return fmt.Errorf("SELinux labels of epoch %d, want 0 or 1: %w", o.SELinux.Epoch, errors.ErrUnsupported)
	case mode == ModeBareUserOnly, mode == ModeBare && r.settings.noXattrs:
		return fmt.Errorf("SELinux labels in a repository that keeps no extended attributes: %w", errors.ErrUnsupported)
	}
	return nil
}

// label applies [CommitOptions].SELinux to an entry.
func (b *builder) label(e *Entry) error {
	if b.opts.SELinux == nil {
		return nil
	}
	xattrs, err := b.opts.SELinux.labelled(e.Path, e.Mode, e.Xattrs)
	if err != nil {
		return err
	}
	if !equalXattrs(xattrs, e.Xattrs) {
		e.Xattrs, e.Object = xattrs, Checksum{}
	}
	return nil
}

// wayToPolicy reports whether a policy may be below a directory.
func wayToPolicy(path string) bool {
	return path == "." || path == "etc" || path == "usr" || path == "usr/etc"
}

// inPolicy reports whether path is an etc/selinux or below one.
func inPolicy(path string) bool { return below(path, "etc/selinux") || below(path, "usr/etc/selinux") }

// policyFiles are the files of a policy by path, as an [fs.FS] that has no more
// than reading them needs. Directories are empty files.
type policyFiles map[string][]byte

// maxPolicyFiles bounds the bytes of all of them.
const maxPolicyFiles = 128 << 20

// put notes what an entry brings.
func (p policyFiles) put(ctx context.Context, e *Entry) error {
	if e.Link != "" {
		if data, ok := p[e.Link]; ok {
			p[e.Path] = data
			return nil
		}
	}
	if e.Mode&ModeType == ModeDir && e.Link == "" {
		if inPolicy(e.Path) {
			p[e.Path] = nil
		}
		return nil
	}
	for path := range p { // what is no directory takes the place of all below
		if below(path, e.Path) {
			delete(p, path)
		}
	}
	name := e.Path[strings.LastIndexByte(e.Path, '/')+1:]
	if !inPolicy(e.Path) || name != "config" && !strings.HasPrefix(name, "file_contexts") {
		return nil
	}
	if e.Link != "" || e.Mode&ModeType != ModeRegular {
		return fmt.Errorf("%s is not a regular file: %w", quoted(e.Path), errors.ErrUnsupported)
	}
	if strings.HasSuffix(name, ".bin") || e.Open == nil {
		p[e.Path] = nil
		return nil
	}
	total := e.Size
	for _, data := range p {
		total += int64(len(data))
	}
	if e.Size < 0 || total > maxPolicyFiles {
		return fmt.Errorf("%s: the policy has more than %d bytes", quoted(e.Path), maxPolicyFiles)
	}
	body, err := e.Open(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, e.Size+1))
	if err != nil {
		return fmt.Errorf("%s: %w", quoted(e.Path), err)
	}
	if int64(len(data)) != e.Size {
		return fmt.Errorf("%s does not have its %d bytes: %w", quoted(e.Path), e.Size, io.ErrUnexpectedEOF)
	}
	p[e.Path] = data
	return nil
}

// Open implements [fs.FS].
func (p policyFiles) Open(name string) (fs.File, error) {
	data, ok := p[name]
	if !ok {
		return nil, fsError("open", name, fs.ErrNotExist)
	}
	return &policyFile{bytes.NewReader(data), name}, nil
}

type policyFile struct {
	*bytes.Reader
	name string
}

func (f *policyFile) Close() error               { return nil }
func (f *policyFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f *policyFile) Name() string               { return f.name[strings.LastIndexByte(f.name, '/')+1:] }
func (f *policyFile) Mode() fs.FileMode          { return 0o444 }
func (f *policyFile) ModTime() time.Time         { return time.Time{} }
func (f *policyFile) IsDir() bool                { return false }
func (f *policyFile) Sys() any                   { return nil }
