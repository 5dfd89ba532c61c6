package ostree_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/ostree"
)

// debian is a small root file system as debootstrap leaves it, less its device
// nodes.
func debian() fstest.MapFS {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text), Mode: 0o644} }
	link := func(to string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink} }
	dir := func(mode fs.FileMode) *fstest.MapFile { return &fstest.MapFile{Mode: fs.ModeDir | mode} }
	return fstest.MapFS{
		".": dir(0o755), "bin": link("usr/bin"), "sbin": link("usr/sbin"), "lib": link("usr/lib"), "lib64": link("/usr/lib64"),
		"usr": dir(0o755), "usr/bin": dir(0o755), "usr/sbin": dir(0o755), "usr/lib": dir(0o755), "usr/lib64": dir(0o755),
		"usr/lib/os-release": file("ID=debian\n"), "usr/bin/su": {Data: []byte("su"), Mode: 0o755 | fs.ModeSetuid},
		"usr/lib/modules": dir(0o755), "usr/lib/modules/6.1.0-40-amd64": dir(0o755), "usr/lib/modules/6.1.0-40-amd64/modules.dep": file("dep"),
		"etc": dir(0o750), "etc/passwd": file("root"), "etc/machine-id": file(strings.Repeat("0", 32) + "\n"),
		"boot": dir(0o700), "boot/vmlinuz-6.1.0-40-amd64": file("kernel"), "boot/initrd.img-6.1.0-40-amd64": file("initrd"),
		"boot/config-6.1.0-40-amd64": file("config"), "boot/grub/grub.cfg": file("cfg"), "boot/initramfs-0-rescue-0123.img": file("rescue"),
		"vmlinuz": link("boot/vmlinuz-6.1.0-40-amd64"), "initrd.img": link("boot/initrd.img-6.1.0-40-amd64"), ".dockerenv": file(""),
		"var/lib/dpkg/status": file("Package: x\n"), "var/lib/dpkg/info/x.list": file("/.\n"), "var/lib/dpkg/info/x.md5sums": file("sum"),
		"var/lib/dpkg/info/x.postinst": file("#!"), "var/lib/dpkg/lock": file(""), "var/cache/apt/pkgcache.bin": file("cache"), "var/tmp": dir(0o777 | fs.ModeSticky),
		"var/lib/rpm/rpmdb.sqlite": file("rpmdb"), "var/lib/rpm/rpmdb.sqlite-shm": file("shm"), "var/lib/rpm/.rpm.lock": file(""),
		"home/user/.profile": file("x"), "root/.bashrc": file("x"), "opt/empty": dir(0o755), "srv": dir(0o755), "mnt": dir(0o755), "media/cdrom": dir(0o755),
		"proc/1/status": file("x"), "sys/kernel": dir(0o755), "dev": dir(0o755), "dev/null": {Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666}, "run/lock/x": file("x"),
		"tmp": dir(0o777 | fs.ModeSticky), "tmp/x": file("x"), "lost+found": dir(0o700),
	}
}

