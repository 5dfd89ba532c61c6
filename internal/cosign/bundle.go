package cosign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/okd-project/okd-streams/internal/signature"
)

// What a bundle that refers to an image is made of.
const (
	// BundleType is the media type of a bundle and the artifact type of the
	// manifest around it: what to ask a registry's referrers for.
	BundleType = types.MediaType("application/vnd.dev.sigstore.bundle.v0.3+json")

	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://sigstore.dev/cosign/sign/v1"
	envelopeType  = "application/vnd.in-toto+json"
	emptyType     = types.MediaType("application/vnd.oci.empty.v1+json")
	maxBundle     = 1 << 20
)

// statement says of an image that it is signed: in-toto's Statement, with
// nothing in the predicate.
type statement struct {
	Type          string         `json:"_type"`
	Subject       []subject      `json:"subject"`
	PredicateType string         `json:"predicateType"`
	Predicate     map[string]any `json:"predicate"`
}

type subject struct {
	Name        string            `json:"name,omitempty"`
	Digest      map[string]string `json:"digest"`
	Annotations map[string]any    `json:"annotations,omitempty"`
}

// bundle is a Sigstore bundle (protobuf-specs, sigstore_bundle.proto) as far as
// keys need it.
type bundle struct {
	MediaType string   `json:"mediaType"`
	Material  material `json:"verificationMaterial"`
	Envelope  envelope `json:"dsseEnvelope"`
}

type material struct {
	PublicKey *hint `json:"publicKey,omitempty"`
}

type hint struct {
	Hint string `json:"hint"`
}

// envelope is a signed statement, DSSE.
type envelope struct {
	Payload     []byte      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []signedSig `json:"signatures"`
}

type signedSig struct {
	Sig   []byte `json:"sig"`
	KeyID string `json:"keyid,omitempty"`
}

// encode is DSSE's encoding of what is signed: lengths keep type and payload
// apart.
func (e *envelope) encode() []byte {
	var b strings.Builder
	for i, part := range []string{"DSSEv1", e.PayloadType, string(e.Payload)} {
		if i > 0 {
			b.WriteString(" " + strconv.Itoa(len(part)) + " ")
		}
		b.WriteString(part)
	}
	return []byte(b.String())
}

// SignBundle gives a manifest with a bundle that refers to an image, to be
// pushed, by digest, to the image's repository. signed is the image's
// descriptor, identity its pullspec; cosign itself writes none ("" here) and
// does not mind one. created is the time written beside the bundle.
func SignBundle(ctx context.Context, signed v1.Descriptor, identity string, key *Secret, annotations map[string]string, created time.Time) (v1.Image, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkSubject(signed.Digest); err != nil {
		return nil, fmt.Errorf("cosign: sign: %w", err)
	}
	if identity != "" {
		if _, err := parseIdentity(identity); err != nil {
			return nil, fmt.Errorf("cosign: sign: name %.200q: %w", identity, err)
		}
	}
	sub := subject{Name: identity, Digest: map[string]string{signed.Digest.Algorithm: signed.Digest.Hex}}
	for k, v := range annotations {
		if sub.Annotations == nil {
			sub.Annotations = make(map[string]any)
		}
		sub.Annotations[k] = v
	}
	payload, err := json.Marshal(statement{statementType, []subject{sub}, predicateType, map[string]any{}})
	if err != nil {
		return nil, fmt.Errorf("cosign: sign: %w", err)
	}
	b := bundle{
		MediaType: string(BundleType), Material: material{&hint{key.Public().hint()}},
		Envelope: envelope{Payload: payload, PayloadType: envelopeType},
	}
	sig, err := key.signBytes(b.Envelope.encode(), true)
	if err != nil {
		return nil, err
	}
	b.Envelope.Signatures = []signedSig{{Sig: sig}}
	raw, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("cosign: sign: %w", err)
	}
	return newReferrer(raw, signed, created)
}

// referrer is an OCI artifact of one layer.
type referrer struct {
	manifest []byte
	layers   map[v1.Hash]v1.Layer
}

func newReferrer(raw []byte, signed v1.Descriptor, created time.Time) (v1.Image, error) {
	body, config := static.NewLayer(raw, BundleType), static.NewLayer([]byte("{}"), emptyType)
	r := &referrer{layers: make(map[v1.Hash]v1.Layer)}
	var descs []v1.Descriptor
	for _, layer := range []v1.Layer{config, body} {
		desc, err := partial.Descriptor(layer)
		if err != nil {
			return nil, fmt.Errorf("cosign: sign: %w", err)
		}
		r.layers[desc.Digest] = layer
		descs = append(descs, *desc)
	}
	var err error
	r.manifest, err = json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: string(BundleType),
		Config: descs[0], Layers: descs[1:],
		Subject: &v1.Descriptor{MediaType: signed.MediaType, Digest: signed.Digest, Size: signed.Size},
		Annotations: map[string]string{
			"dev.sigstore.bundle.content":       "dsse-envelope",
			"dev.sigstore.bundle.predicateType": predicateType,
			"org.opencontainers.image.created":  created.UTC().Format(time.RFC3339),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("cosign: sign: %w", err)
	}
	return partial.CompressedToImage(r)
}

