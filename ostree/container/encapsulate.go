package container

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/ostree"
)

// Dialect is a way of writing layers.
type Dialect string

// Dialects.
const (
	V1b Dialect = "v1b" // the default: as bootc writes; ostree-ext 0.15 reads it too
	// V1a is as ostree-ext up to 0.15 wrote, and rpm-ostree with it: for layers
	// that are those of images of that time. Files whose attributes are alike are
	// hard links there to one file that has them, more than some file systems can
	// count. It has neither FormatVersion 2 nor exclusive components.
	V1a Dialect = "v1a"
	// Plain is an image without the commit, as chunkah makes them: files at their
	// paths, and what an object is in a commit only its content, owner, mode and
	// attributes. Whoever imports it makes a commit of it anew, with the SELinux
	// labels of its own policy: they are left out. Each layer has the directories
	// above its files, none is reserved; there is no FormatVersion 2.
	Plain Dialect = "plain"
)

// DefaultMaxLayers is how many layers an image has at most beside that of the
// commit, unless [EncapsulateOptions] says otherwise.
const DefaultMaxLayers = 64

// mostLayers is what container tools can stack.
const mostLayers = 499

// maxWorkers bounds the number of workers, and so memory.
const maxWorkers = 16

// EncapsulateOptions are for [Encapsulate].
type EncapsulateOptions struct {
	Dialect Dialect // "": V1b
	// FormatVersion is 1 (also 0) or 2: then each layer has the directories
	// above its files, with their owners and modes.
	FormatVersion int

	Codec Codec // "": Gzip
	// Level is 1 to 9 for Gzip (0: 6), 1 to 22 for Zstd (0: 1).
	Level int

	// Components split content over layers, see [Components] and
	// [ContentMeta.Components]; nil: all is in one layer.
	Components []Component
	// MaxLayers is the number of layers beside that of the commit, the one
	// reserved for new components among them: 2 to 499 (0: DefaultMaxLayers).
	MaxLayers int
	// Planner; nil: Frugal with the split of Prior, if that has one, else
	// Stable{}.
	Planner Planner

	// Prior is the image before this one, typically from the registry. Where a
	// layer's content is the same, the prior layer is used as it is, however
	// it was compressed, so that it need not be transferred.
	Prior v1.Image

	// Compat copies the reference's faults, so that digests can be compared with its
	// images: dirtrees of /sysroot are left out, targets of links such as "a/./b" are
	// others, an exclusive component without content has a layer, with the diff ID of the
	// reserved one, and where a planner keeps the split of Prior, what is new is in the
	// layer that was reserved. Not all such images can be imported. Not for [Plain].
	Compat bool

	// Labels are added, to annotations as well; they win over the commit's.
	Labels map[string]string
	// CopyKeys are metadata keys of the commit (strings) that become labels;
	// those of CopyKeysOptional may be missing.
	CopyKeys, CopyKeysOptional []string
	// LegacyVersion adds the label "version" beside LabelVersion.
	LegacyVersion bool
	// Cmd is the image's command; nil: the commit's ostree.container-cmd, if any.
	Cmd []string
	// Created is the image's time; zero: the commit's.
	Created time.Time
	// Architecture, in Go's or RPM's spelling; "": what the commit says
	// (ostree.architecture, coreos-assembler.basearch), else this machine's.
	Architecture string

	// Workers compress in parallel; how many never changes a byte. 0: one a
	// CPU. At most 16; with Zstd 8, because of the memory they need.
	Workers int
	// Made is given each layer that had to be made, once it is complete: its
	// upload can begin while others are being compressed. Calls overlap. They are
	// waited for; an error that one returns is Encapsulate's. ctx ends when
	// Encapsulate fails. nil: layers are had from the image alone.
	Made func(ctx context.Context, layer v1.Layer) error
	// Stats is filled in, unless Encapsulate fails.
	Stats *EncapsulateStats
	// Progress gets bytes of content that are in finished layers, as "layers".
	Progress func(ostree.Event)
	Logger   *slog.Logger // nil: silent
}

