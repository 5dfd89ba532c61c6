package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/verify"
)

const (
	// maxMounts is how many repositories a mount is tried from.
	maxMounts = 8
	// maxRefused is how many mounts between two repositories may fail in a row
	// before no more are tried.
	maxRefused = 3
	// maxAsked is how many of the transfer's repositories are asked for a blob
	// before it moves.
	maxAsked = 8
)

// placeKey is a blob in all repositories of a host.
type placeKey struct {
	host   string
	digest v1.Hash
}

// place is what is known of a blob at a host. One at a time looks after it, so
// that it moves once.
type place struct {
	busy  chan struct{}
	repos []name.Repository // that have it; changed by who is busy

	asked, done []name.Repository // by a dry run: looked at, in its steps
}

// take waits for the place of a blob.
func (t *transfer) take(ctx context.Context, key placeKey) (*place, error) {
	t.mu.Lock()
	p := t.places[key]
	if p == nil {
		p = &place{busy: make(chan struct{}, 1)}
		t.places[key] = p
	}
	t.mu.Unlock()
	select {
	case p.busy <- struct{}{}:
		return p, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ensure makes sure that a blob is in a repository. doubt says that a manifest
// was refused, so what was found before does not count.
func (t *transfer) ensure(ctx context.Context, repo name.Repository, blob v1.Descriptor, doubt bool) error {
	key := placeKey{repo.RegistryStr(), blob.Digest}
	p, err := t.take(ctx, key)
	if err != nil {
		return err
	}
	defer func() { <-p.busy }()
	step := TransferStep{Action: ActionReuse, Target: repo.Digest(blob.Digest.String()).String(), Digest: blob.Digest.String(), Size: blob.Size}
	if doubt {
		p.repos = slices.DeleteFunc(p.repos, func(r name.Repository) bool { return r == repo })
	} else if slices.Contains(p.repos, repo) {
		return nil // another image's
	}
	asked := doubt || slices.Contains(t.hints[key], repo) || t.same && slices.Contains(t.sources[blob.Digest], repo)
	if asked {
		there, err := t.stat(ctx, repo, blob)
		if err != nil {
			return err
		}
		if there {
			return t.reused(ctx, p, repo, step)
		}
	}
	if doubt {
		// Nor is a mount believed that may be why the manifest was refused.
		return t.move(ctx, p, repo, blob, step)
	}
	if done, err := t.mountAny(ctx, p, repo, blob, t.mounts(p, key, repo), step); done || err != nil {
		return err
	}
	if !asked {
		there, err := t.stat(ctx, repo, blob)
		if err != nil {
			return err
		}
		if there {
			return t.reused(ctx, p, repo, step)
		}
	}
	// A run before this one may have brought it to another repository.
	for _, other := range t.others(key, repo) {
		if slices.Contains(p.repos, other) {
			continue // not mounted from there above
		}
		there, err := t.stat(ctx, other, blob)
		if err != nil {
			continue // what is wrong with it does not keep the blob from moving
		}
		if there {
			p.repos = append(p.repos, other)
			if done, err := t.mountAny(ctx, p, repo, blob, []name.Repository{other}, step); done || err != nil {
				return err
			}
		}
	}
	return t.move(ctx, p, repo, blob, step)
}

// mounts lists repositories from which a blob may be mounted, the likeliest
// first.
func (t *transfer) mounts(p *place, key placeKey, repo name.Repository) []name.Repository {
	var list []name.Repository
	add := func(from ...name.Repository) {
		for _, r := range from {
			if r != repo && r.RegistryStr() == key.host && !slices.Contains(list, r) {
				list = append(list, r)
			}
		}
	}
	add(t.sources[key.digest]...)
	add(p.repos...)
	add(t.hints[key]...)
	add(t.opts.From...)
	return list[:min(len(list), maxMounts)]
}

// mountsFor lists repositories that may hold any blob, for whole images.
func (t *transfer) mountsFor(repo name.Repository) []name.Repository {
	var list []name.Repository
	for _, r := range append(slices.Clone(t.opts.From), t.targets[repo.RegistryStr()]...) {
		if r != repo && r.RegistryStr() == repo.RegistryStr() && !slices.Contains(list, r) {
			list = append(list, r)
		}
	}
	return list[:min(len(list), maxMounts)]
}

// others lists repositories of this transfer that may have a blob from a run
// before: those that need it first.
func (t *transfer) others(key placeKey, repo name.Repository) []name.Repository {
	var list []name.Repository
	for _, r := range append(slices.Clone(t.needed[key]), t.targets[key.host]...) {
		if r != repo && !slices.Contains(list, r) {
			list = append(list, r)
		}
	}
	return list[:min(len(list), maxAsked)]
}

// mountAny mounts from the first repository that works.
func (t *transfer) mountAny(ctx context.Context, p *place, repo name.Repository, blob v1.Descriptor, from []name.Repository, step TransferStep) (bool, error) {
	for _, f := range from {
		pair := [2]string{f.Name(), repo.Name()}
		t.mu.Lock()
		refused := t.refused[pair] >= maxRefused
		t.mu.Unlock()
		if refused {
			continue
		}
		err := t.ask(ctx, repo, func() error { return t.blobs.MountBlob(ctx, repo, blob.Digest, f) })
		t.mu.Lock()
		if t.refused[pair]++; err == nil {
			t.refused[pair] = 0
		}
		t.mu.Unlock()
		if err == nil {
			step.Action, step.From = ActionMount, f.Name()
			t.arrived(p, repo)
			t.event(step, PhaseDone, 0, func(s *TransferTotals) { s.Mounted++; s.MountedBytes += blob.Size })
			return true, t.note(ctx, step)
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		// Whatever speaks against mounting does not speak against moving.
	}
	return false, nil
}

// stat asks whether a repository has a blob.
func (t *transfer) stat(ctx context.Context, repo name.Repository, blob v1.Descriptor) (bool, error) {
	var size int64
	err := t.ask(ctx, repo, func() (err error) {
		size, err = t.blobs.StatBlob(ctx, repo, blob.Digest)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil && size != blob.Size {
		err = &Error{Op: "stat", Target: repo.Digest(blob.Digest.String()).String(), Err: fmt.Errorf("has %d bytes, its manifest says %d: %w", size, blob.Size, ErrDigest)}
	}
	return err == nil, err
}

func (t *transfer) arrived(p *place, repo name.Repository) {
	if !slices.Contains(p.repos, repo) {
		p.repos = append(p.repos, repo)
	}
}

func (t *transfer) reused(ctx context.Context, p *place, repo name.Repository, step TransferStep) error {
	t.arrived(p, repo)
	t.event(step, PhaseDone, 0, func(s *TransferTotals) { s.Reused++; s.ReusedBytes += step.Size })
	return t.note(ctx, step)
}

// move brings a blob's bytes from the source.
func (t *transfer) move(ctx context.Context, p *place, repo name.Repository, blob v1.Descriptor, step TransferStep) error {
	sources := t.sources[blob.Digest]
	if len(sources) == 0 {
		return fmt.Errorf("blob %s: no source: %w", blob.Digest, fs.ErrNotExist)
	}
	step.Action, step.From = ActionMove, sources[0].Name()
	t.event(step, PhaseStarted, 0, nil)
	src := &blobSource{transfer: t, blob: blob, step: step}
	err := t.again(ctx, func(attempt int) error {
		if attempt > 1 {
			// The answer alone may have been lost.
			if there, err := t.stat(ctx, repo, blob); err != nil || there {
				return err
			}
		}
		return t.limits.do(ctx, func() error { return t.blobs.WriteBlob(ctx, repo, blob, src) }, repo.RegistryStr(), sources[0].RegistryStr())
	})
	if err != nil {
		return err
	}
	src.report(blob.Size)
	t.arrived(p, repo)
	t.event(step, PhaseDone, 0, func(s *TransferTotals) { s.Moved++ })
	return t.note(ctx, step)
}

// open opens a blob at the first source that has it.
func (t *transfer) open(ctx context.Context, blob v1.Descriptor) (io.ReadCloser, error) {
	err := error(&Error{Op: "blob", Target: blob.Digest.String(), Err: fs.ErrNotExist})
	for _, repo := range t.sources[blob.Digest] {
		var rc io.ReadCloser
		if rc, err = t.from.OpenBlob(ctx, repo, blob); err == nil {
			return rc, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// blobSource is a blob of the source as a [Source].
type blobSource struct {
	*transfer
	blob v1.Descriptor
	step TransferStep

	mu       sync.Mutex
	reported int64
}

func (s *blobSource) Size() int64 { return s.blob.Size }

func (s *blobSource) Open(ctx context.Context) (io.ReadCloser, error) {
	rc, err := s.open(ctx, s.blob)
	if err != nil {
		return nil, err
	}
	counted := &countedBlob{ReadCloser: rc, source: s}
	if f, ok := rc.(filed); ok {
		return &countedFile{counted, f}, nil
	}
	return counted, nil
}

// filed is what a destination that can link files looks for.
type filed interface{ File() *os.File }

type countedFile struct {
	*countedBlob
	filed
}

// progressStep is how many bytes lie between two reports, at least.
const progressStep = 1 << 20

// report counts bytes, each once however often it is read.
func (s *blobSource) report(at int64) {
	s.mu.Lock()
	more := at - s.reported
	if more <= 0 || more < progressStep && at < s.blob.Size {
		s.mu.Unlock()
		return
	}
	s.reported = at
	s.mu.Unlock()
	s.event(s.step, PhaseMoving, at, func(t *TransferTotals) { t.MovedBytes += more })
}

// countedBlob tells its source how far it was read.
type countedBlob struct {
	io.ReadCloser
	source *blobSource
	at     int64
}

func (c *countedBlob) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.at += int64(n)
	c.source.report(c.at)
	return n, err
}

// Relax leaves the check of the digest to the destination, which makes one of
// its own.
func (c *countedBlob) Relax(want v1.Hash, size int64) bool {
	checked, ok := c.ReadCloser.(verify.Relaxer)
	return ok && checked.Relax(want, size)
}
