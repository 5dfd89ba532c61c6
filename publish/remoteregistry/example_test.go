package remoteregistry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/registryserver"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

func Example() {
	ctx := context.Background()
	err := func() error {
		// A registry of our own; any other is spoken to in the same way.
		dir, err := os.MkdirTemp("", "")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		server, err := registryserver.Open(ctx, dir, nil)
		if err != nil {
			return err
		}
		defer server.Close()
		front := httptest.NewServer(server)
		defer front.Close()

		registry, err := remoteregistry.Open(ctx, &remoteregistry.Options{AuthFiles: remoteregistry.AuthFiles(os.Getenv)})
		if err != nil {
			return err
		}
		repo, err := name.NewRepository(strings.TrimPrefix(front.URL, "http://") + "/okd/release")
		if err != nil {
			return err
		}
		desc, err := registry.WriteImage(ctx, repo, empty.Image, nil)
		if err != nil {
			return err
		}
		if err := registry.Tag(ctx, repo.Tag("latest"), desc.Digest); err != nil {
			return err
		}
		head, err := registry.Head(ctx, repo.Tag("latest"))
		if err != nil {
			return err
		}
		fmt.Println(head.MediaType)
		for tag, err := range registry.Tags(ctx, repo) {
			if err != nil {
				return err
			}
			fmt.Println(tag)
		}
		img, err := registry.Image(ctx, repo.Tag("latest"))
		if err != nil {
			return err
		}
		list, err := registry.WriteIndex(ctx, repo, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img}), nil)
		if err != nil {
			return err
		}
		idx, err := registry.Index(ctx, repo.Digest(list.Digest.String()))
		if err != nil {
			return err
		}
		manifest, err := idx.IndexManifest()
		if err != nil {
			return err
		}
		fmt.Println(len(manifest.Manifests), "image in the index")
		return nil
	}()
	fmt.Println("error:", err)
	// Output:
	// application/vnd.docker.distribution.manifest.v2+json
	// latest
	// 1 image in the index
	// error: <nil>
}

// Blobs and manifests one by one, and what is attached to them.
func ExampleRegistry_Referrers() {
	ctx := context.Background()
	err := func() error {
		dir, err := os.MkdirTemp("", "")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		server, err := registryserver.Open(ctx, dir, &registryserver.Options{AllowDelete: true})
		if err != nil {
			return err
		}
		defer server.Close()
		front := httptest.NewServer(server)
		defer front.Close()

		registry, err := remoteregistry.Open(ctx, &remoteregistry.Options{
			CertDirs:      remoteregistry.CertDirs(os.Getenv),
			Mirrors:       remoteregistry.MirrorFiles(func(string) string { return "" }),
			ImmutableTags: []string{"4.*"},
		})
		if err != nil {
			return err
		}
		host, err := name.NewRegistry(strings.TrimPrefix(front.URL, "http://"))
		if err != nil {
			return err
		}
		repo, build := host.Repo("okd/release"), host.Repo("okd/build")
		image, err := registry.WriteImage(ctx, repo, empty.Image, nil)
		if err != nil {
			return err
		}

		// A note about the image: its bytes, then a manifest that names both.
		note, err := registry.WriteStream(ctx, build, strings.NewReader("built from source"))
		if err != nil {
			return err
		}
		if err := registry.MountBlob(ctx, repo, note.Digest, build); err != nil {
			return err
		}
		config := []byte("{}")
		digest, size, err := v1.SHA256(bytes.NewReader(config))
		if err != nil {
			return err
		}
		if err := registry.WriteBlob(ctx, repo, v1.Descriptor{Digest: digest, Size: size}, publish.BytesSource(config)); err != nil {
			return err
		}
		note.MediaType = "text/plain"
		manifest, err := json.Marshal(v1.Manifest{
			SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Subject: &image,
			Config: v1.Descriptor{MediaType: "application/vnd.example.note", Digest: digest, Size: size},
			Layers: []v1.Descriptor{note},
		})
		if err != nil {
			return err
		}
		if _, err := registry.WriteManifest(ctx, repo, types.OCIManifestSchema1, manifest); err != nil {
			return err
		}

		// Whoever has the image finds the note.
		subject := repo.Digest(image.Digest.String())
		for referrer, err := range registry.Referrers(ctx, subject, "application/vnd.example.note") {
			if err != nil {
				return err
			}
			_, raw, err := registry.Manifest(ctx, repo.Digest(referrer.Digest.String()))
			if err != nil {
				return err
			}
			m, err := v1.ParseManifest(bytes.NewReader(raw))
			if err != nil {
				return err
			}
			size, err := registry.StatBlob(ctx, repo, m.Layers[0].Digest)
			if err != nil {
				return err
			}
			body, err := registry.OpenBlob(ctx, repo, m.Layers[0])
			if err != nil {
				return err
			}
			text, err := io.ReadAll(body)
			if err := errors.Join(err, body.Close()); err != nil {
				return err
			}
			fmt.Printf("%d bytes: %s\n", size, text)
			if err := registry.Delete(ctx, repo.Digest(referrer.Digest.String())); err != nil {
				return err
			}
		}
		if err := registry.Tag(ctx, repo.Tag("next"), image.Digest); err != nil {
			return err
		}
		if err := registry.Untag(ctx, repo.Tag("next")); err != nil {
			return err
		}
		signature, err := remoteregistry.AttachedTag(subject, remoteregistry.SignatureSuffix)
		if err != nil {
			return err
		}
		_, err = registry.Head(ctx, signature)
		fmt.Println("signed:", !errors.Is(err, fs.ErrNotExist))
		for _, err := range registry.Repositories(ctx, host) {
			fmt.Println("can list repositories:", !errors.Is(err, errors.ErrUnsupported))
		}
		return nil
	}()
	fmt.Println("error:", err)
	// Output:
	// 17 bytes: built from source
	// signed: false
	// can list repositories: false
	// error: <nil>
}
