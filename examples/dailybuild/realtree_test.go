package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish/daily"
)

// arranged is where a file of the two systems of these tests belongs in their
// commits, by CoreOS' conventions: spelt out here, not asked of the library.
func arranged(rel string) (to string, kept bool) {
	top, rest, deep := strings.Cut(rel, "/")
	switch top {
	case ".", "usr", "bin", "sbin", "lib", "lib64":
		return rel, true
	case "etc":
		return "usr/" + rel, true
	case "boot":
		if kernel, ok := strings.CutPrefix(rest, "vmlinuz-"); ok {
			return "usr/lib/modules/" + kernel + "/vmlinuz", true
		}
		if kernel, ok := strings.CutPrefix(rest, "initrd.img-"); ok {
			return "usr/lib/modules/" + kernel + "/initramfs.img", true
		}
		return rel, !deep
	case "var":
		name, _ := strings.CutPrefix(rest, "lib/dpkg/")
		list, inInfo := strings.CutPrefix(name, "info/")
		ext := path.Ext(list)
		if slices.Contains([]string{"status", "arch", "diversions", "statoverride"}, name) || inInfo && (ext == ".list" || ext == ".md5sums" || ext == ".conffiles") {
			return "usr/lib/sysimage/dpkg/" + name, true
		}
		return rel, !deep
	case "dev", "proc", "run", "sys", "tmp":
		return rel, !deep
	}
	return "", false // home and its like become links; vmlinuz and initrd.img are links to /boot
}

// attribute is everything but the content of a file, as ostree ls says it.
type attribute struct {
	kind   string // "d", "-" or "l"
	mode   string // octal
	owner  string
	size   int64
	xattrs string
	target string // of a link
}

// noXattrs is how GLib prints an empty list of them.
const noXattrs = "@a(ayay) []"

// expected is the commit that a source gives: what ostree ls -X is to say of
// each path, and which file of the source has its content.
func expected(t *testing.T, source string) (all map[string]attribute, from map[string]string) {
	t.Helper()
	all, from = map[string]attribute{}, map[string]string{}
	require.NoError(t, filepath.WalkDir(source, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, name)
		if err != nil {
			return err
		}
		to, kept := arranged(rel)
		if !kept {
			return nil
		}
		var stat unix.Stat_t
		if err := unix.Lstat(name, &stat); err != nil {
			return err
		}
		a := attribute{mode: fmt.Sprintf("%05o", stat.Mode&0o7777), owner: fmt.Sprintf("%d:%d", stat.Uid, stat.Gid)}
		if a.xattrs, err = xattrs(name); err != nil {
			return err
		}
		switch stat.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			a.kind = "d"
		case unix.S_IFREG:
			a.kind, a.size = "-", stat.Size
			from[to] = name
			if to == "usr/etc/machine-id" { // each machine makes its own
				a.size = 0
				delete(from, to)
			}
		case unix.S_IFLNK:
			a.kind = "l"
			a.target, err = os.Readlink(name)
		default:
			err = fmt.Errorf("%s is of a kind that no commit has", name)
		}
		all[to] = a
		return err
	}))
	for name, target := range map[string]string{
		"home": "var/home", "media": "run/media", "mnt": "var/mnt", "opt": "var/opt", "ostree": "sysroot/ostree", "root": "var/roothome", "srv": "var/srv",
	} {
		all[name] = attribute{kind: "l", mode: "00777", owner: "0:0", xattrs: noXattrs, target: target}
	}
	made := attribute{kind: "d", mode: "00755", owner: "0:0", xattrs: noXattrs}
	all["sysroot"] = made
	for name := range from {
		for dir := path.Dir(name); all[dir].kind == ""; dir = path.Dir(dir) {
			all[dir] = made
		}
	}
	return all, from
}

// xattrs is the list of a file's extended attributes as GLib prints it where no
// value is text.
func xattrs(name string) (string, error) {
	read := func(get func([]byte) (int, error)) ([]byte, error) {
		buf := make([]byte, 4096)
		n, err := get(buf)
		return buf[:max(n, 0)], err
	}
	list, err := read(func(b []byte) (int, error) { return unix.Llistxattr(name, b) })
	if err != nil {
		return "", fmt.Errorf("attributes of %s: %w", name, err)
	}
	if len(list) == 0 {
		return noXattrs, nil
	}
	var items []string
	for _, attr := range strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		value, err := read(func(b []byte) (int, error) { return unix.Lgetxattr(name, attr, b) })
		if err != nil {
			return "", fmt.Errorf("attribute %s of %s: %w", attr, name, err)
		}
		var text []string
		for _, b := range value {
			text = append(text, fmt.Sprintf("0x%02x", b))
		}
		items = append(items, fmt.Sprintf("(b'%s', [byte %s])", attr, strings.Join(text, ", ")))
	}
	slices.Sort(items)
	return "[" + strings.Join(items, ", ") + "]", nil
}

