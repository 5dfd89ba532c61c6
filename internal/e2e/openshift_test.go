package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	imagev1 "github.com/openshift/api/image/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/randfill"

	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/prow"
)

// strict decodes as an API server with strict validation does: no member that
// it does not know, none twice, none in other case.
func strict(t testing.TB, data []byte, out any) {
	t.Helper()
	faults, err := kjson.UnmarshalStrict(data, out)
	require.NoError(t, err, "%s", data)
	require.Empty(t, faults, "%s", data)
}

// apiServer keeps one image stream in OpenShift's types and answers as
// OpenShift's image API.
type apiServer struct {
	t        *testing.T
	mu       sync.Mutex
	stream   *imagev1.ImageStream
	requests []string
}

const namespace, object = "origin", "scos-4.22"

func newServer(t *testing.T) (*apiServer, *prow.Cluster) {
	s := &apiServer{t: t}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	cluster, err := prow.NewCluster(server.URL, &prow.ClusterOptions{Transport: server.Client().Transport})
	require.NoError(t, err)
	return s, cluster
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path, ok := strings.CutPrefix(r.URL.Path, "/apis/image.openshift.io/v1/namespaces/"+namespace+"/")
	resource, objectName, _ := strings.Cut(path, "/")
	body, err := io.ReadAll(r.Body)
	require.True(s.t, ok && err == nil, r.URL.Path)
	s.requests = append(s.requests, r.Method+" "+resource)
	switch r.Method + " " + resource {
	case "GET imagestreams":
		if s.stream == nil || objectName != object {
			refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, "imagestreams %q not found", objectName)
			return
		}
		answer(w, http.StatusOK, s.stream)
	case "POST imagestreamimports":
		s.importImages(w, body)
	case "POST imagestreamtags":
		in := &imagev1.ImageStreamTag{}
		strict(s.t, body, in)
		stream, tag, ok := strings.Cut(in.Name, ":")
		require.True(s.t, ok && stream == object && in.Tag.Name == tag && in.Kind == "ImageStreamTag" && in.APIVersion == "image.openshift.io/v1")
		s.make()
		if slices.ContainsFunc(s.stream.Spec.Tags, func(r imagev1.TagReference) bool { return r.Name == tag }) {
			refuse(w, http.StatusConflict, metav1.StatusReasonAlreadyExists, "imagestreamtags %q already exists", in.Name)
			return
		}
		s.stream.Spec.Tags = append(s.stream.Spec.Tags, *in.Tag)
		s.event(tag, in.Tag.From.Name)
		answer(w, http.StatusCreated, s.tag(tag))
	case "GET imagestreamtags":
		_, tag, _ := strings.Cut(objectName, ":")
		if out := s.tag(tag); out != nil {
			answer(w, http.StatusOK, out)
			return
		}
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, "imagestreamtags %q not found", objectName)
	case "DELETE imagestreamtags":
		_, tag, _ := strings.Cut(objectName, ":")
		s.stream.Spec.Tags = slices.DeleteFunc(s.stream.Spec.Tags, func(r imagev1.TagReference) bool { return r.Name == tag })
		s.stream.Status.Tags = slices.DeleteFunc(s.stream.Status.Tags, func(l imagev1.NamedTagEventList) bool { return l.Tag == tag })
		answer(w, http.StatusOK, &metav1.Status{Status: metav1.StatusSuccess})
	case "POST imagestreammappings":
		in := &imagev1.ImageStreamMapping{}
		strict(s.t, body, in)
		require.True(s.t, in.Name == object && in.Kind == "ImageStreamMapping" && strings.HasSuffix(in.Image.DockerImageReference, in.Image.Name))
		if s.stream == nil {
			refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, "imagestreams %q not found", in.Name)
			return
		}
		s.event(in.Tag, in.Image.DockerImageReference)
		answer(w, http.StatusCreated, &metav1.Status{Status: metav1.StatusSuccess})
	default:
		s.t.Errorf("%s %s", r.Method, r.URL.Path)
	}
}

func (s *apiServer) make() {
	if s.stream == nil {
		s.stream = &imagev1.ImageStream{ObjectMeta: metav1.ObjectMeta{Name: object, Namespace: namespace, UID: "1", CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0))}}
	}
}

