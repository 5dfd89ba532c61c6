package publish

import (
	"context"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// dryRun finds out what would be done, in an order that could be followed.
// That a registry mounts what another of its repositories has is assumed.
func (t *transfer) dryRun(ctx context.Context, jobs []*job) error {
	if err := each(ctx, t, jobs, func(j *job) error { return t.foresee(ctx, j) }); err != nil {
		return err
	}
	ordered := slices.Clone(jobs)
	slices.SortStableFunc(ordered, func(a, b *job) int { return a.Stage - b.Stage })
	for _, j := range ordered {
		if j.there {
			t.steps = append(t.steps, t.step(j.to, ActionReuse, j.top))
		}
		for _, it := range j.items {
			if err := t.would(j, it); err != nil {
				return err
			}
		}
	}
	for _, of := range []func(*job) []tagging{
		func(j *job) []tagging { return j.signed },
		func(j *job) []tagging { return j.tags },
	} {
		for _, j := range ordered {
			for _, tag := range of(j) {
				t.steps = append(t.steps, tag.step())
			}
		}
	}
	for _, s := range t.steps {
		t.event(s, PhaseWould, 0, nil)
	}
	return nil
}

// foresee asks for what a job's repository has.
func (t *transfer) foresee(ctx context.Context, j *job) error {
	for _, it := range j.items {
		if !it.absent {
			desc, err := t.head(ctx, j.to.Digest(it.desc.Digest.String()))
			if err != nil {
				return err
			}
			it.there, it.absent = desc != nil, desc == nil
		}
		if it.there || t.blobs == nil {
			continue
		}
		for _, blob := range it.blobs {
			if err := t.foreseeBlob(ctx, j.to, blob); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *transfer) foreseeBlob(ctx context.Context, repo name.Repository, blob v1.Descriptor) error {
	key := placeKey{repo.RegistryStr(), blob.Digest}
	p, err := t.take(ctx, key)
	if err != nil {
		return err
	}
	defer func() { <-p.busy }()
	for _, r := range slices.Concat([]name.Repository{repo}, t.others(key, repo), t.opts.From) {
		if r.RegistryStr() != key.host || slices.Contains(p.repos, r) || slices.Contains(p.asked, r) {
			continue
		}
		there, err := t.stat(ctx, r, blob)
		if err != nil {
			return err
		}
		p.asked = append(p.asked, r)
		if there {
			p.repos = append(p.repos, r)
		}
	}
	return nil
}

// wouldMount gives a repository of the host that has a blob. The repositories of
// the source count where it is the same registry.
func (t *transfer) wouldMount(p *place, key placeKey) (name.Repository, bool) {
	if t.same {
		for _, r := range t.sources[key.digest] {
			if r.RegistryStr() == key.host {
				return r, true
			}
		}
	}
	if len(p.repos) > 0 {
		return p.repos[0], true
	}
	return name.Repository{}, false
}

// would adds the steps of one manifest.
func (t *transfer) would(j *job, it *item) error {
	if it.there {
		t.steps = append(t.steps, t.step(j.to, ActionReuse, it.desc))
		return nil
	}
	if it.sparse && t.blobs == nil {
		return errSparse
	}
	for _, blob := range it.blobs {
		key := placeKey{j.to.RegistryStr(), blob.Digest}
		p := t.places[key]
		if p == nil {
			p = &place{busy: make(chan struct{}, 1)}
			t.places[key] = p
		}
		if slices.Contains(p.done, j.to) {
			continue
		}
		p.done = append(p.done, j.to)
		s := t.step(j.to, ActionMove, blob)
		if slices.Contains(p.repos, j.to) {
			s.Action = ActionReuse
		} else if from, ok := t.wouldMount(p, key); ok {
			s.Action, s.From = ActionMount, from.Name()
		} else if sources := t.sources[blob.Digest]; len(sources) > 0 {
			s.From = sources[0].Name()
		}
		t.arrived(p, j.to)
		t.steps = append(t.steps, s)
	}
	t.steps = append(t.steps, t.step(j.to, ActionWrite, it.desc))
	return nil
}
