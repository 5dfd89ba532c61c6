package ostreetar_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/ostreetar"
)

// checksum is an object name that tests use.
var checksum = strings.Repeat("0123456789abcdef", 4)

const objects = "sysroot/ostree/repo/objects/"

func objectPath(suffix string) string { return objects + checksum[:2] + "/" + checksum[2:] + suffix }

// entry is one header of a stream with its data, L, K and x not merged.
type entry struct {
	header []byte
	kind   byte
	data   []byte
}

func (e entry) name() string { return field(e.header[:100]) }
func (e entry) link() string { return field(e.header[157:257]) }
func (e entry) number(from, to int) uint32 {
	return uint32(number(e.header[from:to]))
}

func field(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func number(b []byte) uint64 {
	if b[0]&0x80 != 0 {
		v := uint64(b[0] & 0x7f)
		for _, c := range b[1:] {
			v = v<<8 | uint64(c)
		}
		return v
	}
	v, _ := strconv.ParseUint(strings.Trim(string(b), "\x00 "), 8, 64)
	return v
}

func split(t *testing.T, stream []byte) []entry {
	t.Helper()
	var out []entry
	for {
		require.GreaterOrEqual(t, len(stream), 512)
		h := stream[:512]
		if bytes.Equal(h, make([]byte, 512)) {
			require.Equal(t, make([]byte, 1024), stream, "two zero blocks end the archive")
			return out
		}
		size := int(number(h[124:136]))
		padded := (size + 511) / 512 * 512
		require.GreaterOrEqual(t, len(stream), 512+padded)
		out = append(out, entry{h, h[156], stream[512 : 512+size]})
		stream = stream[512+padded:]
	}
}

// write gives the bytes that fn writes, closed.
func write(t *testing.T, fn func(w *ostreetar.Writer)) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := ostreetar.NewWriter(&buf)
	fn(w)
	require.NoError(t, w.Close())
	return buf.Bytes()
}

func TestRepository(t *testing.T) {
	got := split(t, write(t, func(w *ostreetar.Writer) { require.NoError(t, w.Repository()) }))
	require.Len(t, got, 4+256+8+1)
	require.Equal(t, "sysroot", got[0].name())
	require.Equal(t, objects+"ff", got[4+255].name())
	last := got[len(got)-1]
	require.Equal(t, "sysroot/ostree/repo/config", last.name())
	require.Equal(t, "[core]\nrepo_version=1\nmode=bare-split-xattrs\n", string(last.data))
	for _, e := range got {
		require.EqualValues(t, 0, e.number(136, 148), "mtime")
		require.Equal(t, "ustar  \x00", string(e.header[257:265]))
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("d/", 60) + "f" // 121 bytes
	for _, tc := range []struct {
		name, path string
		wantField  string // up to the first NUL
		wantL      string // "": no L entry
	}{
		{"plain", "usr/bin/true", "usr/bin/true", ""},
		{"root", "./", "./", ""},
		{"dot is dropped", "./usr/bin", "usr/bin", ""},
		{"inner dot and slashes", "usr/./lib//x", "usr/lib/x", ""},
		{"100 bytes fit", strings.Repeat("n", 100), strings.Repeat("n", 100), ""},
		{"101 bytes", strings.Repeat("n", 101), strings.Repeat("n", 100), strings.Repeat("n", 101)},
		{"dot shows in L", "./" + long, long[:98], "./" + long},
		{"100 bytes after the dot", "./" + strings.Repeat("n", 100), strings.Repeat("n", 100), ""},
		{"cut to whole runes", strings.Repeat("n", 99) + "ü", strings.Repeat("n", 99), strings.Repeat("n", 99) + "ü"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := split(t, write(t, func(w *ostreetar.Writer) {
				require.NoError(t, w.Directory(tc.path, 1, 2, 0o41755))
			}))
			if tc.wantL != "" {
				require.Equal(t, byte('L'), got[0].kind)
				require.Equal(t, "././@LongLink", got[0].name())
				require.Equal(t, tc.wantL+"\x00", string(got[0].data))
				got = got[1:]
			}
			require.Len(t, got, 1)
			require.Equal(t, byte('5'), got[0].kind)
			require.Equal(t, tc.wantField, got[0].name())
			require.Equal(t, "0001755\x000000001\x000000002\x0000000000000\x0000000000000\x00", string(got[0].header[100:148]))
		})
	}
}

