package remoteregistry_test

import (
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// registriesConf writes one.
func registriesConf(t testing.TB, text string) *remoteregistry.Mirrors {
	t.Helper()
	file := filepath.Join(t.TempDir(), "registries.conf")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return &remoteregistry.Mirrors{File: file}
}

func TestMirrors(t *testing.T) {
	t.Parallel()
	source, mirror := host(server(t)), host(server(t))
	direct := open(t, nil)
	img, only := image(t, 200, 1000, large+1), image(t, 201, 10)
	for _, repo := range []string{source + "/okd/a", mirror + "/copy/okd/a"} {
		desc, err := direct.WriteImage(t.Context(), repository(t, strings.Split(repo, "/")[0], strings.SplitN(repo, "/", 2)[1]), img, nil)
		require.NoError(t, err)
		require.NoError(t, direct.Tag(t.Context(), repository(t, strings.Split(repo, "/")[0], strings.SplitN(repo, "/", 2)[1]).Tag("t"), desc.Digest))
	}
	_, err := direct.WriteImage(t.Context(), repository(t, source, "okd/a"), only, nil)
	require.NoError(t, err)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, dead.Close())

	var asked []string
	tr := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(tr.CloseIdleConnections)
	seen := roundTripper(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.Method+" "+r.URL.Host+" "+r.URL.Path)
		return tr.RoundTrip(r)
	})
	opts := &remoteregistry.Options{Transport: seen, Attempts: 1, Concurrency: 1, Mirrors: registriesConf(t, fmt.Sprintf(`
[[registry]]
location = "%s/okd"
[[registry.mirror]]
location = "%s/okd"
[[registry.mirror]]
location = "%s/copy/okd"
`, source, dead.Addr(), mirror))}
	r := open(t, opts)
	repo := repository(t, source, "okd/a")
	got, err := r.Image(t.Context(), repo.Digest(digest(t, img).String()))
	require.NoError(t, err)
	layers, err := got.Layers()
	require.NoError(t, err)
	require.Equal(t, content(20000, 1000), read(t, layers[0]))
	blob := blobOf(t, content(20000, 1000))
	require.Equal(t, content(20000, 1000), readBlob(t, r, repo, blob))
	_, err = r.StatBlob(t.Context(), repo, blob.Digest)
	require.NoError(t, err)
	_, err = r.Head(t.Context(), repo.Tag("t"))
	require.NoError(t, err)
	require.NotContains(t, strings.Join(asked, "\n"), source)
	require.Contains(t, strings.Join(asked, "\n"), mirror)

	// What no mirror has, the source may; what it lacks too is missing.
	_, err = r.Image(t.Context(), repo.Digest(digest(t, only).String()))
	require.NoError(t, err)
	_, err = r.Head(t.Context(), repo.Tag("missing"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, mirror)
	require.ErrorContains(t, err, "refused", "what was wrong with each mirror")

	// Writing goes to the place that is named.
	asked = nil
	_, err = r.WriteImage(t.Context(), repo, image(t, 202, 10), nil)
	require.NoError(t, err)
	require.NotContains(t, strings.Join(asked, "\n"), mirror)

	// A source that cannot be reached is not one that has nothing.
	opts.Mirrors = registriesConf(t, fmt.Sprintf("[[registry]]\nlocation = \"%s/okd\"\n[[registry.mirror]]\nlocation = \"%s/copy/okd\"\n", dead.Addr(), mirror))
	_, err = open(t, opts).Head(t.Context(), repository(t, dead.Addr().String(), "okd/a").Tag("missing"))
	require.Error(t, err)
	require.NotErrorIs(t, err, fs.ErrNotExist)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What refers to an image is asked of the place that has the image.
func TestMirrorsReferrers(t *testing.T) {
	t.Parallel()
	source, empty, mirror := host(server(t)), host(server(t)), host(server(t))
	direct := open(t, nil)
	img := image(t, 210, 1000)
	desc, err := direct.WriteImage(t.Context(), repository(t, mirror, "okd/a"), img, nil)
	require.NoError(t, err)
	signature := mutate.Subject(image(t, 211, 10), desc).(v1.Image)
	signed, err := direct.WriteImage(t.Context(), repository(t, mirror, "okd/a"), signature, nil)
	require.NoError(t, err)

	r := open(t, &remoteregistry.Options{Attempts: 1, Mirrors: registriesConf(t, fmt.Sprintf(`
[[registry]]
location = "%s/okd"
[[registry.mirror]]
location = "%s/okd"
[[registry.mirror]]
location = "%s/okd"
`, source, empty, mirror))})
	repo := repository(t, source, "okd/a")
	var got []v1.Hash
	for d, err := range r.Referrers(t.Context(), repo.Digest(desc.Digest.String()), "") {
		require.NoError(t, err)
		got = append(got, d.Digest)
	}
	require.Equal(t, []v1.Hash{signed.Digest}, got)

	// Nobody has this one, and so nothing refers to it.
	for range r.Referrers(t.Context(), repo.Digest(digest(t, image(t, 212, 10)).String()), "") {
		require.Fail(t, "a referrer of nothing")
	}
}

func TestMirrorsRules(t *testing.T) {
	t.Parallel()
	target := host(server(t))
	tr := &http.Transport{DialContext: dialTo(target)}
	t.Cleanup(tr.CloseIdleConnections)
	// Blocked registries are neither read nor written.
	blocked := open(t, &remoteregistry.Options{Transport: tr, Mirrors: registriesConf(t, "[[registry]]\nlocation = \"registry.example\"\nblocked = true\n")})
	repo := repository(t, "registry.example", "okd/a")
	img := image(t, 210, 10)
	_, err := blocked.Head(t.Context(), repo.Tag("t"))
	require.ErrorIs(t, err, fs.ErrPermission)
	_, err = blocked.WriteImage(t.Context(), repo, img, nil)
	require.ErrorIs(t, err, fs.ErrPermission)
	require.ErrorIs(t, blocked.Tag(t.Context(), repo.Tag("t"), digest(t, img)), fs.ErrPermission)
	require.ErrorIs(t, blocked.Untag(t.Context(), repo.Tag("t")), fs.ErrPermission)
	require.ErrorIs(t, blocked.WriteBlob(t.Context(), repo, blobOf(t, nil), publish.BytesSource(nil)), fs.ErrPermission)
	require.ErrorIs(t, blocked.MountBlob(t.Context(), repo, blobOf(t, nil).Digest, repo), fs.ErrPermission)

	// Plain HTTP where it is said, and there alone.
	insecure := registriesConf(t, "[[registry]]\nlocation = \"registry.example\"\ninsecure = true\n")
	_, err = open(t, &remoteregistry.Options{Transport: tr, Mirrors: insecure, Attempts: 1}).WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	_, err = open(t, &remoteregistry.Options{Transport: tr, Mirrors: insecure, Attempts: 1}).Head(t.Context(), repo.Digest(digest(t, img).String()))
	require.NoError(t, err)
	_, err = open(t, &remoteregistry.Options{Transport: tr, Mirrors: insecure, Attempts: 1}).WriteImage(t.Context(), repository(t, "other.example", "okd/a"), img, nil)
	require.Error(t, err)

	_, err = remoteregistry.Open(t.Context(), &remoteregistry.Options{Mirrors: &remoteregistry.Mirrors{File: filepath.Join(t.TempDir(), "missing")}})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotEmpty(t, remoteregistry.MirrorFiles(func(string) string { return "" }).Files)
}
