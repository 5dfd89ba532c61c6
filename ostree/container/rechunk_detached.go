package container

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/internal/ostreetar"
	"github.com/okd-project/okd-streams/ostree"
)

// ReplaceDetachedMetadata gives an OSTree-native image with another detached
// metadata of its commit, where signatures are: the serialized form of
// [ostree.MarshalMetadata], nil for none. Only the first layer is made anew, in
// cache, which must stay open; all other bytes of its tar stream, the other
// layers and what the documents say beside that layer stay. An image in
// Docker's format wraps [errors.ErrUnsupported].
func ReplaceDetachedMetadata(ctx context.Context, cache *Cache, img v1.Image, metadata []byte) (v1.Image, error) {
	out, err := replaceDetached(ctx, cache, img, metadata)
	if err != nil {
		return nil, &Error{"replace detached metadata", "image", err}
	}
	return out, nil
}

func replaceDetached(ctx context.Context, cache *Cache, img v1.Image, metadata []byte) (v1.Image, error) {
	if metadata != nil {
		if _, err := ostree.DecodeMetadata(metadata); err != nil {
			return nil, fmt.Errorf("the metadata: %w", err)
		}
	}
	if t, err := img.MediaType(); err != nil {
		return nil, err
	} else if t != types.OCIManifestSchema1 && t != "" {
		return nil, fmt.Errorf("media type %q: %w", t, errors.ErrUnsupported)
	}
	i, err := inspect(ctx, img)
	if err != nil {
		return nil, err
	}
	if i.Head == nil {
		return nil, fmt.Errorf("it has no commit: %w", errors.ErrUnsupported)
	}
	layers, err := layersToRead(img)
	if err != nil {
		return nil, err
	}
	old := layers[0]
	layers[0], err = detachedLayer(ctx, cache, &old, i.Commit, metadata)
	if err != nil {
		return nil, fmt.Errorf("layer 0: %w", err)
	}
	for k := 1; k < len(layers); k++ {
		layers[k].Layer = &priorLayer{layers[k].Layer, layers[k].diffID, layers[k].descriptor}
	}
	config, manifest, err := replaceFirst(img, &old, &layers[0])
	if err != nil {
		return nil, err
	}
	return &image{config, manifest, layers}, nil
}

// detachedLayer makes the commit's layer with other metadata.
func detachedLayer(ctx context.Context, cache *Cache, old *builtLayer, commit ostree.Checksum, metadata []byte) (builtLayer, error) {
	codec := Gzip
	switch old.descriptor.MediaType {
	case types.OCILayerZStd:
		codec = Zstd
	case types.OCIUncompressedLayer:
		codec = None
	}
	enc, err := newEncoding(codec, 0)
	if err != nil {
		return builtLayer{}, err
	}
	k := newKeyHash()
	k.text("okd-streams detached metadata")
	k.text(old.diffID.String())
	k.bool(metadata != nil)
	k.text(string(metadata))
	key := k.key()
	if r, ok, err := cache.lookup(ctx, key.with(enc)); err != nil {
		return builtLayer{}, err
	} else if ok {
		return cachedBuilt(cache, enc, r), nil
	}
	c, err := newCompressor(enc, 1, 1)
	if err != nil {
		return builtLayer{}, err
	}
	defer c.stop()
	file, err := cache.create()
	if err != nil {
		return builtLayer{}, err
	}
	s := c.newStream(ctx, file)
	if err := copyWithDetached(ctx, s, old, commit, metadata); err != nil {
		s.abort()
		file.drop()
		return builtLayer{}, err
	}
	b, err := s.finish()
	if err != nil {
		file.drop()
		return builtLayer{}, err
	}
	r, err := file.keep(key.with(enc), b)
	if err != nil {
		return builtLayer{}, err
	}
	return cachedBuilt(cache, enc, r), nil
}

