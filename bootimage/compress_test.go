package bootimage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
)

var compressors = map[bootimage.Compressor]string{bootimage.CompressGzip: "gz", bootimage.CompressZstd: "zst", bootimage.CompressXZ: "xz"}

// diskContent is what compresses in part.
func diskContent(n int) []byte {
	out := make([]byte, n)
	for i := 0; i < n; i += 1 << 12 {
		if i>>12%3 != 0 {
			sum := sha256.Sum256([]byte(fmt.Sprint(i)))
			copy(out[i:], bytes.Repeat(sum[:], 20))
		}
	}
	return out
}

func compressed(t testing.TB, content []byte, o *bootimage.CompressOptions) ([]byte, bootimage.Measurement) {
	t.Helper()
	var b bytes.Buffer
	m, err := bootimage.Compress(t.Context(), &b, bytes.NewReader(content), o)
	require.NoError(t, err)
	return b.Bytes(), m
}

func TestCompress(t *testing.T) {
	for compressor, extension := range compressors {
		for _, size := range []int{0, 1, 3<<20 + 17} {
			t.Run(fmt.Sprintf("%s/%d", compressor, size), func(t *testing.T) {
				content := diskContent(size)
				data, m := compressed(t, content, &bootimage.CompressOptions{Compressor: compressor})
				require.Equal(t, bootimage.Measurement{
					Size: int64(len(data)), SHA256: hash(string(data)), Compression: extension,
					UncompressedSize: int64(size), UncompressedSHA256: hash(string(content)),
				}, m)
				measured, err := bootimage.Measure(t.Context(), bytes.NewReader(data), nil)
				require.NoError(t, err)
				require.Equal(t, m, measured)

				one, _ := compressed(t, content, &bootimage.CompressOptions{Compressor: compressor, Workers: 1, Memory: 1})
				require.True(t, bytes.Equal(data, one), "the number of workers changes bytes")

				var b bytes.Buffer
				got, err := bootimage.Uncompress(t.Context(), &b, iotest.HalfReader(bytes.NewReader(data)), m)
				require.NoError(t, err)
				require.Equal(t, m, got)
				require.True(t, bytes.Equal(content, b.Bytes()))
			})
		}
	}
	// Levels matter.
	var content []byte
	for i := range 20_000 {
		content = fmt.Appendf(content, "%x %d, ", i*i%1009, i)
	}
	fast, _ := compressed(t, content, &bootimage.CompressOptions{Level: 1})
	best, _ := compressed(t, content, &bootimage.CompressOptions{Level: 9})
	require.Less(t, len(best), len(fast))
}

func TestCompressFails(t *testing.T) {
	for _, o := range []bootimage.CompressOptions{{Compressor: "zip"}, {Level: 10}, {Level: -1}, {Compressor: bootimage.CompressZstd, Level: 23}} {
		_, err := bootimage.Compress(t.Context(), io.Discard, strings.NewReader("x"), &o)
		require.ErrorIs(t, err, errors.ErrUnsupported, "%+v", o)
	}
	_, err := bootimage.Compress(t.Context(), io.Discard, iotest.ErrReader(io.ErrNoProgress), nil)
	require.ErrorIs(t, err, io.ErrNoProgress)
	_, err = bootimage.Compress(t.Context(), fullDisk{}, bytes.NewReader(diskContent(5<<20)), nil)
	require.ErrorIs(t, err, errFullDisk)
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err = bootimage.Compress(ctx, io.Discard, cancelling{func() { cancel(io.ErrClosedPipe) }}, nil)
	require.ErrorIs(t, err, io.ErrClosedPipe)
}

var errFullDisk = errors.New("no space left on device")

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFullDisk }

// cancelling never ends, and cancels as it is read.
type cancelling struct{ cancel func() }

func (c cancelling) Read(p []byte) (int, error) { c.cancel(); return len(p), nil }

