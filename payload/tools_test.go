package payload_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"debug/macho"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/internal/pgp"
	"github.com/okd-project/okd-streams/payload"
)

const (
	imageMarker   = "\x00_RELEASE_IMAGE_LOCATION_\x00"
	versionMarker = "\x00_RELEASE_VERSION_LOCATION_\x00"
	archMarker    = "\x00_RELEASE_ARCHITECTURE_LOCATION_\x00"
)

// program is random bytes with room for the release.
func program(t testing.TB, seed uint64) []byte {
	t.Helper()
	noise := make([]byte, 300<<10)
	_, err := mathrand.NewChaCha8([32]byte{byte(seed)}).Read(noise)
	require.NoError(t, err)
	out := bytes.Clone(noise[:255<<10]) // so that a marker lies across the window
	for marker, n := range map[string]int{imageMarker: 300, versionMarker: 64, archMarker: 64} {
		out = append(append(append(out, marker...), strings.Repeat("X", n)...), 0)
	}
	return append(out, noise...)
}

// unpack reads an archive's entries.
func unpack(t testing.TB, path string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	out := map[string]string{}
	if strings.HasSuffix(path, ".zip") {
		z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
		require.NoError(t, err)
		for _, f := range z.File {
			rc, err := f.Open()
			out[fmt.Sprintf("%s %o %d", f.Name, f.Mode().Perm(), f.Modified.Unix())] = string(readAll(t, rc, err))
		}
		return out
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	require.NoError(t, err)
	require.True(t, z.ModTime.IsZero() || z.ModTime.Unix() == 0)
	tr := tar.NewReader(z)
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return out
		}
		require.NoError(t, err)
		require.Empty(t, hdr.Uname+hdr.Gname)
		content, err := io.ReadAll(tr)
		require.NoError(t, err)
		if hdr.Typeflag == tar.TypeLink {
			content = []byte("-> " + hdr.Linkname)
		}
		out[fmt.Sprintf("%s %o %d", hdr.Name, hdr.Mode, hdr.ModTime.Unix())] = string(content)
	}
}

// patched reads what a program says of the release.
func patched(program, original string, marker string) string {
	i := strings.Index(original, marker)
	value, _, _ := strings.Cut(program[i:], "\x00")
	return value
}

func TestSampleTools(t *testing.T) {
	src := sampleImages(t)
	r := sampleRelease(t, src, 0)
	dir, again := t.TempDir(), t.TempDir()
	set, err := r.Tools(t.Context(), src, dir, nil)
	require.NoError(t, err)
	_, err = r.Tools(t.Context(), src, again, &payload.ToolsOptions{OS: []string{"*"}, TempDir: t.TempDir()})
	require.NoError(t, err)
	got := readDir(t, dir)
	require.Equal(t, got, readDir(t, again), "the same release gives the same bytes")

	// The archives that oc made, by name.
	var want []string
	for line := range strings.Lines(sampleText(t, "tools.txt")) {
		if f := strings.Fields(line); len(f) == 2 && len(f[0]) == 64 {
			want = append(want, f[1])
		}
	}
	want = append(want, "sha256sum.txt")
	slices.Sort(want)
	require.Equal(t, want, slices.Sorted(maps.Keys(got)))
	require.Equal(t, got["sha256sum.txt"], string(set.Sums))
	for line := range strings.Lines(got["sha256sum.txt"]) {
		f := strings.Fields(line)
		sum := sha256.Sum256([]byte(got[f[1]]))
		require.Equal(t, f[0], hex.EncodeToString(sum[:]))
	}
	require.Contains(t, got["release.txt"], "Pull From: 127.0.0.1:25118/fake/release@"+samples[0].digest)

	// Their content: the program as it is in the image, but for what is written
	// into it.
	original := string(sampleProgram(t, src, r, "cli", "usr/bin/oc"))
	const seconds = 1700000000
	files := unpack(t, filepath.Join(dir, "openshift-client-linux-4.20.0-okd-scos.1.tar.gz"))
	require.Equal(t, "-> oc", files[fmt.Sprintf("kubectl 755 %d", seconds)])
	require.Contains(t, files, fmt.Sprintf("README.md 644 %d", seconds))
	oc := files[fmt.Sprintf("oc 755 %d", seconds)]
	require.Equal(t, "4.20.0-okd-scos.1", patched(oc, original, versionMarker))
	require.Len(t, oc, len(original))
	i := strings.Index(original, versionMarker)
	require.Equal(t, original[:i], oc[:i])
	require.Equal(t, original[i+len("4.20.0-okd-scos.1")+1:], oc[i+len("4.20.0-okd-scos.1")+1:], "the rest of the room stays, and so do other markers")

	files = unpack(t, filepath.Join(dir, "openshift-install-linux-4.20.0-okd-scos.1.tar.gz"))
	require.Len(t, files, 2)
	install := files[fmt.Sprintf("openshift-install 755 %d", seconds)]
	require.Equal(t, "127.0.0.1:25118/fake/release@"+samples[0].digest, patched(install, original, imageMarker))
	require.Equal(t, "4.20.0-okd-scos.1", patched(install, original, versionMarker))
	require.Equal(t, "linux/amd64", patched(install, original, archMarker))
	files = unpack(t, filepath.Join(dir, "ccoctl-linux-4.20.0-okd-scos.1.tar.gz"))
	require.Equal(t, string(sampleProgram(t, src, r, "cloud-credential-operator", "usr/bin/ccoctl")), files[fmt.Sprintf("ccoctl 755 %d", seconds)])
	files = unpack(t, filepath.Join(dir, "openshift-client-windows-4.20.0-okd-scos.1.zip"))
	require.Len(t, files, 2)
	for name, text := range files {
		if strings.HasPrefix(name, "README") {
			require.Equal(t, strings.Count(text, "\n"), strings.Count(text, "\r\n"))
		}
	}
	for _, tool := range set.Tools {
		if strings.Contains(tool.File, "mac-arm64") {
			require.Len(t, tool.Warnings, 1)
			require.Contains(t, tool.Warnings[0], "not a Mach-O file")
		} else {
			require.Empty(t, tool.Warnings)
		}
	}
	require.Contains(t, set.Missing, "openshift-client-linux-s390x-4.20.0-okd-scos.1.tar.gz")
}

