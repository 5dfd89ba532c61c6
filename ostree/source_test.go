package ostree_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/ostree"
)

// lines lists what a tree comes to, one line a path in the order in which they
// were first met: kind, mode, owner, path, target or link, content, attributes.
func lines(t testing.TB, src ostree.Tree) []string {
	t.Helper()
	got, err := linesOf(t.Context(), src)
	require.NoError(t, err)
	return got
}

func linesOf(ctx context.Context, src ostree.Tree) ([]string, error) {
	var order []string
	texts := map[string]string{}
	for e, err := range src.Entries(ctx) {
		if err != nil {
			return order, err
		}
		if e.Path != "." {
			parent := filepath.Dir(e.Path)
			if !strings.HasPrefix(texts[parent], "d") {
				return order, fmt.Errorf("%s comes before its parent", e.Path)
			}
		}
		if e.Implied && strings.HasPrefix(texts[e.Path], "d") {
			return order, fmt.Errorf("%s is implied though it is there", e.Path)
		}
		if e.Link == e.Path {
			return order, fmt.Errorf("%s is a link to itself", e.Path)
		}
		text, err := line(ctx, e, texts)
		if err != nil {
			return order, err
		}
		if _, ok := texts[e.Path]; ok && text[0] != 'd' {
			for path := range texts {
				if strings.HasPrefix(path, e.Path+"/") {
					delete(texts, path)
				}
			}
		}
		if _, ok := texts[e.Path]; !ok {
			order = append(order, e.Path)
		}
		texts[e.Path] = text
	}
	var got []string
	for _, path := range order {
		if text, ok := texts[path]; ok {
			kind, rest, _ := strings.Cut(text, " ")
			got = append(got, kind+" "+path+" "+rest)
			delete(texts, path)
		}
	}
	return got, nil
}

func line(ctx context.Context, e ostree.Entry, texts map[string]string) (string, error) {
	if e.Link != "" {
		if texts[e.Link] == "" {
			return "", fmt.Errorf("%s links to %s, which is not there", e.Path, e.Link)
		}
		return texts[e.Link], nil
	}
	var b strings.Builder
	switch e.Mode & ostree.ModeType {
	case ostree.ModeDir:
		fmt.Fprintf(&b, "d %04o %d:%d", e.Mode&0o7777, e.UID, e.GID)
	case ostree.ModeSymlink:
		fmt.Fprintf(&b, "l %04o %d:%d -> %s", e.Mode&0o7777, e.UID, e.GID, e.Target)
	case ostree.ModeRegular:
		f, err := e.Open(ctx)
		if err != nil {
			return "", err
		}
		content, err := io.ReadAll(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return "", err
		}
		if int64(len(content)) != e.Size {
			return "", fmt.Errorf("%s has %d bytes, want %d", e.Path, len(content), e.Size)
		}
		fmt.Fprintf(&b, "f %04o %d:%d %.20q", e.Mode&0o7777, e.UID, e.GID, content)
	default:
		return "", fmt.Errorf("%s has mode %o", e.Path, e.Mode)
	}
	for _, x := range e.Xattrs {
		fmt.Fprintf(&b, " %s=%q", x.Name, x.Value)
	}
	return b.String(), nil
}

// opened gives dir as a root that is closed with the test.
func opened(t testing.TB, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, root.Close()) })
	return root
}

// owner is the owner of files that this test makes.
func owner() string { return fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()) }

