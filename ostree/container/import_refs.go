package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/ostree"
)

// The refs by which ostree-ext and bootc keep images.
const (
	layerRefs = "ostree/container/blob"
	imageRefs = "ostree/container/image"
)

// imageUsers are refs of commits whose images must stay: those that others base
// commits on, deployments, and rpm-ostree's.
var imageUsers = []string{"ostree/container/baseimage", "ostree/0", "ostree/1", "rpmostree/base"}

// escapeRef makes text the end of a ref, as ostree-ext's module refescape does:
// letters, digits and "-" stay, and "/" between others; "_" is doubled; anything
// else is its code point in hexadecimal between underscores.
func escapeRef(text string) (string, error) {
	if text == "" || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return "", fmt.Errorf("%.200q can't be in a ref: %w", text, fs.ErrInvalid)
	}
	var b strings.Builder
	plain := false // the character before is a letter or digit
	for i, c := range text {
		isPlain := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		switch {
		case isPlain, c == '-', c == '/' && plain && i < len(text)-1:
			b.WriteRune(c)
		case c == '_':
			b.WriteString("__")
		default:
			fmt.Fprintf(&b, "_%02X_", c)
		}
		plain = isPlain
	}
	return b.String(), nil
}

// unescapeRef is the reverse of escapeRef.
func unescapeRef(ref string) (string, error) {
	bad := func() (string, error) { return "", fmt.Errorf("%.200q is no escaped name: %w", ref, fs.ErrInvalid) }
	var b strings.Builder
	for rest := ref; rest != ""; {
		var code string
		var ok bool
		c := rest[0]
		rest = rest[1:]
		if c != '_' {
			b.WriteByte(c)
			continue
		}
		if code, rest, ok = strings.Cut(rest, "_"); !ok {
			return bad()
		}
		if code == "" {
			b.WriteByte('_')
			continue
		}
		n, err := strconv.ParseUint(code, 16, 32)
		if err != nil || n > utf8.MaxRune || !utf8.ValidRune(rune(n)) || n == 0 {
			return bad()
		}
		b.WriteRune(rune(n))
	}
	if b.Len() == 0 || !utf8.ValidString(b.String()) {
		return bad()
	}
	return b.String(), nil
}

func layerRef(digest v1.Hash) (string, error) {
	name, err := escapeRef(digest.String())
	return layerRefs + "/" + name, err
}

// transports are the ways to name an image that ostree-ext knows; it fails on a
// repository that has images with other names.
var transports = []string{"docker://", "oci:", "oci-archive:", "docker-archive:", "containers-storage:", "dir:"}

// imageRef gives the ref of a stored image's name.
func imageRef(name string) (string, error) {
	if rest, ok := strings.CutPrefix(name, "registry:"); ok {
		name = "docker://" + rest
	}
	for _, t := range transports {
		if rest, ok := strings.CutPrefix(name, t); ok && rest != "" {
			escaped, err := escapeRef(name)
			if err != nil {
				return "", err
			}
			ref := imageRefs + "/" + escaped
			return ref, ostree.CheckRef(ref)
		}
	}
	return "", fmt.Errorf("image name %.200q begins with none of %s: %w", name, strings.Join(transports, ", "), fs.ErrInvalid)
}

// StoredImage is an image that a repository has, imported by [Import], bootc or
// ostree-ext.
type StoredImage struct {
	Name   string // such as docker://quay.io/fedora/fedora-coreos:stable; "": found by its commit
	Commit ostree.Checksum
	// Base is the commit that the image was made of; zero: there is none.
	Base   ostree.Checksum
	Digest v1.Hash // of the manifest that was imported
	// Manifest and Config are as they were imported, as canonical JSON; the
	// digests of others' bytes need not be theirs.
	Manifest *v1.Manifest
	Config   *v1.ConfigFile
}

// ListImages yields the images that a repository has by name, in the order of
// their refs. One that can't be read ends the sequence.
func ListImages(ctx context.Context, repo *ostree.Repo) iter.Seq2[*StoredImage, error] {
	return func(yield func(*StoredImage, error) bool) {
		for ref, err := range repo.RefsBelow(ctx, imageRefs) {
			var image *StoredImage
			if err == nil {
				image, err = storedImage(ctx, repo, ref.Commit)
			}
			if err == nil {
				image.Name, err = unescapeRef(strings.TrimPrefix(ref.Name, imageRefs+"/"))
			}
			if err != nil {
				if _, ok := errors.AsType[*ostree.Error](err); !ok {
					err = &Error{"list images", ref.String(), err}
				}
				yield(nil, err)
				return
			}
			if !yield(image, nil) {
				return
			}
		}
	}
}