func (r *referrer) RawManifest() ([]byte, error)        { return r.manifest, nil }
func (r *referrer) RawConfigFile() ([]byte, error)      { return []byte("{}"), nil }
func (r *referrer) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (r *referrer) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	if layer, ok := r.layers[h]; ok {
		return layer, nil
	}
	return nil, fmt.Errorf("cosign: layer %s: not in this image", h)
}

// VerifyBundle checks the bundle in a manifest that refers to an image. It
// gives the signatures in it, and an error unless one is good: made by one of
// the keys, saying that an image with this digest is signed, and naming it as
// asked. Bundles that cosign makes name no image: they are good for
// [AnyIdentity] only.
func VerifyBundle(ctx context.Context, img v1.Image, signed v1.Hash, identity string, keys ...*PublicKey) ([]Signature, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkSubject(signed); err != nil {
		return nil, fmt.Errorf("cosign: verify: %w", err)
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, fmt.Errorf("cosign: bundle: %w", err)
	}
	if m.Subject == nil || m.Subject.Digest != signed {
		return nil, fmt.Errorf("cosign: bundle does not refer to %s: %w", signed, signature.ErrSignature)
	}
	if len(m.Layers) != 1 || m.Layers[0].MediaType != BundleType {
		return nil, fmt.Errorf("cosign: manifest holds no bundle of version 0.3: %w", signature.ErrSignature)
	}
	raw, err := readLayer(img, m.Layers[0], maxBundle)
	if err != nil {
		return nil, fmt.Errorf("cosign: bundle: %w", err)
	}
	b, err := parseBundle(raw)
	if err != nil {
		return nil, fmt.Errorf("cosign: bundle: %w", err)
	}
	encoded := b.Envelope.encode()
	var all []Signature
	for _, s := range b.Envelope.Signatures {
		all = append(all, judgeStatement(b, fitting(keys, encoded, s.Sig), signed, identity))
	}
	return all, verdict(all)
}

// parseBundle reads a bundle. What it says of certificates and logs is passed
// over: keys alone are trusted.
func parseBundle(raw []byte) (*bundle, error) {
	var b bundle
	if json.Unmarshal(raw, &b) != nil {
		return nil, fmt.Errorf("malformed: %w", signature.ErrSignature)
	}
	switch {
	case b.MediaType != string(BundleType):
		return nil, fmt.Errorf("a %.100q: %w (%w)", b.MediaType, errors.ErrUnsupported, signature.ErrSignature)
	case len(b.Envelope.Signatures) == 0:
		return nil, fmt.Errorf("no signed statement: %w", signature.ErrSignature)
	case len(b.Envelope.Signatures) > maxSignatures:
		return nil, fmt.Errorf("%d signatures, at most %d: %w", len(b.Envelope.Signatures), maxSignatures, signature.ErrSignature)
	case b.Envelope.PayloadType != envelopeType:
		return nil, fmt.Errorf("signed is a %.100q: %w", b.Envelope.PayloadType, signature.ErrSignature)
	}
	return &b, nil
}

func judgeStatement(b *bundle, key string, signed v1.Hash, want string) Signature {
	out := Signature{Key: key, Bundle: true}
	if key == "" {
		out.Err = fmt.Errorf("fits none of the keys: %w", signature.ErrUnknownKey)
		return out
	}
	var st statement
	if err := json.Unmarshal(b.Envelope.Payload, &st); err != nil {
		out.Err = fmt.Errorf("statement: malformed: %w", signature.ErrSignature)
		return out
	}
	if st.Type != statementType || st.PredicateType != predicateType {
		out.Err = fmt.Errorf("says %.100q, which is no signature of an image: %w", st.PredicateType, signature.ErrSignature)
		return out
	}
	out.Err = fmt.Errorf("is not of image %s: %w", signed, signature.ErrSignature)
	for _, sub := range st.Subject {
		if sub.Digest[signed.Algorithm] != signed.Hex {
			continue
		}
		out.Identity, out.Digest, out.Annotations = sub.Name, signed, sub.Annotations
		if out.Err = matchIdentity(sub.Name, want, signed); out.Err == nil {
			break
		}
	}
	return out
}