func sampleProgram(t testing.TB, src *memory, r *payload.Release, component, path string) []byte {
	t.Helper()
	ref, err := r.Image(component)
	require.NoError(t, err)
	layers, err := src.images[mustHash(t, ref.DigestStr())].Layers()
	require.NoError(t, err)
	for _, l := range layers {
		rc, err := l.Uncompressed()
		tr := tar.NewReader(bytes.NewReader(readAll(t, rc, err)))
		for {
			hdr, err := tr.Next()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			if hdr.Name == path {
				data, err := io.ReadAll(tr)
				require.NoError(t, err)
				return data
			}
		}
	}
	t.Fatalf("%s has no %s", component, path)
	return nil
}

// toolWorld has a release with these components; files is path, content, …
type toolWorld struct {
	*world
	release *payload.Release
}

func newToolWorld(t *testing.T, components map[string][][]byte) *toolWorld {
	t.Helper()
	w := newWorld(t)
	for tag, layers := range components {
		w.put(t, tag, imageSpec{layers: layers})
	}
	_, r := w.must(t, w.spec(), nil)
	return &toolWorld{w, r}
}

func (w *toolWorld) tools(t *testing.T, opts *payload.ToolsOptions) (*payload.ToolSet, map[string]string, error) {
	t.Helper()
	dir := t.TempDir()
	set, err := w.release.Tools(t.Context(), w, dir, opts)
	return set, readDir(t, dir), err
}

func TestTools(t *testing.T) {
	oc := program(t, 1)
	bin := func(name string, data []byte) []byte {
		return tarOf(t, entry{name: name, data: string(data)})
	}
	w := newToolWorld(t, map[string][][]byte{
		"cli": {bin("usr/bin/oc", []byte("old")), bin("./usr/bin/oc", oc), bin("etc/x", nil)},
	})
	set, files, err := w.tools(t, nil)
	require.NoError(t, err)
	require.Len(t, set.Tools, 1)
	require.Equal(t, []string{"openshift-client-linux-4.20.0-test.1.tar.gz", "release.txt", "sha256sum.txt"}, slices.Sorted(maps.Keys(files)))
	require.Equal(t, "oc linux/amd64 cli", fmt.Sprint(set.Tools[0].Command, " ", set.Tools[0].OS, "/", set.Tools[0].Arch, " ", set.Tools[0].Component))
	require.Equal(t, int64(len(files[set.Tools[0].File])), set.Tools[0].Size)

	// What is asked for by name has to be there.
	_, files, err = w.tools(t, &payload.ToolsOptions{Commands: []string{"openshift-install"}})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "component installer")
	require.Empty(t, files)
	_, _, err = w.tools(t, &payload.ToolsOptions{OS: []string{"mac"}})
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, opts := range []*payload.ToolsOptions{{Commands: []string{"rm"}}, {OS: []string{"plan9"}}, {OS: []string{"linux/386"}}, {OS: []string{"windows"}, Commands: []string{"ccoctl"}}} {
		_, _, err = w.tools(t, opts)
		require.Error(t, err)
		require.NotErrorIs(t, err, fs.ErrNotExist)
	}

	// A signature of the sums, and another pullspec.
	key := newSigner(t, 0)
	key.form = pgp.Armored
	_, files, err = w.tools(t, &payload.ToolsOptions{Sign: key})
	require.NoError(t, err)
	_, err = key.ring.Verify(t.Context(), strings.NewReader(files["sha256sum.txt"]), []byte(files["sha256sum.txt.asc"]), testTime, nil)
	require.NoError(t, err)
}

