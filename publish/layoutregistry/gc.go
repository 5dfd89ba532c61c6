package layoutregistry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/ociimage"
	"github.com/okd-project/okd-streams/internal/unix"
	"github.com/okd-project/okd-streams/publish"
)

// GCOptions say what [Registry.GC] removes.
type GCOptions struct {
	// Now is the time that ages are counted to. Required.
	Now time.Time
	// Grace is how long something that nothing names is kept; 0: 24 hours. It
	// must be longer than the slowest write takes, from its first blob to its
	// tag, and the slowest pull of an image that lost its tag meanwhile.
	Grace time.Duration
	// KeepUntagged keeps all manifests that have no tag, and what they name.
	KeepUntagged bool
	// Keep, if not nil, is asked for each manifest without a tag that is old
	// enough to go: true keeps it, and what it names. It is for images that are
	// named by digest from elsewhere, such as the components of a payload.
	Keep func(repository string, manifest v1.Descriptor) bool
	// Repositories are collected alone; none: all there are.
	Repositories []name.Repository
	// DryRun removes nothing.
	DryRun bool
	// Removed, if not nil, is called for each file that is, or with DryRun
	// would be, removed; from one goroutine.
	Removed func(Garbage)
}

const defaultGrace = 24 * time.Hour

// Garbage is one file that [Registry.GC] removes.
type Garbage struct {
	Repository string // path
	// Digest is of the manifest or blob; zero for what a killed writer left.
	Digest   v1.Hash
	File     string // path below the repository's folder
	Size     int64  // bytes
	Manifest bool   // an untagged manifest, or a referrer of one
}

// GCReport sums up what was removed or, in a dry run, would be.
type GCReport struct {
	Repositories int // looked at
	Manifests    int
	Blobs        int // all other files
	// Bytes are those of all files removed. A file that another repository or
	// a cache links too frees its space only with its last name.
	Bytes int64
}

// GC removes what nothing needs: manifests that have no tag, that no kept
// index names and that do not refer to a kept manifest; the blobs that no kept
// manifest names; and the leavings of killed writers. All that only once it is
// older than the grace period, counted from the last change (ctime) of the
// file: a manifest that loses its tag, and a blob that a writer finds there and
// counts on, begin anew.
//
// It works under the lock of one repository after the other, beside writers and
// readers in any process. A writer whose blob went after all notices, for
// manifests are written under the same lock; a reader of an image that lost its
// tag longer ago than the grace period gets [io/fs.ErrNotExist]. index.json is
// replaced before anything that it named is removed, so wherever it is killed,
// a valid layout is left and the next collection removes the rest.
//
// A manifest that is needed but cannot be read, because it is damaged, would
// hide what it names: the repository is left as it is then. Errors of several
// repositories are joined; the report is valid beside them.
func (r *Registry) GC(ctx context.Context, opts *GCOptions) (GCReport, error) {
	var report GCReport
	if opts == nil || opts.Now.IsZero() {
		return report, &publish.Error{Op: "collect garbage", Target: r.dir, Err: errors.New("no time is given to count ages to")}
	}
	if opts.Grace < 0 {
		return report, &publish.Error{Op: "collect garbage", Target: r.dir, Err: fmt.Errorf("grace period of %v", opts.Grace)}
	}
	repositories := opts.Repositories
	if len(repositories) == 0 {
		for repo, err := range r.Repositories(ctx, name.Registry{}) {
			if err != nil {
				return report, err
			}
			repositories = append(repositories, repo)
		}
	}
	var errs []error
	for _, repo := range repositories {
		if err := r.collect(ctx, repo, opts, &report); err != nil {
			errs = append(errs, fail("collect garbage", target(repo.RepositoryStr()), err))
			if ctx.Err() != nil {
				break
			}
		}
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "collected garbage", slog.Int("repositories", report.Repositories),
		slog.Int("manifests", report.Manifests), slog.Int("blobs", report.Blobs), slog.Int64("bytes", report.Bytes), slog.Bool("dryRun", opts.DryRun))
	return report, errors.Join(errs...)
}

