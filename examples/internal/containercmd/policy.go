package containercmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/signaturepolicy"
)

// trust is what flags say about signatures.
type trust struct {
	policy, registriesD string
	signed              bool
}

func (t *trust) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&t.policy, "policy", "", "`FILE`, a containers-policy.json(5) that decides which images are taken (default: the user's or the machine's, as podman finds it; without any, every image is)")
	flags.StringVar(&t.registriesD, "registries-d", "", "`FOLDER` of containers-registries.d(5) that say where signatures are (default: as podman finds it)")
	flags.BoolVar(&t.signed, "signed", false, "take no policy whose default is to accept anything, as ostree-image-signed: has it")
}

// What ostree-ext and bootc put before an image.
const (
	signedImage        = "ostree-image-signed:"
	unverifiedImage    = "ostree-unverified-image:"
	unverifiedRegistry = "ostree-unverified-registry:"
)

// prefix takes what ostree-ext and bootc put before an image from it.
func (t *trust) prefix(text string) string {
	if rest, ok := strings.CutPrefix(text, signedImage); ok {
		t.signed = true
		text = rest
	} else if rest, ok := strings.CutPrefix(text, unverifiedImage); ok {
		text = rest
	} else if rest, ok := strings.CutPrefix(text, unverifiedRegistry); ok {
		return "docker://" + rest
	} else {
		return text
	}
	if rest, ok := strings.CutPrefix(text, "registry:"); ok {
		return "docker://" + rest
	}
	return text
}

// places are where podman looks for a file of containers' configuration.
func places(name string) []string {
	var out []string
	if home, err := os.UserHomeDir(); err == nil {
		out = append(out, filepath.Join(home, ".config", "containers", name))
	}
	return append(out, filepath.Join("/etc", "containers", name))
}

// read reads the policy; nil: there is none.
func (t *trust) read() (*signaturepolicy.Policy, error) {
	paths := places("policy.json")
	if t.policy != "" {
		paths = []string{t.policy}
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) && t.policy == "" {
			continue
		}
		if err != nil {
			return nil, err
		}
		p, err := signaturepolicy.Decode(f)
		f.Close()
		if err != nil {
			return nil, ui.Usagef("%s: %w", path, err)
		}
		if t.signed && p.Insecure() {
			return nil, ui.Usagef("%s: the default is to accept anything, which is no policy for images that must be signed", path)
		}
		return p, nil
	}
	if t.signed {
		return nil, ui.Usagef("no signature policy in %s; name one with --policy", strings.Join(paths, " or "))
	}
	return nil, nil
}

// lookaside reads where OpenPGP signatures are.
func (t *trust) lookaside() (*signaturepolicy.Lookaside, error) {
	paths := places("registries.d")
	if t.registriesD != "" {
		paths = []string{t.registriesD}
	}
	for _, path := range paths {
		l, err := signaturepolicy.ReadLookaside(os.DirFS(path))
		if errors.Is(err, fs.ErrNotExist) && t.registriesD == "" {
			continue
		}
		if err != nil {
			return nil, ui.Usagef("%s: %w", path, err)
		}
		return l, nil
	}
	return &signaturepolicy.Lookaside{}, nil
}

// openSignature opens a signature of a lookaside store.
func openSignature(ctx context.Context, url, path string) (io.ReadCloser, error) {
	opts := &open.StoreOptions{}
	if dir, ok := strings.CutPrefix(url, "file://"); ok {
		url, opts.ReadOnly = "dir:"+dir, true
	}
	store, err := open.Store(ctx, url, opts)
	if err != nil {
		return nil, err
	}
	rc, _, err := store.Open(ctx, path)
	return rc, err
}

// verifier gives what judges an image by the policy; nil: nothing does.
func (c *common) verifier(cmd *cobra.Command, t *trust, p *place) (func(context.Context, v1.Hash, []byte) error, error) {
	policy, err := t.read()
	if err != nil {
		return nil, err
	}
	if policy == nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: there is no signature policy, so that nothing says who made the image; --policy names one\n")
		return nil, nil
	}
	lookaside, err := t.lookaside()
	if err != nil {
		return nil, err
	}
	img := &signaturepolicy.Image{Reference: p.ref}
	opts := &signaturepolicy.VerifyOptions{ReadFile: os.ReadFile, Signatures: lookaside.Signatures(openSignature), Now: time.Now()}
	if p.ref == nil {
		if img.Path, err = filepath.Abs(p.dir); err == nil {
			img.Path, err = filepath.EvalSymlinks(img.Path)
		}
		if err != nil {
			return nil, err
		}
	} else {
		registry, err := c.openRegistry(cmd)
		if err != nil {
			return nil, err
		}
		opts.Images = func(ctx context.Context, ref name.Reference) (v1.Image, error) { return registry.Image(ctx, ref) }
	}
	return func(ctx context.Context, digest v1.Hash, _ []byte) error {
		img.Digest = digest
		return policy.Verify(ctx, img, opts)
	}, nil
}
