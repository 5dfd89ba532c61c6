package signaturepolicy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/cosign"
	"github.com/okd-project/okd-streams/internal/pgp"
	"github.com/okd-project/okd-streams/internal/signature"
)

// Image is the image to be judged.
type Image struct {
	// Reference is its pullspec; nil: it is in the folder Path.
	Reference name.Reference
	// Path is the absolute path, without symbolic links, of an OCI layout. There
	// are no signatures in one, and no names to be signed.
	Path string
	// Digest is that of its manifest.
	Digest v1.Hash
}

// VerifyOptions are for [Policy.Verify].
type VerifyOptions struct {
	// ReadFile reads a file of keys, as [os.ReadFile] does. Nil: there are none.
	ReadFile func(path string) ([]byte, error)
	// Signatures gives OpenPGP signatures of an image, such as
	// [Lookaside.Signatures] gives. Nil: there are none.
	Signatures func(ctx context.Context, ref name.Reference, digest v1.Hash) iter.Seq2[[]byte, error]
	// Images reads the image at the tag that cosign gives signatures, such as
	// publish.Registry's method Image; what is not there is [fs.ErrNotExist]. Nil:
	// there are none.
	Images func(ctx context.Context, ref name.Reference) (v1.Image, error)
	// Now is when keys and signatures must be good. It is required where a
	// requirement is signedBy.
	Now time.Time
}

// errRefused is a fault of the image, not of who asks.
func errRefused(format string, args ...any) error {
	return fmt.Errorf("%w: %w", fmt.Errorf(format, args...), signature.ErrSignature)
}

// Insecure reports whether the policy takes an image of which no rule of its own
// speaks without looking at it: then `ostree container` does not take it as a
// policy for images that must be signed.
func (p *Policy) Insecure() bool {
	for _, q := range p.fallback {
		if q.kind != acceptAnything {
			return false
		}
	}
	return true
}

// Verify checks that an image meets all requirements that the policy has for it:
// those of the most specific scope. One that does not gives
// publish.ErrSignature and why; so does one that could only be judged by what
// is not supported, which wraps [errors.ErrUnsupported] as well.
func (p *Policy) Verify(ctx context.Context, img *Image, opts *VerifyOptions) error {
	if opts == nil {
		opts = &VerifyOptions{}
	}
	scope, list := p.requirements(img)
	for i := range list {
		if err := list[i].verify(ctx, img, opts); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("signaturepolicy: %s: %s for %s: %w", img.text(), list[i].kind, scope, err)
		}
	}
	return nil
}

// text is the image as containers-transports(5) writes it.
func (i *Image) text() string {
	if i.Reference == nil {
		return "oci:" + i.Path
	}
	return "docker://" + i.Reference.Name()
}

// requirements finds what the policy has for an image, and where.
func (p *Policy) requirements(img *Image) (where string, list []requirement) {
	transport := "docker"
	if img.Reference == nil {
		transport = "oci"
	}
	scopes := p.transports[transport]
	for scope := range img.scopes() {
		if list, ok := scopes[scope]; ok {
			return fmt.Sprintf("%s %q", transport, scope), list
		}
	}
	return "default", p.fallback
}

// scopes gives what an image is below, the most specific first, and "".
func (i *Image) scopes() iter.Seq[string] {
	return func(yield func(string) bool) {
		if i.Reference == nil {
			for dir := i.Path; dir != "" && dir != "/"; dir = dir[:strings.LastIndexByte(dir, '/')] {
				if !yield(dir) || !strings.Contains(dir, "/") {
					return
				}
			}
			yield("")
			return
		}
		repo := canonicalRepository(i.Reference.Context())
		if !yield(canonical(i.Reference)) {
			return
		}
		for at := repo; ; {
			if !yield(at) {
				return
			}
			slash := strings.LastIndexByte(at, '/')
			if slash < 0 {
				break
			}
			at = at[:slash]
		}
		host, _, _ := strings.Cut(repo, "/")
		host, _, _ = strings.Cut(host, ":")
		for {
			dot := strings.IndexByte(host, '.')
			if dot < 0 {
				break
			}
			host = host[dot+1:]
			if !yield("*." + host) {
				return
			}
		}
		yield("")
	}
}

// canonicalRepository is a repository as policies spell it: Docker Hub is
// docker.io there.
func canonicalRepository(r name.Repository) string {
	host := r.RegistryStr()
	if host == name.DefaultRegistry {
		host = "docker.io"
	}
	return host + "/" + r.RepositoryStr()
}

func canonical(ref name.Reference) string {
	sep := ":"
	if _, ok := ref.(name.Digest); ok {
		sep = "@"
	}
	return canonicalRepository(ref.Context()) + sep + ref.Identifier()
}

