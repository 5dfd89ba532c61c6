package payloadcmd_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

// origins has git find repositories of https://git.example in a folder.
func origins(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	config := filepath.Join(t.TempDir(), "gitconfig")
	text := "[user]\nname = x\nemail = x@example\n[protocol \"file\"]\nallow = always\n[safe]\ndirectory = *\n" +
		"[url \"file://" + dir + "/\"]\ninsteadOf = https://git.example/\ninsteadOf = https://github.com/openshift/\n"
	require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
	t.Setenv("GIT_CONFIG_GLOBAL", config)
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	t.Setenv("GIT_AUTHOR_DATE", "1790000000 +0000")
	t.Setenv("GIT_COMMITTER_DATE", "1790000000 +0000")
	return dir
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir}, args...)...).CombinedOutput()
	require.NoError(t, err, "git %v: %s", args, out)
	return strings.TrimSpace(string(out))
}

// commit puts files into a repository, made if need be, on the branch main.
func commit(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	if _, err := os.Stat(dir); err != nil {
		require.NoError(t, os.MkdirAll(dir, 0o755))
		git(t, dir, "init", "--quiet", "--initial-branch=main")
	}
	for file, text := range files {
		path := filepath.Join(dir, file)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	git(t, dir, "add", "--all")
	git(t, dir, "commit", "--quiet", "--message", "x")
	return git(t, dir, "rev-parse", "HEAD")
}

const buildList = `apiVersion: streams.okd.io/v1alpha1
kind: Components
ref: main
images:
  - {match: "registry.ci.openshift.org/ocp/builder:*", use: builder}
  - {match: "registry.ci.openshift.org/*/*:*", use: "*"}
components:
  - {name: builder, tool: true, containerfile: "FROM scratch\nCOPY --from=cli /usr/bin/oc /tool\n"}
  - name: operator
    repository: https://git.example/operator
    args: {TAGS: scos}
  - {name: agent, repository: https://git.example/agent, context: images/agent, dockerfile: Containerfile}
  - {name: broken, repository: https://git.example/broken}
  - {name: addon, containerfile: "FROM broken\n", from: broken}
exclude: [keys]
`

// TestBuildWithBuildah builds components with buildah and git, the real ones: of each
// other, of the release's, again after a failure, and into a release.
func TestBuildWithBuildah(t *testing.T) {
	interop.Peer(t, "buildah", "git")
	dir := origins(t)
	s := newShop(t)
	operator := commit(t, filepath.Join(dir, "operator"), map[string]string{
		"Dockerfile": "ARG BUILDER=registry.ci.openshift.org/ocp/builder:rhel-9\nFROM registry.ci.openshift.org/ocp/4.20:unused AS rhel\nFROM ${BUILDER} AS builder\nARG TAGS\nCOPY Dockerfile /src/${TAGS}\n" +
			"FROM registry.ci.openshift.org/ocp/4.20:cli\nCOPY --from=builder /tool /src/scos /operator/\nCOPY manifests /manifests\nLABEL io.openshift.release.operator=true\n",
		"manifests/0000_50_operator.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: operator}\n",
	})
	commit(t, filepath.Join(dir, "agent"), map[string]string{
		"images/agent/Containerfile": "FROM registry.ci.openshift.org/origin/4.20:cli\nCOPY --from=registry.ci.openshift.org/origin/4.20:operator /operator/tool /usr/bin/\nCOPY agent /usr/bin/\n", "images/agent/agent": "agent",
	})
	commit(t, filepath.Join(dir, "broken"), map[string]string{"Dockerfile": "FROM scratch\nCOPY nothing /\n"})
	list := filepath.Join(t.TempDir(), "list.yaml")
	require.NoError(t, os.WriteFile(list, []byte(buildList), 0o600))
	state := t.TempDir()
	storage := t.TempDir()
	build := func(args ...string) (int, string, string) {
		return call(t, append([]string{"build", s.from, "--into=dir:" + s.dir, "--list", list, "--state", state, "--images", "registry.example.com/okd/content",
			"--buildah-storage", storage, "--buildah-driver=vfs", "--buildah-isolation=chroot"}, args...)...)
	}

	code, stdout, stderr := build(s.release, "--plan", "--save-plan", filepath.Join(state, "plan.json"))
	require.Zero(t, code, stderr)
	require.Regexp(t, `(?s)1 +broken +https://git.example/broken@\w{12} \(main\).*1 +builder \(tool\) +containerfile +registry.example.com/okd/release@\w{12}.*`+
		`2 +operator +https://git.example/operator@`+operator[:12]+` \(main\) +builder, registry.example.com/okd/release@\w{12}\n3 +agent +\S+ \(main\) +registry.example.com/okd/release@\w{12}, operator\n.*Left out: keys\n`, stdout)

	code, stdout, stderr = build("--use-plan", filepath.Join(state, "plan.json"), "--workers=2")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "build component broken: buildah build: exit status")
	require.Contains(t, stderr, "build component addon: not built: it is of broken, which there is not\n  mend what failed and run it again: what is built is not built again\n")
	images := strings.Fields(stdout)
	require.Len(t, images, 2)
	require.Regexp(t, `^operator=registry.example.com/okd/content@sha256:\w{64}$`, images[0])

	// Mended, only what is missing is built, and the release is made.
	commit(t, filepath.Join(dir, "broken"), map[string]string{"nothing": "x"})
	code, stdout, stderr = build(s.release, "--version=4.20.0-okd-scos.2", "--to=registry.example.com/okd/release:new")
	require.Zero(t, code, stderr)
	for component, phase := range map[string]string{"builder": "reused", "operator": "reused", "agent": "reused", "broken": "done", "addon": "done"} {
		require.Contains(t, stderr, component+": "+phase+"\n")
	}
	require.Equal(t, images, strings.Fields(stdout)[2:4], "%s", stdout)

	// For programs it is one document.
	code, document, stderr := build(s.release, "--version=4.20.0-okd-scos.2", "--to=registry.example.com/okd/release:new", "--output=json")
	require.Zero(t, code, stderr)
	var said struct {
		Components []struct{ Name, Image string }
		Release    *struct{ Pullspec string }
	}
	require.NoError(t, json.Unmarshal([]byte(document), &said), document)
	require.Len(t, said.Components, 5)
	require.NotNil(t, said.Release)
	require.Regexp(t, `^registry.example.com/okd/release@sha256:\w{64}$`, said.Release.Pullspec)
	registry, err := layoutregistry.Open(t.Context(), s.dir, nil)
	require.NoError(t, err)
	ref, err := name.ParseReference("registry.example.com/okd/release:new")
	require.NoError(t, err)
	r, err := payload.Open(t.Context(), registry, ref, nil)
	require.NoError(t, err)
	var tags []string
	for _, tag := range r.References.Tags {
		tags = append(tags, tag.Name)
	}
	require.Equal(t, []string{"addon", "agent", "broken", "cli", "cluster-version-operator", "operator"}, tags)
	require.Equal(t, operator, r.References.Tag("operator").Annotations["io.openshift.build.commit.id"])
	require.Equal(t, "https://git.example/operator", r.References.Tag("operator").Annotations["io.openshift.build.source-location"])
	_, err = r.File("0000_50_operator.yaml")
	require.NoError(t, err)

	// The image has what the build steps made, on the layers of its base.
	built, err := name.ParseReference(strings.TrimPrefix(images[0], "operator="))
	require.NoError(t, err)
	img, err := registry.Image(t.Context(), built)
	require.NoError(t, err)
	base, err := r.Image("cli")
	require.NoError(t, err)
	cli, err := registry.Image(t.Context(), base)
	require.NoError(t, err)
	of, err := cli.Manifest()
	require.NoError(t, err)
	on, err := img.Manifest()
	require.NoError(t, err)
	require.Len(t, on.Layers, len(of.Layers)+1)
	require.Equal(t, of.Layers[0].Digest, on.Layers[0].Digest)
	config, err := img.ConfigFile()
	require.NoError(t, err)
	require.EqualValues(t, 1790000000, config.Created.Unix())

	// Another machine without its files, clones or buildah's storage makes the same.
	code, again, stderr := call(t, "build", s.release, s.from, "--into=dir:"+t.TempDir(), "--list", list, "--state", t.TempDir(), "--images", "registry.example.com/okd/content",
		"--buildah-storage", t.TempDir(), "--buildah-driver=vfs", "--buildah-isolation=chroot")
	require.Zero(t, code, stderr)
	require.Equal(t, strings.Fields(stdout)[:4], strings.Fields(again))
}