// EncapsulateStats says what [Encapsulate] found done. A layer that it took from
// the cache or from the prior image is reused.
type EncapsulateStats struct {
	Layers, Reused     int
	Bytes, ReusedBytes int64 // of the layers' blobs
}

// Encapsulate makes an OSTree-native container image of a commit: byte for
// byte what current bootc makes of it, or with [V1a] ostree-ext 0.15, but for
// gzip's output and for what those tools get wrong (links such as "a/./b",
// content in /sysroot, with ostree-ext the time of day in the history), most of
// which [EncapsulateOptions.Compat] copies.
//
// All work is done under ctx before it returns: layers that are not in cache
// are written there, in parallel. The image's methods then read cache, which
// must stay open; with [EncapsulateOptions.Prior] the layers taken from there
// are read from that image. Same commit and options, same digests.
func Encapsulate(ctx context.Context, cache *Cache, repo *ostree.Repo, commit ostree.Checksum, opts *EncapsulateOptions) (v1.Image, error) {
	img, err := encapsulate(ctx, cache, repo, commit, opts)
	if err != nil {
		return nil, &Error{"encapsulate", commit.String(), err}
	}
	return img, nil
}

func encapsulate(ctx context.Context, cache *Cache, repo *ostree.Repo, commit ostree.Checksum, opts *EncapsulateOptions) (v1.Image, error) {
	if opts == nil {
		opts = &EncapsulateOptions{}
	}
	if err := checkDialect(opts); err != nil {
		return nil, err
	}
	enc, err := newEncoding(opts.Codec, opts.Level)
	if err != nil {
		return nil, err
	}
	s := cache.takeSnapshot(repo, commit)
	if s == nil {
		s, err = openSnapshot(ctx, repo, commit)
	} else {
		err = s.readDetached(ctx)
	}
	if err != nil {
		return nil, err
	}
	labels, err := imageLabels(s, opts)
	if err != nil {
		return nil, err
	}
	cmd, err := command(s.head, opts)
	if err != nil {
		return nil, err
	}
	plans, err := planLayers(ctx, cache, s, opts)
	if err != nil {
		return nil, err
	}
	for _, p := range plans {
		p.compat = opts.Compat
	}
	layers, err := buildLayers(ctx, cache, enc, plans, opts)
	if err != nil {
		return nil, err
	}
	if opts.Dialect == Plain {
		delete(labels, LabelCommit)
	} else {
		labels[LabelFinalDiffID] = layers[len(layers)-1].diffID.String()
	}
	created := opts.Created
	if created.IsZero() {
		created = s.head.Timestamp
	}
	config, manifest, err := documents(labels, cmd, architecture(s.head, opts), timestamp(created), layers)
	if err != nil {
		return nil, err
	}
	return &image{config, manifest, layers}, nil
}

// checkDialect refuses what no tool writes or reads.
func checkDialect(opts *EncapsulateOptions) error {
	last := 2
	switch opts.Dialect {
	case "", V1b:
	case V1a:
		last = 1
		if slices.ContainsFunc(opts.Components, func(c Component) bool { return c.Exclusive }) {
			return fmt.Errorf("exclusive components in dialect %s: %w", V1a, errors.ErrUnsupported)
		}
	case Plain:
		last = 1
		if opts.Compat {
			return fmt.Errorf("faults of the reference in dialect %s, which is not its: %w", Plain, errors.ErrUnsupported)
		}
	default:
		return fmt.Errorf("dialect %q: %w", opts.Dialect, errors.ErrUnsupported)
	}
	if opts.FormatVersion < 0 || opts.FormatVersion > last {
		return fmt.Errorf("format version %d of dialect %s: %w", opts.FormatVersion, cmp.Or(opts.Dialect, V1b), errors.ErrUnsupported)
	}
	return nil
}

