package payload

import (
	"archive/tar"
	"bufio"
	"bytes"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// What the fuzz targets reach that is not exported.

// StrictImages replaces text by spec.
func StrictImages(data []byte, text, spec string) ([]byte, []int) {
	return strictImages(data, []placeholder{{text: text, pullspec: spec}})
}

// CompatibleImages is StrictImages by oc's grammar.
func CompatibleImages(data []byte, text, spec string) ([]byte, error) {
	fn, err := compatibleImages([]placeholder{{text: text, pullspec: spec}})
	if err != nil {
		return nil, err
	}
	return fn(data), nil
}

// Unpinned finds text without a digest.
func Unpinned(data []byte, text string) []int {
	return unpinned(data, []placeholder{{text: text}}, false)
}

// SubstituteVersions knows the version of kubernetes.
func SubstituteVersions(data []byte, release string, compatible bool) ([]byte, []int, error) {
	return substituteVersions(data, release, map[string]mergedVersion{"kubernetes": {ComponentVersion: ComponentVersion{Version: "1.33.4"}}}, compatible)
}

// ScanLayer gives the names and the size of what a layer has in manifests.
func ScanLayer(data []byte, limit int64) (names []string, size int64, diffID v1.Hash, err error) {
	s := &layerScan{dir: manifestsFolder, files: map[string]file{}, budget: MaxPayloadSize, room: MaxManifests, limit: limit}
	diffID, err = s.read(bytes.NewReader(data))
	if err != nil {
		return nil, 0, v1.Hash{}, err
	}
	dir := newFolder(manifestsFolder)
	s.apply(dir)
	for _, f := range dir.sorted() {
		names = append(names, f.name)
	}
	return names, dir.size, diffID, nil
}

// LayerContent counts the bytes of a layer's content, limit at most.
func LayerContent(data []byte, limit int64) int {
	r, closer, err := decompress(bufio.NewReader(bytes.NewReader(data)))
	if err != nil {
		return 0
	}
	defer closer()
	n, _ := io.Copy(io.Discard, io.LimitReader(r, limit)) // as far as it can be read
	return int(n)
}

// Documents splits a manifest.
func Documents(data []byte) [][]byte {
	var out [][]byte
	for _, d := range documents(data) {
		out = append(out, d.data)
	}
	return out
}

// memoryFile is a file in memory.
type memoryFile struct{ data []byte }

func (m *memoryFile) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.data).ReadAt(p, off)
}

func (m *memoryFile) WriteAt(p []byte, off int64) (int, error) {
	if end := off + int64(len(p)); end > int64(len(m.data)) {
		m.data = append(m.data, make([]byte, end-int64(len(m.data)))...)
	}
	return copy(m.data[off:], p), nil
}

// SignMachO signs a copy of a file.
func SignMachO(data []byte) ([]byte, error) {
	f := &memoryFile{bytes.Clone(data)}
	size, err := signMachO(f, int64(len(data)))
	if err != nil {
		return nil, err
	}
	return f.data[:size], nil
}

// KeepFile reads a tar stream and keeps one of its files, all of which may have
// limit bytes.
func KeepFile(dir, name string, layer []byte, limit int64) (size int64, err error) {
	s, err := newImageFiles(dir, limit)
	if err != nil {
		return 0, err
	}
	defer s.close()
	s.want(name)
	l := &layerFiles{files: map[string]imageFile{}}
	_, err = scanTar(bytes.NewReader(layer), MaxLayerSize, func(hdr *tar.Header, r io.Reader) error { return s.entry(hdr, r, l) })
	return l.files[name].size, err
}
