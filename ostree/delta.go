package ostree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/okd-project/okd-streams/internal/unix"
)

// ApplyDeltaOptions configures [Repo.ApplyDelta]. Nil is the zero value.
type ApplyDeltaOptions struct {
	// Verifier says which signatures the delta itself must have, which may be of
	// [SignatureEd25519]; those of the commit in it are for [Repo.Verify]. Nil:
	// none, but where core.sign-verify-deltas is set every delta is refused.
	Verifier *Verifier
	// Now is the time at which signatures are judged. Only used with Verifier.
	Now time.Time
	// Workers is how many parts are applied at a time, at most 64. Each takes
	// about 100 MiB while it is decompressed. 0: GOMAXPROCS, at most 4.
	Workers int
	// NoFsync leaves out what makes the commit durable against a crash of the
	// machine, as core.fsync=false does.
	NoFsync bool
}

// ApplyDelta makes a commit of a static delta on disk: file is its folder, with
// the file superblock, or a superblock of any name, with its parts inside or
// beside it. No ref is set; the commit's detached metadata comes along. The
// commit that the delta leads from must be there; objects that the delta leaves
// to be fetched singly, too, as `ostree static-delta apply-offline` demands of
// all: the error wraps [fs.ErrNotExist] if they are not. A commit that is there
// and whole is left as it is.
//
// Superblocks of up to 512 MiB are read, parts of up to 8 GiB when decompressed;
// parts are streamed. Each object is verified against its checksum, and the
// commit is stored only if all that it needs is there. Deltas are not made: that
// is left to `ostree static-delta generate`.
func (r *Repo) ApplyDelta(ctx context.Context, file string, opts *ApplyDeltaOptions) (Checksum, error) {
	if opts == nil {
		opts = &ApplyDeltaOptions{}
	}
	c, err := r.applyDelta(ctx, file, opts)
	if err != nil {
		return Checksum{}, &Error{Op: "apply delta", Target: file, Err: err}
	}
	return c, nil
}

func (r *Repo) applyDelta(ctx context.Context, file string, opts *ApplyDeltaOptions) (c Checksum, err error) {
	workers := opts.Workers
	if workers == 0 {
		workers = min(runtime.GOMAXPROCS(0), 4)
	}
	if workers < 0 || workers > maxWorkers {
		return c, fmt.Errorf("%d workers, want 0 to %d", workers, maxWorkers)
	}
	if err := ctx.Err(); err != nil {
		return c, err
	}
	if err := r.writable(); err != nil {
		return c, err
	}
	f, err := openDelta(file)
	if err != nil {
		return c, err
	}
	defer f.close()
	d := f.delta
	if err := r.verifyDelta(ctx, d, opts.Verifier, opts.Now); err != nil {
		return c, err
	}
	t, err := r.begin(ctx, workers, opts.NoFsync)
	if err != nil {
		return c, err
	}
	defer func() {
		if e := t.end(); err == nil {
			err = e
		}
	}()
	there, err := r.hasPath(TypeCommit, r.objectPath(TypeCommit, d.To))
	if err != nil {
		return c, err
	}
	if there {
		if partial, err := r.Partial(ctx, d.To); err != nil || !partial {
			return d.To, err
		}
	}
	if !d.From.IsZero() {
		if ok, err := r.Has(ctx, TypeCommit, d.From); err != nil {
			return c, err
		} else if !ok {
			return c, fmt.Errorf("%s, which the delta leads from: %w", objectName(TypeCommit, d.From), fs.ErrNotExist)
		}
	}
	for i := range d.fallbacks {
		o := &d.fallbacks[i]
		if ok, err := r.Has(ctx, o.kind, o.sum); err != nil {
			return c, err
		} else if !ok {
			return c, fmt.Errorf("%s, which is not in the delta but to be fetched: %w", objectName(o.kind, o.sum), fs.ErrNotExist)
		}
	}
	b := &builder{repo: r, txn: t, opts: &CommitOptions{}, shelf: t.shelves[0]}
	if err := d.stage(ctx, b, t.shelves, f.part); err != nil {
		return c, err
	}
	commit, err := DecodeCommit(d.commit)
	if err != nil {
		return c, err
	}
	if lack, err := t.missing(ctx, commit); err != nil {
		return c, err
	} else if lack.kind != 0 {
		return c, fmt.Errorf("%s, which neither the delta nor the repository has: %w", objectName(lack.kind, lack.sum), fs.ErrNotExist)
	}
	var last []ObjectType
	if !there {
		if d.commitMeta != nil {
			if err := b.shelf.last(TypeCommitMeta, d.commitMeta); err != nil {
				return c, err
			}
			last = append(last, TypeCommitMeta)
		}
		if err := b.shelf.last(TypeCommit, d.commit); err != nil {
			return c, err
		}
		last = append(last, TypeCommit)
	}
	if err := t.publish(ctx, func(ObjectType, *Checksum) bool { return true }, &d.To, last); err != nil {
		return c, err
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "applied delta", slog.String("delta", d.String()), slog.Int64("content_written", b.stats.content.Load()))
	return d.To, r.completed(d.To)
}

