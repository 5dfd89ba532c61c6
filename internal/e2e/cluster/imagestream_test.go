package cluster_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"

	"github.com/okd-project/okd-streams/internal/e2e/cluster"
	"github.com/okd-project/okd-streams/publish/prow"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// imageStreamDefinition stands in for OpenShift's API server: it stores image
// streams as they are and knows conflicts; it imports nothing.
const imageStreamDefinition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: imagestreams.image.openshift.io, annotations: {api-approved.kubernetes.io: unapproved}}
spec:
  group: image.openshift.io
  names: {kind: ImageStream, listKind: ImageStreamList, plural: imagestreams, singular: imagestream}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

var imageStreams = schema.GroupVersionResource{Group: "image.openshift.io", Version: "v1", Resource: "imagestreams"}

// TestImageStreams has image streams in a real API server: what it stored is what
// we read, and a hand-over sees an import that comes while others write.
func TestImageStreams(t *testing.T) {
	t.Parallel()
	c := cluster.Get(t)
	ctx := t.Context()
	objects, err := cluster.Decode([]byte(imageStreamDefinition))
	require.NoError(t, err)
	_, err = c.Apply(ctx, objects[0])
	require.NoError(t, err)
	stored := c.Dynamic.Resource(imageStreams).Namespace("default")
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "image.openshift.io/v1", "kind": "ImageStream", "metadata": map[string]any{"name": "scos-4.22", "namespace": "default"},
		"spec": map[string]any{"tags": []any{}},
	}}
	until(t, "the definition", func() bool {
		_, err = stored.Create(ctx, object, metav1.CreateOptions{})
		return err == nil || !apierrors.IsNotFound(err)
	})
	require.NoError(t, err)

	transport, err := rest.TransportFor(c.Config)
	require.NoError(t, err)
	api, err := prow.NewCluster(c.Config.Host, &prow.ClusterOptions{Transport: transport})
	require.NoError(t, err)
	read, err := api.ImageStream(ctx, "default/scos-4.22")
	require.NoError(t, err)
	require.Equal(t, "scos-4.22", read.Metadata.Name)
	_, err = api.ImageStream(ctx, "default/none")
	require.ErrorContains(t, err, "none")

	registry, err := remoteregistry.Open(ctx, nil)
	require.NoError(t, err)
	tag, err := name.NewTag(c.Registry + "/okd/scos:4.22")
	require.NoError(t, err)
	img, err := mutate.Config(empty.Image, v1.Config{Labels: map[string]string{"a": "b"}})
	require.NoError(t, err)
	desc, err := registry.WriteImage(ctx, tag.Context(), img, nil)
	require.NoError(t, err)
	require.NoError(t, registry.Tag(ctx, tag, desc.Digest))

	// Two import tags at once, as OpenShift's controllers do: whoever was late tries
	// again with what there is, and nothing is lost.
	var imports sync.WaitGroup
	begin := sync.OnceFunc(func() {
		for _, tagName := range []string{"stream-coreos", "stream-coreos-extensions"} {
			imports.Go(func() {
				conflict := retry.RetryOnConflict(retry.DefaultBackoff, func() error { return imported(ctx, stored, tagName, desc.Digest.String()) })
				if conflict != nil {
					t.Error(conflict)
				}
			})
		}
	})
	err = prow.HandOver(ctx, registry, tag, desc.Digest, &prow.HandOverOptions{
		Stream: func(ctx context.Context) (*prow.ImageStream, error) {
			s, err := api.ImageStream(ctx, "default/scos-4.22")
			begin()
			return s, err
		},
		StreamTag: "stream-coreos", Interval: 100 * time.Millisecond, Limit: patience,
	})
	require.NoError(t, err)
	imports.Wait()
	read, err = api.ImageStream(ctx, "default/scos-4.22")
	require.NoError(t, err)
	for _, tagName := range []string{"stream-coreos", "stream-coreos-extensions"} {
		require.NoError(t, read.Imported(tagName, desc.Digest))
	}
	// A real API server has no import of that group.
	_, err = api.Import(ctx, "default/scos-4.22", prow.ImportImage{From: prow.ObjectReference{Name: tag.Name()}, To: &prow.TagName{Name: "x"}})
	require.Error(t, err)
	require.True(t, strings.Contains(err.Error(), "404") || strings.Contains(err.Error(), http.StatusText(http.StatusNotFound)), err)
}

// imported has a tag of the image stream follow an image.
func imported(ctx context.Context, stored dynamic.ResourceInterface, tag, digest string) error {
	now, err := stored.Get(ctx, "scos-4.22", metav1.GetOptions{})
	if err != nil {
		return err
	}
	tags, _, err := unstructured.NestedSlice(now.Object, "status", "tags")
	if err != nil {
		return err
	}
	tags = append(tags, map[string]any{"tag": tag, "items": []any{map[string]any{
		"created": "2026-11-26T00:00:00Z", "dockerImageReference": "example.com/okd/scos@" + digest, "image": digest, "generation": int64(1),
	}}})
	if err := unstructured.SetNestedSlice(now.Object, tags, "status", "tags"); err != nil {
		return err
	}
	_, err = stored.UpdateStatus(ctx, now, metav1.UpdateOptions{})
	return err
}
