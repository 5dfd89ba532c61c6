package bootimagecmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/open"
)

// exported is a build that was copied.
type exported struct {
	Build string `json:"build"`
	Arch  string `json:"arch"`
	Files int    `json:"files"`
	Size  int64  `json:"size"` // bytes, also of what was there already
	To    string `json:"to"`
}

// build is one that is exported, and how its files are opened.
type build struct {
	*bootimage.ImportedBuild
	open func(f bootimage.ImportedFile) (publish.Source, error)
}

func (c *common) export() *cobra.Command {
	var id string
	var arches []string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "export [FLAGS] FROM TO",
		Short: "Copy builds between coreos-assembler's folders and indexes of disk images in registries",
		Long: `Copy builds between coreos-assembler's folders and indexes of disk images in registries.

FROM and TO are each one of
  builds:PATH      folder with builds.json; as TO also a store, as builds:s3://BUCKET/PREFIX
  images:PULLSPEC  index of disk images in a registry; as TO with the tag that it gets
Disks in the index are of the types application/vnd.diskimage.*, as coreos-assembler
imports them and Konflux pushes them; what else the build has goes along, so that it
comes back whole: signatures, release.json, what builds.json says of it, its tags, and of
builds that were deleted. From an index of others, without it, records are made of the labels of
the container image in it. Every file is verified. What is there already stays, and is
not moved again.`,
		DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, given []string) error {
			if len(given) != 2 {
				return explain(cmd, ui.WrongArguments(cmd, given))
			}
			return nil
		},
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return explain(cmd, c.runExport(cmd, args[0], args[1], id, arches, quiet))
	}
	flags := cmd.Flags()
	flags.StringVar(&id, "build", "", "`ID` of the build (default: the newest of a folder, all of an index)")
	flags.StringArrayVar(&arches, "arch", nil, "`ARCHITECTURE` to copy; may be repeated (default: all)")
	flags.BoolVarP(&quiet, "quiet", "q", false, "no progress")
	return cmd
}

func (c *common) runExport(cmd *cobra.Command, from, to, id string, arches []string, quiet bool) error {
	c.output = ui.Format(cmd)
	ctx := cmd.Context()
	fromFolder, fromBuilds := strings.CutPrefix(from, "builds:")
	fromSpec, fromImages := strings.CutPrefix(from, "images:")
	toFolder, toBuilds := strings.CutPrefix(to, "builds:")
	toSpec, toImages := strings.CutPrefix(to, "images:")
	if !fromBuilds && !fromImages || !toBuilds && !toImages {
		return ui.Usagef("FROM and TO begin with builds: or images:")
	}
	if fromImages && toImages {
		return ui.Next(ui.Usagef("both are in registries"), "skopeo copy --all docker://... docker://... copies an index")
	}
	var builds []build
	var err error
	if fromBuilds {
		builds, err = buildsIn(ctx, fromFolder, id, arches)
	} else {
		builds, err = c.buildsOf(ctx, fromSpec, id, arches)
	}
	if err != nil {
		return err
	}
	moved := newMoved(cmd, builds, quiet)
	defer moved.done()
	if toBuilds {
		err = toStore(ctx, toFolder, builds, moved)
	} else {
		err = c.toIndex(ctx, toSpec, builds, moved)
	}
	if err != nil {
		return err
	}
	moved.done()
	var all []exported
	for _, b := range builds {
		e := exported{Build: b.ID, Arch: b.Arch, Files: len(b.Files), To: to}
		for _, f := range b.Files {
			e.Size += f.Size
		}
		all = append(all, e)
	}
	return ui.Write(cmd.OutOrStdout(), c.output, all, func(w io.Writer) error {
		rows := [][]string{{"BUILD", "ARCH", "FILES", "SIZE", "TO"}}
		for _, e := range all {
			rows = append(rows, []string{e.Build, e.Arch, fmt.Sprint(e.Files), ui.Size(e.Size), e.To})
		}
		return ui.Table(w, rows)
	})
}

