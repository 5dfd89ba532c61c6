package container

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/ostree"
)

// Labels that OpenShift reads of the operating system's images.
const (
	LabelVersions   = "io.openshift.build.versions" // KEY=VERSION,…; machine-os is the node image's
	LabelExtensions = "io.openshift.os.extensions"  // "true": packages to install on nodes
	LabelMetaLayer  = "io.openshift.metalayer"      // "true": the last layer lists the packages
	machineOS       = "machine-os"
)

// Kind is what an image is to an operating system.
type Kind string

// Kinds of image.
const (
	KindBase       Kind = "base"       // the operating system alone, with its commit
	KindNode       Kind = "node"       // what nodes of a cluster run: it says its version to OpenShift
	KindExtensions Kind = "extensions" // packages that nodes may install
	KindPlain      Kind = "plain"      // bootable, without a commit
	KindOther      Kind = ""           // none of these
)

// Inspected is what an image says of itself.
type Inspected struct {
	Kind Kind
	// Commit is the checksum of the commit in the image and Head the commit
	// itself, verified; zero and nil if the image has none.
	Commit ostree.Checksum
	Head   *ostree.Commit
	// Version is that of the label org.opencontainers.image.version, else of
	// the commit; MachineOS is the one that OpenShift is told, for node images.
	Version, MachineOS string
	Bootable           bool   // says so by a label
	Architecture       string // in Go's spelling
	Created            time.Time
	Labels             map[string]string
	Layers             []Layer
}

// Layer is a layer of an image, as its documents have it.
type Layer struct {
	Digest, DiffID v1.Hash
	Size           int64 // of the blob, in bytes
	MediaType      types.MediaType
	// Components are the names in the annotation ostree.components; nil if it
	// is not there.
	Components []string
	// Derived says that the layer is not part of the image's commit.
	Derived bool
	// Created and CreatedBy are from the image's history; zero if that doesn't
	// match the layers.
	Created   time.Time
	CreatedBy string
}

// Inspect tells what an image is. Beside its documents it reads the first layer
// as far as the commit. An image that contradicts itself gives an error that
// wraps [ostree.ErrCorrupt]. See [Packages] for the packages, [Lint] for faults.
func Inspect(ctx context.Context, img v1.Image) (*Inspected, error) {
	i, err := inspect(ctx, img)
	if err != nil {
		return nil, &Error{"inspect", "image", err}
	}
	return i, nil
}

func inspect(ctx context.Context, img v1.Image) (*Inspected, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	labels := config.Config.Labels
	i := &Inspected{
		Version: labels[LabelVersion], MachineOS: machineVersion(labels[LabelVersions]),
		Bootable:     labels[LabelBootable] == "true" || labels[LabelBootc] == "1",
		Architecture: config.Architecture, Created: config.Created.UTC(), Labels: labels,
	}
	last := -1
	if i.Layers, last, err = describeLayers(m, config); err != nil {
		return nil, err
	}
	if last >= 0 {
		if i.Commit, err = ostree.ParseChecksum(labels[LabelCommit]); err != nil {
			return nil, fmt.Errorf("label %s: %w", LabelCommit, err)
		}
		if i.Head, err = readHead(ctx, img, m, i.Commit); err != nil {
			return nil, err
		}
		if v, ok := i.Head.Lookup("version"); ok && i.Version == "" {
			i.Version, _ = v.AsString()
		}
	}
	switch {
	case labels[LabelExtensions] == "true":
		i.Kind = KindExtensions
	case i.MachineOS != "":
		i.Kind = KindNode
	case i.Head != nil:
		i.Kind = KindBase
	case i.Bootable:
		i.Kind = KindPlain
	}
	return i, nil
}

// describeLayers gives the layers, and which is the last that belongs to the
// commit; -1: the image has none.
func describeLayers(m *v1.Manifest, config *v1.ConfigFile) (layers []Layer, last int, err error) {
	last = -1
	labels := config.Config.Labels
	if labels[LabelCommit] != "" || labels[LabelFinalDiffID] != "" {
		if last, err = lastOfCommit(m, config); err != nil {
			return nil, 0, err
		}
	} else if len(m.Layers) != len(config.RootFS.DiffIDs) {
		return nil, 0, fmt.Errorf("%d layers, but %d diff IDs: %w", len(m.Layers), len(config.RootFS.DiffIDs), ostree.ErrCorrupt)
	}
	history := slices.DeleteFunc(slices.Clone(config.History), func(h v1.History) bool { return h.EmptyLayer })
	for k, d := range m.Layers {
		l := Layer{Digest: d.Digest, DiffID: config.RootFS.DiffIDs[k], Size: d.Size, MediaType: d.MediaType, Derived: k > last}
		if names, ok := d.Annotations[AnnotationComponents]; ok {
			l.Components = slices.DeleteFunc(strings.Split(names, ","), func(n string) bool { return n == "" })
		}
		if len(history) == len(m.Layers) {
			l.Created, l.CreatedBy = history[k].Created.UTC(), history[k].CreatedBy
		}
		layers = append(layers, l)
	}
	return layers, last, nil
}

