package bootimage_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
)

// TestCompressWorkers: memory decides how many work at once, however many processors
// there are.
func TestCompressWorkers(t *testing.T) {
	const gzip, zstd, xz = bootimage.CompressGzip, bootimage.CompressZstd, bootimage.CompressXZ
	for _, test := range []struct {
		o       bootimage.CompressOptions
		streams int
		workers int // of 64
		fitting int
	}{
		{bootimage.CompressOptions{Compressor: gzip}, 1, 32, 1},
		{bootimage.CompressOptions{Compressor: gzip}, 16, 27, 16},
		{bootimage.CompressOptions{Compressor: gzip, Level: 9}, 1, 32, 1},
		{bootimage.CompressOptions{Compressor: zstd, Level: 1}, 1, 5, 1},
		{bootimage.CompressOptions{Compressor: zstd}, 1, 3, 1},
		{bootimage.CompressOptions{Compressor: zstd}, 2, 3, 2},
		{bootimage.CompressOptions{Compressor: zstd}, 16, 1, 5},
		{bootimage.CompressOptions{Compressor: xz, Level: 1}, 1, 5, 1},
		{bootimage.CompressOptions{Compressor: xz}, 1, 2, 1},
		{bootimage.CompressOptions{Compressor: xz}, 16, 1, 5},
		{bootimage.CompressOptions{Compressor: xz, Level: 9}, 2, 1, 1},
		{bootimage.CompressOptions{Compressor: xz, Memory: 1 << 30}, 1, 10, 1},
		{bootimage.CompressOptions{Compressor: xz, Memory: 200 << 20}, 1, 2, 1},
		{bootimage.CompressOptions{Compressor: xz, Level: 9, Memory: 1 << 30}, 2, 2, 2},
		{bootimage.CompressOptions{Compressor: zstd, Memory: 1}, 4, 1, 1},
	} {
		test.o.Workers = 64
		workers, fitting, err := bootimage.CompressWorkers(test.o, test.streams)
		require.NoError(t, err)
		require.Equal(t, [2]int{test.workers, test.fitting}, [2]int{workers, fitting}, "%+v, %d streams", test.o, test.streams)
	}
}

const memoryVariable = "OKD_STREAMS_TEST_MEMORY"

// memoryCases are what must stay below 200 MiB whatever the number of processors: what people
// do who do not say how much memory there is. Each has files from another process.
var memoryCases = map[string]struct {
	files func(t *testing.T, dir string)
	do    func(t *testing.T, dir string)
}{
	// Noise makes what is compressed as large as it can be.
	"gzip": {noFiles, func(t *testing.T, _ string) { compressNoise(t, bootimage.CompressGzip) }},
	"zstd": {noFiles, func(t *testing.T, _ string) { compressNoise(t, bootimage.CompressZstd) }},
	"xz": {noFiles, func(t *testing.T, _ string) {
		_, err := bootimage.Compress(t.Context(), io.Discard, &zeros{80 << 20}, &bootimage.CompressOptions{Compressor: bootimage.CompressXZ})
		require.NoError(t, err)
	}},
	"from zstd": packedCase(bootimage.CompressOptions{Compressor: bootimage.CompressZstd}),
	"from xz":   packedCase(bootimage.CompressOptions{Compressor: bootimage.CompressXZ}),
	"from xz 9": packedCase(bootimage.CompressOptions{Compressor: bootimage.CompressXZ, Level: 9}),
	// One format after the other, and several artifacts at once.
	"compress a build":   {plainBuild, func(t *testing.T, dir string) { compressPlainBuild(t, dir) }},
	"uncompress a build": {func(t *testing.T, dir string) { plainBuild(t, dir); compressPlainBuild(t, dir) }, uncompressPlainBuild},
}

func noFiles(*testing.T, string) {}

func compressNoise(t *testing.T, c bootimage.Compressor) {
	piece := noise(4 << 20)
	var pieces []io.Reader
	for range 40 {
		pieces = append(pieces, bytes.NewReader(piece))
	}
	_, err := bootimage.Compress(t.Context(), io.Discard, io.MultiReader(pieces...), &bootimage.CompressOptions{Compressor: c})
	require.NoError(t, err)
}

