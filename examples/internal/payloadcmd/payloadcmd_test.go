package payloadcmd_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/payloadcmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

// call runs `okd-streams payload` as a shell would.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("SOURCE_DATE_EPOCH", "1795608000")
	var out, diagnostics bytes.Buffer
	cmd := payloadcmd.Command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&diagnostics)
	code = ui.Exit(&diagnostics, "okd-streams", cmd.ExecuteContext(t.Context()))
	return code, out.String(), diagnostics.String()
}

func must(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := call(t, args...)
	require.Zero(t, code, "%v: %s", args, stderr)
	return stdout
}

const repo = "registry.example.com/okd/release"

var testTime = time.Unix(1795600000, 0).UTC()

// shop is a folder of layouts with a release and an image to swap in.
type shop struct {
	dir, from string // folder, and as --from
	release   string // pullspec
	image     string // pullspec of another cli
}

func image(t *testing.T, labels map[string]string, files ...string) v1.Image {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for i := 0; i < len(files); i += 2 {
		require.NoError(t, tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: files[i], Size: int64(len(files[i+1])), ModTime: time.Unix(1700000000, 0)}))
		_, err := io.WriteString(tw, files[i+1])
		require.NoError(t, err)
	}
	require.NoError(t, tw.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	require.NoError(t, err)
	img, err := mutate.AppendLayers(empty.Image, layer)
	require.NoError(t, err)
	img, err = mutate.Config(img, v1.Config{Labels: labels})
	require.NoError(t, err)
	return img
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{dir: t.TempDir()}
	s.from = "--from=dir:" + s.dir
	registry, err := layoutregistry.Open(t.Context(), s.dir, &layoutregistry.Options{NoSync: true})
	require.NoError(t, err)
	to, err := name.NewRepository(repo)
	require.NoError(t, err)
	push := func(img v1.Image) name.Digest {
		desc, err := registry.WriteImage(t.Context(), to, img, nil)
		require.NoError(t, err)
		return to.Digest(desc.Digest.String())
	}
	keys, err := os.ReadFile("../../../publish/pgpsigner/testdata/ed.asc")
	require.NoError(t, err)
	trust := "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: keys\n  annotations:\n    release.openshift.io/verification-config-map: \"\"\ndata:\n  store-a: https://signatures.example.com\n  verifier-public-key-a: |\n    " + strings.ReplaceAll(strings.TrimSpace(string(keys)), "\n", "\n    ") + "\n"
	source := map[string]string{"io.openshift.build.source-location": "https://github.com/openshift/oc", "io.openshift.build.commit.id": "1111111"}
	client := func(text string) v1.Image { return image(t, source, "usr/bin/oc", text) }
	built, err := payload.Assemble(t.Context(), registry, &payload.Spec{
		Version: "4.20.0-okd-scos.1", Created: time.Unix(1795600000, 0).UTC(), Components: map[string]name.Reference{
			"cluster-version-operator": push(image(t, nil, "usr/bin/cvo", "x")),
			"cli":                      push(client("\x00_RELEASE_VERSION_LOCATION_\x00" + strings.Repeat("X", 64) + "\x00")),
			"keys":                     push(image(t, map[string]string{payload.LabelOperator: "true"}, "manifests/0000_90_keys.yaml", trust)),
		},
	}, nil)
	require.NoError(t, err)
	s.release = push(built.Image).Name()
	require.NoError(t, registry.Tag(t.Context(), to.Tag("latest"), built.Digest))
	source["io.openshift.build.commit.id"] = "2222222"
	s.image = push(client("another")).Name()
	return s
}

func TestInfo(t *testing.T) {
	s := newShop(t)
	for _, release := range []string{s.release, repo + ":latest"} {
		require.Contains(t, must(t, "info", s.from, release), "\nName:      4.20.0-okd-scos.1\n"[1:])
	}
	require.Contains(t, must(t, "info", s.from, s.release, "--view=size"), " MB across 3 layers\n")
	require.Contains(t, must(t, "info", s.from, s.release, "--view=commit-urls"), "https://github.com/openshift/oc/commit/1111111\n")
	require.True(t, strings.HasPrefix(must(t, "info", s.from, s.release, "--image-for=cli"), repo+"@sha256:"))
	require.Contains(t, must(t, "info", s.from, s.release, "--contents"), "\n# 0000_90_keys.yaml\n")
	var info struct {
		Metadata struct{ Version string }
		Images   map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(must(t, "info", s.from, s.release, "-o", "json", "--include-images")), &info))
	require.Equal(t, "4.20.0-okd-scos.1", info.Metadata.Version)
	require.Len(t, info.Images, 3)
	require.Equal(t, "4.20.0-okd-scos.1: no faults\n", must(t, "lint", s.from, s.release, "--all-layers"))
	dir := t.TempDir()
	must(t, "extract", s.from, s.release, "--to", dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "0000_50_a.yaml"), []byte("x"), 0o600))
	code, _, stderr := call(t, "lint", "unpacked:"+dir)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "0000_50_a.yaml:1: not a mapping (invalid-manifest)")
	code, _, stderr = call(t, "info", s.from, s.release, "--packages")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "no node image")
}

