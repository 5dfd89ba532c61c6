package disk

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path"
	"strings"

	"github.com/okd-project/okd-streams/internal/compress"
)

// kubeVirtOwner is the user that runs QEMU in KubeVirt's pods.
const kubeVirtOwner = 107

// kubeVirtSink writes a tar archive with an OCI image layout: an image of one gzipped
// layer that has the disk as disk/NAME.qcow2. The QCOW2 is made in a temporary file.
type kubeVirtSink struct {
	*qcow2Sink
	file    *output
	name    string
	arch    string
	workers int
}

func newKubeVirtSink(f, disk *output, t Target, workers int) *kubeVirtSink {
	name := strings.TrimSuffix(t.Name, path.Ext(t.Name))
	if name == "" {
		name = "disk"
	}
	return &kubeVirtSink{newQCOW2Sink(disk, t.Size, t.Compression), f, name + ".qcow2", goArch(t.Architecture), workers}
}

// goArch is how OCI spells an architecture of RPM's.
func goArch(rpm string) string {
	switch rpm {
	case "x86_64", "":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return rpm
}

// descriptor is OCI's.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// Media types of OCI's image specification 1.1.
const (
	ociConfig   = "application/vnd.oci.image.config.v1+json"
	ociLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
)

func (s *kubeVirtSink) finish(ctx context.Context, id [32]byte) (int64, error) {
	disk := s.qcow2Sink.f
	defer disk.abort()
	size, err := s.qcow2Sink.finish(ctx, id)
	if err != nil {
		return 0, err
	}
	if err := disk.file.Truncate(size); err != nil {
		return 0, err
	}
	// The layer's name is its digest: its header is written after it.
	at := int64(tarBlock)
	layer, err := s.writeLayer(ctx, at, size)
	if err != nil {
		return 0, err
	}
	digest := func(sum [32]byte) string { return "sha256:" + hex.EncodeToString(sum[:]) }
	layerDesc := descriptor{ociLayer, digest(layer.SHA256), layer.Size}
	h, err := tarHeader(blobHeader(layerDesc))
	if err != nil {
		return 0, err
	}
	if _, err := s.file.WriteAt(h, 0); err != nil {
		return 0, err
	}
	at += (layer.Size + tarBlock - 1) / tarBlock * tarBlock

	member := func(h tar.Header, data []byte) error {
		h.Size = int64(len(data))
		p, err := tarHeader(h)
		if err != nil {
			return err
		}
		p = append(p, data...)
		p = append(p, make([]byte, -len(p)&(tarBlock-1))...)
		_, err = s.file.WriteAt(p, at)
		at += int64(len(p))
		return err
	}
	blob := func(mediaType string, v any) (descriptor, []byte, error) {
		data, err := json.Marshal(v)
		if err != nil {
			return descriptor{}, nil, err
		}
		d := descriptor{mediaType, digest(sha256.Sum256(data)), int64(len(data))}
		return d, data, member(blobHeader(d), data)
	}
	config, _, err := blob(ociConfig, map[string]any{
		"architecture": s.arch, "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer.ContentSHA256)}},
	})
	if err != nil {
		return 0, err
	}
	manifest, _, err := blob(ociManifest, map[string]any{"schemaVersion": 2, "mediaType": ociManifest, "config": config, "layers": []descriptor{layerDesc}})
	if err != nil {
		return 0, err
	}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []descriptor{manifest}})
	if err != nil {
		return 0, err
	}
	for _, m := range []struct {
		name string
		data []byte
	}{{"index.json", index}, {"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}} {
		if err := member(tar.Header{Typeflag: tar.TypeReg, Name: m.name, Mode: 0o644}, m.data); err != nil {
			return 0, err
		}
	}
	end := tarEnd(at)
	_, err = s.file.WriteAt(end, at)
	return at + int64(len(end)), err
}

func blobHeader(d descriptor) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: "blobs/sha256/" + strings.TrimPrefix(d.Digest, "sha256:"), Size: d.Size, Mode: 0o644}
}

// writeLayer writes the layer from an offset of the file on.
func (s *kubeVirtSink) writeLayer(ctx context.Context, at, size int64) (compress.Result, error) {
	folder, err := tarHeader(tar.Header{Typeflag: tar.TypeDir, Name: "disk/", Mode: 0o755, Uid: kubeVirtOwner, Gid: kubeVirtOwner})
	if err != nil {
		return compress.Result{}, err
	}
	file, err := tarHeader(tar.Header{Typeflag: tar.TypeReg, Name: path.Join("disk", s.name), Size: size, Mode: 0o644, Uid: kubeVirtOwner, Gid: kubeVirtOwner})
	if err != nil {
		return compress.Result{}, err
	}
	pool, err := newGzip(s.workers)
	if err != nil {
		return compress.Result{}, err
	}
	defer pool.Close()
	w := pool.NewWriter(ctx, &atWriter{s.file, at})
	_, err = w.Write(append(folder, file...))
	if err == nil {
		err = s.qcow2Sink.f.copyTo(w, size)
	}
	if err == nil {
		padding := -size & (tarBlock - 1)
		_, err = w.Write(append(make([]byte, padding), tarEnd(2*tarBlock+size+padding)...))
	}
	if err != nil {
		w.Abort()
		return compress.Result{}, err
	}
	return w.Finish()
}
