package bootimage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/internal/compress"
	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/internal/unix"
)

// metaLock is the file that coreos-assembler locks while it writes meta.json.
const metaLock = ".meta.json.lock"

// packedExtensions are what names of compressed files end with.
var packedExtensions = []string{".gz", ".xz", ".zst"}

// CompressBuildOptions are options of [CompressBuild] and [UncompressBuild].
type CompressBuildOptions struct {
	// Compress is how all artifacts are compressed; the workers and the memory are
	// for all of them together.
	Compress CompressOptions
	// Compressors are formats of single artifacts instead, at their default level,
	// as platform-compressor of coreos-assembler's image.json has them.
	Compressors map[string]Compressor
	// Artifacts are those to work on; nil: all. One that the build does not have is
	// an error of [io/fs.ErrNotExist].
	Artifacts []string
	// Parallel is how many artifacts are worked on at once, where Compress.Memory
	// suffices for them; 0: 2, at most 16.
	Parallel int
	// Keep leaves the old file beside the new one.
	Keep bool
	// Now is recorded as when meta.json was written; zero: what it says stays.
	Now time.Time
	// Progress is called as an artifact is read, from several goroutines; it must
	// not block.
	Progress func(artifact string, done, total int64)
}

// RepackedArtifact is an artifact that was compressed or uncompressed.
type RepackedArtifact struct {
	Artifact string
	Old, New Image // as recorded before and after
}

// CompressBuild compresses the artifacts of the build in dir, the folder with
// meta.json, as `cosa compress` does: names gain .gz, .zst or .xz, and meta.json
// says size and SHA-256 of both sides. What is compressed already, or to be left as
// it is (skip-compression), is passed over. Several artifacts are compressed at once;
// each is recorded as soon as it is there, then its old file is removed, so that a
// run that was stopped is completed by the next.
//
// A file that is not what the record says is an error of [ErrVerification]. After an
// error the artifact's old file and record are as they were, and nothing is under
// the new name. What was done before it is given beside the error. One process
// works on a build at a time; others wait. Join fragments of delayed merging first,
// by [FinalizeMeta].
func CompressBuild(ctx context.Context, dir *os.Root, opts *CompressBuildOptions) ([]RepackedArtifact, error) {
	done, err := repackBuild(ctx, dir, opts, func(r *repacking) error {
		chosen, err := r.choose(func(i Image) bool { return !i.SkipCompression && i.UncompressedSHA256 == "" })
		if err != nil {
			return err
		}
		if err := r.removeLeft(); err != nil {
			return err
		}
		// Formats one after another: the bound of workers and memory is of one.
		formats := make(map[CompressOptions][]string)
		for _, name := range chosen {
			o := r.opts.Compress
			if c, ok := r.opts.Compressors[name]; ok && c != o.compressor() {
				o.Compressor, o.Level = c, 0
			}
			formats[o] = append(formats[o], name)
		}
		order := slices.SortedFunc(maps.Keys(formats), func(a, b CompressOptions) int { return strings.Compare(string(a.Compressor), string(b.Compressor)) })
		for _, o := range order {
			pool, parallel, err := o.pool(min(r.opts.Parallel, len(formats[o])))
			if err != nil {
				return err
			}
			err = r.each(ctx, parallel, formats[o], func(ctx context.Context, name string, old Image) (Image, error) {
				return r.compress(ctx, pool, o.compressor().extension(), name, old)
			})
			pool.Close()
			if err != nil {
				return err
			}
			if len(formats) > 1 {
				runtime.GC() // or the next format's buffers come on top of these
			}
		}
		return nil
	})
	if err != nil {
		return done, fmt.Errorf("bootimage: compress build: %w", err)
	}
	return done, nil
}

// UncompressBuild is the inverse of [CompressBuild]: the artifacts whose content
// the record of the build in dir speaks of become that content, verified: the file
// and the content have the sizes and SHA-256s that are recorded, or an error wraps
// [ErrVerification] and all is as it was. opts.Compress and opts.Compressors are of
// no use here.
func UncompressBuild(ctx context.Context, dir *os.Root, opts *CompressBuildOptions) ([]RepackedArtifact, error) {
	done, err := repackBuild(ctx, dir, opts, func(r *repacking) error {
		chosen, err := r.choose(func(i Image) bool { return i.UncompressedSHA256 != "" })
		if err != nil {
			return err
		}
		return r.each(ctx, r.opts.Parallel, chosen, r.uncompress)
	})
	if err != nil {
		return done, fmt.Errorf("bootimage: uncompress build: %w", err)
	}
	return done, nil
}

