package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strconv"
)

// maxPullSuperblock is the length in bytes above which the superblock of a static
// delta is not taken: it is held in memory.
const maxPullSuperblock = 64 << 20

// pullDeltaShelves is how many parts of a static delta are applied at once: each
// may take 100 MiB while it is decompressed.
const pullDeltaShelves = 2

// deltasUsed is false where only single objects are pulled, as `ostree pull` has
// it: an archive repository would have to compress what comes out of a delta.
func (p *httpPull) deltasUsed() bool {
	return !p.opts.NoDeltas && !p.opts.CommitsOnly && len(p.subpaths) == 0 && p.repo.settings.mode != ModeArchive
}

// fetchIndex gives the static deltas to a commit that the server has, as its
// summary or its index of them says.
func (p *httpPull) fetchIndex(ctx context.Context, c Checksum) (map[DeltaName]Checksum, error) {
	for name := range p.offered {
		if name.To == c {
			return p.offered, nil
		}
	}
	if !p.indexed {
		return nil, nil
	}
	file := summaryIndexPath(c)
	data, err := p.server.optional(ctx, file, MaxMetadataSize)
	if data == nil || err != nil {
		return nil, err
	}
	items, err := DecodeMetadata(data)
	var deltas map[DeltaName]Checksum
	if err == nil {
		deltas, err = decodeSummaryDeltas(items)
	}
	if err != nil {
		return nil, &Error{Op: "pull", Target: file, Err: err}
	}
	return deltas, nil
}

// applyDelta stages what a static delta to a commit makes, if the server offers
// one from a commit that is here, or from nothing where none of the commit's refs
// is here. What it did not bring is fetched object by object, and so is
// everything if the delta is at fault: every object is verified either way.
func (p *httpPull) applyDelta(ctx context.Context, c Checksum, offered map[DeltaName]Checksum) error {
	name, found, err := p.chooseDelta(ctx, c, offered)
	if err != nil || !found {
		return err
	}
	// One at a time: they write to the same shelves.
	select {
	case p.deltas <- struct{}{}:
		defer func() { <-p.deltas }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err = p.stageDelta(ctx, name, offered[name]); err == nil {
		p.stats.deltas.Add(1)
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.repo.log.LogAttrs(ctx, slog.LevelWarn, "static delta not used", slog.String("delta", name.String()), slog.Any("error", err))
	return nil
}

// chooseDelta takes, of the deltas from commits that are here, the one from the
// newest.
func (p *httpPull) chooseDelta(ctx context.Context, c Checksum, offered map[DeltaName]Checksum) (best DeltaName, found bool, err error) {
	var newest int64
	for name := range offered {
		if name.To != c || name.From.IsZero() {
			continue
		}
		there, err := p.repo.Has(ctx, TypeCommit, name.From)
		if err != nil {
			return best, false, err
		}
		if !there {
			continue
		}
		if partial, err := p.repo.Partial(ctx, name.From); err != nil {
			return best, false, err
		} else if partial {
			continue
		}
		commit, err := p.repo.ReadCommit(ctx, name.From)
		if err != nil {
			return best, false, err
		}
		if at := commit.Timestamp.Unix(); !found || at > newest || at == newest && name.String() < best.String() {
			best, newest, found = name, at, true
		}
	}
	whole := DeltaName{To: c}
	if _, ok := offered[whole]; !ok || found {
		return best, found, nil
	}
	p.queue.mu.Lock()
	names := p.commits[c].names
	p.queue.mu.Unlock()
	for _, name := range names {
		// Most of its objects are likely to be here.
		if _, err := p.repo.resolve(ctx, p.refPrefix()+name); !errors.Is(err, fs.ErrNotExist) {
			return best, false, err
		}
	}
	return whole, true, nil
}

// stageDelta fetches a static delta and stages the objects it makes.
func (p *httpPull) stageDelta(ctx context.Context, name DeltaName, superblock Checksum) error {
	data, err := p.server.document(ctx, name.path("superblock"), maxPullSuperblock)
	if err != nil {
		return err
	}
	if got := sum(data); got != superblock {
		return corruptf("checksum of its superblock is %s, should be %s", got, superblock)
	}
	d, err := decodeDelta(data)
	if err != nil {
		return err
	}
	if d.DeltaName != name {
		return corruptf("is in fact %s", d.DeltaName)
	}
	if err := p.repo.verifyDelta(ctx, d, nil, p.opts.Now); err != nil {
		return err
	}
	shelves := p.txn.shelves[:min(len(p.txn.shelves), pullDeltaShelves)]
	b := &builder{repo: p.repo, txn: p.txn, opts: &CommitOptions{}, shelf: shelves[0]}
	return d.stage(ctx, b, shelves, func(ctx context.Context, i int) (io.ReadCloser, error) {
		body, err := p.server.open(ctx, p.server.content, name.path(strconv.Itoa(i)), nil)
		if err != nil {
			return nil, fmt.Errorf("fetch: %w", err)
		}
		return body, nil
	})
}
