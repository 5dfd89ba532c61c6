package dpkg_test

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
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/dpkg"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/rpmdb"
)

func collect(fsys fs.FS, opts *dpkg.Options) ([]dpkg.Package, error) {
	var list []dpkg.Package
	for p, err := range dpkg.Packages(fsys, opts) {
		if err != nil {
			return list, err
		}
		list = append(list, p)
	}
	return list, nil
}

const statusText = `Package: bash
Essential: yes
Status: install ok installed
Installed-Size: 7164
Architecture: amd64
Version: 5.2.15-2+b7
Source: bash (5.2.15-2)
Conffiles:
 /etc/bash.bashrc 89269e1298235f1b12b4c16e4065ad0d
Description: GNU Bourne Again SHell
 Bash: is
 .
 a shell.

package: libc6
Status: install ok installed
Source: glibc
Architecture: amd64
Multi-Arch: same
Version: 1:2.36-9


Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: never
Status: unknown ok not-installed

Package: native
Status: install ok unpacked
Architecture: all
Version: 3
`

func zipped(text string) *fstest.MapFile {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return &fstest.MapFile{Data: b.Bytes()}
}

func system(dir string) fstest.MapFS {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	return fstest.MapFS{
		dir + "/status":                file(statusText),
		dir + "/info/bash.list":        file("/.\n/bin\n/bin/bash\n/usr/share/man/sh.1\n/\xff\n"),
		dir + "/info/libc6:amd64.list": file("/.\n/lib/libc.so.6\n"),
		dir + "/info/native.list":      file("/usr/share/man/sh.1"),
		dir + "/diversions":            file("/usr/share/man/sh.1\n/usr/share/man/sh.distrib.1\nnative\n"),
		"usr/share/doc/bash/changelog.Debian.gz": zipped(`bash (5.2.15-2) unstable; urgency=medium

  * Change.

 -- A Person <a@example.com>  Tue, 03 Mar 2026 10:00:00 +0100

bash (5.2.15-1) unstable; urgency=medium

  * Change.

 -- A Person <a@example.com>  Monday the first
 -- A Person <a@example.com>  Mon, 2 Mar 2026 10:00:00 +0000
`),
		"usr/share/doc/bash/changelog.Debian.amd64.gz": zipped("bash (5.2.15-2+b7) sid; binary-only=yes\n\n -- B <b@example.com>  Wed, 04 Mar 2026 00:00:00 +0000\n"),
		"usr/share/doc/bash/changelog.gz":              zipped(" -- A Person <a@example.com>  Mon, 2 Mar 1992 10:00:00 +0000\n"),
		"usr/share/doc/native/changelog.gz":            zipped(" -- A Person <a@example.com>  Mon, 2 Mar 2026 10:00:00 +0000\n"),
		"usr/share/doc/libc6/changelog.Debian.gz":      file("not gzip"),
	}
}

