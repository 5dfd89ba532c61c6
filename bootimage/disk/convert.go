package disk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Target is one of the files that [Convert] makes.
type Target struct {
	// Name is that of the file, in the folder that Convert is given. What was there is
	// replaced.
	Name string
	// Format is Raw, QCOW2, VMDK, VHD, VHDX, OVA, PowerVS, GCP or KubeVirt.
	Format Format
	// Compression is how clusters of QCOW2 and KubeVirt are compressed: zlib, which all
	// versions of QEMU read, or zstd, which 5.1 and later do. Default: not at all.
	Compression string
	// Size is that of the disk in bytes, for one that is larger than its source. What
	// is added is zero; a GPT then has its backup where the source ended. Azure takes
	// whole MiB, Google whole GiB. Default: the source's size.
	Size int64
	// SectorSize is what VHDX says of sectors, in bytes: 512 or 4096. Default: 512.
	SectorSize int64
	// Stamp is what makes the disk one for a platform, as [Stamp] found it for the disk
	// that is converted. The source stays as it is. Default: nothing.
	Stamp *Stamped
	// Architecture is what the image of KubeVirt says that the disk is for, as RPM spells
	// it. Default: x86_64.
	Architecture string
	// OVF is what the descriptor of OVA says of the machine, and PowerVS of the image:
	// Name, Version and Product. Default: the zero value.
	OVF *OVF
}

// ConvertOptions are options of [Convert]; nil and the zero value are good.
type ConvertOptions struct {
	// Workers is how many goroutines compress, at most 8. Default: as many as there are
	// processors. It never changes results.
	Workers int
	// Hash fills [Result.SHA256]. Raw, VMDK, VHD, GCP and KubeVirt are hashed as they are
	// written, others read again.
	Hash bool
	// Verify, if not nil, is called with the SHA-256 of the disk's bytes, hexadecimal, which
	// are hashed as they are read, before any file has its name. Its error is Convert's,
	// and leaves no file.
	Verify func(sha256 string) error
	// NoSync leaves it to the system when results reach the disk: after a power cut
	// there may be a file under its final name that is not whole.
	NoSync bool
	// Progress, if not nil, is told how many bytes of the source are done with. It is
	// called by one goroutine at a time and must not block.
	Progress func(done, total int64)
}

// Result is a file that [Convert] made.
type Result struct {
	Name        string `json:"name"`
	Format      Format `json:"format"`
	Size        int64  `json:"size"`             // bytes of the file
	VirtualSize int64  `json:"virtualSize"`      // bytes of the disk
	Platform    string `json:"platform"`         // that the disk was stamped for; "": it was not stamped, and is for what the source was for
	SHA256      string `json:"sha256,omitempty"` // of the file, hexadecimal; with [ConvertOptions.Hash]
}

// Units of conversion. Both are part of what formats look like and so never change.
const (
	blockSize    = 64 << 10 // bytes: clusters of qcow2, grains of vmdk, and what is looked at for zeros
	chunkSize    = 1 << 20  // bytes: blocks of vhdx, and what is read at a time
	chunkBlocks  = chunkSize / blockSize
	maxDisk      = 16 << 40 // bytes
	vmdkMaxDisk  = vmdkMaxGrains * blockSize
	vhdMaxDisk   = 2 << 40 // bytes, of the format's description
	vhdxMaxDisk  = 4 << 40 // bytes: what a table of chunks that is held in memory reaches
	maxChunks    = 10      // under way at a time, which limits memory
	maxWorkers   = 8       // likewise
	chunksWanted = 4       // a worker
)

