package daily

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/stream"
)

// Artifacts that are in the commit itself.
const (
	liveKernel    = "live-kernel"
	liveInitramfs = "live-initramfs"
)

// archiveArtifact is the base image as a file. coreos-assembler's schema wants it
// beside any other artifact, and its tools make disks of it.
const archiveArtifact = "ostree"

// artifactName is an artifact of a definition as the catalogue calls it.
func artifactName(a stream.Artifact) string {
	if a.Platform == "live" {
		return a.Platform + "-" + a.Format
	}
	return a.Platform
}

// artifact is a file of the build with its content.
type artifact struct {
	name, file string
	measured   bootimage.Measurement
	source     publish.Source
	unstamped  bool
}

// objectSource is a content object of the repository as a publish.Source.
type objectSource struct {
	repo     *ostree.Repo
	checksum ostree.Checksum
	size     int64
}

func (s objectSource) Size() int64 { return s.size }

func (s objectSource) Open(ctx context.Context) (io.ReadCloser, error) {
	file, err := s.repo.ReadFile(ctx, s.checksum)
	if err != nil {
		return nil, err
	}
	return file.Open(ctx)
}

// bucket is where the stream's files lie in the store.
func (b *build) bucket() (bootimage.Bucket, error) {
	prefix, err := b.def.Store.Prefix.Expand(stream.Vars{Stream: b.def.Identity.Name, Arch: string(b.arch()), Minor: b.def.Version.String()})
	if err != nil {
		return bootimage.Bucket{}, err
	}
	bucket := bootimage.Bucket{Stream: b.def.Identity.Name, Prefix: prefix, ACL: b.def.Store.ACL}
	if base := b.publicURL(); base != "" {
		bucket.Bases = []string{base}
	}
	return bucket, nil
}

// publicURL is where readers find the store, without slash at the end.
func (b *build) publicURL() string { return strings.TrimSuffix(b.env.publicURL(b.def), "/") }

// key is the key of a file of the stream.
func (b *build) key(file bootimage.BucketFile) (string, error) {
	bucket, err := b.bucket()
	if err != nil {
		return "", err
	}
	return bucket.Key(file)
}

// buildsKey is the folder of builds in the store.
func (b *build) buildsKey() (string, error) {
	key, err := b.key(bootimage.BucketFile{Kind: bootimage.FileBuilds})
	return path.Dir(key), err
}

// streamKey is the document that users and installers read.
func (b *build) streamKey() string {
	key, err := b.key(bootimage.BucketFile{Kind: bootimage.FileStream})
	if err != nil {
		return "" // and so is the folder of builds, which is asked for first
	}
	return key
}

// file is a file of this build.
func (b *build) file(kind bootimage.FileKind, name string) bootimage.BucketFile {
	f := bootimage.BucketFile{Kind: kind, Build: b.id, Name: name}
	if kind != bootimage.FileRelease {
		f.Arch = string(b.in.Arch)
	}
	return f
}