var arranged = []string{
	"d . 0755 0:0", "d boot 0700 0:0", "d dev 0755 0:0", "d proc 0555 0:0", "d run 0555 0:0", "d sys 0555 0:0", "d sysroot 0755 0:0", "d tmp 1777 0:0", "d var 0555 0:0",
	"l bin 0777 0:0 -> usr/bin", "l sbin 0777 0:0 -> usr/sbin", "l lib 0777 0:0 -> usr/lib", "l lib64 0777 0:0 -> /usr/lib64",
	"l home 0777 0:0 -> var/home", "l media 0777 0:0 -> run/media", "l mnt 0777 0:0 -> var/mnt", "l opt 0777 0:0 -> var/opt", "l ostree 0777 0:0 -> sysroot/ostree",
	"l root 0777 0:0 -> var/roothome", "l srv 0777 0:0 -> var/srv",
	"d usr 0755 0:0", "d usr/bin 0755 0:0", `f usr/bin/su 4755 0:0 "su"`, "d usr/etc 0750 0:0", `f usr/etc/machine-id 0644 0:0 ""`, `f usr/etc/passwd 0644 0:0 "root"`,
	"d usr/lib 0755 0:0", "d usr/lib/modules 0755 0:0", "d usr/lib/modules/6.1.0-40-amd64 0755 0:0", `f usr/lib/modules/6.1.0-40-amd64/initramfs.img 0644 0:0 "initrd"`,
	`f usr/lib/modules/6.1.0-40-amd64/modules.dep 0644 0:0 "dep"`, `f usr/lib/modules/6.1.0-40-amd64/vmlinuz 0644 0:0 "kernel"`, `f usr/lib/os-release 0644 0:0 "ID=debian\n"`,
	"d usr/lib/sysimage 0755 0:0", "d usr/lib/sysimage/dpkg 0755 0:0", "d usr/lib/sysimage/dpkg/info 0755 0:0", `f usr/lib/sysimage/dpkg/info/x.list 0644 0:0 "/.\n"`,
	`f usr/lib/sysimage/dpkg/info/x.md5sums 0644 0:0 "sum"`, `f usr/lib/sysimage/dpkg/status 0644 0:0 "Package: x\n"`,
	"d usr/lib64 0755 0:0", "d usr/sbin 0755 0:0", "d usr/share 0755 0:0", "d usr/share/rpm 0755 0:0", `f usr/share/rpm/rpmdb.sqlite 0644 0:0 "rpmdb"`,
}

func TestPostprocess(t *testing.T) {
	var dropped []string
	tree := ostree.Postprocess(ostree.FS(debian()), &ostree.PostprocessOptions{Dropped: func(path string) { dropped = append(dropped, path) }})
	require.ElementsMatch(t, arranged, lines(t, tree))
	require.Equal(t, []string{
		".dockerenv", "boot/config-6.1.0-40-amd64", "boot/grub", "boot/initramfs-0-rescue-0123.img", "dev/null", "home/user", "initrd.img",
		"media/cdrom", "proc/1", "root/.bashrc", "run/lock", "sys/kernel", "tmp/x", "var/cache", "var/lib/dpkg/info/x.postinst", "var/lib/dpkg/lock",
		"var/lib/rpm/.rpm.lock", "var/lib/rpm/rpmdb.sqlite-shm", "var/tmp", "vmlinuz",
	}, dropped)
	require.NoError(t, ostree.Lint(t.Context(), tree))

	t.Run("a tree that is arranged stays as it is", func(t *testing.T) {
		require.ElementsMatch(t, arranged, lines(t, ostree.Postprocess(tree, &ostree.PostprocessOptions{Dropped: func(path string) { t.Errorf("dropped %s", path) }})))
	})
	t.Run("the order of the source does not matter", func(t *testing.T) {
		entries := collect(t, ostree.Tree(ostree.TreeFunc(func(ctx context.Context) iter.Seq2[ostree.Entry, error] {
			fsys := debian()
			delete(fsys, "dev/null") // TreeFunc can't leave it out
			return ostree.FS(fsys).Entries(ctx)
		})))
		rng := rand.New(rand.NewPCG(1, 2))
		for range 20 {
			rng.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
			// Parents first, otherwise at random.
			slices.SortStableFunc(entries, func(a, b ostree.Entry) int { return depth(a.Path) - depth(b.Path) })
			require.ElementsMatch(t, arranged, lines(t, ostree.Postprocess(ostree.TreeFunc(func(context.Context) iter.Seq2[ostree.Entry, error] {
				return func(yield func(ostree.Entry, error) bool) {
					for _, e := range entries {
						if !yield(e, nil) {
							return
						}
					}
				}
			}), nil)))
		}
	})
	t.Run("kernel", func(t *testing.T) {
		version, vmlinuz, initramfs, err := ostree.Kernel(t.Context(), tree)
		require.NoError(t, err)
		require.Equal(t, "6.1.0-40-amd64", version)
		require.EqualValues(t, len("kernel"), vmlinuz.Size)
		require.EqualValues(t, len("initrd"), initramfs.Size)
	})
}