func TestLinksAreCopiesOfTheirObject(t *testing.T) {
	path := objectPath(".file")
	stream := write(t, func(w *ostreetar.Writer) {
		require.NoError(t, w.Object(&ostreetar.Object{
			Checksum: checksum, UID: 3, GID: 4, Mode: 0o104755, Size: 5,
		}, strings.NewReader("hello")))
		require.NoError(t, w.Path("usr/bin/x"))
		require.NoError(t, w.Path("y"))
	})
	got := split(t, stream)
	require.Len(t, got, 5) // L and file-xattrs-link, object, two links
	object, x, y := got[2], got[3], got[4]
	require.Equal(t, "hello", string(object.data))
	require.Equal(t, path, object.name())
	require.Len(t, path, 98)

	// The rest of the object's path is left after the NUL, from the object's
	// header each time, not from the link before.
	require.Equal(t, "usr/bin/x\x00"+path[10:]+"\x00\x00", string(x.header[:100]))
	require.Equal(t, "y\x00"+path[2:]+"\x00\x00", string(y.header[:100]))
	for _, e := range []entry{x, y} {
		require.Equal(t, byte('1'), e.kind)
		require.Equal(t, path, e.link())
		require.Empty(t, e.data)
		require.Equal(t, object.header[100:124], e.header[100:124], "mode and owner")
	}

	// Readers see what is meant.
	tr := tar.NewReader(bytes.NewReader(stream))
	var names []string
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		names = append(names, h.Name)
	}
	require.Equal(t, []string{path + "-xattrs-link", path, "usr/bin/x", "y"}, names)
}

// In v1a attributes are in the layer once, and objects link to them; there are no
// PAX headers.
func TestSharedXattrs(t *testing.T) {
	var buf bytes.Buffer
	w := ostreetar.NewWriterV1a(&buf)
	raw := []byte("as serialised")
	attrs := []ostreetar.Xattr{{Name: "user.x", Value: []byte("1")}}
	for i, data := range [][]byte{raw, nil, raw} {
		require.NoError(t, w.Object(&ostreetar.Object{
			Checksum: strings.Repeat(strconv.Itoa(i), 64), Mode: 0o644, Size: 1, Xattrs: attrs, RawXattrs: data,
		}, strings.NewReader("x")))
		require.NoError(t, w.Path("usr/"+strconv.Itoa(i)))
	}
	require.NoError(t, w.Close())
	sums := []string{}
	for _, data := range [][]byte{raw, nil} {
		sum := sha256.Sum256(data)
		text := hex.EncodeToString(sum[:])
		sums = append(sums, objects+text[:2]+"/"+text[2:]+".file-xattrs")
	}
	link := func(i int) string {
		n := strconv.Itoa(i)
		return objects + n + n + "/" + strings.Repeat(n, 62) + ".file-xattrs-link"
	}
	var kinds string
	var names []string
	for _, e := range split(t, buf.Bytes()) {
		kinds += string(e.kind)
		if e.kind == 'L' || e.kind == 'K' {
			names = append(names, strings.TrimSuffix(string(e.data), "\x00"))
		}
		if e.kind == '1' && strings.HasSuffix(e.link(), "/") {
			require.Equal(t, names[len(names)-1][:len(objects)+3], e.link(), "the components that fitted")
			require.Equal(t, make([]byte, 512-329), e.header[329:])
		}
	}
	require.Equal(t, "L0"+"LK1"+"01"+"L0"+"LK1"+"01"+"LK1"+"01", kinds)
	require.Equal(t, []string{sums[0], link(0), sums[0], sums[1], link(1), sums[1], link(2), sums[0]}, names)
}

