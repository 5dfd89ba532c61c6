package rpmdb_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/rpmdb"
)

// collect gives all packages that fsys lists.
func collect(fsys fs.FS) ([]rpmdb.Package, error) {
	var list []rpmdb.Package
	for p, err := range rpmdb.Packages(fsys) {
		if err != nil {
			return list, err
		}
		list = append(list, p)
	}
	return list, nil
}

// field is one tag of a header that a test makes.
type field struct {
	tag, kind uint32
	data      any // string, []string, []byte, []int32, []int64
}

func header(fields ...field) []byte {
	var index, data bytes.Buffer
	for _, f := range fields {
		align := map[uint32]int{4: 4, 5: 8}[f.kind]
		for align > 0 && data.Len()%align != 0 {
			data.WriteByte(0)
		}
		offset, count := data.Len(), 1
		switch v := f.data.(type) {
		case string:
			data.WriteString(v + "\x00")
		case []string:
			count = len(v)
			data.WriteString(strings.Join(v, "\x00") + "\x00")
		case []byte:
			count = len(v)
			data.Write(v)
		case []int32:
			count = len(v)
			_ = binary.Write(&data, binary.BigEndian, v)
		case []int64:
			count = len(v)
			_ = binary.Write(&data, binary.BigEndian, v)
		}
		_ = binary.Write(&index, binary.BigEndian, []uint32{f.tag, f.kind, uint32(offset), uint32(count)})
	}
	var b bytes.Buffer
	_ = binary.Write(&b, binary.BigEndian, []uint32{uint32(len(fields)), uint32(data.Len())})
	b.Write(index.Bytes())
	b.Write(data.Bytes())
	return b.Bytes()
}

var full = []field{
	{1000, 6, "bash"}, {1001, 6, "5.3.0"}, {1002, 6, "2.fc43"}, {1003, 4, []int32{2}}, {1006, 4, []int32{1753299195}}, {1009, 4, []int32{1000}},
	{1022, 6, "x86_64"}, {1044, 6, "bash-5.3.0-2.fc43.src.rpm"}, {1080, 4, []int32{1753228800, 1700000000}},
	{1116, 4, []int32{0, 1, 1, 2}}, {1117, 8, []string{"bashrc", "bash", "sh", ""}}, {1118, 8, []string{"/etc/", "/usr/bin/", "/"}},
	{1029, 1, []byte{0, 3, 1, 0}}, {5009, 5, []int64{5000000000}}, {62, 7, []byte{1, 2, 3}},
}

func TestParseHeader(t *testing.T) {
	got, err := rpmdb.ParseHeader(header(full...))
	require.NoError(t, err)
	at := func(s int64) time.Time { return time.Unix(s, 0).UTC() }
	require.Equal(t, rpmdb.Package{
		Name: "bash", Epoch: "2", Version: "5.3.0", Release: "2.fc43", Arch: "x86_64", Source: "bash-5.3.0-2.fc43.src.rpm", Size: 5000000000,
		Built: at(1753299195), Changes: []time.Time{at(1753228800), at(1700000000)},
		Files: []string{"etc/bashrc", "usr/bin/bash", "."}, // sh was replaced by another package's
	}, got)
	require.Equal(t, "2:5.3.0-2.fc43", got.EVR())

	got, err = rpmdb.ParseHeader(header(append(slices.Clone(full), field{1118, 8, []string{"/moved/", "/usr/bin/", "/"}})...))
	require.NoError(t, err)
	require.Equal(t, "moved/bashrc", got.Files[0], "what comes later counts")

	got, err = rpmdb.ParseHeader(header(field{1000, 6, "gpg-pubkey"}, field{1001, 6, "1"}))
	require.NoError(t, err)
	require.Equal(t, rpmdb.Package{Name: "gpg-pubkey", Version: "1", Files: []string{}}, got)
	require.Equal(t, "1", got.EVR())

	got, err = rpmdb.ParseHeader(header(field{1000, 6, "old"}, field{1001, 6, "1"}, field{1027, 8, []string{"/bin/old", "/etc//../x", "/\xff"}}))
	require.NoError(t, err)
	require.Equal(t, []string{"bin/old", "x"}, got.Files)
}