// planLayers decides which objects go where.
func planLayers(ctx context.Context, cache *Cache, s *snapshot, opts *EncapsulateOptions) ([]*layerPlan, error) {
	for i := range s.files {
		// Such a file would stand among the repository's own.
		if d := s.dirs[s.files[i].dir].path; below(d, "sysroot/ostree") || d == "sysroot" && s.files[i].name == "ostree" {
			return nil, fmt.Errorf("content in /sysroot/ostree (%q), the place of the image's repository: %w",
				s.path(int32(i)), errors.ErrUnsupported)
		}
	}
	subject := s.head.Subject
	if subject == "" {
		subject = "ostree export of commit " + s.commit.String()
	}
	dialect := cmp.Or(opts.Dialect, V1b)
	first := &layerPlan{snapshot: s, dialect: dialect, commit: true, name: subject}
	plans := []*layerPlan{first}
	if opts.Components == nil {
		first.objects = s.objects
		return plans, weigh(ctx, cache, s, plans, opts)
	}

	limit := cmp.Or(opts.MaxLayers, DefaultMaxLayers)
	if limit < 2 || limit > mostLayers {
		return nil, fmt.Errorf("%d layers is not within 2 to %d", limit, mostLayers)
	}
	byID := make(map[string]*Component, len(opts.Components))
	var planned, exclusive []*Component
	for i := range opts.Components {
		c := &opts.Components[i]
		switch {
		case c.ID == "":
			return nil, errors.New("component without ID")
		case byID[c.ID] != nil:
			return nil, fmt.Errorf("component %q is given twice", c.ID)
		case strings.ContainsAny(c.name(), ",\n"):
			return nil, fmt.Errorf("component name %q has a comma or newline, which annotations can't hold", c.name())
		}
		byID[c.ID] = c
		if c.Exclusive {
			exclusive = append(exclusive, c)
		} else {
			planned = append(planned, c)
		}
	}

	// owner of each object, by index in s.objects.
	owner := make([]*Component, len(s.objects))
	for _, c := range planned {
		for _, o := range c.Objects {
			i, ok := s.find(o)
			if !ok {
				continue // components may know more than this commit has
			}
			if owner[i] != nil && owner[i] != c {
				return nil, fmt.Errorf("object %s belongs to components %q and %q", o, owner[i].ID, c.ID)
			}
			owner[i] = c
		}
	}
	parents := opts.FormatVersion == 2 || dialect == Plain
	taken, exclusivePlans, err := planExclusive(s, exclusive, dialect, parents)
	if err != nil {
		return nil, err
	}
	plans = append(plans, exclusivePlans...)

	limit -= len(exclusivePlans) + 1 // one is reserved
	if limit < 1 {
		return nil, fmt.Errorf("%d exclusive components leave no layer for the others", len(exclusivePlans))
	}
	kept := -1 // layers of an earlier split, of which the last was reserved
	if opts.Compat && opts.Prior != nil {
		split, err := splitOf(opts.Prior)
		if err != nil {
			return nil, fmt.Errorf("prior image: %w", err)
		}
		if kept = len(split); kept == limit+1 {
			limit = kept // which leaves none to be reserved
		}
	}
	chunks, err := planChunks(ctx, cache, s, planned, owner, limit, opts)
	if err != nil {
		return nil, err
	}
	if err := checkChunks(chunks, byID, len(planned), limit); err != nil {
		return nil, err
	}
	chunkOf := make(map[*Component]*layerPlan, len(planned))
	for _, chunk := range chunks {
		p := &layerPlan{snapshot: s, dialect: dialect, parents: parents, name: describeChunk(chunk.Components)}
		members := make([]*Component, len(chunk.Components))
		for i, id := range chunk.Components {
			members[i] = byID[id]
			chunkOf[members[i]] = p
		}
		p.annotation = strings.Join(sortedNames(members), ",")
		plans = append(plans, p)
	}
	for i, run := range s.objects {
		if taken != nil {
			if run.files = slices.DeleteFunc(slices.Clone(run.files), func(f int32) bool { return taken[f] }); len(run.files) == 0 {
				continue
			}
		}
		p := first
		if owner[i] != nil {
			p = chunkOf[owner[i]]
		}
		p.objects = append(p.objects, run)
	}
	// Two layers without content would have one diff ID, and readers, which look
	// for the last layer of the commit by its diff ID, would stop at the first.
	if !opts.Compat {
		plans = slices.DeleteFunc(plans, func(p *layerPlan) bool { return !p.commit && len(p.objects) == 0 })
	}
	if dialect != Plain && len(chunks) != kept {
		plans = append(plans, &layerPlan{snapshot: s, dialect: dialect, parents: parents, name: reservedName})
	}
	return plans, weigh(ctx, cache, s, plans, opts)
}

