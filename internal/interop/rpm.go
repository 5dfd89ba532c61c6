package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// RPMKernel is the kernel version of [MakeRPMTree].
const RPMKernel = "6.12.0-55.el10.x86_64"

const (
	// rpmTree names the tree; change the number when the generator changes.
	rpmTree = "rpm-1"
	// rpmSources is how many ordinary source packages there are, with one to
	// five binary packages each, two hundred together.
	rpmSources = 66
	// rpmDatabase is where systems with an image keep the database.
	rpmDatabase = "/usr/share/rpm"
)

// rpmEpoch is the day on which the newest change log entries were written.
var rpmEpoch = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// MakeRPMTree gives a folder with a system of about 200 packages made by
// rpmbuild from generated content and installed with `rpm --root`, the database
// in usr/share/rpm: change logs from one entry to one a week, files in
// directories that several packages share, links, a set-user-ID program, a file
// capability, configuration, ghosts, and a kernel with its initramfs. It needs
// root. Do not change what is in it.
func MakeRPMTree(ctx context.Context) (string, error) {
	return cached(ctx, rpmTree, func(ctx context.Context, dir string) error {
		var all []rpmSource
		all = append(all, rpmSystem()...)
		for i := range rpmSources {
			all = append(all, rpmOrdinary(i, 1))
		}
		rpms, err := buildRPMs(ctx, all)
		defer os.RemoveAll(rpms)
		if err != nil {
			return err
		}
		first, err := filepath.Glob(filepath.Join(rpms, "filesystem-*.rpm"))
		if err != nil {
			return err
		}
		if err := installRPMs(ctx, dir, "-i", first); err != nil {
			return err
		}
		rest, err := filepath.Glob(filepath.Join(rpms, "*.rpm"))
		if err != nil {
			return err
		}
		rest = slices.DeleteFunc(rest, func(file string) bool { return slices.Contains(first, file) })
		return installRPMs(ctx, dir, "-i", rest)
	})
}

// RPMTree is [MakeRPMTree] for a test that is gated like [Peer].
func RPMTree(t testing.TB) string {
	t.Helper()
	Peer(t, "rpm", "rpmbuild")
	dir, err := MakeRPMTree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// RPMOwners asks rpm who owns what in a tree of [MakeRPMTree]: name-version-release.arch
// of the packages of each path. It reads a copy of the database, as rpm
// leaves files beside the one it reads.
func RPMOwners(ctx context.Context, tree string) (map[string][]string, error) {
	work, err := os.MkdirTemp("", "rpmdb-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	if err := run(ctx, "", nil, "cp", filepath.Join(tree, filepath.FromSlash(rpmDatabase), "rpmdb.sqlite"), work); err != nil {
		return nil, err
	}
	out, err := output(ctx, "", nil, "rpm", "--dbpath", work, "--define", "_db_backend sqlite", "-qa", "--qf", `[%{=NVRA}\t%{FILENAMES}\n]`)
	if err != nil {
		return nil, err
	}
	owners := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		nvra, path, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok || path == "" { // a package without files
			continue
		}
		owners[path] = append(owners[path], nvra)
	}
	return owners, nil
}

// rpmDayTwo builds 3 % of the packages with a new release and installs them
// over those in dir, whose files are hard links to the first day's.
func rpmDayTwo(ctx context.Context, dir string, seed uint64) error {
	// rpm writes files anew and renames them, but its database in place.
	database := filepath.Join(dir, filepath.FromSlash(rpmDatabase))
	own := database + ".own"
	if err := run(ctx, "", nil, "cp", "-a", database, own); err != nil {
		return err
	}
	if err := os.RemoveAll(database); err != nil {
		return err
	}
	if err := os.Rename(own, database); err != nil {
		return err
	}
	names := make([]string, rpmSources)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	var changed []rpmSource
	for _, name := range pick(names, seed) {
		var i int
		if _, err := fmt.Sscan(name, &i); err != nil {
			return err
		}
		changed = append(changed, rpmOrdinary(i, 2))
	}
	rpms, err := buildRPMs(ctx, changed)
	defer os.RemoveAll(rpms)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(rpms, "*.rpm"))
	if err != nil {
		return err
	}
	return installRPMs(ctx, dir, "-U", files)
}

