package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// DebianSuite is the Debian release of [MakeDebianTree].
const DebianSuite = "bookworm"

// debianPackages are what the tree has beside Debian's minbase: a kernel with
// its initramfs, an init system, and enough to be of an operating system's
// size (more than 30,000 regular files, more than 500 MB).
// debootstrap does not follow alternatives of dependencies: what needs them
// (polkit, container tools) is not here.
var debianPackages = []string{
	"build-essential", "ca-certificates", "chrony", "cmake", "dbus", "e2fsprogs", "git", "iproute2", "iptables", "less", "linux-image-amd64",
	"libboost-dev", "locales", "lvm2", "man-db", "openssh-server", "python3", "python3-yaml", "rsync",
	"sudo", "systemd", "systemd-sysv", "udev", "vim", "xfsprogs", "zstd",
}

// MakeDebianTree gives a folder with a debootstrap'd Debian system, made the
// first time; that needs root, debootstrap and Debian's archive at the address
// in this machine's own apt sources. The folder's name has a hash of the list
// of packages, not of their versions. Do not change what is in it.
func MakeDebianTree(ctx context.Context) (string, error) {
	list := strings.Join(debianPackages, ",")
	sum := sha256.Sum256([]byte(DebianSuite + "\n" + list))
	return cached(ctx, "debian-"+hex.EncodeToString(sum[:6]), func(ctx context.Context, dir string) error {
		mirror, err := aptMirror("/etc/apt", DebianSuite)
		if err != nil {
			return err
		}
		err = run(ctx, "", nil, "debootstrap", "--foreign", "--merged-usr", "--variant=minbase", "--include="+list, DebianSuite, dir, mirror)
		if err != nil {
			return err
		}
		// No fsync per file: the tree is made again if the machine stops.
		unsafe := filepath.Join(dir, "etc", "dpkg", "dpkg.cfg.d", "unsafe-io")
		if err := os.MkdirAll(filepath.Dir(unsafe), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(unsafe, []byte("force-unsafe-io\n"), 0o644); err != nil {
			return err
		}
		err = run(ctx, "", []string{"DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"}, "chroot", dir, "/debootstrap/debootstrap", "--second-stage")
		if err != nil {
			if log, readErr := os.ReadFile(filepath.Join(dir, "debootstrap", "debootstrap.log")); readErr == nil {
				err = fmt.Errorf("%w\ndebootstrap.log:\n%s", err, tail(string(log), 40))
			}
			return err
		}
		for _, leftover := range []string{"proc", "sys"} { // debootstrap leaves them mounted in some containers
			err := run(ctx, "", nil, "sh", "-c", `! mountpoint -q "$1" || umount -l "$1"`, "sh", filepath.Join(dir, leftover))
			if err != nil {
				return err
			}
		}
		debs, err := filepath.Glob(filepath.Join(dir, "var", "cache", "apt", "archives", "*.deb"))
		if err != nil {
			return err
		}
		for _, deb := range append(debs, unsafe) {
			if err := os.Remove(deb); err != nil {
				return err
			}
		}
		// An OSTree commit holds directories, files and links alone.
		devices := filepath.Join(dir, "dev")
		if err := os.RemoveAll(devices); err != nil {
			return err
		}
		return os.Mkdir(devices, 0o755)
	})
}

// DebianTree is [MakeDebianTree] for a test that is gated like [Peer].
func DebianTree(t testing.TB) string {
	t.Helper()
	Peer(t, "debootstrap")
	dir, err := MakeDebianTree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// aptMirror finds the address from which this machine installs suite, in
// sources.list and sources.list.d, one-line and deb822 style.
func aptMirror(etc, suite string) (string, error) {
	files := []string{filepath.Join(etc, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		found, err := filepath.Glob(filepath.Join(etc, "sources.list.d", pattern))
		if err != nil {
			return "", err
		}
		files = append(files, found...)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return "", err
		}
		find := oneLineMirror
		if strings.HasSuffix(file, ".sources") {
			find = stanzaMirror
		}
		if mirror := find(string(text), suite); mirror != "" {
			return mirror, nil
		}
	}
	return "", fmt.Errorf("no archive with suite %s and component main in the sources of apt: %w", suite, fs.ErrNotExist)
}

// oneLineMirror reads lines "deb [options] URI SUITE COMPONENT…".
func oneLineMirror(text, suite string) string {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "deb" {
			continue
		}
		fields = fields[1:]
		if len(fields) > 0 && strings.HasPrefix(fields[0], "[") {
			end := slices.IndexFunc(fields, func(f string) bool { return strings.HasSuffix(f, "]") })
			fields = fields[end+1:]
		}
		if len(fields) > 2 && fields[1] == suite && slices.Contains(fields[2:], "main") {
			return fields[0]
		}
	}
	return ""
}

// stanzaMirror reads deb822 stanzas.
func stanzaMirror(text, suite string) string {
	for stanza := range strings.SplitSeq(text, "\n\n") {
		fields := make(map[string][]string)
		for line := range strings.Lines(stanza) {
			if name, value, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, "#") {
				fields[name] = strings.Fields(value)
			}
		}
		if slices.Contains(fields["Types"], "deb") && slices.Contains(fields["Suites"], suite) &&
			slices.Contains(fields["Components"], "main") && len(fields["URIs"]) > 0 {
			return fields["URIs"][0]
		}
	}
	return ""
}

// debianDayTwo changes 3 % of the packages of the hard-link copy tree.
func debianDayTwo(tree string, seed uint64) error {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	const info = "var/lib/dpkg/info"
	lists, err := fs.Glob(root.FS(), info+"/*.list")
	if err != nil {
		return err
	}
	// A kernel is most of a system by size; its days are not these days.
	lists = slices.DeleteFunc(lists, func(p string) bool { return strings.HasPrefix(path.Base(p), "linux-image-") })
	slices.Sort(lists)
	var changed []string
	for _, list := range pick(lists, seed) {
		text, err := root.ReadFile(list)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			name := strings.TrimPrefix(strings.TrimSpace(line), "/")
			if name == "" || name == "." {
				continue
			}
			if err := rewrite(root, name); err != nil {
				return err
			}
		}
		pkg, _, _ := strings.Cut(strings.TrimSuffix(path.Base(list), ".list"), ":")
		changed = append(changed, pkg)
	}
	return replaceFile(root, "var/lib/dpkg/status", func(status []byte) []byte { return bumpVersions(status, changed) })
}

// bumpVersions appends +day2 to the versions of packages in a dpkg status file.
func bumpVersions(status []byte, packages []string) []byte {
	stanzas := bytes.Split(status, []byte("\n\n"))
	for i, stanza := range stanzas {
		first, _, _ := bytes.Cut(stanza, []byte("\n"))
		if !slices.Contains(packages, strings.TrimPrefix(string(first), "Package: ")) {
			continue
		}
		lines := bytes.Split(stanza, []byte("\n"))
		for j, line := range lines {
			if bytes.HasPrefix(line, []byte("Version: ")) {
				lines[j] = append(bytes.Clone(line), "+day2"...)
			}
		}
		stanzas[i] = bytes.Join(lines, []byte("\n"))
	}
	return bytes.Join(stanzas, []byte("\n\n"))
}
