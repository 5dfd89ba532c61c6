package ostree

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/gvariant"
	"github.com/okd-project/okd-streams/internal/pgp"
	"github.com/okd-project/okd-streams/internal/unix"
)

// SignatureKind is the key of detached metadata under which signatures of one
// kind lie, a variant of type aay: one byte string for each signature of the
// commit object's bytes. The source is libostree's ostree-sign-*.c and
// ostree-repo-private.h.
type SignatureKind string

// The kinds that are made and checked. Of others, whose keys begin with
// "ostree.sign.", signatures are listed, kept and removed.
const (
	SignatureGPG     SignatureKind = "ostree.gpgsigs"      // binary OpenPGP signature packets
	SignatureEd25519 SignatureKind = "ostree.sign.ed25519" // 64 bytes each
)

// signPrefix begins the names of all kinds but the oldest.
const signPrefix = "ostree.sign."

// MaxSignatures bounds the signatures of one commit.
const MaxSignatures = 256

// signatureList is the type of what is stored of one kind.
var signatureList = gvariant.ArrayOf(gvariant.Bytes)

// Signer makes a detached signature of a message, which it reads to its end:
// publish.Signer. Those of pgpsigner, in the form Detached, are of
// [SignatureGPG], those of ed25519signer of [SignatureEd25519].
type Signer interface {
	Sign(ctx context.Context, message io.Reader) (signature []byte, err error)
}

// Signature is one signature of a commit as it is stored: nothing says yet that
// it is good, or that what it says of itself is true. See [Repo.Verify].
type Signature struct {
	Kind SignatureKind
	Data []byte // as stored

	// KeyID is that of the key it names, 16 upper-case hexadecimal digits; "" if
	// it names none, as those of Ed25519.
	KeyID string
	// Created and Expires are when it was made and until when it counts. Zero:
	// it does not say, as those of Ed25519.
	Created, Expires time.Time

	element int // its place in the list
}

// Sign signs a commit of this repository and adds the signature to its detached
// metadata. All other metadata stays, but a signature of [SignatureGPG] that
// names the same key makes place for the new one; `ostree gpg-sign` refuses to
// sign again. If the same signature is there, nothing is written. An error wraps
// [errors.ErrUnsupported] for kinds that are not made.
//
// For a ref that never names an unsigned commit, commit without
// [CommitOptions].Ref, sign, and set the ref with [Repo.SetRef].
//
// Concurrent calls, in this process or others, lose nothing. `ostree` has no
// lock for detached metadata: what it writes at the same moment may be lost.
func (r *Repo) Sign(ctx context.Context, commit Checksum, kind SignatureKind, signer Signer) error {
	sig, err := r.sign(ctx, commit, kind, signer)
	if err == nil {
		err = r.editMetadata(ctx, commit, func(items []MetadataItem) ([]MetadataItem, error) {
			return addSignature(ctx, items, kind, sig)
		})
	}
	if err != nil {
		return &Error{Op: "sign", Target: commit.String(), Err: err}
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "signed", slog.String("commit", commit.String()), slog.String("kind", string(kind)))
	return nil
}