func TestToolsPatched(t *testing.T) {
	data := program(t, 2)
	w := newToolWorld(t, map[string][][]byte{"installer": {tarOf(t, entry{name: "usr/bin/openshift-install", data: string(data) + imageMarker + strings.Repeat("X", 300) + "\x00"})}})
	run := func(pullspec string) (string, error) {
		dir := t.TempDir()
		_, err := w.release.Tools(t.Context(), w, dir, &payload.ToolsOptions{Pullspec: pullspec})
		if err != nil {
			require.Empty(t, readDir(t, dir))
			return "", err
		}
		for name, text := range unpack(t, filepath.Join(dir, "openshift-install-linux-4.20.0-test.1.tar.gz")) {
			if strings.HasPrefix(name, "openshift-install") {
				return text, nil
			}
		}
		return "", nil
	}
	got, err := run("")
	require.NoError(t, err)
	require.Equal(t, w.release.Pullspec().Name(), patched(got, string(data), imageMarker))
	require.Equal(t, 1, strings.Count(got, imageMarker), "only the first is replaced")
	// As long as the room is, but for the byte behind it.
	room := len(imageMarker) + 300 + 1
	for n, bad := range []bool{false, true} {
		_, err = run(strings.Repeat("p", room-1+n))
		require.Equal(t, bad, err != nil)
	}
	_, err = run("a\x00b")
	require.ErrorContains(t, err, "cannot be a value")

	w = newToolWorld(t, map[string][][]byte{"cli": {tarOf(t, entry{name: "usr/bin/oc", data: "no room"})}})
	set, _, err := w.tools(t, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"usr/bin/oc has no place for _RELEASE_VERSION_LOCATION_"}, set.Tools[0].Warnings)
}

// Whiteouts, links and what is no file.
func TestToolsLayers(t *testing.T) {
	oc := string(program(t, 3))
	layer := func(entries ...entry) []byte { return tarOf(t, entries...) }
	file := entry{name: "usr/bin/oc", data: oc}
	for name, c := range map[string]struct {
		layers [][]byte
		want   string // error, "": found
	}{
		"in the lowest layer":      {[][]byte{layer(file), layer(entry{name: "a"}), layer(entry{name: "b"})}, ""},
		"removed":                  {[][]byte{layer(file), layer(entry{name: "usr/bin/.wh.oc"})}, "none of these tools"},
		"removed and there again":  {[][]byte{layer(file), layer(entry{name: "usr/bin/.wh.oc"}), layer(file)}, ""},
		"folder removed":           {[][]byte{layer(file), layer(entry{name: ".wh.usr"})}, "none of these tools"},
		"folder hidden":            {[][]byte{layer(file), layer(entry{name: "usr/.wh..wh..opq"})}, "none of these tools"},
		"hidden in the same layer": {[][]byte{layer(entry{name: "usr/.wh..wh..opq"}, file)}, ""},
		"folder became a link":     {[][]byte{layer(file), layer(entry{name: "usr/bin", kind: '2', link: "sbin"})}, "none of these tools"},
		"hard link":                {[][]byte{layer(entry{name: "usr/bin/oc.real", data: oc}, entry{name: "usr/bin/oc", kind: '1', link: "usr/bin/oc.real"})}, ""},
		"link":                     {[][]byte{layer(entry{name: "opt/oc", data: oc}), layer(entry{name: "usr/bin/oc", kind: '2', link: "../../opt/oc"})}, ""},
		"absolute link":            {[][]byte{layer(entry{name: "opt/oc", data: oc}), layer(entry{name: "usr/bin/oc", kind: '2', link: "/opt/oc"})}, ""},
		"link to nothing":          {[][]byte{layer(entry{name: "usr/bin/oc", kind: '2', link: "nothing"})}, "none of these tools"},
		"link out":                 {[][]byte{layer(entry{name: "usr/bin/oc", kind: '2', link: "../../../../etc/passwd"})}, "not a regular file"},
		"links in a circle":        {[][]byte{layer(entry{name: "usr/bin/oc", kind: '2', link: "x"}, entry{name: "usr/bin/x", kind: '2', link: "oc"})}, "too many links"},
		"folder":                   {[][]byte{layer(entry{name: "usr/bin/oc/"})}, "not a regular file"},
		"pipe":                     {[][]byte{layer(entry{name: "usr/bin/oc", kind: '6'})}, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newToolWorld(t, map[string][][]byte{"cli": c.layers})
			_, files, err := w.tools(t, nil)
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				require.Empty(t, files)
				return
			}
			require.NoError(t, err)
			require.Len(t, files, 3)
		})
	}
}