// errNoImage is the fault of a commit that no import made.
var errNoImage = fmt.Errorf("commit has no metadata %q: %w", keyManifest, fs.ErrNotExist)

// storedImage reads what a commit says about the image that it was made of.
func storedImage(ctx context.Context, repo *ostree.Repo, c ostree.Checksum) (*StoredImage, error) {
	commit, err := repo.ReadCommit(ctx, c)
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for _, key := range []string{keyManifest, keyManifestDigest, keyConfig} {
		v, ok := commit.Lookup(key)
		if !ok && key == keyManifest {
			return nil, errNoImage
		}
		if !ok {
			continue // images of old times have no config
		}
		if texts[key], err = v.AsString(); err != nil {
			return nil, fmt.Errorf("commit metadata %q: %w", key, err)
		}
	}
	image := &StoredImage{Commit: c, Base: commit.Parent, Config: &v1.ConfigFile{}}
	if image.Manifest, err = v1.ParseManifest(strings.NewReader(texts[keyManifest])); err != nil {
		return nil, fmt.Errorf("commit metadata %q: %w", keyManifest, err)
	}
	if image.Digest, err = v1.NewHash(texts[keyManifestDigest]); err != nil {
		return nil, fmt.Errorf("commit metadata %q: %w", keyManifestDigest, err)
	}
	if text := texts[keyConfig]; text != "" {
		if image.Config, err = v1.ParseConfigFile(strings.NewReader(text)); err != nil {
			return nil, fmt.Errorf("commit metadata %q: %w", keyConfig, err)
		}
	}
	return image, nil
}

// RemoveImage takes an image's name away. One that is not there is an error that
// wraps [fs.ErrNotExist]. Its layers stay until [PruneImages].
func RemoveImage(ctx context.Context, repo *ostree.Repo, name string) error {
	ref, err := imageRef(name)
	if err == nil {
		err = repo.DeleteRef(ctx, ref)
	}
	if err != nil {
		return &Error{"remove image", name, err}
	}
	return nil
}

// PruneImages takes the names of layers away that no image needs any more: none
// with a name, none that is deployed (ostree/0, ostree/1, rpmostree/base) and none
// that a ref below ostree/container/baseimage names. It gives the digests of
// those layers. [ostree.Repo.Prune] then frees the room.
func PruneImages(ctx context.Context, repo *ostree.Repo) ([]v1.Hash, error) {
	pruned, err := pruneLayers(ctx, repo)
	if err != nil {
		return pruned, &Error{"prune images", repo.Path(), err}
	}
	return pruned, nil
}

func pruneLayers(ctx context.Context, repo *ostree.Repo) ([]v1.Hash, error) {
	needed := map[string]bool{}
	keep := func(image *StoredImage) {
		for _, l := range image.Manifest.Layers {
			needed[l.Digest.String()] = true
		}
	}
	for image, err := range ListImages(ctx, repo) {
		if err != nil {
			return nil, err
		}
		keep(image)
	}
	for _, prefix := range imageUsers {
		for ref, err := range repo.RefsBelow(ctx, prefix) {
			if err != nil {
				return nil, err
			}
			image, err := storedImage(ctx, repo, ref.Commit)
			if errors.Is(err, errNoImage) {
				continue
			}
			if err != nil {
				return nil, err
			}
			keep(image)
		}
	}
	var pruned []v1.Hash
	for ref, err := range repo.RefsBelow(ctx, layerRefs) {
		if err != nil {
			return pruned, err
		}
		name, err := unescapeRef(strings.TrimPrefix(ref.Name, layerRefs+"/"))
		if err != nil {
			return pruned, err
		}
		if needed[name] {
			continue
		}
		digest, err := v1.NewHash(name)
		if err != nil {
			return pruned, fmt.Errorf("%s: %w", ref, err)
		}
		if err := repo.SetRef(ctx, ref.Name, ostree.Checksum{}); err != nil {
			return pruned, err
		}
		pruned = append(pruned, digest)
	}
	return pruned, nil
}
