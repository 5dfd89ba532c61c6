package walk_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/daily"
	"github.com/okd-project/okd-streams/stream"
)

// nodeContext is a build context with a spec beside it.
func nodeContext(t *testing.T) (dir, spec string) {
	t.Helper()
	dir = t.TempDir()
	for path, text := range map[string]string{
		"root/usr/bin/kubelet": "kubelet\n", "ext/extensions.json": `{"usbguard":"1.0-1.x86_64"}`, "ext/usbguard.rpm": "rpm\n", ".git/x": "x",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, path), []byte(text), 0o644))
	}
	spec = filepath.Join(t.TempDir(), "node.json")
	require.NoError(t, os.WriteFile(spec, []byte(`{"base": "x", "version": "0.0.0", "manager": "none", "files": "root", "extensionDir": "ext", "displayName": "Sample"}`), 0o644))
	return dir, spec
}

func TestNodeBuilderOfFlags(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1795608000")
	dir, spec := nodeContext(t)
	setup := func(args ...string) (*walk.Run, error) {
		r, err := walk.Setup(t.Context(), parse(t, append([]string{"-state", t.TempDir(), "-quiet"}, args...)...), &bytes.Buffer{})
		if err == nil {
			require.NoError(t, r.Close())
		}
		return r, err
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"-node-spec", spec}, "-node-spec needs -node-context"},
		{[]string{"-node-context", dir, "-node", "localhost/x:1"}, "-node-context builds a node image, and -node names one"},
		{[]string{"-node-context", dir}, "stream sample has neither os.containerfile nor os.packages"},
	} {
		_, err := setup(tc.args...)
		require.ErrorContains(t, err, tc.want)
		var usage *ui.UsageError
		require.ErrorAs(t, err, &usage)
	}
	_, err := setup("-node-context", dir+"/none", "-node-spec", spec)
	require.ErrorIs(t, err, os.ErrNotExist)

	id := func() string {
		r, err := setup("-node-context", dir, "-node-spec", spec)
		require.NoError(t, err)
		return r.Options.NodeBuilderID
	}
	first := id()
	require.True(t, strings.HasPrefix(first, "buildah-"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".git", "y"), []byte("y"), 0o600))
	require.Equal(t, first, id())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "root", "usr", "bin", "kubelet"), []byte("other\n"), 0o644))
	require.NotEqual(t, first, id())

	// The definition says it, too.
	r, err := setup("-stream", "okd-scos-next", "-plan", "-node-context", dir)
	require.NoError(t, err)
	require.NotEmpty(t, r.Options.NodeBuilderID)
}

// A definition says what is installed, and from where.
func TestNodeSpecOfDefinition(t *testing.T) {
	d, err := stream.Builtin("okd-scos-next")
	require.NoError(t, err)
	d.OS.Containerfile, d.OS.BuildArgs = "", nil
	d.OS.Manager, d.OS.Packages = stream.DNF, []string{"cri-o"}
	d.OS.Repositories = []stream.RPMRepository{{Name: "ose", BaseURL: "https://mirror.example.com/${MINOR}/$basearch", GPGKey: "https://mirror.example.com/key", Include: []string{"cri-*"}, Exclude: []string{"x"}}}
	d.Extensions.Sets = []stream.Extension{{Name: "kernel-devel", Packages: []string{"kernel-devel"}, Architectures: []stream.Arch{stream.X8664}, MatchVersion: "kernel"}}
	flags := &walk.Flags{NodeContext: t.TempDir()}
	spec, err := walk.NodeSpec(d, flags)
	require.NoError(t, err)
	spec.Source, spec.Commit = "", ""
	require.Equal(t, &container.NodeSpec{
		Base: spec.Base, Version: spec.Version, Manager: container.ManagerDNF, Packages: []string{"cri-o"},
		Repositories: []container.NodeRepository{{Name: "ose", URL: "https://mirror.example.com/4.22/$basearch", GPGKey: "https://mirror.example.com/key", Include: []string{"cri-*"}, Exclude: []string{"x"}}},
		Extensions:   []container.NodeExtension{{Name: "kernel-devel", Packages: []string{"kernel-devel"}, Architectures: []string{"x86_64"}, MatchVersion: "kernel"}},
	}, spec)
	node, extensions, err := container.RenderNode(spec)
	require.NoError(t, err)
	require.Contains(t, node, "cri-o")
	require.Contains(t, extensions, "kernel-devel")

	d.OS.Repositories[0].BaseURL = "https://mirror.example.com/${VERSION}"
	_, err = walk.NodeSpec(d, flags)
	require.ErrorContains(t, err, "repository ose of stream okd-scos-next: stream: template")
	d.OS.Repositories[0].Credentials = &stream.Credentials{Secret: "x"}
	_, err = walk.NodeSpec(d, flags)
	require.ErrorContains(t, err, "needs credentials")

	// Beside one's own Containerfile extensions may be listed, too.
	d, err = stream.Builtin("okd-scos-next")
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(flags.NodeContext, "extensions"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(flags.NodeContext, "extensions", "Containerfile"), nil, 0o644))
	spec, err = walk.NodeSpec(d, flags)
	require.NoError(t, err)
	require.Equal(t, "extensions/Containerfile", spec.ExtensionsContainerfile)
	d.Extensions.Sets = []stream.Extension{{Name: "usbguard", Packages: []string{"usbguard"}}}
	spec, err = walk.NodeSpec(d, flags)
	require.NoError(t, err)
	require.Empty(t, spec.ExtensionsContainerfile)
	require.Len(t, spec.Extensions, 1)
}

