package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Format is how a disk is packed.
type Format string

// Formats. Probe tells all of them but GCP and KubeVirt, which are tar archives.
const (
	Raw      Format = "raw"      // the disk's sectors, one after another
	QCOW2    Format = "qcow2"    // QEMU's, versions 2 and 3
	VMDK     Format = "vmdk"     // VMware's, in one file: streamOptimized is written, monolithicSparse also read
	VHD      Format = "vhd"      // Virtual PC's: fixed is written, dynamic also read
	VHDX     Format = "vhdx"     // Hyper-V's: dynamic is written, fixed also read
	ISO      Format = "iso"      // ISO 9660
	SquashFS Format = "squashfs" // version 4
	EROFS    Format = "erofs"
	Tar      Format = "tar"
	OVA      Format = "ova"      // tar archive of an OVF descriptor and a VMDK
	PowerVS  Format = "powervs"  // tar archive of an OVF descriptor for PowerVC and a raw disk; told as OVA
	GCP      Format = "gcp"      // Google's: gzip of a tar archive with a sparse disk.raw
	KubeVirt Format = "kubevirt" // tar archive with an OCI image of one layer with a QCOW2 in its folder disk
)

// Info is what [Probe] tells of an image.
type Info struct {
	Format      Format   `json:"format"`
	Size        int64    `json:"size"`                // bytes of the file
	VirtualSize int64    `json:"virtualSize"`         // bytes of the disk or file system in it; of an archive, of its files
	BlockSize   int64    `json:"blockSize,omitempty"` // bytes: the unit of allocation, a cluster, grain or block
	Features    []string `json:"features,omitempty"`  // of the format, in its own words
	Label       string   `json:"label,omitempty"`     // of a file system
	Files       []File   `json:"files,omitempty"`     // of an archive, at most [MaxFiles]
	Table       *Table   `json:"table,omitempty"`     // nil: no partitions, or an image whose content cannot be read
	Faults      []string `json:"faults,omitempty"`    // what is wrong without keeping the image from being read
}

// File is a member of an archive.
type File struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // bytes
}

// MaxFiles is how many files of an archive [Probe] names.
const MaxFiles = 1000

// Probe tells what is in the size bytes of r by the bytes themselves: a format, how
// large its disk is, what it uses of the format, and the disk's partitions. What no
// format claims is a raw disk, be it empty. Everything a header says is checked before
// it is used. An image that leads to other files, a backing file, a parent, external
// data or extents, is refused with an error that wraps [errors.ErrUnsupported], as are
// versions that are not known; one that contradicts itself with [ErrCorrupt].
func Probe(ctx context.Context, r io.ReaderAt, size int64) (*Info, error) {
	info, err := probe(&source{ctx, r, size})
	if err != nil {
		return nil, &Error{Op: "probe", Target: string(info.Format), Err: err}
	}
	return info, nil
}

// opened is what the parser of a format found. content is nil where why says what
// keeps the content from being read.
type opened struct {
	info    Info
	content content
	why     error
}

// content is a disk's bytes as they are read from an image.
type content interface {
	// readAt fills p from off. Callers stay within the disk.
	readAt(p []byte, off int64) error
	// next gives the first range at or after off that may have data, in bytes. An empty
	// one says that there is none before it: at the end of the disk, none at all.
	next(off int64) (start, end int64, err error)
}

// parsers in the order in which they are asked. Each gives nil for what is not
// its format.
var parsers = []struct {
	format Format
	parse  func(*source) (*opened, error)
}{
	{QCOW2, parseQCOW2},
	{VMDK, parseVMDK},
	{VHDX, parseVHDX},
	{VHD, parseVHD},
	{SquashFS, parseSquashFS},
	{EROFS, parseEROFS},
	{Tar, parseTar},
	{ISO, parseISO},
	{"packed", parsePacked},
	{Raw, parseRaw},
}

// open finds the format of an image, which must be the wanted one unless that is empty.
// With an error, too, the format is told.
func open(s *source, want Format) (*opened, error) {
	if s.size < 0 {
		return &opened{}, fmt.Errorf("%d bytes: %w", s.size, fs.ErrInvalid)
	}
	for _, p := range parsers {
		if want != "" && p.format != want {
			continue
		}
		found, err := p.parse(s)
		if err != nil {
			return &opened{info: Info{Format: p.format}}, err
		}
		if found != nil {
			if found.info.Format == "" {
				found.info.Format = p.format
			}
			found.info.Size = s.size
			return found, nil
		}
	}
	return &opened{info: Info{Format: want}}, fmt.Errorf("it is not of this format, or the format cannot be opened: %w", errors.ErrUnsupported)
}

func probe(s *source) (*Info, error) {
	found, err := open(s, "")
	if err != nil {
		return &found.info, err
	}
	if found.content == nil {
		return &found.info, nil
	}
	inner := &source{s.ctx, &Image{found.info.Format, found.info.VirtualSize, found.content}, found.info.VirtualSize}
	table, err := partitions(inner)
	switch {
	case err == nil:
		found.info.Table = table
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, ErrCorrupt), errors.Is(err, errors.ErrUnsupported):
		found.info.Faults = append(found.info.Faults, fmt.Sprintf("partition table: %v", err))
	default:
		return &found.info, err
	}
	return &found.info, nil
}

// feature adds a word where a format uses something.
func (i *Info) feature(used bool, word string) {
	if used {
		i.Features = append(i.Features, word)
	}
}
