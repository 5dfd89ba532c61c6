// Package sample makes what the built-in stream "sample" is built from: a small
// OS tree, a node and an extensions image, a cluster-version-operator base and
// two operators. Everything is made on the spot, from this file, and says
// "sample" in its names: none of it boots or runs.
package sample

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/publish"
)

// NodeID changes when [Node] makes something else of the same base image.
const NodeID = "sample-node-1"

// kernel is the version of the sample's kernel, which is a text.
const kernel = "0.0.0-sample"

// Epoch is the time of everything in the sample, so that its digests depend on
// nothing but this file.
var Epoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// packages are the sample's packages: name to files.
var packages = map[string]map[string]string{
	"sample-release": {
		"usr/lib/os-release":          "NAME=\"OKD Streams sample\"\nID=okd-streams-sample\nVERSION_ID=0\nPRETTY_NAME=\"OKD Streams sample (does not boot)\"\n",
		"usr/etc/sample-release":      "sample\n",
		"usr/share/sample/LICENSE":    "Apache-2.0\n",
		"usr/lib/tmpfiles.d/var.conf": "d /var/lib/sample 0755 root root -\n",
	},
	"sample-kernel": {
		"usr/lib/modules/" + kernel + "/vmlinuz":       "sample kernel: a text, it does not boot\n",
		"usr/lib/modules/" + kernel + "/initramfs.img": "sample initramfs: a text, it does not boot\n",
		"usr/lib/modules/" + kernel + "/modules.dep":   "",
	},
	"sample-shell": {
		"usr/bin/sample-sh":           "#!/bin/sh\nexec echo sample \"$@\"\n",
		"usr/etc/profile.d/sample.sh": "export SAMPLE=1\n",
	},
	"sample-docs": {
		"usr/share/doc/sample/README": strings.Repeat("The sample stream shows the walk from a tree to a release.\n", 64),
	},
	"sample-fonts": {
		"usr/share/fonts/sample.bdf": strings.Repeat("STARTCHAR sample\nENDCHAR\n", 256),
	},
}

// links are the sample's symbolic links.
var links = map[string]string{
	"usr/bin/sh":         "sample-sh",
	"usr/etc/os-release": "../lib/os-release",
	"bin":                "usr/bin",
	"lib":                "usr/lib",
	"ostree":             "sysroot/ostree",
	"home":               "var/home",
	"root":               "var/roothome",
	"opt":                "var/opt",
	"srv":                "var/srv",
	"mnt":                "var/mnt",
}

// Tree is the sample's OS tree, arranged for OSTree, with a dpkg database that
// names the owner of each file.
func Tree() ostree.Tree {
	files := map[string]string{}
	var status strings.Builder
	for _, pkg := range slices.Sorted(maps.Keys(packages)) {
		var list strings.Builder
		list.WriteString("/.\n")
		size := 0
		for _, file := range slices.Sorted(maps.Keys(packages[pkg])) {
			files[file] = packages[pkg][file]
			size += len(packages[pkg][file])
			list.WriteString("/" + file + "\n")
		}
		files["usr/lib/sysimage/dpkg/info/"+pkg+".list"] = list.String()
		fmt.Fprintf(&status, "Package: %s\nStatus: install ok installed\nMaintainer: sample\nArchitecture: all\nVersion: 0.1\nInstalled-Size: %d\nDescription: part of the sample stream\n\n", pkg, (size+1023)/1024)
	}
	files["usr/lib/sysimage/dpkg/status"] = status.String()
	return ostree.TreeFunc(func(context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) {
			for _, e := range entries(files) {
				if !yield(e, nil) {
					return
				}
			}
		}
	})
}

