package container

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/internal/dpkg"
	"github.com/okd-project/okd-streams/internal/rpmdb"
	"github.com/okd-project/okd-streams/ostree"
)

// Components that [Components] makes beside packages. No package has a space in
// its name.
const (
	ComponentInitramfs  = "initramfs image"    // usr/lib/modules/*/initramfs.img
	ComponentDatabase   = "package database"   // of rpm or dpkg
	ComponentShared     = "shared content"     // what several packages have alike
	ComponentUnpackaged = "unpackaged content" // what no package owns
)

// ComponentsOptions are for [Components].
type ComponentsOptions struct {
	// Workers read in parallel; 0: one a CPU, at most 16.
	Workers int
}

// Components finds out which package each content object of a commit belongs
// to, from the package database in it: rpm's (usr/share/rpm,
// usr/lib/sysimage/rpm) or dpkg's (usr/lib/sysimage/dpkg, var/lib/dpkg). No
// database is an error that wraps [fs.ErrNotExist].
//
// Paths are compared as they are in the commit: /bin/sh is usr/bin/sh where
// /bin is a link, and what is in /etc is in usr/etc. Of packages that own a path
// together the first by name has it. Generated files go with what they are made
// from: modules.dep and the like with the kernel, a .pyc file with its .py file,
// dpkg's files about a package with that package. What changes with every build
// comes in components of its own: the initramfs, the database, content that
// several packages have in common, and the rest.
//
// A package's Frequency is how many entries its change log has for the year
// before the newest entry or build of all. cache keeps what is costly to find
// out, change logs and sizes, and in memory the tree of this commit, some 100
// bytes a file, until the next Encapsulate; without one (nil) all is read each
// time.
func Components(ctx context.Context, cache *Cache, repo *ostree.Repo, commit ostree.Checksum, opts *ComponentsOptions) ([]Component, error) {
	if opts == nil {
		opts = &ComponentsOptions{}
	}
	s, err := openSnapshot(ctx, repo, commit)
	var list []Component
	if err == nil {
		list, err = components(ctx, cache, s, opts)
	}
	if err != nil {
		return nil, &Error{"components", commit.String(), err}
	}
	if cache != nil {
		cache.keepSnapshot(s)
	}
	return list, nil
}

// owned is a package as both databases tell it.
type owned struct {
	name, id, arch string
	source         string
	files          []string
	built          time.Time
	changes        []time.Time
}