func (r *Registry) collect(ctx context.Context, repo name.Repository, opts *GCOptions, report *GCReport) error {
	w, err := r.existing(ctx, repo)
	if err != nil {
		return err
	}
	defer w.close()
	unlock, err := w.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	x, err := w.readIndex()
	if err != nil {
		return err
	}
	grace := opts.Grace
	if grace == 0 {
		grace = defaultGrace
	}
	g := &collection{folder: w, repository: repo.RepositoryStr(), opts: opts, before: opts.Now.Add(-grace), index: x, report: report}
	report.Repositories++
	if err := g.list(); err != nil {
		return err
	}
	if err := g.mark(ctx); err != nil {
		return err
	}
	return g.sweep(ctx)
}

// collection is one run over one repository.
type collection struct {
	*folder
	repository string
	opts       *GCOptions
	before     time.Time // what changed last before it is old
	index      *index
	files      map[v1.Hash]*file
	report     *GCReport
}

// file is one blob that is there.
type file struct {
	size     int64
	old      bool
	needed   bool
	manifest bool // known to be one
}

// list finds the blobs. What is no regular file of a digest's name is left alone.
func (g *collection) list() error {
	g.files = map[v1.Hash]*file{}
	for _, algorithm := range []string{"sha256", "sha512"} {
		names, err := g.names(filepath.Join(blobsDir, algorithm))
		if err != nil {
			return err
		}
		for _, text := range names {
			h, err := v1.NewHash(algorithm + ":" + text)
			if err != nil {
				continue
			}
			info, err := g.root.Lstat(blobPath(h))
			if err != nil {
				return err
			}
			if info.Mode().IsRegular() {
				g.files[h] = &file{size: info.Size(), old: changed(info).Before(g.before)}
			}
		}
	}
	return nil
}

