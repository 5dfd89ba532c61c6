package signaturepolicy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/pgp"
	"github.com/okd-project/okd-streams/internal/strictyaml"
)

// Bounds: of a file of registries.d and of one signature, in bytes, and of how
// many signatures of an image are looked at.
const (
	MaxLookasideSize = 1 << 20
	MaxSignatureSize = pgp.MaxSignatureSize
	MaxSignatures    = 128
)

// Lookaside says where OpenPGP signatures of images are, as a folder
// containers-registries.d(5) does. The zero value knows of none.
type Lookaside struct {
	fallback string
	docker   map[string]string // by scope
}

// lookasideScope is what is said of a scope. Of the two names the newer counts.
type lookasideScope struct {
	Lookaside        string `yaml:"lookaside"`
	LookasideStaging string `yaml:"lookaside-staging"`
	Sigstore         string `yaml:"sigstore"`
	SigstoreStaging  string `yaml:"sigstore-staging"`
	Attachments      *bool  `yaml:"use-sigstore-attachments"`
}

func (s *lookasideScope) url() string {
	if s.Lookaside != "" {
		return s.Lookaside
	}
	return s.Sigstore
}

// ReadLookaside reads the files *.yaml of a folder registries.d, such as
// /etc/containers/registries.d. What two files say of one scope, unknown members
// and what is no file are errors.
func ReadLookaside(dir fs.FS) (*Lookaside, error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, fmt.Errorf("signaturepolicy: %w", err)
	}
	l := &Lookaside{docker: map[string]string{}}
	from := ""
	seen := map[string]string{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".yaml") {
			continue
		}
		if err := l.read(dir, e.Name(), &from, seen); err != nil {
			return nil, fmt.Errorf("signaturepolicy: %s: %w", e.Name(), err)
		}
	}
	return l, nil
}

func (l *Lookaside) read(dir fs.FS, file string, from *string, seen map[string]string) error {
	f, err := dir.Open(file)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxLookasideSize+1))
	f.Close()
	if err != nil {
		return err
	}
	if len(data) > MaxLookasideSize {
		return fmt.Errorf("over %d bytes", MaxLookasideSize)
	}
	var in struct {
		Default *lookasideScope           `yaml:"default-docker"`
		Docker  map[string]lookasideScope `yaml:"docker"`
	}
	if err := strictyaml.Unmarshal(data, &in); err != nil {
		return err
	}
	if in.Default != nil {
		if *from != "" {
			return fmt.Errorf("default-docker is in %s too", *from)
		}
		*from, l.fallback = file, in.Default.url()
	}
	for scope, s := range in.Docker {
		if other, ok := seen[scope]; ok {
			return fmt.Errorf("docker, %.300q is in %s too", scope, other)
		}
		seen[scope] = file
		if url := s.url(); url != "" {
			l.docker[scope] = url
		}
	}
	return nil
}

// url is where signatures of a repository's images are; "": nowhere.
func (l *Lookaside) url(ref name.Reference) string {
	for scope := range (&Image{Reference: ref}).scopes() {
		if url, ok := l.docker[scope]; ok {
			return url
		}
	}
	return l.fallback
}

// Signatures gives a function for [VerifyOptions]. open opens a signature by the
// URL of where they are, http, https or file, and its path below that, such as
// okd/scos@sha256=…/signature-1; what is not there is [fs.ErrNotExist].
func (l *Lookaside) Signatures(open func(ctx context.Context, url, path string) (io.ReadCloser, error)) func(context.Context, name.Reference, v1.Hash) iter.Seq2[[]byte, error] {
	return func(ctx context.Context, ref name.Reference, digest v1.Hash) iter.Seq2[[]byte, error] {
		return func(yield func([]byte, error) bool) {
			url := l.url(ref)
			if url == "" {
				return
			}
			for i := range MaxSignatures {
				path := fmt.Sprintf("%s@%s=%s/signature-%d", ref.Context().RepositoryStr(), digest.Algorithm, digest.Hex, i+1)
				sig, err := readSignature(ctx, url, path, open)
				if errors.Is(err, fs.ErrNotExist) {
					return
				}
				if err != nil {
					yield(nil, fmt.Errorf("%s/%s: %w", strings.TrimSuffix(url, "/"), path, err))
					return
				}
				if !yield(sig, nil) {
					return
				}
			}
			yield(nil, fmt.Errorf("%s has over %d signatures", url, MaxSignatures))
		}
	}
}

func readSignature(ctx context.Context, url, path string, open func(context.Context, string, string) (io.ReadCloser, error)) ([]byte, error) {
	rc, err := open(ctx, url, path)
	if err != nil {
		return nil, err
	}
	sig, err := io.ReadAll(io.LimitReader(rc, MaxSignatureSize+1))
	if e := rc.Close(); err == nil {
		err = e
	}
	if err == nil && len(sig) > MaxSignatureSize {
		err = fmt.Errorf("over %d bytes", MaxSignatureSize)
	}
	return slices.Clip(sig), err
}
