package publish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The journal of a transfer says which blobs arrived in which repositories.
// That is a hint on where to ask first and from where to mount.

// blobKind is the kind of a transfer's journal entries.
const blobKind = "blob"

// journalBytes is the size of blobs after which entries are written at once.
const journalBytes = 32 << 20

// load reads what a run before noted. Lines that make no sense are passed over.
func (t *transfer) load(ctx context.Context) error {
	if t.opts.Journal == nil {
		return nil
	}
	entries, err := t.opts.Journal.Load(ctx, t.id)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Kind != blobKind {
			continue
		}
		d, err := name.NewDigest(e.Target, name.StrictValidation)
		if err != nil {
			continue
		}
		digest, err := v1.NewHash(d.DigestStr())
		if err != nil {
			continue
		}
		key := placeKey{d.RegistryStr(), digest}
		if !slices.Contains(t.hints[key], d.Repository) {
			t.hints[key] = append(t.hints[key], d.Repository)
		}
	}
	return nil
}

// note adds a blob to the journal, sooner or later: at once if it is large.
func (t *transfer) note(ctx context.Context, s TransferStep) error {
	if t.opts.Journal == nil {
		return nil
	}
	sum := sha256.Sum256([]byte(s.Target))
	t.mu.Lock()
	t.fresh = append(t.fresh, Entry{
		Plan: t.id, Step: hex.EncodeToString(sum[:]), Kind: blobKind, Target: s.Target, Revision: s.Digest, Reused: s.Action != ActionMove,
	})
	if s.Action == ActionMove {
		t.freshSize += s.Size
	}
	least := journalBatch
	if t.freshSize >= journalBytes {
		least = 1
	}
	t.mu.Unlock()
	return t.flush(ctx, least)
}

// flush writes the new entries if there are at least so many.
func (t *transfer) flush(ctx context.Context, least int) error {
	t.mu.Lock()
	fresh := t.fresh
	if len(fresh) < least || t.opts.Journal == nil || t.opts.DryRun {
		t.mu.Unlock()
		return nil
	}
	t.fresh, t.freshSize = nil, 0
	t.mu.Unlock()
	// In an order of its own, not the one in which workers came to an end.
	slices.SortStableFunc(fresh, func(a, b Entry) int { return strings.Compare(a.Target, b.Target) })
	return t.opts.Journal.Append(ctx, t.id, fresh)
}
