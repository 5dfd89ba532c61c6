package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"strings"

	"github.com/okd-project/okd-streams/internal/unix"
)

// A pull stages objects in the layout of objects/, whatever the repository has,
// and says that it is one by a file of this name. When the process is killed, the
// next pull takes the objects over that are whole and verify. Other transactions
// remove what was left.
const pullMark = "pull"

// unfinished is the bit in the mode of a staged file that is not whole yet. In a
// repository of [ModeBare] whole ones may have it, too; they are fetched again.
const unfinished = unix.S_ISVTX

// pullWriters is how many workers write files at once.
func pullWriters() int { return min(2*runtime.GOMAXPROCS(0), maxWorkers) }

// beginPull begins a transaction whose staged files others may take over.
func (r *Repo) beginPull(ctx context.Context, noFsync bool) (*txn, error) {
	t, err := r.begin(ctx, pullWriters(), noFsync)
	if err != nil {
		return nil, err
	}
	t.filled = false
	fd, err := openat(t.staging, pullMark, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		t.end()
		return nil, err
	}
	unix.Close(fd)
	return t, nil
}

// adoptPulls moves what killed pulls left to objects/ and gives the number.
func (r *Repo) adoptPulls(ctx context.Context, noFsync bool) (int64, error) {
	locked, err := r.lockShared(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock(locked)
	entries, err := readNames(r.dir, "tmp")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var adopted int64
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() || !strings.HasPrefix(name, stagingPrefix) {
			continue
		}
		lock, ok, err := r.lockStaging(name, false)
		if err != nil || !ok {
			continue // in use, or not ours
		}
		n, err := r.adoptPull(ctx, name, noFsync)
		unix.Close(lock)
		if err != nil {
			return adopted, fmt.Errorf("take over tmp/%s: %w", name, err)
		}
		adopted += n
	}
	return adopted, nil
}

// adoptPull moves the objects of one staging folder, which the caller has locked,
// to objects/. The folder itself is left for the next transaction to remove.
func (r *Repo) adoptPull(ctx context.Context, name string, noFsync bool) (int64, error) {
	staging, err := openDir(r.dir, "tmp/"+name+"/"+stagingRoot)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer unix.Close(staging)
	var st unix.Stat_t
	if unix.Fstatat(staging, pullMark, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return 0, nil
	}
	t := &txn{repo: r, fsync: r.settings.fsync && !noFsync, single: true, name: name, staging: staging, shelves: make([]*shelf, 1), claims: newClaims()}
	// The staging folder is laid out as objects/ is.
	view := &Repo{path: r.path, dir: r.dir, objects: staging, config: r.config, settings: r.settings, log: r.log}
	objects, err := view.listObjects(ctx, func(string, error) error { return nil })
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 256<<10)
	for _, key := range objects {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if there, err := r.hasPath(key.kind, r.objectPath(key.kind, key.sum)); err != nil || there {
			continue
		}
		if view.isWhole(ctx, key, buf) {
			t.claims.set(&key, 1)
		}
	}
	if t.claims.len() == 0 {
		return 0, nil
	}
	if err := t.publish(ctx, func(ObjectType, *Checksum) bool { return true }, &Checksum{}, nil); err != nil {
		return 0, err
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "took over what a killed pull had fetched", slog.String("name", name), slog.Int("objects", t.claims.len()))
	return int64(t.claims.len()), nil
}

// isWhole verifies an object that a pull staged.
func (r *Repo) isWhole(ctx context.Context, key claimKey, buf []byte) bool {
	var st unix.Stat_t
	if unix.Fstatat(r.objects, r.objectPath(key.kind, key.sum), &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&unfinished != 0 {
		return false
	}
	if key.kind != TypeFile {
		_, err := r.object(ctx, key.kind, key.sum)
		return err == nil && key.kind != TypeCommitMeta
	}
	o, err := r.openContent(ctx, key.sum)
	if err != nil {
		return false
	}
	defer o.Close()
	if o.file.Mode&ModeType == ModeSymlink {
		return o.file.verifyHeader(key.sum) == nil
	}
	return o.verify(ctx, key.sum, buf) == nil
}
