package payload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/signature"
)

// Reasons why a signature is not accepted; each wraps the first. They are
// publish.ErrSignature and its companions.
var (
	ErrSignature  = signature.ErrSignature
	ErrUnknownKey = signature.ErrUnknownKey
	ErrExpired    = signature.ErrExpired
	ErrRevoked    = signature.ErrRevoked
	ErrWeak       = signature.ErrWeak
)

// Message is what is signed of an image, an "atomic container signature"
// (https://github.com/containers/image/blob/main/docs/containers-signature.5.md).
type Message struct {
	// Digest is of the image's manifest, or of the index of a release for
	// several architectures.
	Digest v1.Hash
	// Reference is what the image is called, a pullspec.
	Reference string
	Creator   string    // program and version, or ""
	Timestamp time.Time // in whole seconds; zero: none
}

// Message says what is to be signed of the release. A payload from a folder
// has no digest, and so no message: [io/fs.ErrInvalid].
func (r *Release) Message(creator string, at time.Time) (*Message, error) {
	if r.Ref == nil {
		return nil, &Error{Op: "sign", Target: r.Version(), Err: errors.New("a payload from a folder has no digest to sign")}
	}
	spec := r.Pullspec()
	digest, err := parseDigest(spec.DigestStr())
	if err != nil {
		return nil, &Error{Op: "sign", Target: refText(r.Ref), Err: err}
	}
	return &Message{Digest: digest, Reference: spec.Name(), Creator: creator, Timestamp: at}, nil
}

// Encode writes the message as oc does: JSON with two spaces of indentation,
// no final newline. One of more than [MaxSignatureSize] bytes, which nobody
// would read, and a reference that is none are errors.
func (m *Message) Encode() ([]byte, error) {
	if _, err := parseDigest(m.Digest.String()); err != nil {
		return nil, fmt.Errorf("payload: message to sign: %w", err)
	}
	if _, err := name.ParseReference(m.Reference); err != nil {
		return nil, fmt.Errorf("payload: message to sign: %w", err)
	}
	var image, identity, critical, optional, top object
	image.put("docker-manifest-digest", m.Digest)
	identity.put("docker-reference", m.Reference)
	critical.put("type", signature.MessageType)
	putObject(&critical, "image", &image)
	putObject(&critical, "identity", &identity)
	optional.putText("creator", m.Creator)
	if !m.Timestamp.IsZero() {
		optional.put("timestamp", m.Timestamp.Unix())
	}
	putObject(&top, "critical", &critical)
	putObject(&top, "optional", &optional)
	data, err := top.bytes()
	if err != nil {
		return nil, err
	}
	if data, err = indent(data, MaxSignatureSize); err != nil {
		return nil, fmt.Errorf("payload: message to sign: %w", err)
	}
	return data, nil
}

// DecodeMessage reads a signed message. Unknown members, another type, an
// empty reference and anything behind the object give [ErrSignature]; what
// verifies releases in clusters is as strict, but for the last.
func DecodeMessage(data []byte) (*Message, error) {
	m, err := decodeMessage(data)
	if err != nil {
		return nil, fmt.Errorf("payload: signed message: %w: %w", err, ErrSignature)
	}
	return m, nil
}

func decodeMessage(data []byte) (*Message, error) {
	if len(data) > MaxSignatureSize {
		return nil, fmt.Errorf("%d bytes, limit %d", len(data), MaxSignatureSize)
	}
	said, err := signature.DecodeMessage(data)
	if err != nil {
		return nil, err
	}
	digest, err := parseDigest(said.Digest)
	if err != nil {
		return nil, err
	}
	return &Message{Digest: digest, Reference: said.Reference, Creator: said.Creator, Timestamp: said.Timestamp}, nil
}

// Signer signs messages: the OpenPGP message around them, compressed or not,
// without armour. A publish.Signer whose form is pgpsigner.Message or
// pgpsigner.Packed is one.
type Signer interface {
	Sign(ctx context.Context, message io.Reader) ([]byte, error)
}

// Sign makes the signature of a message, to be stored where [SignatureKey] or
// [EncodeSignatureConfigMap] says. What a signer gives that clusters would not
// read, such as armour, is an error.
func Sign(ctx context.Context, m *Message, signer Signer) ([]byte, error) {
	text, err := m.Encode()
	if err != nil {
		return nil, err
	}
	sig, err := signer.Sign(ctx, bytes.NewReader(text))
	switch {
	case err != nil:
	case len(sig) > MaxSignatureSize:
		err = fmt.Errorf("signature of %d bytes, limit %d", len(sig), MaxSignatureSize)
	case len(sig) == 0 || sig[0]&0x80 == 0:
		err = errors.New("the signer gave no OpenPGP message in binary")
	}
	if err != nil {
		return nil, &Error{Op: "sign", Target: m.Reference, Err: err}
	}
	return sig, nil
}
