package remoteregistry_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish/registryserver"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

func TestImmutableTags(t *testing.T) {
	t.Parallel()
	target := host(server(t))
	repo := repository(t, target, "okd/a")
	r := open(t, &remoteregistry.Options{ImmutableTags: []string{"4.*", "v[0-9]"}})
	a, err := r.WriteImage(t.Context(), repo, image(t, 170, 10), nil)
	require.NoError(t, err)
	b, err := r.WriteImage(t.Context(), repo, image(t, 171, 10), nil)
	require.NoError(t, err)
	for tag, moves := range map[string]bool{"4.20.0": false, "v1": false, "latest": true, "v10": true} {
		require.NoError(t, r.Tag(t.Context(), repo.Tag(tag), a.Digest))
		require.NoError(t, r.Tag(t.Context(), repo.Tag(tag), a.Digest), "it is there already")
		err := r.Tag(t.Context(), repo.Tag(tag), b.Digest)
		want := b.Digest
		if !moves {
			require.ErrorIs(t, err, fs.ErrExist, tag)
			require.ErrorContains(t, err, a.Digest.String())
			require.ErrorIs(t, r.Untag(t.Context(), repo.Tag(tag)), fs.ErrPermission)
			want = a.Digest
		} else {
			require.NoError(t, err, tag)
		}
		now, err := r.Head(t.Context(), repo.Tag(tag))
		require.NoError(t, err)
		require.Equal(t, want, now.Digest, tag)
	}
	_, err = remoteregistry.Open(t.Context(), &remoteregistry.Options{ImmutableTags: []string{"[a-"}})
	require.ErrorIs(t, err, path.ErrBadPattern)

	// Servers have rules of their own, and each says so in its own way.
	for _, tc := range []struct {
		status int
		body   string
		exists bool
	}{
		{http.StatusPreconditionFailed, `{"errors":[{"code":"PRECONDITION","message":"Failed to process request due to 'okd/a:t' configured as immutable."}]}`, true},
		{http.StatusConflict, ``, true},
		{http.StatusBadRequest, `{"errors":[{"code":"TAG_INVALID","message":"The image tag 't' already exists in the 'a' repository and cannot be overwritten because the repository is immutable."}]}`, true},
		{http.StatusBadRequest, `{"errors":[{"code":"MANIFEST_INVALID","message":"no"}]}`, false},
		{http.StatusForbidden, `{"errors":[{"code":"DENIED","message":"no"}]}`, false},
	} {
		front := lie(t, "http://"+target, func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) bool {
			if r.Method != http.MethodPut {
				return false
			}
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.body)
			return true
		})
		err := open(t, nil).Tag(t.Context(), repository(t, front, "okd/a").Tag("latest"), a.Digest)
		require.Error(t, err)
		require.Equal(t, tc.exists, errors.Is(err, fs.ErrExist), "%v", err)
	}
}

// deletable runs a registry that lets clients delete.
func deletable(t testing.TB) string {
	t.Helper()
	s, err := registryserver.Open(t.Context(), t.TempDir(), &registryserver.Options{AllowDelete: true})
	require.NoError(t, err)
	h := httptest.NewServer(s)
	t.Cleanup(func() { h.CloseClientConnections(); h.Close(); require.NoError(t, s.Close()) })
	return host(h.URL)
}

func TestDelete(t *testing.T) {
	t.Parallel()
	testDelete(t, deletable(t), true)
}

func TestDeleteDockerRegistry(t *testing.T) { testDelete(t, interop.Registry(t), false) }

func testDelete(t *testing.T, target string, tagsAlone bool) {
	repo := repository(t, target, "okd/a")
	r := open(t, nil)
	a, err := r.WriteImage(t.Context(), repo, image(t, 180, 10), nil)
	require.NoError(t, err)
	b, err := r.WriteImage(t.Context(), repo, image(t, 181, 10), nil)
	require.NoError(t, err)
	for tag, d := range map[string]v1.Descriptor{"a1": a, "a2": a, "b": b} {
		require.NoError(t, r.Tag(t.Context(), repo.Tag(tag), d.Digest))
	}
	tags := func() (out []string) {
		for tag, err := range r.Tags(t.Context(), repo) {
			require.NoError(t, err)
			out = append(out, tag)
		}
		return out
	}
	err = r.Untag(t.Context(), repo.Tag("a1"))
	if tagsAlone {
		require.NoError(t, err)
		require.Equal(t, []string{"a2", "b"}, tags())
	} else {
		require.ErrorIs(t, err, errors.ErrUnsupported, "it would take a2 along")
		require.Equal(t, []string{"a1", "a2", "b"}, tags())
	}
	_, err = r.Head(t.Context(), repo.Digest(a.Digest.String()))
	require.NoError(t, err)
	require.NoError(t, r.Delete(t.Context(), repo.Digest(a.Digest.String())))
	require.ErrorIs(t, r.Delete(t.Context(), repo.Digest(a.Digest.String())), fs.ErrNotExist, "it is gone already")
	_, err = r.Head(t.Context(), repo.Digest(a.Digest.String()))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, []string{"b"}, tags())
	require.ErrorIs(t, r.Untag(t.Context(), repo.Tag("missing")), fs.ErrNotExist)
	require.Error(t, r.Untag(t.Context(), repo.Tag("../b")))

	// A referrer leaves its subject.
	at := repo.Digest(b.Digest.String())
	x, err := r.WriteImage(t.Context(), repo, referrer(t, 182, b, "application/x"), nil)
	require.NoError(t, err)
	y, err := r.WriteImage(t.Context(), repo, referrer(t, 183, b, "application/x"), nil)
	require.NoError(t, err)
	require.Len(t, listReferrers(t, r, at, ""), 2)
	require.NoError(t, r.Delete(t.Context(), repo.Digest(x.Digest.String())))
	got := listReferrers(t, r, at, "")
	require.Len(t, got, 1)
	require.Contains(t, got, y.Digest)
}

