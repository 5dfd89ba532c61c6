package cosign

import (
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/signature"
)

// AnyIdentity is the identity to ask for where it does not matter what an image
// is called: a good signature then says only that the holder of the key signed
// these bytes once, under some name.
const AnyIdentity = "*"

// matchIdentity compares the name that was signed with the one asked for, both
// pullspecs: the repository must be the same, and tag and digest where both
// have one. A signature that names no image fits only [AnyIdentity].
func matchIdentity(signed, want string, subject v1.Hash) error {
	if signed != "" {
		ref, err := parseIdentity(signed)
		if err != nil {
			return fmt.Errorf("signed name %.200q: %w", signed, signature.ErrSignature)
		}
		if ref.digest != "" && ref.digest != subject.String() {
			return fmt.Errorf("signed name %.200q is of another image: %w", signed, signature.ErrSignature)
		}
	}
	if want == AnyIdentity {
		return nil
	}
	w, err := parseIdentity(want)
	if err != nil {
		return fmt.Errorf("name %.200q asked for: %w", want, err)
	}
	if signed == "" {
		return fmt.Errorf("signature names no image, asked for is %q: %w", want, signature.ErrSignature)
	}
	s, err := parseIdentity(signed)
	if err != nil {
		return err
	}
	if s.repo != w.repo || differ(s.tag, w.tag) || differ(s.digest, w.digest) {
		return fmt.Errorf("signature is for %.200q, asked for is %q: %w", signed, want, signature.ErrSignature)
	}
	return nil
}

func differ(a, b string) bool { return a != "" && b != "" && a != b }

type identity struct{ repo, tag, digest string }

// parseIdentity reads a pullspec. A tag that is not written is none.
func parseIdentity(text string) (identity, error) {
	if d, err := name.NewDigest(text); err == nil {
		id := identity{repo: d.Context().Name(), digest: d.DigestStr()}
		if t, err := name.NewTag(text[:len(text)-len("@"+d.DigestStr())], name.StrictValidation); err == nil {
			id.tag = t.TagStr()
		}
		return id, nil
	}
	if t, err := name.NewTag(text, name.StrictValidation); err == nil {
		return identity{repo: t.Context().Name(), tag: t.TagStr()}, nil
	}
	repo, err := name.NewRepository(text)
	if err != nil {
		return identity{}, err
	}
	return identity{repo: repo.Name()}, nil
}
