package registryserver_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	ocitypes "github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

// foreign starts olareg over dir, the server that the form of referrers is from.
func foreign(t testing.TB, dir string) (host string, stop func()) {
	t.Helper()
	yes, no := true, false
	s := olareg.New(config.Config{
		Storage: config.ConfigStorage{StoreType: config.StoreDir, RootDir: dir, GC: config.ConfigGC{Frequency: -1, Untagged: &no, EmptyRepo: &no, ReferrersDangling: &no, ReferrersWithSubj: &no}},
		API:     config.ConfigAPI{PushEnabled: &yes, DeleteEnabled: &yes, Blob: config.ConfigAPIBlob{DeleteEnabled: &no}, Referrer: config.ConfigAPIReferrer{Enabled: &yes}},
	})
	var mu sync.Mutex // it has data races between requests
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		s.ServeHTTP(w, req)
	}))
	return strings.TrimPrefix(h.URL, "http://"), func() {
		h.Close()
		_ = s.Close() // it complains of repositories that were never written
	}
}

// The suite that holds us holds for a server of others too.
func TestConformanceOlareg(t *testing.T) {
	if !interop.Enabled() {
		t.Skip("shows nothing of ours")
	}
	publishtest.TestRegistry(t, func(t *testing.T) (publish.Registry, name.Repository) {
		host, stop := foreign(t, t.TempDir())
		t.Cleanup(stop)
		return remote(t), repository(t, host, "okd/release")
	}, publishtest.ClaimBlobs, publishtest.ClaimReferrers, publishtest.ClaimDelete)
}

// What olareg wrote is read, and olareg reads what is written next to it.
func TestOlaregFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	host, stop := foreign(t, dir)
	r := remote(t)
	multi, err := random.Index(1000, 1, 2)
	require.NoError(t, err)
	sign := func(host string, desc v1.Descriptor) {
		t.Helper()
		sig := mutate.Subject(mutate.ConfigMediaType(mutate.MediaType(mustImage(t), ocitypes.OCIManifestSchema1), "application/a"), desc).(v1.Image)
		_, err := r.WriteImage(t.Context(), repository(t, host, "okd/release"), sig, nil)
		require.NoError(t, err)
	}
	check := func(host string, desc v1.Descriptor, referrers int, want ...string) {
		t.Helper()
		repo := repository(t, host, "okd/release")
		var tags []string
		for tag, err := range r.Tags(t.Context(), repo) {
			require.NoError(t, err)
			tags = append(tags, tag)
		}
		require.Equal(t, want, tags)
		for _, tag := range want {
			idx, err := r.Index(t.Context(), repo.Tag(tag))
			require.NoError(t, err)
			require.NoError(t, validate.Index(idx))
		}
		n := 0
		for _, err := range r.Referrers(t.Context(), repo.Digest(desc.Digest.String()), "application/a") {
			require.NoError(t, err)
			n++
		}
		require.Equal(t, referrers, n)
	}
	write := func(host, tag string) v1.Descriptor {
		t.Helper()
		repo := repository(t, host, "okd/release")
		desc, err := r.WriteIndex(t.Context(), repo, multi, nil)
		require.NoError(t, err)
		require.NoError(t, r.Tag(t.Context(), repo.Tag(tag), desc.Digest))
		sign(host, desc)
		return desc
	}
	desc := write(host, "theirs")
	stop()
	ours := serve(t, dir, nil)
	check(ours, desc, 1, "theirs")
	write(ours, "ours")
	check(ours, desc, 2, "ours", "theirs")
	host, stop = foreign(t, dir)
	defer stop()
	check(host, desc, 2, "ours", "theirs")
}