// entries turns files and links into a sorted list with all parents.
func entries(files map[string]string) []ostree.Entry {
	all := map[string]ostree.Entry{".": {Path: ".", Mode: ostree.ModeDir | 0o755}}
	dir := func(p string) {
		for ; p != "."; p = path.Dir(p) {
			all[p] = ostree.Entry{Path: p, Mode: ostree.ModeDir | 0o755}
		}
	}
	for _, p := range []string{"boot", "dev", "proc", "run", "sys", "sysroot", "tmp", "var", "usr/local"} {
		dir(p)
	}
	for p, content := range files {
		dir(path.Dir(p))
		mode := uint32(0o644)
		if strings.HasPrefix(p, "usr/bin/") {
			mode = 0o755
		}
		all[p] = ostree.Entry{
			Path: p, Mode: ostree.ModeRegular | mode, Size: int64(len(content)), Detached: true,
			Open: func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(strings.NewReader(content)), nil
			},
		}
	}
	for p, target := range links {
		all[p] = ostree.Entry{Path: p, Target: target, Mode: ostree.ModeSymlink | 0o777}
	}
	var out []ostree.Entry
	for _, p := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[p])
	}
	return out
}

// Node makes the sample's node image, one layer on top of base, and its
// extensions image.
func Node(_ context.Context, base v1.Image) (node, extensions v1.Image, err error) {
	node, err = appendFiles(base, map[string]string{
		"usr/bin/sample-kubelet":             "#!/bin/sh\nexec echo sample kubelet\n",
		"usr/share/openshift/base/meta.json": `{"rpmdb.pkglist":[["sample-kubelet","0","0.1","1","noarch"]]}` + "\n",
	})
	if err != nil {
		return nil, nil, err
	}
	if node, err = label(node, map[string]string{
		"io.openshift.build.versions":              "machine-os=0.0.0-sample",
		"io.openshift.build.version-display-names": "machine-os=OKD Streams sample",
		"io.openshift.build.commit.id":             "",
		"io.openshift.build.source-location":       "",
		"org.opencontainers.image.title":           "sample node image",
	}); err != nil {
		return nil, nil, err
	}
	extensions, err = appendFiles(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), map[string]string{
		"usr/share/rpm-ostree/extensions.json": "{}\n",
	})
	if err != nil {
		return nil, nil, err
	}
	extensions, err = label(extensions, map[string]string{"io.openshift.os.extensions": "true", "org.opencontainers.image.title": "sample extensions image"})
	return node, extensions, err
}

// Components writes the sample's component images into repo and gives their
// names and references, by digest.
func Components(ctx context.Context, registry publish.Registry, repo name.Repository) (map[string]name.Reference, error) {
	made := map[string]map[string]string{
		"cluster-version-operator": {
			"manifests/0000_00_cluster-version-operator_00_namespace.yaml": namespace("openshift-cluster-version"),
		},
		"sample-operator": {
			"manifests/0000_50_sample-operator_00_namespace.yaml":  namespace("openshift-sample-operator"),
			"manifests/0000_50_sample-operator_01_deployment.yaml": deployment("sample-operator", "placeholder.example.org/sample:sample-operator"),
			"manifests/image-references":                           references("sample-operator"),
		},
		"machine-config-operator": {
			"manifests/0000_80_machine-config-operator_00_namespace.yaml":  namespace("openshift-machine-config-operator"),
			"manifests/0000_80_machine-config-operator_01_deployment.yaml": deployment("machine-config-operator", "placeholder.example.org/sample:machine-config-operator"),
			"manifests/0000_80_machine-config-operator_02_osimageurl.yaml": osImageURL(),
			"manifests/image-references":                                   references("machine-config-operator", "stream-coreos", "stream-coreos-extensions"),
		},
	}
	out := make(map[string]name.Reference, len(made))
	for _, component := range slices.Sorted(maps.Keys(made)) {
		img, err := appendFiles(mutate.MediaType(empty.Image, types.DockerManifestSchema2), made[component])
		if err != nil {
			return nil, err
		}
		labels := map[string]string{"io.openshift.build.commit.id": "", "io.openshift.build.source-location": ""}
		if component != "cluster-version-operator" {
			labels["io.openshift.release.operator"] = "true"
		}
		if img, err = label(img, labels); err != nil {
			return nil, err
		}
		desc, err := registry.WriteImage(ctx, repo, img, nil)
		if err != nil {
			return nil, err
		}
		out[component] = repo.Digest(desc.Digest.String())
	}
	return out, nil
}

