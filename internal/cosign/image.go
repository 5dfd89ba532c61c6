package cosign

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/internal/signature"
	"github.com/okd-project/okd-streams/internal/verify"
)

// What a signature image is made of.
const (
	PayloadType         = types.MediaType("application/vnd.dev.cosign.simplesigning.v1+json")
	SignatureAnnotation = "dev.cosignproject.cosign/signature"

	payloadKind   = "cosign container image signature"
	maxPayload    = 256 << 10
	maxSignatures = 100
)

// Tag is the tag, in the repository of the signed image, of its signatures.
func Tag(signed v1.Hash) string { return signed.Algorithm + "-" + signed.Hex + ".sig" }

// payload is what is signed of an image: its digest and what it is called
// (SIGNATURE_SPEC.md, "simple signing").
type payload struct {
	Critical critical       `json:"critical"`
	Optional map[string]any `json:"optional"`
}

type critical struct {
	Identity struct {
		DockerReference string `json:"docker-reference"`
	} `json:"identity"`
	Image struct {
		DockerManifestDigest string `json:"docker-manifest-digest"`
	} `json:"image"`
	Type string `json:"type"`
}

// Signature is what one signature of an image says, and whether it counts.
type Signature struct {
	Err         error          // nil: good; else why not, [signature.ErrSignature]
	Key         string         // [PublicKey.ID] of the key that it fits; "": none
	Identity    string         // the name that was signed; "": none
	Digest      v1.Hash        // the digest that was signed
	Annotations map[string]any // what was signed along
	Bundle      bool           // it is a bundle, not a payload at a tag
}

// SignImage gives the signatures of an image, to be pushed and tagged as [Tag]
// says. identity is the image's pullspec, usually without a tag. prior is what
// is at the tag already, or nil; its signatures are kept, and one that says the
// same by the same key is not added again.
func SignImage(ctx context.Context, signed v1.Hash, identity string, key *Secret, annotations map[string]string, prior v1.Image) (v1.Image, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkSubject(signed); err != nil {
		return nil, fmt.Errorf("cosign: sign: %w", err)
	}
	if _, err := parseIdentity(identity); err != nil {
		return nil, fmt.Errorf("cosign: sign: name %.200q: %w", identity, err)
	}
	var p payload
	p.Critical.Identity.DockerReference = identity
	p.Critical.Image.DockerManifestDigest = signed.String()
	p.Critical.Type = payloadKind
	for k, v := range annotations {
		if p.Optional == nil {
			p.Optional = make(map[string]any)
		}
		p.Optional[k] = v
	}
	body, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("cosign: sign: %w", err)
	}
	if prior == nil {
		prior = mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	} else if has, err := hasSignature(ctx, prior, body, key.Public()); has || err != nil {
		return prior, err
	}
	sig, err := key.signBytes(body, false)
	if err != nil {
		return nil, err
	}
	img, err := mutate.Append(prior, mutate.Addendum{
		Layer:       static.NewLayer(body, PayloadType),
		Annotations: map[string]string{SignatureAnnotation: base64.StdEncoding.EncodeToString(sig)},
	})
	if err != nil {
		return nil, fmt.Errorf("cosign: sign: %w", err)
	}
	return img, nil
}

func checkSubject(h v1.Hash) error {
	if h.Algorithm != "sha256" || len(h.Hex) != 64 {
		return fmt.Errorf("image of digest %.80q: %w", h, errors.ErrUnsupported)
	}
	return nil
}

// hasSignature tells whether img has a good signature of body by key.
func hasSignature(ctx context.Context, img v1.Image, body []byte, key *PublicKey) (bool, error) {
	for s, err := range signatures(ctx, img) {
		if err != nil {
			return false, fmt.Errorf("cosign: prior signatures: %w", err)
		}
		if bytes.Equal(s.body, body) && key.verifyBytes(body, s.sig) {
			return true, nil
		}
	}
	return false, nil
}

// VerifyImage checks the signatures of an image, the one at its [Tag]. It gives
// them all, in their order, and an error unless one is good: made by one of the
// keys, over the digest of the image, and over the name asked for ([AnyIdentity]:
// over any).
func VerifyImage(ctx context.Context, img v1.Image, signed v1.Hash, identity string, keys ...*PublicKey) ([]Signature, error) {
	if err := checkSubject(signed); err != nil {
		return nil, fmt.Errorf("cosign: verify: %w", err)
	}
	var all []Signature
	for s, err := range signatures(ctx, img) {
		if err != nil {
			return nil, fmt.Errorf("cosign: verify: %w", err)
		}
		all = append(all, judgePayload(s, signed, identity, keys))
	}
	return all, verdict(all)
}