// installRPMs installs or upgrades package files into dir.
func installRPMs(ctx context.Context, dir, mode string, files []string) error {
	args := []string{
		"--root", dir, "--dbpath", rpmDatabase, "--define", "_db_backend sqlite", "--define", "_pkgverify_level none",
		mode, "--nodeps", "--noscripts", "--nosignature",
	}
	if err := run(ctx, "", nil, "rpm", append(args, files...)...); err != nil {
		return err
	}
	// The database is closed: these hold nothing, and no image should have them.
	for _, leftover := range []string{".rpm.lock", "rpmdb.sqlite-shm", "rpmdb.sqlite-wal"} {
		err := os.Remove(filepath.Join(dir, filepath.FromSlash(rpmDatabase), leftover))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// buildRPMs builds sources into one temporary folder, which it gives even when
// it fails.
func buildRPMs(ctx context.Context, sources []rpmSource) (string, error) {
	out, err := os.MkdirTemp("", "rpms-")
	if err != nil {
		return "", err
	}
	var group *errgroup.Group
	group, ctx = errgroup.WithContext(ctx)
	group.SetLimit(2)
	for _, source := range sources {
		group.Go(func() error {
			work, err := os.MkdirTemp("", "rpmbuild-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(work)
			return source.build(ctx, work, out)
		})
	}
	return out, group.Wait()
}

// rpmSource is one source package.
type rpmSource struct {
	name, version string
	release       int
	changes       []time.Time // newest first
	packages      []rpmPackage
}

// rpmPackage is one binary package; suffix is empty for the main one.
type rpmPackage struct {
	suffix string
	files  []rpmFile
}

// rpmFile is a line of %files with what it installs.
type rpmFile struct {
	path string
	// directive precedes the path in %files: "%dir", "%config(noreplace)",
	// "%ghost", "%caps(…)", "%doc".
	directive string
	mode      os.FileMode // 0: 0644
	link      string      // a symbolic link
	size      int         // bytes of content
	text      string      // content, instead of generated one
	release   int         // content differs between releases
}

func (s rpmSource) build(ctx context.Context, work, out string) error {
	tree := filepath.Join(work, "tree")
	var spec bytes.Buffer
	fmt.Fprintf(&spec, "Name: %s\nVersion: %s\nRelease: %d.el10\nSummary: Sample %s\nLicense: Apache-2.0\nAutoReqProv: no\n\n%%description\nSample.\n\n", s.name, s.version, s.release, s.name)
	for _, p := range s.packages {
		if p.suffix != "" {
			fmt.Fprintf(&spec, "%%package %s\nSummary: Sample %s\nAutoReqProv: no\n\n%%description %s\nSample.\n\n", p.suffix, p.suffix, p.suffix)
		}
	}
	fmt.Fprintf(&spec, "%%install\ncp -a %s/. %%{buildroot}/\n\n", tree)
	for _, p := range s.packages {
		fmt.Fprintf(&spec, "%%files %s\n", p.suffix)
		for _, f := range p.files {
			if err := f.write(tree, s.name); err != nil {
				return err
			}
			if f.directive == "" && f.link == "" && f.mode != 0 {
				fmt.Fprintf(&spec, "%%attr(%04o,root,root) ", f.mode)
			}
			fmt.Fprintf(&spec, "%s %s\n", f.directive, f.path)
		}
		spec.WriteByte('\n')
	}
	spec.WriteString("%changelog\n")
	for i, at := range s.changes {
		fmt.Fprintf(&spec, "* %s Sample Packager <sample@example.com> - %s-%d\n- Change %d\n\n", at.Format("Mon Jan 02 2006"), s.version, s.release, len(s.changes)-i)
	}
	file := filepath.Join(work, s.name+".spec")
	if err := os.WriteFile(file, spec.Bytes(), 0o644); err != nil {
		return err
	}
	args := []string{"-bb", "--quiet", "--target", "x86_64-linux"}
	for _, define := range []string{
		"_topdir " + work, "_rpmdir " + out, "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm", "_binary_payload w1.gzdio",
		"_build_id_links none", "__os_install_post %{nil}", "debug_package %{nil}", "_buildhost localhost",
		"use_source_date_epoch_as_buildtime 1", "clamp_mtime_to_source_date_epoch 1", "_unpackaged_files_terminate_build 1",
	} {
		args = append(args, "--define", define)
	}
	epoch := fmt.Sprintf("SOURCE_DATE_EPOCH=%d", s.changes[0].Unix())
	return run(ctx, work, []string{epoch, "LC_ALL=C.UTF-8", "TZ=UTC"}, "rpmbuild", append(args, file)...)
}

// write makes the file below tree.
func (f rpmFile) write(tree, source string) error {
	full := filepath.Join(tree, filepath.FromSlash(f.path))
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		return err
	}
	switch {
	case f.directive == "%ghost":
		return os.WriteFile(full, nil, 0o644)
	case f.directive == "%dir":
		return os.MkdirAll(full, 0o755)
	case f.link != "":
		return os.Symlink(f.link, full)
	}
	content := []byte(f.text)
	if f.text == "" {
		content = prose(fmt.Sprintf("%s %s %d", source, f.path, f.release), f.size)
	}
	return os.WriteFile(full, content, 0o644)
}

// prose makes text that compresses about as well as an operating system does.
func prose(seed string, size int) []byte {
	hash := fnv.New64a()
	hash.Write([]byte(seed))
	random := rand.New(rand.NewPCG(hash.Sum64(), 1))
	out := make([]byte, 0, size+16)
	const letters = "etaoinshrdlucmfwypvbgkjqxz012345 \n./_-{}()[]<>=+*&%$#@!?:;,"
	var word [8]byte
	for len(out) < size {
		if random.IntN(4) == 0 && len(out) > 64 { // repeat something
			at := random.IntN(len(out) - 32)
			out = append(out, out[at:at+32]...)
			continue
		}
		bits := random.Uint64()
		for i := range word {
			word[i] = letters[bits>>(8*i)&0xff%uint64(len(letters))]
		}
		out = append(out, word[:]...)
	}
	return out[:size]
}

// rpmSystem are the packages that make a system of the rest.
func rpmSystem() []rpmSource {
	once := []time.Time{rpmEpoch.AddDate(0, -3, 0)}
	var dirs []rpmFile
	for _, dir := range []string{
		"/boot", "/dev", "/etc", "/home", "/proc", "/root", "/run", "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/lib/modules",
		"/usr/lib64", "/usr/libexec", "/usr/share", "/usr/share/doc", "/usr/share/licenses", "/usr/share/locale", "/usr/share/man", "/usr/share/man/man1", "/var", "/var/lib", "/var/log",
	} {
		dirs = append(dirs, rpmFile{path: dir, directive: "%dir"})
	}
	for name, target := range map[string]string{"/bin": "usr/bin", "/sbin": "usr/bin", "/usr/sbin": "bin", "/lib": "usr/lib", "/lib64": "usr/lib64"} {
		dirs = append(dirs, rpmFile{path: name, link: target})
	}
	modules := "/usr/lib/modules/" + RPMKernel
	kernel := []rpmFile{
		{path: modules, directive: "%dir"},
		{path: modules + "/vmlinuz", size: 12 << 20, mode: 0o755},
		{path: modules + "/initramfs.img", size: 30 << 20, mode: 0o600},
		{path: modules + "/config", size: 200 << 10},
		{path: modules + "/System.map", size: 2 << 20, mode: 0o600},
	}
	drivers := []rpmFile{{path: modules + "/kernel", directive: "%dir"}}
	for i := range 1500 {
		drivers = append(drivers, rpmFile{path: fmt.Sprintf("%s/kernel/drivers/d%02d/module%04d.ko.xz", modules, i%40, i), size: 4<<10 + i*13%(20<<10)})
	}
	return []rpmSource{
		{name: "filesystem", version: "3.18", release: 1, changes: once, packages: []rpmPackage{{files: dirs}}},
		{name: "sample-release", version: "10", release: 1, changes: once, packages: []rpmPackage{{files: []rpmFile{
			{path: "/usr/lib/os-release", text: "NAME=\"Sample Linux\"\nID=sample\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=10\nPRETTY_NAME=\"Sample Linux 10\"\nCPE_NAME=\"cpe:/o:sample:sample:10\"\n"},
			{path: "/etc/os-release", link: "../usr/lib/os-release"},
			{path: "/etc/passwd", directive: "%config(noreplace)", text: "root:x:0:0:root:/root:/bin/sh\n"},
			{path: "/etc/group", directive: "%config(noreplace)", text: "root:x:0:\n"},
			{path: "/usr/lib/sysimage/rpm", link: "../../share/rpm"},
		}}}},
		{name: "kernel", version: "6.12.0", release: 55, changes: weekly(52), packages: []rpmPackage{
			{}, {suffix: "core", files: kernel}, {suffix: "modules", files: drivers},
		}},
	}
}

// weekly gives n days, a week apart.
func weekly(n int) []time.Time {
	var days []time.Time
	for i := range n {
		days = append(days, rpmEpoch.AddDate(0, 0, -7*i))
	}
	return days
}

// rpmOrdinary is source package i at a release. Binaries and libraries differ
// between releases, data and documents do not.
func rpmOrdinary(i, release int) rpmSource {
	name := fmt.Sprintf("sample%02d", i)
	random := rand.New(rand.NewPCG(uint64(i), 7))
	s := rpmSource{name: name, version: fmt.Sprintf("%d.%d", 1+i%4, i%7), release: release}
	// From one change in a year to one a week.
	days := []int{365, 182, 91, 30, 14, 7}[i%6]
	for at := 0; at < 365; at += days {
		s.changes = append(s.changes, rpmEpoch.AddDate(0, 0, -at-i%5))
	}
	if release > 1 {
		s.changes = append([]time.Time{rpmEpoch.AddDate(0, 0, 1)}, s.changes...)
	}
	main := rpmPackage{files: []rpmFile{
		{path: "/usr/bin/" + name, size: 20<<10 + random.IntN(400<<10), mode: 0o755, release: release},
		{path: "/usr/bin/" + name + "ctl", link: name},
		{path: "/etc/" + name + ".conf", directive: "%config(noreplace)", size: 200 + random.IntN(2000)},
		{path: "/usr/share/" + name, directive: "%dir"},
		{path: "/usr/share/licenses/" + name, directive: "%dir"},
		{path: "/usr/share/licenses/" + name + "/LICENSE", size: 11 << 10},
		{path: "/usr/share/man/man1/" + name + ".1.gz", size: 1000 + random.IntN(8000)},
	}}
	for f := range 10 + random.IntN(60) {
		main.files = append(main.files, rpmFile{path: fmt.Sprintf("/usr/share/%s/data%03d", name, f), size: 100 + random.IntN(1<<uint(8+random.IntN(8)))})
	}
	switch i {
	case 3:
		main.files = append(main.files, rpmFile{path: "/usr/bin/" + name + "-suid", size: 4000, mode: 0o4755})
	case 4:
		main.files = append(main.files, rpmFile{path: "/usr/bin/" + name + "-net", directive: "%caps(cap_net_raw=ep) %attr(0755,root,root)", size: 4000})
	case 5:
		main.files = append(main.files, rpmFile{path: "/var/log/" + name + ".log", directive: "%ghost"})
	}
	s.packages = append(s.packages, main)
	lib := "/usr/lib64/lib" + name + ".so"
	s.packages = append(s.packages, []rpmPackage{
		{suffix: "libs", files: []rpmFile{{path: lib + ".1.0", size: 50<<10 + random.IntN(900<<10), mode: 0o755, release: release}, {path: lib + ".1", link: filepath.Base(lib) + ".1.0"}}},
		{suffix: "doc", files: []rpmFile{{path: "/usr/share/doc/" + name, directive: "%dir"}, {path: "/usr/share/doc/" + name + "/README", size: 3000}, {path: "/usr/share/doc/" + name + "/NEWS", size: 9000}}},
		{suffix: "langpack", files: []rpmFile{{path: "/usr/share/locale/de/LC_MESSAGES/" + name + ".mo", size: 5000}, {path: "/usr/share/locale/fr/LC_MESSAGES/" + name + ".mo", size: 5000}}},
		{suffix: "plugins", files: []rpmFile{{path: "/usr/lib64/" + name + "/plugin.so", size: 30 << 10, mode: 0o755, release: release}, {path: "/usr/lib64/" + name, directive: "%dir"}}},
	}[:i%5]...)
	return s
}