// Layers are fetched once, however many components have them, and not below
// the last program.
func TestToolsRequests(t *testing.T) {
	shared := tarOf(t, entry{name: "usr/base", data: "base"})
	layer := func(path string, seed uint64) []byte {
		return tarOf(t, entry{name: path, data: string(program(t, seed))})
	}
	w := newToolWorld(t, map[string][][]byte{
		"cli":           {shared, layer("usr/bin/oc", 1)},
		"cli-artifacts": {shared, layer("usr/share/openshift/mac/oc", 2), tarOf(t, entry{name: "usr/share/openshift/windows/oc.exe", data: "x"})},
		"installer":     {shared, layer("usr/bin/openshift-install", 3)},
	})
	run := func(opts *payload.ToolsOptions) map[v1.Hash]int {
		c := &countedLayers{memory: w.memory, layers: map[v1.Hash]int{}}
		_, err := w.release.Tools(t.Context(), c, t.TempDir(), opts)
		require.NoError(t, err)
		return c.layers
	}
	all := run(nil)
	require.Len(t, all, 5)
	for _, n := range all {
		require.Equal(t, 1, n)
	}
	require.Len(t, run(&payload.ToolsOptions{Commands: []string{"openshift-install"}, OS: []string{"linux/amd64"}}), 1, "not the base")
}

type countedLayers struct {
	*memory
	layers map[v1.Hash]int
}

func (c *countedLayers) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	img, err := c.memory.Image(ctx, ref)
	return layerCounter{ctx, img, c.layers}, err
}

// layerCounter is read under the context that it was made with, as images of a
// registry are.
type layerCounter struct {
	ctx context.Context
	v1.Image
	layers map[v1.Hash]int
}

func (l layerCounter) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	if err := l.ctx.Err(); err != nil {
		return nil, err
	}
	l.layers[h]++
	return l.Image.LayerByDigest(h)
}

// A forged layer leaves nothing, not even of tools that came before it.
func TestToolsForged(t *testing.T) {
	w := newToolWorld(t, map[string][][]byte{"cli": {tarOf(t, entry{name: "usr/bin/oc", data: string(program(t, 1))})}})
	ref, err := w.release.Image("cli")
	require.NoError(t, err)
	h := mustHash(t, ref.DigestStr())
	forged, err := makeImage(t, imageSpec{layers: [][]byte{tarOf(t, entry{name: "usr/bin/oc", data: string(program(t, 9))})}}).Layers()
	require.NoError(t, err)
	good := w.images[h]
	for _, bad := range []v1.Image{liar{Image: good, layer: forged[0]}, liar{Image: good, config: []byte("{}")}, liar{Image: good, manifest: []byte("{}")}, wrongDiffID(t, good)} {
		w.images[h] = bad
		_, files, err := w.tools(t, nil)
		require.ErrorIs(t, err, payload.ErrDigest)
		require.Empty(t, files)
	}
	// Digests are right, but the configuration, right too, says that something
	// else is in the layer.
	wrong := newWorld(t)
	wrong.components["cli"] = wrong.add(t, repo, wrongDiffID(t, good))
	_, r := wrong.must(t, wrong.spec(), nil)
	dir := t.TempDir()
	_, err = r.Tools(t.Context(), wrong, dir, nil)
	require.ErrorIs(t, err, payload.ErrDigest)
	require.ErrorContains(t, err, "diff ID")
	require.Empty(t, readDir(t, dir))

	folder, err := payload.OpenFolder(t.Context(), rootOf(t, extracted(t, w.release)))
	require.NoError(t, err)
	_, err = folder.Tools(t.Context(), w, t.TempDir(), nil)
	require.ErrorContains(t, err, "no pullspec")
}