func TestArrangedPath(t *testing.T) {
	for path, want := range map[string]string{
		".": ".", "bin": "bin", "bin/sh": "usr/bin/sh", "lib64/ld.so": "usr/lib64/ld.so", "usr/bin/sh": "usr/bin/sh", "etc": "usr/etc", "etc/passwd": "usr/etc/passwd",
		"boot": "boot", "boot/vmlinuz-6.1": "usr/lib/modules/6.1/vmlinuz", "boot/initrd.img-6.1": "usr/lib/modules/6.1/initramfs.img", "boot/config-6.1": "",
		"boot/vmlinuz-": "", "boot/vmlinuz-..": "", "boot/initramfs-6.1.img": "usr/lib/modules/6.1/initramfs.img", "boot/initramfs-6.1kdump.img": "",
		"var/lib/dpkg/status": "usr/lib/sysimage/dpkg/status", "var/lib/rpm/rpmdb.sqlite": "usr/share/rpm/rpmdb.sqlite", "var/log/x": "", "opt/x/y": "", "libx/y": "",
	} {
		got, ok := ostree.ArrangedPath(path)
		require.Equal(t, want, got, path)
		require.Equal(t, want != "", ok, path)
	}
}

func depth(path string) int {
	if path == "." {
		return -1
	}
	return strings.Count(path, "/")
}

func collect(t testing.TB, src ostree.Tree) []ostree.Entry {
	t.Helper()
	var entries []ostree.Entry
	for e, err := range src.Entries(t.Context()) {
		require.NoError(t, err)
		entries = append(entries, e)
	}
	return entries
}

// TestPostprocessDir shows that what is dropped is not looked at.
func TestPostprocessDir(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"usr", "dev", "var/spool", "var/lib/dpkg/info", "boot", "run"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, path), 0o755))
	}
	for _, path := range []string{"dev/p", "var/spool/p", "var/lib/dpkg/p", "var/lib/p", "boot/p", "run/p"} {
		require.NoError(t, unix.Mkfifo(filepath.Join(dir, path), 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "var/lib/dpkg/status"), []byte("status"), 0o600))
	root := opened(t, dir)
	got := lines(t, ostree.Postprocess(ostree.Overlay(ostree.Dir(root), ostree.FS(fstest.MapFS{})), nil))
	require.Contains(t, got, "f usr/lib/sysimage/dpkg/status 0600 "+owner()+` "status"`)
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "usr/p"), 0o600))
	_, err := linesOf(t.Context(), ostree.Postprocess(ostree.Dir(root), nil))
	require.ErrorContains(t, err, "usr/p: named pipe")
}