func TestDir(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	for _, path := range []string{"a", "a/b", "a-b"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, path), 0o755))
	}
	require.NoError(t, os.Chmod(filepath.Join(dir, "a"), 0o750|os.ModeSetgid))
	for path, mode := range map[string]os.FileMode{"a/b/empty": 0o644, "a/z": 0o600, "a-b/x": 0o755, "é": 0o644} {
		content := strings.TrimSuffix(path, "a/b/empty")
		require.NoError(t, os.WriteFile(filepath.Join(dir, path), []byte(content), 0o600))
		require.NoError(t, os.Chmod(filepath.Join(dir, path), mode))
	}
	require.NoError(t, os.Chmod(filepath.Join(dir, "a-b/x"), 0o755|os.ModeSetuid))
	require.NoError(t, os.Symlink("/no//where", filepath.Join(dir, "a.link")))
	require.NoError(t, os.Symlink("a", filepath.Join(dir, "link-to-dir")))
	want := []string{
		"d . 0755 " + owner(),
		"d a 2750 " + owner(),
		"d a/b 0755 " + owner(),
		"f a/b/empty 0644 " + owner() + ` ""`,
		"f a/z 0600 " + owner() + ` "a/z"`,
		"d a-b 0755 " + owner(),
		"f a-b/x 4755 " + owner() + ` "a-b/x"`,
		"l a.link 0777 " + owner() + " -> /no//where",
		"l link-to-dir 0777 " + owner() + " -> a",
		"f é 0644 " + owner() + ` "é"`,
	}
	if err := unix.Setxattr(filepath.Join(dir, "a/z"), "user.test", []byte("v\x00"), 0); err == nil {
		want[4] += ` user.test="v\x00"`
	}
	tree := ostree.Dir(opened(t, dir))
	require.Equal(t, want, lines(t, tree))
	require.Equal(t, want, lines(t, tree), "a second pass")
}

// Directories are listed ahead by several goroutines: what comes out is in order
// all the same, with more entries than are held, from each goroutine count, with
// faults where they belong and nothing left running.
func TestDirReadAhead(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o644))
	var want []string
	for i := range 40 {
		sub := fmt.Sprintf("d%02d", i)
		want = append(want, sub)
		for j := range 6 {
			deep := fmt.Sprintf("%s/e%d", sub, j)
			require.NoError(t, os.MkdirAll(filepath.Join(dir, deep), 0o755))
			want = append(want, deep)
			for k := range 50 {
				file := fmt.Sprintf("%s/f%02d", deep, k)
				require.NoError(t, os.Link(empty, filepath.Join(dir, file)))
				want = append(want, file)
			}
		}
	}
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	paths := func(limit int) (got []string, err error) {
		for e, err := range ostree.Dir(root).Entries(t.Context()) {
			if err != nil {
				return got, err
			}
			if e.Path != "." {
				got = append(got, e.Path)
			}
			if len(got) == limit {
				break
			}
		}
		return got, nil
	}
	for _, procs := range []int{1, 2, 8} {
		t.Run(fmt.Sprint(procs), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			got, err := paths(-1)
			require.NoError(t, err)
			require.Equal(t, want, got)
			got, err = paths(100)
			require.NoError(t, err)
			require.Equal(t, want[:100], got)
			stacks := make([]byte, 1<<20)
			require.NotContains(t, string(stacks[:runtime.Stack(stacks, true)]), "readAhead")
		})
	}
	bad := filepath.Join(dir, "d20", "e3", "f30-pipe")
	require.NoError(t, unix.Mkfifo(bad, 0o644))
	got, err := paths(-1)
	require.ErrorContains(t, err, "d20/e3/f30-pipe")
	require.Equal(t, want[:slices.Index(want, "d20/e3/f31")], got)
}

// Kernels before 6.13 give the same by way of /proc.
func TestDirByProc(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "d", "f"), []byte("x"), 0o600))
	require.NoError(t, os.Symlink("f", filepath.Join(dir, "d", "l")))
	if err := unix.Setxattr(filepath.Join(dir, "d", "f"), "user.a", []byte("one"), 0); err != nil {
		t.Logf("no attributes here: %v", err)
	} else {
		require.NoError(t, unix.Setxattr(filepath.Join(dir, "d", "f"), "user.b", nil, 0))
		require.NoError(t, unix.Setxattr(filepath.Join(dir, "d"), "user.c", bytes.Repeat([]byte("y"), 1000), 0))
	}
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	require.Equal(t, lines(t, ostree.DirByProc(root)), lines(t, ostree.Dir(root)))
}

