package bootimage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/unix"
)

// Cache keeps downloads in a folder, under the SHA-256 of their bytes. Several
// processes may use one at once: each file is downloaded once, and verified again
// each time that it is taken out. A name is never trusted.
type Cache struct{ root *os.Root }

// NewCache uses a folder as a cache; it does nothing yet. The caller closes root.
func NewCache(root *os.Root) *Cache { return &Cache{root} }

// CacheOptions are options of [Cache.Open].
type CacheOptions struct {
	DownloadOptions
	// Offline asks no server: what is not in the cache is an error that wraps
	// [io/fs.ErrNotExist].
	Offline bool
}

const signatureSuffix = ".sig"

// Open gives the file of an entry, verified, at its start. It is downloaded if the
// cache does not have it, as by [Download]; with Decompress it is the content that
// is kept. The entry must have the SHA-256 of what is kept: UncompressedSHA256 with
// Decompress, else SHA256. Signatures are kept, too. opts.Now becomes the time of its
// last use, where it is not zero.
func (c *Cache) Open(ctx context.Context, e Entry, opts *CacheOptions) (*os.File, *Downloaded, error) {
	var o CacheOptions
	if opts != nil {
		o = *opts
	}
	name := e.SHA256
	if o.Decompress {
		name = e.UncompressedSHA256
	}
	if !reSHA256.MatchString(name) {
		return nil, nil, fmt.Errorf("bootimage: cache: %.80q is not the SHA-256 of what is to be kept: %w", name, fs.ErrInvalid)
	}
	if o.Offline {
		o.Transport = offline{}
	}
	fresh, err := c.signature(ctx, e, name, &o)
	if err != nil {
		return nil, nil, fmt.Errorf("bootimage: cache: %w", err)
	}
	// Collecting may take the file away between the last two steps; not for long.
	for attempt := 0; ; attempt++ {
		done, err := Download(ctx, c.root, name, e, &o.DownloadOptions)
		if err != nil {
			return nil, nil, err
		}
		file, err := c.root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW, 0)
		if errors.Is(err, fs.ErrNotExist) && attempt < 10 {
			continue
		}
		if err == nil && fresh {
			err = c.keepSignature(ctx, name, o.Signature)
		}
		if err == nil && !o.Now.IsZero() {
			err = c.root.Chtimes(name, o.Now, o.Now)
		}
		if err != nil {
			if file != nil {
				err = errors.Join(err, file.Close())
			}
			return nil, nil, fmt.Errorf("bootimage: cache: %w", err)
		}
		return file, done, nil
	}
}

