package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxFaults is how many faults of one kind [Lint] names one by one.
const maxFaults = 10

// Lint reports what keeps the tree src from being an operating system that
// libostree deploys and rpm-ostree or bootc update: all faults joined, each an
// *[Error] that names the path and says what to do; at most ten of a kind one
// by one. Nil: none. It reads no content. An error of src itself ends it and
// is joined last.
//
//   - Exactly one kernel, usr/lib/modules/KVER/vmlinuz, and its initramfs.img.
//   - usr/etc, and no etc.
//   - usr/lib/os-release.
//   - The directories boot, dev, proc, run, sys, sysroot, usr, usr/etc, var and
//     the link ostree to sysroot/ostree; tmp a directory or link. They, but
//     for usr, hold nothing but empty directories.
//   - bin, sbin, lib and lib* are links into usr, home, media, mnt, opt, root
//     and srv links, or not there; there is no file elsewhere at the top level.
//   - Names and link targets are UTF-8, names at most 255 bytes, modes have a
//     type and the 07777 bits only.
//
// [Postprocess] brings a distribution's tree into this form.
func Lint(ctx context.Context, src Tree) error {
	l := &lint{names: make(map[string]lintEntry), counts: make(map[string]int)}
	var broken error
	for e, err := range src.Entries(ctx) {
		if err != nil {
			broken = err
			break
		}
		l.entry(e)
	}
	if broken == nil {
		l.end()
	}
	return errors.Join(append(l.faults, broken)...)
}

// lintEntry is what lint remembers of a path that matters.
type lintEntry struct {
	kind   uint32
	target string
	size   int64
}

// lint remembers the paths that its rules are about, for a path may come again
// as something else.
type lint struct {
	names  map[string]lintEntry
	faults []error
	counts map[string]int
}

func (l *lint) fault(rule, path, format string, args ...any) {
	l.counts[rule]++
	switch n := l.counts[rule]; {
	case n <= maxFaults:
		l.faults = append(l.faults, &Error{"lint", quoted(path), fmt.Errorf(format, args...)})
	case n == maxFaults+1:
		l.faults = append(l.faults, &Error{"lint", quoted(path), errors.New("and more of this kind")})
	}
}

func (l *lint) entry(e Entry) {
	kind := e.Mode & ModeType
	switch {
	case kind != ModeDir && kind != ModeRegular && kind != ModeSymlink:
		l.fault("kind", e.Path, "mode %#o is that of a %s: only directories, regular files and symbolic links can be stored", e.Mode, specialKind(e.Mode))
	case e.Mode&^(ModeType|0o7777) != 0:
		l.fault("mode", e.Path, "mode %#o has unknown bits", e.Mode)
	}
	if !utf8.ValidString(e.Path) || !utf8.ValidString(e.Target) {
		l.fault("utf8", e.Path, "the name or link target is %w", errNotUTF8)
	}
	if name := path.Base(e.Path); len(name) > 255 {
		l.fault("long", e.Path, "the name has %d bytes, no file system takes more than 255: %w", len(name), fs.ErrInvalid)
	}
	if kind != ModeDir {
		if was, ok := l.names[e.Path]; ok && was.kind == ModeDir {
			for p := range l.names {
				if below(p, e.Path) {
					delete(l.names, p)
				}
			}
		}
	}
	if !l.matters(e.Path, kind) {
		return
	}
	if e.Link != "" {
		was := l.names[e.Link]
		was.kind = kind
		l.names[e.Path] = was
		return
	}
	l.names[e.Path] = lintEntry{kind, e.Target, e.Size}
}

// matters reports whether a rule is about path: in usr only few are, elsewhere
// nothing should be.
func (l *lint) matters(path string, kind uint32) bool {
	switch {
	case path == "usr", path == "usr/etc", path == "usr/lib/os-release", modulesPlace(path), below(path, "usr/lib/os-release.d"):
		return true
	case path == ".", below(path, "usr"):
		return false
	}
	if _, known := l.names[path]; known {
		return true
	}
	top, _, deep := strings.Cut(path, "/")
	if deep && top == "etc" {
		return false
	}
	if deep && kind != ModeDir {
		// Enough of a kind are remembered to tell that there are more.
		if l.counts["seen "+top]++; l.counts["seen "+top] > 2*maxFaults {
			return false
		}
	}
	return true
}

