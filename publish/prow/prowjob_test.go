package prow_test

import (
	"fmt"
	"log"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/publish/prow"
)

const prowJob = `{
  "kind": "ProwJob", "apiVersion": "prow.k8s.io/v1",
  "metadata": {"name": "4.22.0-okd-scos.1-aws", "annotations": {"release.openshift.io/tag": "4.22.0-okd-scos.1", "release.openshift.io/from-tag": "4.22.0-okd-scos.0"}},
  "spec": {"type": "periodic", "job": "e2e-aws", "pod_spec": {"containers": [{"name": "", "env": [{"name": "RELEASE_IMAGE_LATEST", "value": "example.com/origin/release-scos:4.22.0-okd-scos.1"}, {"name": "TOKEN", "valueFrom": {}}]}]}},
  "status": {"startTime": "2026-06-10T10:00:00Z", "completionTime": "2026-06-10T12:00:00Z", "state": "success", "url": "https://prow.example.com/view/1", "build_id": "17"}
}`

func TestProwJob(t *testing.T) {
	j, err := prow.DecodeProwJob([]byte(prowJob))
	require.NoError(t, err)
	require.Equal(t, &prow.ProwJob{
		Name:        "4.22.0-okd-scos.1-aws",
		Annotations: map[string]string{prow.AnnotationRelease: "4.22.0-okd-scos.1", prow.AnnotationFrom: "4.22.0-okd-scos.0"},
		Type:        prow.Periodic, Job: "e2e-aws",
		Env:   map[string]string{prow.ReleaseVariable: "example.com/origin/release-scos:4.22.0-okd-scos.1", "TOKEN": ""},
		State: "success", URL: "https://prow.example.com/view/1", BuildID: "17",
		Started: time.Date(2026, 6, 10, 10, 0, 0, 0, time.UTC), Completed: time.Date(2026, 6, 10, 12, 0, 0, 0, time.UTC),
	}, j)

	for name, tc := range map[string]struct{ text, want string }{
		"nothing":       {"", "JSON"},
		"another kind":  {`{"kind":"Pod","spec":{"job":"x"}}`, `kind "Pod"`},
		"no job":        {`{"kind":"ProwJob"}`, "no name of a job"},
		"a list of env": {`{"spec":{"job":"x","pod_spec":{"containers":[{"env":{}}]}}}`, "cannot unmarshal"},
		"no time":       {`{"spec":{"job":"x"},"status":{"startTime":"soon"}}`, "parsing time"},
		"too large":     {`{"spec":{"job":"` + strings.Repeat("x", prow.MaxDocumentSize) + `"}}`, "limit"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := prow.DecodeProwJob([]byte(tc.text))
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func FuzzDecodeProwJob(f *testing.F) {
	mutants.Add(f,
		prowJob,
		`{"spec":{"job":"x"}}`,
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		if j, err := fuzzbound.Parse(t, 4096, prow.DecodeProwJob, data); err == nil {
			require.NotEmpty(t, j.Job)
		}
	})
}

func ExampleDecodeProwJob() {
	j, err := prow.DecodeProwJob([]byte(prowJob))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(j.Job, "tested", j.Annotations[prow.AnnotationRelease], "and ended with", j.State)
	// Output: e2e-aws tested 4.22.0-okd-scos.1 and ended with success
}

// TestCountsOfTests: of a test that was run again, a pass counts more than a
// failure, and a failure more than a skip, in either order.
func TestCountsOfTests(t *testing.T) {
	failure, skip, pass := prow.Case{Name: "a", Failure: "x"}, prow.Case{Name: "a", Skipped: true}, prow.Case{Name: "a"}
	for name, tc := range map[string]struct {
		cases []prow.Case
		want  [3]int
	}{
		"failed, passed":  {[]prow.Case{failure, pass}, [3]int{1, 0, 0}},
		"passed, failed":  {[]prow.Case{pass, failure}, [3]int{1, 0, 0}},
		"skipped, failed": {[]prow.Case{skip, failure}, [3]int{0, 1, 0}},
		"failed, skipped": {[]prow.Case{failure, skip}, [3]int{0, 1, 0}},
		"skipped, passed": {[]prow.Case{skip, pass}, [3]int{1, 0, 0}},
		"skipped":         {[]prow.Case{skip, skip}, [3]int{0, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			j := &prow.JUnit{Cases: tc.cases}
			passed, failed, skipped := j.Count()
			require.Equal(t, tc.want, [3]int{passed, failed, skipped})
			require.Len(t, j.Failed(), failed)
		})
	}
}