// Without a repository, the first path of an object has its content, and others
// are links to that, however long its name is.
func TestFile(t *testing.T) {
	long := strings.Repeat("long/", 40) + "file"
	var out bytes.Buffer
	w := ostreetar.NewWriter(&out)
	require.NoError(t, w.Xattrs([]ostreetar.Xattr{{Name: "security.selinux", Value: []byte("x")}, {Name: "user.dir", Value: []byte("y")}}))
	require.NoError(t, w.Directory("long", 1, 2, 0o750))
	require.NoError(t, w.File(long, &ostreetar.Object{UID: 3, GID: 4, Mode: 0o4755, Size: 4, Xattrs: []ostreetar.Xattr{{Name: "user.a", Value: []byte("b")}}}, strings.NewReader("data")))
	require.NoError(t, w.Path("again"))
	require.NoError(t, w.File("empty", &ostreetar.Object{Mode: 0o600}, nil))
	require.NoError(t, w.Path("empty again"))
	require.NoError(t, w.File("link", &ostreetar.Object{Mode: 0o777, Symlink: true, Target: "to"}, nil))
	require.NoError(t, w.Close())
	r := tar.NewReader(&out)
	for _, want := range []struct {
		name, link, content string
		kind                byte
		mode                int64
		xattrs              map[string]string
	}{
		{name: "long", kind: tar.TypeDir, mode: 0o750, xattrs: map[string]string{"SCHILY.xattr.user.dir": "y"}},
		{name: long, kind: tar.TypeReg, mode: 0o4755, content: "data", xattrs: map[string]string{"SCHILY.xattr.user.a": "b"}},
		{name: "again", link: long, kind: tar.TypeLink, mode: 0o4755},
		{name: "empty", kind: tar.TypeReg, mode: 0o600}, {name: "empty again", kind: tar.TypeReg, mode: 0o600},
		{name: "link", link: "to", kind: tar.TypeSymlink, mode: 0o777},
	} {
		h, err := r.Next()
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, want.name, strings.TrimSuffix(h.Name, "/"))
		require.Equal(t, []any{want.link, want.content, want.kind, want.mode}, []any{h.Linkname, string(content), h.Typeflag, h.Mode}, want.name)
		require.Equal(t, want.xattrs, h.PAXRecords, want.name)
	}
	_, err := r.Next()
	require.ErrorIs(t, err, io.EOF)
}

func TestEmptyFileIsNoLink(t *testing.T) {
	got := split(t, write(t, func(w *ostreetar.Writer) {
		require.NoError(t, w.Object(&ostreetar.Object{Checksum: checksum, Mode: 0o644}, nil))
		require.NoError(t, w.Path("usr/empty"))
	}))
	e := got[len(got)-1]
	require.Equal(t, byte('0'), e.kind)
	require.Empty(t, e.link())
	require.Equal(t, "usr/empty", e.name())
}

func TestNumbers(t *testing.T) {
	for _, tc := range []struct {
		id   uint32
		want string
	}{
		{0, "0000000\x00"},
		{0o7777777, "7777777\x00"},
		{0o10000000, "\x80\x00\x00\x00\x00\x20\x00\x00"},
		{1<<32 - 2, "\x80\x00\x00\x00\xff\xff\xff\xfe"},
	} {
		got := split(t, write(t, func(w *ostreetar.Writer) {
			require.NoError(t, w.Directory("d", tc.id, tc.id, 0))
		}))
		require.Equal(t, tc.want+tc.want, string(got[0].header[108:124]))
	}

	// A size over 8 GiB, too long to write: the header comes before the error.
	var buf bytes.Buffer
	w := ostreetar.NewWriter(&buf)
	err := w.Object(&ostreetar.Object{Checksum: checksum, Size: 1 << 33}, strings.NewReader("x"))
	require.ErrorContains(t, err, "8589934592")
	h := buf.Bytes()[3*512:]
	require.Equal(t, "\x80\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00", string(h[124:136]))
	require.Equal(t, err, w.Close(), "an error stays")
}

func TestSymlinkTargets(t *testing.T) {
	long := strings.Repeat("a/", 60) + "b"
	for _, tc := range []struct {
		name, target, wantField, wantK string
	}{
		{"plain", "../lib/x", "../lib/x", ""},
		{"absolute", "/usr/bin", "/usr/bin", ""},
		{"trailing slash", "lib/", "lib/", ""},
		{"not cleaned", "a/./b", "a/./b", ""},
		{"trailing dot", "d/.", "d/.", ""},
		{"root", "/", "/", ""},
		{"slashes", "//usr//lib", "//usr//lib", ""},
		{"100 bytes", strings.Repeat("t", 100), strings.Repeat("t", 100), ""},
		{"long component", strings.Repeat("t", 150), "", strings.Repeat("t", 150)},
		{"components that fit", long, strings.Repeat("a/", 50), long},
		{"long with slashes", "//" + long, "/" + strings.Repeat("a/", 49) + "a", "//" + long},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := split(t, write(t, func(w *ostreetar.Writer) {
				require.NoError(t, w.Object(&ostreetar.Object{
					Checksum: checksum, Mode: 0o120777, Symlink: true, Target: tc.target,
				}, nil))
				require.NoError(t, w.Path("l"))
			}))[2:]
			if tc.wantK != "" {
				require.Equal(t, byte('K'), got[0].kind)
				require.Equal(t, tc.wantK+"\x00", string(got[0].data))
				got = got[1:]
			}
			require.Equal(t, byte('2'), got[0].kind)
			require.Equal(t, tc.wantField, got[0].link())
			require.Equal(t, byte('1'), got[1].kind)
			require.Equal(t, objectPath(".file"), got[1].link())
		})
	}
}