// machineVersion gives the version of machine-os in the label [LabelVersions].
func machineVersion(label string) string {
	for pair := range strings.SplitSeq(label, ",") {
		if key, version, _ := strings.Cut(strings.TrimSpace(pair), "="); key == machineOS {
			return version
		}
	}
	return ""
}

// Limits of what is read to find the commit: the directories of the repository
// come before it, and libostree's own limit for its size.
const (
	maxBeforeCommit = 4096
	maxCommitSize   = 10 << 20
)

// readHead reads the commit in the first layer. Its checksum is that of its
// bytes, so the layer need not be read to its end.
func readHead(ctx context.Context, img v1.Image, m *v1.Manifest, commit ostree.Checksum) (*ostree.Commit, error) {
	head, err := findHead(ctx, img, m, commit)
	if err != nil {
		return nil, fmt.Errorf("layer 0: %w", err)
	}
	return head, nil
}

func findHead(ctx context.Context, img v1.Image, m *v1.Manifest, commit ostree.Checksum) (*ostree.Commit, error) {
	if len(m.Layers) == 0 {
		return nil, fmt.Errorf("there are no layers: %w", ostree.ErrCorrupt)
	}
	layer, err := img.LayerByDigest(m.Layers[0].Digest)
	if err != nil {
		return nil, err
	}
	plain, err := uncompressed(layer)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	hex := commit.String()
	want := "sysroot/ostree/repo/objects/" + hex[:2] + "/" + hex[2:] + ".commit"
	r := tar.NewReader(plain)
	for range maxBeforeCommit {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		h, err := r.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		if strings.TrimPrefix(h.Name, "./") != want {
			continue
		}
		if h.Typeflag != tar.TypeReg || h.Size > maxCommitSize {
			return nil, fmt.Errorf("commit %s of %d bytes, limit %d: %w", commit, h.Size, int64(maxCommitSize), ostree.ErrCorrupt)
		}
		data := make([]byte, h.Size)
		if _, err := io.ReadFull(r, data); err != nil {
			return nil, err
		}
		if is := ostree.Checksum(sha256.Sum256(data)); is != commit {
			return nil, fmt.Errorf("the commit named %s is %s: %w", commit, is, ostree.ErrCorrupt)
		}
		return ostree.DecodeCommit(data)
	}
	return nil, fmt.Errorf("no commit %s, which the label %s names: %w", commit, LabelCommit, fs.ErrNotExist)
}

// HistoryEntry is a line of an image's history.
type HistoryEntry struct {
	Created                    time.Time
	CreatedBy, Comment, Author string
	Layer                      *Layer // nil: it made none
}

// History gives the history of an image, the oldest entry first, with the layer
// that each has made; it reads the documents only. That there is none is an error
// that wraps [fs.ErrNotExist]; one that is for more or fewer layers than the image has
// wraps [ostree.ErrCorrupt].
func History(img v1.Image) ([]HistoryEntry, error) {
	list, err := history(img)
	if err != nil {
		return nil, &Error{"history", "image", err}
	}
	return list, nil
}

func history(img v1.Image) ([]HistoryEntry, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	layers, _, err := describeLayers(m, config)
	if err != nil {
		return nil, err
	}
	if len(config.History) == 0 {
		return nil, fmt.Errorf("there is none: %w", fs.ErrNotExist)
	}
	var list []HistoryEntry
	at := 0
	for _, h := range config.History {
		e := HistoryEntry{Created: h.Created.UTC(), CreatedBy: h.CreatedBy, Comment: h.Comment, Author: h.Author}
		if !h.EmptyLayer {
			if at == len(layers) {
				return nil, fmt.Errorf("more entries than the %d layers: %w", len(layers), ostree.ErrCorrupt)
			}
			e.Layer = &layers[at]
			at++
		}
		list = append(list, e)
	}
	if at != len(layers) {
		return nil, fmt.Errorf("entries for %d of %d layers: %w", at, len(layers), ostree.ErrCorrupt)
	}
	return list, nil
}
