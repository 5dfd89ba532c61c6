package tekton_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/stream/tekton"
)

// answer is what an API server says, and what it was asked.
type answer struct {
	status int
	body   string
	asked  []string
	sent   map[string]any
}

func (a *answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.asked = append(a.asked, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Authorization"))
	if body, err := io.ReadAll(r.Body); err == nil && len(body) > 0 {
		if json.Unmarshal(body, &a.sent) != nil {
			a.status = http.StatusBadRequest
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

func cluster(t *testing.T, a *answer) *tekton.Cluster {
	t.Helper()
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	c, err := tekton.NewCluster(server.URL, &tekton.ClusterOptions{
		Transport: server.Client().Transport,
		Token:     func(context.Context) (string, error) { return "secret", nil },
	})
	require.NoError(t, err)
	return c
}

func sampleRun(t testing.TB) *tekton.PipelineRun {
	t.Helper()
	r, err := tekton.Render(cases["sample"].definition(t), cases["sample"].opts)
	require.NoError(t, err)
	require.Equal(t, "okd-coreos-x86-64-", r.Runs[0].Metadata.GenerateName)
	return r.Runs[0]
}

func TestCluster(t *testing.T) {
	a := &answer{status: http.StatusCreated, body: `{"metadata":{"name":"okd-coreos-x86-64-x7k2p"}}`}
	name, err := cluster(t, a).Create(t.Context(), sampleRun(t))
	require.NoError(t, err)
	require.Equal(t, "okd-coreos-x86-64-x7k2p", name)
	require.Equal(t, []string{"POST /apis/tekton.dev/v1/namespaces/okd-coreos/pipelineruns Bearer secret"}, a.asked)
	require.Equal(t, "PipelineRun", a.sent["kind"])
	require.Equal(t, "okd-coreos-x86-64-", a.sent["metadata"].(map[string]any)["generateName"])

	a = &answer{status: http.StatusOK, body: `{"items":[
		{"metadata":{"name":"b","uid":"2","creationTimestamp":"2026-11-25T06:00:00Z"},"status":{"completionTime":"2026-11-25T07:00:00Z","conditions":[{"type":"Succeeded","status":"False","reason":"Failed","message":"Tasks Completed: 3 (Failed: 1)"}]}},
		{"metadata":{"name":"a","uid":"1","creationTimestamp":"2026-11-26T06:00:00Z","labels":{"x":"y"}},"status":{"completionTime":null,"conditions":[{"type":"Succeeded","status":"Unknown","reason":"Running"}]}},
		{"metadata":{"name":"new","uid":"3","creationTimestamp":"2026-11-26T06:00:00Z"}}]}`}
	runs, err := cluster(t, a).Runs(t.Context(), "okd-coreos", map[string]string{"b/c": "d", "a": "x"})
	require.NoError(t, err)
	require.Equal(t, []string{"GET /apis/tekton.dev/v1/namespaces/okd-coreos/pipelineruns?labelSelector=a%3Dx%2Cb%2Fc%3Dd Bearer secret"}, a.asked)
	day := time.Date(2026, 11, 26, 6, 0, 0, 0, time.UTC)
	require.Equal(t, []tekton.RunStatus{
		{Name: "a", UID: "1", Labels: map[string]string{"x": "y"}, Created: day, State: "Unknown", Reason: "Running"},
		{Name: "new", UID: "3", Created: day},
		{Name: "b", UID: "2", Created: day.AddDate(0, 0, -1), Ended: day.AddDate(0, 0, -1).Add(time.Hour), State: "False", Reason: "Failed", Message: "Tasks Completed: 3 (Failed: 1)"},
	}, runs)

	a = &answer{status: http.StatusOK, body: `{"metadata":{"name":"a","uid":"1","creationTimestamp":"2026-11-26T06:00:00Z"}}`}
	run, err := cluster(t, a).Run(t.Context(), "okd-coreos", "a")
	require.NoError(t, err)
	require.Equal(t, &tekton.RunStatus{Name: "a", UID: "1", Created: day}, run)
	require.Equal(t, []string{"GET /apis/tekton.dev/v1/namespaces/okd-coreos/pipelineruns/a Bearer secret"}, a.asked)

	a = &answer{status: http.StatusOK, body: `{}`}
	require.NoError(t, cluster(t, a).Delete(t.Context(), "okd-coreos", "a"))
	require.Equal(t, []string{"DELETE /apis/tekton.dev/v1/namespaces/okd-coreos/pipelineruns/a Bearer secret"}, a.asked)
	gone := &answer{status: http.StatusNotFound, body: `{"kind":"Status","reason":"NotFound","message":"pipelineruns \"a\" not found"}`}
	require.NoError(t, cluster(t, gone).Delete(t.Context(), "okd-coreos", "a"))
	_, err = cluster(t, gone).Run(t.Context(), "okd-coreos", "a")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// What a cluster says no to is said once, and clearly.
func TestClusterRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		is     error
		want   string
	}{
		"no Tekton":     {404, "404 page not found\n", errors.ErrUnsupported, "Tekton Pipelines with tekton.dev/v1 (0.44 or later) is not installed"},
		"no permission": {403, `{"kind":"Status","reason":"Forbidden","message":"pipelineruns.tekton.dev is forbidden: User \"system:serviceaccount:x:y\" cannot create"}`, fs.ErrPermission, `cannot create`},
		"no token":      {401, `{"kind":"Status","reason":"Unauthorized","message":"Unauthorized"}`, fs.ErrPermission, "the cluster says 401: Unauthorized"},
		"bad object":    {400, `{"kind":"Status","reason":"BadRequest","message":"admission webhook \"validation.webhook.pipeline.tekton.dev\" denied the request: missing field(s): spec.tasks"}`, fs.ErrInvalid, "denied the request: missing field(s)"},
		"not valid":     {422, `{"kind":"Status","reason":"Invalid","message":"is invalid"}`, fs.ErrInvalid, "is invalid"},
		"there already": {409, `{"kind":"Status","reason":"AlreadyExists","message":"exists"}`, fs.ErrExist, "409"},
		"control bytes": {403, `{"kind":"Status","message":"a\u001b[31mb"}`, fs.ErrPermission, "the cluster says 403: a"},
		"other":         {418, "tea", nil, "the cluster says 418"},
		"not JSON":      {201, "<html>", nil, "answer"},
		"no name":       {201, "{}", nil, "the answer names no run"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cluster(t, &answer{status: tc.status, body: tc.body}).Create(t.Context(), sampleRun(t))
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, "PipelineRun okd-coreos/okd-coreos-x86-64-")
			require.NotContains(t, err.Error(), "\x1b")
			require.NotContains(t, err.Error(), "secret")
			if tc.is != nil {
				require.ErrorIs(t, err, tc.is)
			}
		})
	}
	c := cluster(t, &answer{status: 200, body: "{}"})
	for _, name := range []string{"", "..", "a/b", "A"} {
		require.ErrorIs(t, c.Delete(t.Context(), "okd-coreos", name), fs.ErrInvalid, name)
		_, err := c.Run(t.Context(), "okd-coreos", name)
		require.ErrorIs(t, err, fs.ErrInvalid, name)
	}
	_, err := c.Runs(t.Context(), "../secrets", nil)
	require.ErrorIs(t, err, fs.ErrInvalid)
	for _, address := range []string{"", "cluster", "http://cluster.example", "https://", "ftp://x"} {
		_, err := tekton.NewCluster(address, nil)
		require.ErrorIs(t, err, fs.ErrInvalid, address)
	}
	c, err = tekton.NewCluster("https://127.0.0.1:1", &tekton.ClusterOptions{Token: func(context.Context) (string, error) { return "", fmt.Errorf("no token today") }})
	require.NoError(t, err)
	_, err = c.Create(t.Context(), sampleRun(t))
	require.ErrorContains(t, err, "no token today")
}
