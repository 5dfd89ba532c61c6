package browse

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/daily"
	"github.com/okd-project/okd-streams/publish/gate"
)

// readers is how many builds of a page are read at once.
const readers = 8

// maxFiles bounds the files that are listed of one architecture of a build.
const maxFiles = 2000

// row is a build on the page of its stream.
type row struct {
	ID, Release string
	Date        time.Time // zero: not known
	Arches      []string
	Tags        []bootimage.BuildTag
	Cleanup     string // what a policy took away, in words
	Gates       []result
	Faults      []string
}

// result is the last one of a gate.
type result struct {
	Gate, State, Reason string
	At                  time.Time
	By                  string
	URL                 string
}

// arch is one architecture of a build.
type arch struct {
	Arch     string
	Meta     *bootimage.Meta // nil: not there
	MetaLink string
	Report   string
	Images   []reference
	Files    []file
	Clouds   []bootimage.Entry
	Fault    string
}

// reference is an image in a registry.
type reference struct{ What, Pullspec string }

// file is an artifact in the store.
type file struct {
	Name, Path, Link, Signature string
	Image                       bootimage.Image
	Gone                        bool
}

// row reads what the page of a stream tells of a build.
func (s *Site) row(ctx context.Context, stream Stream, all *bootimage.Builds, entry bootimage.BuildEntry) (row, []*bootimage.Meta, error) {
	r := row{ID: entry.ID, Arches: slices.Clone(entry.Arches), Cleanup: cleanup(entry)}
	slices.Sort(r.Arches)
	for _, tag := range all.Tags {
		if tag.Target == entry.ID {
			r.Tags = append(r.Tags, tag)
		}
	}
	if claim, err := daily.ClaimOf(ctx, s.store, stream.Bucket, entry.ID); err == nil {
		r.Release, r.Date = claim.Version, claim.Time
	} else if outage(err) {
		return r, nil, err
	} else if !errors.Is(err, fs.ErrNotExist) {
		r.Faults = append(r.Faults, err.Error())
	}
	metas := make([]*bootimage.Meta, len(r.Arches))
	digests := map[string]bool{}
	for i, arch := range r.Arches {
		meta, err := s.meta(ctx, stream, entry.ID, arch)
		if outage(err) {
			return r, nil, err
		}
		if err != nil {
			r.Faults = append(r.Faults, arch+": "+words(err))
			continue
		}
		metas[i] = meta
		if r.Date.IsZero() {
			r.Date = cmp.Or(meta.BuildTimestamp, meta.OSTreeTimestamp)
		}
		if meta.ReleasePayload != nil && meta.ReleasePayload.Digest != "" {
			digests[meta.ReleasePayload.Digest] = true
		}
	}
	r.Date = r.Date.UTC()
	if s.opts.Book.Store == nil {
		return r, metas, nil
	}
	last := map[string]gate.Result{}
	for _, digest := range slices.Sorted(maps.Keys(digests)) {
		results, err := s.opts.Book.Results(ctx, digest)
		if outage(err) {
			return r, nil, err
		}
		if err != nil {
			r.Faults = append(r.Faults, "results of gates: "+words(err))
			continue
		}
		for _, g := range results { // oldest first
			last[g.Gate] = g
			r.Release = cmp.Or(r.Release, g.Subject.Release)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(last)) {
		g := last[name]
		out := result{Gate: name, State: string(g.State), Reason: g.Reason, At: g.At, By: g.By}
		for _, e := range g.Evidence {
			if strings.HasPrefix(e.URL, "https://") || strings.HasPrefix(e.URL, "http://") {
				out.URL = e.URL
				break
			}
		}
		r.Gates = append(r.Gates, out)
	}
	return r, metas, nil
}

// outage says that an error is the store's, and no property of what it holds: a
// page made now would tell people what is not so.
func outage(err error) bool {
	_, ok := errors.AsType[*publish.Error](err)
	return ok && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, publish.ErrDigest)
}

// rows reads several builds at once, in their order.
func (s *Site) rows(ctx context.Context, stream Stream, all *bootimage.Builds, entries []bootimage.BuildEntry) ([]row, error) {
	out, errs := make([]row, len(entries)), make([]error, len(entries))
	var wait sync.WaitGroup
	free := make(chan struct{}, readers)
	for i := range entries {
		free <- struct{}{}
		wait.Go(func() {
			out[i], _, errs[i] = s.row(ctx, stream, all, entries[i])
			<-free
		})
	}
	wait.Wait()
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	return out, errors.Join(errs...)
}

