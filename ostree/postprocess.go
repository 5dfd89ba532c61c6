package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
)

// PostprocessOptions are the choices of [Postprocess]; nil and the zero value
// are the default.
type PostprocessOptions struct {
	// Dropped, if set, gets each path of the source that has no place in the
	// result, in the source's order; where it is a directory, what is below it
	// may not be told. Default: nobody is told.
	Dropped func(path string)
}

// topDirs are the directories that stay at the root of an OSTree system, empty
// but for usr.
var topDirs = map[string]uint32{
	"boot": 0o755, "dev": 0o755, "proc": 0o755, "run": 0o755, "sys": 0o755, "sysroot": 0o755, "tmp": 0o1777, "usr": 0o755, "var": 0o755,
}

// topLinks are the links at its root: what people and the system write is
// under /var, the repository under /sysroot.
var topLinks = map[string]string{
	"home": "var/home", "media": "run/media", "mnt": "var/mnt", "opt": "var/opt", "ostree": "sysroot/ostree", "root": "var/roothome", "srv": "var/srv",
}

// Where the package databases of a tree are kept: /var belongs to the machine,
// not to the tree. RPM's is where rpm-ostree has it.
const (
	dpkgSource = "var/lib/dpkg"
	dpkgPath   = "usr/lib/sysimage/dpkg"
	rpmSource  = "var/lib/rpm"
	rpmPath    = "usr/share/rpm"
)

// Postprocess arranges a distribution's root file system as CoreOS arranges
// its OSTree commits (the conventions that libostree's deployments, rpm-ostree
// and bootc rely on). A tree that is arranged already comes out unchanged.
//
//   - /etc becomes /usr/etc; both with content is an error. A machine ID in it
//     is emptied, for every machine needs its own.
//   - /boot/vmlinuz-KVER and /boot/initrd.img-KVER or /boot/initramfs-KVER.img
//     become /usr/lib/modules/KVER/{vmlinuz,initramfs.img}, unless these are
//     there; rescue and kdump images are dropped.
//   - /boot, /dev, /proc, /run, /sys, /sysroot, /tmp and /var are empty
//     directories; what was in them, device nodes too, is dropped, but for the
//     package databases: of /var/lib/rpm all that matters goes to
//     /usr/share/rpm, of /var/lib/dpkg the files status, arch, diversions,
//     statoverride, info/*.list, info/*.md5sums and info/*.conffiles to
//     /usr/lib/sysimage/dpkg.
//   - /home, /mnt, /opt, /root and /srv are links into /var, /media to
//     /run/media, /ostree to /sysroot/ostree. /tmp may be the link sysroot/tmp.
//     What was in them is dropped; a file in /opt is an error.
//   - /bin, /sbin and /lib* must be links into /usr: a tree whose /usr is not
//     merged is an error.
//   - Other files and links at the top level (the links vmlinuz and initrd.img,
//     .dockerenv) and empty directories are dropped; a file in a directory that
//     is not named here is an error.
//
// What is dropped is not even looked at: device nodes, sockets and unreadable
// files in it are no fault with the sources of this package. It is one pass
// that renames by path, holds no content and works for trees that are not
// detached. A hard link in the tree to something dropped is an error.
func Postprocess(src Tree, opts *PostprocessOptions) Tree {
	t := &postprocessed{src: src}
	if opts != nil {
		t.opts = *opts
	}
	return t
}

type postprocessed struct {
	src  Tree
	opts PostprocessOptions
}

func (t *postprocessed) Entries(ctx context.Context) iter.Seq2[Entry, error] {
	return t.entries(ctx, byContext(ctx))
}

func (t *postprocessed) entries(ctx context.Context, without prune) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if without.test != nil {
			wanted := yield
			yield = func(e Entry, err error) bool {
				return err == nil && without.skips(e.Path) || wanted(e, err)
			}
		}
		p := &arrangement{opts: &t.opts, yield: yield, dirs: make(map[string]struct{}), tops: make(map[string]string), modules: make(map[string]struct{})}
		in := prune{test: dropsAll, report: p.dropped, cache: without.cache}
		if asIs := without.asIs; asIs != nil {
			in.asIs = func(dir string) bool { return stays(dir) && asIs(dir) }
		}
		for e, err := range entriesWithout(ctx, t.src, in) {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if e.walked != nil {
				if !yield(e, nil) {
					return
				}
			} else if !p.entry(e) {
				return
			}
		}
		p.end()
	}
}

