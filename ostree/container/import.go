package container

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/ostree"
)

// ImportOptions are for [Import].
type ImportOptions struct {
	// Name is what the image is called in the repository, with the transport in
	// front as ostree-ext has it: docker://quay.io/fedora/fedora-coreos:stable or
	// oci:folder:tag. "": the image gets no name, and its layers are kept until
	// [PruneImages].
	Name string
	// CommitOnly takes nothing but the commit of an OSTree-native image, as
	// `ostree container unencapsulate` does, and refuses images with more layers
	// than those of the commit. Nothing is kept by a ref but by Ref, so that what
	// is interrupted begins anew.
	CommitOnly bool
	// Ref is set to the commit that Import gives. "": no ref.
	Ref string

	// Verify decides about the image by its manifest before anything else of it
	// is read: it is where signatures are checked. Nil: any image is taken.
	Verify func(ctx context.Context, digest v1.Hash, manifest []byte) error
	// VerifyCommit decides about the commit of an OSTree-native image by the
	// commit object and its detached metadata, such as [ostree.Verifier].Verify,
	// before any of its objects is stored. It is not asked about a commit that is
	// in the repository already. Nil: any commit is taken.
	VerifyCommit func(ctx context.Context, commit []byte, detached []ostree.MetadataItem) error

	// DirMeta lets the directories of layers above the commit change owner, mode
	// and attributes of directories that exist, as in a container. Otherwise they
	// don't, as with bootc and ostree-ext: many tools give directories there that
	// only lead to a file a mode of their own.
	DirMeta bool
	// SELinux labels the files of a plain image until it is known whether the
	// image has a policy of its own, which is usually alike: then nothing has to be
	// stored twice. Nil: they have no labels until then.
	SELinux *ostree.Policy
	// MaxSize bounds the layers' uncompressed size in bytes; 0: 64 GiB.
	MaxSize int64

	// Workers hash, compress and write files, at most 64; 0: one a CPU.
	Workers int
	// Layers is how many layers are read at a time, 1 to 16; 0: 6.
	Layers int
	// NoFsync leaves out what makes the import durable against a crash of the
	// machine.
	NoFsync bool
	// Stats is filled in, also after an error.
	Stats *ImportStats
	// Progress gets compressed bytes of layers that are stored, as "layers".
	Progress func(ostree.Event)
	Logger   *slog.Logger // nil: silent
}

// ImportStats says what [Import] did.
type ImportStats struct {
	Layers, Reused int   // of the image, and of those the ones that were there
	Bytes          int64 // compressed, of layers that were read
	Content        int64 // content objects of the commit's layers that were new
}

// Imported is what [Import] made.
type Imported struct {
	// Commit is what to deploy: the commit of all layers together, whose metadata
	// has manifest and config; with CommitOnly the image's own commit.
	Commit ostree.Checksum
	// Base is the commit that the image carries; zero: it is a plain image.
	Base   ostree.Checksum
	Digest v1.Hash // of the manifest
	// Filtered counts the entries that layers above the commit have where OSTree
	// has no place for them, by their first component: all but usr, etc and var,
	// and what is in run, tmp, proc, sys and dev. Of layers that were there
	// already it is not known.
	Filtered map[string]int
}

const (
	defaultImportLayers = 6
	maxImportLayers     = 16
	maxImportWorkers    = 64
	maxManifest         = 4 << 20
)