// planExclusive gives each exclusive component its layer, and which files are
// in those.
func planExclusive(s *snapshot, components []*Component, dialect Dialect, parents bool) (taken map[int32]bool, plans []*layerPlan, err error) {
	if len(components) == 0 {
		return nil, nil, nil
	}
	wanted := map[string]bool{}
	for _, c := range components {
		for _, p := range c.Paths {
			if wanted[p] {
				return nil, nil, fmt.Errorf("path %q is in two exclusive components", p)
			}
			wanted[p] = true
		}
	}
	at := make(map[string]int32, len(wanted))
	for i := range s.files {
		if p := s.path(int32(i)); wanted[p] {
			at[p] = int32(i)
		}
	}
	taken = make(map[int32]bool, len(at))
	for _, c := range components {
		p := &layerPlan{snapshot: s, dialect: dialect, parents: parents, name: c.ID, annotation: c.ID}
		runs := map[ostree.Checksum]int{}
		for _, path := range c.Paths {
			f, ok := at[path]
			if !ok {
				return nil, nil, fmt.Errorf("exclusive component %q: the commit has no file %q", c.ID, path)
			}
			taken[f] = true
			object := s.files[f].object
			i, ok := runs[object]
			if !ok {
				i = len(p.objects)
				runs[object] = i
				p.objects = append(p.objects, objectRun{object: object})
			}
			p.objects[i].files = append(p.objects[i].files, f)
		}
		slices.SortFunc(p.objects, func(a, b objectRun) int { return slices.Compare(a.object[:], b.object[:]) })
		plans = append(plans, p)
	}
	return taken, plans, nil
}

// planChunks asks the planner, once it can know all sizes.
func planChunks(ctx context.Context, cache *Cache, s *snapshot, planned []*Component, owner []*Component, limit int, opts *EncapsulateOptions) ([]Chunk, error) {
	list := make([]Component, len(planned))
	missing := false
	for i, c := range planned {
		list[i] = *c
		missing = missing || c.Size == 0
	}
	if missing {
		sizes, err := objectSizes(ctx, cache, s, workers(opts.Workers))
		if err != nil {
			return nil, err
		}
		total := make(map[*Component]int64, len(planned))
		for i, c := range owner {
			total[c] += sizes[i]
		}
		for i, c := range planned {
			list[i].Size = cmp.Or(c.Size, total[c])
		}
	}
	planner := opts.Planner
	if planner == nil {
		var err error
		if planner, err = defaultPlanner(opts.Prior); err != nil {
			return nil, fmt.Errorf("prior image: %w", err)
		}
	}
	return planner.Plan(list, limit)
}

// weigh estimates the layers' sizes.
func weigh(ctx context.Context, cache *Cache, s *snapshot, plans []*layerPlan, opts *EncapsulateOptions) error {
	sizes, err := objectSizes(ctx, cache, s, workers(opts.Workers))
	if err != nil {
		return err
	}
	for _, p := range plans {
		for _, o := range p.objects {
			if i, ok := s.find(o.object); ok {
				p.weight += sizes[i]
			}
		}
	}
	return nil
}