// moved shows how far an export is.
type moved struct {
	show     func(done, total int64)
	done     func()
	n, total int64
}

func newMoved(cmd *cobra.Command, builds []build, quiet bool) *moved {
	m := &moved{}
	for _, b := range builds {
		for _, f := range b.Files {
			m.total += f.Size
		}
	}
	m.show, m.done = progress(cmd, "builds", quiet)
	return m
}

func (m *moved) add(n int64) {
	m.n += n
	m.show(m.n, m.total)
}

// buildsIn reads the builds of a folder, all files verified.
func buildsIn(ctx context.Context, folder, id string, arches []string) ([]build, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, ui.Next(err, "give the folder with builds.json")
	}
	defer root.Close()
	file, err := root.Open(bootimage.BuildsFile)
	if err != nil {
		return nil, ui.Next(err, "give the folder with builds.json, and below it ID/ARCH/meta.json")
	}
	catalogue, err := bootimage.DecodeBuilds(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	entry, ok := catalogue.Value().Latest("")
	if id != "" {
		at := slices.IndexFunc(catalogue.Value().Builds, func(e bootimage.BuildEntry) bool { return e.ID == id })
		if ok = at >= 0; ok {
			entry = catalogue.Value().Builds[at]
		}
	}
	if !ok {
		if id == "" {
			return nil, ui.Next(fmt.Errorf("%s: no build: %w", folder, fs.ErrNotExist), "give a folder with builds, as coreos-assembler makes it")
		}
		return nil, ui.Next(fmt.Errorf("%s: build %.140q: %w", folder, id, fs.ErrNotExist), "its builds.json lists the builds")
	}
	if len(arches) == 0 {
		arches = entry.Arches
	}
	var all []build
	for _, arch := range arches {
		b, err := bootimage.ImportBuild(ctx, root.FS(), arch, &bootimage.ImportOptions{Build: entry.ID, Checksums: true})
		if err != nil {
			return nil, err
		}
		all = append(all, build{b, func(f bootimage.ImportedFile) (publish.Source, error) {
			return publish.FileSource(filepath.Join(folder, filepath.FromSlash(f.Path)))
		}})
	}
	return all, nil
}

// disks is the index of disk images at a pullspec.
type disks struct {
	blobs publish.Blobs
	tag   func(ctx context.Context, tag name.Tag, digest v1.Hash) error
	ref   name.Reference
}

func (s *source) disks(ctx context.Context, pullspec string) (*disks, error) {
	ref, err := name.ParseReference(pullspec)
	if err != nil {
		return nil, &ui.UsageError{Err: err}
	}
	registry, err := open.Registry(ctx, s.registry, &open.RegistryOptions{Remote: s.remote.Options(nil)})
	if err != nil {
		return nil, &ui.UsageError{Err: err}
	}
	blobs, ok := registry.(publish.Blobs)
	if !ok {
		return nil, fmt.Errorf("registry %s gives no single blobs: %w", s.registry, errors.ErrUnsupported)
	}
	return &disks{blobs, registry.Tag, ref}, nil
}

// read gives the index, and how documents of it are read.
func (d *disks) read(ctx context.Context) (index []byte, blob func(digest string) ([]byte, error), err error) {
	desc, index, err := d.blobs.Manifest(ctx, d.ref)
	if err != nil {
		return nil, nil, ui.Next(err, "check the pullspec, and --authfile if the registry wants credentials")
	}
	if desc.MediaType != types.OCIImageIndex {
		return nil, nil, ui.Next(fmt.Errorf("%s is of type %.80q, no index: %w", d.ref, desc.MediaType, errors.ErrUnsupported),
			"give the pullspec of an OCI index with disk images; of a release payload say release:PULLSPEC")
	}
	manifests := map[string]bool{}
	if list, err := v1.ParseIndexManifest(bytes.NewReader(index)); err == nil {
		for _, m := range list.Manifests {
			manifests[m.Digest.String()] = true
		}
	}
	return index, func(digest string) ([]byte, error) {
		hash, err := v1.NewHash(digest)
		if err != nil {
			return nil, fmt.Errorf("digest %.80q: %w", digest, fs.ErrInvalid)
		}
		if manifests[digest] {
			_, data, err := d.blobs.Manifest(ctx, d.ref.Context().Digest(digest))
			return data, err
		}
		size, err := d.blobs.StatBlob(ctx, d.ref.Context(), hash)
		if err != nil {
			return nil, err
		}
		if size > bootimage.MaxDocumentSize {
			return nil, fmt.Errorf("blob %s of %d bytes, at most %d are read: %w", digest, size, bootimage.MaxDocumentSize, fs.ErrInvalid)
		}
		r, err := d.blobs.OpenBlob(ctx, d.ref.Context(), v1.Descriptor{Digest: hash, Size: size})
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(r, size+1))
		return data, errors.Join(err, r.Close())
	}, nil
}