// meta reads the record of one architecture's build.
func (s *Site) meta(ctx context.Context, stream Stream, build, arch string) (*bootimage.Meta, error) {
	key, err := stream.Bucket.Key(bootimage.BucketFile{Kind: bootimage.FileMeta, Build: build, Arch: arch})
	if err != nil {
		return nil, err
	}
	body, _, err := s.store.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	document, err := bootimage.DecodeMeta(body)
	if err := errors.Join(err, body.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return document.Value(), nil
}

// words tells a fault to people: what is not there has no long story.
func words(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "the record is not there"
	}
	return err.Error()
}

// cleanup says what a policy took away of a build.
func cleanup(entry bootimage.BuildEntry) string {
	if entry.PolicyCleanup == nil {
		return ""
	}
	var c bootimage.Cleanup
	if err := json.Unmarshal(entry.PolicyCleanup, &c); err != nil {
		return "something that this page cannot read"
	}
	var parts []string
	if c.CloudUploads {
		parts = append(parts, "images in clouds")
	}
	if c.Images {
		text := "disk images"
		if len(c.ImagesKept) > 0 {
			text += " but " + strings.Join(c.ImagesKept, ", ")
		}
		parts = append(parts, text)
	}
	if c.Containers {
		parts = append(parts, "container images")
	}
	return strings.Join(parts, "; ")
}

// link is the address of an object for a page at the depth; "" if the store has
// none that pages can name.
func (s *Site) link(depth int, stream Stream, key string) string {
	base := s.opts.Files
	if base == "" && len(stream.Bucket.Bases) > 0 {
		base = stream.Bucket.Bases[0] + "/"
	}
	if base == "" {
		return ""
	}
	return address(depth, base) + (&url.URL{Path: key}).EscapedPath()
}

// arch collects one architecture of a build.
func (s *Site) arch(ctx context.Context, depth int, stream Stream, build, name string, meta *bootimage.Meta) (arch, error) {
	out := arch{Arch: name, Meta: meta}
	if s.opts.Reports != nil {
		out.Report = address(depth, s.opts.Reports(stream.Bucket.Stream, build, name))
	}
	key, err := stream.Bucket.Key(bootimage.BucketFile{Kind: bootimage.FileMeta, Build: build, Arch: name})
	if err != nil {
		return out, err
	}
	if meta == nil {
		return out, nil // the row says why
	}
	out.MetaLink = s.link(depth, stream, key)
	for _, r := range []struct {
		what  string
		image *bootimage.ContainerImage
	}{
		{"Release image", meta.ReleasePayload}, {"Node image", meta.OSContainer}, {"Base image", meta.BaseImage},
		{"Extensions image", meta.Extensions}, {"KubeVirt image", meta.KubeVirt},
	} {
		if r.image == nil {
			continue
		}
		pullspec := r.image.Image
		if r.image.Digest != "" {
			pullspec += "@" + r.image.Digest
		}
		out.Images = append(out.Images, reference{r.what, pullspec})
	}
	there, err := s.list(ctx, path.Dir(key)+"/")
	if err != nil {
		return out, err
	}
	if report := path.Dir(key) + "/report.html"; out.Report == "" && there[report] {
		out.Report = s.link(depth, stream, report)
	}
	for _, artifact := range slices.Sorted(maps.Keys(meta.Images)) {
		f := file{Name: artifact, Image: meta.Images[artifact], Path: meta.Images[artifact].Path}
		key, err := stream.Bucket.Key(bootimage.BucketFile{Kind: bootimage.FileArtifact, Build: build, Arch: name, Name: f.Path})
		switch {
		case err != nil:
			f.Gone = true // no name that a file of a build can have
		case there != nil && !there[key]:
			f.Gone = true
		default:
			f.Link = s.link(depth, stream, key)
			if there[key+".sig"] {
				f.Signature = s.link(depth, stream, key+".sig")
			}
		}
		out.Files = append(out.Files, f)
	}
	entries, err := bootimage.MetaEntries(meta, "")
	if err != nil {
		out.Fault = "The images in clouds cannot be read: " + err.Error()
	}
	for _, e := range entries {
		if e.Image != "" {
			out.Clouds = append(out.Clouds, e)
		}
	}
	return out, nil
}

// list gives the keys below a prefix; nil where the store cannot list, or there
// are more than maxFiles.
func (s *Site) list(ctx context.Context, prefix string) (map[string]bool, error) {
	keys := map[string]bool{}
	for info, err := range s.store.List(ctx, prefix) {
		if errors.Is(err, errors.ErrUnsupported) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if len(keys) == maxFiles {
			return nil, nil
		}
		keys[info.Key] = true
	}
	return keys, nil
}
