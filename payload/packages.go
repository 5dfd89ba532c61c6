package payload

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/ostree/container"
)

const (
	labelMetaLayer  = "io.openshift.metalayer"
	metaLayerFolder = "usr/share/openshift/base"
	metaLayerFile   = "meta.json"
	metaLayerKey    = "rpmdb.pkglist"
)

// Package is an installed RPM package.
type Package struct{ Name, Epoch, Version, Release, Arch string }

// EVR is "version-release", with "epoch:" before it unless it is 0.
func (p Package) EVR() string {
	evr := p.Version + "-" + p.Release
	if p.Epoch != "" && p.Epoch != "0" {
		evr = p.Epoch + ":" + evr
	}
	return evr
}

func (p Package) String() string { return p.Name + "-" + p.EVR() }

// PackagesOptions say how [Release.Packages] reads. Nil is the default.
type PackagesOptions struct {
	// Component is the tag of the image. Default: the node image, the tag X
	// where there is X-extensions too and X contains coreos; of several the
	// first.
	Component string
	// Platform to choose from an index. Default linux/amd64.
	Platform v1.Platform
	// TempDir is where the image's layers are unpacked if it has no list of its
	// packages. Default: the system's.
	TempDir string
}

// Packages lists the packages of the node image or another component, by name.
// An image with the label io.openshift.metalayer=true has a list in its last
// layer, and only that is fetched. Others are read by container.Packages: an
// OSTree-native image to which nothing was added has a list in its commit, of
// another all layers are fetched, to find the database of rpm or dpkg. An image
// without any gives [io/fs.ErrNotExist].
func (r *Release) Packages(ctx context.Context, src Images, opts *PackagesOptions) ([]Package, error) {
	if opts == nil {
		opts = &PackagesOptions{}
	}
	tag := opts.Component
	if tag == "" {
		paired, _ := pairedOS(r.References.Tags)
		if len(paired) == 0 {
			return nil, &Error{Op: "packages", Target: r.Version(), Err: fmt.Errorf("no node image, X and X%s with coreos in the name: %w", extensionsSuffix, fs.ErrNotExist)}
		}
		tag = paired[0]
	}
	images, err := r.fetchComponents(ctx, src, []string{tag}, opts.Platform, 1)
	if err != nil {
		return nil, err
	}
	list, err := packagesOf(ctx, images[tag], opts.TempDir)
	if err != nil {
		return nil, &Error{Op: "packages", Target: "component " + tag, Err: err}
	}
	slices.SortFunc(list, func(a, b Package) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.EVR(), b.EVR()), strings.Compare(a.Arch, b.Arch))
	})
	return list, nil
}

func packagesOf(ctx context.Context, f *fetched, tempDir string) ([]Package, error) {
	if last := len(f.manifest.Layers) - 1; last >= 0 && f.labels()[labelMetaLayer] == "true" {
		dir := newFolder(metaLayerFolder)
		if err := f.readLayers(ctx, dir, last); err != nil {
			return nil, err
		}
		if meta, ok := dir.files[metaLayerFile]; ok {
			return metaPackages(meta.data)
		}
	}
	list, err := container.Packages(ctx, verifiedImage{f.img, f}, &container.PackagesOptions{TempDir: tempDir})
	if err != nil {
		return nil, err
	}
	if len(list) > MaxPackages {
		return nil, fmt.Errorf("%d packages, limit %d", len(list), MaxPackages)
	}
	out := make([]Package, len(list))
	for i, p := range list {
		out[i] = Package{p.Name, p.Epoch, p.Version, p.Release, p.Arch}
	}
	return out, nil
}

// verifiedImage is an image that says again what was verified of it.
type verifiedImage struct {
	v1.Image
	f *fetched
}

func (i verifiedImage) RawManifest() ([]byte, error)   { return i.f.raw, nil }
func (i verifiedImage) RawConfigFile() ([]byte, error) { return i.f.rawConfig, nil }
func (i verifiedImage) Digest() (v1.Hash, error)       { return i.f.digest, nil }
func (i verifiedImage) ConfigName() (v1.Hash, error)   { return i.f.manifest.Config.Digest, nil }
func (i verifiedImage) Manifest() (*v1.Manifest, error) {
	return i.f.manifest.DeepCopy(), nil
}

func (i verifiedImage) ConfigFile() (*v1.ConfigFile, error) {
	return v1.ParseConfigFile(bytes.NewReader(i.f.rawConfig))
}

// metaPackages reads the list in an image's last layer.
func metaPackages(data []byte) ([]Package, error) {
	var meta map[string]json.RawMessage
	if err := json.Unmarshal(data, &meta); err != nil {
		return nil, fmt.Errorf("%s: %w", metaLayerFile, err)
	}
	rows, err := decodeList[[]json.RawMessage](meta[metaLayerKey], MaxPackages)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", metaLayerFile, metaLayerKey, err)
	}
	out := make([]Package, len(rows))
	for i, row := range rows {
		if len(row) != 5 {
			return nil, fmt.Errorf("%s: %s: package %d has %d fields, want name, epoch, version, release, architecture", metaLayerFile, metaLayerKey, i+1, len(row))
		}
		p := &out[i]
		for n, field := range []*string{&p.Name, &p.Epoch, &p.Version, &p.Release, &p.Arch} {
			text := string(row[n])
			if err := json.Unmarshal(row[n], field); err != nil && (n != 1 || strings.ContainsAny(text, `"[{`)) {
				return nil, fmt.Errorf("%s: %s: package %d: %w", metaLayerFile, metaLayerKey, i+1, err)
			} else if err != nil {
				*field = text // an epoch as a number
			}
		}
		if p.Name == "" {
			return nil, fmt.Errorf("%s: %s: package %d has no name", metaLayerFile, metaLayerKey, i+1)
		}
	}
	return out, nil
}

// PackageDifference is how two lists of packages differ, by name; the versions
// are as [Package.EVR] gives them. Its JSON is that of
// `oc adm release info --rpmdb-diff`.
type PackageDifference struct {
	Changed map[string]VersionChange `json:"changed,omitempty"`
	Added   map[string]string        `json:"added,omitempty"`
	Removed map[string]string        `json:"removed,omitempty"`
}

// VersionChange is a package in two versions.
type VersionChange struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// ComparePackages says what came, went and changed. Where a list has several
// versions of one package, they are given together, in order.
func ComparePackages(from, to []Package) *PackageDifference {
	d := &PackageDifference{Changed: map[string]VersionChange{}, Added: map[string]string{}, Removed: map[string]string{}}
	before, after := packageVersions(from), packageVersions(to)
	for name, v := range after {
		switch old, ok := before[name]; {
		case !ok:
			d.Added[name] = v
		case old != v:
			d.Changed[name] = VersionChange{old, v}
		}
	}
	for name, v := range before {
		if _, ok := after[name]; !ok {
			d.Removed[name] = v
		}
	}
	return d
}

func packageVersions(list []Package) map[string]string {
	all := map[string][]string{}
	for _, p := range list {
		all[p.Name] = append(all[p.Name], p.EVR())
	}
	out := make(map[string]string, len(all))
	for name, versions := range all {
		slices.Sort(versions)
		out[name] = strings.Join(slices.Compact(versions), ", ")
	}
	return out
}