// The whole walk of somebody who wants a release with an own image.
func TestSwap(t *testing.T) {
	s := newShop(t)
	args := []string{"swap", s.from, s.release, "cli=" + s.image, "--version=4.20.0-own.1", "--previous=4.20.0-okd-scos.1"}
	planned := must(t, args...)
	got := must(t, append(args, "--to="+repo+":own", "--into=dir:"+s.dir)...)
	require.Equal(t, strings.Fields(planned)[0], got[strings.Index(got, "@")+1:strings.Index(got, " ")], "the same as was planned")
	require.Equal(t, got, must(t, append(args, "--to="+repo+":own", "--into=dir:"+s.dir)...), "and the same again")
	own := repo + ":own"
	require.Equal(t, s.image+"\n", must(t, "info", s.from, own, "--image-for=cli"))
	require.Empty(t, must(t, "info", s.from, s.release, own, "--capability=Console"), "nothing became part of a capability")

	diff := must(t, "info", s.from, s.release, own)
	require.Contains(t, diff, "Upgrade From:                     Yes\n")
	require.Contains(t, diff, "Images Changed:\n  cli sha256:")
	require.Contains(t, must(t, "changelog", s.from, s.release, own), "### [cli](https://github.com/openshift/oc/tree/2222222)\n")
	require.Contains(t, must(t, "changelog", s.from, s.release, own, "-o", "html"), "<h1>4.20.0-own.1</h1>")
	require.Equal(t, must(t, "changelog", s.from, s.release, own), must(t, "changelog", s.from, s.release, own, "--packages"), "no node image changed")

	// What would be wrong is named, and can be allowed.
	code, _, stderr := call(t, "swap", s.from, s.release, "cli="+repo+":latest", "--version=4.20.0-own.2")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "component cli: "+repo+":latest has no digest (unpinned-reference)")
	code, _, stderr = call(t, "swap", s.from, s.release, "--manifest-list", "--version=4.20.0-own.2")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "is no manifest list")
}

func TestChangelogClones(t *testing.T) {
	interop.Peer(t, "git")
	s := newShop(t)
	must(t, "swap", s.from, s.release, "cli="+s.image, "--version=4.20.0-own.1", "--to="+repo+":own", "--into=dir:"+s.dir)
	code, stdout, stderr := call(t, "changelog", s.from, s.release, repo+":own", "--clones", t.TempDir())
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "no clone of https://github.com/openshift/oc")
	require.Contains(t, stdout, "# 4.20.0-own.1\n", "the rest is there")

	dir := filepath.Join(t.TempDir(), "oc")
	out, err := exec.CommandContext(t.Context(), "git", "init", "-q", "--bare", dir).CombinedOutput()
	require.NoError(t, err, string(out))
	code, _, stderr = call(t, "changelog", s.from, s.release, repo+":own", "--clones", filepath.Dir(dir))
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "git log in "+dir)
}

func TestExtract(t *testing.T) {
	s := newShop(t)
	dir := filepath.Join(t.TempDir(), "new")
	require.Equal(t, "3 files in "+dir+"\n", must(t, "extract", s.from, s.release, "--to", dir))
	require.Contains(t, must(t, "info", "unpacked:"+dir), "Manifests: 1\n")
	require.Contains(t, must(t, "extract", s.from, s.release, "--file=release-metadata"), "cincinnati-metadata-v0")
	require.Equal(t, "0 files in "+dir+"\n", must(t, "extract", s.from, s.release, "--to", dir, "--included", "--capability=x"))
	sums := must(t, "extract", s.from, s.release, "--to", dir, "--tools")
	require.Contains(t, sums, "  openshift-client-linux-4.20.0-okd-scos.1.tar.gz\n")
	require.FileExists(t, filepath.Join(dir, "sha256sum.txt"))
	code, _, _ := call(t, "extract", s.from, s.release, "--to", dir, "--command=openshift-install")
	require.Equal(t, 1, code)
}

