package ostree

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
)

// Repair checks the repository as [Repo.Fsck] does and takes every object that is
// damaged, or missing though a commit names it, from the repository src, of
// whatever mode, with all that it names and that is missing as well. It gives
// how many it found. Each object is verified and replaced at once; nothing is
// taken away. What src does not have, or has damaged too, is an error, and
// nothing is repaired. Refs that name a commit that is missing are repaired, too,
// if src has the commit; other faults of refs and file names stay.
func (r *Repo) Repair(ctx context.Context, src *Repo) (int, error) {
	n, err := r.repair(ctx, src)
	if err != nil {
		return n, &Error{Op: "repair", Target: r.path, Err: err}
	}
	return n, nil
}

func (r *Repo) repair(ctx context.Context, src *Repo) (n int, err error) {
	if err := r.writable(); err != nil {
		return 0, err
	}
	workers := min(runtime.GOMAXPROCS(0), maxWorkers)
	f := &fsck{repo: r, opts: &FsckOptions{}, objects: make(map[claimKey]struct{}), broken: make(map[claimKey]struct{})}
	if err := f.run(ctx, workers); err != nil {
		return 0, err
	}
	err = r.eachRef(ctx, func(_ string, c Checksum, err error) error {
		if err != nil {
			return nil // not a matter of objects
		}
		ok, err := r.Has(ctx, TypeCommit, c)
		if err == nil && !ok {
			f.broken[claimKey{TypeCommit, c}] = struct{}{}
		}
		return err
	})
	if err != nil || len(f.broken) == 0 {
		return 0, err
	}
	t, err := r.begin(ctx, workers+1, false)
	if err != nil {
		return 0, err
	}
	defer func() {
		if e := t.end(); err == nil {
			err = e
		}
	}()
	t.present.broken = f.broken
	p := &localPull{repo: r, src: src, opts: &PullLocalOptions{}, seen: make(map[claimKey]struct{})}
	p.into(t, workers)
	var commits []pulledCommit
	detached := make(map[Checksum][]byte)
	err = p.work(ctx, workers, func(ctx context.Context) error {
		for key := range f.broken {
			var err error
			switch key.kind {
			case TypeFile:
				err = p.file(ctx, key.sum)
			case TypeDirTree:
				err = p.tree(ctx, key.sum, 0)
			case TypeDirMeta:
				err = p.metadata(ctx, key.kind, key.sum)
			case TypeCommit, TypeCommitMeta:
				var data []byte
				if data, err = src.object(ctx, key.kind, key.sum); err != nil {
					break
				}
				if key.kind == TypeCommitMeta {
					_, err = DecodeMetadata(data)
					detached[key.sum] = data
					break
				}
				c := pulledCommit{sum: key.sum, data: data}
				if c.commit, err = DecodeCommit(data); err == nil {
					err = p.closure(ctx, c.commit)
				}
				commits = append(commits, c)
			default:
				err = fmt.Errorf("objects of that kind can't be repaired: %w", errUnsupported)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", objectName(key.kind, key.sum), err)
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if err := t.publish(ctx, func(ObjectType, *Checksum) bool { return true }, &Checksum{}, nil); err != nil {
		return 0, err
	}
	for c, data := range detached {
		if err := r.putObject(TypeCommitMeta, c, data, t.fsync); err != nil {
			return 0, err
		}
	}
	slices.SortFunc(commits, func(a, b pulledCommit) int { return a.commit.Timestamp.Compare(b.commit.Timestamp) })
	for _, c := range commits {
		if err := r.putObject(TypeCommit, c.sum, c.data, t.fsync); err != nil {
			return 0, err
		}
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "repaired", slog.String("from", src.path), slog.Int("objects", len(f.broken)))
	return len(f.broken), nil
}
