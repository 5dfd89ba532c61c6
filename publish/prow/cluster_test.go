package prow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/prow"
)

const pullSpec = "example.com/okd/scos@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

// cluster answers every request by fn. internal/e2e has one that answers in
// OpenShift's own types.
func cluster(t testing.TB, fn http.HandlerFunc) *prow.Cluster {
	server := httptest.NewServer(fn)
	t.Cleanup(server.Close)
	c, err := prow.NewCluster(server.URL, &prow.ClusterOptions{
		Transport: server.Client().Transport, Token: func(context.Context) (string, error) { return "hunter2", nil },
	})
	require.NoError(t, err)
	return c
}

func status(code int, reason, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code})
	}
}

// TestClusterRefuses has the API server refuse, and answer nonsense: one clear
// error each, of the kind that programs know, without the token.
func TestClusterRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		kind   error
		want   string
	}{
		"unauthorized":         {status(401, "Unauthorized", "Unauthorized"), fs.ErrPermission, "Unauthorized"},
		"forbidden":            {status(403, "Forbidden", `imagestreams "s" is forbidden`), fs.ErrPermission, "is forbidden"},
		"not found":            {status(404, "NotFound", `imagestreams "s" not found`), fs.ErrNotExist, "not found"},
		"another wrote":        {status(409, "Conflict", "the object has been modified"), publish.ErrConflict, "modified"},
		"invalid":              {status(422, "Invalid", "spec.tags is invalid"), nil, "spec.tags is invalid"},
		"a page":               {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400); _, _ = io.WriteString(w, "<html>") }, nil, "400 Bad Request"},
		"not JSON":             {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, nil, "invalid character"},
		"nothing":              {func(http.ResponseWriter, *http.Request) {}, nil, "unexpected end"},
		"a terminal's command": {status(400, "x", "\x1b[2J"), nil, " [2J"},
		"too much": {func(w http.ResponseWriter, _ *http.Request) {
			for range 33 {
				_, _ = w.Write(make([]byte, 1<<20))
			}
		}, nil, "33554432"},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, func(w http.ResponseWriter, r *http.Request) {
				require.Equal(t, "Bearer hunter2", r.Header.Get("Authorization"))
				require.Equal(t, "/apis/image.openshift.io/v1/namespaces/origin/imagestreams/s", r.URL.Path)
				tc.answer(w, r)
			})
			_, err := c.ImageStream(t.Context(), "origin/s")
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), "hunter2")
			require.NotContains(t, err.Error(), "\x1b")
			if tc.kind != nil {
				require.ErrorIs(t, err, tc.kind)
			}
			e, ok := errors.AsType[*prow.Error](err)
			require.True(t, ok)
			require.Equal(t, "origin/s", e.Target)
		})
	}
}

func TestImportAnswers(t *testing.T) {
	image := func(name string) prow.ImportImage {
		return prow.ImportImage{From: prow.ObjectReference{Name: name}, To: &prow.TagName{Name: "a"}}
	}
	for name, tc := range map[string]struct {
		answer string
		want   string
	}{
		"imported":        {`{"status":{"images":[{"status":{"status":"Success"},"image":{"metadata":{"name":"sha256:1"}},"tag":"a"}]}}`, ""},
		"not imported":    {`{"status":{"images":[{"status":{"status":"Failure","message":"you may not have access","code":401}}]}}`, "quay.io/okd/scos:4.22: you may not have access"},
		"says nothing":    {`{"status":{"images":[{"status":{}}]}}`, "the server says"},
		"without image":   {`{"status":{"images":[{"status":{"status":"Success"}}]}}`, "no image"},
		"about none":      {`{"status":{}}`, "the answer is about 0"},
		"about more":      {`{"status":{"images":[{},{}]}}`, "the answer is about 2"},
		"a list of lists": {`{"status":{"images":[[]]}}`, "cannot unmarshal"},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); _, _ = io.WriteString(w, tc.answer) })
			_, err := c.Import(t.Context(), "origin/s", image("quay.io/okd/scos:4.22"))
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
		})
	}
	untouched := cluster(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s %s", r.Method, r.URL) })
	for _, images := range [][]prow.ImportImage{
		nil, {image("no image at all!")}, {{From: prow.ObjectReference{Name: "a"}}},
		{{From: prow.ObjectReference{Kind: "ImageStreamTag", Name: "a:b"}, To: &prow.TagName{Name: "a"}}},
	} {
		_, err := untouched.Import(t.Context(), "origin/s", images...)
		require.Error(t, err)
	}
	for _, stream := range []string{"", "s", "/s", "origin/", "origin/../kube-system", "origin/s/t", "Origin/s", "origin/s:t"} {
		_, err := untouched.ImageStream(t.Context(), stream)
		require.ErrorIs(t, err, fs.ErrInvalid, stream)
		_, err = untouched.Import(t.Context(), stream, image("a"))
		require.ErrorIs(t, err, fs.ErrInvalid, stream)
		require.ErrorIs(t, untouched.Tag(t.Context(), stream, "t", pullSpec), fs.ErrInvalid)
		require.ErrorIs(t, untouched.Map(t.Context(), stream, "t", pullSpec), fs.ErrInvalid)
	}
	for _, tag := range []string{"", "a/b", "..", "a:b", strings.Repeat("a", 129)} {
		require.ErrorIs(t, untouched.Tag(t.Context(), "origin/s", tag, pullSpec), fs.ErrInvalid)
		require.ErrorIs(t, untouched.Untag(t.Context(), "origin/s", tag, pullSpec), fs.ErrInvalid)
		require.ErrorIs(t, untouched.Map(t.Context(), "origin/s", tag, pullSpec), fs.ErrInvalid)
		_, err := untouched.ImageStreamTag(t.Context(), "origin/s", tag)
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
	require.Error(t, untouched.Tag(t.Context(), "origin/s", "t", "example.com/r:tag"), "a tag may move")
	require.Error(t, untouched.Map(t.Context(), "origin/s", "t", "example.com/r:tag"))
}

// TestTagAgain: a lost answer is found out, another's tag is not overwritten.
func TestTagAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		follows string
		looks   int // the status of the look
		want    error
	}{
		"ours":         {`{"spec":{"tags":[{"name":"t","from":{"kind":"DockerImage","name":"` + pullSpec + `"}}]}}`, 200, nil},
		"another's":    {`{"spec":{"tags":[{"name":"t","from":{"kind":"DockerImage","name":"example.com/x"}}]}}`, 200, fs.ErrExist},
		"gone again":   {`{"spec":{}}`, 200, fs.ErrExist},
		"not told":     {`{}`, 403, fs.ErrPermission},
		"no reference": {`{"spec":{"tags":[{"name":"t"}]}}`, 200, fs.ErrExist},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					status(409, "AlreadyExists", "already exists")(w, r)
					return
				}
				w.WriteHeader(tc.looks)
				_, _ = io.WriteString(w, tc.follows)
			})
			err := c.Tag(t.Context(), "origin/s", "t", pullSpec)
			if tc.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, tc.want)
		})
	}
}