func TestUncompressVerifies(t *testing.T) {
	content := diskContent(1 << 20)
	for compressor := range compressors {
		data, m := compressed(t, content, &bootimage.CompressOptions{Compressor: compressor})
		for name, test := range map[string]struct {
			data []byte
			want func(*bootimage.Measurement)
			text string
		}{
			"other file":           {data, func(m *bootimage.Measurement) { m.SHA256 = hash("other") }, "SHA-256 of the file is"},
			"other size":           {data, func(m *bootimage.Measurement) { m.Size++ }, "the file has"},
			"other content":        {data, func(m *bootimage.Measurement) { m.UncompressedSHA256 = hash("other") }, "SHA-256 of the content is"},
			"less content":         {data, func(m *bootimage.Measurement) { m.UncompressedSize++ }, "the content has 1048576 bytes, want 1048577"},
			"a bomb":               {data, func(m *bootimage.Measurement) { m.UncompressedSize -= 7 }, "content of more than 1048569 bytes"},
			"cut":                  {data[:len(data)-20], nil, "damaged"},
			"damaged in the midst": {append(bytes.Clone(data[:len(data)/2]), bytes.Repeat([]byte{0xaa}, len(data)/2)...), nil, ""},
			"something after it":   {append(bytes.Clone(data), "more"...), nil, ""},
		} {
			t.Run(string(compressor)+"/"+name, func(t *testing.T) {
				want := m
				if test.want != nil {
					test.want(&want)
				}
				got, err := bootimage.Uncompress(t.Context(), io.Discard, bytes.NewReader(test.data), want)
				require.ErrorIs(t, err, bootimage.ErrVerification)
				require.ErrorContains(t, err, test.text)
				require.Zero(t, got)
			})
		}
		// Nothing is known: what is whole is good.
		_, err := bootimage.Uncompress(t.Context(), io.Discard, bytes.NewReader(data), bootimage.Measurement{})
		require.NoError(t, err)
		_, err = bootimage.Uncompress(t.Context(), fullDisk{}, bytes.NewReader(data), m)
		require.ErrorIs(t, err, errFullDisk)
		require.NotErrorIs(t, err, bootimage.ErrVerification)
		// An error of the source is no damage.
		_, err = bootimage.Uncompress(t.Context(), io.Discard, io.MultiReader(bytes.NewReader(data[:len(data)/2]), iotest.ErrReader(io.ErrNoProgress)), m)
		require.ErrorIs(t, err, io.ErrNoProgress)
		require.NotErrorIs(t, err, bootimage.ErrVerification)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = bootimage.Uncompress(ctx, io.Discard, bytes.NewReader(data), m)
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, bootimage.ErrVerification)
	}
	_, err := bootimage.Uncompress(t.Context(), io.Discard, strings.NewReader("plain text"), bootimage.Measurement{})
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// buildFolder makes a build of plain artifacts, some of which are to stay so.
func buildFolder(t testing.TB, contents map[string][]byte) (dir string, root *os.Root, meta bootimage.Meta) {
	t.Helper()
	const id = "9.0.20261125-0"
	meta = bootimage.Meta{
		BuildID: id, Name: "scos", OSTreeCommit: hash("commit"), OSTreeTimestamp: sampleTime, OSTreeVersion: id, Arch: "x86_64",
		MetaStamp: "1", Images: map[string]bootimage.Image{},
	}
	dir = t.TempDir()
	for artifact, content := range contents {
		path := bootimage.ArtifactPath("scos", id, artifact, "x86_64", "raw")
		require.NoError(t, os.WriteFile(filepath.Join(dir, path), content, 0o444))
		meta.Images[artifact] = bootimage.Image{Path: path, SHA256: hash(string(content)), Size: int64(len(content)), SkipCompression: artifact == "live-iso" || artifact == "ostree"}
	}
	d, err := bootimage.NewDocument(meta)
	require.NoError(t, err)
	require.NoError(t, d.Override([]byte(`{"a-key-of-others": [1.50]}`)))
	require.NoError(t, os.WriteFile(filepath.Join(dir, bootimage.MetaFile), d.Bytes(), 0o644))
	root, err = os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, root.Close()) })
	return dir, root, meta
}

// folderOf maps the names in a folder to their content.
func folderOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		files[e.Name()] = string(data)
	}
	delete(files, ".meta.json.lock") // stays, as of coreos-assembler
	return files
}

func readMeta(t testing.TB, dir string) *bootimage.Document[bootimage.Meta] {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, bootimage.MetaFile))
	require.NoError(t, err)
	d, err := bootimage.DecodeMeta(bytes.NewReader(data))
	require.NoError(t, err)
	return d
}

var sampleArtifacts = map[string][]byte{
	"qemu": diskContent(1<<20 + 1), "metal": diskContent(1 << 20), "openstack": diskContent(5), "hetzner": diskContent(3 << 20),
	"live-iso": []byte("an ISO"), "ostree": []byte("an archive"),
}