func workers(n int) int {
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	return min(n, maxWorkers)
}

// buildLayers finds or makes every layer.
func buildLayers(ctx context.Context, cache *Cache, enc encoding, plans []*layerPlan, opts *EncapsulateOptions) ([]builtLayer, error) {
	prior, err := priorLayers(opts.Prior)
	if err != nil {
		return nil, fmt.Errorf("prior image: %w", err)
	}
	built := make([]builtLayer, len(plans))
	keys := make([]cacheKey, len(plans))
	made := make([]bool, len(plans))
	var todo []int
	var total, done atomic.Int64
	for _, p := range plans {
		total.Add(p.weight)
	}
	finished := func(i int) {
		now := done.Add(plans[i].weight)
		if opts.Progress != nil {
			opts.Progress(ostree.Event{Step: "encapsulate", Phase: "layers", Done: now, Total: total.Load()})
		}
	}
	have := make([]bool, len(plans))
	look, lookCtx := errgroup.WithContext(ctx)
	look.SetLimit(workers(opts.Workers))
	for i, p := range plans {
		look.Go(func() (err error) {
			keys[i] = p.key()
			if built[i], have[i], err = findLayer(lookCtx, cache, enc, keys[i], prior); have[i] {
				finished(i)
			}
			return err
		})
	}
	if err := look.Wait(); err != nil {
		return nil, err
	}
	for i := range plans {
		if !have[i] {
			todo = append(todo, i)
		}
	}
	if opts.Logger != nil {
		opts.Logger.InfoContext(ctx, "layers planned",
			slog.Int("layers", len(plans)), slog.Int("cached", len(plans)-len(todo)))
	}
	if len(todo) > 0 {
		// The largest first, so that the last to end is a small one.
		slices.SortStableFunc(todo, func(a, b int) int { return cmp.Compare(plans[b].weight, plans[a].weight) })
		n := enc.workers(opts.Workers)
		c, err := newCompressor(enc, n, n)
		if err != nil {
			return nil, err
		}
		group, ctx := errgroup.WithContext(ctx)
		var next atomic.Int64
		for range n {
			group.Go(func() error {
				for at := next.Add(1) - 1; at < int64(len(todo)); at = next.Add(1) - 1 {
					i := todo[at]
					l, err := makeLayer(ctx, cache, c, plans[i], keys[i], prior)
					if err != nil {
						return fmt.Errorf("layer %d (%s): %w", i, plans[i].name, err)
					}
					built[i] = l
					finished(i)
					_, made[i] = l.Layer.(*cachedLayer)
					if made[i] && opts.Made != nil {
						group.Go(func() error {
							if err := opts.Made(ctx, l.Layer); err != nil {
								return fmt.Errorf("layer %d (%s): %w", i, plans[i].name, err)
							}
							return nil
						})
					}
				}
				return nil
			})
		}
		err = group.Wait()
		c.stop()
		if err != nil {
			return nil, err
		}
	}
	if opts.Stats != nil {
		*opts.Stats = EncapsulateStats{Layers: len(plans)}
		for i := range built {
			opts.Stats.Bytes += built[i].descriptor.Size
			if !made[i] {
				opts.Stats.Reused++
				opts.Stats.ReusedBytes += built[i].descriptor.Size
			}
		}
	}
	for i, p := range plans {
		built[i].name = p.name
		if i > 0 {
			built[i].descriptor.Annotations = map[string]string{AnnotationComponents: p.annotation}
		}
	}
	return built, nil
}

// tarRecord is what tars/KEY holds.
type tarRecord struct {
	DiffID v1.Hash `json:"diffID"`
}

