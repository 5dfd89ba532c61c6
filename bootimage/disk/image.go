package disk

import (
	"context"
	"fmt"
	"io"
	"io/fs"
)

// Image is the disk in an image file, whatever the format. Its methods may be called
// from several goroutines.
type Image struct {
	format  Format
	size    int64
	content content
}

// OpenOptions are options of [Open]; nil and the zero value are good.
type OpenOptions struct {
	// Format is what the image must be. Default: what its bytes say. The bytes of a raw
	// disk are written by who uses it, and may say that it is something else: name
	// Raw where that is known.
	Format Format
}

// Open opens the disk in the size bytes of r, which must stay as they are: raw, qcow2
// of versions 2 and 3 with or without compressed clusters, vmdk in one file, vhd and
// vhdx. An ISO and a squashfs or erofs file system are their own disks. r is read when
// the disk is, and closed by whoever opened it. Errors are those of [Probe]; what
// cannot be read, such as an encrypted disk or an archive, is [errors.ErrUnsupported].
func Open(ctx context.Context, r io.ReaderAt, size int64, opts *OpenOptions) (*Image, error) {
	var o OpenOptions
	if opts != nil {
		o = *opts
	}
	found, err := open(&source{ctx, r, size}, o.Format)
	if err == nil && found.content == nil {
		err = found.why
	}
	if err != nil {
		return nil, &Error{Op: "open", Target: string(found.info.Format), Err: err}
	}
	return &Image{found.info.Format, found.info.VirtualSize, found.content}, nil
}

// Format is that of the file.
func (i *Image) Format() Format { return i.format }

// Size is the size of the disk in bytes, not of the file.
func (i *Image) Size() int64 { return i.size }

// ReadAt reads the disk's bytes as [io.ReaderAt] says. Errors wrap [ErrCorrupt] where
// the image leads past its own end or cannot be decompressed.
func (i *Image) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, &Error{Op: "read", Target: string(i.format), Err: fmt.Errorf("offset %d: %w", off, fs.ErrInvalid)}
	}
	n := max(0, min(int64(len(p)), i.size-off))
	if n > 0 {
		if err := i.content.readAt(p[:n], off); err != nil {
			return 0, &Error{Op: "read", Target: string(i.format), Err: err}
		}
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}