// dropsAll reports whether nothing at or below path is kept, so that the source
// need not even look at it.
func dropsAll(path string) bool {
	switch path {
	case "var/lib", rpmSource, dpkgSource, dpkgSource + "/info":
		return false
	}
	_, place := placeOf(path)
	return place == placeDrop
}

// stays reports whether nothing in a directory is changed, comes to another place or
// from one, also if the source has the strangest things there.
func stays(dir string) bool {
	for _, other := range []string{"usr/etc", modulesDir, rpmPath, dpkgPath} {
		if below(dir, other) || below(other, dir) {
			return false
		}
	}
	return below(dir, "usr")
}

// arrangement is one pass of Postprocess.
type arrangement struct {
	opts    *PostprocessOptions
	yield   func(Entry, error) bool
	dirs    map[string]struct{} // of the result
	tops    map[string]string   // top-level names of the result that are there
	modules map[string]struct{} // kernels and initramfs that were in their place
	etc     [2]string           // first path below /etc and below /usr/etc
}

func (p *arrangement) fail(path string, err error) bool {
	p.yield(Entry{}, &Error{"postprocess", quoted(path), err})
	return false
}

// place is where a path of the source belongs.
type place int

const (
	placeKeep   place = iota // at the path that comes with it
	placeDrop                // nowhere
	placeRefuse              // nowhere, and dropping a file there would lose a part of the system
)

// placeOf is a function of the path alone, so that the order of the source
// does not matter.
func placeOf(path string) (string, place) {
	top, rest, deep := strings.Cut(path, "/")
	switch top {
	case ".", "usr":
		return path, placeKeep
	case "etc":
		return "usr/" + path, placeKeep
	case "boot":
		if to, ok := kernelPlace(rest); ok {
			return to, placeKeep
		}
	case "var":
		if to, ok := databasePlace(path); ok {
			return to, placeKeep
		}
	}
	if !deep {
		return path, placeKeep // entry decides by kind
	}
	if _, ok := topDirs[top]; ok {
		return "", placeDrop
	}
	if _, ok := topLinks[top]; ok && top != "opt" {
		return "", placeDrop
	}
	return "", placeRefuse
}

// ArrangedPath gives the path at which a tree that [Postprocess] arranged has
// the file that a package calls path (both as [Entry.Path] is): usr/etc/passwd
// for etc/passwd, usr/bin/sh for bin/sh, usr/lib/modules/6.1/vmlinuz for
// boot/vmlinuz-6.1. It is false for what an arranged tree does not have.
func ArrangedPath(path string) (string, bool) {
	if top, _, deep := strings.Cut(path, "/"); deep && unmerged(top) {
		return "usr/" + path, true
	}
	to, place := placeOf(path)
	return to, place == placeKeep
}

// kernelPlace is where name in /boot belongs if it is a kernel or initramfs.
func kernelPlace(name string) (string, bool) {
	version, file := "", ""
	if v, ok := strings.CutPrefix(name, "vmlinuz-"); ok {
		version, file = v, "vmlinuz"
	} else if v, ok := strings.CutPrefix(name, "initrd.img-"); ok {
		version, file = v, "initramfs.img"
	} else if v, ok := strings.CutPrefix(name, "initramfs-"); ok {
		if version, ok = strings.CutSuffix(v, ".img"); ok {
			file = "initramfs.img"
		}
	}
	if file == "" || version == "" || version == "." || version == ".." || strings.Contains(version, "/") ||
		strings.HasPrefix(version, "0-rescue") || strings.HasSuffix(version, "kdump") ||
		strings.HasSuffix(version, ".old") || strings.HasSuffix(version, ".dpkg-bak") {
		return "", false
	}
	return modulesDir + "/" + version + "/" + file, true
}