// signature finds the signature that verifying needs; fresh says that it is not in
// the cache yet.
func (c *Cache) signature(ctx context.Context, e Entry, name string, o *CacheOptions) (fresh bool, err error) {
	if len(o.Keys) == 0 || o.Signature != nil {
		return false, nil
	}
	file, err := c.root.OpenFile(name+signatureSuffix, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err == nil {
		data, err := io.ReadAll(io.LimitReader(file, maxSignature))
		o.Signature = data
		return false, errors.Join(err, file.Close())
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	d := &download{root: c.root, name: name, entry: e, opts: o.DownloadOptions}
	if err := d.prepare(); err != nil {
		return false, err
	}
	if err := d.fetchSignature(ctx); err != nil {
		return false, err
	}
	o.Signature = d.opts.Signature
	return true, nil
}

// keepSignature writes one that was good.
func (c *Cache) keepSignature(ctx context.Context, name string, data []byte) error {
	lock, err := lockFile(ctx, c.root, partNamesOf(name).name) // from collectors, too
	if err != nil {
		return err
	}
	temp := "." + name + signatureSuffix
	if err = c.root.WriteFile(temp, data, 0o644); err == nil {
		err = c.root.Rename(temp, name+signatureSuffix)
	}
	return errors.Join(err, c.unlock(lock, name))
}

// unlock gives a lock back, and leaves nothing of it where nothing was stopped.
func (c *Cache) unlock(lock *os.File, name string) error {
	info, err := lock.Stat()
	if err == nil && info.Size() == 0 {
		err = removeAll(c.root, partNamesOf(name).name)
	}
	return errors.Join(err, lock.Close())
}

// offline sends nothing.
type offline struct{}

func (offline) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
	return nil, fmt.Errorf("offline, and not in the cache: %w", fs.ErrNotExist)
}

// CollectOptions say what [Cache.Collect] removes.
type CollectOptions struct {
	// Now is the time that ages are counted to. Required with MaxAge.
	Now time.Time
	// MaxAge is how long ago a file may have been used last; 0: any.
	MaxAge time.Duration
	// MaxBytes is how many bytes the cache may have; those used longest ago go
	// first. 0: any number.
	MaxBytes int64
}

// Collected is what [Cache.Collect] removed and left.
type Collected struct {
	Removed      []string // SHA-256
	RemovedBytes int64    // of the files removed
	LeftBytes    int64    // of those that are still there, also of downloads that were stopped
}

// cached is a file of the cache with its signature, or what a download left that was
// stopped.
type cached struct {
	name  string // SHA-256
	whole bool   // the file is there; a signature may be alone
	files []string
	size  int64 // of all files
	used  time.Time
}

// Collect removes what was used too long ago or is too much, and downloads that
// were stopped as long ago. A file that is being downloaded, or verified, is left;
// files that are open stay readable. Files of others are left, too.
func (c *Cache) Collect(ctx context.Context, opts *CollectOptions) (*Collected, error) {
	var o CollectOptions
	if opts != nil {
		o = *opts
	}
	done, err := c.collect(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("bootimage: collect cache: %w", err)
	}
	return done, nil
}

func (c *Cache) collect(ctx context.Context, o CollectOptions) (*Collected, error) {
	if o.MaxAge > 0 && o.Now.IsZero() {
		return nil, fmt.Errorf("an age without a time: %w", fs.ErrInvalid)
	}
	files, err := c.list()
	if err != nil {
		return nil, err
	}
	done := &Collected{}
	for _, f := range files {
		done.LeftBytes += f.size
	}
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		old := o.MaxAge > 0 && o.Now.Sub(f.used) > o.MaxAge
		much := o.MaxBytes > 0 && done.LeftBytes > o.MaxBytes
		if !old && !much {
			continue
		}
		ok, err := c.remove(f)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		done.LeftBytes -= f.size
		done.RemovedBytes += f.size
		if f.whole {
			done.Removed = append(done.Removed, f.name)
		}
	}
	return done, nil
}

// list gives what is in the cache, that used longest ago first.
func (c *Cache) list() (all []*cached, err error) {
	entries, err := fs.ReadDir(c.root.FS(), ".")
	if err != nil {
		return nil, err
	}
	type key struct {
		name string
		part bool
	}
	found := make(map[key]*cached)
	for _, e := range entries {
		name, part := strings.CutPrefix(e.Name(), ".")
		name, _, _ = strings.Cut(name, ".")
		names := []string{name, name + signatureSuffix}
		if part {
			p := partNamesOf(name)
			names = []string{p.name, p.state, p.state + ".new", p.content, "." + name + signatureSuffix}
		}
		if !reSHA256.MatchString(name) || !slices.Contains(names, e.Name()) || !e.Type().IsRegular() {
			continue
		}
		k := key{name, part}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		f := found[k]
		if f == nil {
			f = &cached{name: name}
			found[k] = f
			all = append(all, f)
		}
		f.files = append(f.files, e.Name())
		f.size += info.Size()
		f.whole = f.whole || e.Name() == name
		// Nobody uses a signature without the file.
		if e.Name() == name || !f.whole && info.ModTime().After(f.used) {
			f.used = info.ModTime()
		}
	}
	slices.SortFunc(all, func(a, b *cached) int {
		if n := a.used.Compare(b.used); n != 0 {
			return n
		}
		return strings.Compare(a.files[0], b.files[0])
	})
	return all, nil
}

// remove takes away what is there of a file, unless somebody works on it.
func (c *Cache) remove(f *cached) (bool, error) {
	lock, err := tryLock(c.root, partNamesOf(f.name).name)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = removeAll(c.root, f.files...)
	return true, errors.Join(err, c.unlock(lock, f.name))
}