func components(ctx context.Context, cache *Cache, s *snapshot, opts *ComponentsOptions) ([]Component, error) {
	group, ctx := errgroup.WithContext(ctx)
	f := newSnapshotFS(ctx, s)
	if cache != nil {
		group.Go(func() error {
			_, err := objectSizes(ctx, cache, s, workers(opts.Workers))
			return err
		})
	}
	var list []Component
	group.Go(func() (err error) {
		list, err = assignObjects(ctx, cache, s, f)
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for i := range list {
		for _, o := range list[i].Objects {
			if k, ok := s.find(o); ok && cache != nil {
				list[i].Size += s.sizes[k]
			}
		}
	}
	return slices.DeleteFunc(list, func(c Component) bool { return len(c.Objects) == 0 }), nil
}

// assignObjects is components without their sizes; some have no objects.
func assignObjects(ctx context.Context, cache *Cache, s *snapshot, f *snapshotFS) ([]Component, error) {
	packages, err := readPackages(f, cache)
	if err != nil {
		return nil, err
	}
	list := make([]Component, 0, len(packages)+4)
	newest := time.Time{}
	names := map[string]int{}
	for _, p := range packages {
		names[p.name]++
		if p.built.After(newest) {
			newest = p.built
		}
		if len(p.changes) > 0 && p.changes[0].After(newest) {
			newest = p.changes[0]
		}
	}
	seen := map[string]bool{}
	for _, p := range packages {
		c := Component{ID: p.id, Name: p.name, Source: p.source, Frequency: frequency(p.changes, newest)}
		if names[p.name] > 1 { // other architectures, several kernels
			if c.Name = p.name + "." + p.arch; seen[c.Name] {
				c.Name = p.id
			}
		}
		if seen[c.ID] || seen[c.Name] {
			continue // the same version twice: the files are those of the first
		}
		seen[c.ID], seen[c.Name] = true, true
		list = append(list, c)
	}
	special := map[string]int{}
	for _, name := range []string{ComponentInitramfs, ComponentDatabase, ComponentShared, ComponentUnpackaged} {
		special[name] = len(list)
		list = append(list, Component{ID: name, Name: name, Frequency: EveryBuild})
	}

	owner := ownerFinder{f: f, list: list, special: special, files: make([]int32, len(s.files)), dirs: map[string]int{}, named: map[string]int{}}
	at := make(map[string]int, len(list))
	for i := range list {
		at[list[i].ID] = i
	}
	for _, p := range packages {
		i, ok := at[p.id]
		if !ok {
			continue
		}
		if _, ok := owner.named[p.name]; !ok {
			owner.named[p.name] = i
		}
		owner.named[p.name+":"+p.arch] = i
		for _, file := range p.files {
			owner.claim(file, i)
		}
	}
	for _, run := range s.objects {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		c := &list[owner.ofObject(run)]
		c.Objects = append(c.Objects, run.object)
	}
	return list, nil
}

// ownerFinder maps paths to components, by index.
type ownerFinder struct {
	f       *snapshotFS
	list    []Component
	special map[string]int
	files   []int32        // by index of the file: that of the component and one; 0: not claimed
	dirs    map[string]int // first owner of usr/lib/modules/VERSION, and one
	named   map[string]int // by name and name:architecture
}

const modulesDir = "usr/lib/modules/"

// claim gives a path of a package to it, unless another has it already.
func (o *ownerFinder) claim(file string, component int) {
	if version, ok := strings.CutPrefix(file, "boot/vmlinuz-"); ok {
		if _, ok := o.f.placeFile(file); !ok {
			file = modulesDir + version + "/vmlinuz"
		}
	}
	dir, base := splitPath(file)
	if resolved, ok := o.f.resolve(dir); ok && resolved+"/" == modulesDir {
		if d := modulesDir + base; o.dirs[d] == 0 {
			o.dirs[d] = component + 1
		}
	}
	if i, ok := o.f.placeFile(file); ok && o.files[i] == 0 {
		o.files[i] = int32(component) + 1
	}
}

// ofObject gives the component of an object: that of its packages' paths if it
// is one.
func (o *ownerFinder) ofObject(run objectRun) int {
	found, package1 := -1, -1
	for _, file := range run.files {
		c := o.ofFile(file)
		if o.list[c].Frequency == EveryBuild {
			if found < 0 {
				found = c
			}
			continue
		}
		if package1 >= 0 && package1 != c {
			return o.special[ComponentShared]
		}
		package1 = c
	}
	if package1 >= 0 {
		return package1
	}
	return found
}

func (o *ownerFinder) ofFile(file int32) int {
	if c := o.files[file]; c > 0 {
		return int(c) - 1
	}
	node := &o.f.s.files[file]
	dir := o.f.s.dirs[node.dir].path
	if rest, ok := strings.CutPrefix(dir, modulesDir); ok {
		version, _, _ := strings.Cut(rest, "/")
		if rest == version && strings.HasPrefix(node.name, "initr") {
			return o.special[ComponentInitramfs]
		}
		if c := o.dirs[modulesDir+version]; c > 0 {
			return c - 1
		}
	}
	if dir == "boot" && strings.HasPrefix(node.name, "initr") {
		return o.special[ComponentInitramfs]
	}
	if source, ok := strings.CutSuffix(dir, "/__pycache__"); ok && strings.HasSuffix(node.name, ".pyc") {
		module, _, _ := strings.Cut(node.name, ".")
		if i, ok := o.f.file(source, module+".py"); ok {
			if c := o.files[i]; c > 0 {
				return int(c) - 1
			}
		}
	}
	for _, db := range dpkg.Dirs {
		if dir == db+"/info" {
			if name, _, ok := cutLast(node.name, '.'); ok {
				if c, ok := o.named[name]; ok {
					return c
				}
			}
		}
		if below(dir, db) {
			return o.special[ComponentDatabase]
		}
	}
	for _, db := range rpmdb.Dirs {
		if below(dir, db) {
			return o.special[ComponentDatabase]
		}
	}
	return o.special[ComponentUnpackaged]
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// frequency counts the changes of the year before newest.
func frequency(changes []time.Time, newest time.Time) uint32 {
	n := uint32(0)
	since := newest.AddDate(-1, 0, 0)
	for _, t := range changes {
		if t.After(since) {
			n++
		}
	}
	return n
}

// readPackages reads whichever database there is, sorted by name.
func readPackages(f *snapshotFS, cache *Cache) ([]owned, error) {
	list, err := collect(rpmdb.Packages(f), func(p *rpmdb.Package) owned {
		return owned{p.Name, p.Name + "-" + p.EVR() + "." + p.Arch, p.Arch, p.Source, p.Files, p.Built, p.Changes}
	})
	if errors.Is(err, fs.ErrNotExist) {
		list, err = readDpkg(f, cache)
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b owned) int { return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.id, b.id)) })
	return list, nil
}

func collect[P any](seq iter.Seq2[P, error], convert func(*P) owned) ([]owned, error) {
	var list []owned
	for p, err := range seq {
		if err != nil {
			return nil, err
		}
		o := convert(&p)
		if strings.ContainsAny(o.id, ",\n ") {
			return nil, fmt.Errorf("package %q has a name that can't be: %w", o.id, ostree.ErrCorrupt)
		}
		list = append(list, o)
	}
	return list, nil
}