// listed reads what ostree ls -R -C -X prints, and which object has the content
// of each file.
func listed(t *testing.T, list string) (all map[string]attribute, objects map[string]string) {
	t.Helper()
	all, objects = map[string]attribute{}, map[string]string{}
	// Kind and mode, owner, group, size, checksum (of a directory: two),
	// attributes, path, and the target of a link.
	form := regexp.MustCompile(`^([-dl])([0-7]{5}) (\d+) (\d+) +(\d+) ([0-9a-f]{64})(?: [0-9a-f]{64})? \{ (.*?) \} /(.*)\n$`)
	for line := range strings.Lines(list) {
		m := form.FindStringSubmatch(line)
		require.NotNil(t, m, "not understood: %q", line)
		a := attribute{kind: m[1], mode: m[2], owner: m[3] + ":" + m[4], xattrs: m[7]}
		var err error
		a.size, err = strconv.ParseInt(m[5], 10, 64)
		require.NoError(t, err)
		name := m[8]
		if a.kind == "l" {
			name, a.target, _ = strings.Cut(name, " -> ")
		}
		if name == "" {
			name = "."
		}
		if _, twice := all[name]; twice {
			t.Errorf("ostree lists %q twice", name)
		}
		all[name], objects[name] = a, m[6]
	}
	return all, objects
}

// requireSameTree names each path in which the two differ.
func requireSameTree(t *testing.T, want, got map[string]attribute) {
	t.Helper()
	var differ []string
	for name, a := range want {
		if b, there := got[name]; !there {
			differ = append(differ, fmt.Sprintf("%q is missing", name))
		} else if a != b {
			differ = append(differ, fmt.Sprintf("%q is %+v, should be %+v", name, b, a))
		}
	}
	for name := range got {
		if _, there := want[name]; !there {
			differ = append(differ, fmt.Sprintf("%q should not be there", name))
		}
	}
	slices.Sort(differ)
	require.Empty(t, differ[:min(len(differ), 20)], "%d of %d paths", len(differ), len(want))
}

// checkTree compares each path of the commit, as ostree lists it and checks it
// out, with the source it was made of: kind, mode, owner, size, attributes and
// target by the list, the content by the checkout. That the list and the
// checkout are of the same objects is shown by the checksums of the list; that
// these are the checksums of that content and these attributes, by ostree fsck.
func (s *site) checkTree(t *testing.T, source string, summary *daily.Summary) {
	repo := filepath.Join(s.dir, "state", "repo")
	want, from := expected(t, source)
	got, objects := listed(t, s.command(t, "ostree", "--repo="+repo, "ls", "-R", "-C", "-X", summary.Commit.Ref))
	requireSameTree(t, want, got)
	kernel := "usr/lib/modules/" + summary.Commit.Kernel
	for _, name := range []string{kernel + "/vmlinuz", kernel + "/initramfs.img", "usr/lib/os-release"} {
		require.Contains(t, from, name)
	}

	checkout := filepath.Join(s.dir, "checkout-"+summary.Build)
	// As hard links to the objects, whose owner and attributes are the list's.
	s.command(t, "ostree", "--repo="+repo, "checkout", "-U", "-H", summary.Commit.Ref, checkout)
	var files int64
	seen := 0
	require.NoError(t, filepath.WalkDir(checkout, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(checkout, name)
		if err != nil {
			return err
		}
		seen++
		a, there := want[rel]
		if !there {
			return fmt.Errorf("%q should not be in the checkout", rel)
		}
		if e.IsDir() {
			if a.kind != "d" {
				return fmt.Errorf("%q is a directory", rel)
			}
			return nil
		}
		files++
		if a.kind == "l" {
			target, err := os.Readlink(name)
			if err == nil && target != a.target {
				err = fmt.Errorf("link %q to %q, should be to %q", rel, target, a.target)
			}
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if a.kind != "-" || !info.Mode().IsRegular() || info.Size() != a.size {
			return fmt.Errorf("%q is %v of %d bytes, should be %+v", rel, info.Mode(), info.Size(), a)
		}
		if a.size == 0 { // not a link: ostree makes it anew
			return nil
		}
		object, err := os.Lstat(filepath.Join(repo, "objects", objects[rel][:2], objects[rel][2:]+".file"))
		if err != nil {
			return err
		}
		if !os.SameFile(info, object) {
			return fmt.Errorf("%q is not the object %s", rel, objects[rel])
		}
		return sameContent(name, from[rel])
	}))
	require.Len(t, want, seen, "all of it is in the checkout")
	require.Equal(t, summary.Commit.Files, files)
	if s.packages > 0 {
		owners, err := interop.RPMOwners(t.Context(), checkout)
		require.NoError(t, err)
		names := map[string]bool{}
		for _, of := range owners {
			for _, name := range of {
				names[name] = true
			}
		}
		require.Len(t, names, s.packages, "what rpm reads in the commit's database")
	}
	require.NoError(t, os.RemoveAll(checkout))
}

// sameContent requires that two files have the same bytes.
func sameContent(name, want string) error {
	got, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	source, err := os.ReadFile(want)
	if err == nil && !bytes.Equal(got, source) {
		err = fmt.Errorf("%s has not the content of %s", name, want)
	}
	return err
}