// Import stores an image in a repository of any mode that can be written: an
// OSTree-native image of any dialect (v0, v1a, v1b, in one layer or many) as the
// commit that it carries, layers that a container build added merged over it, and
// any other image as a commit of its layers. Refs and metadata are those of
// ostree-ext and bootc, which list, deploy and prune the image as one of theirs.
//
// Layers are read in parallel. Each is stored under a ref of its own once its
// digest, size and diff ID and every object in it were verified; the next import,
// of this image or of another, does not read it again, even if it was compressed
// differently. So an import that was interrupted goes on where it was. The
// commit is stored when everything that it needs is there, and the image's name
// is set last.
//
// Layers above the commit are merged by their dirtrees, as bootc does in a bare
// repository, with the same result in every mode: whiteouts are applied, /etc goes
// to /usr/etc, files outside of /usr, /etc and /var are left out unless the
// commit's root is transient; files get the labels of the commit's SELinux policy,
// and all get new ones where a layer has a part in the policy. Other than with
// bootc, a hard link may name a file of a layer below or an object of the
// repository, however old it is, and keeps its attributes; a layer is not taken for
// one with other content; what is missing, or not part of the commit, is an error.
//
// Errors name the layer and the entry. A layer whose bytes have not the digest and
// size promised gives publish.ErrDigest, content that contradicts a diff ID, a
// checksum or the format [ostree.ErrCorrupt], and what OSTree can't store
// [errors.ErrUnsupported].
func Import(ctx context.Context, dst *ostree.Repo, img v1.Image, opts *ImportOptions) (*Imported, error) {
	if opts == nil {
		opts = &ImportOptions{}
	}
	im := &importer{repo: dst, opts: opts}
	im.room.Store(cmp.Or(opts.MaxSize, defaultMaxFlat))
	done, err := im.run(ctx, img)
	if opts.Stats != nil {
		im.stats.Bytes = im.fetched.Load()
		*opts.Stats = im.stats
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if _, ok := errors.AsType[*Error](err); ok {
			return nil, err
		}
		return nil, &Error{"import", cmp.Or(opts.Name, im.digest.String()), err}
	}
	return done, nil
}

// importer is one import.
type importer struct {
	repo   *ostree.Repo
	opts   *ImportOptions
	digest v1.Hash
	ref    string // of the image
	raw    []byte // the manifest
	config []byte
	labels map[string]string

	room    atomic.Int64 // bytes that layers may still have
	fetched atomic.Int64
	stored  atomic.Int64 // compressed size of layers that are done
	total   int64
	stats   ImportStats

	diffIDs map[v1.Hash]v1.Hash // digests of layers that are stored; nil: not looked at
}

func (im *importer) check() (err error) {
	o := im.opts
	switch {
	case o.Workers < 0 || o.Workers > maxImportWorkers:
		return fmt.Errorf("%d workers, want 0 to %d", o.Workers, maxImportWorkers)
	case o.Layers < 0 || o.Layers > maxImportLayers:
		return fmt.Errorf("%d layers at a time, want 0 to %d", o.Layers, maxImportLayers)
	case o.MaxSize < 0:
		return fmt.Errorf("at most %d bytes", o.MaxSize)
	case o.CommitOnly && o.Name != "":
		return errors.New("an image of which only the commit is taken gets no name")
	}
	if o.Ref != "" {
		if err := ostree.CheckRef(o.Ref); err != nil {
			return err
		}
	}
	if o.Name != "" {
		im.ref, err = imageRef(o.Name)
	}
	return err
}

func (im *importer) run(ctx context.Context, img v1.Image) (*Imported, error) {
	if err := im.check(); err != nil {
		return nil, err
	}
	if err := im.readManifest(ctx, img); err != nil {
		return nil, err
	}
	if done, err := im.present(ctx); done != nil || err != nil {
		return done, err
	}
	layers, err := layersToRead(img)
	if err != nil {
		return nil, err
	}
	if im.config, err = img.RawConfigFile(); err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	im.labels = config.Config.Labels
	im.stats.Layers = len(layers)
	for _, l := range layers {
		im.total += l.descriptor.Size
	}
	last, err := importLast(im.labels, layers)
	if err != nil {
		return nil, err
	}
	if im.opts.CommitOnly && last != len(layers)-1 {
		return nil, fmt.Errorf("%d layers are not of a commit: %w", len(layers)-1-last, errors.ErrUnsupported)
	}
	done := &Imported{Digest: im.digest, Filtered: map[string]int{}}
	if last >= 0 {
		if done.Base, err = im.base(ctx, layers[:last+1]); err != nil {
			return nil, err
		}
	}
	if im.opts.CommitOnly {
		done.Commit = done.Base
		return done, nil
	}
	derived, err := im.derived(ctx, done, layers, last+1)
	if err != nil {
		return nil, err
	}
	if done.Commit, err = im.merge(ctx, done.Base, layers[last+1:], derived); err != nil {
		return nil, err
	}
	return done, im.finish(ctx, done)
}

// finish sets the caller's ref.
func (im *importer) finish(ctx context.Context, done *Imported) error {
	if im.opts.Logger != nil {
		im.opts.Logger.InfoContext(ctx, "imported", slog.String("image", im.digest.String()), slog.String("commit", done.Commit.String()),
			slog.Int("layers", im.stats.Layers), slog.Int("reused", im.stats.Reused))
	}
	if im.opts.Ref == "" {
		return nil
	}
	return im.repo.SetRef(ctx, im.opts.Ref, done.Commit)
}