func (l *lint) end() {
	for _, p := range slices.Sorted(maps.Keys(l.names)) {
		l.place(p, l.names[p])
	}
	for _, dir := range []string{"boot", "dev", "proc", "run", "sys", "sysroot", "usr", "usr/etc", "var"} {
		if got, ok := l.names[dir]; !ok || got.kind != ModeDir {
			l.fault("dirs", dir, "must be a directory: Postprocess makes it so")
		}
	}
	if got, ok := l.names["ostree"]; !ok || got.kind != ModeSymlink || strings.TrimLeft(got.target, "/") != "sysroot/ostree" {
		l.fault("ostree", "ostree", "must be a link to sysroot/ostree: Postprocess makes it so")
	}
	if got, ok := l.names["tmp"]; !ok || got.kind == ModeRegular {
		l.fault("tmp", "tmp", "must be a directory or a link to sysroot/tmp")
	}
	if got, ok := l.names["usr/lib/os-release"]; !ok || got.kind == ModeDir || got.kind == ModeRegular && got.size == 0 {
		l.fault("release", "usr/lib/os-release", "missing or empty: the system's name and version belong there")
	}
	l.kernel()
}

// place checks that p may be where it is.
func (l *lint) place(p string, e lintEntry) {
	top, _, deep := strings.Cut(p, "/")
	target := strings.TrimLeft(e.target, "/")
	_, isDir := topDirs[top]
	_, isLink := topLinks[top]
	switch {
	case top == "usr":
	case top == "etc":
		l.fault("etc", p, "the commit has /etc: it belongs in /usr/etc, from which each machine's /etc is made")
	case top == "var":
		if deep && e.kind != ModeDir {
			l.fault("var", p, "/var belongs to the machine and must be empty: move the file to /usr or make it with tmpfiles.d")
		}
	case isDir && deep && e.kind != ModeDir:
		l.fault(top, p, "/%s must be empty: only /usr has files in an OSTree commit", top)
	case isDir:
	case unmerged(top):
		if deep || e.kind != ModeSymlink || !below(target, "usr") {
			l.fault("merge "+top, top, "must be a link to usr/%s", top)
		}
	case isLink:
		if deep || e.kind != ModeSymlink {
			l.fault("link "+top, p, "/%s must be a link to %s: a commit has no files there", top, topLinks[top])
		}
	case e.kind != ModeDir:
		l.fault("top "+top, p, "an OSTree system has no /%s: move it to /usr", top)
	}
}

// kernel checks that there is one kernel with its initramfs.
func (l *lint) kernel() {
	versions := make(map[string]struct{})
	for p, e := range l.names {
		if version, file := modulesFile(p); file == "vmlinuz" && e.kind == ModeRegular {
			versions[version] = struct{}{}
		}
	}
	found := slices.Sorted(maps.Keys(versions))
	if len(found) != 1 {
		text := "no kernel"
		if len(found) > 1 {
			text = fmt.Sprintf("%d kernels (%s)", len(found), strings.Join(found, ", "))
		}
		l.fault("kernel", modulesDir, "%s: a commit must have exactly one, KVER/vmlinuz", text)
	}
	for _, version := range found {
		initramfs := modulesDir + "/" + version + "/initramfs.img"
		if got, ok := l.names[initramfs]; !ok || got.kind != ModeRegular || got.size == 0 {
			l.fault("initramfs", initramfs, "missing or empty: build it with ostree's module, for example by dracut")
		}
	}
}

// modulesFile splits the path of a kernel or initramfs.
func modulesFile(path string) (version, file string) {
	if !modulesPlace(path) {
		return "", ""
	}
	version, file, _ = strings.Cut(strings.TrimPrefix(path, modulesDir+"/"), "/")
	return version, file
}

// Kernel finds the one kernel of an arranged tree (see [Postprocess]): its
// version and its entries, of which the initramfs is zero if there is none.
// None is an error that wraps [fs.ErrNotExist], several one that names them.
// The content of the entries can be had if src is detached.
func Kernel(ctx context.Context, src Tree) (version string, vmlinuz, initramfs Entry, err error) {
	found := make(map[string]Entry)
	for e, err := range src.Entries(ctx) {
		if err != nil {
			return "", Entry{}, Entry{}, err
		}
		switch kind := e.Mode & ModeType; {
		case modulesPlace(e.Path):
			delete(found, e.Path)
			if kind == ModeRegular {
				found[e.Path] = e
			}
		case kind == ModeDir:
		case parentOf(e.Path) == modulesDir: // took the place of a directory
			delete(found, e.Path+"/vmlinuz")
			delete(found, e.Path+"/initramfs.img")
		case below(modulesDir, e.Path):
			clear(found)
		}
	}
	var versions []string
	for p := range found {
		if v, file := modulesFile(p); file == "vmlinuz" {
			versions = append(versions, v)
		}
	}
	slices.Sort(versions)
	switch len(versions) {
	case 0:
		return "", Entry{}, Entry{}, &Error{"kernel", modulesDir, fmt.Errorf("no KVER/vmlinuz: %w", fs.ErrNotExist)}
	case 1:
		dir := modulesDir + "/" + versions[0]
		return versions[0], found[dir+"/vmlinuz"], found[dir+"/initramfs.img"], nil
	}
	return "", Entry{}, Entry{}, &Error{"kernel", modulesDir, fmt.Errorf("%d kernels, %s, where one must be: %w", len(versions), strings.Join(versions, ", "), fs.ErrExist)}
}