// index reads what an index of disk images has.
func (s *source) index(ctx context.Context, pullspec string) (*document, error) {
	d, err := s.disks(ctx, pullspec)
	if err != nil {
		return nil, err
	}
	index, blob, err := d.read(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := bootimage.DiskIndexEntries(index, d.ref.Context().Name(), blob)
	if err != nil {
		return nil, err
	}
	return &document{Origin: &bootimage.Origin{Kind: bootimage.OriginDiskIndex, Entries: entries}}, nil
}

// buildsOf reads the builds of an index.
func (c *common) buildsOf(ctx context.Context, pullspec, id string, arches []string) ([]build, error) {
	d, err := c.disks(ctx, pullspec)
	if err != nil {
		return nil, err
	}
	index, blob, err := d.read(ctx)
	if err != nil {
		return nil, err
	}
	builds, err := bootimage.BuildsOfIndex(index, blob)
	if err != nil {
		return nil, err
	}
	var all []build
	for _, b := range builds {
		if id != "" && b.ID != id || len(arches) > 0 && !slices.Contains(arches, b.Arch) {
			continue
		}
		all = append(all, build{b, func(f bootimage.ImportedFile) (publish.Source, error) {
			return &blobSource{d, v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: f.SHA256}, Size: f.Size}}, nil
		}})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no disks of build %q, architectures %v: %w", pullspec, id, arches, fs.ErrNotExist)
	}
	return all, nil
}

// blobSource is a blob of a registry; its reader verifies.
type blobSource struct {
	*disks
	desc v1.Descriptor
}

func (b *blobSource) Size() int64 { return b.desc.Size }

func (b *blobSource) Open(ctx context.Context) (io.ReadCloser, error) {
	return b.blobs.OpenBlob(ctx, b.ref.Context(), b.desc)
}

// toStore writes builds into a folder or a store of that layout: files, records, and the
// catalogue last.
func toStore(ctx context.Context, to string, builds []build, m *moved) (err error) {
	if !strings.Contains(to, "://") {
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		to = "dir:" + to
	}
	store, err := open.Store(ctx, to, nil)
	if err != nil {
		return &ui.UsageError{Err: err}
	}
	if closer, ok := store.(io.Closer); ok {
		defer func() { err = errors.Join(err, closer.Close()) }()
	}
	for _, b := range builds {
		dir := path.Join(b.ID, b.Arch)
		for _, f := range b.Files {
			src, err := b.open(f)
			if err != nil {
				return err
			}
			if err := putFile(ctx, store, path.Join(dir, f.Name), src, f, m); err != nil {
				return err
			}
		}
		meta := b.Meta
		record := func(old []byte) ([]byte, error) {
			// It refuses other files; joined are the keys that it does not know, too.
			if _, err := bootimage.PutMeta(*meta.Value())(old); err != nil {
				return nil, err
			}
			return bootimage.MergeMeta(meta.Bytes())(old)
		}
		if _, err := publish.Update(ctx, store, path.Join(dir, bootimage.MetaFile), record, nil); err != nil {
			return err
		}
		if b.Release != nil {
			if _, err := publish.Update(ctx, store, path.Join(b.ID, bootimage.ReleaseFile), bootimage.MergeRelease(b.Release.Bytes()), nil); err != nil {
				return err
			}
		}
	}
	catalogue := func(old []byte) (data []byte, err error) {
		data = old
		for _, b := range builds {
			join := bootimage.AddBuild(bootimage.Build{ID: b.ID, Arch: b.Arch, Time: time.Now()})
			if b.Catalogue != nil {
				join = bootimage.MergeBuilds(b.Catalogue.Bytes(), time.Now())
			}
			if data, err = join(data); err != nil {
				return nil, err
			}
			if c := b.Cleanup; c.Images || c.CloudUploads || c.Containers {
				if data, err = bootimage.CleanBuild(b.ID, c, time.Now())(data); err != nil {
					return nil, err
				}
			}
		}
		return data, nil
	}
	_, err = publish.Update(ctx, store, bootimage.BuildsFile, catalogue, nil)
	return err
}