// verifyDelta checks what the delta must be signed with.
func (r *Repo) verifyDelta(ctx context.Context, d *delta, v *Verifier, now time.Time) error {
	if v == nil {
		if must, err := r.config.boolean("core", "sign-verify-deltas", false); err != nil || !must {
			return err
		}
		return fmt.Errorf("core.sign-verify-deltas is set but no key is given: %w", ErrSignature)
	}
	_, err := v.Verify(ctx, d.superblock, d.signatures, now)
	return err
}

// deltaFile is a delta on disk.
type deltaFile struct {
	*delta
	dir int // of the parts
}

// openDelta opens a delta's folder or superblock.
func openDelta(file string) (*deltaFile, error) {
	name := "superblock"
	dir, err := openat(unix.AT_FDCWD, file, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOTDIR) {
		name = filepath.Base(file)
		dir, err = openat(unix.AT_FDCWD, filepath.Dir(file), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	}
	if err != nil {
		return nil, err
	}
	return readDelta(dir, name)
}

// readDelta reads a superblock. It takes over dir.
func readDelta(dir int, name string) (*deltaFile, error) {
	f := &deltaFile{dir: dir}
	data, err := readFileAt(dir, name, maxDeltaSize)
	if err == nil {
		f.delta, err = decodeDelta(data)
	}
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *deltaFile) close() { unix.Close(f.dir) }

// part opens the file of a part.
func (f *deltaFile) part(_ context.Context, i int) (io.ReadCloser, error) {
	name := strconv.Itoa(i)
	fd, err := openat(f.dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	raw := &rawFile{fd, name}
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		raw.Close()
		return nil, pathError("stat", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		raw.Close()
		return nil, corruptf("not a regular file")
	}
	return raw, nil
}

// open gives what a part's file holds, wherever it lies.
func (p *deltaPart) open(ctx context.Context, i int, file func(context.Context, int) (io.ReadCloser, error)) (io.ReadCloser, error) {
	if p.inline != nil {
		return io.NopCloser(bytes.NewReader(p.inline)), nil
	}
	return file(ctx, i)
}

// Deltas lists the static deltas that the repository has, as `ostree
// static-delta list` does, sorted by their names' text. They are not read.
func (r *Repo) Deltas(ctx context.Context) iter.Seq2[DeltaName, error] {
	return func(yield func(DeltaName, error) bool) {
		names, err := r.deltas(ctx)
		if err != nil {
			yield(DeltaName{}, &Error{Op: "list deltas", Target: r.path, Err: err})
			return
		}
		for _, n := range names {
			if !yield(n, nil) {
				return
			}
		}
	}
}

func (r *Repo) deltas(ctx context.Context) ([]DeltaName, error) {
	folders, err := readNames(r.dir, "deltas")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []DeltaName
	for _, folder := range folders {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !folder.IsDir() {
			continue
		}
		inside, err := readNames(r.dir, "deltas/"+folder.Name())
		if err != nil {
			return nil, err
		}
		for _, e := range inside {
			n, ok := parseDeltaPath(folder.Name(), e.Name())
			if !ok || !e.IsDir() {
				continue
			}
			var st unix.Stat_t
			err := retry(func() error { return unix.Fstatat(r.dir, n.path("superblock"), &st, unix.AT_SYMLINK_NOFOLLOW) })
			if err == nil {
				names = append(names, n)
			} else if err != unix.ENOENT {
				return nil, pathError("stat", n.path("superblock"), err)
			}
		}
	}
	slices.SortFunc(names, func(a, b DeltaName) int {
		return bytes.Compare([]byte(a.String()), []byte(b.String()))
	})
	return names, nil
}

// Delta is what `ostree static-delta show` tells about a static delta.
type Delta struct {
	DeltaName
	Timestamp time.Time // when it was made; whole seconds, UTC
	// BigEndian is the byte order of the machine that made it, Guessed that it
	// does not say so itself.
	BigEndian, Guessed bool
	Signed             bool // there are signatures; they are not checked
	Parts              []DeltaPart
	Fallbacks          []DeltaFallback
}

// DeltaPart is a part of a [Delta].
type DeltaPart struct {
	Objects          int    // that it makes
	Size             uint64 // of its file, bytes
	UncompressedSize uint64 // of the objects' content, bytes, as the delta says
	// How many modes and sets of attributes are in it, and bytes of content and of
	// operations.
	Modes, Xattrs    int
	Content, Program int64
	// Operations says how often each is in it: "open-splice-and-close", "open",
	// "write", "set-read-source", "unset-read-source", "close", "bspatch".
	Operations map[string]int
}

// DeltaFallback is an object that a [Delta] leaves to be fetched singly.
type DeltaFallback struct {
	Type             ObjectType
	Checksum         Checksum
	Size             uint64 // as an archive repository stores it, bytes
	UncompressedSize uint64 // of its content, bytes
}

var deltaOpNames = map[byte]string{'S': "open-splice-and-close", 'o': "open", 'w': "write", 'r': "set-read-source", 'R': "unset-read-source",
	'c': "close", 'B': "bspatch"}

// ReadDelta reads one of the repository's static deltas, all of its parts, and
// verifies their checksums and that their operations are sound, without making
// the objects. Parts of more than 128 MiB when decompressed wrap
// [errors.ErrUnsupported].
func (r *Repo) ReadDelta(ctx context.Context, name DeltaName) (*Delta, error) {
	info, err := r.showDelta(ctx, name)
	if err != nil {
		return nil, &Error{Op: "read delta", Target: name.String(), Err: err}
	}
	return info, nil
}

func (r *Repo) showDelta(ctx context.Context, name DeltaName) (*Delta, error) {
	dir, err := openDir(r.dir, path.Dir(name.path("superblock")))
	if err != nil {
		return nil, err
	}
	f, err := readDelta(dir, "superblock")
	if err != nil {
		return nil, err
	}
	defer f.close()
	if f.DeltaName != name {
		return nil, corruptf("is the delta %s", f.DeltaName)
	}
	info := &Delta{DeltaName: name, Timestamp: f.time, BigEndian: f.bigEndian, Guessed: f.guessed, Signed: f.signatures != nil}
	for i := range f.fallbacks {
		o := &f.fallbacks[i]
		info.Fallbacks = append(info.Fallbacks, DeltaFallback{o.kind, o.sum, o.size, o.usize})
	}
	for i := range f.parts {
		part, err := f.show(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("part %d: %w", i, err)
		}
		info.Parts = append(info.Parts, *part)
	}
	return info, nil
}

func (f *deltaFile) show(ctx context.Context, i int) (*DeltaPart, error) {
	part := &f.parts[i]
	r, err := part.open(ctx, i, f.part)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	s := &spool{limit: maxDeltaShow}
	if err := unpackPart(ctx, s, part, r); err != nil {
		return nil, err
	}
	p, err := decodePayload(s, s.size)
	if err != nil {
		return nil, err
	}
	info := &DeltaPart{Objects: part.count(), Size: part.size, UncompressedSize: part.usize, Modes: len(p.modes) / deltaModeSize, Xattrs: p.xattrs.Len(),
		Content: p.blob.Size(), Program: int64(len(p.ops)), Operations: make(map[string]int)}
	count := func(code byte) { info.Operations[deltaOpNames[code]]++ }
	return info, p.eachObject(part, count, func(*deltaObject) error { return nil })
}
