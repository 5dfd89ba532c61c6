package remoteregistry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// referrer makes a manifest with a subject; its type is the config's.
func referrer(t testing.TB, seed uint64, subject v1.Descriptor, artifactType string) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(image(t, seed, 10), types.MediaType(artifactType))
	img = mutate.Annotations(img, map[string]string{"seed": fmt.Sprint(seed)}).(v1.Image)
	return mutate.Subject(img, subject).(v1.Image)
}

func listReferrers(t testing.TB, r *remoteregistry.Registry, subject name.Digest, artifactType string) map[v1.Hash]v1.Descriptor {
	t.Helper()
	out := map[v1.Hash]v1.Descriptor{}
	for d, err := range r.Referrers(t.Context(), subject, artifactType) {
		require.NoError(t, err)
		require.NotContains(t, out, d.Digest)
		out[d.Digest] = d
	}
	return out
}

func TestReferrers(t *testing.T) {
	t.Parallel()
	testReferrers(t, host(server(t)), false)
}

func TestReferrersDockerRegistry(t *testing.T) { testReferrers(t, interop.Registry(t), true) }

// go-containerregistry's server knows the API, but neither the types nor the
// header that says so.
func TestReferrersWithoutTypes(t *testing.T) {
	t.Parallel()
	h := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(h.Close)
	testReferrers(t, host(h.URL), true)
}

func testReferrers(t *testing.T, target string, standIn bool) {
	r := open(t, nil)
	repo := repository(t, target, "okd/a")
	img := image(t, 100, 1000)
	subject, err := r.WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	at := repo.Digest(subject.Digest.String())
	require.Empty(t, listReferrers(t, r, at, ""))
	require.Empty(t, listReferrers(t, r, repository(t, target, "okd/nowhere").Digest(subject.Digest.String()), ""))

	const signature, sbom = "application/vnd.example.signature", "application/vnd.example.sbom"
	want := map[v1.Hash]string{}
	for i, kind := range []string{signature, sbom, signature} {
		d, err := r.WriteImage(t.Context(), repo, referrer(t, uint64(101+i), subject, kind), nil)
		require.NoError(t, err)
		want[d.Digest] = kind
	}
	again, err := r.WriteImage(t.Context(), repo, referrer(t, 101, subject, signature), nil)
	require.NoError(t, err)
	require.Contains(t, want, again.Digest)
	got := listReferrers(t, r, at, "")
	require.ElementsMatch(t, slices.Collect(maps.Keys(want)), slices.Collect(maps.Keys(got)))
	if standIn && got[again.Digest].ArtifactType != "" {
		require.Equal(t, signature, got[again.Digest].ArtifactType)
		require.Equal(t, map[string]string{"seed": "101"}, got[again.Digest].Annotations)
	}
	require.Len(t, listReferrers(t, r, at, signature), 2)
	require.Len(t, listReferrers(t, r, at, sbom), 1)
	require.Empty(t, listReferrers(t, r, at, "application/x"))
	for range r.Referrers(t.Context(), at, "") {
		break
	}
	tag, err := remoteregistry.AttachedTag(at, remoteregistry.ReferrersSuffix)
	require.NoError(t, err)
	_, err = r.Index(t.Context(), tag)
	require.Equal(t, standIn, err == nil, "the stand-in exists where it is needed alone: %v", err)

	// go-containerregistry reads what we wrote and we read what it wrote.
	opts := []remote.Option{remote.WithContext(t.Context())}
	theirs, err := remote.Referrers(at, opts...)
	require.NoError(t, err)
	m, err := theirs.IndexManifest()
	require.NoError(t, err)
	require.Len(t, m.Manifests, 3)
	other := referrer(t, 110, subject, sbom)
	require.NoError(t, remote.Write(repo.Digest(digest(t, other).String()), other, opts...))
	require.Len(t, listReferrers(t, r, at, ""), 4)
	// An index may be a referrer too, and a subject may be missing.
	lost := v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: digest(t, image(t, 111, 1)), Size: 1}
	idx := mutate.Subject(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), lost).(v1.ImageIndex)
	_, err = r.WriteIndex(t.Context(), repo, idx, nil)
	require.NoError(t, err)
	require.Len(t, listReferrers(t, r, repo.Digest(lost.Digest.String()), ""), 1)
}

