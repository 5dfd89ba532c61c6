package payload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/cosign"
	"github.com/okd-project/okd-streams/internal/pgp"
)

// Keyring is public OpenPGP keys that are trusted; pgpsigner.ParseKeyring makes
// one, as does [Trust].
type Keyring = pgp.Keyring

// CosignKey is a public key that cosign's signatures are checked with.
type CosignKey = cosign.PublicKey

// ParseCosignKey reads a PEM file of one public key, such as cosign.pub.
func ParseCosignKey(data []byte) (*CosignKey, error) { return cosign.ParsePublicKey(data) }

// Trust is whom a release tells clusters to trust when they are updated from
// it: the ConfigMap with the annotation
// release.openshift.io/verification-config-map.
type Trust struct {
	Name string // of the ConfigMap
	// Keyrings by key of the ConfigMap, verifier-public-key-…. An image must
	// have a signature by each of them.
	Keyrings map[string]*Keyring
	// Stores are URLs, in the order of their keys, store-….
	Stores []string
}

// DecodeTrust reads such a ConfigMap, JSON or YAML. One without keyrings or
// without stores is an error, as it is to a cluster.
func DecodeTrust(data []byte) (*Trust, error) {
	o, err := decodeObject(data)
	if err != nil {
		return nil, fmt.Errorf("payload: trust: %w", err)
	}
	t, err := trustOf(o)
	if err == nil && t == nil {
		err = fmt.Errorf("%s is no ConfigMap with annotation %s", o, trustAnnotation)
	}
	if err != nil {
		return nil, fmt.Errorf("payload: trust: %w", err)
	}
	return t, nil
}

// trustOf gives nil for another object.
func trustOf(o *Object) (*Trust, error) {
	if _, ok := o.Annotations[trustAnnotation]; !ok || o.Kind != "ConfigMap" || o.APIVersion != "v1" {
		return nil, nil
	}
	var m configMap
	if err := json.Unmarshal(o.JSON, &m); err != nil {
		return nil, err
	}
	t := &Trust{Name: o.Name, Keyrings: map[string]*Keyring{}}
	for _, key := range slices.Sorted(maps.Keys(m.Data)) {
		switch {
		case strings.HasPrefix(key, "verifier-public-key-"):
			ring, err := pgp.ParseKeyring([]byte(m.Data[key]))
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", o, key, err)
			}
			t.Keyrings[key] = ring
		case strings.HasPrefix(key, "store-"):
			t.Stores = append(t.Stores, strings.TrimSpace(m.Data[key]))
		default:
			return nil, fmt.Errorf("%s: key %.100q is neither a keyring nor a store", o, key)
		}
	}
	switch {
	case len(t.Keyrings) == 0:
		return nil, fmt.Errorf("%s has no verifier-public-key-…", o)
	case len(t.Stores) == 0:
		return nil, fmt.Errorf("%s has no store-…", o)
	}
	return t, nil
}

// Trust gives whom the release tells clusters to trust: the first ConfigMap of
// that kind by file name. A release without one gives [io/fs.ErrNotExist].
//
// It says nothing about the release itself, which could as well be forged.
func (r *Release) Trust(ctx context.Context) (*Trust, error) {
	for o, err := range r.Objects(ctx) {
		if err != nil {
			return nil, err
		}
		t, err := trustOf(o)
		if err != nil {
			return nil, &Error{Op: "verify", Target: fmt.Sprintf("manifest %s:%d", o.File, o.Line), Err: err}
		}
		if t != nil {
			return t, nil
		}
	}
	return nil, &Error{Op: "verify", Target: r.Version(), Err: fmt.Errorf("no ConfigMap with annotation %s: %w", trustAnnotation, fs.ErrNotExist)}
}