// With Compat targets are those of the reference: image-v1b-symlink-dots of the shared data,
// whose links these are, has them so.
func TestCompatTargets(t *testing.T) {
	for target, want := range map[string]string{
		"a/./b": "a/b", "./c": "./c", "d/.": "d", "e/": "e/", "/": "//", "/./f": "/f", "..": "..", "../lib/x": "../lib/x", "//usr//lib": "//usr//lib",
	} {
		got := split(t, write(t, func(w *ostreetar.Writer) {
			w.Compat = true
			require.NoError(t, w.Object(&ostreetar.Object{Checksum: checksum, Mode: 0o120777, Symlink: true, Target: target}, nil))
		}))
		require.Equal(t, want, got[len(got)-1].link(), target)
	}
}

func TestXattrs(t *testing.T) {
	got := split(t, write(t, func(w *ostreetar.Writer) {
		require.NoError(t, w.Object(&ostreetar.Object{
			Checksum: checksum, Size: 1, RawXattrs: []byte("raw"),
			Xattrs: []ostreetar.Xattr{
				{Name: "security.capability", Value: []byte{1, 0, 2}},
				{Name: "security.selinux", Value: []byte("label\x00")},
				// 97 bytes and two digits make 99; one more byte needs three.
				{Name: "user.p", Value: bytes.Repeat([]byte("v"), 97-len(" SCHILY.xattr.user.p=\n"))},
				{Name: "user.q", Value: bytes.Repeat([]byte("v"), 98-len(" SCHILY.xattr.user.q=\n"))},
			},
		}, strings.NewReader("x")))
	}))
	require.Equal(t, []byte{'L', '0', 'x', '0'}, []byte{got[0].kind, got[1].kind, got[2].kind, got[3].kind})
	require.Equal(t, "raw", string(got[1].data))
	require.Equal(t, objectPath(".file-xattrs-link")+"\x00", string(got[0].data))
	x := got[2]
	require.Equal(t, "ustar\x0000", string(x.header[257:265]))
	require.Equal(t, make([]byte, 24), x.header[100:124], "no mode, no owner")
	require.True(t, strings.HasPrefix(string(x.data), "40 SCHILY.xattr.security.capability=\x01\x00\x02\n99 SCHILY.xattr.user.p=v"), "%q", x.data)
	require.Contains(t, string(x.data), "\n101 SCHILY.xattr.user.q=v")
	require.NotContains(t, string(x.data), "selinux")
}