// A release of a folder of manifests, with an image replaced.
func TestNew(t *testing.T) {
	s := newShop(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "image-references"), []byte(must(t, "extract", s.from, s.release, "--file=image-references")), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "keys"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "keys", "0000_90_keys.yaml"), []byte(must(t, "extract", s.from, s.release, "--file=0000_90_keys.yaml")), 0o600))
	got := must(t, "new", s.from, "--folder="+dir, "cli="+s.image, "--version=4.20.0-folder.1", "--to="+repo+":folder", "--into=dir:"+s.dir)
	require.Contains(t, got, " 4.20.0-folder.1 2026-11-25T")
	require.Equal(t, s.image+"\n", must(t, "info", s.from, repo+":folder", "--image-for=cli"))
	require.Contains(t, must(t, "info", s.from, repo+":folder"), "Manifests: 1\n")

	// Promoted: its images are copied too, and named where they are then.
	promoted := must(t, "swap", s.from, repo+":folder", "--version=4.20.0-folder.2", "--mirror=registry.example.com/okd/content", "--to=registry.example.com/okd/promoted:1", "--into=dir:"+s.dir)
	require.Contains(t, promoted, "registry.example.com/okd/promoted@sha256:")
	require.Equal(t, "registry.example.com/okd/content@"+strings.Split(s.image, "@")[1]+"\n", must(t, "info", s.from, "registry.example.com/okd/promoted:1", "--image-for=cli"))
	require.Contains(t, must(t, "info", s.from, "registry.example.com/okd/promoted:1", "--include-images"), "4.20.0-folder.2")

	stream := filepath.Join(t.TempDir(), "stream.json")
	require.NoError(t, os.WriteFile(stream, []byte(must(t, "extract", s.from, s.release, "--file=image-references")), 0o600))
	require.Contains(t, must(t, "new", s.from, "--stream="+stream, "--version=4.20.0-stream.1"), " 4.20.0-stream.1 (2 images, 1 manifests)\n")
	require.Contains(t, must(t, "new", s.from, "cluster-version-operator="+s.image, "--version=4.20.0-map.1"), " 4.20.0-map.1 (1 images, 0 manifests)\n")
	for _, args := range [][]string{{"new", s.from}, {"new", s.from, "--version=1.0.0", "--folder=" + dir, "--stream=" + stream}, {"new", s.from, "cli=" + s.image, "--version=1.0.0", "--mirror=!"}} {
		code, _, _ := call(t, args...)
		require.Equal(t, ui.ExitUsage, code)
	}
}

// The source code of a release, from clones that git is told of.
func TestExtractGit(t *testing.T) {
	interop.Peer(t, "git")
	s := newShop(t)
	origin := filepath.Join(t.TempDir(), "openshift", "oc")
	git := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", origin, "-c", "user.name=n", "-c", "user.email=e@example.com"}, args...)...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return strings.TrimSpace(string(out))
	}
	require.NoError(t, os.MkdirAll(origin, 0o755))
	git("init", "-q", "-b", "main")
	git("config", "uploadpack.allowAnySHA1InWant", "true")
	git("config", "uploadpack.allowFilter", "true")
	require.NoError(t, os.WriteFile(filepath.Join(origin, "a"), []byte("one"), 0o600))
	git("add", "a")
	git("commit", "-q", "-m", "one")
	first := git("rev-parse", "HEAD")
	git("commit", "-q", "--amend", "-m", "other") // first is on no branch any more
	t.Setenv("GIT_CONFIG_COUNT", "1")
	t.Setenv("GIT_CONFIG_KEY_0", "url.file://"+filepath.Dir(filepath.Dir(origin))+"/.insteadOf")
	t.Setenv("GIT_CONFIG_VALUE_0", "https://github.com/")

	unpacked := t.TempDir()
	must(t, "extract", s.from, s.release, "--to", unpacked)
	references, err := os.ReadFile(filepath.Join(unpacked, "image-references"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(unpacked, "image-references"), bytes.ReplaceAll(references, []byte("1111111"), []byte(first)), 0o600))
	dir := t.TempDir()
	for range 2 { // the second time the clone is there
		code, stdout, stderr := call(t, "extract", "unpacked:"+unpacked, "--git", "--to", dir)
		require.Zero(t, code, stderr)
		clone := filepath.Join(dir, "github.com", "openshift", "oc")
		require.Equal(t, first+" "+clone+"\n", stdout)
		require.Contains(t, stderr, "component keys does not say")
		data, err := os.ReadFile(filepath.Join(clone, "a"))
		require.NoError(t, err)
		require.Equal(t, "one", string(data))
	}
	code, stdout, stderr := call(t, "extract", s.from, s.release, "--git", "--to", t.TempDir())
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "https://github.com/openshift/oc: git -C ")
	require.Empty(t, stdout)
}

