package gate_test

import (
	"context"
	"os"
	"testing"
	"testing/fstest"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/linkcheck"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
	"github.com/okd-project/okd-streams/publish/prow"
	"github.com/okd-project/okd-streams/publish/status"
	"github.com/okd-project/okd-streams/stream"
)

// TestIssues are releases that hurt their users, by the number of the issue at
// okd-project/okd unless it says where: each is held back by a gate, or seen by
// the readiness report. Updates that were missing are payload/graph's.
func TestIssues(t *testing.T) {
	packages := func(text ...string) (out []ostree.Package) {
		for i := 0; i < len(text); i += 2 {
			out = append(out, ostree.Package{Name: text[i], Version: text[i+1], Release: "1.el9", Arch: "x86_64"})
		}
		return out
	}
	compare := func(from, to []ostree.Package) gate.Check {
		return gate.Regression(func(context.Context, gate.Subject) (gate.Comparison, error) {
			return container.CheckRegression(from, to, nil), nil
		})
	}

	// Nodes lost runc with an update, and broke.
	t.Run("okd#2255", func(t *testing.T) {
		before := packages("runc", "1.2.4", "cri-o", "1.33.2", "vim", "9")
		failed("runc").require(t, compare(before, packages("cri-o", "1.33.2", "vim", "9")), nil)
		passed("").require(t, compare(before, packages("runc", "1.2.4", "cri-o", "1.33.3")), nil)
	})
	// cri-o went back.
	t.Run("okd#2340", func(t *testing.T) {
		failed("cri-o").require(t, compare(packages("cri-o", "1.35.10"), packages("cri-o", "1.35.9")), nil)
	})

	// Boot images that metadata names were not there.
	t.Run("okd-scos#11", func(t *testing.T) {
		const base = "https://okd-scos.example.com/okd-scos/builds/"
		store := memstore.New()
		_, err := store.Put(t.Context(), "builds/1/x86_64/scos-1-metal.x86_64.raw.gz", publish.BytesSource([]byte("disk")), nil)
		require.NoError(t, err)
		document := func(disk string) func(context.Context, gate.Subject) ([]linkcheck.Document, error) {
			return func(context.Context, gate.Subject) ([]linkcheck.Document, error) {
				return []linkcheck.Document{{Name: "release.json", Data: []byte(`{"release":"1","stream":"s","architectures":{"x86_64":{"media":{"metal":{"artifacts":{"raw.gz":{"disk":{"location":"` + base + disk + `"}}}}}}}}`)}}, nil
			}
		}
		opts := &linkcheck.Options{Offline: true, Mounts: []linkcheck.Mount{{URL: "https://okd-scos.example.com/okd-scos", Store: store}}}
		passed("1 links").require(t, gate.Links(document("1/x86_64/scos-1-metal.x86_64.raw.gz"), opts), nil)
		failed("scos-2-metal").require(t, gate.Links(document("2/x86_64/scos-2-metal.x86_64.raw.gz"), opts), nil)
	})

	// Signed by a key that clusters do not have.
	t.Run("okd#2125", func(t *testing.T) {
		signer, _ := pgpKeys(t)
		other, err := os.ReadFile("../pgpsigner/testdata/sub.asc")
		require.NoError(t, err)
		keys, err := pgpsigner.ParseKeyring(other)
		require.NoError(t, err)
		repo, err := name.NewRepository("quay.io/okd/scos-release")
		require.NoError(t, err)
		h, err := v1.NewHash(subject.Digest)
		require.NoError(t, err)
		sig, err := payload.Sign(t.Context(), &payload.Message{Digest: h, Reference: repo.Digest(subject.Digest).Name(), Creator: "x", Timestamp: now}, signer)
		require.NoError(t, err)
		policy := &payload.Policy{Keyrings: map[string]*payload.Keyring{"verifier-public-key-openshift-ci-4": keys}, Stores: []payload.SignatureStore{
			payload.FileSignatures(fstest.MapFS{payload.SignatureKey(h, 1): {Data: sig}}),
		}}
		failed("verifier-public-key-openshift-ci-4").require(t, gate.Signed(repo, policy, clock), nil)
	})

	// Accepted and published, and no cluster could get there.
	t.Run("okd#2263", func(t *testing.T) {
		s := gate.Subject{Release: "4.20.0-okd-scos.1", Digest: digest("1")}
		g := &graph.Graph{Nodes: []graph.Node{{Version: "4.20.0-okd-scos.0", Payload: "example.com/r@" + digest("0")}, {Version: s.Release, Payload: "example.com/r@" + s.Digest}}}
		r, err := gate.Run(t.Context(), stream.Gate{Name: "reachable"}, s, gate.Reachable(func(context.Context) (*graph.Graph, error) { return g, nil }, []string{"4.20.0-okd-scos.0"}, nil), clock, nil)
		require.NoError(t, err)
		require.Equal(t, gate.Failed, r.State)
		v := gate.Evaluate([]stream.Gate{{Name: "reachable"}}, s, []gate.Result{r}, now, nil)
		require.ErrorIs(t, v.Err(), publish.ErrGate)
	})

	// A stream that is red or still for weeks is no news to anybody.
	t.Run("okd#2153", func(t *testing.T) {
		h := status.History{Stream: "4-scos-next", Builds: []status.Build{{Version: "4.22.0-okd-scos.ec.1", Phase: controller.Accepted, Created: now.AddDate(0, 0, -21)}}}
		r := status.New([]status.History{h}, now, nil)
		require.Equal(t, status.Failing, r.Level)
		require.Contains(t, r.Streams[0].Reasons, status.Reason{Level: status.Failing, Text: "the last accepted build, 4.22.0-okd-scos.ec.1, is 21 days old"})
	})

	// The tag of the operating system was missing when the payload was made.
	t.Run("openshift-eng/art-tools#3296", func(t *testing.T) {
		registry, err := layoutregistry.Open(t.Context(), t.TempDir(), nil)
		require.NoError(t, err)
		repo, err := name.NewRepository("localhost/origin/scos")
		require.NoError(t, err)
		push := push(t, registry, repo)
		_, err = payload.Assemble(t.Context(), registry, &payload.Spec{Version: "4.22.0", Created: now, Components: map[string]name.Reference{
			"cluster-version-operator": push(nil, "usr/bin/cvo", "x"),
			"machine-config-operator": push(map[string]string{payload.LabelOperator: "true"},
				"manifests/os.yaml", "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata: {os: 'placeholder.example.org/os:x'}\n",
				"manifests/image-references", "kind: ImageStream\napiVersion: image.openshift.io/v1\nspec:\n  tags:\n  - {name: stream-coreos, from: {kind: DockerImage, name: 'placeholder.example.org/os:x'}}\n"),
		}}, nil)
		require.ErrorContains(t, err, "stream-coreos")
	})
	// ... because two wrote it.
	t.Run("openshift/release#74529", func(t *testing.T) {
		err := prow.CheckProducers([]prow.Producer{
			{Name: "ci-operator of openshift/os", Namespace: "origin", ImageStream: "scos-4.22", Tag: "stream-coreos"},
			{Name: "pyartcd okd", Namespace: "origin", ImageStream: "scos-4.22", Tag: "stream-coreos"},
		})
		require.ErrorContains(t, err, "ci-operator of openshift/os and pyartcd okd")
	})

	// Images of CI were gone when clusters pulled them.
	t.Run("okd#1134", func(t *testing.T) {
		registry, err := layoutregistry.Open(t.Context(), t.TempDir(), nil)
		require.NoError(t, err)
		repo, err := name.NewRepository("localhost/origin/release")
		require.NoError(t, err)
		waiting("not there yet").require(t, gate.Payload(registry, repo), nil)
	})
}