func TestDirDetachedOpen(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "d"), 0o755))
	path := filepath.Join(dir, "d", "f")
	write := func() { require.NoError(t, os.WriteFile(path, []byte("content"), 0o644)) }
	find := func() ostree.Entry {
		for e, err := range ostree.Dir(opened(t, dir)).Entries(t.Context()) {
			require.NoError(t, err)
			if e.Path == "d/f" {
				require.True(t, e.Detached)
				require.NotZero(t, e.Identity)
				return e
			}
		}
		t.Fatal("no file")
		return ostree.Entry{}
	}
	write()
	f, err := find().Open(t.Context())
	require.NoError(t, err)
	require.IsType(t, &os.File{}, f)
	require.NoError(t, f.Close())

	outside := filepath.Join(t.TempDir(), "d")
	require.NoError(t, os.Mkdir(outside, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(outside, "f"), []byte("content"), 0o644))
	for name, change := range map[string]func() error{
		"grown": func() error { return os.WriteFile(path, []byte("more content"), 0o644) },
		"other file": func() error {
			return errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, []byte("content"), 0o644))
		},
		"link": func() error { return errors.Join(os.Rename(path, path+".old"), os.Symlink("f.old", path)) },
		"pipe": func() error { return errors.Join(os.Rename(path, path+".old"), unix.Mkfifo(path, 0o600)) },
		"other file of that time": func() error {
			info, err := os.Stat(path)
			return errors.Join(err, os.Rename(path, path+".old"), os.WriteFile(path, []byte("CONTENT"), 0o644), os.Chtimes(path, info.ModTime(), info.ModTime()))
		},
		"parent link inside": func() error {
			return errors.Join(os.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "e")), os.Symlink("e", filepath.Join(dir, "d")))
		},
		"gone": func() error { return os.Remove(path) },
		"parent link": func() error {
			return errors.Join(os.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "e")), os.Symlink(outside, filepath.Join(dir, "d")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, errors.Join(os.RemoveAll(filepath.Join(dir, "d")), os.RemoveAll(filepath.Join(dir, "e"))))
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "d"), 0o755))
			write()
			e := find()
			require.NoError(t, change())
			_, err := e.Open(t.Context())
			require.ErrorContains(t, err, "ostree: dir d/f: ")
		})
	}
}

func TestDirRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		make func(dir string) error
		want string
		is   error
	}{
		"pipe": {func(dir string) error { return unix.Mkfifo(filepath.Join(dir, "d/p"), 0o600) },
			"ostree: dir d/p: named pipe: only directories, regular files and symbolic links can be stored: ", errors.ErrUnsupported},
		"socket": {func(dir string) error {
			return unix.Mknod(filepath.Join(dir, "d/s"), unix.S_IFSOCK|0o600, 0)
		}, "ostree: dir d/s: socket: ", errors.ErrUnsupported},
		"name": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "d/\xff\n"), nil, 0o600) },
			`ostree: dir "d/\xff\n": not UTF-8`, fs.ErrInvalid},
		"target": {func(dir string) error { return os.Symlink("\xfe", filepath.Join(dir, "d/l")) },
			`ostree: dir d/l: link target "\xfe": not UTF-8`, fs.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
			require.NoError(t, test.make(dir))
			_, err := linesOf(t.Context(), ostree.Dir(opened(t, dir)))
			require.ErrorContains(t, err, test.want)
			require.ErrorIs(t, err, test.is)
		})
	}
	t.Run("device", func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
			t.Skipf("can't make a device node: %v", err)
		}
		_, err := linesOf(t.Context(), ostree.Dir(opened(t, dir)))
		require.ErrorContains(t, err, "ostree: dir null: character device: ")
	})
	t.Run("unreadable", func(t *testing.T) {
		if os.Getuid() == 0 {
			t.Skip("root reads everything")
		}
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "secret"), nil, 0))
		_, err := linesOf(t.Context(), ostree.Dir(opened(t, dir)))
		require.ErrorContains(t, err, "ostree: dir secret: ")
		require.ErrorIs(t, err, fs.ErrPermission)
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := linesOf(ctx, ostree.Dir(opened(t, t.TempDir())))
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestFS(t *testing.T) {
	tree := ostree.FS(fstest.MapFS{
		"usr/bin/sh":  {Data: []byte("sh"), Mode: 0o755 | fs.ModeSetuid},
		"usr/lib":     {Mode: fs.ModeDir | 0o750},
		"usr/lib/x":   {Data: []byte("x"), Mode: 0o644},
		"usr/lib/lnk": {Data: []byte("x"), Mode: fs.ModeSymlink},
	})
	require.Equal(t, []string{
		"d . 0555 0:0", "d usr 0555 0:0", "d usr/bin 0555 0:0", `f usr/bin/sh 4755 0:0 "sh"`,
		"d usr/lib 0750 0:0", "l usr/lib/lnk 0777 0:0 -> x", `f usr/lib/x 0644 0:0 "x"`,
	}, lines(t, tree))
	for name, mode := range map[string]fs.FileMode{"named pipe": fs.ModeNamedPipe, "socket": fs.ModeSocket, "block device": fs.ModeDevice, "character device": fs.ModeDevice | fs.ModeCharDevice} {
		_, err := linesOf(t.Context(), ostree.FS(fstest.MapFS{"d/x": {Mode: mode}}))
		require.ErrorContains(t, err, "ostree: fs d/x: "+name)
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
	for range tree.Entries(t.Context()) {
		break // ends without a fault
	}
}

// header is one entry of an archive that a test writes.
type header struct {
	tar.Header
	body string
}

func archive(t testing.TB, headers ...header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		h.Size = int64(len(h.body))
		require.NoError(t, w.WriteHeader(&h.Header))
		_, err := io.WriteString(w, h.body)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func TestTar(t *testing.T) {
	long := strings.Repeat("long-name/", 30) + "file"
	for name, test := range map[string]struct {
		in   []header
		want []string
	}{
		"empty": {nil, []string{"d . 0755 0:0"}},
		"kinds": {[]header{
			{Header: tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 1, Gid: 2}},
			{Header: tar.Header{Name: "./usr/", Typeflag: tar.TypeDir, Mode: 0o2755}},
			{Header: tar.Header{Name: "./usr/f", Mode: 0o4711, Uid: 4000000000, Gid: 7, PAXRecords: map[string]string{
				"SCHILY.xattr.user.b": "1\x00\n", "SCHILY.xattr.user.a": "2",
			}}, body: "content"},
			{Header: tar.Header{Name: "./usr/l", Typeflag: tar.TypeSymlink, Linkname: "//a/./b"}},
		}, []string{
			"d . 0700 1:2", "d usr 2755 0:0",
			`f usr/f 4711 4000000000:7 "content" user.a="2" user.b="1\x00\n"`,
			"l usr/l 0777 0:0 -> //a/./b",
		}},
		"parents are implied until they come": {[]header{
			{Header: tar.Header{Name: "/a//b/./c"}, body: "c"},
			{Header: tar.Header{Name: "a/", Typeflag: tar.TypeDir, Mode: 0o711, Uid: 3}},
		}, []string{"d . 0755 0:0", "d a 0711 3:0", "d a/b 0755 0:0", `f a/b/c 0644 0:0 "c"`}},
		"long names": {[]header{
			{Header: tar.Header{Name: long, Format: tar.FormatGNU}, body: "1"},
			{Header: tar.Header{Name: long + "é"}, body: "2"},
		}, func() []string {
			want := []string{"d . 0755 0:0"}
			for i := range 30 {
				want = append(want, "d "+strings.TrimSuffix(strings.Repeat("long-name/", i+1), "/")+" 0755 0:0")
			}
			return append(want, "f "+long+` 0644 0:0 "1"`, "f "+long+`é 0644 0:0 "2"`)
		}()},
		"a path comes again": {[]header{
			{Header: tar.Header{Name: "f"}, body: "1"},
			{Header: tar.Header{Name: "g", Typeflag: tar.TypeLink, Linkname: "f"}},
			{Header: tar.Header{Name: "f", Mode: 0o600}, body: "2"},
			{Header: tar.Header{Name: "d"}, body: "was a file"},
			{Header: tar.Header{Name: "d", Typeflag: tar.TypeDir, Mode: 0o755}},
			{Header: tar.Header{Name: "d/x"}, body: "x"},
		}, []string{"d . 0755 0:0", `f f 0600 0:0 "2"`, `f g 0644 0:0 "1"`, "d d 0755 0:0", `f d/x 0644 0:0 "x"`}},
		"hard links": {[]header{
			{Header: tar.Header{Name: "later/c", Typeflag: tar.TypeLink, Linkname: "./later/b"}},
			{Header: tar.Header{Name: "later/b", Typeflag: tar.TypeLink, Linkname: "/f"}},
			{Header: tar.Header{Name: "./f", Mode: 0o600, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}}, body: "1"},
			{Header: tar.Header{Name: "f", Typeflag: tar.TypeLink, Linkname: "f"}},
			{Header: tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "f"}},
			{Header: tar.Header{Name: "m", Typeflag: tar.TypeLink, Linkname: "l"}},
		}, []string{
			"d . 0755 0:0", `f f 0600 0:0 "1" user.x="y"`, "d later 0755 0:0", `f later/b 0600 0:0 "1" user.x="y"`,
			`f later/c 0600 0:0 "1" user.x="y"`, "l l 0777 0:0 -> f", "l m 0777 0:0 -> f",
		}},
		"other dialects of attributes": {[]header{
			{Header: tar.Header{Name: "f", PAXRecords: map[string]string{
				"RHT.security.selinux": "label\x00", "LIBARCHIVE.xattr.user.a%20b": "AQI", "LIBARCHIVE.xattr.user.c": "AQI=", "SCHILY.xattr.user.c": "other",
			}}},
			{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "a commit"}}},
		}, []string{"d . 0755 0:0", `f f 0644 0:0 "" security.selinux="label\x00" user.a b="\x01\x02" user.c="other"`}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, lines(t, ostree.Tar(bytes.NewReader(archive(t, test.in...)))))
		})
	}
}

