package ostree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"

	"github.com/okd-project/okd-streams/internal/dpkg"
	"github.com/okd-project/okd-streams/internal/gvariant"
	"github.com/okd-project/okd-streams/internal/rpmdb"
)

// Package is a package that a commit's system has installed.
type Package struct {
	// Epoch is decimal, "" for none; Release is "" for Debian's native packages.
	Name, Epoch, Version, Release, Arch string
}

// EVR is the version as the package managers write it: "2:1.0-3", without epoch
// "1.0-3".
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

// String is NAME-EVR.ARCH.
func (p Package) String() string { return p.Name + "-" + p.EVR() + "." + p.Arch }

// packageList is where rpm-ostree has the list: name, epoch, version, release,
// architecture.
const packageList = "rpmostree.rpmdb.pkglist"

var typePackages = gvariant.ArrayOf(gvariant.TupleOf(gvariant.String, gvariant.String, gvariant.String, gvariant.String, gvariant.String))

// Packages gives the packages of a commit, sorted by name, architecture and
// version: the list in its metadata (rpmostree.rpmdb.pkglist), else its RPM
// database, else dpkg's. One without is an error that wraps [fs.ErrNotExist].
func (r *Repo) Packages(ctx context.Context, commit Checksum) ([]Package, error) {
	list, err := r.packages(ctx, commit)
	if err != nil {
		return nil, &Error{Op: "packages", Target: commit.String(), Err: err}
	}
	slices.SortFunc(list, comparePackages)
	return list, nil
}

func comparePackages(a, b Package) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.EVR(), b.EVR()))
}

func (r *Repo) packages(ctx context.Context, commit Checksum) ([]Package, error) {
	c, err := r.ReadCommit(ctx, commit)
	if err != nil {
		return nil, err
	}
	if list, err := c.Packages(); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return list, err
	}
	fsys, err := r.FS(ctx, commit)
	if err != nil {
		return nil, err
	}
	list, err := collectPackages(rpmdb.Packages(fsys), func(p *rpmdb.Package) Package { return Package{p.Name, p.Epoch, p.Version, p.Release, p.Arch} })
	if errors.Is(err, fs.ErrNotExist) {
		list, err = collectPackages(dpkg.Packages(fsys, &dpkg.Options{NoChanges: true}),
			func(p *dpkg.Package) Package { return Package{p.Name, p.Epoch, p.Version, p.Release, p.Arch} })
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("neither a package list in the metadata nor a database of RPM or dpkg: %w", fs.ErrNotExist)
	}
	return list, err
}

// Packages gives the list of packages in the commit's metadata
// (rpmostree.rpmdb.pkglist), in its order. A commit without is an error that
// wraps [fs.ErrNotExist]; see [Repo.Packages].
func (c *Commit) Packages() ([]Package, error) {
	v, ok := c.Lookup(packageList)
	if !ok {
		return nil, fmt.Errorf("no %s: %w", packageList, fs.ErrNotExist)
	}
	list, err := decodePackages(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", packageList, err)
	}
	return list, nil
}

func collectPackages[T any](packages iter.Seq2[T, error], convert func(*T) Package) ([]Package, error) {
	var list []Package
	for p, err := range packages {
		if err != nil {
			return nil, err
		}
		list = append(list, convert(&p))
	}
	return list, nil
}

func decodePackages(v Variant) ([]Package, error) {
	if err := v.want(typePackages.String()); err != nil {
		return nil, err
	}
	a, err := gvariant.OpenArray(typePackages, v.Data)
	if err != nil {
		return nil, err
	}
	var list []Package
	var room [5][]byte
	for i := range a.Len() {
		elem, err := a.At(i)
		if err != nil {
			return nil, err
		}
		members, err := gvariant.AppendMembers(room[:0], typePackages.Elem(), elem)
		if err != nil {
			return nil, err
		}
		var p Package
		for j, field := range []*string{&p.Name, &p.Epoch, &p.Version, &p.Release, &p.Arch} {
			if *field, err = gvariant.DecodeString(members[j]); err != nil {
				return nil, err
			}
		}
		if p.Epoch == "0" {
			p.Epoch = "" // rpm-ostree has no other way to say "none"
		}
		list = append(list, p)
	}
	return list, nil
}

// PackageChange is one difference between the packages of two commits. From is
// nil for an added, To for a removed package.
type PackageChange struct{ From, To *Package }

// DiffPackages gives the differences between two lists of packages, in the order
// of [Repo.Packages]. A package is changed if both lists have its name and
// architecture with different versions; of several versions of one package, as
// kernels have, those that both lists have are left out first.
func DiffPackages(from, to []Package) []PackageChange {
	a, b := slices.Clone(from), slices.Clone(to)
	slices.SortFunc(a, comparePackages)
	slices.SortFunc(b, comparePackages)
	// What both have goes.
	a, b = without(a, b), without(b, a)
	var changes []PackageChange
	for len(a) > 0 || len(b) > 0 {
		order := 0
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		default:
			order = cmp.Or(cmp.Compare(a[0].Name, b[0].Name), cmp.Compare(a[0].Arch, b[0].Arch))
		}
		var c PackageChange
		if order <= 0 {
			c.From, a = &a[0], a[1:]
		}
		if order >= 0 {
			c.To, b = &b[0], b[1:]
		}
		changes = append(changes, c)
	}
	return changes
}

// without gives what a has more often than b; both are sorted.
func without(a, b []Package) []Package {
	var rest []Package
	for _, p := range a {
		for len(b) > 0 && comparePackages(b[0], p) < 0 {
			b = b[1:]
		}
		if len(b) > 0 && b[0] == p {
			b = b[1:]
			continue
		}
		rest = append(rest, p)
	}
	return rest
}