func TestPackages(t *testing.T) {
	day := func(d, hour int) time.Time { return time.Date(2026, 3, d, hour, 0, 0, 0, time.UTC) }
	want := []dpkg.Package{{
		Name: "bash", Version: "5.2.15", Release: "2+b7", Arch: "amd64", Source: "bash_5.2.15-2.dsc", Size: 7164 << 10,
		Built: day(4, 0), Changes: []time.Time{day(4, 0), day(3, 9), day(2, 10)},
		Files: []string{".", "usr/bin", "usr/bin/bash", "usr/share/man/sh.distrib.1"},
	}, {
		Name: "libc6", Epoch: "1", Version: "2.36", Release: "9", Arch: "amd64", Source: "glibc_2.36-9.dsc", Files: []string{".", "usr/lib/libc.so.6"},
	}, {
		Name: "native", Version: "3", Arch: "all", Source: "native_3.dsc", Built: day(2, 10), Changes: []time.Time{day(2, 10)}, Files: []string{"usr/share/man/sh.1"},
	}}
	resolve := func(path string) string {
		if top, _, _ := strings.Cut(path, "/"); top == "bin" || top == "lib" {
			return "usr/" + path
		}
		return path
	}
	for _, dir := range dpkg.Dirs {
		got, err := collect(system(dir), &dpkg.Options{Resolve: resolve})
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	got, err := collect(system(dpkg.Dirs[1]), &dpkg.Options{NoChanges: true})
	require.NoError(t, err)
	require.Empty(t, got[0].Changes)
	require.Equal(t, "bin/bash", got[0].Files[2])
	require.Equal(t, "1:2.36-9", got[1].EVR())
	_ = rpmdb.Package(got[0]) // they stay the same
	for range dpkg.Packages(system(dpkg.Dirs[0]), nil) {
		break
	}
}

func TestPackagesFaults(t *testing.T) {
	for name, test := range map[string]struct {
		file, text string
		want       string
		is         error
	}{
		"no field":    {"status", "Package: x\nnonsense\n", `dpkg: var/lib/dpkg/status: line 2: damaged database: "nonsense" is not a field`, nil},
		"no name":     {"status", "\nStatus: install ok installed\n", `status: line 2: damaged database: package name ""`, nil},
		"name":        {"status", "Package: ../x\nStatus: install ok installed\n", `package name "../x"`, nil},
		"no status":   {"status", "Package: x\n", "package x has no status", nil},
		"status":      {"status", "Package: x\nStatus: installed\n", `line 2: damaged database: status "installed", want three words`, nil},
		"no version":  {"status", "Package: x\nStatus: install ok installed\nArchitecture: all\n", "package x has version", nil},
		"size":        {"status", "Package: x\nInstalled-Size: -1\n", `installed size "-1"`, nil},
		"long line":   {"status", "Package: x\nA: " + strings.Repeat("x", 2<<20), "line 2: damaged database: longer than", nil},
		"no list":     {"status", "Package: x\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n", "info/x.list: of the package x", fs.ErrNotExist},
		"list":        {"info/bash.list", "/.\nbin/bash\n", `info/bash.list: line 2: damaged database: path "bin/bash" is not absolute`, nil},
		"diversions":  {"diversions", "/a\n/b\n", "diversions: line 3: damaged database: not three lines", nil},
		"diversions2": {"diversions", "/a\nb\nx\n", "diversions: line 2: damaged database: path", nil},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := system("var/lib/dpkg")
			fsys["var/lib/dpkg/"+test.file] = &fstest.MapFile{Data: []byte(test.text)}
			_, err := collect(fsys, nil)
			require.ErrorContains(t, err, test.want)
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
		})
	}
	_, err := collect(fstest.MapFS{}, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestDpkg compares with dpkg itself on this machine.
func TestDpkg(t *testing.T) {
	interop.Peer(t, "dpkg-query")
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "dpkg-query", args...)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		out, err := cmd.Output()
		require.NoError(t, err, args)
		return string(out)
	}
	list, err := collect(os.DirFS("/"), nil)
	require.NoError(t, err)
	owners := map[string][]string{}
	var got []string
	changes := 0
	for _, p := range list {
		got = append(got, fmt.Sprintf("%s|%s|%s|%d", p.Name, p.EVR(), p.Arch, p.Size>>10))
		for _, file := range p.Files {
			owners[file] = append(owners[file], p.Name)
		}
		changes += len(p.Changes)
	}
	var want []string
	for line := range strings.Lines(run("-W", "-f", "${Package}|${Version}|${Architecture}|${Installed-Size}|${source:Package}_${source:Version}|${db:Status-Status}\n")) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if f[5] == "config-files" || f[5] == "not-installed" {
			continue
		}
		size := f[3]
		if size == "" {
			size = "0"
		}
		want = append(want, strings.Join([]string{f[0], f[1], f[2], size}, "|"))
	}
	require.ElementsMatch(t, want, got)
	t.Logf("%d packages, %d paths, %d changes", len(list), len(owners), changes)

	files := make([]string, 0, len(owners))
	for file := range owners {
		if file != "." && !strings.ContainsAny(file, "*?[\\") {
			files = append(files, file)
		}
	}
	slices.Sort(files)
	args := []string{"-S"}
	asked := map[string]bool{}
	for i := 0; i < len(files); i += 1 + len(files)/400 {
		args = append(args, "/"+files[i])
		asked[files[i]] = true
	}
	said := 0
	for line := range strings.Lines(run(args...)) {
		packages, path, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || strings.HasPrefix(line, "diversion ") || !asked[strings.TrimPrefix(path, "/")] {
			continue
		}
		var want []string
		for name := range strings.SplitSeq(packages, ", ") {
			name, _, _ = strings.Cut(name, ":")
			want = append(want, name)
		}
		said++
		require.ElementsMatch(t, want, owners[strings.TrimPrefix(path, "/")], path)
	}
	require.Greater(t, said, len(asked)*9/10)
}

func ExamplePackages() {
	dir, err := os.MkdirTemp("", "dpkg")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	db := filepath.Join(dir, "var", "lib", "dpkg")
	err = errors.Join(os.MkdirAll(filepath.Join(db, "info"), 0o755),
		os.WriteFile(filepath.Join(db, "status"), []byte("Package: hello\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.10-3\n"), 0o644),
		os.WriteFile(filepath.Join(db, "info", "hello.list"), []byte("/.\n/usr/bin/hello\n"), 0o644))
	if err != nil {
		panic(err)
	}
	for p, err := range dpkg.Packages(os.DirFS(dir), nil) {
		fmt.Println(p.Name, p.EVR(), p.Source, p.Files, err)
	}
	// Output: hello 2.10-3 hello_2.10-3.dsc [. usr/bin/hello] <nil>
}

func ExampleStatus() {
	for p, err := range dpkg.Status(strings.NewReader("Package: hello\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.10-3\n")) {
		fmt.Println(p.Name, p.EVR(), err)
	}
	// Output: hello 2.10-3 <nil>
}

func FuzzDpkgStatus(f *testing.F) {
	f.Add([]byte(statusText))
	f.Add([]byte("Package: x\nStatus: install ok installed\nArchitecture: all\nVersion: 1:2-3\nSource: y (4:5-6)\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzbound.Linear(t, len(data), 64, func() {
			for range dpkg.Status(bytes.NewReader(data)) {
			}
		})
		n := 0
		for p, err := range dpkg.Status(bytes.NewReader(data)) {
			if err != nil {
				return
			}
			n++
			require.NotEmpty(t, p.Name)
			require.NotContains(t, p.Name, "/")
			require.GreaterOrEqual(t, p.Size, int64(0))
		}
		require.LessOrEqual(t, n, len(data))
	})
}