// importImages knows every image but those of a repository named gone.
func (s *apiServer) importImages(w http.ResponseWriter, body []byte) {
	in := &imagev1.ImageStreamImport{}
	strict(s.t, body, in)
	require.True(s.t, in.Name == object && in.Namespace == namespace && in.Kind == "ImageStreamImport" && in.Spec.Import)
	s.make()
	in.Status.Import = s.stream
	for _, img := range in.Spec.Images {
		require.Equal(s.t, "DockerImage", img.From.Kind)
		status := imagev1.ImageImportStatus{Tag: img.To.Name, Status: metav1.Status{Status: metav1.StatusSuccess}}
		if strings.Contains(img.From.Name, "gone") {
			status.Status = metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Message: "dockerimage.image.openshift.io " + img.From.Name + " not found", Code: 404}
		} else {
			s.stream.Spec.Tags = append(s.stream.Spec.Tags, imagev1.TagReference{Name: img.To.Name, From: &img.From, ImportPolicy: img.ImportPolicy, ReferencePolicy: img.ReferencePolicy})
			s.event(img.To.Name, img.From.Name)
			status.Image = s.image(img.To.Name)
		}
		in.Status.Images = append(in.Status.Images, status)
	}
	answer(w, http.StatusCreated, in)
}

// event puts an image into the history of a tag.
func (s *apiServer) event(tag, pullSpec string) {
	_, digest, ok := strings.Cut(pullSpec, "@")
	if !ok {
		digest = "sha256:" + strings.Repeat("a", 64)
	}
	e := imagev1.TagEvent{Created: metav1.NewTime(time.Unix(1e9, 0)), DockerImageReference: pullSpec, Image: digest, Generation: 1}
	for i := range s.stream.Status.Tags {
		if l := &s.stream.Status.Tags[i]; l.Tag == tag {
			l.Items = append([]imagev1.TagEvent{e}, l.Items...)
			return
		}
	}
	s.stream.Status.Tags = append(s.stream.Status.Tags, imagev1.NamedTagEventList{Tag: tag, Items: []imagev1.TagEvent{e}})
}

func (s *apiServer) image(tag string) *imagev1.Image {
	for _, l := range s.stream.Status.Tags {
		if l.Tag == tag {
			return &imagev1.Image{ObjectMeta: metav1.ObjectMeta{Name: l.Items[0].Image}, DockerImageReference: l.Items[0].DockerImageReference, DockerImageMetadata: runtime.RawExtension{Raw: []byte(`{"kind":"DockerImage"}`)}}
		}
	}
	return nil
}

func (s *apiServer) tag(tag string) *imagev1.ImageStreamTag {
	if s.stream == nil {
		return nil
	}
	img := s.image(tag)
	if img == nil {
		return nil
	}
	out := &imagev1.ImageStreamTag{ObjectMeta: metav1.ObjectMeta{Name: object + ":" + tag, Namespace: namespace}, Image: *img, Generation: 1}
	for i := range s.stream.Spec.Tags {
		if s.stream.Spec.Tags[i].Name == tag {
			out.Tag = &s.stream.Spec.Tags[i]
		}
	}
	return out
}

func answer(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(value)
}

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, format string, args ...any) {
	answer(w, code, &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Reason: reason, Code: int32(code), Message: fmt.Sprintf(format, args...)})
}

// TestCommand drives okd-streams prow, whose requests the server decodes as
// strictly as those of the library.
func TestCommand(t *testing.T) {
	program := filepath.Join(t.TempDir(), "okd-streams")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./examples/okd-streams")
	build.Dir = filepath.Join("..", "..")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	server := httptest.NewServer(&apiServer{t: t})
	t.Cleanup(server.Close)
	run := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), program, append([]string{"prow", "--api-server", server.URL}, args...)...).CombinedOutput()
		return string(out), err
	}
	node, other := "quay.io/okd/os@sha256:"+strings.Repeat("1", 64), "quay.io/okd/os@sha256:"+strings.Repeat("2", 64)
	said, err := run("import", "--scheduled", namespace+"/"+object, "os=quay.io/okd/os:4.22")
	require.NoError(t, err, said)
	require.Contains(t, said, "sha256:"+strings.Repeat("a", 64))
	said, err = run("import", namespace+"/"+object, "gone=quay.io/okd/gone:4.22")
	require.Error(t, err)
	require.Contains(t, said, "gone")
	said, err = run("tag", namespace+"/"+object+":node", node)
	require.NoError(t, err, said)
	said, err = run("tag", namespace+"/"+object+":node", node)
	require.NoError(t, err, said)
	said, err = run("tag", namespace+"/"+object+":node", other)
	require.Error(t, err)
	require.Contains(t, said, node)
}

