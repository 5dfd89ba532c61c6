package container_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// umociTree has what layers can get wrong: owners, modes, attributes, hard links,
// long names, links to anywhere.
func umociTree(t testing.TB) ostree.Tree {
	t.Helper()
	files := map[string]string{
		"usr/share/" + strings.Repeat("long/", 30) + "name": "long", "usr/share/" + strings.Repeat("n", 120): "name",
		"usr/lib/dots": "->a/./b/..", "usr/lib/" + strings.Repeat("l", 110): "->" + strings.Repeat("t", 110), "usr/ü/é": "ü", "var/lib/x": "v", "usr/share/copy": sample["usr/bin/bash"],
	}
	for path, text := range sample {
		files[path] = text
	}
	return tagTree(ostree.FS(mapFS(files)), map[string]string{"usr/ü/é": "tagged"})
}

// umociImages are images of all kinds that are made here.
func umociImages(t testing.TB) map[string]v1.Image {
	t.Helper()
	repo := newRepo(t)
	c, err := repo.Commit(t.Context(), umociTree(t), &ostree.CommitOptions{
		Subject: "umoci", Timestamp: time.Unix(1700000000, 0), NoFsync: true, Edit: func(e *ostree.Entry) (bool, error) {
			if strings.HasPrefix(e.Path, "usr/share/") {
				e.UID, e.GID = 70000, 8
				if e.Mode&ostree.ModeType == ostree.ModeRegular {
					e.Mode |= 0o4000
				}
			}
			return true, nil
		},
	})
	require.NoError(t, err)
	cache := openCache(t, t.TempDir())
	images := map[string]v1.Image{}
	for _, codec := range []container.Codec{container.Gzip, container.Zstd, container.None} {
		for _, f := range []struct {
			dialect container.Dialect
			version int
		}{{container.V1b, 1}, {container.V1b, 2}, {container.V1a, 1}, {container.Plain, 0}} {
			for name, components := range map[string][]container.Component{"one": nil, "chunks": split(t, repo, c)} {
				images[fmt.Sprintf("%s %s %d %s", codec, f.dialect, f.version, name)] = encapsulate(t, cache, repo, c, &container.EncapsulateOptions{
					Codec: codec, Dialect: f.dialect, FormatVersion: f.version, Components: components, Architecture: "x86_64"})
			}
		}
	}
	signed, err := container.ReplaceDetachedMetadata(t.Context(), cache, images["gzip v1b 1 chunks"], detached(t, "signature"))
	require.NoError(t, err)
	images["gzip signed"] = signed
	return images
}

// umociWritten writes an image to a folder, by a tag.
func umociWritten(t testing.TB, img v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	require.NoError(t, err)
	require.NoError(t, path.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"})))
	return dir
}

// systemEntries are a tree's entries but those of the image's repository. Of
// directories that no layer has, what unpacks them decides.
func systemEntries(t testing.TB, tree ostree.Tree) map[string]string {
	t.Helper()
	out := map[string]string{}
	for e, err := range tree.Entries(t.Context()) {
		require.NoError(t, err)
		if e.Path == "." || strings.HasPrefix(e.Path, "sysroot") {
			continue
		}
		line := fmt.Sprintf("%o %d:%d %s", e.Mode, e.UID, e.GID, e.Target)
		for _, x := range e.Xattrs {
			line += fmt.Sprintf(" %s=%q", x.Name, x.Value)
		}
		if e.Mode&ostree.ModeType == ostree.ModeRegular {
			rc, err := e.Open(t.Context())
			require.NoError(t, err)
			h, n, err := v1.SHA256(rc)
			require.NoError(t, err)
			require.NoError(t, rc.Close())
			line += fmt.Sprintf(" %d %s", n, h)
		}
		out[e.Path] = line
	}
	return out
}

// umoci unpacks our images to what is in them, in every format that it knows.
func TestUmociUnpacks(t *testing.T) {
	interop.Peer(t, "umoci")
	if os.Getuid() != 0 {
		t.Skip("umoci keeps owners only for root")
	}
	for name, img := range umociImages(t) {
		t.Run(name, func(t *testing.T) {
			dir, bundle := umociWritten(t, img), filepath.Join(t.TempDir(), "bundle")
			out, err := tryRun(t, "umoci", "unpack", "--image", dir+":latest", bundle)
			if strings.HasPrefix(name, "zstd") {
				// umoci 0.4 doesn't know the media type, and says so.
				require.Error(t, err)
				require.Contains(t, out, "zstd")
				return
			}
			require.NoError(t, err, out)
			root, err := os.OpenRoot(filepath.Join(bundle, "rootfs"))
			require.NoError(t, err)
			defer root.Close()
			require.Equal(t, systemEntries(t, container.Flatten(img)), systemEntries(t, ostree.Dir(root)))

			if strings.Contains(name, string(container.Plain)) {
				require.NoDirExists(t, filepath.Join(bundle, "rootfs", "sysroot"))
				return
			}
			// The repository is there as well, hard links and all.
			objects := 0
			require.NoError(t, filepath.WalkDir(filepath.Join(bundle, "rootfs", "sysroot", "ostree", "repo", "objects"), func(path string, d fs.DirEntry, err error) error {
				if filepath.Ext(path) == ".file" {
					objects++
				}
				return err
			}))
			require.Equal(t, 15, objects)
		})
	}
}

// validate.Image and skopeo take all of them; a copy has the same manifest.
func TestSkopeoCopies(t *testing.T) {
	interop.Peer(t, "skopeo")
	for name, img := range umociImages(t) {
		t.Run(name, func(t *testing.T) {
			requireValid(t, img)
			dir, to := umociWritten(t, img), t.TempDir()
			for _, target := range []string{"dir:" + filepath.Join(to, "dir"), "oci:" + filepath.Join(to, "oci") + ":x", "oci-archive:" + filepath.Join(to, "a.tar")} {
				out, err := tryRun(t, "skopeo", "--insecure-policy", "copy", "--preserve-digests", "oci:"+dir+":latest", target)
				require.NoError(t, err, out)
			}
			back := importLayout(t, filepath.Join(to, "oci"))
			require.Equal(t, digest(t, img), digest(t, back))
			requireValid(t, back)
		})
	}
}