func TestTarRefuses(t *testing.T) {
	dir := header{Header: tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}}
	file := header{Header: tar.Header{Name: "d/f"}, body: "content"}
	link := header{Header: tar.Header{Name: "d/l", Typeflag: tar.TypeSymlink, Linkname: "/etc"}}
	of := func(h tar.Header) []header { return []header{dir, file, link, {Header: h}} }
	for name, test := range map[string]struct {
		in   []header
		want string
		is   error
	}{
		"dotdot":       {of(tar.Header{Name: "d/../../x"}), `ostree: tar d/../../x at byte 2048: ".." in the path`, fs.ErrInvalid},
		"not UTF-8":    {of(tar.Header{Name: "\xff"}), `ostree: tar "\xff" at byte 2048: not UTF-8`, fs.ErrInvalid},
		"target":       {of(tar.Header{Name: "t", Typeflag: tar.TypeSymlink, Linkname: "\xff"}), `tar t at byte 2048: link target "\xff": not UTF-8`, fs.ErrInvalid},
		"no target":    {of(tar.Header{Name: "t", Typeflag: tar.TypeSymlink}), "without a target", fs.ErrInvalid},
		"through link": {of(tar.Header{Name: "d/l/passwd"}), "tar d/l/passwd at byte 2048: its path goes through d/l, a symbolic link", fs.ErrInvalid},
		"through file": {of(tar.Header{Name: "d/f/x/y"}), "its path goes through d/f, which is not a directory", fs.ErrInvalid},
		"device":       {of(tar.Header{Name: "dev/null", Typeflag: tar.TypeChar}), "tar dev/null at byte 2048: character device", errors.ErrUnsupported},
		"block":        {of(tar.Header{Name: "dev/sda", Typeflag: tar.TypeBlock}), "block device", errors.ErrUnsupported},
		"pipe":         {of(tar.Header{Name: "p", Typeflag: tar.TypeFifo}), "named pipe", errors.ErrUnsupported},
		"other":        {of(tar.Header{Name: "p", Typeflag: 'D'}), "entry of type 'D'", errors.ErrUnsupported},
		"over dir":     {of(tar.Header{Name: "d"}), "tar d at byte 2048: takes the place of a directory", fs.ErrExist},
		"root":         {of(tar.Header{Name: "."}), "the root must be a directory", fs.ErrInvalid},
		"link to dir":  {of(tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "d"}), "hard link to the directory d", fs.ErrInvalid},
		"link out":     {of(tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../d"}), `hard link to "../d": ".." in the path`, fs.ErrInvalid},
		"link to none": {of(tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "gone"}), "tar h at byte 3584: hard link to gone, which the archive does not have", fs.ErrNotExist},
		"link to self": {of(tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "h"}), "hard link to h, which", fs.ErrNotExist},
		"dir later":    {[]header{{Header: tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "d"}}, dir}, "hard link to the directory d", fs.ErrInvalid},
		"global":       {[]header{{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"uid": "1"}}}}, "global header with uid", errors.ErrUnsupported},
		"attribute":    {of(tar.Header{Name: "x", PAXRecords: map[string]string{"LIBARCHIVE.xattr.user.x": "*"}}), "extended attribute LIBARCHIVE.xattr.user.x", nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := linesOf(t.Context(), ostree.Tar(bytes.NewReader(archive(t, test.in...))))
			require.ErrorContains(t, err, test.want)
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
			var fault *ostree.Error
			require.ErrorAs(t, err, &fault)
		})
	}
	t.Run("twice", func(t *testing.T) {
		tree := ostree.Tar(bytes.NewReader(archive(t)))
		lines(t, tree)
		_, err := linesOf(t.Context(), tree)
		require.ErrorContains(t, err, "only once")
	})
}

