package container_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// debian is a small system with dpkg's database; changes gives a change log of
// so many entries, a month apart.
func debian(t testing.TB) map[string]string {
	t.Helper()
	changes := func(name string, n int) string {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, "%s (%d) unstable; urgency=low\n\n  * Change.\n\n -- A <a@example.org>  %s\n\n", name, n-i,
				time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC).AddDate(0, -i, 0).Format(time.RFC1123Z))
		}
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		_, err := w.Write([]byte(text.String()))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return buf.String()
	}
	const db = "usr/lib/sysimage/dpkg/"
	status, files := "", map[string]string{}
	add := func(name, arch, version string, paths ...string) {
		status += fmt.Sprintf("Package: %s\nStatus: install ok installed\nArchitecture: %s\nVersion: %s\n\n", name, arch, version)
		files[db+"info/"+name+".list"] = "/.\n/usr\n" + strings.Join(paths, "\n") + "\n"
		files[db+"info/"+name+".md5sums"] = name
	}
	add("bash", "amd64", "5.2-1", "/bin/bash", "/bin/sh", "/etc/bash.bashrc", "/usr/share/doc/bash/copyright", "/usr/share/doc/bash/changelog.Debian.gz", "/usr/share/doc/bash/gone")
	add("python3", "all", "1:3.11", "/usr/lib/python3/os.py", "/usr/share/doc/python3/copyright")
	add("linux-image", "amd64", "6.1", "/boot/vmlinuz-6.1", "/usr/lib/modules/6.1", "/lib/modules/6.1/kernel/fs.ko")
	add("zz-late", "amd64", "1", "/usr/bin/bash", "/usr/share/zz")
	files[db+"status"] = status
	for path, text := range map[string]string{
		"bin": "->usr/bin", "lib": "->/usr/lib",
		"usr/bin/bash": "bash", "usr/bin/sh": "->bash",
		"usr/etc/bash.bashrc": "rc", "usr/etc/machine": "made here",
		"usr/share/doc/bash/copyright": "GPL", "usr/share/doc/python3/copyright": "GPL",
		"usr/share/doc/bash/changelog.Debian.gz":              changes("bash", 15),
		"usr/lib/python3/os.py":                               "os",
		"usr/lib/python3/__pycache__/os.cpython-311.pyc":      "compiled os",
		"usr/lib/python3/__pycache__/unknown.cpython-311.pyc": "compiled",
		"usr/lib/modules/6.1/vmlinuz":                         "kernel", "usr/lib/modules/6.1/initramfs.img": "initramfs",
		"usr/lib/modules/6.1/modules.dep": "dep", "usr/lib/modules/6.1/kernel/fs.ko": "module",
		"usr/share/zz": "zz",
	} {
		files[path] = text
	}
	return files
}

// byPath gives each path's component.
func byPath(t testing.TB, r *ostree.Repo, c ostree.Checksum, components []container.Component) map[string]string {
	t.Helper()
	of := map[ostree.Checksum]string{}
	for _, k := range components {
		for _, o := range k.Objects {
			require.Empty(t, of[o], "in two components")
			of[o] = k.ID
		}
	}
	out := map[string]string{}
	for e, err := range r.Tree(c).Entries(t.Context()) {
		require.NoError(t, err)
		if e.Mode&ostree.ModeType != ostree.ModeDir {
			require.NotEmpty(t, of[e.Object], e.Path)
			out[e.Path] = of[e.Object]
		}
	}
	return out
}