// verdict is nil if a signature is good.
func verdict(all []Signature) error {
	var faults []error
	for i, s := range all {
		if s.Err == nil {
			return nil
		}
		faults = append(faults, fmt.Errorf("cosign: signature %d: %w", i+1, s.Err))
	}
	if len(all) == 0 {
		return fmt.Errorf("cosign: no signature: %w", signature.ErrSignature)
	}
	return errors.Join(faults...)
}

// signedBody is a payload and the signature that its annotation holds.
type signedBody struct{ body, sig []byte }

// signatures reads the payloads of a signature image, each whole and verified
// against its digest. Layers of other types are passed over.
func signatures(ctx context.Context, img v1.Image) func(yield func(signedBody, error) bool) {
	return func(yield func(signedBody, error) bool) {
		m, err := img.Manifest()
		if err != nil {
			yield(signedBody{}, fmt.Errorf("signature image: %w", err))
			return
		}
		if len(m.Layers) > maxSignatures {
			yield(signedBody{}, fmt.Errorf("signature image of %d layers, at most %d: %w", len(m.Layers), maxSignatures, signature.ErrSignature))
			return
		}
		for _, desc := range m.Layers {
			text, ok := desc.Annotations[SignatureAnnotation]
			if desc.MediaType != PayloadType || !ok {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(signedBody{}, err)
				return
			}
			body, err := readLayer(img, desc, maxPayload)
			if err != nil {
				yield(signedBody{}, err)
				return
			}
			var sig []byte
			if len(text) <= maxSignature {
				sig, _ = base64.StdEncoding.DecodeString(text) // nil fits no key
			}
			if !yield(signedBody{body, sig}, nil) {
				return
			}
		}
	}
}

// readLayer reads a small layer and verifies it.
func readLayer(img v1.Image, desc v1.Descriptor, limit int64) ([]byte, error) {
	if desc.Size < 0 || desc.Size > limit {
		return nil, fmt.Errorf("layer %s of %d bytes, at most %d: %w", desc.Digest, desc.Size, limit, signature.ErrSignature)
	}
	layer, err := img.LayerByDigest(desc.Digest)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	rc, err := layer.Compressed()
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	checked, err := verify.ReadCloser(rc, desc.Digest, desc.Size)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	defer checked.Close()
	body, err := io.ReadAll(checked)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	return body, nil
}

func judgePayload(s signedBody, signed v1.Hash, identity string, keys []*PublicKey) Signature {
	var out Signature
	if out.Key = fitting(keys, s.body, s.sig); out.Key == "" {
		out.Err = fmt.Errorf("fits none of the keys: %w", signature.ErrUnknownKey)
		return out // of what nobody vouches for, nothing is told
	}
	p, err := parsePayload(s.body)
	if err != nil {
		out.Err = err
		return out
	}
	out.Identity = p.Critical.Identity.DockerReference
	out.Annotations = p.Optional
	if out.Digest, err = v1.NewHash(p.Critical.Image.DockerManifestDigest); err != nil {
		out.Err = fmt.Errorf("signed digest: malformed: %w", signature.ErrSignature)
		return out
	}
	if out.Digest != signed {
		out.Err = fmt.Errorf("is of image %s, not %s: %w", out.Digest, signed, signature.ErrSignature)
		return out
	}
	out.Err = matchIdentity(out.Identity, identity, signed)
	return out
}

// fitting gives the id of the key that a signature fits.
func fitting(keys []*PublicKey, message, sig []byte) string {
	for _, k := range keys {
		if k.verifyBytes(message, sig) {
			return k.ID()
		}
	}
	return ""
}

// parsePayload reads a payload; what it does not know, it refuses, as it was
// signed to be minded ("critical").
func parsePayload(body []byte) (*payload, error) {
	var p payload
	if err := strictJSON(body, &p); err != nil {
		return nil, err
	}
	if p.Critical.Type != payloadKind {
		return nil, fmt.Errorf("signed is a %.60q, not a %q: %w", p.Critical.Type, payloadKind, signature.ErrSignature)
	}
	return &p, nil
}

// strictJSON reads one document and nothing after it, without unknown fields.
func strictJSON(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("payload: malformed: %w", signature.ErrSignature)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("payload: something follows it: %w", signature.ErrSignature)
	}
	return nil
}