// TestTarAttributesTwice: which of several records of one attribute counts is no chance.
func TestTarAttributesTwice(t *testing.T) {
	in := header{Header: tar.Header{Name: "x", PAXRecords: map[string]string{
		"RHT.security.selinux": "rht", "LIBARCHIVE.xattr.security.selinux": "bGli", "LIBARCHIVE.xattr.security.%73elinux": "bGli",
		"LIBARCHIVE.xattr.user.x": "bGli", "SCHILY.xattr.user.x": "schily",
	}}}
	for range 20 {
		require.Equal(t, []string{"d . 0755 0:0", `f x 0644 0:0 "" security.selinux="rht" user.x="schily"`}, lines(t, ostree.Tar(bytes.NewReader(archive(t, in)))))
	}
}

// TestTarDepth: what is deeper than a commit can be is refused, before its paths cost the
// square of their length.
func TestTarDepth(t *testing.T) {
	deep := func(n int) ostree.Tree {
		return ostree.Tar(bytes.NewReader(archive(t, header{Header: tar.Header{Name: strings.Repeat("d/", n) + "f"}})))
	}
	require.Len(t, lines(t, deep(2048)), 2050)
	_, err := linesOf(t.Context(), deep(10_000))
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "directories nest deeper than 2048")
}

// TestTarTruncated cuts an archive at every byte: each cut is a fault that
// names an entry and a place, and no content comes out wrong.
func TestTarTruncated(t *testing.T) {
	whole := archive(t,
		header{Header: tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}},
		header{Header: tar.Header{Name: "d/zeros"}, body: strings.Repeat("\x00", 1500)},
		header{Header: tar.Header{Name: strings.Repeat("n", 120), PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}}, body: "content"},
	)
	end := len(whole) - 512 // one end block is enough
	for cut := range end {
		_, err := linesOf(t.Context(), ostree.Tar(bytes.NewReader(whole[:cut])))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "cut at %d", cut)
		require.ErrorIs(t, err, ostree.ErrCorrupt, "cut at %d", cut)
		require.ErrorContains(t, err, "at byte ", "cut at %d", cut)
	}
	_, err := linesOf(t.Context(), ostree.Tar(bytes.NewReader(whole)))
	require.NoError(t, err)
	_, err = linesOf(t.Context(), ostree.Tar(io.MultiReader(bytes.NewReader(whole), strings.NewReader(strings.Repeat("\x00", 9000)+"x"))))
	require.ErrorContains(t, err, fmt.Sprintf("at byte %d: data after the end of the archive", len(whole)+9000))
}

func TestTarContentIsReadAtOnce(t *testing.T) {
	data := archive(t, header{Header: tar.Header{Name: "a"}, body: "1"}, header{Header: tar.Header{Name: "b"}, body: "2"})
	var kept []ostree.Entry
	for e, err := range ostree.Tar(bytes.NewReader(data)).Entries(t.Context()) {
		require.NoError(t, err)
		require.False(t, e.Detached)
		if e.Open == nil {
			continue
		}
		kept = append(kept, e)
		f, err := e.Open(t.Context())
		require.NoError(t, err)
		_, err = e.Open(t.Context())
		require.ErrorContains(t, err, "only once")
		require.NoError(t, f.Close())
	}
	require.Len(t, kept, 2)
	_, err := kept[0].Open(t.Context())
	require.ErrorContains(t, err, "after the sequence moved on")
}

