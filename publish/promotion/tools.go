package promotion

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
)

// file is a file of the release.
type file struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// tooled are the client tools.
type tooled struct {
	Files   []file   `json:"files"`             // by name
	Missing []string `json:"missing,omitempty"` // archives that the payload has no programs for
	// Signature of sha256sum.txt, in the store.
	Signature *file `json:"signature,omitempty"`
}

// tools extracts the client tools.
func (p *promotion) tools(ctx context.Context) error {
	return do(ctx, p, stepTools, Reserved, &p.tooled, func(ctx context.Context) error {
		p.tooled = tooled{}
		if p.settings.NoTools {
			return nil
		}
		out, err := p.extract(ctx, true)
		if err != nil {
			return err
		}
		if p.env.SumsSigner != nil {
			// A signature may be another one each time it is made.
			sig, err := os.ReadFile(filepath.Join(p.toolsFolder(), sumsSignature))
			if err != nil {
				return err
			}
			f, err := p.keep(ctx, sumsSignature, sig)
			if err != nil {
				return err
			}
			out.Signature = &f
		}
		p.tooled = *out
		return nil
	})
}

func (p *promotion) toolsFolder() string {
	return filepath.Join(p.env.Dir, p.settings.Stream, p.version, "tools")
}

const sumsSignature = "sha256sum.txt.asc"

// extract writes the tools into the folder and measures them.
func (p *promotion) extract(ctx context.Context, sign bool) (*tooled, error) {
	r, err := p.opened(ctx)
	if err != nil {
		return nil, err
	}
	dir := p.toolsFolder()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	opts := &payload.ToolsOptions{OS: p.settings.OS, TempDir: dir}
	names := []string{"release.txt", "sha256sum.txt"}
	if sign && p.env.SumsSigner != nil {
		if opts.Sign, err = p.env.SumsSigner(p.reservation.At); err != nil {
			return nil, err
		}
	}
	set, err := r.Tools(ctx, p.env.Registry, dir, opts)
	if err != nil {
		return nil, err
	}
	for _, t := range set.Tools {
		names = append(names, t.File)
	}
	slices.Sort(names)
	out := &tooled{Missing: set.Missing}
	for _, name := range names {
		f, err := measure(dir, name)
		if err != nil {
			return nil, err
		}
		out.Files = append(out.Files, f)
	}
	return out, nil
}

func measure(dir, name string) (file, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return file{}, err
	}
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	return file{Name: name, SHA256: hex.EncodeToString(sum.Sum(nil)), Size: n}, errors.Join(err, f.Close())
}

// toolFiles gives the tools as they were noted, extracted again where this
// machine does not have them.
func (p *promotion) toolFiles(ctx context.Context) ([]Asset, error) {
	dir := p.toolsFolder()
	have := func() error {
		for _, f := range p.tooled.Files {
			got, err := measure(dir, f.Name)
			if err != nil {
				return err
			}
			if got != f {
				return fmt.Errorf("%s has %d bytes, sha256 %s; it was %d, %s: %w", f.Name, got.Size, got.SHA256, f.Size, f.SHA256, publish.ErrDigest)
			}
		}
		return nil
	}
	if have() != nil {
		if _, err := p.extract(ctx, false); err != nil {
			return nil, err
		}
		if err := have(); err != nil {
			return nil, err
		}
	}
	var out []Asset
	for _, f := range p.tooled.Files {
		src, err := publish.FileSource(filepath.Join(dir, f.Name))
		if err != nil {
			return nil, err
		}
		out = append(out, Asset{Name: f.Name, ContentType: contentType(f.Name), SHA256: f.SHA256, Source: src})
	}
	return out, nil
}

// contentType of a file of a release.
func contentType(name string) string {
	switch filepath.Ext(name) {
	case ".gz":
		return "application/gzip"
	case ".zip":
		return "application/zip"
	case ".json":
		return "application/json"
	case ".asc":
		return "application/pgp-signature"
	}
	return "text/plain; charset=utf-8"
}