// names lists a folder; one that is missing is empty.
func (l *layout) names(dir string) ([]string, error) {
	f, err := l.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // removed meanwhile
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

// changed is when a file last changed in any way: also by a new name.
func changed(info fs.FileInfo) time.Time {
	if sys, ok := unix.InfoOf(info); ok {
		return sys.Ctime
	}
	return info.ModTime()
}

// mark finds what is needed: from the manifests that stay, everything that they
// name and, again and again, what refers to it.
func (g *collection) mark(ctx context.Context) error {
	var roots, rest []v1.Descriptor
	for _, e := range g.index.entries {
		f := g.files[e.desc.Digest]
		switch {
		case f == nil: // nothing to keep
		case e.subject() != "":
			f.needed = true // the list, for now; not what is on it
			list, err := g.referrerList(e.desc)
			if err != nil {
				return err
			}
			rest = append(rest, list...)
		case e.tag != "" || g.opts.KeepUntagged || !f.old:
			roots = append(roots, e.desc)
		default:
			rest = append(rest, e.desc)
		}
	}
	// Who refers to what, among those that nothing else keeps.
	referrers := map[v1.Hash][]v1.Descriptor{}
	seen := map[v1.Hash]bool{}
	for _, d := range rest {
		f := g.files[d.Digest]
		if f == nil || seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		f.manifest = true
		if g.opts.KeepUntagged || !f.old || g.opts.Keep != nil && g.opts.Keep(g.repository, d) {
			roots = append(roots, d)
			continue
		}
		c, err := g.content(d)
		if err != nil {
			return err
		}
		if c != nil && c.Subject != nil {
			referrers[c.Subject.Digest] = append(referrers[c.Subject.Digest], d)
		}
	}
	visited := map[v1.Hash]bool{}
	level := roots
	for len(level) > 0 {
		var next []v1.Descriptor
		for _, d := range level {
			if err := ctx.Err(); err != nil {
				return err
			}
			f := g.files[d.Digest]
			if f == nil || visited[d.Digest] {
				continue
			}
			visited[d.Digest] = true
			f.needed = true
			next = append(next, referrers[d.Digest]...)
			c, err := g.content(d)
			if err != nil {
				return err
			}
			if c == nil {
				continue
			}
			for _, b := range c.Blobs {
				if f := g.files[b.Digest]; f != nil {
					f.needed = true
				}
			}
			for _, child := range c.Children {
				if g.files[child.Digest] != nil && !visited[child.Digest] {
					next = append(next, child)
				}
			}
		}
		level = next
	}
	return nil
}

// content decodes a manifest; nil for what is something else, such as a file
// that a layout's index may name too.
func (g *collection) content(d v1.Descriptor) (*ociimage.Content, error) {
	if d.MediaType != "" && !d.MediaType.IsIndex() && !d.MediaType.IsImage() {
		return nil, nil
	}
	raw, err := g.manifest(d)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	c, err := ociimage.Decode(raw, d.MediaType)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	return c, nil
}

// sweep removes what is not needed and old.
func (g *collection) sweep(ctx context.Context) error {
	gone := func(h v1.Hash) bool {
		f := g.files[h]
		return f == nil || !f.needed && f.old
	}
	before := len(g.index.entries)
	g.index.entries = slices.DeleteFunc(g.index.entries, func(e entry) bool {
		return e.subject() == "" && e.tag == "" && !g.opts.KeepUntagged && gone(e.desc.Digest)
	})
	lists := map[v1.Hash]bool{}
	for _, e := range g.index.entries {
		if e.subject() != "" {
			lists[e.desc.Digest] = true
		}
	}
	if !g.opts.DryRun {
		if err := g.removeReferrers(g.index, gone); err != nil {
			return err
		}
		still := map[v1.Hash]bool{}
		for _, e := range g.index.entries {
			still[e.desc.Digest] = true
			delete(lists, e.desc.Digest)
		}
		if len(g.index.entries) != before || len(lists) > 0 {
			if err := g.writeIndex(g.index); err != nil {
				return err
			}
		}
		for h := range lists {
			// A list that was replaced stays for who read the old index.json.
			g.touch(h)
		}
	}
	var digests []v1.Hash
	for h := range g.files {
		if gone(h) {
			digests = append(digests, h)
		}
	}
	slices.SortFunc(digests, func(a, b v1.Hash) int { return strings.Compare(a.String(), b.String()) })
	for _, h := range digests {
		if err := ctx.Err(); err != nil {
			return err
		}
		f := g.files[h]
		if err := g.remove(Garbage{Digest: h, File: blobPath(h), Size: f.size, Manifest: f.manifest}); err != nil {
			return err
		}
	}
	return g.leavings()
}

// leavings removes what killed writers left: ours have the folder .tmp, and
// publish/registryserver has _uploads; olareg also index.json.NUMBER.
func (g *collection) leavings() error {
	if !g.opts.DryRun {
		if err := g.clean(); err != nil {
			return err
		}
	}
	const uploads = "_uploads"
	names, err := g.names(uploads)
	if err != nil {
		return err
	}
	for i := range names {
		names[i] = filepath.Join(uploads, names[i])
	}
	top, err := g.names(".")
	if err != nil {
		return err
	}
	for _, name := range top {
		if strings.HasPrefix(name, indexFile+".") {
			names = append(names, name)
		}
	}
	for _, name := range names {
		info, err := g.root.Lstat(name)
		if err != nil || !info.Mode().IsRegular() || !changed(info).Before(g.before) {
			continue
		}
		if err := g.remove(Garbage{File: name, Size: info.Size()}); err != nil {
			return err
		}
	}
	return nil
}

// remove removes one file, unless someone came to count on it meanwhile.
func (g *collection) remove(what Garbage) error {
	what.Repository = g.repository
	if !g.opts.DryRun {
		info, err := g.root.Lstat(what.File)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !changed(info).Before(g.before) {
			return nil
		}
		if err == nil {
			err = g.root.Remove(what.File)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if what.Manifest {
		g.report.Manifests++
	} else {
		g.report.Blobs++
	}
	g.report.Bytes += what.Size
	if g.opts.Removed != nil {
		g.opts.Removed(what)
	}
	return nil
}