// copyWithDetached copies a layer's tar stream, with the metadata after the
// commit. The layer is verified as it is read.
func copyWithDetached(ctx context.Context, to io.Writer, old *builtLayer, commit ostree.Checksum, metadata []byte) error {
	plain, err := uncompressed(&priorLayer{old.Layer, old.diffID, old.descriptor})
	if err != nil {
		return err
	}
	defer plain.Close()
	sum := sha256.New()
	src := io.TeeReader(contextReader{ctx, plain}, sum)

	// The tar reader reads no more than it gives out, so what passes by is the
	// stream up to where it is. An entry's headers are kept until it is known
	// what it is.
	var passed bytes.Buffer
	r := tar.NewReader(io.TeeReader(io.LimitReader(src, maxBeforeCommit*ostreetar.Block+4*maxCommitSize), &passed))
	hex := commit.String()
	object := "sysroot/ostree/repo/objects/" + hex[:2] + "/" + hex[2:]
	flush := func() error {
		_, err := passed.WriteTo(to)
		return err
	}
	padding := int64(0)
	for found := false; !found; {
		h, err := r.Next()
		if err != nil {
			return err // the commit was there a moment ago
		}
		if found = strings.TrimPrefix(h.Name, "./") == object+".commit"; found {
			padding = padded(h.Size)
			if _, err := io.Copy(io.Discard, r); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	// The commit's padding passes with the headers of the next entry.
	h, err := r.Next()
	if err != nil && err != io.EOF {
		return err
	}
	if _, err := to.Write(passed.Next(int(padding))); err != nil {
		return err
	}
	if metadata != nil {
		if err := ostreetar.NewWriter(to).Metadata(hex, "commitmeta", metadata); err != nil {
			return err
		}
	}
	if err == nil && strings.TrimPrefix(h.Name, "./") == object+".commitmeta" {
		if _, err := io.Copy(io.Discard, r); err != nil {
			return err
		}
		passed.Reset()
		if _, err := io.CopyN(io.Discard, src, padded(h.Size)); err != nil {
			return err
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if _, err := io.Copy(to, src); err != nil {
		return err
	}
	if got := sum256(sum); got != old.diffID {
		return fmt.Errorf("content is %s, not %s as the config says: %w", got, old.diffID, ostree.ErrCorrupt)
	}
	return nil
}

// padded is how many bytes follow an entry's content up to the next header.
func padded(size int64) int64 { return (ostreetar.Block - size%ostreetar.Block) % ostreetar.Block }

// replaceFirst gives the documents of an image whose first layer is another.
// What is in them that we don't know stays; they come out as canonical JSON.
func replaceFirst(img v1.Image, old, first *builtLayer) (config, manifest []byte, err error) {
	rawConfig, err := img.RawConfigFile()
	if err != nil {
		return nil, nil, err
	}
	rawManifest, err := img.RawManifest()
	if err != nil {
		return nil, nil, err
	}
	final := func(labels any) {
		if m, ok := labels.(map[string]any); ok && m[LabelFinalDiffID] == old.diffID.String() {
			m[LabelFinalDiffID] = first.diffID.String()
		}
	}
	config, err = editJSON(rawConfig, func(doc map[string]any) bool {
		if inner, ok := doc["config"].(map[string]any); ok {
			final(inner["Labels"])
		}
		rootfs, _ := doc["rootfs"].(map[string]any)
		ids, _ := rootfs["diff_ids"].([]any)
		if len(ids) == 0 {
			return false
		}
		ids[0] = first.diffID.String()
		return true
	})
	if err != nil {
		return nil, nil, fmt.Errorf("config: %w", err)
	}
	digest, size, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		return nil, nil, err
	}
	manifest, err = editJSON(rawManifest, func(doc map[string]any) bool {
		final(doc["annotations"])
		descriptor, ok := doc["config"].(map[string]any)
		list, _ := doc["layers"].([]any)
		if !ok || len(list) == 0 {
			return false
		}
		layer, ok := list[0].(map[string]any)
		if !ok {
			return false
		}
		descriptor["digest"], descriptor["size"] = digest.String(), size
		d := first.descriptor
		layer["digest"], layer["size"], layer["mediaType"] = d.Digest.String(), d.Size, string(d.MediaType)
		return true
	})
	if err != nil {
		return nil, nil, fmt.Errorf("manifest: %w", err)
	}
	return config, manifest, nil
}

// editJSON applies fn to a document; it says whether the document has what it
// needs.
func editJSON(data []byte, fn func(map[string]any) bool) ([]byte, error) {
	var doc map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		return nil, err
	}
	if !fn(doc) {
		return nil, fmt.Errorf("lacks what an image has: %w", ostree.ErrCorrupt)
	}
	return canonicalJSON(doc)
}