func TestCompressBuild(t *testing.T) {
	dir, root, meta := buildFolder(t, sampleArtifacts)
	before := folderOf(t, dir)
	var shown atomic.Int64
	now := time.Date(2026, 11, 26, 1, 2, 3, 4, time.UTC)
	opts := &bootimage.CompressBuildOptions{
		Compressors: map[string]bootimage.Compressor{"metal": bootimage.CompressZstd, "qemu": bootimage.CompressGzip}, Parallel: 3, Now: now,
		Progress: func(artifact string, done, total int64) {
			if done > total || total != meta.Images[artifact].Size {
				t.Errorf("%s: %d of %d", artifact, done, total)
			}
			shown.Add(1)
		},
	}
	done, err := bootimage.CompressBuild(t.Context(), root, opts)
	require.NoError(t, err)
	require.NotZero(t, shown.Load())
	require.Len(t, done, 4)
	after := folderOf(t, dir)
	require.Len(t, after, 7)
	d := readMeta(t, dir)
	require.Contains(t, string(d.Bytes()), "1.50", "what others wrote stays")
	require.Equal(t, fmt.Sprint(now.UnixNano()), d.Value().MetaStamp.String())
	for _, r := range done {
		require.Equal(t, meta.Images[r.Artifact], r.Old)
		require.Equal(t, d.Value().Images[r.Artifact], r.New)
		extension := ".gz"
		if r.Artifact == "metal" {
			extension = ".zst"
		}
		require.Equal(t, bootimage.Image{
			Path: r.Old.Path + extension, SHA256: hash(after[r.New.Path]), Size: int64(len(after[r.New.Path])),
			UncompressedSHA256: r.Old.SHA256, UncompressedSize: r.Old.Size,
		}, r.New)
		info, err := os.Stat(filepath.Join(dir, r.New.Path))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o444), info.Mode(), "as the file was")
	}
	for _, artifact := range []string{"live-iso", "ostree"} {
		require.Equal(t, meta.Images[artifact], d.Value().Images[artifact])
		require.Contains(t, after, meta.Images[artifact].Path)
	}

	// Again there is nothing to do, but to remove what a stopped run left.
	left := meta.Images["qemu"].Path
	require.NoError(t, os.WriteFile(filepath.Join(dir, left), sampleArtifacts["qemu"], 0o444))
	again, err := bootimage.CompressBuild(t.Context(), root, opts)
	require.NoError(t, err)
	require.Empty(t, again)
	require.Equal(t, after, folderOf(t, dir))

	// And back.
	back, err := bootimage.UncompressBuild(t.Context(), root, &bootimage.CompressBuildOptions{Artifacts: []string{"metal", "qemu"}})
	require.NoError(t, err)
	require.Len(t, back, 2)
	require.Equal(t, "metal", back[0].Artifact)
	require.Equal(t, meta.Images["metal"], back[0].New)
	_, err = bootimage.UncompressBuild(t.Context(), root, nil)
	require.NoError(t, err)
	require.Equal(t, meta.Images, readMeta(t, dir).Value().Images)
	files := folderOf(t, dir)
	delete(before, bootimage.MetaFile)
	delete(files, bootimage.MetaFile)
	require.Equal(t, before, files)
}

func TestCompressBuildKeeps(t *testing.T) {
	dir, root, meta := buildFolder(t, map[string][]byte{"qemu": []byte("content"), "metal": []byte("more")})
	_, err := bootimage.CompressBuild(t.Context(), root, &bootimage.CompressBuildOptions{Keep: true, Artifacts: []string{"qemu"}})
	require.NoError(t, err)
	d := readMeta(t, dir)
	require.Equal(t, "1", d.Value().MetaStamp.String())
	require.Equal(t, meta.Images["metal"], d.Value().Images["metal"])
	require.Len(t, folderOf(t, dir), 4)
	require.Equal(t, "content", folderOf(t, dir)[meta.Images["qemu"].Path])
}