// Many writers in one program and others beside it.
func TestReferrersFallback(t *testing.T) {
	t.Parallel()
	front := lie(t, server(t), noReferrers)
	repo := repository(t, front, "okd/a")
	r := open(t, nil)
	subject, err := r.WriteImage(t.Context(), repo, image(t, 120, 10), nil)
	require.NoError(t, err)
	at := repo.Digest(subject.Digest.String())
	errs := make([]error, 6)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = r.WriteImage(t.Context(), repo, referrer(t, uint64(121+i), subject, "application/x"), nil)
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	require.Len(t, listReferrers(t, r, at, ""), len(errs))

	// What others put into the index is kept.
	tag, err := remoteregistry.AttachedTag(at, remoteregistry.ReferrersSuffix)
	require.NoError(t, err)
	_, raw, err := r.Manifest(t.Context(), tag)
	require.NoError(t, err)
	var doc map[string]any
	require.NoError(t, json.Unmarshal(raw, &doc))
	doc["annotations"] = map[string]string{"theirs": "<kept>"}
	doc["manifests"].([]any)[0].(map[string]any)["x-unknown"] = "kept too"
	raw, err = json.Marshal(doc)
	require.NoError(t, err)
	d, err := r.WriteManifest(t.Context(), repo, "", raw)
	require.NoError(t, err)
	require.NoError(t, r.Tag(t.Context(), tag, d.Digest))
	_, err = r.WriteImage(t.Context(), repo, referrer(t, 130, subject, "application/x"), nil)
	require.NoError(t, err)
	require.Len(t, listReferrers(t, r, at, ""), len(errs)+1)
	_, raw, err = r.Manifest(t.Context(), tag)
	require.NoError(t, err)
	require.Contains(t, string(raw), `{"theirs":"`)
	require.Contains(t, string(raw), `"x-unknown":"kept too"`)

	// Something else under the tag is left alone.
	other := repository(t, front, "okd/b")
	plain, err := r.WriteImage(t.Context(), other, image(t, 131, 10), nil)
	require.NoError(t, err)
	require.NoError(t, r.Tag(t.Context(), other.Tag(tag.TagStr()), plain.Digest))
	_, err = r.WriteImage(t.Context(), other, referrer(t, 132, subject, "application/x"), nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	now, err := r.Head(t.Context(), other.Tag(tag.TagStr()))
	require.NoError(t, err)
	require.Equal(t, plain.Digest, now.Digest)
}

// noReferrers makes a server one from before there were referrers.
func noReferrers(w http.ResponseWriter, r *http.Request, ask func() *http.Response) bool {
	if strings.Contains(r.URL.Path, "/referrers/") {
		http.NotFound(w, r)
		return true
	}
	if r.Method != http.MethodPut {
		return false
	}
	resp := ask()
	defer resp.Body.Close()
	for key, values := range resp.Header {
		if key != "Oci-Subject" {
			w.Header()[key] = values
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
	return true
}

// Others may write the stand-in at the same moment.
func TestReferrersAreContended(t *testing.T) {
	t.Parallel()
	target := server(t)
	direct := open(t, nil)
	subject := v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: digest(t, image(t, 140, 1)), Size: 1}
	path := repository(t, host(target), "okd/a")
	tag, err := remoteregistry.AttachedTag(path.Digest(subject.Digest.String()), "")
	require.NoError(t, err)
	always := false
	thieves := 0
	front := lie(t, target, func(w http.ResponseWriter, r *http.Request, ask func() *http.Response) bool {
		if done := noReferrers(w, r, ask); r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, tag.TagStr()) && (always || thieves == 0) {
			thieves++
			// Another program writes what it made from the same state.
			raw := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"n":"%d"}}`, types.OCIImageIndex, thieves)
			d, err := direct.WriteManifest(r.Context(), path, "", []byte(raw))
			if err == nil {
				err = direct.Tag(r.Context(), tag, d.Digest)
			}
			if err != nil {
				t.Error(err)
			}
			return done
		} else {
			return done
		}
	})
	r := open(t, &remoteregistry.Options{Attempts: 3})
	repo := repository(t, front, "okd/a")
	_, err = r.WriteImage(t.Context(), repo, referrer(t, 141, subject, "application/x"), nil)
	require.NoError(t, err)
	require.Len(t, listReferrers(t, r, repo.Digest(subject.Digest.String()), ""), 1)
	always = true
	_, err = r.WriteImage(t.Context(), repo, referrer(t, 142, subject, "application/x"), nil)
	require.ErrorIs(t, err, publish.ErrConflict)
}

func TestReferrersLies(t *testing.T) {
	t.Parallel()
	subject := digest(t, image(t, 150, 1))
	entry := func(n int) string {
		return fmt.Sprintf(`{"mediaType":%q,"size":%d,"digest":"sha256:%064d","artifactType":"application/x"}`, types.OCIManifestSchema1, n, n)
	}
	for what, tc := range map[string]struct {
		answer http.HandlerFunc
		want   int
		text   string // of the error; "": none
	}{
		"pages": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", string(types.OCIImageIndex))
			page := r.URL.Query().Get("page")
			if page == "" {
				w.Header().Set("Link", `<?page=2&artifactType=application%2Fx>; rel="next"`)
				fmt.Fprintf(w, `{"manifests":[%s,%s]}`, entry(1), entry(2))
				return
			}
			fmt.Fprintf(w, `{"manifests":[%s,%s]}`, entry(2), entry(3))
		}, 3, ""},
		"no end": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(types.OCIImageIndex))
			w.Header().Set("Link", `<?page=2>; rel="next"`)
			fmt.Fprintf(w, `{"manifests":[%s]}`, entry(1))
		}, 1, "does not end"},
		"elsewhere": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(types.OCIImageIndex))
			w.Header().Set("Link", `<https://elsewhere.example/>; rel="next"`)
			fmt.Fprintf(w, `{"manifests":[%s]}`, entry(1))
		}, 1, "another server"},
		"huge": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(types.OCIImageIndex))
			for range 100 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, 0, "too large"},
		"not an index": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(types.OCIImageIndex))
			fmt.Fprint(w, `<html>`)
		}, 0, "invalid character"},
		"a path": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(types.OCIImageIndex))
			fmt.Fprint(w, `{"manifests":[{"digest":"sha256:../../x","size":1}]}`)
		}, 0, "non-hex"},
		"a size below zero": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(types.OCIImageIndex))
			fmt.Fprint(w, strings.Replace(`{"manifests":[`+entry(1)+`]}`, `"size":1`, `"size":-1`, 1))
		}, 0, "digest mismatch"},
		"a page for people": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, `<html>`)
		}, 0, ""},
		"refused": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, 0, "403"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.Contains(r.URL.Path, "/referrers/"):
					tc.answer(w, r)
				case r.URL.Path != "/v2/":
					http.NotFound(w, r)
				}
			}))
			t.Cleanup(h.Close)
			n := 0
			var err error
			for _, err = range open(t, &remoteregistry.Options{Attempts: 2}).Referrers(t.Context(), repository(t, host(h.URL), "okd/a").Digest(subject.String()), "application/x") {
				if err == nil {
					n++
				}
			}
			require.Equal(t, tc.want, n)
			if tc.text == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.text)
			require.ErrorContains(t, err, "publish: referrers "+host(h.URL)+"/okd/a@"+subject.String())
		})
	}
}