func TestMirror(t *testing.T) {
	s := newShop(t)
	var plan []struct {
		From, To string
		Tags     []string
	}
	require.NoError(t, json.Unmarshal([]byte(must(t, "mirror", s.from, s.release, "mirror.example.com/okd", "--plan")), &plan))
	require.Len(t, plan, 4)
	into := t.TempDir()
	out := must(t, "mirror", s.from, s.release, "mirror.example.com/okd", "--into=dir:"+into, "--no-referrers")
	require.Contains(t, out, "imageDigestSources:\n- mirrors:\n  - mirror.example.com/okd\n  source: "+repo+"\n")
	require.Contains(t, must(t, "info", "--from=dir:"+into, "mirror.example.com/okd:4.20.0-okd-scos.1-"+strings.TrimPrefix(plan[3].Tags[0], "4.20.0-okd-scos.1-")), "Name:      4.20.0-okd-scos.1\n")
	// The folder of one repository is a layout by itself.
	require.Contains(t, must(t, "info", "--from=folder:"+filepath.Join(into, "okd"), "mirror.example.com/okd@"+strings.Split(s.release, "@")[1]), "Name:      4.20.0-okd-scos.1\n")
	archive := filepath.Join(t.TempDir(), "mirror.tar")
	file, err := os.Create(archive)
	require.NoError(t, err)
	tw := tar.NewWriter(file)
	require.NoError(t, tw.AddFS(os.DirFS(filepath.Join(into, "okd"))))
	require.NoError(t, tw.Close())
	require.NoError(t, file.Close())
	require.Contains(t, must(t, "info", "--from=archive:"+archive, "mirror.example.com/okd@"+strings.Split(s.release, "@")[1]), "Name:      4.20.0-okd-scos.1\n")
	// An archive of a layout is a source too.
	digest := strings.Split(s.release, "@")[1]
	require.Contains(t, must(t, "mirror", "--from=archive:"+archive, "x.test/okd@"+digest, "site.example.com/okd", "--components=x.test/okd", "--into=dir:"+t.TempDir()), "site.example.com/okd")
	code, _, stderr := call(t, "mirror", "unpacked:"+t.TempDir(), "site.example.com/okd")
	require.NotZero(t, code, stderr)
}

// To a folder as oc's, packed, and out of it at a site without network, with
// the signatures that the cluster there will ask for.
func TestMirrorFolder(t *testing.T) {
	s := newShop(t)
	fixtures := "../../../publish/pgpsigner/testdata/"
	passphrase := filepath.Join(t.TempDir(), "passphrase")
	require.NoError(t, os.WriteFile(passphrase, []byte("correct horse\n"), 0o600))
	store := t.TempDir()
	must(t, "sign", s.from, s.release, "--key="+fixtures+"ed.secret.asc", "--passphrase-file="+passphrase, "--to="+store)
	dir := t.TempDir()
	must(t, "mirror", s.from, s.release, "carrier.example.com/okd/mirror", "--into=mirror:"+dir, "--store="+store)
	maps, err := filepath.Glob(filepath.Join(dir, "config", "signature-sha256-*.json"))
	require.NoError(t, err)
	require.Len(t, maps, 1)
	digest := strings.Split(s.release, "@")[1]
	archive := filepath.Join(t.TempDir(), "mirror.tar")
	file, err := os.Create(archive)
	require.NoError(t, err)
	tw := tar.NewWriter(file)
	require.NoError(t, tw.AddFS(os.DirFS(dir)))
	require.NoError(t, tw.Close())
	require.NoError(t, file.Close())
	for _, from := range []string{"folder:" + dir, "archive:" + archive} {
		site := t.TempDir()
		got := must(t, "mirror", "--from="+from, "carrier.example.com/okd/mirror@"+digest, "site.example.com/okd/release", "--components=carrier.example.com/okd/mirror", "--into=dir:"+site)
		require.Contains(t, got, "# oc apply -f:\n{\"kind\":\"ConfigMap\"")
		require.Contains(t, must(t, "info", "--from=dir:"+site, "site.example.com/okd/release@"+digest), "Name:      4.20.0-okd-scos.1\n")
		again := t.TempDir()
		must(t, "mirror", "--from="+from, "carrier.example.com/okd/mirror@"+digest, "next.example.com/okd/release", "--components=carrier.example.com/okd/mirror", "--into=mirror:"+again)
		copied, err := os.ReadFile(filepath.Join(again, "config", filepath.Base(maps[0])))
		require.NoError(t, err)
		first, err := os.ReadFile(maps[0])
		require.NoError(t, err)
		require.Equal(t, string(first), string(copied))
		require.Contains(t, must(t, "verify", "--from="+from, "carrier.example.com/okd/mirror@"+digest, "--key="+fixtures+"ed.asc", "--store="+maps[0], "--any-identity"), "signed by ")
	}
	code, _, stderr := call(t, "mirror", s.from, s.release, "x.example.com/okd", "--into=mirror:"+t.TempDir(), "--store="+t.TempDir())
	require.Zero(t, code)
	require.Contains(t, stderr, "no signatures of the release")
}