func TestParseHeaderFaults(t *testing.T) {
	base := []field{{1000, 6, "x"}, {1001, 6, "1"}}
	for want, blob := range map[string][]byte{
		"3 bytes":                          {1, 2, 3},
		"4294967295 tags":                  bytes.Repeat([]byte{0xff}, 16),
		"no name or version":               header(),
		"tag 1000 has type 4, not strings": header(field{1000, 4, []int32{1}}),
		"tag 1003 has type 6, not numbers": header(append(base[:2:2], field{1003, 6, "1"})...),
		"1 names in 0 directories":         header(append(base[:2:2], field{1117, 8, []string{"a"}})...),
		`in directory 7 of 1`:              header(append(base[:2:2], field{1117, 8, []string{"a"}}, field{1116, 4, []int32{7}}, field{1118, 8, []string{"/"}})...),
		`path "etc/a" is not absolute`:     header(append(base[:2:2], field{1117, 8, []string{"a"}}, field{1116, 4, []int32{0}}, field{1118, 8, []string{"etc/"}})...),
		"1 names with 2 states":            header(append(base[:2:2], field{1117, 8, []string{"a"}}, field{1116, 4, []int32{0}}, field{1118, 8, []string{"/"}}, field{1029, 1, []byte{0, 0}})...),
		"no end of a string":               append(header(base...)[:len(header(base...))-1], 'x'),
		"values at":                        func() []byte { b := header(base...); b[16+7] = 200; return b }(),
	} {
		_, err := rpmdb.ParseHeader(blob)
		require.ErrorContains(t, err, want)
	}
	// A small header that claims gigabytes of paths.
	n := 10000
	names := strings.Split(strings.Repeat("a,", n-1)+"a", ",")
	_, err := rpmdb.ParseHeader(header(append(base[:2:2], field{1117, 8, names}, field{1116, 4, make([]int32, n)}, field{1118, 8, []string{"/" + strings.Repeat("d", 4000) + "/"}})...))
	require.ErrorContains(t, err, "bytes of paths")
	_, err = rpmdb.ParseHeader(header(append(base[:2:2], field{1117, 8, []string{"a"}}, field{1116, 4, []int32{0}}, field{1118, 8, []string{"/" + strings.Repeat("d", 5000)}})...))
	require.ErrorContains(t, err, "of 5002 bytes")
	// Names and directories' numbers that are the same zeros, of paths that are not clean.
	zeros := header(append(base[:2:2], field{1116, 1, make([]byte, 9000)}, field{1118, 8, []string{"/." + strings.Repeat("/d", 1800) + "/"}},
		field{1117, 8, []byte{}})...)
	copy(zeros[8+4*16+8:], zeros[8+2*16+8:][:8]) // where the tag's data is, and how many values
	_, err = fuzzbound.Parse(t, pathFactor, rpmdb.ParseHeader, zeros)
	require.ErrorContains(t, err, "bytes of paths")
}

// unzipped gives a file of testdata (see testdata/README).
func unzipped(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".gz"))
	require.NoError(t, err)
	defer f.Close()
	r, err := gzip.NewReader(f)
	require.NoError(t, err)
	data, err := io.ReadAll(r)
	require.NoError(t, err)
	return data
}

func TestPackages(t *testing.T) {
	db := &fstest.MapFile{Data: unzipped(t, "many.sqlite")}
	list, err := collect(fstest.MapFS{"var/lib/rpm/rpmdb.sqlite": db})
	require.NoError(t, err)
	require.Len(t, list, 300) // more than one level, some on overflow pages
	for i, p := range list {
		require.Equal(t, fmt.Sprintf("pkg%d", i+1), p.Name)
		require.Len(t, p.Files, i)
	}

	// The log changes one package, removes one and adds one; an unfinished
	// transaction at its end does not count.
	wal := unzipped(t, "many.sqlite-wal")
	check := func(wal []byte) {
		t.Helper()
		list, err := collect(fstest.MapFS{"usr/share/rpm/rpmdb.sqlite": db, "usr/share/rpm/rpmdb.sqlite-wal": &fstest.MapFile{Data: wal}})
		require.NoError(t, err)
		require.Len(t, list, 300)
		require.Equal(t, "pkg2", list[0].Name)
		require.Equal(t, "changed", list[98].Name)
		require.Equal(t, "added", list[299].Name)
	}
	check(wal)
	check(append(bytes.Clone(wal), wal[32:]...)) // frames of an earlier round
	list, err = collect(fstest.MapFS{"usr/share/rpm/rpmdb.sqlite": db, "usr/share/rpm/rpmdb.sqlite-wal": &fstest.MapFile{Data: wal[:len(wal)-1]}})
	require.NoError(t, err)
	require.Equal(t, "pkg1", list[0].Name, "the transaction is not complete")
	wal[len(wal)-1] ^= 1
	list, err = collect(fstest.MapFS{"usr/share/rpm/rpmdb.sqlite": db, "usr/share/rpm/rpmdb.sqlite-wal": &fstest.MapFile{Data: wal}})
	require.NoError(t, err)
	require.Equal(t, "pkg1", list[0].Name, "the transaction is damaged")
}