// Where the node image's tag has appeared, its extensions are there.
func TestExtensionsArePublishedFirst(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1795608000")
	state := t.TempDir()
	flags := parse(t, "-state", state, "-quiet", "-json")
	r, err := walk.Setup(t.Context(), flags, &bytes.Buffer{})
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, r.Do(t.Context(), flags, daily.StepPublish, &out))
	require.NoError(t, r.Close())
	var s daily.Summary
	require.NoError(t, json.Unmarshal(out.Bytes(), &s))
	data, err := os.ReadFile(filepath.Join(state, s.Build, "plan.json"))
	require.NoError(t, err)
	var plan publish.Plan
	require.NoError(t, json.Unmarshal(data, &plan))
	at := func(tag string) int {
		i := slices.IndexFunc(plan.Steps, func(step publish.Step) bool { return step.Tag != nil && strings.HasSuffix(step.Tag.Reference, tag) })
		require.GreaterOrEqual(t, i, 0, tag)
		return i
	}
	require.Less(t, at("/sample-coreos-extensions:latest"), at("/sample-coreos:latest"))
	require.Less(t, at("/sample-coreos-extensions:"+s.Build+"-x86_64"), at("/sample-coreos:"+s.Build+"-x86_64"))
}

// A daily build with a node image of its own, interrupted after the node step.
func TestDailyBuildsTheNodeImage(t *testing.T) {
	interop.Peer(t, "buildah")
	if os.Getuid() != 0 {
		t.Skip("buildah keeps owners only for root")
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1795608000")
	dir, spec := nodeContext(t)
	state, storage := t.TempDir(), t.TempDir()
	do := func(step string, more ...string) *daily.Summary {
		flags := parse(t, append([]string{"-state", state, "-quiet", "-json", "-node-context", dir, "-node-spec", spec,
			"-buildah-storage", storage, "-buildah-driver", "vfs", "-buildah-isolation", "chroot"}, more...)...)
		r, err := walk.Setup(t.Context(), flags, &bytes.Buffer{})
		require.NoError(t, err)
		var out bytes.Buffer
		require.NoError(t, r.Do(t.Context(), flags, step, &out))
		require.NoError(t, r.Close())
		var s daily.Summary
		require.NoError(t, json.Unmarshal(out.Bytes(), &s), out.String())
		return &s
	}
	part := do(daily.StepNode)
	// What goes on takes the images that are there: there is no builder any more.
	s := do(daily.StepPublish, "-buildah", "no-such-buildah")
	require.Equal(t, part.Build, s.Build)

	r, err := walk.Setup(t.Context(), parse(t, "-state", state, "-quiet"), &bytes.Buffer{})
	require.NoError(t, err)
	defer r.Close()
	find := func(tag string) name.Reference {
		ref, err := name.ParseReference(r.Env.Repository + "/" + tag)
		require.NoError(t, err)
		return ref
	}
	node, err := r.Env.Registry.Image(t.Context(), find("sample-coreos:latest"))
	require.NoError(t, err)
	extensions, err := r.Env.Registry.Image(t.Context(), find("sample-coreos-extensions:latest"))
	require.NoError(t, err)
	base, err := r.Env.Registry.Image(t.Context(), find("sample-coreos:"+s.Build+"-"+string(stream.X8664)+"-base"))
	require.NoError(t, err)
	require.NoError(t, container.CheckNode(t.Context(), base, node, extensions))
	i, err := container.Inspect(t.Context(), node)
	require.NoError(t, err)
	require.Equal(t, s.Build, i.MachineOS)
}