// putFile writes a file that is not there yet, and refuses one of other bytes.
func putFile(ctx context.Context, store publish.Store, key string, src publish.Source, f bootimage.ImportedFile, m *moved) error {
	var last int64
	_, err := store.Put(ctx, key, src, &publish.PutOptions{
		SHA256: f.SHA256, IfAbsent: true, ContentType: bootimage.ContentType(f.Name),
		Progress: func(done, _ int64) { m.add(done - last); last = done },
	})
	m.add(f.Size - last)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	r, _, err := store.Open(ctx, key)
	if err != nil {
		return err
	}
	there, err := bootimage.Measure(ctx, r, &bootimage.MeasureOptions{Plain: true})
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if there.SHA256 != f.SHA256 {
		return ui.Next(fmt.Errorf("%s is there already, with SHA-256 %s, not %s: %w", key, there.SHA256, f.SHA256, fs.ErrExist), "a build's files never change: give the build another id, or another folder")
	}
	return nil
}

// toIndex pushes builds: files, documents, the index, and its tag last.
func (c *common) toIndex(ctx context.Context, pullspec string, builds []build, m *moved) error {
	d, err := c.disks(ctx, pullspec)
	if err != nil {
		return err
	}
	tag, ok := d.ref.(name.Tag)
	if !ok {
		return ui.Usagef("%s: TO is named by a tag, not by digest", pullspec)
	}
	var plain []*bootimage.ImportedBuild
	for _, b := range builds {
		plain = append(plain, b.ImportedBuild)
	}
	index, err := bootimage.NewBuildIndex(plain)
	if err != nil {
		return err
	}
	repo := tag.Context()
	write := func(desc v1.Descriptor, src func() (publish.Source, error)) error {
		if size, err := d.blobs.StatBlob(ctx, repo, desc.Digest); err == nil && size == desc.Size {
			return nil
		}
		s, err := src()
		if err != nil {
			return err
		}
		return d.blobs.WriteBlob(ctx, repo, desc, s)
	}
	for _, b := range builds {
		for _, f := range b.Files {
			desc := v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: f.SHA256}, Size: f.Size}
			if err := write(desc, func() (publish.Source, error) { return b.open(f) }); err != nil {
				return err
			}
			m.add(f.Size)
		}
	}
	for _, blob := range index.Configs {
		hash, err := v1.NewHash(blob.Digest)
		if err != nil {
			return err
		}
		if err := write(v1.Descriptor{Digest: hash, Size: int64(len(blob.Data))}, func() (publish.Source, error) { return publish.BytesSource(blob.Data), nil }); err != nil {
			return err
		}
	}
	for _, manifest := range append(index.Manifests, index.Index) {
		if _, err := d.blobs.WriteManifest(ctx, repo, types.MediaType(manifest.MediaType), manifest.Data); err != nil {
			return err
		}
	}
	digest, err := v1.NewHash(index.Index.Digest)
	if err != nil {
		return err
	}
	return d.tag(ctx, tag, digest)
}
