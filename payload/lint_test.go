package payload_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
)

func TestLint(t *testing.T) {
	tags := tagJSON("a", "1", "", "") + `,{"name":"b","from":{"kind":"DockerImage","name":"q.io/o/b:latest"}},{"name":"c","from":{"kind":"ImageStreamTag","name":"c:d"}}`
	refs := strings.Replace(goodReferences, `"metadata"`, `"spec":{"tags":[`+tags+`]},"metadata"`, 1)
	r, err := openEntries(t, entry{name: "release-manifests/image-references", data: refs}, releaseEntries()[2],
		entry{name: "release-manifests/1.yaml", data: namespace("a") + "# q.io/o/a:v1\n# 0.0.1-snapshot v0.0.1-snapshot-kubernetes\n"},
		entry{name: "release-manifests/2.yaml", data: namespace("a") + "---\n" + namespace("a") + "---\nbroken: [\n"},
		entry{name: "release-manifests/3.txt", data: "q.io/o/a@sha256:" + strings.Repeat("1", 64)},
	)
	require.NoError(t, err)
	found, err := r.Lint(t.Context())
	require.NoError(t, err)
	var got []string
	for _, f := range found {
		got = append(got, fmt.Sprintf("%s %s%s:%d", f.Check, f.Component, f.File, f.Line))
	}
	require.Equal(t, []string{
		"unpinned-reference bimage-references:0", "unpinned-reference cimage-references:0",
		"unpinned-reference 1.yaml:5", "leftover-version 1.yaml:6", "leftover-version 1.yaml:6",
		"duplicate-manifest 2.yaml:5", "invalid-manifest 2.yaml:10",
	}, got)

	many, err := openEntries(t, releaseEntries(entry{name: "release-manifests/a.txt", data: strings.Repeat("0.0.1-snapshot\n", payload.MaxFindings+1)})...)
	require.NoError(t, err)
	found, err = many.Lint(t.Context())
	require.NoError(t, err)
	require.Len(t, found, payload.MaxFindings)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = many.Lint(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// What oc made of good components has nothing to find.
func TestSampleLint(t *testing.T) {
	src := sampleImages(t)
	for i := range samples {
		found, err := sampleRelease(t, src, i).Lint(t.Context())
		require.NoError(t, err)
		require.Empty(t, found)
	}
}

func ExampleRelease_Lint() {
	findings, err := sampleFolder().Lint(context.Background())
	fmt.Println(len(findings), err)
	// Output: 0 <nil>
}