func TestComponentsOfDpkg(t *testing.T) {
	repo := newRepo(t)
	c := commit(t, repo, debian(t))
	cache := openCache(t, t.TempDir())
	const (
		bash, python, linux, late = "bash-5.2-1.amd64", "python3-1:3.11.all", "linux-image-6.1.amd64", "zz-late-1.amd64"
		info                      = "usr/lib/sysimage/dpkg/info/"
	)
	want := map[string]string{
		"bin": container.ComponentUnpackaged, "lib": container.ComponentUnpackaged, "usr/etc/machine": container.ComponentUnpackaged,
		"usr/bin/bash": bash, "usr/bin/sh": bash, "usr/etc/bash.bashrc": bash, "usr/share/doc/bash/changelog.Debian.gz": bash,
		"usr/share/doc/bash/copyright": container.ComponentShared, "usr/share/doc/python3/copyright": container.ComponentShared,
		"usr/lib/python3/os.py": python, "usr/lib/python3/__pycache__/os.cpython-311.pyc": python,
		"usr/lib/python3/__pycache__/unknown.cpython-311.pyc": container.ComponentUnpackaged,
		"usr/lib/modules/6.1/vmlinuz":                         linux, "usr/lib/modules/6.1/modules.dep": linux, "usr/lib/modules/6.1/kernel/fs.ko": linux,
		"usr/lib/modules/6.1/initramfs.img": container.ComponentInitramfs,
		"usr/share/zz":                      late,
		"usr/lib/sysimage/dpkg/status":      container.ComponentDatabase,
	}
	for name, id := range map[string]string{"bash": bash, "python3": python, "linux-image": linux, "zz-late": late} {
		want[info+name+".list"], want[info+name+".md5sums"] = id, id
	}
	var first []container.Component
	for range 3 { // without cache, cold, warm
		got, err := container.Components(t.Context(), cache, repo, c, nil)
		require.NoError(t, err)
		require.Equal(t, want, byPath(t, repo, c, got))
		i := slices.IndexFunc(got, func(c container.Component) bool { return c.ID == bash })
		require.Equal(t, "bash", got[i].Name)
		require.EqualValues(t, 12, got[i].Frequency, "entries of one year")
		require.Positive(t, got[i].Size)
		if first == nil {
			first, cache = got, openCache(t, t.TempDir())
		}
		require.Equal(t, first, got)
	}
	without, err := container.Components(t.Context(), nil, repo, c, nil)
	require.NoError(t, err)
	for i := range first {
		first[i].Size = 0
	}
	require.Equal(t, first, without)

	// An image made of them has the same files.
	whole, err := list(t, container.Flatten(encapsulate(t, cache, repo, c, nil)))
	require.NoError(t, err)
	split, err := list(t, container.Flatten(encapsulate(t, cache, repo, c, &container.EncapsulateOptions{Components: first})))
	require.NoError(t, err)
	require.Equal(t, whole, split)

	// Change logs are cached by file: only a changed one is read again.
	files := debian(t)
	files["usr/share/doc/zz-late/changelog.gz"] = files["usr/share/doc/bash/changelog.Debian.gz"]
	c = commit(t, repo, files)
	got, err := container.Components(t.Context(), cache, repo, c, nil)
	require.NoError(t, err)
	for _, k := range got {
		if k.ID == late || k.ID == bash {
			require.EqualValues(t, 12, k.Frequency, k.ID)
		}
	}
}