// readManifest reads the manifest and has the caller judge it.
func (im *importer) readManifest(ctx context.Context, img v1.Image) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if im.raw, err = img.RawManifest(); err != nil {
		return err
	}
	if len(im.raw) > maxManifest {
		return fmt.Errorf("manifest of %d bytes, at most %d: %w", len(im.raw), maxManifest, ostree.ErrCorrupt)
	}
	sum := sha256.Sum256(im.raw)
	im.digest = v1.Hash{Algorithm: "sha256", Hex: hexString(sum[:])}
	want, err := img.Digest()
	if err != nil {
		return err
	}
	if want != im.digest {
		return fmt.Errorf("manifest is %s, not %s: %w", im.digest, want, ostree.ErrCorrupt)
	}
	if im.opts.Verify == nil {
		return nil
	}
	if err := im.opts.Verify(ctx, im.digest, slices.Clone(im.raw)); err != nil {
		return fmt.Errorf("image %s: %w", im.digest, err)
	}
	return nil
}

// present gives the image if the repository has it under its name.
func (im *importer) present(ctx context.Context) (*Imported, error) {
	if im.ref == "" {
		return nil, nil
	}
	c, err := im.repo.Resolve(ctx, im.ref)
	if err != nil {
		return nil, nil //nolint:nilerr // not there
	}
	image, err := storedImage(ctx, im.repo, c)
	if err != nil || image.Digest != im.digest {
		return nil, nil //nolint:nilerr // another, or damaged: it is replaced
	}
	if partial, err := im.repo.Partial(ctx, c); err != nil || partial {
		return nil, err
	}
	im.stats.Layers = len(image.Manifest.Layers)
	im.stats.Reused = im.stats.Layers
	done := &Imported{Commit: c, Base: image.Base, Digest: im.digest, Filtered: map[string]int{}}
	return done, im.finish(ctx, done)
}

// importLast gives the index of the last layer that is part of the commit which
// the image carries; -1: it carries none.
func importLast(labels map[string]string, layers []builtLayer) (int, error) {
	_, hasCommit := labels[LabelCommit]
	text, ok := labels[LabelFinalDiffID]
	switch {
	case len(layers) == 0:
		return 0, fmt.Errorf("no layers: %w", fs.ErrInvalid)
	case !ok && hasCommit:
		return 0, nil // an image of old times, in one layer
	case !ok:
		return -1, nil
	}
	want, err := v1.NewHash(text)
	if err != nil {
		return 0, fmt.Errorf("label %s: %w", LabelFinalDiffID, err)
	}
	// The last with that diff ID: an image may have several layers without content,
	// of which the label means the one at the end.
	for i := len(layers) - 1; i >= 0; i-- {
		if layers[i].diffID == want {
			return i, nil
		}
	}
	return 0, fmt.Errorf("label %s is %s, which no layer has: %w", LabelFinalDiffID, want, ostree.ErrCorrupt)
}

// importLayerName names a layer in errors.
func importLayerName(i int, l *builtLayer) string {
	return fmt.Sprintf("layer %d (%s)", i, l.descriptor.Digest)
}

func (im *importer) progress(l *builtLayer) {
	now := im.stored.Add(l.descriptor.Size)
	if im.opts.Progress != nil {
		im.opts.Progress(ostree.Event{Step: "import", Phase: "layers", Done: now, Total: im.total})
	}
}

// What kind of commit a layer's ref names.
type layerKind int

const (
	setLayer  layerKind = iota // objects of a commit
	treeLayer                  // files
)

// known gives the commit of a layer that is stored already: by its digest, or by
// its diff ID if an image that has it was stored. Zero: there is none.
func (im *importer) known(ctx context.Context, l *builtLayer, fits func(*ostree.Commit) bool) (ostree.Checksum, error) {
	for _, digest := range []v1.Hash{l.descriptor.Digest, im.sameDiffID(ctx, l.diffID)} {
		if digest == (v1.Hash{}) {
			continue
		}
		ref, err := layerRef(digest)
		if err != nil {
			return ostree.Checksum{}, err
		}
		c, err := im.repo.Resolve(ctx, ref)
		if err != nil {
			continue // not there
		}
		commit, err := im.repo.ReadCommit(ctx, c)
		if err != nil {
			continue // damaged
		}
		partial, err := im.repo.Partial(ctx, c)
		if err != nil {
			return c, err
		}
		if !partial && fits(commit) {
			return c, nil
		}
	}
	return ostree.Checksum{}, nil
}