// repacking is work on a build's folder.
type repacking struct {
	root   *os.Root
	opts   CompressBuildOptions
	images map[string]Image // at the start

	mu   sync.Mutex // held while meta.json is written
	done []RepackedArtifact
}

const maxRepacks = 16

func repackBuild(ctx context.Context, dir *os.Root, opts *CompressBuildOptions, do func(*repacking) error) ([]RepackedArtifact, error) {
	r := &repacking{root: dir}
	if opts != nil {
		r.opts = *opts
	}
	if r.opts.Parallel <= 0 {
		r.opts.Parallel = 2
	}
	r.opts.Parallel = min(r.opts.Parallel, maxRepacks)
	folder, err := lockFolder(ctx, dir)
	if err != nil {
		return nil, err
	}
	meta, err := readFile(dir.FS(), MetaFile, DecodeMeta)
	if err == nil {
		r.images = meta.Value().Images
		err = do(r)
	}
	slices.SortFunc(r.done, func(a, b RepackedArtifact) int { return strings.Compare(a.Artifact, b.Artifact) })
	return r.done, errors.Join(err, folder.Close())
}

// lockFolder locks a folder until it is closed, and waits for who has it.
func lockFolder(ctx context.Context, dir *os.Root) (*os.File, error) {
	folder, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(folder.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return folder, nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return nil, errors.Join(fmt.Errorf("lock the build's folder: %w", err), folder.Close())
		}
		timer := time.NewTimer(lockPoll)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, errors.Join(context.Cause(ctx), folder.Close())
		case <-timer.C:
		}
	}
}

// choose gives the artifacts to work on.
func (r *repacking) choose(wanted func(Image) bool) (names []string, err error) {
	for _, name := range r.opts.Artifacts {
		if _, ok := r.images[name]; !ok {
			return nil, fmt.Errorf("artifact %.80q: %w", name, fs.ErrNotExist)
		}
	}
	paths := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(r.images)) {
		image := r.images[name]
		if other, ok := paths[image.Path]; ok {
			return nil, fmt.Errorf("artifacts %s and %s have one file: %w", other, name, fs.ErrInvalid)
		}
		paths[image.Path] = name
		if wanted(image) && (r.opts.Artifacts == nil || slices.Contains(r.opts.Artifacts, name)) {
			names = append(names, name)
		}
	}
	return names, nil
}

