package layoutregistry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// maxKept bounds the bytes of the files index.json, and those of the indexes among
// the blobs, that are remembered, decoded.
const maxKept = MaxIndexSize

// indexes remembers the file index.json of the repositories that were used last: decoding
// some thousand entries takes a hundred times as long as looking whether the
// file still has the same bytes. Inode, size and times would not tell, for a
// file that replaces the one before the last may have all of them again.
type indexes struct {
	mu   sync.Mutex
	kept []keptIndex // the one used last is last

	// named is what the indexes among the blobs name, by their digests, which
	// say all of it: who asks for a manifest by its digest looks at all of them.
	named map[v1.Hash][]v1.Descriptor
	size  int // of those indexes, bytes; at most maxKept
}

type keptIndex struct {
	path string // of the repository
	data []byte
	x    *index // nobody changes it
}

func (k *indexes) get(path string) keptIndex {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := slices.IndexFunc(k.kept, func(o keptIndex) bool { return o.path == path })
	if at < 0 {
		return keptIndex{}
	}
	found := k.kept[at]
	k.kept = append(slices.Delete(k.kept, at, at+1), found)
	return found
}

// put remembers that data means x, which nobody changes from now on.
func (k *indexes) put(path string, data []byte, x *index) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = append(slices.DeleteFunc(k.kept, func(o keptIndex) bool { return o.path == path }), keptIndex{path, data, x})
	size := 0
	for i := len(k.kept) - 1; i >= 0; i-- {
		if size += len(k.kept[i].data); size > maxKept {
			k.kept = slices.Delete(k.kept, 0, i+1)
			break
		}
	}
}

// children are what an index among the blobs names; nil for what is none or is
// damaged.
func (l *layout) children(desc v1.Descriptor) []v1.Descriptor {
	k := &l.registry.indexes
	k.mu.Lock()
	list, known := k.named[desc.Digest]
	k.mu.Unlock()
	if known {
		return list
	}
	raw, err := l.manifest(desc)
	if err != nil {
		return nil
	}
	var m v1.IndexManifest
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.size += len(raw); k.size > maxKept || k.named == nil {
		k.named, k.size = map[v1.Hash][]v1.Descriptor{}, len(raw)
	}
	k.named[desc.Digest] = m.Manifests
	return m.Manifests
}

// sharedIndex is [layout.readIndex] for who only reads: the index is that of
// other readers too.
func (l *layout) sharedIndex() (*index, error) {
	if err := l.checkLayout(); err != nil {
		return nil, err
	}
	f, err := l.regular(indexFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	kept := l.registry.indexes.get(l.path)
	if kept.x != nil {
		if same, err := has(f, kept.data); same || err != nil {
			return kept.x, err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
	}
	data, err := readLimited(f, indexFile, MaxIndexSize)
	if err != nil {
		return nil, err
	}
	x, err := decodeIndex(data)
	if err != nil {
		return nil, err
	}
	l.registry.indexes.put(l.path, data, x)
	return x, nil
}

// readIndex reads index.json of a folder that says it is an OCI layout. The
// caller may change what it gets.
func (l *layout) readIndex() (*index, error) {
	x, err := l.sharedIndex()
	if err != nil {
		return nil, err
	}
	return x.clone(), nil
}

// clone is a copy of which entries may be changed, added and removed. What an
// entry points to is never changed in place.
func (x *index) clone() *index {
	return &index{entries: slices.Clone(x.entries), rest: maps.Clone(x.rest)}
}

// has reports whether the rest of f is data, and leaves f anywhere.
func has(f *os.File, data []byte) (bool, error) {
	if info, err := f.Stat(); err != nil || info.Size() != int64(len(data)) {
		return false, err
	}
	buf := buffers.Get().(*[copySize]byte)
	defer buffers.Put(buf)
	for {
		n, err := f.Read(buf[:])
		if n > len(data) || !bytes.Equal(buf[:n], data[:n]) {
			return false, nil
		}
		data = data[n:]
		if err == io.EOF {
			return len(data) == 0, nil
		}
		if err != nil {
			return false, fmt.Errorf("%s: %w", indexFile, err)
		}
	}
}