// TestCycle reads a table whose root has itself a hundred times as child.
func TestCycle(t *testing.T) {
	db := unzipped(t, "small.sqlite")
	page := db[512:1024] // the root of Packages
	clear(page)
	page[0], page[4] = 5, 100
	binary.BigEndian.PutUint32(page[8:], 2)
	for i := range 100 {
		binary.BigEndian.PutUint16(page[12+2*i:], 500)
	}
	binary.BigEndian.PutUint32(page[500:], 2)
	_, err := collect(fstest.MapFS{"usr/share/rpm/rpmdb.sqlite": &fstest.MapFile{Data: db}})
	require.ErrorContains(t, err, "a page in two places")
}

// writeLog makes a log of one transaction, after which the database claims so many pages.
func writeLog(claimed uint32, numbers []uint32, pages [][]byte) []byte {
	var s0, s1 uint32
	sum := func(data []byte) {
		for ; len(data) > 0; data = data[8:] {
			s0 += binary.BigEndian.Uint32(data) + s1
			s1 += binary.BigEndian.Uint32(data[4:]) + s0
		}
	}
	numbersOf := func(log []byte, list ...uint32) []byte {
		for _, n := range list {
			log = binary.BigEndian.AppendUint32(log, n)
		}
		return log
	}
	log := numbersOf(nil, 0x377f0683, 3007000, uint32(len(pages[0])), 0, 1, 2)
	sum(log)
	log = numbersOf(log, s0, s1)
	for i, page := range pages {
		frame := numbersOf(nil, numbers[i], claimed)
		sum(frame)
		sum(page)
		log = append(numbersOf(append(log, frame...), 1, 2, s0, s1), page...)
	}
	return log
}

// TestLogClaims reads a log that claims 2^32 pages, a few of which are found 100^17 times.
func TestLogClaims(t *testing.T) {
	var numbers []uint32
	var pages [][]byte
	for i := range 18 {
		page := make([]byte, 512)
		page[0], page[4] = 5, 100
		for c := range 100 {
			binary.BigEndian.PutUint16(page[12+2*c:], 500)
		}
		for _, at := range []int{8, 500} {
			binary.BigEndian.PutUint32(page[at:], uint32(1001+i))
		}
		number := uint32(1000 + i)
		switch i {
		case 0:
			number = 2 // the root of Packages
		case 17:
			page[0], page[4] = 13, 0
		}
		numbers, pages = append(numbers, number), append(pages, page)
	}
	_, err := collect(fstest.MapFS{
		"usr/share/rpm/rpmdb.sqlite": {Data: unzipped(t, "small.sqlite")}, "usr/share/rpm/rpmdb.sqlite-wal": {Data: writeLog(1<<32-1, numbers, pages)},
	})
	require.ErrorContains(t, err, "a page in two places")
}