func fromDpkg(p *dpkg.Package) owned {
	changes := p.Changes[:min(len(p.Changes), mostChanges)]
	return owned{p.Name, p.Name + "-" + p.EVR() + "." + p.Arch, p.Arch, p.Source, p.Files, p.Built, changes}
}

// changesName is the cached value that holds change logs: records of the key, a
// count and as many times.
const (
	changesName = "changes"
	mostChanges = 256
)

// readDpkg reads dpkg's database. Change logs are most of the work, and one
// file or two of each package, so their times are cached by the files' objects.
func readDpkg(f *snapshotFS, cache *Cache) ([]owned, error) {
	if cache == nil {
		return collect(dpkg.Packages(f, nil), fromDpkg)
	}
	list, err := collect(dpkg.Packages(f, &dpkg.Options{NoChanges: true}), fromDpkg)
	if err != nil {
		return nil, err
	}
	known := decodeChanges(cache)
	keys := make([]changesKey, len(list))
	hidden := map[string]bool{} // but where one of several architectures is missing
	for i := range list {
		p := &list[i]
		keys[i] = f.changesKey(p)
		times, ok := known[keys[i]]
		p.changes = times
		dir := "usr/share/doc/" + p.name + "/"
		if before, again := hidden[dir]; again {
			ok = ok && before
		}
		hidden[dir] = ok
	}
	missing := slices.ContainsFunc(keys, func(k changesKey) bool { _, ok := known[k]; return !ok })
	if missing {
		full, err := collect(dpkg.Packages(hidingFS{f, hidden}, nil), fromDpkg)
		if err != nil {
			return nil, err
		}
		if len(full) != len(list) {
			return nil, fmt.Errorf("the package database was read with %d and %d packages: %w", len(list), len(full), ostree.ErrCorrupt)
		}
		next := make(map[changesKey][]time.Time, len(list))
		for i := range list {
			p := &list[i]
			if _, ok := known[keys[i]]; !ok {
				p.changes = full[i].changes
			}
			next[keys[i]] = p.changes
		}
		if err := cache.writeValue(changesName, encodeChanges(next)); err != nil {
			return nil, err
		}
	}
	for i := range list {
		if len(list[i].changes) > 0 {
			list[i].built = list[i].changes[0]
		}
	}
	return list, nil
}

// changesKey is the objects of the files that may be a package's change log;
// zero where there is none.
type changesKey [3]ostree.Checksum

// changesKey looks at the names that [dpkg.Packages] does.
func (f *snapshotFS) changesKey(p *owned) changesKey {
	var k changesKey
	dir, ok := f.resolve("usr/share/doc/" + p.name)
	if !ok {
		return k
	}
	for i, name := range []string{"changelog.Debian." + p.arch + ".gz", "changelog.Debian.gz", "changelog.gz"} {
		if file, ok := f.file(dir, name); ok {
			k[i] = f.s.files[file].object
		}
	}
	return k
}

// hidingFS hides change logs that need not be read.
type hidingFS struct {
	*snapshotFS
	dirs map[string]bool
}

func (h hidingFS) Open(name string) (fs.File, error) {
	dir, base := path.Split(name)
	if h.dirs[dir] && strings.HasPrefix(base, "changelog") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return h.snapshotFS.Open(name)
}

func encodeChanges(m map[changesKey][]time.Time) []byte {
	keys := make([]changesKey, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b changesKey) int {
		for i := range a {
			if c := bytes.Compare(a[i][:], b[i][:]); c != 0 {
				return c
			}
		}
		return 0
	})
	var out []byte
	for _, k := range keys {
		for i := range k {
			out = append(out, k[i][:]...)
		}
		out = binary.BigEndian.AppendUint32(out, uint32(len(m[k])))
		for _, t := range m[k] {
			out = binary.BigEndian.AppendUint64(out, uint64(t.Unix()))
		}
	}
	return out
}

// decodeChanges gives what is cached; nothing, if that has another form.
func decodeChanges(cache *Cache) map[changesKey][]time.Time {
	m := map[changesKey][]time.Time{}
	data, _ := cache.readValue(changesName)
	for len(data) > 0 {
		var k changesKey
		if len(data) < len(k)*ostree.ChecksumSize+4 {
			return nil
		}
		for i := range k {
			data = data[copy(k[i][:], data):]
		}
		n := int(binary.BigEndian.Uint32(data))
		data = data[4:]
		if n > mostChanges || len(data) < n*8 {
			return nil
		}
		times := make([]time.Time, n)
		for i := range times {
			times[i] = time.Unix(int64(binary.BigEndian.Uint64(data[i*8:])), 0).UTC()
		}
		data = data[n*8:]
		m[k] = times
	}
	return m
}