func extracted(t *testing.T, r *payload.Release) string {
	t.Helper()
	dir := t.TempDir()
	_, err := r.Extract(t.Context(), dir, nil)
	require.NoError(t, err)
	return dir
}

// A signature that we make is the one that Go's linker makes, byte for byte.
func TestMachOSignature(t *testing.T) {
	interop.Peer(t, "go")
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\nvar room = \""+strings.ReplaceAll(versionMarker, "\x00", "\\x00")+strings.Repeat("X", 64)+"\\x00\"\n\nfunc main() { println(room) }\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module x\n"), 0o644))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", "prog", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=darwin", "GOARCH=arm64", "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	original, err := os.ReadFile(filepath.Join(dir, "prog"))
	require.NoError(t, err)
	signed, err := payload.SignMachO(original)
	require.NoError(t, err)
	require.True(t, bytes.Equal(original, signed), "nothing changed, and neither does the signature")

	// Through the whole extraction: the version is in it, and every page is
	// hashed again.
	w := newToolWorld(t, map[string][][]byte{"cli-artifacts": {tarOf(t, entry{name: "usr/share/openshift/mac_arm64/oc", data: string(original)})}})
	target := t.TempDir()
	set, err := w.release.Tools(t.Context(), w, target, nil)
	require.NoError(t, err)
	require.Empty(t, set.Tools[0].Warnings)
	files := unpack(t, filepath.Join(target, set.Tools[0].File))
	got := files[fmt.Sprintf("oc 755 %d", testTime.Unix())]
	require.Equal(t, "4.20.0-test.1", patched(got, string(original), versionMarker))
	checkMachO(t, []byte(got))
	require.NotEqual(t, original, []byte(got))
}

// checkMachO verifies the page hashes of a signature.
func checkMachO(t testing.TB, data []byte) {
	t.Helper()
	f, err := macho.NewFile(bytes.NewReader(data))
	require.NoError(t, err)
	offset, size := uint32(0), uint32(0)
	for _, l := range f.Loads {
		if raw := l.Raw(); binary.LittleEndian.Uint32(raw) == 0x1d {
			offset, size = binary.LittleEndian.Uint32(raw[8:]), binary.LittleEndian.Uint32(raw[12:])
		}
	}
	require.Equal(t, len(data), int(offset+size))
	edit := f.Segment("__LINKEDIT")
	require.Equal(t, uint64(len(data)), edit.Offset+edit.Filesz)
	require.GreaterOrEqual(t, edit.Memsz, edit.Filesz)
	sig := data[offset:]
	be := binary.BigEndian
	require.Equal(t, uint32(0xfade0cc0), be.Uint32(sig))
	dir := sig[be.Uint32(sig[16:]):]
	require.Equal(t, uint32(0xfade0c02), be.Uint32(dir))
	hashes, slots, limit := be.Uint32(dir[16:]), be.Uint32(dir[28:]), be.Uint32(dir[32:])
	require.Equal(t, offset, limit)
	for i := range slots {
		page := data[i*4096 : min((i+1)*4096, limit)]
		sum := sha256.Sum256(page)
		require.Equal(t, sum[:], dir[hashes+i*32:][:32])
	}
}

// machO makes the least that can be signed.
func machO(code int) []byte {
	le := binary.LittleEndian
	var b []byte
	for _, v := range []uint32{0xfeedfacf, 0x0100000c, 0, 2, 3, 72 + 72 + 16, 0, 0} {
		b = le.AppendUint32(b, v)
	}
	segment := func(name string, offset, size uint64) {
		b = le.AppendUint32(le.AppendUint32(b, 0x19), 72)
		b = append(b, append([]byte(name), make([]byte, 16-len(name))...)...)
		for _, v := range []uint64{offset, size, offset, size} {
			b = le.AppendUint64(b, v)
		}
		b = append(b, make([]byte, 16)...)
	}
	segment("__TEXT", 0, 4096)
	segment("__LINKEDIT", 4096, uint64(code-4096))
	for _, v := range []uint32{0x1d, 16, uint32(code), 0} {
		b = le.AppendUint32(b, v)
	}
	return append(b, bytes.Repeat([]byte{7}, code-len(b))...)
}