// TestOpenShiftImageStreams drives every request of ours: its body decodes
// strictly into OpenShift's types, and their answers say the same to us.
func TestOpenShiftImageStreams(t *testing.T) {
	ctx := t.Context()
	server, cluster := newServer(t)
	const stream = namespace + "/" + object
	digest := "sha256:" + strings.Repeat("b", 64)
	pullSpec := "example.com/okd/scos@" + digest

	_, err := cluster.ImageStream(ctx, stream)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, cluster.Map(ctx, stream, "x", pullSpec), fs.ErrNotExist)

	out, err := cluster.Import(ctx, stream,
		prow.ImportImage{From: prow.ObjectReference{Name: "quay.io/okd/scos:4.22"}, To: &prow.TagName{Name: "stream-coreos"}, ImportPolicy: prow.ImportPolicy{Scheduled: true, Insecure: true}, ReferencePolicy: prow.ReferencePolicy{Type: "Local"}, IncludeManifest: true},
		prow.ImportImage{From: prow.ObjectReference{Name: "quay.io/okd/gone:4.22"}, To: &prow.TagName{Name: "stream-coreos-extensions"}},
	)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "quay.io/okd/gone:4.22")
	require.Equal(t, "Success", out.Status.Images[0].Status.Status)
	require.Equal(t, "sha256:"+strings.Repeat("a", 64), out.Status.Images[0].Image.Metadata.Name)
	require.Equal(t, "quay.io/okd/scos:4.22", out.Status.Import.Spec.Tags[0].From.Name)
	require.Equal(t, corev1.ObjectReference{Kind: "DockerImage", Name: "quay.io/okd/scos:4.22"}, *server.stream.Spec.Tags[0].From)
	require.True(t, server.stream.Spec.Tags[0].ImportPolicy.Scheduled && server.stream.Spec.Tags[0].ImportPolicy.Insecure)
	require.EqualValues(t, "Local", server.stream.Spec.Tags[0].ReferencePolicy.Type)

	require.NoError(t, cluster.Tag(ctx, stream, "4.22.0-okd-scos.1", pullSpec))
	require.NoError(t, cluster.Tag(ctx, stream, "4.22.0-okd-scos.1", pullSpec), "again")
	err = cluster.Tag(ctx, stream, "4.22.0-okd-scos.1", "example.com/okd/scos@sha256:"+strings.Repeat("c", 64))
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, "it follows "+pullSpec)
	tag, err := cluster.ImageStreamTag(ctx, stream, "4.22.0-okd-scos.1")
	require.NoError(t, err)
	require.Equal(t, digest, tag.Image.Metadata.Name)
	require.Equal(t, pullSpec, tag.Tag.From.Name)

	require.NoError(t, cluster.Untag(ctx, stream, "4.22.0-okd-scos.1", "example.com/another@"+digest))
	require.NotNil(t, server.image("4.22.0-okd-scos.1"), "it follows another image")
	require.NoError(t, cluster.Untag(ctx, stream, "4.22.0-okd-scos.1", pullSpec))
	require.NoError(t, cluster.Untag(ctx, stream, "4.22.0-okd-scos.1", pullSpec))
	_, err = cluster.ImageStreamTag(ctx, stream, "4.22.0-okd-scos.1")
	require.ErrorIs(t, err, fs.ErrNotExist)

	require.NoError(t, cluster.Map(ctx, stream, "installer", pullSpec))
	s, err := cluster.ImageStream(ctx, stream)
	require.NoError(t, err)
	want, err := v1.NewHash(digest)
	require.NoError(t, err)
	require.NoError(t, s.Imported("installer", want))
}

// TestHandOverToOpenShift pushes an image and waits until the image stream has it.
func TestHandOverToOpenShift(t *testing.T) {
	ctx := t.Context()
	_, cluster := newServer(t)
	registry, err := layoutregistry.Open(ctx, t.TempDir(), nil)
	require.NoError(t, err)
	img, err := mutate.Config(empty.Image, v1.Config{Labels: map[string]string{"a": "b"}})
	require.NoError(t, err)
	tag, err := name.NewTag("quay.io/okd/scos:4.22")
	require.NoError(t, err)
	desc, err := registry.WriteImage(ctx, tag.Context(), img, nil)
	require.NoError(t, err)
	require.NoError(t, registry.Tag(ctx, tag, desc.Digest))
	looks := 0
	opts := &prow.HandOverOptions{
		Stream: func(ctx context.Context) (*prow.ImageStream, error) {
			return cluster.ImageStream(ctx, namespace+"/"+object)
		},
		StreamTag: "stream-coreos", Interval: time.Second, Limit: 3 * time.Second,
		Wait: func(_ context.Context, _ time.Duration) error {
			if looks++; looks == 2 { // the scheduled import
				return cluster.Tag(ctx, namespace+"/"+object, "stream-coreos", tag.Context().Digest(desc.Digest.String()).Name())
			}
			return nil
		},
	}
	_, err = cluster.Import(ctx, namespace+"/"+object, prow.ImportImage{From: prow.ObjectReference{Name: tag.Name()}, To: &prow.TagName{Name: "other"}})
	require.NoError(t, err)
	require.NoError(t, prow.HandOver(ctx, registry, tag, desc.Digest, opts))
	require.Equal(t, 2, looks)
}