// removeLeft removes the old files that a run did not come to remove before it was
// stopped.
func (r *repacking) removeLeft() error {
	if r.opts.Keep {
		return nil
	}
	named := make(map[string]bool)
	for _, image := range r.images {
		named[image.Path] = true
	}
	for _, image := range r.images {
		extension := path.Ext(image.Path)
		old := strings.TrimSuffix(image.Path, extension)
		if image.UncompressedSHA256 == "" || named[old] || !slices.Contains(packedExtensions, extension) {
			continue
		}
		info, err := r.root.Lstat(old)
		if err == nil && info.Mode().IsRegular() && info.Size() == image.UncompressedSize {
			err = r.root.Remove(old)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// each works on several artifacts at once.
func (r *repacking) each(ctx context.Context, parallel int, names []string, do func(ctx context.Context, name string, old Image) (Image, error)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, name := range names {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			old := r.images[name]
			made, err := do(ctx, name, old)
			if err != nil {
				return fmt.Errorf("artifact %s: %w", name, err)
			}
			if err := r.record(ctx, name, old, made); err != nil {
				return fmt.Errorf("artifact %s: %w", name, errors.Join(err, r.root.Remove(made.Path)))
			}
			r.mu.Lock()
			r.done = append(r.done, RepackedArtifact{name, old, made})
			r.mu.Unlock()
			if r.opts.Keep {
				return nil
			}
			return r.root.Remove(old.Path)
		})
	}
	return group.Wait()
}

// compress makes the compressed file of an artifact.
func (r *repacking) compress(ctx context.Context, pool *compress.Pool, extension, name string, old Image) (Image, error) {
	made := Image{Path: old.Path + "." + extension}
	err := r.replace(name, old.Path, made.Path, func(dst io.Writer, src io.Reader) error {
		m, err := compressStream(ctx, pool, extension, dst, src)
		if err != nil {
			return err
		}
		was := Measurement{Size: m.UncompressedSize, SHA256: m.UncompressedSHA256}
		made = m.Image(made.Path)
		made.Unstamped = old.Unstamped
		return was.match(Measurement{Size: old.Size, SHA256: old.SHA256})
	})
	return made, err
}

// uncompress makes the content of an artifact.
func (r *repacking) uncompress(ctx context.Context, name string, old Image) (Image, error) {
	extension := path.Ext(old.Path)
	if !slices.Contains(packedExtensions, extension) {
		return Image{}, fmt.Errorf("%s ends with neither .gz nor .xz nor .zst: %w", old.Path, errors.ErrUnsupported)
	}
	made := Image{Path: strings.TrimSuffix(old.Path, extension), Unstamped: old.Unstamped}
	err := r.replace(name, old.Path, made.Path, func(dst io.Writer, src io.Reader) error {
		m, err := uncompressStream(ctx, dst, src, Measurement{
			Size: old.Size, SHA256: old.SHA256, UncompressedSize: old.UncompressedSize, UncompressedSHA256: old.UncompressedSHA256,
		}, decompress.MaxXZAhead/int64(r.opts.Parallel)) // together no more than one would have
		made.SHA256, made.Size = m.UncompressedSHA256, m.UncompressedSize
		return err
	})
	return made, err
}

// replace writes the file made from the file old. It has no name of its own before
// all of it is there.
func (r *repacking) replace(artifact, old, made string, do func(dst io.Writer, src io.Reader) error) (err error) {
	for other, image := range r.images {
		if image.Path == made {
			return fmt.Errorf("%s is the file of artifact %s: %w", made, other, fs.ErrExist)
		}
	}
	if !reFile.MatchString(made) {
		return fmt.Errorf("%.255q is not a file name: %w", made, fs.ErrInvalid)
	}
	src, info, err := openRegular(r.root, old)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	var from io.Reader = src
	if r.opts.Progress != nil {
		from = &progressReader{r: src, total: info.Size(), show: func(done, total int64) { r.opts.Progress(artifact, done, total) }}
	}
	return writeWhole(r.root, made, info.Mode().Perm(), func(dst io.Writer) error { return do(dst, from) })
}

// openRegular opens a file that is neither a link nor a device.
func openRegular(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is no regular file: %w", name, fs.ErrInvalid)
	}
	file, err := root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	return file, info, err
}

type progressReader struct {
	r           io.Reader
	done, total int64
	show        func(done, total int64)
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.done += int64(n)
	p.show(p.done, p.total)
	return n, err
}

// writeWhole writes a file that has its name when it is whole. Only one process
// may write it.
func writeWhole(root *os.Root, name string, mode fs.FileMode, fn func(io.Writer) error) (err error) {
	temp := "." + name + ".part"
	if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // of one that was killed
	}
	file, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = fn(file); err == nil {
		err = errors.Join(file.Chmod(mode), file.Sync())
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = root.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(temp))
	}
	return nil
}

// record writes into meta.json what became of an artifact.
func (r *repacking) record(ctx context.Context, name string, old, made Image) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return editMeta(ctx, r.root, r.opts.Now, func(m *Meta) error {
		if m.Images[name] != old {
			return fmt.Errorf("%s was changed by others meanwhile", MetaFile)
		}
		m.Images[name] = made
		return nil
	})
}

// editMeta changes meta.json under coreos-assembler's lock.
func editMeta(ctx context.Context, root *os.Root, now time.Time, edit func(*Meta) error) (err error) {
	lock, err := lockFile(ctx, root, metaLock)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	meta, err := readFile(root.FS(), MetaFile, DecodeMeta)
	if err != nil {
		return err
	}
	err = meta.Edit(func(m *Meta) error {
		if err := edit(m); err != nil {
			return err
		}
		if !now.IsZero() {
			m.MetaStamp = json.Number(strconv.FormatInt(now.UnixNano(), 10))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return writeWhole(root, MetaFile, 0o644, func(w io.Writer) error { return meta.Encode(w) })
}