func TestPostprocessTar(t *testing.T) {
	h := func(name string, typeflag byte, target string) header {
		return header{Header: tar.Header{Name: name, Typeflag: typeflag, Linkname: target}}
	}
	f := func(name, body string) header { return header{Header: tar.Header{Name: name}, body: body} }
	tree := func(headers ...header) ostree.Tree {
		return ostree.Postprocess(ostree.Tar(bytes.NewReader(archive(t, headers...))), nil)
	}
	got := lines(t, tree(
		f("./boot/vmlinuz-1", "kernel"), h("dev/null", tar.TypeChar, ""), h("usr/lib/modules/1/vmlinuz", tar.TypeLink, "boot/vmlinuz-1"),
		f("usr/lib/modules/2/vmlinuz", "two"), h("boot/vmlinuz-2", tar.TypeLink, "./usr/lib/modules/2/vmlinuz"), f("boot/vmlinuz-3", "three"), f("usr/lib/modules/3/vmlinuz", "other three"),
		f("usr/lib/modules/4/vmlinuz", "four"), f("boot/vmlinuz-4", "other four"),
		f("etc/a", "a"), h("etc/b", tar.TypeLink, "etc/a"), h("usr/c", tar.TypeLink, "etc/b"), h("var/lib/dpkg/status", tar.TypeLink, "usr/c"), h("boot/vmlinuz", tar.TypeSymlink, "vmlinuz-1"),
	))
	require.Subset(t, got, []string{
		`f usr/lib/modules/1/vmlinuz 0644 0:0 "kernel"`, `f usr/lib/modules/2/vmlinuz 0644 0:0 "two"`, `f usr/lib/modules/3/vmlinuz 0644 0:0 "other three"`,
		`f usr/lib/modules/4/vmlinuz 0644 0:0 "four"`,
		`f usr/etc/a 0644 0:0 "a"`, `f usr/etc/b 0644 0:0 "a"`, `f usr/c 0644 0:0 "a"`, `f usr/lib/sysimage/dpkg/status 0644 0:0 "a"`,
	})

	for want, headers := range map[string][]header{
		"bin: not a link to usr/bin":                                                       {f("bin/sh", "sh")},
		"lib64: not a link to usr/lib64":                                                   {h("lib64/", tar.TypeDir, "")},
		`sbin: link to "bin"`:                                                              {h("sbin", tar.TypeSymlink, "bin")},
		"opt/app/x: /opt is a link":                                                        {f("opt/app/x", "x")},
		"data/x: an OSTree system has no directory /data":                                  {f("data/x", "x")},
		"the tree has both /etc (etc/a) and /usr/etc (usr/etc/b)":                          {f("usr/etc/b", "b"), f("etc/a", "a")},
		"etc: not a directory":                                                             {f("etc", "a")},
		"hard link to var/x, which is left out":                                            {f("var/x", "x"), h("usr/x", tar.TypeLink, "var/x")},
		"hard link to top, which an OSTree system does not have":                           {f("top", "x"), h("usr/x", tar.TypeLink, "top")},
		"usr/x at byte 0: character device: only directories, regular files and symbolic ": {h("usr/x", tar.TypeChar, "")},
	} {
		_, err := linesOf(t.Context(), tree(headers...))
		require.ErrorContains(t, err, want)
	}
}