// dropped are the members of OpenShift's types that ours have not: what nobody
// here looks at.
var dropped = func() []string {
	list := []string{
		"spec.dockerImageRepository", "spec.lookupPolicy", "lookupPolicy", "spec.repository", "status.repository",
		"conditions[].generation", "conditions[].lastTransitionTime", "publicDockerImageRepository",
	}
	for _, image := range []string{"image", "manifests[]"} {
		for _, member := range []string{
			"apiVersion", "dockerImageConfig", "dockerImageLayers", "dockerImageManifest", "dockerImageMetadata", "dockerImageMetadataVersion", "dockerImageSignatures", "signatures",
		} {
			list = append(list, image+"."+member)
		}
	}
	return list
}()

// TestRoundTripOfOpenShiftTypes fills OpenShift's types at random: what ours
// keep of them is what they say, and goes back strictly.
func TestRoundTripOfOpenShiftTypes(t *testing.T) {
	fill := randfill.New().NilChance(0.2).NumElements(1, 3).MaxDepth(12).RandSource(rand.NewSource(1)).Funcs(
		func(m *metav1.ObjectMeta, c randfill.Continue) {
			*m = metav1.ObjectMeta{Name: c.String(20), Namespace: c.String(20), ResourceVersion: c.String(9), Annotations: map[string]string{c.String(5): c.String(9)}}
		},
		func(m *metav1.Time, c randfill.Continue) { *m = metav1.Unix(c.Int63n(1<<31), 0).Rfc3339Copy() },
		func(m *metav1.Status, c randfill.Continue) {
			*m = metav1.Status{Status: c.String(7), Message: c.String(30), Reason: metav1.StatusReason(c.String(7)), Code: int32(c.Int31n(600))}
		},
		func(m *corev1.ObjectReference, c randfill.Continue) {
			*m = corev1.ObjectReference{Kind: c.String(9), Namespace: c.String(9), Name: c.String(20)}
		},
		func(m *runtime.RawExtension, _ randfill.Continue) { m.Raw = []byte(`{"a":1}`) },
		func(m *metav1.TypeMeta, _ randfill.Continue) { m.APIVersion = "image.openshift.io/v1" },
	)
	for range 300 {
		for name, tc := range map[string]struct{ theirs, ours, back any }{
			"ImageStream":        {&imagev1.ImageStream{}, &prow.ImageStream{}, &imagev1.ImageStream{}},
			"ImageStreamImport":  {&imagev1.ImageStreamImport{}, &prow.ImageStreamImport{}, &imagev1.ImageStreamImport{}},
			"ImageStreamTag":     {&imagev1.ImageStreamTag{}, &prow.ImageStreamTag{}, &imagev1.ImageStreamTag{}},
			"ImageStreamMapping": {&imagev1.ImageStreamMapping{}, &prow.ImageStreamMapping{}, &imagev1.ImageStreamMapping{}},
		} {
			fill.Fill(tc.theirs)
			data, err := json.Marshal(tc.theirs)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(data, tc.ours), name)
			again, err := json.Marshal(tc.ours)
			require.NoError(t, err)
			strict(t, again, tc.back)
			back, err := json.Marshal(tc.back)
			require.NoError(t, err)
			want, got := leaves(t, data), leaves(t, back)
			for path, value := range want {
				if !slices.ContainsFunc(dropped, func(d string) bool { return isBelow(path, d) }) {
					require.Equal(t, value, got[path], "%s: %s", name, path)
				}
			}
		}
	}
}

// isBelow says that a path without its indices is, or ends in, a member or is
// below one.
func isBelow(path, member string) bool {
	var plain strings.Builder
	for i, part := range strings.Split(path, "[") {
		if i == 0 {
			plain.WriteString(part)
			continue
		}
		_, rest, _ := strings.Cut(part, "]")
		plain.WriteString("[]" + rest)
	}
	at := strings.Index("."+plain.String()+".", "."+member)
	if at < 0 {
		return false
	}
	rest := ("." + plain.String() + ".")[at+1+len(member):]
	return strings.HasPrefix(rest, ".") || strings.HasPrefix(rest, "[")
}

// leaves gives the values of a document by path; empty ones are as if not there.
func leaves(t testing.TB, data []byte) map[string]string {
	var root any
	require.NoError(t, json.Unmarshal(data, &root))
	out := map[string]string{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				walk(strings.TrimPrefix(path+"."+k, "."), e)
			}
		case []any:
			for i, e := range v {
				walk(fmt.Sprintf("%s[%d]", path, i), e)
			}
		case nil:
		default:
			if text := fmt.Sprint(v); text != "" && text != "0" && text != "false" {
				out[path] = text
			}
		}
	}
	walk("", root)
	return out
}