// sign gives a commit's signature. The signer may take its time: no lock is held.
func (r *Repo) sign(ctx context.Context, commit Checksum, kind SignatureKind, signer Signer) ([]byte, error) {
	if err := r.writable(); err != nil {
		return nil, err
	}
	data, err := r.object(ctx, TypeCommit, commit)
	if err != nil {
		return nil, err
	}
	sig, err := signer.Sign(ctx, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return sig, checkSignature(ctx, kind, sig)
}

// checkSignature refuses what nobody could verify.
func checkSignature(ctx context.Context, kind SignatureKind, sig []byte) error {
	switch kind {
	case SignatureGPG:
		if len(sig) == 0 || sig[0]&0x80 == 0 {
			return errors.New("the signer's OpenPGP signature is not binary and detached")
		}
		// A keyring without keys says what is in the packets.
		for _, s := range describe(ctx, Signature{Kind: kind, Data: sig}) {
			if s.KeyID == "" {
				return errors.New("the signer's OpenPGP signature is malformed or names no key")
			}
		}
	case SignatureEd25519:
		if len(sig) != ed25519.SignatureSize {
			return fmt.Errorf("the signer's Ed25519 signature has %d bytes, want %d", len(sig), ed25519.SignatureSize)
		}
	default:
		return fmt.Errorf("signing with kind %.80q: %w", kind, errUnsupported)
	}
	return ctx.Err()
}

// Signatures lists the signatures of a commit, those of one kind in the order
// they are stored. They are not checked. A commit without any is no error.
func (r *Repo) Signatures(ctx context.Context, commit Checksum) ([]Signature, error) {
	items, err := r.detached(ctx, commit)
	var list []Signature
	if err == nil {
		list, err = listSignatures(ctx, items)
	}
	if err != nil {
		return nil, &Error{Op: "list signatures of", Target: commit.String(), Err: err}
	}
	return list, nil
}

// RemoveSignatures removes the signatures of a commit for which remove is true
// and gives how many that were. All other detached metadata stays. One byte
// string that holds several OpenPGP signatures is removed if remove is true for
// each of them.
func (r *Repo) RemoveSignatures(ctx context.Context, commit Checksum, remove func(Signature) bool) (int, error) {
	removed := 0
	err := r.writable()
	if err == nil {
		err = r.editMetadata(ctx, commit, func(items []MetadataItem) ([]MetadataItem, error) {
			list, err := listSignatures(ctx, items)
			if err != nil {
				return nil, err
			}
			items, removed, err = removeSignatures(items, list, remove)
			return items, err
		})
	}
	if err != nil {
		return 0, &Error{Op: "remove signatures of", Target: commit.String(), Err: err}
	}
	return removed, nil
}

// slot is where a byte string lies.
type slot struct {
	kind    SignatureKind
	element int
}

func removeSignatures(items []MetadataItem, list []Signature, remove func(Signature) bool) (kept []MetadataItem, removed int, err error) {
	keep, count := make(map[slot]bool), make(map[slot]int)
	for _, s := range list {
		at := slot{s.Kind, s.element}
		count[at]++
		keep[at] = keep[at] || !remove(s)
	}
	for _, item := range items {
		kind := SignatureKind(item.Key)
		if !kind.known() {
			kept = append(kept, item)
			continue
		}
		elements, err := signaturesOf(item)
		if err != nil {
			return nil, 0, err
		}
		var left [][]byte
		for i, element := range elements {
			if at := (slot{kind, i}); keep[at] {
				left = append(left, element)
			} else {
				removed += count[at]
			}
		}
		if len(left) > 0 {
			kept = append(kept, MetadataItem{item.Key, signatureVariant(left)})
		}
	}
	return kept, removed, nil
}

// known is true for keys that hold signatures.
func (k SignatureKind) known() bool {
	return k == SignatureGPG || strings.HasPrefix(string(k), signPrefix)
}

// signaturesOf gives the byte strings of one kind, as views.
func signaturesOf(item MetadataItem) ([][]byte, error) {
	if item.Value.Type != "aay" {
		return nil, corruptf("%.80s has type %.80q, not \"aay\"", item.Key, item.Value.Type)
	}
	a, err := gvariant.OpenArray(signatureList, item.Value.Data)
	if err != nil {
		return nil, corrupt(err)
	}
	if a.Len() > MaxSignatures {
		return nil, corruptf("%.80s has %d signatures, at most %d", item.Key, a.Len(), MaxSignatures)
	}
	list := make([][]byte, a.Len())
	for i := range list {
		if list[i], err = a.At(i); err != nil {
			return nil, corrupt(err)
		}
	}
	return list, nil
}

func signatureVariant(list [][]byte) Variant {
	var b gvariant.ArrayBuilder
	b.Reset(signatureList)
	for _, sig := range list {
		b.Add(sig)
	}
	return Variant{"aay", b.Bytes()}
}

// listSignatures finds the signatures in detached metadata, or in what signs a
// summary, which has the same form.
func listSignatures(ctx context.Context, items []MetadataItem) ([]Signature, error) {
	var list []Signature
	seen := make(map[SignatureKind]bool)
	for _, item := range items {
		kind := SignatureKind(item.Key)
		if !kind.known() {
			continue
		}
		if seen[kind] {
			return nil, corruptf("%.80s comes twice", kind)
		}
		seen[kind] = true
		elements, err := signaturesOf(item)
		if err != nil {
			return nil, err
		}
		for i, element := range elements {
			list = append(list, describe(ctx, Signature{Kind: kind, Data: element, element: i})...)
			if len(list) > MaxSignatures {
				return nil, corruptf("more than %d signatures", MaxSignatures)
			}
		}
	}
	return list, ctx.Err()
}

// describe gives the signatures in one byte string with what they say of
// themselves.
func describe(ctx context.Context, s Signature) []Signature {
	if s.Kind != SignatureGPG {
		return []Signature{s}
	}
	// Without keys none is good, and the message is not read.
	found, _ := new(pgp.Keyring).Verify(ctx, nil, s.Data, time.Time{}, nil)
	if len(found) == 0 {
		return []Signature{s}
	}
	list := make([]Signature, len(found))
	for i := range found {
		list[i] = s
		list[i].KeyID, list[i].Created, list[i].Expires = found[i].KeyID, found[i].Created, found[i].Expires
	}
	return list
}

// addSignature adds a signature to detached metadata, or to what signs a
// summary. Items stay in their order.
func addSignature(ctx context.Context, items []MetadataItem, kind SignatureKind, sig []byte) ([]MetadataItem, error) {
	at := slices.IndexFunc(items, func(item MetadataItem) bool { return item.Key == string(kind) })
	if at < 0 {
		return append(slices.Clone(items), MetadataItem{string(kind), signatureVariant([][]byte{sig})}), nil
	}
	list, err := signaturesOf(items[at])
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(list, func(old []byte) bool { return bytes.Equal(old, sig) }) {
		return items, nil
	}
	if made := describe(ctx, Signature{Kind: kind, Data: sig}); made[0].KeyID != "" {
		list = slices.DeleteFunc(list, func(old []byte) bool {
			return !slices.ContainsFunc(describe(ctx, Signature{Kind: kind, Data: old}), func(s Signature) bool { return s.KeyID != made[0].KeyID })
		})
	}
	if len(list) >= MaxSignatures {
		return nil, fmt.Errorf("has %d signatures already, at most %d", len(list), MaxSignatures)
	}
	items = slices.Clone(items)
	items[at].Value = signatureVariant(append(list, sig))
	return items, nil
}

// detached gives a commit's detached metadata, nothing if it has none. The
// commit itself must be there.
func (r *Repo) detached(ctx context.Context, commit Checksum) ([]MetadataItem, error) {
	data, err := r.object(ctx, TypeCommitMeta, commit)
	if errors.Is(err, fs.ErrNotExist) {
		there, e := r.Has(ctx, TypeCommit, commit)
		if e == nil && !there {
			e = fmt.Errorf("the commit is not there: %w", fs.ErrNotExist)
		}
		return nil, e
	}
	if err != nil {
		return nil, err
	}
	return DecodeMetadata(data)
}

// editMetadata changes the detached metadata of a commit, for others at once.
func (r *Repo) editMetadata(ctx context.Context, commit Checksum, edit func([]MetadataItem) ([]MetadataItem, error)) (err error) {
	// Detached metadata beside no commit would be litter.
	own, err := r.hasPath(TypeCommit, r.objectPath(TypeCommit, commit))
	if err != nil {
		return err
	}
	if !own {
		return fmt.Errorf("the commit is not in this repository itself: %w", fs.ErrNotExist)
	}
	t, err := r.begin(ctx, 1, false)
	if err != nil {
		return err
	}
	defer func() {
		if e := t.end(); err == nil {
			err = e
		}
	}()
	unlock, err := r.lockMetadata(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	old, err := r.detached(ctx, commit)
	if err != nil {
		return err
	}
	items, err := edit(old)
	if err != nil {
		return err
	}
	before, err := MarshalMetadata(old)
	if err != nil {
		return err
	}
	data, err := MarshalMetadata(items)
	if err != nil || bytes.Equal(before, data) {
		return err
	}
	if len(data) > MaxMetadataSize {
		return fmt.Errorf("detached metadata of %d bytes, at most %d", len(data), MaxMetadataSize)
	}
	if err := t.shelves[0].last(TypeCommitMeta, data); err != nil {
		return err
	}
	return t.publish(ctx, func(ObjectType, *Checksum) bool { return false }, &commit, []ObjectType{TypeCommitMeta})
}

// lockMetadata waits for others of this package that change detached metadata,
// which transactions, of which many run at once, don't exclude.
func (r *Repo) lockMetadata(ctx context.Context) (unlock func(), err error) {
	if !r.settings.locking {
		return func() {}, nil
	}
	const name = "okd-commitmeta"
	limit := time.Duration(r.settings.lockTimeout) * time.Second
	for waited := time.Duration(0); ; waited += lockRetry {
		fd, ok, err := r.lockStaging(name, true)
		if err == nil && ok {
			return func() {
				// Removed while it is locked: see lockStaging.
				_ = unix.Unlinkat(r.dir, "tmp/"+name+"-lock", 0)
				unix.Close(fd)
			}, nil
		}
		if err == nil && r.settings.lockTimeout >= 0 && waited >= limit {
			err = fmt.Errorf("another process holds it since %s (core.lock-timeout-secs)", limit)
		}
		if err == nil {
			select {
			case <-time.After(lockRetry):
				continue
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		return nil, fmt.Errorf("lock tmp/%s-lock: %w", name, err)
	}
}