func TestLint(t *testing.T) {
	good := func() fstest.MapFS {
		fsys := fstest.MapFS{}
		for e, err := range ostree.Postprocess(ostree.FS(debian()), nil).Entries(t.Context()) {
			require.NoError(t, err)
			switch e.Mode & ostree.ModeType {
			case ostree.ModeDir:
				fsys[e.Path] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
			case ostree.ModeSymlink:
				fsys[e.Path] = &fstest.MapFile{Mode: fs.ModeSymlink, Data: []byte(e.Target)}
			default:
				fsys[e.Path] = &fstest.MapFile{Mode: 0o644, Data: make([]byte, e.Size)}
			}
		}
		return fsys
	}
	require.NoError(t, ostree.Lint(t.Context(), ostree.FS(good())))
	file := &fstest.MapFile{Data: []byte("x"), Mode: 0o644}
	kernel := "usr/lib/modules/6.1.0-40-amd64/"
	for name, test := range map[string]struct {
		change func(fstest.MapFS)
		want   []string
	}{
		"empty top":    {func(m fstest.MapFS) { m["afs"] = &fstest.MapFile{Mode: fs.ModeDir}; m["etc/x"] = file }, []string{"lint etc:"}},
		"no kernel":    {func(m fstest.MapFS) { delete(m, kernel+"vmlinuz") }, []string{"lint usr/lib/modules: no kernel: a commit must have exactly one"}},
		"two kernels":  {func(m fstest.MapFS) { m["usr/lib/modules/5/vmlinuz"] = file }, []string{"2 kernels (5, 6.1.0-40-amd64)", "lint usr/lib/modules/5/initramfs.img: missing"}},
		"no initramfs": {func(m fstest.MapFS) { delete(m, kernel+"initramfs.img") }, []string{"initramfs.img: missing or empty"}},
		"etc":          {func(m fstest.MapFS) { m["etc/x"] = file }, []string{"lint etc: the commit has /etc"}},
		"var":          {func(m fstest.MapFS) { m["var/lib/x"] = file; m["var/y"] = file }, []string{"lint var/lib/x: /var belongs", "lint var/y: /var belongs"}},
		"boot":         {func(m fstest.MapFS) { m["boot/x"] = file }, []string{"lint boot/x: /boot must be empty"}},
		"top":          {func(m fstest.MapFS) { m["data/x"] = file }, []string{"lint data/x: an OSTree system has no /data"}},
		"opt":          {func(m fstest.MapFS) { m["opt"] = &fstest.MapFile{Mode: fs.ModeDir}; m["opt/x"] = file }, []string{"lint opt: /opt must be a link to var/opt"}},
		"bin":          {func(m fstest.MapFS) { m["bin"] = &fstest.MapFile{Mode: fs.ModeDir} }, []string{"lint bin: must be a link to usr/bin"}},
		"ostree":       {func(m fstest.MapFS) { delete(m, "ostree") }, []string{"lint ostree: must be a link to sysroot/ostree"}},
		"sysroot":      {func(m fstest.MapFS) { delete(m, "sysroot") }, []string{"lint sysroot: must be a directory"}},
		"release":      {func(m fstest.MapFS) { delete(m, "usr/lib/os-release") }, []string{"lint usr/lib/os-release: missing"}},
		"long":         {func(m fstest.MapFS) { m["usr/"+strings.Repeat("x", 256)] = file }, []string{"the name has 256 bytes"}},
		"many": {func(m fstest.MapFS) {
			for i := range 1000 {
				m[fmt.Sprintf("var/%d", i)] = file
			}
		}, []string{"and more of this kind"}},
		"several": {func(m fstest.MapFS) { m["etc/x"] = file; m["data/x"] = file; delete(m, kernel+"vmlinuz") }, []string{"lint etc:", "lint data/x:", "no kernel"}},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := good()
			test.change(fsys)
			err := ostree.Lint(t.Context(), ostree.FS(fsys))
			for _, want := range test.want {
				require.ErrorContains(t, err, want)
			}
			require.LessOrEqual(t, strings.Count(err.Error(), "\n"), 12, err)
			require.NotContains(t, err.Error(), "afs")
			var fault *ostree.Error
			require.ErrorAs(t, err, &fault)
		})
	}
	t.Run("mode", func(t *testing.T) {
		err := ostree.Lint(t.Context(), ostree.TreeFunc(func(context.Context) iter.Seq2[ostree.Entry, error] {
			return func(yield func(ostree.Entry, error) bool) {
				_ = yield(ostree.Entry{Path: "usr/dev", Mode: unix.S_IFBLK | 0o600}, nil) &&
					yield(ostree.Entry{Path: "usr/\xff", Mode: ostree.ModeRegular | 0o1000000}, nil) &&
					yield(ostree.Entry{}, errors.New("broken source"))
			}
		}))
		for _, want := range []string{"usr/dev: mode 060600 is that of a block device", `"usr/\xff": the name or link target is not UTF-8`, "unknown bits", "broken source"} {
			require.ErrorContains(t, err, want)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		err := ostree.Lint(t.Context(), ostree.FS(fstest.MapFS{}))
		require.ErrorContains(t, err, "lint usr/etc: must be a directory")
	})
}

func TestKernelFaults(t *testing.T) {
	file := &fstest.MapFile{Data: []byte("x")}
	_, _, _, err := ostree.Kernel(t.Context(), ostree.FS(fstest.MapFS{"usr/lib/modules/1/modules.dep": file}))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, _, _, err = ostree.Kernel(t.Context(), ostree.FS(fstest.MapFS{"usr/lib/modules/1/vmlinuz": file, "usr/lib/modules/2/vmlinuz": file}))
	require.ErrorContains(t, err, "2 kernels, 1, 2")
	version, _, initramfs, err := ostree.Kernel(t.Context(), ostree.Overlay(
		ostree.FS(fstest.MapFS{"usr/lib/modules/1/vmlinuz": file, "usr/lib/modules/2/vmlinuz": file}), ostree.FS(fstest.MapFS{"usr/lib/modules/1": file})))
	require.NoError(t, err)
	require.Equal(t, "2", version)
	require.Zero(t, initramfs.Mode)
}