// Convert makes any number of files of one disk, which is read once from start to end,
// without what is known to be zero. Results appear under their names in dst, one after
// another, when all are whole; only a rename that fails can leave some new and some old.
//
// The same disk gives the same bytes, whatever the number of workers and wherever its
// holes are: there are no times in the files, and identifiers are derived from the
// disk's content. It needs at most 200 MB of memory at any size, and for GCP and
// KubeVirt temporary room in dst for the disk's data.
//
// Without Stamp of a [Target] a conversion changes nothing in the disk, which is then for
// the platform that its boot entries say. An error is an [*Error]; it wraps
// [errors.ErrUnsupported] for formats that are not written and sizes that a format does
// not have, [io/fs.ErrInvalid] for targets that make no sense.
func Convert(ctx context.Context, dst *os.Root, src *Image, targets []Target, opts *ConvertOptions) ([]Result, error) {
	var o ConvertOptions
	if opts != nil {
		o = *opts
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	o.Workers = min(o.Workers, maxWorkers)
	c := &conversion{src: src, opts: o, seen: sha256.New()}
	defer c.abort()
	seen := make(map[string]bool)
	for _, t := range targets {
		err := t.check(src, seen)
		if err == nil {
			err = c.add(dst, t)
		}
		if err != nil {
			return nil, &Error{Op: "convert", Target: t.Name, Err: err}
		}
	}
	c.readers = c.writers
	if o.Verify != nil {
		c.whole = &hashSink{hash: sha256.New(), size: src.Size()}
		c.readers = append(slices.Clip(c.writers), &writer{sink: c.whole, in: make(chan *chunk, maxChunks)})
	}
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	var results []Result
	for _, w := range c.writers {
		results = append(results, w.result)
	}
	return results, c.commit(dst)
}

// check fills defaults and says what is wrong with a target.
func (t *Target) check(src *Image, seen map[string]bool) error {
	if t.Size == 0 {
		t.Size = src.Size()
	}
	if t.SectorSize == 0 {
		t.SectorSize = 512
	}
	if t.OVF == nil {
		t.OVF = &OVF{}
	}
	limit := int64(maxDisk)
	switch t.Format {
	case Raw, QCOW2, KubeVirt, GCP, PowerVS:
	case VHDX:
		limit = vhdxMaxDisk
	case VMDK, OVA:
		limit = vmdkMaxDisk
	case VHD:
		limit = vhdMaxDisk
	default:
		return fmt.Errorf("format %q cannot be written: %w", t.Format, errors.ErrUnsupported)
	}
	switch {
	case t.Name == "" || filepath.Base(t.Name) != t.Name || t.Name == "." || t.Name == "..":
		return fmt.Errorf("%q is not the name of a file: %w", t.Name, fs.ErrInvalid)
	case seen[t.Name]:
		return fmt.Errorf("it is there twice: %w", fs.ErrInvalid)
	case t.Compression != "" && t.Format != QCOW2 && t.Format != KubeVirt,
		t.Compression != "" && t.Compression != "zlib" && t.Compression != "zstd":
		return fmt.Errorf("compression %q of %s: %w", t.Compression, t.Format, errors.ErrUnsupported)
	case t.Size < src.Size():
		return fmt.Errorf("%d bytes are less than the source's %d: %w", t.Size, src.Size(), fs.ErrInvalid)
	case t.Format == PowerVS && t.OVF.Template != "":
		return fmt.Errorf("a template of a descriptor for PowerVS: %w", errors.ErrUnsupported)
	case t.SectorSize != 512 && t.SectorSize != 4096, t.SectorSize != 512 && t.Format != VHDX:
		return fmt.Errorf("sectors of %d bytes: %w", t.SectorSize, errors.ErrUnsupported)
	case t.Size == 0 || t.Size%t.SectorSize != 0:
		return fmt.Errorf("%d bytes are not whole sectors of %d: %w", t.Size, t.SectorSize, errors.ErrUnsupported)
	case t.Size > limit:
		return fmt.Errorf("%d bytes, of at most %d: %w", t.Size, limit, errors.ErrUnsupported)
	}
	seen[t.Name] = true
	return t.OVF.check()
}

// sink writes a disk in a format.
type sink interface {
	// codec is what the sink wants blocks packed with.
	codec() codec
	// write takes a chunk that is not all zero. They come in order.
	write(*chunk) error
	// finish writes what comes last and gives the size of the file.
	finish(ctx context.Context, id [32]byte) (int64, error)
}

// writer is a target that is being made, in a goroutine of its own.
type writer struct {
	target Target
	file   *output
	sink   sink
	in     chan *chunk
	result Result

	encoders encoders // of blocks that are stamped
}

type conversion struct {
	src     *Image
	opts    ConvertOptions
	writers []*writer
	whole   *hashSink // for Verify; nil: nobody asked
	readers []*writer // all that chunks are handed to
	files   []*output // also temporary ones
	codecs  []codec   // that are wanted
	free    chan *chunk
	jobs    chan job
	forced  []int64   // chunks that stamps change, even where the source has none
	seen    hash.Hash // of what identifiers are derived from
	named   bool      // some target has identifiers
}

// chunk is a piece of the disk on its way into files.
type chunk struct {
	off    int64
	data   []byte            // of chunkSize; zero past the end of the disk
	zero   [chunkBlocks]bool // by block
	packed [codecs]packedChunk
	refs   atomic.Int32 // who has not written it
}

// packedChunk is the blocks of a chunk that are not zero, compressed.
type packedChunk struct {
	wg    sync.WaitGroup
	err   atomic.Pointer[error]
	block [chunkBlocks][]byte
}

// job is a block to be compressed.
type job struct {
	c     *chunk
	codec codec
	block int
}

// add starts the file of a target, and one more where the format needs it.
func (c *conversion) add(dst *os.Root, t Target) error {
	f, err := createOutput(dst, t.Name)
	if err != nil {
		return err
	}
	c.files = append(c.files, f)
	var more *output
	if t.Format == GCP || t.Format == KubeVirt {
		if more, err = createOutput(dst, t.Name+".data"); err != nil {
			return err
		}
		c.files = append(c.files, more)
	}
	if c.opts.Hash {
		f.hashed()
	}
	w := &writer{target: t, file: f, in: make(chan *chunk, maxChunks), result: Result{Name: t.Name, Format: t.Format, VirtualSize: t.Size}}
	if t.Stamp != nil {
		w.result.Platform = t.Stamp.Platform
	}
	for p := range t.Stamp.patches() {
		if p.offset < 0 || int64(len(p.data)) > c.src.Size()-p.offset {
			return fmt.Errorf("it is stamped past the end of the disk, at %d: %w", p.offset, fs.ErrInvalid)
		}
		for at := p.offset / chunkSize * chunkSize; at < p.offset+int64(len(p.data)); at += chunkSize {
			if !slices.Contains(c.forced, at) {
				c.forced = append(c.forced, at)
			}
		}
	}
	switch t.Format {
	case Raw:
		w.sink = &rawSink{f: f, size: t.Size}
	case VHD:
		w.sink = &vhdSink{rawSink{f: f, size: t.Size}}
	case QCOW2:
		w.sink = newQCOW2Sink(f, t.Size, t.Compression)
	case VMDK:
		w.sink = newVMDKSink(f, 0, t.Size)
	case VHDX:
		w.sink = newVHDXSink(f, t.Size, t.SectorSize)
	case OVA:
		w.sink = newOVASink(f, t.Size, t.OVF)
	case PowerVS:
		if w.sink, err = newPowerVSSink(f, t.Size, t.OVF); err != nil {
			return err
		}
	case GCP:
		f.hash = nil // the compressor has it
		w.sink = &gcpSink{f: f, data: more, size: t.Size, workers: c.opts.Workers}
	case KubeVirt:
		w.sink = newKubeVirtSink(f, more, t, c.opts.Workers)
	}
	if k := w.sink.codec(); k != plain && !slices.Contains(c.codecs, k) {
		c.codecs = append(c.codecs, k)
	}
	c.named = c.named || t.Format == VHD || t.Format == VHDX
	c.writers = append(c.writers, w)
	return nil
}

// abort removes what has no final name.
func (c *conversion) abort() {
	for _, f := range c.files {
		f.abort()
	}
}

// commit gives all files their names.
func (c *conversion) commit(dst *os.Root) error {
	for _, w := range c.writers {
		if err := w.file.commit(!c.opts.NoSync); err != nil {
			return &Error{Op: "convert", Target: w.target.Name, Err: err}
		}
	}
	if c.opts.NoSync || len(c.writers) == 0 {
		return nil
	}
	if err := syncFolder(dst); err != nil {
		return &Error{Op: "convert", Target: dst.Name(), Err: err}
	}
	return nil
}

func (c *conversion) run(ctx context.Context) error {
	workers := 0
	if len(c.codecs) > 0 {
		workers = c.opts.Workers
	}
	chunks := min(maxChunks, chunksWanted*(1+workers))
	c.free = make(chan *chunk, chunks)
	for range chunks {
		c.free <- &chunk{}
	}
	c.jobs = make(chan job, chunks*chunkBlocks*len(c.codecs))
	group, groupCtx := errgroup.WithContext(ctx)
	for range workers {
		group.Go(c.pack)
	}
	for _, w := range c.readers {
		group.Go(func() error { return w.run(c) })
	}
	group.Go(func() error {
		defer close(c.jobs)
		defer func() {
			for _, w := range c.readers {
				close(w.in)
			}
		}()
		return c.read(groupCtx)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	if err := c.verify(); err != nil {
		return err
	}
	// What comes last may need memory of its own.
	c.free, c.jobs = nil, nil
	group, groupCtx = errgroup.WithContext(ctx)
	for _, w := range c.writers {
		w.encoders = encoders{}
		group.Go(func() error {
			size, err := w.sink.finish(groupCtx, c.id(w.target))
			if err == nil {
				w.result.Size = size
				w.result.SHA256, err = w.file.sum(groupCtx, size)
			}
			if err != nil {
				return &Error{Op: "convert", Target: w.target.Name, Err: err}
			}
			return nil
		})
	}
	return group.Wait()
}

// verify asks whether what was read is the disk that was meant.
func (c *conversion) verify() error {
	if c.whole == nil {
		return nil
	}
	if err := c.opts.Verify(c.whole.sum()); err != nil {
		return &Error{Op: "read", Target: string(c.src.Format()), Err: err}
	}
	return nil
}

// read reads the disk once and hands chunks to all.
func (c *conversion) read(ctx context.Context) error {
	size := c.src.Size()
	fail := func(err error) error { return &Error{Op: "read", Target: string(c.src.Format()), Err: err} }
	done := int64(0) // chunks up to here were handed on
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		start, end, err := c.next(off)
		if err != nil {
			return fail(err)
		}
		for at := max(done, start/chunkSize*chunkSize); at < end && start < end; at += chunkSize {
			var piece *chunk
			select {
			case piece = <-c.free:
			case <-ctx.Done():
				return ctx.Err()
			}
			if piece.data == nil {
				piece.data = make([]byte, chunkSize)
			}
			n := min(chunkSize, size-at)
			clear(piece.data[n:])
			if err := c.src.content.readAt(piece.data[:n], at); err != nil {
				return fail(err)
			}
			piece.off, done = at, at+chunkSize
			if err := c.hand(ctx, piece); err != nil {
				return err
			}
			if c.opts.Progress != nil {
				c.opts.Progress(min(done, size), size)
			}
		}
		off = max(end, start, min(done, size))
	}
	if c.opts.Progress != nil && done < size {
		c.opts.Progress(size, size)
	}
	return nil
}

// next gives the next range of the disk that has data in the source or gets some.
func (c *conversion) next(off int64) (start, end int64, err error) {
	start, end, err = c.src.content.next(off)
	for _, at := range c.forced {
		if at < start && at+chunkSize > off {
			start, end = max(at, off), min(at+chunkSize, c.src.Size())
		}
	}
	return start, end, err
}

// zeros is a block that is zero.
var zeros [blockSize]byte

// hand gives a chunk to the workers and writers.
func (c *conversion) hand(ctx context.Context, piece *chunk) error {
	used := 0
	for i := range piece.zero {
		block := piece.data[i*blockSize:][:blockSize]
		piece.zero[i] = isZero(block)
		if !piece.zero[i] {
			used++
			if c.named {
				c.note(piece.off/blockSize+int64(i), block)
			}
		}
	}
	if used == 0 && !slices.Contains(c.forced, piece.off) || len(c.readers) == 0 {
		c.free <- piece
		return nil
	}
	piece.refs.Store(int32(len(c.readers)))
	for _, k := range c.codecs {
		piece.packed[k].err.Store(nil)
		piece.packed[k].wg.Add(used)
		for i, zero := range piece.zero {
			if !zero {
				c.jobs <- job{piece, k, i} // has room for all
			}
		}
	}
	for _, w := range c.readers {
		select {
		case w.in <- piece:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// isZero reports whether a block is zero.
func isZero(block []byte) bool { return string(block) == string(zeros[:len(block)]) }

// note takes a block into what identifiers are derived from: they tell disks apart
// and prove nothing.
func (c *conversion) note(index int64, block []byte) {
	var p [12]byte
	binary.LittleEndian.PutUint64(p[:], uint64(index))
	binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(block, castagnoli))
	c.seen.Write(p[:])
}

// id is what the identifiers of a target are taken from.
func (c *conversion) id(t Target) [32]byte {
	text := fmt.Appendf(nil, "%s %d %x", t.Format, t.Size, c.seen.Sum(nil))
	for p := range t.Stamp.patches() {
		text = fmt.Appendf(text, " %d %x", p.offset, p.data)
	}
	return sha256.Sum256(text)
}

// pack compresses blocks.
func (c *conversion) pack() error {
	var enc encoders
	for j := range c.jobs {
		p := &j.c.packed[j.codec]
		out, err := enc.encode(j.codec, p.block[j.block][:0], j.c.data[j.block*blockSize:][:blockSize])
		if err != nil {
			p.err.Store(&err)
		}
		p.block[j.block] = out
		p.wg.Done()
	}
	return nil
}

// run writes chunks.
func (w *writer) run(c *conversion) error {
	k := w.sink.codec()
	for piece := range w.in {
		var err error
		if k != plain {
			piece.packed[k].wg.Wait()
			if failed := piece.packed[k].err.Load(); failed != nil {
				err = *failed
			}
		}
		mine := piece
		if err == nil && w.target.Stamp != nil {
			mine, err = w.stamped(piece)
		}
		if err == nil && slices.Contains(mine.zero[:], false) {
			err = w.sink.write(mine)
		}
		if err != nil {
			return &Error{Op: "convert", Target: w.target.Name, Err: err}
		}
		if piece.refs.Add(-1) == 0 {
			c.free <- piece
		}
	}
	return nil
}

// stamped gives a chunk as it is with the target's stamp.
func (w *writer) stamped(piece *chunk) (*chunk, error) {
	if !overlaps(piece.off, chunkSize, w.target.Stamp.steps) { // as nearly all
		return piece, nil
	}
	data := bytes.Clone(piece.data)
	overlay(data, piece.off, w.target.Stamp.steps)
	k := w.sink.codec()
	mine := &chunk{off: piece.off, data: data, zero: piece.zero}
	mine.packed[k].block = piece.packed[k].block
	for i := range mine.zero {
		block := data[i*blockSize:][:blockSize]
		if bytes.Equal(block, piece.data[i*blockSize:][:blockSize]) {
			continue
		}
		if mine.zero[i] = isZero(block); mine.zero[i] || k == plain {
			continue
		}
		packed, err := w.encoders.encode(k, nil, block)
		if err != nil {
			return nil, err
		}
		mine.packed[k].block[i] = packed
	}
	return mine, nil
}

// patches gives the changes of a stamp, of none where there is no stamp.
func (s *Stamped) patches() iter.Seq[patch] {
	return func(yield func(patch) bool) {
		if s == nil {
			return
		}
		for _, step := range s.steps {
			for _, p := range step {
				if !yield(p) {
					return
				}
			}
		}
	}
}