// A page has room for more pointers than for packages: each cell counts once.
func TestOverlap(t *testing.T) {
	db := unzipped(t, "small.sqlite")
	page := db[512:1024] // the root of Packages
	clear(page)
	blob := header(field{1000, 6, "x"}, field{1001, 6, "1"}, field{1027, 8, []string{"/a", "/b"}})
	size := 12 + 2*len(blob)
	record := append([]byte{4, 0, byte(size>>7) | 0x80, byte(size) & 0x7f}, blob...)
	require.Less(t, len(record), 128)
	page[0] = 13
	copy(page[300:], append([]byte{byte(len(record)), 1}, record...))
	for i := range 100 {
		page[4] = byte(i + 1)
		binary.BigEndian.PutUint16(page[8+2*i:], 300)
		list, err := collect(fstest.MapFS{"usr/share/rpm/rpmdb.sqlite": &fstest.MapFile{Data: db}})
		if (i+1)*len(record) <= 512 {
			require.NoError(t, err)
			require.Len(t, list, i+1)
			require.Equal(t, []string{"a", "b"}, list[i].Files)
		} else {
			require.ErrorContains(t, err, "cells overlap")
		}
	}
}

func TestPackagesFaults(t *testing.T) {
	db := unzipped(t, "many.sqlite")
	for name, test := range map[string]struct {
		fsys fstest.MapFS
		want string
		is   error
	}{
		"none":      {fstest.MapFS{}, "no rpmdb.sqlite in", fs.ErrNotExist},
		"bdb":       {fstest.MapFS{"var/lib/rpm/Packages": {}}, "var/lib/rpm/Packages: only the SQLite format", errors.ErrUnsupported},
		"ndb":       {fstest.MapFS{"usr/lib/sysimage/rpm/Packages.db": {}}, "Packages.db: only the SQLite format", errors.ErrUnsupported},
		"empty":     {fstest.MapFS{"var/lib/rpm/rpmdb.sqlite": {}}, "rpmdb: var/lib/rpm/rpmdb.sqlite: damaged database: header", io.ErrUnexpectedEOF},
		"other":     {fstest.MapFS{"var/lib/rpm/rpmdb.sqlite": {Data: make([]byte, 1000)}}, "not an SQLite file", nil},
		"directory": {fstest.MapFS{"var/lib/rpm/rpmdb.sqlite": {Mode: fs.ModeDir}}, "not a regular file", fs.ErrInvalid},
		"cut":       {fstest.MapFS{"var/lib/rpm/rpmdb.sqlite": {Data: db[:len(db)/2]}}, "damaged database: page", nil},
		"log":       {fstest.MapFS{"var/lib/rpm/rpmdb.sqlite": {Data: db}, "var/lib/rpm/rpmdb.sqlite-wal": {Data: make([]byte, 100)}}, "not a write-ahead log", nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := collect(test.fsys)
			require.ErrorContains(t, err, test.want)
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
		})
	}
}

// TestShared reads the database of a real system and, where rpm is there,
// compares with what it says.
func TestShared(t *testing.T) {
	path := interop.SharedData(t, "rpm", "rpmdb.sqlite")
	var got, files []string
	for p, err := range rpmdb.Packages(os.DirFS(shadow(t, path))) {
		require.NoError(t, err)
		got = append(got, fmt.Sprintf("%s|%s|%s|%s|%d|%d", p.Name, p.EVR(), p.Arch, p.Source, p.Size, p.Built.Unix()))
		files = append(files, p.Files...)
	}
	require.Equal(t, []string{
		"hummingbird-gpg-keys|20251124-1.8.hum1|noarch|hummingbird-release-20251124-1.8.hum1.src.rpm|0|1770219203",
		"hummingbird-repos|20251124-1.8.hum1|noarch|hummingbird-release-20251124-1.8.hum1.src.rpm|558|1770219203",
		"hummingbird-release|20251124-1.8.hum1|noarch|hummingbird-release-20251124-1.8.hum1.src.rpm|20224|1770219203",
		"setup|2.15.0-28.hum1|noarch|setup-2.15.0-28.hum1.src.rpm|742318|1769728220",
		"filesystem|3.18-52.hum1|x86_64|filesystem-3.18-52.hum1.src.rpm|112|1770393871",
	}, got)
	require.Len(t, files, 17368)

	interop.Peer(t, "rpm")
	out, err := exec.CommandContext(t.Context(), "rpm", "--root", shadow(t, path), "--dbpath", "/usr/lib/sysimage/rpm", "--define", "_db_backend sqlite", "-qa", "--qf", "[%{FILENAMES} %{FILESTATES}\n]").Output()
	require.NoError(t, err)
	var want []string
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutSuffix(line, " 0\n"); ok { // two were not installed
			want = append(want, cmp.Or(strings.Trim(name, "/"), "."))
		}
	}
	require.True(t, slices.Equal(want, files), "%d files, want %d", len(files), len(want))
}