// catalogue reads builds.json; an empty one if there is none.
func (b *build) catalogue(ctx context.Context) (*bootimage.Builds, error) {
	key, err := b.key(bootimage.BucketFile{Kind: bootimage.FileBuilds})
	if err != nil {
		return nil, err
	}
	body, _, err := b.env.Store.Open(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return &bootimage.Builds{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer body.Close()
	document, err := bootimage.DecodeBuilds(body)
	if err != nil {
		return nil, err
	}
	return document.Value(), nil
}

// bootimage measures the build's artifacts.
func (b *build) bootimage(ctx context.Context) error {
	input := []any{b.committed.Commit, b.in.Pinned.Disks, b.def.Store.Prefix, b.def.Identity.OSName}
	return b.step(ctx, StepBootimage, input, &b.boot, nil, func(ctx context.Context, _ *Record) error {
		meta, err := b.key(b.file(bootimage.FileMeta, ""))
		if err != nil {
			return err
		}
		b.boot = BootimageOutputs{Prefix: path.Dir(meta)}
		artifacts, err := b.artifacts(ctx)
		if err != nil {
			return err
		}
		for _, a := range artifacts {
			key, err := b.key(b.file(bootimage.FileArtifact, a.file))
			if err != nil {
				return err
			}
			b.boot.Artifacts = append(b.boot.Artifacts, ArtifactOutputs{Name: a.name, Key: key, Size: a.measured.Size, SHA256: a.measured.SHA256})
		}
		return nil
	})
}

// artifacts are the kernel and initramfs of the commit and the disks that were
// handed in. Each is measured once in a run.
func (b *build) artifacts(ctx context.Context) ([]artifact, error) {
	if b.files != nil {
		return b.files, nil
	}
	commit, err := b.repo.ReadCommit(ctx, b.committed.Commit)
	if err != nil {
		return nil, err
	}
	name := func(what, ext string) string {
		return bootimage.ArtifactPath(b.def.Identity.OSName, b.id, what, string(b.in.Arch), ext)
	}
	given := func(artifact string) bool {
		return slices.ContainsFunc(b.in.Pinned.Disks, func(d PinnedDisk) bool { return d.Platform == artifact })
	}
	var files []artifact
	for _, part := range []struct{ artifact, file, ext string }{{liveKernel, "vmlinuz", ""}, {liveInitramfs, "initramfs.img", "img"}} {
		if given(part.artifact) {
			continue // a live system's has more in it than the commit's
		}
		checksum, err := b.lookup(ctx, commit.RootTree, modulesDir+"/"+b.committed.Kernel+"/"+part.file)
		if errors.Is(err, fs.ErrNotExist) && part.artifact == liveInitramfs {
			continue // some kernels need none
		}
		if err != nil {
			return nil, err
		}
		object, err := b.repo.ReadFile(ctx, checksum)
		if err != nil {
			return nil, err
		}
		a := artifact{name: part.artifact, file: name(part.artifact, part.ext), source: objectSource{b.repo, checksum, object.Size}}
		if a.measured, err = measure(ctx, a.source); err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
		files = append(files, a)
	}
	for _, disk := range b.in.Pinned.Disks {
		source, err := publish.FileSource(disk.Path)
		if err != nil {
			return nil, err
		}
		files = append(files, artifact{disk.Platform, name(disk.Platform, b.extension(disk.Path)), disk.Measured, source, disk.Unstamped})
	}
	if !given(archiveArtifact) {
		img, err := b.encapsulated(ctx)
		if err != nil {
			return nil, err
		}
		source, err := archiveImage(img)
		if err != nil {
			return nil, err
		}
		a := artifact{name: archiveArtifact, file: name(archiveArtifact, "ociarchive"), source: source}
		if a.measured, err = measure(ctx, source); err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
		files = append(files, a)
	}
	b.files = files
	return files, nil
}

func measure(ctx context.Context, source publish.Source) (bootimage.Measurement, error) {
	body, err := source.Open(ctx)
	if err != nil {
		return bootimage.Measurement{}, err
	}
	measured, err := bootimage.Measure(ctx, body, &bootimage.MeasureOptions{Plain: true})
	return measured, errors.Join(err, body.Close())
}

// extension is what a disk's file name has after the architecture, if it is
// named as coreos-assembler names files, else after the first dot.
func (b *build) extension(file string) string {
	base := filepath.Base(file)
	if _, ext, ok := strings.Cut(base, "."+string(b.in.Arch)+"."); ok {
		return ext
	}
	if strings.HasSuffix(base, "-"+liveKernel+"."+string(b.in.Arch)) || strings.HasSuffix(base, "-"+liveKernel+"-"+string(b.in.Arch)) {
		return ""
	}
	_, ext, _ := strings.Cut(base, ".")
	return ext
}

// meta is the build's record in the catalogue.
func (b *build) meta(ctx context.Context) (bootimage.Meta, error) {
	artifacts, err := b.artifacts(ctx)
	if err != nil {
		return bootimage.Meta{}, err
	}
	m := bootimage.Meta{
		BuildID:               b.id,
		Name:                  b.def.Identity.OSName,
		Ref:                   b.committed.Ref,
		Summary:               b.def.Identity.Title,
		OSTreeCommit:          b.committed.Commit.String(),
		OSTreeContentChecksum: b.committed.Content.String(),
		OSTreeTimestamp:       b.in.Time,
		OSTreeVersion:         b.id,
		Images:                map[string]bootimage.Image{},
		Arch:                  string(b.in.Arch),
		BuildTimestamp:        b.in.Time,
		BaseImage:             containerImage(&b.base),
		Extensions:            containerImage(b.nodes.Extensions),
		ReleasePayload:        containerImage(&b.release.ImageOutputs),
	}
	for _, a := range artifacts {
		image := a.measured.Image(a.file)
		image.Unstamped = a.unstamped
		m.Images[a.name] = image
	}
	return m, nil
}

func containerImage(out *ImageOutputs) *bootimage.ContainerImage {
	if out == nil {
		return nil
	}
	repo, digest, _ := strings.Cut(out.Reference, "@")
	return &bootimage.ContainerImage{Image: repo, Digest: digest}
}
