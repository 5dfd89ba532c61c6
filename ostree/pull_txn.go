package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A pull stages objects like any transaction, but gives each its name only when
// it is whole and verified, and says so by a file of this name. When the process
// is killed, the next pull takes the objects over, unless the machine was started
// again since: then they may never have reached the disk. Other transactions
// remove what was left.
const pullMark = "pull"

// beginPull begins a transaction whose staged files others may take over.
func (r *Repo) beginPull(ctx context.Context, workers int, noFsync bool) (*txn, error) {
	t, err := r.begin(ctx, workers, noFsync)
	if err != nil {
		return nil, err
	}
	t.filled = true // file by file
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
	boot, err := bootID()
	if err != nil {
		return 0, err
	}
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
		if !e.IsDir() || !strings.HasPrefix(name, stagingPrefix+boot+"-") {
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
	t := &txn{repo: r, fsync: r.settings.fsync && !noFsync, filled: true, name: name, staging: staging, claims: make(map[claimKey]uint8)}
	kinds := map[string]ObjectType{r.ext(TypeFile): TypeFile, r.ext(TypeDirTree): TypeDirTree, r.ext(TypeDirMeta): TypeDirMeta}
	for i := range maxWorkers {
		t.shelves = append(t.shelves, &shelf{txn: t, number: i})
		entries, err := readNames(staging, "shelf-"+strconv.Itoa(i))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			digits, ext, _ := strings.Cut(e.Name(), ".")
			kind := kinds[ext]
			c, err := ParseChecksum(digits)
			if kind == 0 || err != nil {
				continue
			}
			if there, err := r.hasPath(kind, r.objectPath(kind, c)); err != nil || there {
				continue
			}
			t.claims[claimKey{kind, c}] = uint8(i + 1)
		}
	}
	if len(t.claims) == 0 {
		return 0, nil
	}
	if err := t.publish(ctx, func(ObjectType, *Checksum) bool { return true }, &Checksum{}, nil); err != nil {
		return 0, err
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "took over what a killed pull had fetched", slog.String("name", name), slog.Int("objects", len(t.claims)))
	return int64(len(t.claims)), nil
}