// sameDiffID gives the digest under which a layer with that diff ID is stored.
func (im *importer) sameDiffID(ctx context.Context, diffID v1.Hash) v1.Hash {
	if im.diffIDs == nil {
		im.diffIDs = map[v1.Hash]v1.Hash{}
		for image, err := range ListImages(ctx, im.repo) {
			if err != nil {
				break // others' images are their own business
			}
			for i, id := range image.Config.RootFS.DiffIDs {
				if i < len(image.Manifest.Layers) {
					im.diffIDs[id] = image.Manifest.Layers[i].Digest
				}
			}
		}
	}
	return im.diffIDs[diffID]
}

// kindOf tells the commit of a set of objects from one of a layer's files, which
// says who imported it.
func kindOf(c *ostree.Commit) layerKind {
	if _, ok := c.Lookup(keyImporter); ok {
		return treeLayer
	}
	return setLayer
}

// reuse counts a layer that is stored, and lets its digest name it.
func (im *importer) reuse(ctx context.Context, l *builtLayer, c ostree.Checksum) error {
	im.stats.Reused++
	im.progress(l)
	ref, err := layerRef(l.descriptor.Digest)
	if err != nil {
		return err
	}
	if have, err := im.repo.Resolve(ctx, ref); err == nil && have == c {
		return nil
	}
	return im.repo.SetRef(ctx, ref, c)
}

// base stores the commit that an image carries.
func (im *importer) base(ctx context.Context, layers []builtLayer) (ostree.Checksum, error) {
	var want ostree.Checksum
	if text, ok := im.labels[LabelCommit]; ok {
		var err error
		if want, err = ostree.ParseChecksum(text); err != nil {
			return want, fmt.Errorf("label %s: %w", LabelCommit, err)
		}
	}
	b := &baseImport{importer: im, want: want, layers: layers}
	var todo []int
	for i := range layers {
		var c ostree.Checksum
		var err error
		switch {
		case im.opts.CommitOnly:
		case i == 0:
			c, err = im.known(ctx, &layers[i], func(c *ostree.Commit) bool { return b.labelled(c) == nil })
			if !b.wanted(c) {
				c = ostree.Checksum{}
			}
			b.found = c
		default:
			c, err = im.known(ctx, &layers[i], func(c *ostree.Commit) bool { return kindOf(c) == setLayer })
		}
		if err == nil && !c.IsZero() {
			err = im.reuse(ctx, &layers[i], c)
		} else if i > 0 {
			todo = append(todo, i)
		}
		if err != nil {
			return c, err
		}
	}
	if !b.found.IsZero() && len(todo) == 0 {
		return b.found, nil
	}
	err := b.receive(ctx, todo)
	return b.found, err
}

// baseImport is the import of a base image's layers.
type baseImport struct {
	*importer
	want   ostree.Checksum // by the label, if there is one
	layers []builtLayer

	found  ostree.Checksum
	commit *ostree.Commit
	first  *ostree.Delivery
	whole  *ostree.ReceivedCommit // the commit to keep; nil: it is there
	needed map[ostree.Checksum]struct{}
}

// wanted reports whether c is the commit that the labels name.
func (b *baseImport) wanted(c ostree.Checksum) bool {
	_, ok := b.labels[LabelCommit]
	return !ok || c == b.want
}

// labelled checks what labels say about the commit.
func (b *baseImport) labelled(c *ostree.Commit) error {
	label, ok := b.labels[LabelBootable]
	if !ok {
		return nil
	}
	if v, ok := c.Lookup(LabelBootable); ok {
		is, err := v.AsBool()
		if err != nil {
			return fmt.Errorf("commit metadata %q: %w", LabelBootable, err)
		}
		if label != fmt.Sprint(is) {
			return fmt.Errorf("label %s is %.80q, the commit says %t: %w", LabelBootable, label, is, ostree.ErrCorrupt)
		}
	}
	return nil
}

