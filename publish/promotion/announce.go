package promotion

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/stream"
)

// entry is release.json: what was made, for programs, before anybody is told.
type entry struct {
	Release
	Files []file `json:"files"`
}

// catalogue writes down what was made.
func (p *promotion) catalogue(ctx context.Context) error {
	return p.effect(ctx, stepCatalogue, Reserved, func(ctx context.Context) error {
		files := append(slices.Clone(p.tooled.Files), p.noted.Notes)
		for _, f := range []*file{p.tooled.Signature, p.noted.ChangeLog} {
			if f != nil {
				files = append(files, *f)
			}
		}
		data, err := json.MarshalIndent(entry{*p.about(), files}, "", "  ")
		if err == nil {
			_, err = p.keep(ctx, catalogueFile, append(data, '\n'))
		}
		return err
	})
}

// submit tags the image stream for gates that are jobs of its controller.
func (p *promotion) submit(ctx context.Context) error {
	return p.effect(ctx, stepSubmit, Reserved, func(ctx context.Context) error {
		if !p.settings.TagForGates {
			return nil
		}
		return p.tagImageStream(ctx)
	})
}

func (p *promotion) imageStream() (string, error) {
	return stream.Template(p.settings.ImageStream).Expand(p.settings.vars(p.parsed))
}

func (p *promotion) tagImageStream(ctx context.Context) error {
	to, err := p.imageStream()
	if err != nil {
		return err
	}
	return p.env.ImageStreams.Tag(ctx, to, p.version, p.about().Pullspec)
}

// gates asks for all results.
func (p *promotion) gates(ctx context.Context) error {
	return p.effect(ctx, stepGates, Reserved, func(ctx context.Context) error {
		var pending, failed []string
		for _, g := range p.settings.Gates {
			result := publish.GatePending
			if p.env.Gate != nil {
				var err error
				if result, err = p.env.Gate(ctx, p.about(), g); err != nil {
					return fmt.Errorf("gate %s: %w", g, err)
				}
			}
			switch result {
			case publish.GatePassed:
			case publish.GateFailed:
				failed = append(failed, g)
			default:
				pending = append(pending, g)
			}
		}
		switch {
		case len(failed) > 0:
			return &publish.GateError{Gates: failed}
		case len(pending) > 0:
			return &publish.PendingError{Gates: pending}
		}
		return nil
	})
}

// prepared is what was decided on the announcement.
type prepared struct {
	Latest bool `json:"latest"`
}

// prepare makes the draft, with all files.
func (p *promotion) prepare(ctx context.Context) error {
	return do(ctx, p, stepPrepare, Reserved, &p.prepared, func(ctx context.Context) error {
		p.prepared = prepared{Latest: p.settings.Latest && !p.older(func(stream.Version) bool { return true })}
		if p.settings.Announce == "" {
			return nil
		}
		a, err := p.announcement(ctx)
		if err != nil {
			return err
		}
		return p.env.Announcer.Prepare(ctx, a)
	})
}

// older says that a newer release than this, of those that count, is out.
func (p *promotion) older(counts func(stream.Version) bool) bool {
	return slices.ContainsFunc(versions(p.register.promoted(p.published)), func(v stream.Version) bool {
		return v.Scheme == p.parsed.Scheme && v.Compare(p.parsed) > 0 && counts(v)
	})
}

// announcement gathers text and files.
func (p *promotion) announcement(ctx context.Context) (*Announcement, error) {
	assets, err := p.toolFiles(ctx)
	if err != nil {
		return nil, err
	}
	notes, err := p.kept(ctx, p.noted.Notes)
	if err != nil {
		return nil, err
	}
	add := func(f file, data []byte) {
		assets = append(assets, Asset{Name: f.Name, ContentType: contentType(f.Name), SHA256: f.SHA256, Source: publish.BytesSource(data)})
	}
	add(p.noted.Notes, notes)
	for _, f := range []*file{p.tooled.Signature, p.noted.ChangeLog} {
		if f == nil {
			continue
		}
		data, err := p.kept(ctx, *f)
		if err != nil {
			return nil, err
		}
		add(*f, data)
	}
	if p.signed.Key != "" {
		sig, err := readSignature(ctx, p.env.signatures(), p.signed.Key)
		if err != nil {
			return nil, err
		}
		name, data, err := payload.EncodeSignatureConfigMap(p.assembled.Digest, [][]byte{sig})
		if err != nil {
			return nil, err
		}
		add(file{Name: name, SHA256: sha256Of(data)}, data)
	}
	assets = slices.DeleteFunc(assets, func(a Asset) bool { return !chosen(p.settings.Assets, a.Name) })
	return &Announcement{Version: p.version, Body: body(notes), Latest: p.prepared.Latest, Prerelease: p.settings.Prerelease, Assets: assets}, nil
}

// chosen says that a filter lets a name through. Its patterns were checked.
func chosen(f stream.Filter, name string) bool {
	match := func(pattern string) bool { ok, err := path.Match(pattern, name); return ok && err == nil }
	return (len(f.Include) == 0 || slices.ContainsFunc(f.Include, match)) && !slices.ContainsFunc(f.Exclude, match)
}

// node puts the release into the update graph, in no channel yet, with the
// edges for which there is evidence.
func (p *promotion) node(ctx context.Context) error {
	return p.effect(ctx, stepNode, Reserved, func(ctx context.Context) error {
		if p.settings.Graph == "" {
			return nil
		}
		n, err := p.graphNode(ctx)
		if err != nil {
			return err
		}
		var evidence []graph.Evidence
		if p.env.Evidence != nil {
			if evidence, err = p.env.Evidence(ctx, p.about()); err != nil {
				return err
			}
		}
		now := p.env.Now()
		return p.editGraph(ctx, func(g *graph.Graph) error {
			return addNode(g, n, p.assembled.Previous, p.settings.Edges, evidence, now)
		})
	})
}

// graphNode is the release in a graph for several architectures.
func (p *promotion) graphNode(ctx context.Context) (graph.Node, error) {
	r, err := p.opened(ctx)
	if err != nil {
		return graph.Node{}, err
	}
	arch, err := p.architecture(ctx, r)
	if err != nil {
		return graph.Node{}, err
	}
	g, err := graph.Build([]graph.Release{{Payload: p.about().Pullspec, Arch: arch, Metadata: r.Metadata}})
	if err != nil {
		return graph.Node{}, err
	}
	if len(g.Nodes) != 1 {
		return graph.Node{}, errors.New("the release is a part of one for several architectures")
	}
	return g.Nodes[0], nil
}

// editGraph changes the stored graph; a graph that is not there is an empty one.
func (p *promotion) editGraph(ctx context.Context, fn func(*graph.Graph) error) error {
	return p.env.update(ctx, p.settings.Graph, func(old []byte) ([]byte, error) {
		g := &graph.Graph{}
		if old != nil {
			var err error
			if g, err = graph.Decode(bytes.NewReader(old)); err != nil {
				return nil, err
			}
		}
		if err := fn(g); err != nil {
			return nil, err
		}
		var b bytes.Buffer
		err := g.Encode(&b)
		return b.Bytes(), err
	})
}

// announce makes the draft public.
func (p *promotion) announce(ctx context.Context) error {
	return p.effect(ctx, stepAnnounce, Pointing, func(ctx context.Context) error {
		if p.settings.Announce == "" {
			return nil
		}
		a, err := p.announcement(ctx)
		if err != nil {
			return err
		}
		return p.env.Announcer.Publish(ctx, a)
	})
}