func TestAttachedTag(t *testing.T) {
	t.Parallel()
	d, err := name.NewDigest("registry.example/okd/a@sha256:" + strings.Repeat("ab", 32))
	require.NoError(t, err)
	for suffix, want := range map[string]string{
		remoteregistry.ReferrersSuffix: "sha256-" + strings.Repeat("ab", 32),
		remoteregistry.SignatureSuffix: "sha256-" + strings.Repeat("ab", 32) + ".sig",
	} {
		tag, err := remoteregistry.AttachedTag(d, suffix)
		require.NoError(t, err)
		require.Equal(t, "registry.example/okd/a:"+want, tag.String())
	}
	_, err = remoteregistry.AttachedTag(d, "/../x")
	require.Error(t, err)
	_, err = remoteregistry.AttachedTag(name.Digest{}, "")
	require.Error(t, err)
}

// A stop between a referrer's manifest and its entry is made good by writing
// again.
func TestReferrerWrittenHalf(t *testing.T) {
	t.Parallel()
	front := lie(t, server(t), noReferrers)
	isEntry := func(r *http.Request) bool {
		return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/sha256-")
	}
	proxy := interop.Proxy(t, "http://"+front, interop.Fault{Match: isEntry, Status: http.StatusForbidden, Times: 1})
	repo := repository(t, proxy.Host, "okd/a")
	r := open(t, nil)
	subject, err := r.WriteImage(t.Context(), repo, image(t, 160, 10), nil)
	require.NoError(t, err)
	img := referrer(t, 161, subject, "application/x")
	_, err = r.WriteImage(t.Context(), repo, img, nil)
	require.Error(t, err)
	require.Empty(t, listReferrers(t, r, repo.Digest(subject.Digest.String()), ""))
	desc, err := r.WriteImage(t.Context(), repo, img, nil)
	require.NoError(t, err)
	require.Contains(t, listReferrers(t, r, repo.Digest(subject.Digest.String()), ""), desc.Digest)
	d, err := partial.Descriptor(img)
	require.NoError(t, err)
	require.Equal(t, d.Digest, desc.Digest)
}
