package layoutregistry_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	registry, err := layoutregistry.Open(ctx, dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	// The host is not used: the image is in dir/okd/release.
	repo := name.MustParseReference("localhost/okd/release:4.20").Context()
	desc, err := registry.WriteImage(ctx, repo, empty.Image, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := registry.Tag(ctx, repo.Tag("4.20"), desc.Digest); err != nil {
		fmt.Println(err)
		return
	}
	for tag, err := range registry.Tags(ctx, repo) {
		fmt.Println(tag, err)
	}
	head, err := registry.Head(ctx, repo.Tag("4.20"))
	fmt.Println(head.MediaType, err)
	// Output:
	// 4.20 <nil>
	// application/vnd.docker.distribution.manifest.v2+json <nil>
}

// written gives a registry with an image in localhost/okd/release.
func written(ctx context.Context, dir string) (*layoutregistry.Registry, name.Repository, v1.Descriptor, error) {
	repo := name.MustParseReference("localhost/okd/release:4.20").Context()
	registry, err := layoutregistry.Open(ctx, dir, nil)
	if err != nil {
		return nil, repo, v1.Descriptor{}, err
	}
	img := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	desc, err := registry.WriteImage(ctx, repo, img, nil)
	return registry, repo, desc, err
}

// A month after an image lost its last tag it is removed.
func ExampleRegistry_GC() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	registry, repo, desc, err := written(ctx, dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := registry.Tag(ctx, repo.Tag("4.20"), desc.Digest); err != nil {
		fmt.Println(err)
		return
	}
	if err := registry.Untag(ctx, repo.Tag("4.20")); err != nil {
		fmt.Println(err)
		return
	}
	report, err := registry.GC(ctx, &layoutregistry.GCOptions{
		Now:    time.Now().Add(31 * 24 * time.Hour),
		Grace:  30 * 24 * time.Hour,
		DryRun: true,
		Removed: func(g layoutregistry.Garbage) {
			fmt.Println(g.Repository, g.Manifest, g.Size)
		},
	})
	fmt.Println(report.Manifests, report.Blobs, report.Bytes, err)
	// Unordered output:
	// okd/release true 248
	// okd/release false 115
	// 1 1 363 <nil>
}

func ExampleRegistry_Delete() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	registry, repo, desc, err := written(ctx, dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	ref := repo.Digest(desc.Digest.String())
	fmt.Println(registry.Delete(ctx, ref))
	_, err = registry.Head(ctx, ref)
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output:
	// <nil>
	// true
}

func ExampleRegistry_Verify() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	registry, repo, desc, err := written(ctx, dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := os.Remove(filepath.Join(dir, "okd/release/blobs/sha256", desc.Digest.Hex)); err != nil {
		fmt.Println(err)
		return
	}
	for repo, err := range registry.Repositories(ctx, repo.Registry) {
		if err != nil {
			fmt.Println(err)
			return
		}
		err = registry.Verify(ctx, repo, &layoutregistry.VerifyOptions{Quick: true})
		fmt.Println(repo.RepositoryStr(), errors.Is(err, fs.ErrNotExist))
	}
	// Output:
	// okd/release true
}

// The parts of an image, one by one; a blob that another repository has is
// linked from there.
func ExampleRegistry_WriteManifest() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	registry, from, desc, err := written(ctx, dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, raw, err := registry.Manifest(ctx, from.Digest(desc.Digest.String()))
	if err != nil {
		fmt.Println(err)
		return
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		fmt.Println(err)
		return
	}
	to := name.MustParseReference("localhost/okd/mirror:4.20").Context()
	_, err = registry.WriteManifest(ctx, to, desc.MediaType, raw)
	fmt.Println("without its blobs:", errors.Is(err, fs.ErrNotExist))
	fmt.Println(registry.MountBlob(ctx, to, manifest.Config.Digest, from))
	got, err := registry.WriteManifest(ctx, to, desc.MediaType, raw)
	fmt.Println(got.Digest == desc.Digest, err)
	// Output:
	// without its blobs: true
	// <nil>
	// true <nil>
}

func ExampleRegistry_WriteBlob() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	registry, repo, _, err := written(ctx, dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	digest, size, err := v1.SHA256(strings.NewReader("a signature"))
	if err != nil {
		fmt.Println(err)
		return
	}
	blob := v1.Descriptor{Digest: digest, Size: size}
	fmt.Println(registry.WriteBlob(ctx, repo, blob, publish.BytesSource([]byte("a signature"))))
	fmt.Println(registry.StatBlob(ctx, repo, digest))
	rc, err := registry.OpenBlob(ctx, repo, blob)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	fmt.Println(string(data), err)
	// Output:
	// <nil>
	// 11 <nil>
	// a signature <nil>
}

func ExampleRegistry_Referrers() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	registry, repo, desc, err := written(ctx, dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	signature := mutate.Subject(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), "application/example.signature"), desc).(v1.Image)
	if _, err := registry.WriteImage(ctx, repo, signature, nil); err != nil {
		fmt.Println(err)
		return
	}
	for d, err := range registry.Referrers(ctx, repo.Digest(desc.Digest.String()), "") {
		fmt.Println(d.ArtifactType, err)
	}
	// Output:
	// application/example.signature <nil>
}

func ExampleRegistry_WriteIndex() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	registry, err := layoutregistry.Open(ctx, dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	repo := name.MustParseReference("localhost/okd/release:4.20").Context()
	multi := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: empty.Image})
	desc, err := registry.WriteIndex(ctx, repo, multi, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	idx, err := registry.Index(ctx, repo.Digest(desc.Digest.String()))
	if err != nil {
		fmt.Println(err)
		return
	}
	manifest, err := idx.IndexManifest()
	if err != nil {
		fmt.Println(err)
		return
	}
	img, err := idx.Image(manifest.Manifests[0].Digest)
	if err != nil {
		fmt.Println(err)
		return
	}
	layers, err := img.Layers()
	fmt.Println(len(manifest.Manifests), "image with", len(layers), "layers", err)
	// Output:
	// 1 image with 0 layers <nil>
}

// A repository that is there before anything is in it.
func ExampleRegistry_Begin() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	registry, err := layoutregistry.Open(ctx, dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	repo := name.MustParseReference("localhost/okd/release:4.20").Context()
	fmt.Println(registry.Begin(ctx, repo))
	for found, err := range registry.Repositories(ctx, repo.Registry) {
		fmt.Println(found.RepositoryStr(), err)
	}
	// Output:
	// <nil>
	// okd/release <nil>
}

// A manifest by a digest of SHA-512, as what is signed with it names it.
func ExampleRegistry_WriteManifestAs() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	registry, err := layoutregistry.Open(ctx, dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	repo := name.MustParseReference("localhost/okd/release:4.20").Context()
	raw := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	digest := v1.Hash{Algorithm: "sha512", Hex: fmt.Sprintf("%x", sha512.Sum512(raw))}
	desc, err := registry.WriteManifestAs(ctx, repo, digest, types.OCIImageIndex, raw)
	fmt.Println(desc.Size, desc.Digest == digest, err)
	// Output:
	// 88 true <nil>
}