func TestComponentsFaults(t *testing.T) {
	repo := newRepo(t)
	_, err := container.Components(t.Context(), nil, repo, commit(t, repo, sample), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "container: components ")
	_, err = container.Components(t.Context(), nil, repo, ostree.Checksum{1}, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)

	files := debian(t)
	files["usr/lib/sysimage/dpkg/status"] = "no status file at all"
	_, err = container.Components(t.Context(), nil, repo, commit(t, repo, files), nil)
	require.ErrorContains(t, err, "status")

	// Links in a circle, out of the tree and to nothing lead nowhere.
	files = debian(t)
	files["loop"], files["out"], files["a/b"] = "->loop/x", "->../../../usr/bin", "->../loop"
	files["usr/lib/sysimage/dpkg/info/bash.list"] = "/loop/f\n/out/bash\n/a/b/c\n"
	c := commit(t, repo, files)
	got, err := container.Components(t.Context(), nil, repo, c, nil)
	require.NoError(t, err)
	require.Equal(t, "bash-5.2-1.amd64", byPath(t, repo, c, got)["usr/bin/bash"])

	files = debian(t)
	delete(files, "usr/lib/sysimage/dpkg/status")
	files["usr/lib/sysimage/dpkg/Status"] = ""
	files["usr/share/rpm/Packages"] = "Berkeley DB"
	_, err = container.Components(t.Context(), nil, repo, commit(t, repo, files), nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// The owners are those that rpm itself names.
func TestComponentsOfRPM(t *testing.T) {
	interop.Peer(t, "rpm")
	tree := interop.RPMTree(t)
	root, err := os.OpenRoot(tree)
	require.NoError(t, err)
	defer root.Close()
	repo := newRepo(t)
	c, err := repo.Commit(t.Context(), ostree.Dir(root), &ostree.CommitOptions{NoFsync: true})
	require.NoError(t, err)
	cache := openCache(t, t.TempDir())
	got, err := container.Components(t.Context(), cache, repo, c, nil)
	require.NoError(t, err)
	require.Greater(t, len(got), 150)
	paths := byPath(t, repo, c, got)
	owners := map[string][]string{}
	out, err := exec.CommandContext(t.Context(), "rpm", "--root", tree, "--dbpath", "/usr/lib/sysimage/rpm", "-qa", "--qf",
		`[%{=NAME}-%|EPOCH?{%{=EPOCH}:}|%{=VERSION}-%{=RELEASE}.%{=ARCH}\t%{FILENAMES}\n]`).Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		id, path, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		dir, err := filepath.EvalSymlinks(filepath.Join(tree, filepath.Dir(path)))
		if err != nil {
			continue // an excluded file
		}
		dir, err = filepath.Rel(tree, dir)
		require.NoError(t, err)
		owners[filepath.Join(dir, filepath.Base(path))] = append(owners[filepath.Join(dir, filepath.Base(path))], id)
	}
	same, shared := 0, 0
	for path, id := range paths {
		switch {
		case len(owners[path]) == 0:
			require.Contains(t, []string{container.ComponentUnpackaged, container.ComponentDatabase, container.ComponentInitramfs, container.ComponentShared}, id, path)
		case id == container.ComponentShared:
			shared++
		default:
			require.Contains(t, owners[path], id, path)
			same++
		}
	}
	t.Logf("%d files of %d packages, %d with content that others have too", same, len(got), shared)
	require.Greater(t, same, 1000)
	requireRPMFigures(t, tree, repo, c, got)
}

// requireRPMFigures wants the frequencies that follow from rpm's change logs, and
// the sizes that rpm has of files.
func requireRPMFigures(t *testing.T, tree string, repo *ostree.Repo, c ostree.Checksum, got []container.Component) {
	t.Helper()
	query := func(format string) (lines [][]string) {
		out, err := exec.CommandContext(t.Context(), "rpm", "--root", tree, "--dbpath", "/usr/lib/sysimage/rpm", "-qa", "--qf", format).Output()
		require.NoError(t, err)
		for line := range strings.Lines(string(out)) {
			lines = append(lines, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
		}
		return lines
	}
	number := func(text string) int64 {
		n, err := strconv.ParseInt(text, 10, 64)
		require.NoError(t, err)
		return n
	}
	const id = `%{=NAME}-%|EPOCH?{%{=EPOCH}:}|%{=VERSION}-%{=RELEASE}.%{=ARCH}`

	// The year before whatever happened last to any of them.
	changes := map[string][]int64{}
	var newest int64
	for _, f := range query(`[` + id + `\t%{=BUILDTIME}\t%{CHANGELOGTIME}\n]`) {
		newest = max(newest, number(f[1]), number(f[2]))
		changes[f[0]] = append(changes[f[0]], number(f[2]))
	}
	since := time.Unix(newest, 0).UTC().AddDate(-1, 0, 0).Unix()
	sizes := map[string]int64{} // of files as they were packed
	for _, f := range query(`[%{FILENAMES}\t%{FILESIZES}\t%{FILEFLAGS:fflags}\n]`) {
		dir, err := filepath.EvalSymlinks(filepath.Join(tree, filepath.Dir(f[0])))
		if err != nil || strings.ContainsAny(f[2], "cg") {
			continue // an excluded file, or one that scripts made or changed
		}
		dir, err = filepath.Rel(tree, dir)
		require.NoError(t, err)
		sizes[filepath.Join(dir, filepath.Base(f[0]))] = number(f[1])
	}
	object := map[ostree.Checksum]int64{}
	packed := 0
	for e, err := range repo.Tree(c).Entries(t.Context()) {
		require.NoError(t, err)
		if e.Mode&ostree.ModeType != ostree.ModeRegular {
			continue
		}
		object[e.Object] = e.Size
		if size, ok := sizes[e.Path]; ok {
			require.Equal(t, size, e.Size, e.Path)
			packed++
		}
	}
	require.Greater(t, packed, 1000)
	frequent, packages := 0, 0
	for _, k := range got {
		var size int64
		for _, o := range k.Objects {
			size += object[o]
		}
		require.Equal(t, size, k.Size, k.ID)
		if slices.Contains([]string{container.ComponentInitramfs, container.ComponentDatabase, container.ComponentShared, container.ComponentUnpackaged}, k.ID) {
			require.EqualValues(t, container.EveryBuild, k.Frequency, k.ID)
			continue
		}
		var want uint32
		for _, at := range changes[k.ID] {
			if at > since {
				want++
			}
		}
		require.Equal(t, want, k.Frequency, k.ID)
		packages++
		if want > 1 {
			frequent++
		}
	}
	t.Logf("%d packed files, %d of %d packages changed more than once in the year before", packed, frequent, packages)
	require.Greater(t, frequent, 10)
}