// receive reads the commit's layer, if the commit is not there, and then those of
// todo: which objects they may have is known by then.
func (b *baseImport) receive(ctx context.Context, todo []int) (err error) {
	r, err := b.repo.Receive(ctx, &ostree.ReceiveOptions{Workers: b.opts.Workers, NoFsync: b.opts.NoFsync, Single: b.opts.CommitOnly})
	if err != nil {
		return err
	}
	defer func() {
		b.stats.Content = r.Stats().ContentWritten
		if e := r.Close(); err == nil {
			err = e
		}
	}()
	b.first = r.Begin()
	if b.found.IsZero() {
		if err := b.readCommit(ctx); err != nil {
			return err
		}
	} else {
		if b.commit, err = b.repo.ReadCommit(ctx, b.found); err != nil {
			return err
		}
		if b.needed, err = b.first.Needs(ctx, b.commit); err != nil {
			return err
		}
	}
	// The largest first, so that the last to end is a small one.
	slices.SortStableFunc(todo, func(i, j int) int { return cmp.Compare(b.layers[j].descriptor.Size, b.layers[i].descriptor.Size) })
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(cmp.Or(b.opts.Layers, defaultImportLayers))
	for _, i := range todo {
		group.Go(func() error {
			l := &b.layers[i]
			d := b.first
			if !b.opts.CommitOnly {
				d = r.Begin()
			}
			sink := &chunkSink{delivery: d, needed: b.needed, layer: importLayerName(i, l)}
			err := b.readLayer(gctx, i, func(s *layerStream) error {
				_, err := readObjects(gctx, s, false, sink)
				return err
			})
			if err != nil {
				return err
			}
			if !b.opts.CommitOnly {
				ref, err := layerRef(l.descriptor.Digest)
				if err != nil {
					return err
				}
				if _, err := d.Set(gctx, ref); err != nil {
					return err
				}
			}
			b.progress(l)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if b.whole == nil {
		return nil
	}
	if err := b.first.Commit(ctx, b.whole); err != nil {
		return err
	}
	b.progress(&b.layers[0])
	return nil
}

// readStream reads a layer to its end and verifies it.
func (im *importer) readStream(ctx context.Context, i int, l *builtLayer, fn func(*layerStream) error) error {
	s, err := openLayer(ctx, *l, &im.room, &im.fetched)
	if err == nil {
		if err = fn(s); err == nil {
			err = s.end()
		}
		s.close()
	}
	if err == nil {
		return nil
	}
	if received, ok := errors.AsType[*receivedError](err); ok {
		return received.error // it names its layer, which may be another
	}
	return &Error{"import", importLayerName(i, l), err}
}

func (b *baseImport) readLayer(ctx context.Context, i int, fn func(*layerStream) error) error {
	return b.readStream(ctx, i, &b.layers[i], fn)
}

// readCommit reads the layer that begins with the commit.
func (b *baseImport) readCommit(ctx context.Context) error {
	sink := &commitSink{base: b, files: map[ostree.Checksum]string{}}
	return b.readLayer(ctx, 0, func(s *layerStream) error {
		if _, err := readObjects(ctx, s, true, sink); err != nil {
			return err
		}
		var err error
		if b.needed, err = b.first.Needs(ctx, b.commit); err != nil {
			return err
		}
		var extra []string
		for c, name := range sink.files {
			if _, ok := b.needed[c]; !ok {
				extra = append(extra, name)
			}
		}
		if len(extra) > 0 {
			return &entryError{slices.Min(extra), errExtra}
		}
		return nil
	})
}

// errExtra is the fault of an object that the commit does not have.
var errExtra = fmt.Errorf("no part of the commit: %w", ostree.ErrCorrupt)

// receivedError is a fault of a file that was handed over before: another call
// than the one that handed it over may report it.
type receivedError struct{ error }

func (e *receivedError) Unwrap() error { return e.error }

// deliver hands a file over.
func deliver(ctx context.Context, d *ostree.Delivery, layer string, f *ostree.ReceivedFile) error {
	f.Name = layer + ": " + f.Name
	if err := d.File(ctx, f); err != nil {
		return &receivedError{err}
	}
	return nil
}

// commitSink takes what the commit's layer has.
type commitSink struct {
	base  *baseImport
	files map[ostree.Checksum]string
	items []ostree.MetadataItem // detached from the commit
}

func (s *commitSink) commit(c ostree.Checksum, data []byte) error {
	b := s.base
	if got := ostree.Checksum(sha256.Sum256(data)); got != c {
		return fmt.Errorf("commit has checksum %s: %w", got, ostree.ErrCorrupt)
	}
	if !b.wanted(c) {
		return fmt.Errorf("commit is %s, label %s says %s: %w", c, LabelCommit, b.want, ostree.ErrCorrupt)
	}
	var err error
	if b.commit, err = ostree.DecodeCommit(data); err != nil {
		return err
	}
	if err := b.labelled(b.commit); err != nil {
		return err
	}
	b.found = c
	b.whole = &ostree.ReceivedCommit{Checksum: c, Data: data}
	if b.opts.CommitOnly {
		if b.opts.Ref != "" {
			b.whole.Refs = []string{b.opts.Ref}
		}
		return nil
	}
	ref, err := layerRef(b.layers[0].descriptor.Digest)
	b.whole.Refs = []string{ref}
	return err
}

func (s *commitSink) detached(data []byte) (err error) {
	s.base.whole.Detached = data
	if s.items, err = ostree.DecodeMetadata(data); err != nil {
		return fmt.Errorf("detached metadata: %w", err)
	}
	return nil
}

func (s *commitSink) judge(ctx context.Context) error {
	b := s.base
	if b.opts.VerifyCommit == nil {
		return nil
	}
	if err := b.opts.VerifyCommit(ctx, slices.Clone(b.whole.Data), s.items); err != nil {
		return fmt.Errorf("commit %s: %w", b.found, err)
	}
	return nil
}

func (s *commitSink) metadata(ctx context.Context, kind ostree.ObjectType, c ostree.Checksum, data []byte) error {
	return s.base.first.Metadata(ctx, kind, c, data)
}

func (s *commitSink) file(ctx context.Context, f *ostree.ReceivedFile) error {
	s.files[f.Checksum] = f.Name
	return deliver(ctx, s.base.first, importLayerName(0, &s.base.layers[0]), f)
}

// chunkSink takes what a layer of content has.
type chunkSink struct {
	delivery *ostree.Delivery
	needed   map[ostree.Checksum]struct{}
	layer    string
}

func (s *chunkSink) commit(ostree.Checksum, []byte) error {
	return errors.ErrUnsupported // readObjects finds none in such a layer
}

func (s *chunkSink) detached([]byte) error       { return errors.ErrUnsupported }
func (s *chunkSink) judge(context.Context) error { return nil }

func (s *chunkSink) metadata(context.Context, ostree.ObjectType, ostree.Checksum, []byte) error {
	return errors.ErrUnsupported
}

func (s *chunkSink) file(ctx context.Context, f *ostree.ReceivedFile) error {
	if _, ok := s.needed[f.Checksum]; !ok {
		return errExtra
	}
	return deliver(ctx, s.delivery, s.layer, f)
}

// derived stores the layers from number first on as commits of their files.
func (im *importer) derived(ctx context.Context, done *Imported, layers []builtLayer, first int) ([]ostree.Layer, error) {
	if first == len(layers) {
		return nil, nil
	}
	rules, err := im.rules(ctx, done.Base)
	if err != nil {
		return nil, err
	}
	out := make([]ostree.Layer, len(layers)-first)
	var mu sync.Mutex
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(cmp.Or(im.opts.Layers, defaultImportLayers))
	for i := first; i < len(layers); i++ {
		l := &layers[i]
		var meta *layerMeta
		c, err := im.known(ctx, l, func(c *ostree.Commit) bool {
			var ok bool
			meta, ok = readLayerMeta(c)
			return ok && meta.rules == rules.String()
		})
		if err == nil && !c.IsZero() {
			if err = im.reuse(ctx, l, c); err == nil {
				out[i-first], err = im.layer(ctx, done.Base, c, meta)
			}
		}
		if err != nil {
			return nil, err
		}
		if !c.IsZero() {
			continue
		}
		group.Go(func() error {
			c, meta, filtered, err := im.storeLayer(gctx, i, l, rules)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for name, n := range filtered {
				done.Filtered[name] += n
			}
			im.progress(l)
			out[i-first], err = im.layer(gctx, done.Base, c, meta)
			return err
		})
	}
	return out, group.Wait()
}