func namespace(name string) string {
	return "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: " + name + "\n  annotations:\n    include.release.openshift.io/self-managed-high-availability: \"true\"\n"
}

func deployment(name, image string) string {
	return "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: " + name + "\n  namespace: openshift-" + name + `
  annotations:
    include.release.openshift.io/self-managed-high-availability: "true"
    release.openshift.io/version: 0.0.1-snapshot
spec:
  selector:
    matchLabels: {app: ` + name + `}
  template:
    metadata:
      labels: {app: ` + name + `}
    spec:
      containers:
      - name: operator
        image: ` + image + `
        env:
        - name: RELEASE_VERSION
          value: 0.0.1-snapshot
`
}

func osImageURL() string {
	return `apiVersion: v1
kind: ConfigMap
metadata:
  name: machine-config-osimageurl
  namespace: openshift-machine-config-operator
  annotations:
    include.release.openshift.io/self-managed-high-availability: "true"
data:
  releaseVersion: 0.0.1-snapshot
  baseOSContainerImage: placeholder.example.org/sample:stream-coreos
  baseOSExtensionsContainerImage: placeholder.example.org/sample:stream-coreos-extensions
`
}

func references(tags ...string) string {
	var b strings.Builder
	b.WriteString("apiVersion: image.openshift.io/v1\nkind: ImageStream\nspec:\n  tags:\n")
	for _, tag := range tags {
		fmt.Fprintf(&b, "  - name: %s\n    from:\n      kind: DockerImage\n      name: placeholder.example.org/sample:%s\n", tag, tag)
	}
	return b.String()
}

// appendFiles puts one layer with files on top of img.
func appendFiles(img v1.Image, files map[string]string) (v1.Image, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	seen := map[string]bool{}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		var parents []string
		for p := path.Dir(file); p != "." && !seen[p]; p = path.Dir(p) {
			seen[p] = true
			parents = append(parents, p)
		}
		slices.Reverse(parents)
		for _, p := range parents {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: p + "/", Mode: 0o755, ModTime: Epoch, Format: tar.FormatUSTAR}); err != nil {
				return nil, err
			}
		}
		mode := int64(0o644)
		if strings.HasPrefix(file, "usr/bin/") {
			mode = 0o755
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: file, Mode: mode, Size: int64(len(files[file])), ModTime: Epoch, Format: tar.FormatUSTAR}); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, files[file]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	media, err := img.MediaType()
	if err != nil {
		return nil, err
	}
	layerType := types.DockerLayer
	if media == types.OCIManifestSchema1 {
		layerType = types.OCILayer
	}
	// Compressed here and not by tarball, whose bytes change with Go's version.
	var compressed bytes.Buffer
	zw, err := gzip.NewWriterLevel(&compressed, gzip.DefaultCompression)
	if err != nil {
		return nil, err
	}
	if _, err := zw.Write(buf.Bytes()); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(compressed.Bytes())), nil
	}, tarball.WithMediaType(layerType))
	if err != nil {
		return nil, err
	}
	return mutate.Append(img, mutate.Addendum{
		Layer: layer, MediaType: layerType,
		History: v1.History{Created: v1.Time{Time: Epoch}, CreatedBy: "okd-streams sample"},
	})
}

// label sets labels, platform and time of img.
func label(img v1.Image, labels map[string]string) (v1.Image, error) {
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	if file.Config.Labels == nil {
		file.Config.Labels = map[string]string{}
	}
	maps.Copy(file.Config.Labels, labels)
	file.OS, file.Architecture = "linux", "amd64"
	file.Created = v1.Time{Time: Epoch}
	return mutate.ConfigFile(img, file)
}