func TestSignatures(t *testing.T) {
	s := newShop(t)
	fixtures := "../../../publish/pgpsigner/testdata/"
	passphrase := filepath.Join(t.TempDir(), "passphrase")
	require.NoError(t, os.WriteFile(passphrase, []byte("correct horse\n"), 0o600))
	dir := t.TempDir()
	require.Contains(t, must(t, "sign", s.from, s.release, "--key="+fixtures+"ed.secret.asc", "--passphrase-file="+passphrase, "--to="+dir), s.release+" signed by ")
	maps, err := filepath.Glob(filepath.Join(dir, "signature-sha256-*.json"))
	require.NoError(t, err)
	require.Len(t, maps, 1)
	for _, store := range []string{dir, "file://" + dir, maps[0]} {
		require.Contains(t, must(t, "verify", s.from, s.release, "--key="+fixtures+"ed.asc", "--store="+store), s.release+": signed by ")
	}
	require.Contains(t, must(t, "verify", s.from, s.release, "--trusted-by="+s.release, "--store="+dir), "verifier-public-key-a of "+s.release)
	require.Contains(t, must(t, "verify", s.from, s.release, "--trusted-by="+s.release, "--store="+dir, "--rotation"), "clusters at all 1 releases accept")

	code, stdout, stderr := call(t, "verify", s.from, s.release, "--key="+fixtures+"sub.asc", "--store="+dir)
	require.Equal(t, ui.ExitVerification, code, stderr)
	require.Empty(t, stdout)
	must(t, "swap", s.from, s.release, "cli="+s.image, "--version=4.20.0-own.1", "--to="+repo+":own", "--into=dir:"+s.dir)
	code, _, stderr = call(t, "verify", s.from, repo+":own", "--key="+fixtures+"ed.asc", "--store="+dir)
	require.Equal(t, ui.ExitVerification, code)
	require.Contains(t, stderr, "no signature found")
	code, _, stderr = call(t, "verify", s.from, s.release, "--store="+dir)
	require.Equal(t, ui.ExitUsage, code)
	require.Contains(t, stderr, "whom to trust?")
}

func TestUsage(t *testing.T) {
	s := newShop(t)
	for _, args := range [][]string{
		{"nonsense"}, {"info"}, {"info", s.from, "!"}, {"info", s.from, s.release, "-o", "x"}, {"info", "--from=x:y", s.release},
		{"swap", s.from, s.release, "nonsense"}, {"swap", s.from, s.release, "cli=" + s.image, "--version=1.0.0", "--to=a@b"},
		{"changelog", s.from, s.release, s.release, "-o", "x"}, {"mirror", s.from, s.release, "!"}, {"sign", s.from, s.release},
		{"verify", s.from, s.release, "a", "b"},
	} {
		code, stdout, stderr := call(t, args...)
		require.Equal(t, ui.ExitUsage, code, "%v: %s", args, stderr)
		require.Empty(t, stdout)
	}
	code, stdout, _ := call(t)
	require.Zero(t, code)
	require.Contains(t, stdout, "swap")
}

// What oc printed of its own release, from a folder with it.
func TestSample(t *testing.T) {
	folder := interop.SharedData(t, "payload", "sample", "release-images")
	want, err := os.ReadFile(interop.SharedData(t, "payload", "sample", "info.txt"))
	require.NoError(t, err)
	const ref = "127.0.0.1:25118/fake/release@sha256:8ad6d1ad8581a4087c42f3169a350deeb6e10ce71ff12e97cf42057886eaf63a"
	require.Equal(t, string(want), must(t, "info", "--from=folder:"+folder, ref))
}