// shadow copies a database into a root of its own: rpm wants to write.
func shadow(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "usr/lib/sysimage/rpm"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "usr/lib/sysimage/rpm/rpmdb.sqlite"), data, 0o644))
	return root
}

// TestRPM compares with rpm itself on a system that rpm installed.
func TestRPM(t *testing.T) {
	interop.Peer(t, "rpm", "rpmbuild")
	top := t.TempDir()
	root := filepath.Join(top, "root")
	require.NoError(t, os.Mkdir(root, 0o755))
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
		require.NoError(t, err, "%s %v: %s", name, args, out)
		return string(out)
	}
	for i := range 8 {
		spec := fmt.Sprintf(`Name: pkg%d
Version: 1.%d
Release: 3
Summary: test
License: none
BuildArch: noarch
%s
%%description
test
%%install
mkdir -p %%{buildroot}/usr/share/pkg%d %%{buildroot}/usr/share/doc/pkg%d %%{buildroot}/usr/share/shared %%{buildroot}/etc
for i in $(seq 1 %d); do echo $i > %%{buildroot}/usr/share/pkg%d/file-with-a-long-name-$i; done
echo doc > %%{buildroot}/usr/share/doc/pkg%d/README
ln -s README %%{buildroot}/usr/share/doc/pkg%d/link
echo conf > %%{buildroot}/etc/pkg%d.conf
%%files
%%dir /usr/share/shared
/usr/share/pkg%d
%%doc /usr/share/doc/pkg%d
%%config /etc/pkg%d.conf
%%ghost /var/log/pkg%d.log
%%changelog
* Tue Mar 03 2026 Tester <t@example.com> - 1-2
- two
* Mon Mar 02 2026 Tester <t@example.com> - 1-1
- one
`, i, i, map[bool]string{true: "Epoch: 4"}[i%3 == 0], i, i, 1+i*i*7, i, i, i, i, i, i, i, i)
		path := filepath.Join(top, fmt.Sprintf("pkg%d.spec", i))
		require.NoError(t, os.WriteFile(path, []byte(spec), 0o644))
		run("rpmbuild", "-bb", "--quiet", "--define", "_topdir "+top, "--define", "_build_id_links none", path)
	}
	rpms, err := filepath.Glob(filepath.Join(top, "RPMS", "noarch", "*.rpm"))
	require.NoError(t, err)
	require.Len(t, rpms, 8)
	common := []string{"--root", root, "--define", "_db_backend sqlite", "--dbpath", "/usr/share/rpm"}
	run("rpm", append(slices.Concat(common, []string{"-i", "--nodeps", "--noscripts"}), rpms[:6]...)...)
	run("rpm", append(slices.Concat(common, []string{"-i", "--nodeps", "--noscripts", "--excludedocs"}), rpms[6:]...)...)
	run("rpm", slices.Concat(common, []string{"-e", "--nodeps", "pkg3"})...)

	list, err := collect(os.DirFS(root))
	require.NoError(t, err)
	var all []string
	owners := map[string][]string{}
	for _, p := range list {
		all = append(all, fmt.Sprintf("%s|%s|%s|%s|%s|%d|%d|%d %d", p.Name, p.EVR(), p.Arch, p.Source, p.Epoch, p.Size, p.Built.Unix(), p.Changes[0].Unix(), p.Changes[1].Unix()))
		for _, f := range p.Files {
			owners[f] = append(owners[f], p.Name)
		}
	}
	want := run("rpm", slices.Concat(common, []string{"-qa", "--qf", "%{NAME}|%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}|%{ARCH}|%{SOURCERPM}|%|EPOCH?{%{EPOCH}}||%{SIZE}|%{BUILDTIME}|[%{CHANGELOGTIME} ]\n"})...)
	require.ElementsMatch(t, strings.Split(strings.ReplaceAll(strings.TrimSpace(want), " \n", "\n"), "\n"), all)

	var paths []string
	for path := range strings.FieldsSeq(run("rpm", slices.Concat(common, []string{"-qal"})...)) {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	paths = slices.Compact(paths)
	require.Greater(t, len(paths), 500)
	for i, path := range paths {
		if i%29 != 0 && !strings.Contains(path, "doc") && path != "/usr/share/shared" {
			continue // one rpm call each
		}
		out, _ := exec.CommandContext(t.Context(), "rpm", slices.Concat(common, []string{"-qf", "--qf", "%{NAME}\n", path})...).Output()
		var want []string
		for line := range strings.FieldsSeq(string(out)) {
			if strings.HasPrefix(line, "pkg") {
				want = append(want, line)
			}
		}
		require.ElementsMatch(t, want, owners[strings.TrimPrefix(path, "/")], path)
	}
}