// TestRepackBuildFails: the artifact and the record stay as they were, and there
// is nothing else.
func TestRepackBuildFails(t *testing.T) {
	content := diskContent(2 << 20)
	packed, m := compressed(t, content, nil)
	for name, test := range map[string]struct {
		packed bool // the artifact is, and is to be uncompressed
		edit   func(*bootimage.Image)
		damage func(t *testing.T, dir, file string)
		want   error
		text   string
	}{
		"other bytes": {false, func(i *bootimage.Image) { i.SHA256 = hash("other") }, nil, bootimage.ErrVerification, "artifact qemu: SHA-256 of the file"},
		"other size":  {false, func(i *bootimage.Image) { i.Size = 5 }, nil, bootimage.ErrVerification, "has 2097152 bytes, want 5"},
		"no file":     {false, nil, func(t *testing.T, dir, file string) { require.NoError(t, os.Remove(file)) }, fs.ErrNotExist, ""},
		"a link": {false, nil, func(t *testing.T, dir, file string) {
			require.NoError(t, os.Remove(file))
			require.NoError(t, os.Symlink("/etc/passwd", file))
		}, fs.ErrInvalid, "no regular file"},
		"no record":          {false, nil, func(t *testing.T, dir, file string) { require.NoError(t, os.Remove(filepath.Join(dir, "meta.json"))) }, fs.ErrNotExist, "meta.json"},
		"other content":      {true, func(i *bootimage.Image) { i.UncompressedSHA256 = hash("other") }, nil, bootimage.ErrVerification, "artifact qemu: SHA-256 of the content"},
		"other packed bytes": {true, func(i *bootimage.Image) { i.SHA256 = hash("other") }, nil, bootimage.ErrVerification, "SHA-256 of the file"},
		"less content":       {true, func(i *bootimage.Image) { i.UncompressedSize++ }, nil, bootimage.ErrVerification, "want 2097153"},
		"more content":       {true, func(i *bootimage.Image) { i.UncompressedSize = 1 << 20 }, nil, bootimage.ErrVerification, "more than 1048576 bytes"},
		"damage": {true, nil, func(t *testing.T, dir, file string) {
			require.NoError(t, os.WriteFile(file, packed[:len(packed)/2], 0o644))
		}, bootimage.ErrVerification, "damaged"},
		"not compressed":       {true, nil, func(t *testing.T, dir, file string) { require.NoError(t, os.WriteFile(file, content, 0o644)) }, errors.ErrUnsupported, "neither gzip"},
		"name without the end": {true, func(i *bootimage.Image) { i.Path = strings.TrimSuffix(i.Path, ".gz") }, func(t *testing.T, dir, file string) { require.NoError(t, os.Rename(file+".gz", file)) }, errors.ErrUnsupported, "ends with neither"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, root, meta := buildFolder(t, map[string][]byte{"qemu": content})
			image := meta.Images["qemu"]
			if test.packed {
				require.NoError(t, os.Remove(filepath.Join(dir, image.Path)))
				image = m.Image(image.Path + ".gz")
				require.NoError(t, os.WriteFile(filepath.Join(dir, image.Path), packed, 0o644))
			}
			if test.edit != nil {
				test.edit(&image)
			}
			d := readMeta(t, dir)
			require.NoError(t, d.Edit(func(m *bootimage.Meta) error { m.Images["qemu"] = image; return nil }))
			require.NoError(t, os.WriteFile(filepath.Join(dir, bootimage.MetaFile), d.Bytes(), 0o644))
			if test.damage != nil {
				test.damage(t, dir, filepath.Join(dir, image.Path))
			}
			before, err := os.ReadDir(dir)
			require.NoError(t, err)
			if test.packed {
				_, err = bootimage.UncompressBuild(t.Context(), root, nil)
			} else {
				_, err = bootimage.CompressBuild(t.Context(), root, nil)
			}
			require.ErrorIs(t, err, test.want)
			require.ErrorContains(t, err, test.text)
			after, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(before), fmt.Sprint(after))
			if name != "no record" {
				require.Equal(t, d.Bytes(), readMeta(t, dir).Bytes())
			}
		})
	}
}

func TestCompressBuildArguments(t *testing.T) {
	_, root, _ := buildFolder(t, map[string][]byte{"qemu": []byte("content")})
	_, err := bootimage.CompressBuild(t.Context(), root, &bootimage.CompressBuildOptions{Artifacts: []string{"aws"}})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, `artifact "aws"`)
	_, err = bootimage.CompressBuild(t.Context(), root, &bootimage.CompressBuildOptions{Compressors: map[string]bootimage.Compressor{"qemu": "zip"}})
	require.ErrorIs(t, err, errors.ErrUnsupported)

	// The name is taken by another artifact.
	dir, root, meta := buildFolder(t, map[string][]byte{"qemu": []byte("content"), "metal": []byte("more")})
	d := readMeta(t, dir)
	taken := meta.Images["qemu"].Path + ".gz"
	require.NoError(t, os.Rename(filepath.Join(dir, meta.Images["metal"].Path), filepath.Join(dir, taken)))
	require.NoError(t, d.Edit(func(m *bootimage.Meta) error {
		image := m.Images["metal"]
		image.Path, image.SkipCompression = taken, true
		m.Images["metal"] = image
		return nil
	}))
	require.NoError(t, os.WriteFile(filepath.Join(dir, bootimage.MetaFile), d.Bytes(), 0o644))
	_, err = bootimage.CompressBuild(t.Context(), root, nil)
	require.ErrorIs(t, err, fs.ErrExist)
	require.Equal(t, "more", folderOf(t, dir)[taken])
}

