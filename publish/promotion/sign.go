package promotion

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
)

// creator is who signatures say made them.
const creator = "okd-streams"

// signed is the signature of the release.
type signed struct {
	// Key in the store of signatures, "" if the release is not signed.
	Key string `json:"key,omitempty"`
	// Number of the signature, from 1.
	Number int `json:"number,omitempty"`
}

// sign signs the release itself, by the digest that was pushed and the name
// that it is promoted under; what is signed is read back from the signature.
func (p *promotion) sign(ctx context.Context) error {
	return do(ctx, p, stepSign, Reserved, &p.signed, func(ctx context.Context) error {
		p.signed = signed{}
		if p.settings.Unsigned {
			return nil
		}
		r, err := p.opened(ctx)
		if err != nil {
			return err
		}
		if got := r.Pullspec().DigestStr(); got != p.assembled.Digest.String() {
			return fmt.Errorf("the registry has %s, assembled was %s: %w", got, p.assembled.Digest, publish.ErrDigest)
		}
		var made []byte
		for n := 1; n <= payload.MaxSignatures; n++ {
			key := p.env.SignaturePrefix + payload.SignatureKey(p.assembled.Digest, n)
			sig, err := readSignature(ctx, p.env.signatures(), key)
			if errors.Is(err, fs.ErrNotExist) {
				if made == nil {
					if made, err = p.makeSignature(ctx, r); err != nil {
						return err
					}
				}
				if sig, err = putOnce(ctx, p.env.signatures(), key, made, "application/octet-stream"); err != nil {
					return err
				}
			}
			if err != nil {
				return err
			}
			// Others may have signed the same digest, as something else.
			if p.accepts(ctx, sig) == nil {
				p.signed = signed{Key: key, Number: n}
				return nil
			}
		}
		return fmt.Errorf("%d signatures of others, and no room for one", payload.MaxSignatures)
	})
}

// makeSignature signs, and refuses what says anything else than it should.
func (p *promotion) makeSignature(ctx context.Context, r *payload.Release) ([]byte, error) {
	signer, err := p.env.Signer(p.reservation.At)
	if err != nil {
		return nil, err
	}
	message, err := r.Message(creator, p.reservation.At)
	if err != nil {
		return nil, err
	}
	message.Reference = p.reference()
	sig, err := payload.Sign(ctx, message, signer)
	if err != nil {
		return nil, err
	}
	if err := p.accepts(ctx, sig); err != nil {
		return nil, fmt.Errorf("the signer's signature: %w", err)
	}
	return sig, nil
}

// reference is what the signature says the image is called.
func (p *promotion) reference() string { return p.settings.Release + ":" + p.version }

// accepts judges a signature as a cluster does, and besides its name.
func (p *promotion) accepts(ctx context.Context, sig []byte) error {
	ref, err := p.ref()
	if err != nil {
		return err
	}
	now := p.env.Now()
	if now.Before(p.reservation.At) {
		now = p.reservation.At // within what clocks may be apart
	}
	policy := &payload.Policy{
		Keyrings: map[string]*payload.Keyring{"the stream's keys": p.env.Keys}, Stores: []payload.SignatureStore{oneSignature(sig)},
		Identities: []string{p.settings.Release},
	}
	v, err := policy.Verify(ctx, ref, now)
	if err != nil {
		return err
	}
	if v.Message.Reference != p.reference() {
		return fmt.Errorf("it is of %.300q, and not of %s: %w", v.Message.Reference, p.reference(), publish.ErrSignature)
	}
	return nil
}

// checkSigned looks at the signature that is published.
func (p *promotion) checkSigned(ctx context.Context) error {
	sig, err := readSignature(ctx, p.env.signatures(), p.signed.Key)
	if err == nil {
		err = p.accepts(ctx, sig)
	}
	if err != nil {
		return fmt.Errorf("signature %s: %w", p.signed.Key, err)
	}
	return nil
}

// oneSignature is a store that has one signature, of any digest.
type oneSignature []byte

func (s oneSignature) Signatures(context.Context, v1.Hash) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) { yield(bytes.Clone(s), nil) }
}

func readSignature(ctx context.Context, s publish.Store, key string) ([]byte, error) {
	if key == "" {
		return nil, fmt.Errorf("the release was not signed: %w", fs.ErrNotExist)
	}
	body, info, err := s.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	if info.Size > payload.MaxSignatureSize {
		return nil, fmt.Errorf("%s has %d bytes, limit %d", key, info.Size, payload.MaxSignatureSize)
	}
	return io.ReadAll(io.LimitReader(body, payload.MaxSignatureSize))
}

// putOnce puts an object where there is none, and gives what is there then.
func putOnce(ctx context.Context, s publish.Store, key string, data []byte, contentType string) ([]byte, error) {
	_, err := s.Put(ctx, key, publish.BytesSource(data), &publish.PutOptions{IfAbsent: true, ContentType: contentType})
	if err == nil {
		return data, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	there, _, err := publish.ReadDocument(ctx, s, key)
	return there, err
}