func (q *requirement) verify(ctx context.Context, img *Image, opts *VerifyOptions) error {
	switch {
	case q.missing != "":
		return fmt.Errorf("%s is not supported: %w: %w", q.missing, errors.ErrUnsupported, signature.ErrSignature)
	case q.kind == acceptAnything:
		return nil
	case q.kind == reject:
		return errRefused("the policy rejects it")
	case img.Reference == nil:
		return errRefused("an OCI layout has no signatures")
	}
	keys := q.data
	for _, path := range q.paths {
		if opts.ReadFile == nil {
			return fmt.Errorf("key %s: %w", path, fs.ErrNotExist)
		}
		key, err := opts.ReadFile(path)
		if err != nil {
			return fmt.Errorf("key: %w", err)
		}
		keys = append(keys[:len(keys):len(keys)], key)
	}
	if q.kind == signedBy {
		return q.verifyPGP(ctx, img, keys, opts)
	}
	return q.verifyCosign(ctx, img, keys, opts)
}

// refuse joins why no signature was accepted.
func refuse(reasons []error) error {
	if len(reasons) == 0 {
		return errRefused("it has no signature")
	}
	return fmt.Errorf("no accepted signature: %w: %w", errors.Join(reasons...), signature.ErrSignature)
}

func (q *requirement) verifyPGP(ctx context.Context, img *Image, keys [][]byte, opts *VerifyOptions) error {
	ring, err := pgp.ParseKeyring(keys...)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if opts.Signatures == nil {
		return refuse(nil)
	}
	var reasons []error
	for sig, err := range opts.Signatures(ctx, img.Reference, img.Digest) {
		if err != nil {
			reasons = append(reasons, err)
			continue
		}
		text, _, err := ring.Open(ctx, bytes.NewReader(sig), opts.Now, &pgp.OpenOptions{MaxSize: MaxSignatureSize, Packets: true})
		var m *signature.Message
		if err == nil {
			m, err = signature.DecodeMessage(text)
		}
		switch {
		case err != nil:
		case m.Digest != img.Digest.String():
			err = fmt.Errorf("it is of %.100s", m.Digest)
		default:
			err = q.identity.accept(img.Reference, m.Reference)
		}
		if err == nil {
			return nil
		}
		reasons = append(reasons, err)
	}
	return refuse(reasons)
}

func (q *requirement) verifyCosign(ctx context.Context, img *Image, keys [][]byte, opts *VerifyOptions) error {
	var public []*cosign.PublicKey
	for i, data := range keys {
		key, err := cosign.ParsePublicKey(data)
		if err != nil {
			return fmt.Errorf("key %d: %w", i+1, err)
		}
		public = append(public, key)
	}
	if opts.Images == nil {
		return refuse(nil)
	}
	at, err := opts.Images(ctx, img.Reference.Context().Tag(cosign.Tag(img.Digest)))
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(nil)
	}
	if err != nil {
		return err
	}
	all, err := cosign.VerifyImage(ctx, at, img.Digest, cosign.AnyIdentity, public...)
	if err != nil {
		return refuse([]error{err})
	}
	var reasons []error
	for _, s := range all {
		err := s.Err
		if err == nil {
			err = q.identity.accept(img.Reference, s.Identity)
		}
		if err == nil {
			return nil
		}
		reasons = append(reasons, err)
	}
	return refuse(reasons)
}

// accept decides whether what was signed as said may be used as ref.
func (d *identity) accept(ref name.Reference, said string) error {
	signed, err := name.ParseReference(said)
	if err != nil {
		return fmt.Errorf("it names %.300q: %w", said, err)
	}
	repo := canonicalRepository(signed.Context())
	full := ""
	if _, digest := signed.(name.Digest); digest || named(said) {
		full = canonical(signed)
	}
	ok := false
	switch d.kind {
	case matchExact:
		_, tagged := ref.(name.Tag)
		ok = tagged && full == canonical(ref)
	case matchRepoDigestOrExact:
		ok = digestOrExact(ref, canonical(ref), canonicalRepository(ref.Context()), full, repo)
	case matchRepository:
		ok = repo == canonicalRepository(ref.Context())
	case exactReference:
		ok = full == canonical(d.reference)
	case exactRepository:
		ok = repo == d.repository
	case remapIdentity:
		want := d.remap(canonicalRepository(ref.Context()))
		ok = digestOrExact(ref, want+strings.TrimPrefix(canonical(ref), canonicalRepository(ref.Context())), want, full, repo)
	}
	if !ok {
		return fmt.Errorf("it names %.300q, which %s does not allow", said, d.kind)
	}
	return nil
}

// digestOrExact asks for the same tag of an image that is named by one, and for
// the same repository of one that is named by its digest.
func digestOrExact(ref name.Reference, want, wantRepo, full, repo string) bool {
	if _, ok := ref.(name.Digest); ok {
		return repo == wantRepo
	}
	return full == want
}

// remap puts the signed prefix in the place of the prefix of a repository.
func (d *identity) remap(repo string) string {
	rest, ok := strings.CutPrefix(repo, d.prefix)
	if !ok || rest != "" && rest[0] != '/' {
		return repo
	}
	return d.signedPrefix + rest
}