// TestRPMTree finds the owners that rpm finds, of every path of a system of 200
// packages.
func TestRPMTree(t *testing.T) {
	interop.Peer(t, "rpm", "rpmbuild")
	tree := interop.RPMTree(t)
	want, err := interop.RPMOwners(t.Context(), tree)
	require.NoError(t, err)
	list, err := collect(os.DirFS(tree))
	require.NoError(t, err)
	got := map[string][]string{}
	for _, p := range list {
		for _, file := range p.Files {
			got["/"+file] = append(got["/"+file], fmt.Sprintf("%s-%s-%s.%s", p.Name, p.Version, p.Release, p.Arch))
		}
		require.NotEmpty(t, p.Changes, p.Name)
	}
	t.Logf("%d packages, %d paths", len(list), len(got))
	require.Len(t, got, len(want))
	for path, owners := range want {
		require.ElementsMatch(t, owners, got[path], path)
	}
}

func ExamplePackages() {
	// The root of a system, for example os.DirFS("/mnt/root").
	var system fs.FS = fstest.MapFS{}
	for p, err := range rpmdb.Packages(system) {
		if err != nil {
			fmt.Println(errors.Is(err, fs.ErrNotExist), err)
			return
		}
		fmt.Println(p.Name, p.EVR(), len(p.Files))
	}
	// Output: true rpmdb: no rpmdb.sqlite in [usr/share/rpm usr/lib/sysimage/rpm var/lib/rpm]: file does not exist
}

// pathFactor: paths have a thousand bytes for each of the header, have room for a
// quarter more, and one that is not clean is made three times.
const pathFactor = 5000

func FuzzHeader(f *testing.F) {
	f.Add(header(full...))
	f.Add(header(field{1000, 6, "old"}, field{1001, 6, "1"}, field{1027, 8, []string{"/bin/old", "/etc//../x", "/\xff"}}))
	f.Add(header(field{1000, 6, "x"}, field{1001, 6, "1"}, field{1116, 1, make([]byte, 1000)},
		field{1117, 8, strings.Split(strings.Repeat("a,", 1000), ",")[:1000]}, field{1118, 8, []string{strings.Repeat("/d", 2000) + "/"}}))
	f.Fuzz(func(t *testing.T, blob []byte) {
		p, err := fuzzbound.Parse(t, pathFactor, rpmdb.ParseHeader, blob)
		if err != nil {
			return
		}
		for _, file := range p.Files {
			require.True(t, fs.ValidPath(file), "%q", file)
		}
		require.LessOrEqual(t, len(p.Files), len(blob))
	})
}

func FuzzRPMDB(f *testing.F) {
	small, wal := unzipped(f, "small.sqlite"), unzipped(f, "small.sqlite-wal")
	f.Add(small, []byte(nil))
	f.Add(small, wal)
	f.Fuzz(func(t *testing.T, db, wal []byte) {
		n := 0
		fuzzbound.Linear(t, len(db)+len(wal), pathFactor, func() {
			for range rpmdb.Read(bytes.NewReader(db), int64(len(db)), bytes.NewReader(wal), int64(len(wal))) {
				n++
			}
		})
		require.LessOrEqual(t, n, len(db)+len(wal)+1)
	})
}

func BenchmarkRead(b *testing.B) {
	db := unzipped(b, "many.sqlite")
	b.SetBytes(int64(len(db)))
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range rpmdb.Read(bytes.NewReader(db), int64(len(db)), nil, 0) {
			require.NoError(b, err)
		}
	}
}
