package dpkg

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/mail"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Package is one installed package. The package rpmdb has a type of the same
// name and fields, so that one converts to the other.
type Package struct {
	// Name, Epoch (decimal, "" for none), Version and Release (Debian's
	// revision, "" for native packages) name it, with Arch.
	Name, Epoch, Version, Release, Arch string
	// Source is the file name of the source package: "glibc_2.36-9.dsc".
	Source string
	// Size is what the package says it needs on disk in bytes.
	Size int64
	// Built is the time of the newest change log entry; zero: not known.
	Built time.Time
	// Changes are the times of its change log entries, the newest first.
	Changes []time.Time
	// Files are the paths it owns: files, links and directories, relative to
	// the root ("usr/bin/bash", "."), in the order of the database. A file that
	// another package diverts is where it was diverted to.
	Files []string
}

// EVR is the version as dpkg writes it: "2:1.0-3", without epoch "1.0-3".
func (p *Package) EVR() string {
	evr := p.Version
	if p.Release != "" {
		evr += "-" + p.Release
	}
	if p.Epoch != "" {
		evr = p.Epoch + ":" + evr
	}
	return evr
}

// Options are the choices of [Packages]; nil and the zero value are the
// default.
type Options struct {
	// Resolve, if set, gives the path at which a file of a package is, of the
	// path that the package has: "usr/bin/ls" of "bin/ls" where /bin is a link
	// to /usr/bin. Default: the path as it is.
	Resolve func(path string) string
	// NoChanges leaves the change logs alone: Built and Changes are empty.
	NoChanges bool
}

// Dirs are the directories in which a tree may have the database, in the order
// in which they are looked at: that of an arranged OSTree commit
// (ostree.Postprocess), dpkg's.
var Dirs = [...]string{"usr/lib/sysimage/dpkg", "var/lib/dpkg"}

// maxChangelog is how much of a change log is read, its newest entries first:
// 256 KiB are some hundred entries.
const maxChangelog = 256 << 10

// Packages are the installed packages of the database in fsys, the root of a
// system, in the order of its status file. Change logs are those that packages
// install as usr/share/doc/NAME/changelog.Debian.gz or changelog.gz: their
// first 256 KiB; packages without have no Changes. No database is an error
// that wraps [fs.ErrNotExist]. Errors name the file and line; the sequence ends
// after one.
func Packages(fsys fs.FS, opts *Options) iter.Seq2[Package, error] {
	return func(yield func(Package, error) bool) {
		db := database{fsys: fsys}
		if opts != nil {
			db.opts = *opts
		}
		if err := db.all(yield); err != nil {
			yield(Package{}, fmt.Errorf("dpkg: %w", err))
		}
	}
}

// database is one pass over a database.
type database struct {
	list       lines // of the files of a package
	fsys       fs.FS
	opts       Options
	dir        string
	diversions map[string]diversion
}

// diversion is where the file of a path is, unless it is that of owner.
type diversion struct{ to, owner string }