// TestCompressBuildCancelled stops within an artifact, and the next run does the
// rest.
func TestCompressBuildCancelled(t *testing.T) {
	dir, root, _ := buildFolder(t, sampleArtifacts)
	before := folderOf(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := bootimage.CompressBuild(ctx, root, &bootimage.CompressBuildOptions{
		Progress: func(artifact string, done, total int64) {
			if artifact == "hetzner" && done > 1<<20 {
				cancel()
			}
		},
		Artifacts: []string{"hetzner"},
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, before, folderOf(t, dir))
	done, err := bootimage.CompressBuild(t.Context(), root, nil)
	require.NoError(t, err)
	require.Len(t, done, 4)
}

// TestCompressedByTools has the programs that people use read what we write, and
// us what they write.
func TestCompressedByTools(t *testing.T) {
	interop.Peer(t, "gzip", "pigz", "zstd", "xz")
	content := diskContent(20<<20 + 5)
	run := func(in []byte, args ...string) []byte {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Stdin = bytes.NewReader(in)
		out, err := cmd.Output()
		require.NoError(t, err, "%s", args)
		return out
	}
	for _, tool := range []struct {
		compressor bootimage.Compressor
		name       string
		args       []string
	}{
		{bootimage.CompressGzip, "gzip", nil}, {bootimage.CompressGzip, "pigz", []string{"-p2"}}, {bootimage.CompressZstd, "zstd", []string{"-T2", "-10"}}, {bootimage.CompressXZ, "xz", []string{"-T2", "-1"}},
	} {
		data, m := compressed(t, content, &bootimage.CompressOptions{Compressor: tool.compressor})
		got := run(data, tool.name, "-dc")
		require.Equal(t, m.UncompressedSHA256, hash(string(got)), tool.name)
		run(data, tool.name, "-t")
		data = run(content, append([]string{tool.name, "-c"}, tool.args...)...)
		sum := sha256.Sum256(content)
		_, err := bootimage.Uncompress(t.Context(), io.Discard, bytes.NewReader(data), bootimage.Measurement{UncompressedSize: int64(len(content)), UncompressedSHA256: hex.EncodeToString(sum[:])})
		require.NoError(t, err, tool.name)
	}
}

// unpackBound is what unpacking a file to at most 1 MiB may allocate: buffers, the
// window, and for each block of xz a decoder.
func unpackBound(data []byte) int { return 16<<20 + 4096*len(data) + windowBound(data) }

// windowBound is what a file's decoder may allocate for its window.
func windowBound(data []byte) int {
	if bytes.HasPrefix(data, []byte("\xfd7zXZ")) {
		return 64 << 20
	}
	if n := fuzzbound.ZstdWindows(data, decompress.MaxZstdWindow); n > 0 {
		return 16<<20 + n
	}
	return 0
}

func FuzzUncompress(f *testing.F) {
	for compressor := range compressors {
		data, _ := compressed(f, []byte("content content content"), &bootimage.CompressOptions{Compressor: compressor})
		f.Add(data, int64(23))
	}
	f.Add([]byte("\x28\xb5\x2f\xfd\x00\x80\x01\x00\x00\x28\xb5\x2f\xfd\x00\x88\x01\x00\x00"), int64(1)) // windows that grow
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		var b bytes.Buffer
		size = max(size, 1) % (1 << 20)
		var m bootimage.Measurement
		var err error
		fuzzbound.Within(t, unpackBound(data), func() {
			m, err = bootimage.Uncompress(t.Context(), &b, bytes.NewReader(data), bootimage.Measurement{UncompressedSize: size})
		})
		if err != nil {
			require.Zero(t, m)
		} else if size > 0 {
			require.Equal(t, size, m.UncompressedSize)
		}
		if size > 0 {
			require.LessOrEqual(t, int64(b.Len()), size)
		}
	})
}

func BenchmarkCompress(b *testing.B) {
	content := diskContent(32 << 20)
	for compressor := range compressors {
		b.Run(string(compressor), func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				_, err := bootimage.Compress(b.Context(), io.Discard, bytes.NewReader(content), &bootimage.CompressOptions{Compressor: compressor})
				require.NoError(b, err)
			}
		})
	}
}