func TestNewCluster(t *testing.T) {
	for _, address := range []string{"", "api.example.com", "http://api.example.com:6443", "ftp://x", "https://", "https://user:hunter2@[bad"} {
		_, err := prow.NewCluster(address, nil)
		require.Error(t, err, address)
		require.NotContains(t, err.Error(), "hunter2")
	}
	c := func() *prow.Cluster {
		c, err := prow.NewCluster("https://api.example.com:6443", &prow.ClusterOptions{Token: func(context.Context) (string, error) { return "", fs.ErrPermission }})
		require.NoError(t, err)
		return c
	}()
	_, err := c.ImageStream(t.Context(), "origin/s")
	require.ErrorIs(t, err, fs.ErrPermission)
}

func TestWriteArtifact(t *testing.T) {
	dir := t.TempDir()
	j := &prow.JUnit{Cases: []prow.Case{{Suite: "gates", Name: "install"}}}
	require.NoError(t, j.WriteArtifact(dir, "junit_gates.xml"))
	file, err := os.Open(filepath.Join(dir, "junit_gates.xml"))
	require.NoError(t, err)
	defer file.Close()
	back, err := prow.DecodeJUnit(file)
	require.NoError(t, err)
	require.Equal(t, j, back)
	for _, name := range []string{"gates.xml", "junit.json", "../junit.xml", "junit/../x.xml", "junit_a b.xml"} {
		require.ErrorIs(t, j.WriteArtifact(dir, name), fs.ErrInvalid, name)
	}
	require.ErrorIs(t, j.WriteArtifact(filepath.Join(dir, "gone"), "junit.xml"), fs.ErrNotExist)
}

func ExampleCluster() {
	// A cluster, in place of https://api.HOST:6443.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:] {
		case "POST imagestreamimports":
			_, _ = fmt.Fprint(w, `{"status":{"images":[{"status":{"status":"Success"},"image":{"metadata":{"name":"sha256:ab12"}}}]}}`)
		case "GET scos-4.22":
			_, _ = fmt.Fprintf(w, `{"spec":{"tags":[{"name":"old","from":{"kind":"DockerImage","name":%q}}]},"status":{"tags":[]}}`, pullSpec)
		case "GET scos-4.22:stream-coreos":
			_, _ = fmt.Fprint(w, `{"tag":null,"image":{"metadata":{"name":"sha256:ab12"}}}`)
		default:
			_, _ = fmt.Fprint(w, `{}`)
		}
	}))
	defer server.Close()
	ctx := context.Background()
	c, err := prow.NewCluster(server.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	const stream = "origin/scos-4.22"
	imported, err := c.Import(ctx, stream, prow.ImportImage{
		From: prow.ObjectReference{Name: "quay.io/okd/scos:4.22"}, To: &prow.TagName{Name: "stream-coreos"}, ImportPolicy: prow.ImportPolicy{Scheduled: true},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(imported.Status.Images[0].Image.Metadata.Name)
	tag, err := c.ImageStreamTag(ctx, stream, "stream-coreos")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(tag.Image.Metadata.Name)
	fmt.Println(errors.Join(
		c.Tag(ctx, stream, "4.22.0-okd-scos.1", pullSpec),
		c.Untag(ctx, stream, "old", pullSpec),
		c.Map(ctx, stream, "installer", pullSpec),
	))
	s, err := c.ImageStream(ctx, stream)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Spec.Tags[0].Name)
	// Output:
	// sha256:ab12
	// sha256:ab12
	// <nil>
	// old
}