func TestMachO(t *testing.T) {
	for _, size := range []int{4096, 4097, 8192, 10000} {
		signed, err := payload.SignMachO(machO(size))
		require.NoError(t, err)
		checkMachO(t, signed)
		twice, err := payload.SignMachO(signed)
		require.NoError(t, err)
		require.Equal(t, signed, twice)
	}
	good := machO(8192)
	change := func(at int, value uint32) []byte {
		out := bytes.Clone(good)
		binary.LittleEndian.PutUint32(out[at:], value)
		return out
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":                 {nil, "not a Mach-O"},
		"another kind":          {[]byte(strings.Repeat("\x7fELF", 20)), "not a Mach-O"},
		"cut short":             {good[:100], "commands of 160 bytes"},
		"huge commands":         {change(20, 1<<30), "commands of"},
		"a command too many":    {change(16, 4), "is cut short"},
		"a command of no size":  {change(36, 0), "command 1 has 0 bytes"},
		"a command beyond all":  {change(36, 4096), "command 1 has 4096 bytes"},
		"an odd command":        {change(36, 73), "command 1 has 73 bytes"},
		"no signature":          {change(32+144, 0x2b), "no place for a signature"},
		"signature out of file": {change(32+144+8, 1<<31), "signature at"},
		"signature in commands": {change(32+144+8, 4096), "not in the segment"},
		"no segment of links":   {bytes.Replace(good, []byte("__LINKEDIT"), []byte("__OTHERTHI"), 1), "not in the segment"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := payload.SignMachO(c.data)
			if name == "signature in commands" {
				require.NoError(t, err) // it is where the segment begins, an empty one
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}

func FuzzMachO(f *testing.F) {
	f.Add(machO(4096))
	f.Add(machO(9000))
	f.Add([]byte("\xcf\xfa\xed\xfe"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<20 {
			return
		}
		signed, err := fuzzbound.Parse(t, 64, payload.SignMachO, data)
		if err == nil {
			again, err := payload.SignMachO(signed)
			require.NoError(t, err)
			require.True(t, bytes.Equal(signed, again))
		}
	})
}

func FuzzToolLayer(f *testing.F) {
	mutants.AddTars(f,
		tarOf(f, entry{name: "usr/bin/oc", data: "x"}, entry{name: "usr/.wh..wh..opq"}, entry{name: "usr/bin/.wh.x"}, entry{name: "usr/bin/l", kind: '2', link: "../../../x"}),
		tarOf(f, entry{name: "usr/bin/oc", kind: '1', link: "usr/bin/oc"}))
	f.Add(sparseLayers(f, "usr/bin/oc", 1<<30)["PAX"])
	f.Add([]byte("\x1f\x8b"))
	f.Add([]byte("\x28\xb5\x2f\xfd\x00\x70\x1b\x00\x00\x00\x00\x00")) // zstd with a window of 16 MiB
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 {
			return
		}
		w := newMemory()
		img := makeImage(t, imageSpec{plain: true, layers: [][]byte{data}})
		ref := w.add(t, repo, img)
		refs := strings.Replace(goodReferences, `"metadata"`, `"spec":{"tags":[{"name":"cli","from":{"kind":"DockerImage","name":"`+ref.Name()+`"}}]},"metadata"`, 1)
		release := makeImage(t, imageSpec{layers: [][]byte{tarOf(t, entry{name: "release-manifests/image-references", data: refs}, releaseEntries()[2])}})
		r, err := payload.Open(t.Context(), w, w.add(t, "registry.test/okd/release", release), nil)
		require.NoError(t, err)
		dir := t.TempDir()
		limit := 16<<20 + 64*len(data)
		if bytes.HasPrefix(data, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
			limit += 256 << 20 // of windows
		}
		fuzzbound.Within(t, limit, func() { _, err = r.Tools(t.Context(), w, dir, nil) })
		if err != nil {
			require.Empty(t, readDir(t, dir))
		}
	})
}

func BenchmarkTools(b *testing.B) {
	w := newWorld(b)
	noise := make([]byte, 16<<20)
	_, err := rand.Read(noise)
	require.NoError(b, err)
	w.put(b, "cli", imageSpec{plain: true, layers: [][]byte{tarOf(b, entry{name: "usr/bin/oc", data: string(noise), modTime: time.Unix(1, 0)})}})
	_, r := w.must(b, w.spec(), nil)
	b.SetBytes(int64(len(noise)))
	for b.Loop() {
		_, err := r.Tools(b.Context(), w, b.TempDir(), nil)
		require.NoError(b, err)
	}
}