// Policy says which images are accepted. Whom to trust comes from the caller,
// never from the image that is looked at.
type Policy struct {
	// Keyrings by any name: a signature by each must be there. Trust.Keyrings
	// are such.
	Keyrings map[string]*Keyring
	// Stores are where signatures are looked for, in order.
	Stores []SignatureStore

	// CosignKeys: a signature by one of them must be there, at the tag beside
	// the image that cosign uses, read from Images. None: not looked at.
	CosignKeys []*CosignKey
	Images     Images

	// Identities are the repositories that a signature may say the image is
	// in (example.com/okd/release), for mirrors of it. Default: the one it is
	// read from. AnyIdentity is content with any, as clusters are.
	Identities  []string
	AnyIdentity bool
}

// Verified says which signatures an image has.
type Verified struct {
	// Signers are the fingerprints of the OpenPGP keys that signed, by keyring.
	Signers map[string]string
	// Message is what the first of these signatures says; nil without keyrings.
	Message *Message
	// Signatures are the ones that counted, for [EncodeSignatureConfigMap].
	Signatures [][]byte
	// CosignKey is the id of the key that signed with cosign, "" if none had to.
	CosignKey string
}

// Verify checks at a time that an image has the signatures that the policy
// asks for: over its digest, and over its name. Keys that have expired still
// count, as with clusters; signatures that have do not. ref is the release
// image or, of one for several architectures, the index.
//
// What is not accepted gives [ErrSignature] and all reasons met; stores that
// could not be asked are among them. A policy without any keys is an error.
func (p *Policy) Verify(ctx context.Context, ref name.Digest, now time.Time) (*Verified, error) {
	v, err := p.verify(ctx, ref, now)
	if err != nil {
		return nil, &Error{Op: "verify", Target: ref.Name(), Err: err}
	}
	return v, nil
}