func TestDeleteRefused(t *testing.T) {
	t.Parallel()
	target := host(server(t))
	repo := repository(t, target, "okd/a")
	r := open(t, nil)
	a, err := r.WriteImage(t.Context(), repo, image(t, 184, 10), nil)
	require.NoError(t, err)
	require.NoError(t, r.Tag(t.Context(), repo.Tag("t"), a.Digest))
	require.ErrorIs(t, r.Untag(t.Context(), repo.Tag("t")), errors.ErrUnsupported)
	require.ErrorIs(t, r.Delete(t.Context(), repo.Digest(a.Digest.String())), errors.ErrUnsupported)
	_, err = r.Head(t.Context(), repo.Tag("t"))
	require.NoError(t, err)
}

func TestRepositoriesDockerRegistry(t *testing.T) {
	target := interop.Registry(t)
	r := open(t, &remoteregistry.Options{PageSize: 2})
	img := image(t, 190, 10)
	var want []string
	for i := range 5 {
		repo := repository(t, target, fmt.Sprintf("okd/r%d", i))
		want = append(want, repo.Name())
		_, err := r.WriteImage(t.Context(), repo, img, nil)
		require.NoError(t, err)
	}
	require.Equal(t, want, repositories(t, r, target))
}

func repositories(t testing.TB, r *remoteregistry.Registry, target string) (out []string) {
	t.Helper()
	reg, err := name.NewRegistry(target)
	require.NoError(t, err)
	for repo, err := range r.Repositories(t.Context(), reg) {
		require.NoError(t, err)
		out = append(out, repo.Name())
	}
	return out
}

func TestRepositories(t *testing.T) {
	t.Parallel()
	reg, err := name.NewRegistry(host(server(t)))
	require.NoError(t, err)
	for _, err := range open(t, nil).Repositories(t.Context(), reg) {
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
	for what, tc := range map[string]struct {
		answer func(w http.ResponseWriter, last string)
		want   int
		text   string
	}{
		"pages": {func(w http.ResponseWriter, last string) {
			if last == "" {
				w.Header().Set("Link", `</v2/_catalog?n=2&last=b>; rel="next"`)
				fmt.Fprint(w, `{"repositories":["a","b"]}`)
				return
			}
			fmt.Fprint(w, `{"repositories":["c/d"]}`)
		}, 3, ""},
		"none":   {func(w http.ResponseWriter, _ string) { fmt.Fprint(w, `{"repositories":null}`) }, 0, ""},
		"a path": {func(w http.ResponseWriter, _ string) { fmt.Fprint(w, `{"repositories":["a","../b"]}`) }, 1, "not allowed"},
		"a loop": {func(w http.ResponseWriter, _ string) {
			w.Header().Set("Link", `</v2/_catalog?n=2&last=b>; rel="next"`)
			fmt.Fprint(w, `{"repositories":["a"]}`)
		}, 2, "does not end"},
		"elsewhere": {func(w http.ResponseWriter, _ string) {
			w.Header().Set("Link", `<//elsewhere.example/v2/_catalog>; rel="next"`)
			fmt.Fprint(w, `{"repositories":["a"]}`)
		}, 1, "another server"},
		"a huge page": {func(w http.ResponseWriter, _ string) {
			fmt.Fprint(w, `{"repositories":["a"`+strings.Repeat(`,"a"`, 3<<20)+`]}`)
		}, 0, "too large"},
		"refused": {func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusUnauthorized) }, 0, "401"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v2/_catalog" {
					tc.answer(w, r.URL.Query().Get("last"))
				}
			}))
			t.Cleanup(h.Close)
			reg, err := name.NewRegistry(host(h.URL))
			require.NoError(t, err)
			n := 0
			for _, err = range open(t, nil).Repositories(t.Context(), reg) {
				if err == nil {
					n++
				}
			}
			require.Equal(t, tc.want, n)
			if tc.text == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tc.text)
				require.ErrorContains(t, err, "publish: repositories "+host(h.URL))
			}
			for range open(t, nil).Repositories(t.Context(), reg) {
				break
			}
		})
	}
}