func packedCase(o bootimage.CompressOptions) struct {
	files, do func(t *testing.T, dir string)
} {
	return struct {
		files, do func(t *testing.T, dir string)
	}{
		func(t *testing.T, dir string) {
			file, err := os.Create(filepath.Join(dir, "file"))
			require.NoError(t, err)
			defer file.Close()
			o.Memory = 1 << 30
			_, err = bootimage.Compress(t.Context(), file, &zeros{128 << 20}, &o)
			require.NoError(t, err)
		},
		func(t *testing.T, dir string) {
			file, err := os.Open(filepath.Join(dir, "file"))
			require.NoError(t, err)
			defer file.Close()
			_, err = bootimage.Uncompress(t.Context(), io.Discard, file, bootimage.Measurement{})
			require.NoError(t, err)
		},
	}
}

var plainBuildFormats = map[string]bootimage.Compressor{
	"metal": bootimage.CompressZstd, "aws": bootimage.CompressZstd, "azure": bootimage.CompressXZ, "hetzner": bootimage.CompressXZ,
}

// plainBuild makes a build of artifacts that are zeros.
func plainBuild(t *testing.T, dir string) {
	const size = 50 << 20
	const id = "9.0.20261125-0"
	meta := bootimage.Meta{
		BuildID: id, Name: "scos", OSTreeCommit: hash("commit"), OSTreeTimestamp: sampleTime, OSTreeVersion: id, Arch: "x86_64",
		MetaStamp: "1", Images: map[string]bootimage.Image{},
	}
	sum := sum256(make([]byte, size))
	for _, artifact := range append([]string{"qemu", "gcp"}, slices.Sorted(maps.Keys(plainBuildFormats))...) {
		path := bootimage.ArtifactPath("scos", id, artifact, "x86_64", "raw")
		require.NoError(t, os.WriteFile(filepath.Join(dir, path), nil, 0o644))
		require.NoError(t, os.Truncate(filepath.Join(dir, path), size))
		meta.Images[artifact] = bootimage.Image{Path: path, SHA256: sum, Size: size}
	}
	d, err := bootimage.NewDocument(meta)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, bootimage.MetaFile), d.Bytes(), 0o644))
}

func compressPlainBuild(t *testing.T, dir string) {
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	done, err := bootimage.CompressBuild(t.Context(), root, &bootimage.CompressBuildOptions{Compressors: plainBuildFormats, Parallel: 4})
	require.NoError(t, err)
	require.Len(t, done, 6)
}

func uncompressPlainBuild(t *testing.T, dir string) {
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	done, err := bootimage.UncompressBuild(t.Context(), root, nil)
	require.NoError(t, err)
	require.Len(t, done, 6)
}

// TestMemory runs each case in processes of its own, as on a machine with 64 processors, and
// without the race detector, which has memory of its own.
func TestMemory(t *testing.T) {
	child := filepath.Join(t.TempDir(), "child")
	out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", child, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	run := func(t *testing.T, what, name, dir string) string {
		cmd := exec.CommandContext(t.Context(), child, "-test.run=^TestMemoryChild$", "-test.v")
		cmd.Env = append(os.Environ(), memoryVariable+"="+what+"="+name+"="+dir, "GOMAXPROCS=64", "GOGC=100", "GOMEMLIMIT=off")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	for name := range memoryCases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			run(t, "files", name, dir)
			out := run(t, "do", name, dir)
			_, text, _ := strings.Cut(out, "peak ")
			var mib int
			_, err = fmt.Sscan(text, &mib)
			require.NoError(t, err, "%s", out)
			t.Logf("%d MiB", mib)
			require.Less(t, mib, 200)
		})
	}
}

// TestMemoryChild is a process of its own.
func TestMemoryChild(t *testing.T) {
	args := strings.SplitN(os.Getenv(memoryVariable), "=", 3)
	if len(args) < 3 {
		t.Skip("started by other tests")
	}
	c := memoryCases[args[1]]
	if args[0] == "files" {
		c.files(t, args[2])
		return
	}
	c.do(t, args[2])
	t.Logf("peak %d MiB", peak(t))
}

// peak is the most memory this process had, in MiB.
func peak(t *testing.T) int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil { // not Linux: what was asked for, which is somewhat more
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.Sys >> 20)
	}
	_, text, _ := strings.Cut(string(status), "VmHWM:")
	var kib int
	_, err = fmt.Sscan(text, &kib)
	require.NoError(t, err)
	return kib >> 10
}