const modulesDir = "usr/lib/modules"

// modulesPlace reports whether path is where a kernel or initramfs belongs.
func modulesPlace(path string) bool {
	rest, ok := strings.CutPrefix(path, modulesDir+"/")
	if !ok {
		return false
	}
	version, file, ok := strings.Cut(rest, "/")
	return ok && version != "" && (file == "vmlinuz" || file == "initramfs.img")
}

// databasePlace is where a file of /var belongs if a package database needs it.
func databasePlace(path string) (string, bool) {
	if name, ok := strings.CutPrefix(path, rpmSource+"/"); ok {
		// Locks, and an index of shared memory that differs from run to run.
		if strings.HasSuffix(name, "-shm") || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "__db.") {
			return "", false
		}
		return rpmPath + "/" + name, true
	}
	name, ok := strings.CutPrefix(path, dpkgSource+"/")
	if !ok {
		return "", false
	}
	switch name {
	case "status", "arch", "diversions", "statoverride":
		return dpkgPath + "/" + name, true
	}
	info, ok := strings.CutPrefix(name, "info/")
	if ok && (strings.HasSuffix(info, ".list") || strings.HasSuffix(info, ".md5sums") || strings.HasSuffix(info, ".conffiles")) {
		return dpkgPath + "/" + name, true
	}
	return "", false
}

// entry yields what becomes of e and reports whether to go on.
func (p *arrangement) entry(e Entry) bool {
	from, kind := e.Path, e.Mode&ModeType
	to, place := placeOf(from)
	top, _, deep := strings.Cut(from, "/")
	switch {
	case place == placeKeep && to == from && from != "." && !deep:
		return p.top(e)
	case place == placeDrop, place == placeRefuse && kind == ModeDir:
		if kind != ModeDir {
			p.dropped(from)
		}
		return true
	case place == placeRefuse && top == "opt":
		return p.fail(from, fmt.Errorf("/opt is a link to /var/opt, which belongs to the machine: install it below /usr: %w", fs.ErrInvalid))
	case place == placeRefuse && unmerged(top):
		return p.fail(top, errUnmerged(top))
	case place == placeRefuse:
		return p.fail(from, fmt.Errorf("an OSTree system has no directory /%s: install it below /usr: %w", top, fs.ErrInvalid))
	case top == "boot":
		// One in its place already is the same, or the one that is meant.
		if _, there := p.modules[to]; there || kind != ModeRegular {
			p.dropped(from)
			return true
		}
	case from == "etc" && kind != ModeDir:
		return p.fail(from, fmt.Errorf("not a directory: %w", fs.ErrInvalid))
	case modulesPlace(from):
		p.modules[from] = struct{}{}
	}
	if !p.etcOnce(from, to) {
		return false
	}
	if e.Link != "" {
		target, place := placeOf(e.Link)
		if place != placeKeep || target == e.Link && !strings.Contains(target, "/") {
			return p.fail(from, fmt.Errorf("hard link to %s, which an OSTree system does not have: %w", quoted(e.Link), fs.ErrInvalid))
		}
		if target == to {
			return true // the kernel in /boot and its copy in /usr are one file
		}
		e.Link = target
	}
	if to == "usr/etc/machine-id" && kind == ModeRegular && (e.Size == 32 || e.Size == 33) {
		// An ID, with or without newline. "uninitialized" stays.
		e.Size, e.Object, e.Identity, e.Detached = 0, Checksum{}, FileID{}, true
		e.Open = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil }
	}
	e.Path = to
	return p.put(e)
}

// etcOnce notes what is below /etc and /usr/etc; only one may have content.
func (p *arrangement) etcOnce(from, to string) bool {
	if !below(to, "usr/etc") || to == "usr/etc" {
		return true
	}
	i := 0
	if from == to {
		i = 1
	}
	if p.etc[i] == "" {
		p.etc[i] = from
	}
	if p.etc[0] != "" && p.etc[1] != "" {
		return p.fail(from, fmt.Errorf("the tree has both /etc (%s) and /usr/etc (%s): an OSTree commit has /usr/etc alone: %w", quoted(p.etc[0]), quoted(p.etc[1]), fs.ErrExist))
	}
	return true
}