// TestBuildOfSample takes a component of a release that oc made, whose image says
// which commit of which repository it is, and builds it anew on its own image.
func TestBuildOfSample(t *testing.T) {
	interop.Peer(t, "buildah", "git")
	dir := origins(t)
	out, err := exec.CommandContext(t.Context(), "git", "clone", "--quiet", interop.SharedData(t, "payload", "sample", "git", "machine-config-operator.bundle"), filepath.Join(dir, "machine-config-operator")).CombinedOutput()
	require.NoError(t, err, "%s", out)
	from := filepath.Join(t.TempDir(), "images")
	data := interop.SharedData(t, "payload", "sample")
	require.NoError(t, os.MkdirAll(filepath.Join(from, "fake"), 0o755))
	for repo, folder := range map[string]string{"content": "components-a", "release": "release-images"} {
		require.NoError(t, os.CopyFS(filepath.Join(from, "fake", repo), os.DirFS(filepath.Join(data, folder))))
	}
	var info struct {
		Digest     string
		References struct {
			Spec struct {
				Tags []struct {
					Name        string
					Annotations map[string]string
				}
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(data, "info.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &info))
	release := "127.0.0.1:25118/fake/release@" + info.Digest
	list := filepath.Join(t.TempDir(), "list.yaml")
	require.NoError(t, os.WriteFile(list, []byte("apiVersion: streams.okd.io/v1alpha1\nkind: Components\ncomponents:\n"+
		"  - {name: machine-config-operator, repository: https://github.com/openshift/machine-config-operator, ref: main, from: machine-config-operator, containerfile: \"FROM x\\nCOPY f101 /etc/f101\\n\"}\n"+
		"exclude: [comp-*-operator]\n"), 0o600))
	args := []string{"build", release, "--from=dir:" + from, "--into=dir:" + from, "--list", list, "--state", t.TempDir(), "--images=127.0.0.1:25118/fake/content",
		"--buildah-storage", t.TempDir(), "--buildah-driver=vfs", "--buildah-isolation=chroot"}
	stdout := must(t, append(args, "--plan")...)
	require.Regexp(t, regexp.MustCompile(`1 +machine-config-operator +https://github.com/openshift/machine-config-operator@\w{12} \(main\) +127.0.0.1:25118/fake/content@\w{12}\nLeft out: comp-000-operator, comp-003-operator, comp-006-operator, comp-009-operator\n`), stdout)
	stdout = must(t, append(args, "--version=4.20.0-okd-scos.100", "--to=127.0.0.1:25118/fake/release:new")...)
	require.Contains(t, stdout, "machine-config-operator=127.0.0.1:25118/fake/content@sha256:")
	registry, err := layoutregistry.Open(t.Context(), from, nil)
	require.NoError(t, err)
	ref, err := name.ParseReference("127.0.0.1:25118/fake/release:new")
	require.NoError(t, err)
	r, err := payload.Open(t.Context(), registry, ref, nil)
	require.NoError(t, err)
	require.Equal(t, git(t, filepath.Join(dir, "machine-config-operator"), "rev-parse", "HEAD"), r.References.Tag("machine-config-operator").Annotations["io.openshift.build.commit.id"])

	// All of it is planned from scratch: what cannot be fetched is named, each.
	code, _, stderr := call(t, append(args, "--scratch", "--plan")...)
	require.Equal(t, 1, code)
	for _, tag := range info.References.Spec.Tags {
		switch source := tag.Annotations["io.openshift.build.source-location"]; {
		case tag.Name == "machine-config-operator", strings.HasPrefix(tag.Name, "comp-") && strings.HasSuffix(tag.Name, "-operator"):
			require.NotContains(t, stderr, "component "+tag.Name+":")
		case source == "":
			require.Contains(t, stderr, "component "+tag.Name+": no repository")
		}
	}
}

func TestBuildUsage(t *testing.T) {
	s := newShop(t)
	state := "--state=" + t.TempDir()
	list := filepath.Join(t.TempDir(), "list.yaml")
	require.NoError(t, os.WriteFile(list, []byte("apiVersion: streams.okd.io/v1alpha1\nkind: Components\ncomponents: [{name: cli, containerfile: FROM cli, from: cli, args: {A: b}}]\n"), 0o600))
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "name the RELEASE whose images are kept, or build all with --scratch"},
		{[]string{s.release, "x"}, `"x" is not NAME=PULLSPEC`},
		{[]string{s.release, "x=y:1"}, "want a pullspec by digest"},
		{[]string{s.release, "--list", list}, "--images is required"},
		{[]string{s.release, "--list", list, "--images=UPPER"}, "--images: "},
		{[]string{s.release, "--list", list, "--source=x"}, "want NAME=FOLDER"},
		{[]string{s.release, "--list", list, "--build-arg=x"}, "want NAME=VALUE"},
		{[]string{s.release, "--output=x"}, "it is one of text, json, yaml"},
		{[]string{s.release, "--use-plan=x"}, "--use-plan says what is built"},
	} {
		code, stdout, stderr := call(t, append([]string{"build", s.from, state}, tc.args...)...)
		require.Equal(t, 2, code, "%v: %s", tc.args, stderr)
		require.Contains(t, stderr, tc.want)
		require.Empty(t, stdout)
	}
	code, _, stderr := call(t, "build", s.from, state, s.release, "--list", list, "--images=registry.example.com/x", "--into=dir:"+t.TempDir(), "--buildah=no-such-program")
	require.Equal(t, 2, code, stderr)
	require.Contains(t, stderr, "install buildah")
	code, _, stderr = call(t, "build", s.from, state, s.release, "--git=no-such-program", "--plan", "--images=x", "--minor=4.20")
	require.Equal(t, 2, code, stderr)
	require.Contains(t, stderr, "install git")

	other := filepath.Join(t.TempDir(), "other.yaml")
	require.NoError(t, os.WriteFile(other, []byte("apiVersion: streams.okd.io/v1alpha1\nkind: Components\ncomponents: [{name: a, containerfile: FROM registry.example.com/none:1}, {name: b}]\n"), 0o600))
	code, _, stderr = call(t, "build", s.from, state, s.release, "--list", other, "--plan")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "component b: no repository")
	require.Contains(t, stderr, "component a: containerfile line 1: image registry.example.com/none:1")
	require.Contains(t, stderr, "\n  say in the list where sources are (repository, ref) and what is taken for an image (images)")

	// What would be built is data.
	stdout := must(t, "build", s.from, state, s.release, "--list", list, "--plan", "--output=json", "--build-arg=A=c", "extra="+s.image)
	var plan struct {
		Batches [][]struct {
			Name string
			Args map[string]string
		}
		Given []struct{ Name, Image string }
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &plan))
	require.Equal(t, "cli", plan.Batches[0][0].Name)
	require.Equal(t, map[string]string{"A": "c"}, plan.Batches[0][0].Args)
	require.Equal(t, s.image, plan.Given[0].Image)
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "Dockerfile"), []byte("FROM scratch\n"), 0o600))
	stdout = must(t, "build", s.from, state, s.release, "--list", list, "--plan", "--source=mine="+folder, "--only=mine")
	require.Contains(t, stdout, "file://"+folder)
}