func TestOverlay(t *testing.T) {
	tarOf := func(headers ...header) ostree.Tree { return ostree.Tar(bytes.NewReader(archive(t, headers...))) }
	d := func(name string, mode int64) header {
		return header{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode}}
	}
	f := func(name, body string) header { return header{Header: tar.Header{Name: name}, body: body} }
	got := lines(t, ostree.Overlay(
		tarOf(d("tmp", 0o1777), d("was-dir", 0o755), d("was-dir/sub", 0o755), f("was-dir/sub/x", "gone"), f("was-file", "gone"), f("kept", "kept"), d("chmod", 0o700), f("chmod/x", "x")),
		tarOf(f("tmp/new", "new"), f("was-dir", "file"), f("was-file/y", "y"), d("chmod", 0o711)),
		tarOf(f("was-dir/sub/z", "z")),
	))
	require.ElementsMatch(t, []string{
		"d . 0755 0:0", "d tmp 1777 0:0", `f tmp/new 0644 0:0 "new"`, "d was-dir 0755 0:0", "d was-dir/sub 0755 0:0", `f was-dir/sub/z 0644 0:0 "z"`,
		"d was-file 0755 0:0", `f was-file/y 0644 0:0 "y"`, `f kept 0644 0:0 "kept"`, "d chmod 0711 0:0", `f chmod/x 0644 0:0 "x"`,
	}, got)

	failing := ostree.Tar(strings.NewReader("too short"))
	_, err := linesOf(t.Context(), ostree.Overlay(failing, tarOf()))
	require.ErrorIs(t, err, ostree.ErrCorrupt)
}

func FuzzTar(f *testing.F) {
	f.Add([]byte{})
	mutants.AddTars(f,
		archive(f, header{Header: tar.Header{Name: "d/f", PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}}, body: "content"},
			header{Header: tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "d/f"}}),
		archive(f, header{Header: tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "d/f"}},
			header{Header: tar.Header{Name: "d/f"}}, header{Header: tar.Header{Name: "s", Typeflag: tar.TypeSymlink, Linkname: "x"}}))
	f.Add(archive(f, header{Header: tar.Header{Name: strings.Repeat("d/", 2000) + "f"}})) // many parents of long names
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzbound.Linear(t, len(data), 256, func() {
			for range ostree.Tar(bytes.NewReader(data)).Entries(t.Context()) {
			}
		})
		dirs := map[string]bool{}
		var entries int
		for e, err := range ostree.Tar(bytes.NewReader(data)).Entries(t.Context()) {
			if err != nil {
				return
			}
			entries++
			require.True(t, e.Path == "." || fs.ValidPath(e.Path), "%q", e.Path)
			require.True(t, e.Path == "." || dirs[filepath.Dir(e.Path)], "%q has no parent", e.Path)
			dirs[e.Path] = e.Mode&ostree.ModeType == ostree.ModeDir
			if e.Open != nil {
				r, err := e.Open(t.Context())
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, io.LimitReader(r, 1<<20)) // sparse files may be large
				if err != nil {
					return
				}
			}
		}
		require.LessOrEqual(t, entries, len(data)/2+1)
	})
}

func BenchmarkDir(b *testing.B) {
	dir := b.TempDir()
	for i := range 20 {
		sub := filepath.Join(dir, fmt.Sprint(i))
		require.NoError(b, os.Mkdir(sub, 0o755))
		for j := range 100 {
			require.NoError(b, os.WriteFile(filepath.Join(sub, fmt.Sprint(j)), nil, 0o644))
		}
	}
	tree := ostree.Dir(opened(b, dir))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range tree.Entries(b.Context()) {
			require.NoError(b, err)
			n++
		}
		require.Equal(b, 2021, n)
	}
}

func BenchmarkTar(b *testing.B) {
	var headers []header
	for i := range 1000 {
		headers = append(headers, header{Header: tar.Header{Name: fmt.Sprintf("d/%d", i)}, body: strings.Repeat("x", 2000)})
	}
	data := archive(b, headers...)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range ostree.Tar(bytes.NewReader(data)).Entries(b.Context()) {
			require.NoError(b, err)
		}
	}
}