// findLayer gives a layer that needs no work.
func findLayer(ctx context.Context, cache *Cache, enc encoding, key cacheKey, prior map[v1.Hash]*priorLayer) (builtLayer, bool, error) {
	if len(prior) > 0 {
		var t tarRecord
		if cache.readRecord(filepath.Join("tars", key.String()), &t) {
			if p := prior[t.DiffID]; p != nil {
				return p.built(), true, nil
			}
		}
	}
	r, ok, err := cache.lookup(ctx, key.with(enc))
	if err != nil || !ok {
		return builtLayer{}, false, err
	}
	return cachedBuilt(cache, enc, r), true, nil
}

func cachedBuilt(cache *Cache, enc encoding, r layerRecord) builtLayer {
	l := &cachedLayer{cache, r, enc.mediaType()}
	return builtLayer{Layer: l, diffID: r.DiffID, descriptor: v1.Descriptor{
		MediaType: l.mediaType, Digest: r.Digest, Size: r.Size,
	}}
}

func (p *priorLayer) built() builtLayer {
	return builtLayer{Layer: p, diffID: p.diffID, descriptor: v1.Descriptor{
		MediaType: p.descriptor.MediaType, Digest: p.descriptor.Digest, Size: p.descriptor.Size,
	}}
}

// makeLayer writes a layer into the cache, or finds that the prior image has
// it once its diff ID is known.
func makeLayer(ctx context.Context, cache *Cache, c *compressor, p *layerPlan, key cacheKey, prior map[v1.Hash]*priorLayer) (builtLayer, error) {
	name := filepath.Join("tars", key.String())
	if len(prior) > 0 {
		var t tarRecord
		if !cache.readRecord(name, &t) {
			// Writing the tar stream is far cheaper than compressing it.
			h := sha256.New()
			if err := p.write(ctx, h); err != nil {
				return builtLayer{}, err
			}
			t.DiffID = sum256(h)
			if err := cache.writeRecord(name, &t); err != nil {
				return builtLayer{}, err
			}
		}
		if have := prior[t.DiffID]; have != nil {
			return have.built(), nil
		}
	}
	file, err := cache.create()
	if err != nil {
		return builtLayer{}, err
	}
	s := c.newStream(ctx, file)
	if err := p.write(ctx, s); err != nil {
		s.abort()
		file.drop()
		return builtLayer{}, err
	}
	b, err := s.finish()
	if err != nil {
		file.drop()
		return builtLayer{}, err
	}
	r, err := file.keep(key.with(c.encoding), b)
	if err != nil {
		return builtLayer{}, err
	}
	return cachedBuilt(cache, c.encoding, r), cache.writeRecord(name, &tarRecord{b.diffID})
}

// priorLayers gives an image's layers by diff ID.
func priorLayers(img v1.Image) (map[v1.Hash]*priorLayer, error) {
	if img == nil {
		return nil, nil
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if len(config.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("%d layers, but %d diff IDs: %w", len(m.Layers), len(config.RootFS.DiffIDs), ostree.ErrCorrupt)
	}
	out := make(map[v1.Hash]*priorLayer, len(m.Layers))
	for i, d := range m.Layers {
		// Blobs that are to be had elsewhere only can't be copied from here, and
		// what is encrypted has the diff ID of something else.
		var ok bool
		if d.MediaType, ok = ociLayer(d.MediaType); !ok || len(d.URLs) > 0 || checkHash(d.Digest) != nil {
			continue
		}
		l, err := img.LayerByDigest(d.Digest)
		if err != nil {
			return nil, err
		}
		out[config.RootFS.DiffIDs[i]] = &priorLayer{l, config.RootFS.DiffIDs[i], d}
	}
	return out, nil
}

// ociLayer gives the name that OCI has for a kind of layer; false: it has none, or
// the layer is not for everyone.
func ociLayer(mediaType types.MediaType) (types.MediaType, bool) {
	switch mediaType {
	case types.OCILayer, types.DockerLayer:
		return types.OCILayer, true
	case types.OCIUncompressedLayer, types.DockerUncompressedLayer:
		return types.OCIUncompressedLayer, true
	case types.OCILayerZStd:
		return types.OCILayerZStd, true
	}
	return "", false
}