func TestErrors(t *testing.T) {
	w := ostreetar.NewWriter(io.Discard)
	require.ErrorContains(t, w.Path("x"), "before any object")

	w = ostreetar.NewWriter(io.Discard)
	require.ErrorContains(t, w.Metadata("abc", "dirtree", nil), "64")

	for _, content := range []string{"", "1234", "123456"} {
		w = ostreetar.NewWriter(io.Discard)
		require.ErrorContains(t, w.Object(&ostreetar.Object{Checksum: checksum, Size: 5}, strings.NewReader(content)), "5 bytes")
	}

	w = ostreetar.NewWriter(io.Discard)
	require.NoError(t, w.Close())
	require.ErrorContains(t, w.Directory("x", 0, 0, 0), "after close")

	full := errors.New("disk full")
	w = ostreetar.NewWriter(writerFunc(func([]byte) (int, error) { return 0, full }))
	require.ErrorIs(t, w.Repository(), full)
	require.ErrorIs(t, w.Close(), full)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestImagePath(t *testing.T) {
	for in, want := range map[string]string{
		"usr/etc": "etc", "usr/etc/passwd": "etc/passwd", "usr/etcetera/f": "usr/etcetera/f",
		"etc/x": "etc/x", "usr": "usr", "opt/usr/etc": "opt/usr/etc",
	} {
		require.Equal(t, want, ostreetar.ImagePath(in))
	}
}

// Every layer that the reference wrote comes out the same when it is taken
// apart and written again.
func TestReferenceLayers(t *testing.T) {
	for _, image := range []string{
		"image-v1b-1-single", "image-v1b-1-pack8", "image-v1b-1-pack8-fv2", "image-v1b-1-rawmeta",
		"image-v1b-2-pack8-prior", "image-v1b-edge", "image-v1b-edge-emptychunk-fv2", "image-v1b-edge-sysroot",
	} {
		t.Run(image, func(t *testing.T) {
			for i, layer := range layers(t, interop.SharedData(t, "ostree", "v1b", image+".tar.zst")) {
				var buf bytes.Buffer
				rewrite(t, &buf, layer)
				require.True(t, bytes.Equal(layer, buf.Bytes()), "layer %d differs", i)
			}
		})
	}
}

// rewrite drives a Writer with the meaning of stream's entries.
func rewrite(t *testing.T, to io.Writer, stream []byte) {
	t.Helper()
	w := ostreetar.NewWriter(to)
	var long, link string
	var raw []byte
	var xattrs []ostreetar.Xattr
	skeleton := false
	for _, e := range split(t, stream) {
		name, target := e.name(), e.link()
		switch e.kind {
		case 'L':
			long = string(e.data[:len(e.data)-1])
			continue
		case 'K':
			link = string(e.data[:len(e.data)-1])
			continue
		case 'x':
			for p := e.data; len(p) > 0; {
				digits, _, _ := bytes.Cut(p, []byte(" "))
				n, err := strconv.Atoi(string(digits))
				require.NoError(t, err)
				key, value, _ := bytes.Cut(p[len(digits)+1:n-1], []byte("="))
				xattrs = append(xattrs, ostreetar.Xattr{Name: strings.TrimPrefix(string(key), "SCHILY.xattr."), Value: value})
				p = p[n:]
			}
			continue
		}
		if long != "" {
			name = long
		}
		if link != "" {
			target = link
		}
		long, link = "", ""
		uid, gid, mode := e.number(108, 116), e.number(116, 124), e.number(100, 108)
		inRepo := name == "sysroot" || name == "sysroot/ostree" || strings.HasPrefix(name, "sysroot/ostree/repo")
		suffix := filepath.Ext(name)
		switch {
		case inRepo && (e.kind == '5' || strings.HasSuffix(name, "/config")):
			if !skeleton {
				require.NoError(t, w.Repository())
				skeleton = true
			}
		case inRepo && suffix == ".file-xattrs-link":
			raw = e.data
		case inRepo && suffix == ".file":
			o := &ostreetar.Object{
				Checksum: strings.ReplaceAll(strings.TrimPrefix(strings.TrimSuffix(name, suffix), objects), "/", ""),
				UID:      uid, GID: gid, Mode: mode, Symlink: e.kind == '2', Target: target,
				Size: int64(len(e.data)), RawXattrs: raw, Xattrs: xattrs,
			}
			require.NoError(t, w.Object(o, bytes.NewReader(e.data)))
			raw, xattrs = nil, nil
		case inRepo:
			sum := strings.ReplaceAll(strings.TrimPrefix(strings.TrimSuffix(name, suffix), objects), "/", "")
			require.NoError(t, w.Metadata(sum, suffix[1:], e.data))
		case e.kind == '5':
			require.NoError(t, w.Directory(name, uid, gid, mode))
		default:
			require.NoError(t, w.Path(name))
		}
	}
	require.NoError(t, w.Close())
}

// layers gives the uncompressed layers of a packed OCI layout.
func layers(t *testing.T, path string) [][]byte {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	z, err := zstd.NewReader(f)
	require.NoError(t, err)
	defer z.Close()
	files := map[string][]byte{}
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		files[filepath.Base(h.Name)], err = io.ReadAll(tr)
		require.NoError(t, err)
	}
	type doc struct {
		Manifests, Layers []struct{ Digest string }
	}
	read := func(name string) (d doc) {
		require.NoError(t, json.Unmarshal(files[strings.TrimPrefix(name, "sha256:")], &d))
		return d
	}
	var out [][]byte
	for _, l := range read(read("index.json").Manifests[0].Digest).Layers {
		gz, err := gzip.NewReader(bytes.NewReader(files[strings.TrimPrefix(l.Digest, "sha256:")]))
		require.NoError(t, err)
		b, err := io.ReadAll(gz)
		require.NoError(t, err)
		out = append(out, b)
	}
	return out
}

func BenchmarkObject(b *testing.B) {
	o := &ostreetar.Object{Checksum: checksum, Mode: 0o644, Size: 4096}
	content := make([]byte, o.Size)
	w := ostreetar.NewWriter(io.Discard)
	b.SetBytes(o.Size)
	b.ReportAllocs()
	for b.Loop() {
		if err := w.Object(o, bytes.NewReader(content)); err != nil {
			b.Fatal(err)
		}
		if err := w.Path("usr/lib/python3/dist-packages/something/else.py"); err != nil {
			b.Fatal(err)
		}
	}
}