// unmerged reports whether top must be a link into usr.
func unmerged(top string) bool {
	return top == "bin" || top == "sbin" || isLib(top)
}

func isLib(top string) bool {
	switch strings.TrimPrefix(top, "lib") {
	case "", "32", "64", "o32", "x32":
		return strings.HasPrefix(top, "lib")
	}
	return false
}

func errUnmerged(top string) error {
	return fmt.Errorf("not a link to usr/%s: an OSTree system needs a merged /usr; install the distribution's usrmerge package or build the tree with it: %w", top, errors.ErrUnsupported)
}

// top yields what becomes of e at the top level, other than /usr and /etc.
func (p *arrangement) top(e Entry) bool {
	name, kind := e.Path, e.Mode&ModeType
	if unmerged(name) {
		if e.Link != "" || kind != ModeSymlink {
			return p.fail(name, errUnmerged(name))
		}
		if target := strings.TrimLeft(e.Target, "/"); target != "usr/"+name && !(name == "sbin" && target == "usr/bin") && !(isLib(name) && below(target, "usr")) {
			return p.fail(name, fmt.Errorf("link to %q: %w", e.Target, errUnmerged(name)))
		}
		return p.put(e)
	}
	_, isTop := topDirs[name]
	target, isLink := topLinks[name]
	keep := isTop && kind == ModeDir ||
		isLink && kind == ModeSymlink && e.Link == "" && strings.TrimLeft(e.Target, "/") == target ||
		name == "tmp" && kind == ModeSymlink && e.Link == "" && strings.TrimLeft(e.Target, "/") == "sysroot/tmp"
	if !keep {
		if kind != ModeDir && !isTop && !isLink {
			p.dropped(name)
		}
		return true
	}
	if e.Implied && isTop {
		return true // end gives the ordinary one
	}
	if was, ok := p.tops[name]; ok && was != "" && kind == ModeDir || ok && kind == ModeSymlink && was != e.Target {
		return true // the first kind stays
	}
	p.tops[name] = e.Target
	return p.put(e)
}

// put yields e after the directories that are missing above it.
func (p *arrangement) put(e Entry) bool {
	if e.Path != "." {
		var missing []string
		for dir := parentOf(e.Path); ; dir = parentOf(dir) {
			if _, ok := p.dirs[dir]; ok {
				break
			}
			missing = append(missing, dir)
			if dir == "." {
				break
			}
		}
		for i := len(missing) - 1; i >= 0; i-- {
			p.dirs[missing[i]] = struct{}{}
			if !p.yield(impliedDir(missing[i]), nil) {
				return false
			}
		}
	}
	switch _, was := p.dirs[e.Path]; {
	case e.Mode&ModeType == ModeDir && e.Link == "":
		if was && e.Implied {
			return true
		}
		p.dirs[e.Path] = struct{}{}
	case was:
		for dir := range p.dirs {
			if below(dir, e.Path) {
				delete(p.dirs, dir)
			}
		}
	}
	return p.yield(e, nil)
}

// end yields what every OSTree system has and the source did not.
func (p *arrangement) end() {
	for _, name := range []string{"boot", "dev", "home", "media", "mnt", "opt", "ostree", "proc", "root", "run", "srv", "sys", "sysroot", "tmp", "usr", "var"} {
		if _, ok := p.tops[name]; ok {
			continue
		}
		e := Entry{Path: name, Mode: ModeSymlink | 0o777, Target: topLinks[name], Detached: true}
		if mode, ok := topDirs[name]; ok {
			e.Mode = ModeDir | mode
			e.Implied = name == "usr" // where it is there it stays as it is
		}
		if !p.put(e) {
			return
		}
	}
}

func (p *arrangement) dropped(path string) {
	if p.opts.Dropped != nil {
		p.opts.Dropped(path)
	}
}