func (db *database) all(yield func(Package, error) bool) error {
	var f fs.File
	var name string
	for _, dir := range Dirs {
		var err error
		name = path.Join(dir, "status")
		if f, err = db.fsys.Open(name); err == nil {
			db.dir = dir
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if f == nil {
		return fmt.Errorf("no status file in %v: %w", Dirs, fs.ErrNotExist)
	}
	defer f.Close()
	if err := db.readDiversions(); err != nil {
		return err
	}
	for e, err := range status(f) {
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if !e.installed() {
			continue
		}
		if err := db.files(&e); err != nil {
			return err
		}
		if !db.opts.NoChanges {
			if err := db.changes(&e); err != nil {
				return err
			}
		}
		if !yield(e.Package, nil) {
			return nil
		}
	}
	return nil
}

// clean makes a path of the database relative to the root.
func clean(text string) (string, error) {
	if !strings.HasPrefix(text, "/") {
		return "", fmt.Errorf("%w: path %.80q is not absolute", errDamaged, text)
	}
	if text = strings.TrimPrefix(path.Clean(text), "/"); text == "" {
		text = "."
	}
	return text, nil
}

// readDiversions reads the file of that name: three lines each, from, to and
// the package whose file stays (":" for the administrator's).
func (db *database) readDiversions() error {
	name := path.Join(db.dir, "diversions")
	f, err := db.fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	db.diversions = make(map[string]diversion)
	lines := newLines(f)
	for lines.next() {
		from, err := clean(string(lines.text))
		var d diversion
		if err == nil && lines.next() {
			if d.to, err = clean(string(lines.text)); err == nil && lines.next() {
				d.owner = string(lines.text)
			}
		}
		if err == nil && d.owner == "" && lines.err == nil {
			err = fmt.Errorf("%w: not three lines", errDamaged)
		}
		if err != nil {
			return fmt.Errorf("%s: line %d: %w", name, lines.number, err)
		}
		db.diversions[from] = d
	}
	if lines.err != nil {
		return fmt.Errorf("%s: %w", name, lines.err)
	}
	return nil
}

// files reads the list of a package's files. dpkg adds the architecture to its
// name where several may be installed at once. A package without is damaged,
// unless nothing of it was unpacked.
func (db *database) files(e *entry) error {
	names := []string{e.Name + ".list", e.Name + ":" + e.Arch + ".list"}
	if e.multiArch == "same" {
		slices.Reverse(names)
	}
	var f fs.File
	var name string
	for _, base := range names {
		var err error
		name = path.Join(db.dir, "info", base)
		if f, err = db.fsys.Open(name); err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if f == nil {
		if e.state == "half-installed" {
			return nil
		}
		return fmt.Errorf("%s: of the package %s: %w", path.Join(db.dir, "info", names[0]), e.Name, fs.ErrNotExist)
	}
	defer f.Close()
	lines := &db.list
	lines.reset(f)
	for lines.next() {
		if len(lines.text) == 0 {
			continue
		}
		file, err := clean(string(lines.text))
		if err != nil {
			return fmt.Errorf("%s: line %d: %w", name, lines.number, err)
		}
		if d, ok := db.diversions[file]; ok && d.owner != e.Name {
			file = d.to
		}
		if !utf8.ValidString(file) {
			continue // no tree has such a path
		}
		if db.opts.Resolve != nil {
			file = db.opts.Resolve(file)
		}
		e.Files = append(e.Files, file)
	}
	if lines.err != nil {
		return fmt.Errorf("%s: %w", name, lines.err)
	}
	return nil
}

// changes reads the package's change log: that of a rebuild for one
// architecture first, then the source's. Logs that are damaged are no logs: they
// are files of packages like others, not part of the database.
func (db *database) changes(e *entry) error {
	doc := path.Join("usr/share/doc", e.Name)
	for _, name := range []string{"changelog.Debian." + e.Arch + ".gz", "changelog.Debian.gz", "changelog.gz"} {
		if name == "changelog.gz" && len(e.Changes) > 0 {
			break // of the software itself, in another form
		}
		times, err := db.changelog(path.Join(doc, name))
		if err != nil {
			return err
		}
		e.Changes = append(e.Changes, times...)
	}
	if len(e.Changes) > 0 {
		e.Built = e.Changes[0]
	}
	return nil
}

func (db *database) changelog(name string) ([]time.Time, error) {
	f, err := db.fsys.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrInvalid):
		return nil, nil
	case err != nil:
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, nil
	}
	var times []time.Time
	lines := newLines(io.LimitReader(z, maxChangelog))
	for lines.next() {
		// " -- Name <address>  Mon, 02 Jan 2006 15:04:05 +0000"
		text, ok := strings.CutPrefix(string(lines.text), " -- ")
		if !ok {
			continue
		}
		_, date, ok := strings.Cut(text, ">  ")
		if !ok {
			continue
		}
		if t, err := mail.ParseDate(strings.TrimSpace(date)); err == nil {
			times = append(times, t.UTC())
		}
	}
	return times, nil
}