func (p *Policy) verify(ctx context.Context, ref name.Digest, now time.Time) (*Verified, error) {
	if len(p.Keyrings)+len(p.CosignKeys) == 0 {
		return nil, errors.New("policy without keys")
	}
	digest, err := parseDigest(ref.DigestStr())
	if err != nil {
		return nil, err
	}
	v := &Verified{Signers: map[string]string{}}
	if len(p.Keyrings) > 0 {
		if err := p.verifyStores(ctx, ref, digest, now, v); err != nil {
			return nil, err
		}
	}
	if len(p.CosignKeys) > 0 {
		if err := p.verifyCosign(ctx, ref, digest, v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// verifyStores looks for a signature by each keyring.
func (p *Policy) verifyStores(ctx context.Context, ref name.Digest, digest v1.Hash, now time.Time, v *Verified) error {
	var reasons []error
	found := 0
	for i, store := range p.Stores {
		for sig, err := range store.Signatures(ctx, digest) {
			if err != nil {
				reasons = append(reasons, fmt.Errorf("signature store %d: %w", i+1, err))
				continue
			}
			found++
			if err := p.accept(ctx, ref, digest, sig, now, v); err != nil {
				reasons = append(reasons, fmt.Errorf("signature %d: %w", found, err))
			}
			if len(v.Signers) == len(p.Keyrings) {
				return nil
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	var missing []string
	for _, key := range slices.Sorted(maps.Keys(p.Keyrings)) {
		if _, ok := v.Signers[key]; !ok {
			missing = append(missing, key)
		}
	}
	if found == 0 {
		reasons = append(reasons, errors.New("no signature found"))
	}
	return fmt.Errorf("no accepted signature for %s: %w", strings.Join(missing, ", "), joinSignature(reasons))
}

// joinSignature makes the reasons wrap [ErrSignature] without saying it twice.
func joinSignature(reasons []error) error {
	err := errors.Join(reasons...)
	if errors.Is(err, ErrSignature) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrSignature, err)
}

// accept checks a signature against the keyrings that have none yet.
func (p *Policy) accept(ctx context.Context, ref name.Digest, digest v1.Hash, sig []byte, now time.Time, v *Verified) error {
	if len(sig) > MaxSignatureSize {
		return fmt.Errorf("%d bytes, limit %d: %w", len(sig), MaxSignatureSize, ErrSignature)
	}
	var reasons []error
	accepted := false
	for _, key := range slices.Sorted(maps.Keys(p.Keyrings)) {
		if _, ok := v.Signers[key]; ok {
			continue
		}
		text, signatures, err := p.Keyrings[key].Open(ctx, bytes.NewReader(sig), now, &pgp.OpenOptions{
			VerifyOptions: pgp.VerifyOptions{ExpiredKeys: true}, MaxSize: MaxSignatureSize, Packets: true,
		})
		if err == nil {
			var m *Message
			if m, err = p.checkMessage(ref, digest, text); err == nil {
				for _, s := range signatures {
					if s.Err == nil {
						v.Signers[key] = s.Primary
					}
				}
				if v.Message == nil {
					v.Message = m
				}
				accepted = true
				continue
			}
		}
		reasons = append(reasons, fmt.Errorf("%s: %w", key, err))
	}
	if accepted {
		v.Signatures = append(v.Signatures, bytes.Clone(sig))
	}
	return errors.Join(reasons...)
}

func (p *Policy) checkMessage(ref name.Digest, digest v1.Hash, text []byte) (*Message, error) {
	m, err := decodeMessage(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrSignature)
	}
	if m.Digest != digest {
		return nil, fmt.Errorf("it is of %s: %w", m.Digest, ErrSignature)
	}
	if p.AnyIdentity {
		return m, nil
	}
	said, err := name.ParseReference(m.Reference)
	if err != nil {
		return nil, fmt.Errorf("docker-reference %.200q: %w: %w", m.Reference, err, ErrSignature)
	}
	if d, ok := said.(name.Digest); ok && d.DigestStr() != digest.String() {
		return nil, fmt.Errorf("docker-reference %.300q has another digest: %w", m.Reference, ErrSignature)
	}
	if !slices.Contains(p.identities(ref), said.Context().Name()) {
		return nil, fmt.Errorf("it is of an image in %.300s: %w", said.Context().Name(), ErrSignature)
	}
	return m, nil
}

func (p *Policy) identities(ref name.Digest) []string {
	if p.Identities != nil {
		return p.Identities
	}
	return []string{ref.Context().Name()}
}

func (p *Policy) verifyCosign(ctx context.Context, ref name.Digest, digest v1.Hash, v *Verified) error {
	if p.Images == nil {
		return errors.New("no images to read cosign's signatures from")
	}
	img, err := p.Images.Image(ctx, ref.Context().Tag(cosign.Tag(digest)))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no signature by cosign: %w", ErrSignature)
	}
	if err != nil {
		return err
	}
	identities := p.identities(ref)
	if p.AnyIdentity {
		identities = []string{cosign.AnyIdentity}
	}
	var reasons []error
	for _, id := range identities {
		signatures, err := cosign.VerifyImage(ctx, img, digest, id, p.CosignKeys...)
		if err != nil {
			reasons = append(reasons, err)
			continue
		}
		for _, s := range signatures {
			if s.Err == nil {
				v.CosignKey = s.Key
			}
		}
		return nil
	}
	return joinSignature(reasons)
}

// CheckRotation finds out which clusters would refuse an update: those at a
// release whose ConfigMap does not trust a key that signed the new one. A new
// key has to be announced by a release that is signed with the old one, and
// that everybody goes through, before it is used alone. from are the releases
// that lead to the new one; stores are where its signatures are, read instead
// of the stores that the releases name. Releases without keys, with which
// clusters accept anything, pass.
//
// Of each release that fails the error names the version; it wraps
// [ErrSignature].
func CheckRotation(ctx context.Context, to name.Digest, from []*Release, stores []SignatureStore, now time.Time) error {
	var errs []error
	for _, r := range from {
		trust, err := r.Trust(ctx)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			_, err = (&Policy{Keyrings: trust.Keyrings, Stores: stores, AnyIdentity: true}).verify(ctx, to, now)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			errs = append(errs, &Error{Op: "verify", Target: to.Name() + " for clusters at " + r.Version(), Err: err})
		}
	}
	return errors.Join(errs...)
}
