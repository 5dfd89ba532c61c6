package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/okd-project/okd-streams/internal/ext4"
	"github.com/okd-project/okd-streams/internal/xfs"
)

// RootFile reads a file, of at most 4 MiB, at a path of the root file system of the raw
// disk of size bytes, such as .coreos-aleph-version.json, which says what the disk was
// made from: of the partition named root or of a type of root partitions, or the whole
// disk. Its file system is ext4, or XFS, as Fedora CoreOS, RHEL CoreOS and CentOS Stream
// CoreOS have it; nothing is mounted. An error wraps
//
//   - [io/fs.ErrNotExist] where there is no root partition or no such file,
//   - [ErrCorrupt] for a disk or file system that contradicts itself,
//   - [errors.ErrUnsupported] for any other root file system, which it names where it
//     knows it, and for one that was not unmounted cleanly, or has features that are not
//     known here.
func RootFile(ctx context.Context, r io.ReaderAt, size int64, name string) ([]byte, error) {
	data, err := rootFile(&source{ctx, r, size}, path.Join("/", name))
	if err != nil {
		return nil, &Error{Op: "read", Target: name, Err: corrupt(err)}
	}
	return data, nil
}

func rootFile(s *source, name string) ([]byte, error) {
	root := Partition{Size: s.size}
	table, err := partitions(s)
	switch {
	case err == nil:
		if root, err = rootOf(table); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	in := &partReader{s, root.Start, root.Size}
	switch {
	case xfs.Probe(in):
		f, err := xfs.Open(in, root.Size)
		if err != nil {
			return nil, err
		}
		return f.ReadFile(name)
	case ext4.Probe(in):
		f, err := ext4.Open(in, root.Size)
		if err != nil {
			return nil, err
		}
		return f.ReadFile(name)
	}
	return nil, fmt.Errorf("its root file system is %s, and only ext4 and xfs are read: %w", systemOf(in), errors.ErrUnsupported)
}

func rootOf(table *Table) (Partition, error) {
	for _, p := range table.Partitions {
		if _, ok := rootTypes[p.Type]; ok || p.Name == "root" {
			return p, nil
		}
	}
	return Partition{}, fmt.Errorf("no partition is root: %w", fs.ErrNotExist)
}

// systemOf names a file system by its first bytes.
func systemOf(r io.ReaderAt) string {
	for _, magic := range []struct {
		name, text string
		at         int64
	}{{"btrfs", "_BHRfS_M", 65536 + 64}, {"LUKS, encrypted", "LUKS\xba\xbe", 0}} {
		got := make([]byte, len(magic.text))
		if _, err := r.ReadAt(got, magic.at); err == nil && bytes.Equal(got, []byte(magic.text)) {
			return magic.name
		}
	}
	return "not known"
}
