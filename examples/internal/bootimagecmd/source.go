package bootimagecmd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/examples/internal/remote"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/httpstore"
	"github.com/okd-project/okd-streams/publish/linkcheck"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/stream"
)

// source is where documents come from.
type source struct {
	stream, baseURL, registry string
	remote                    remote.Flags
}

// document is one that was read.
type document struct {
	*bootimage.Origin
	node string      // version of the node image, of a release payload
	iso  *payloadISO // of a release payload that has live ISOs
}

// open reads a document that names boot images.
func (s *source) open(cmd *cobra.Command, from string) (*document, error) {
	from = spelled(from)
	if dir, ok := strings.CutPrefix(from, "builds:"); ok {
		return s.build(dir)
	}
	if pullspec, ok := strings.CutPrefix(from, "images:"); ok {
		return s.index(cmd.Context(), pullspec)
	}
	data, release, err := s.read(cmd, from)
	if err != nil {
		return nil, err
	}
	origin, err := bootimage.ReadOrigin(bytes.NewReader(data), &bootimage.OriginOptions{Stream: s.stream, BaseURL: s.baseURL})
	switch {
	case err != nil && kindOf(data) == "builds.json":
		return nil, ui.Next(fmt.Errorf("%s: %w", from, err), "a builds.json names no images: give its folder, builds:"+path.Dir(from))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	doc := &document{Origin: origin}
	if release != nil {
		doc.node, doc.iso = release.node, isoOf(release.registry, release.Release, cmp.Or(s.stream, origin.Stream))
	}
	return doc, nil
}

// spelled is what a person names a document by, as a DOCUMENT: what is no file here may
// be the version or the pullspec of a release, and a folder one with builds.
func spelled(from string) string {
	if info, err := os.Stat(from); err == nil {
		if info.IsDir() {
			return "builds:" + from
		}
		return from
	}
	if strings.Contains(from, "://") {
		return from
	}
	if pullspec := releaseNamed(from); pullspec != "" {
		return "release:" + pullspec
	}
	_, last, ok := strings.Cut(from, "/")
	if _, err := name.ParseReference(from); err == nil && ok && strings.ContainsAny(last, ":@") {
		return "release:" + from
	}
	return from
}

// releaseNamed gives the pullspec of a release of a built-in stream by its version; "":
// no such stream has such versions.
func releaseNamed(version string) string {
	for _, builtin := range stream.BuiltinNames() {
		def, err := stream.Builtin(builtin)
		if err != nil || def.LocalOnly() {
			continue
		}
		if _, err := def.Naming.Release.Parse(version); err == nil {
			return def.Registry.Repository + "/" + def.Registry.Release.Name + ":" + version
		}
	}
	return ""
}

// build reads the newest build of a catalogue.
func (s *source) build(dir string) (*document, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, ui.Next(err, "give the folder with builds.json")
	}
	defer root.Close()
	origin, err := bootimage.BuildOrigin(root.FS(), "", &bootimage.OriginOptions{BaseURL: s.baseURL})
	if err != nil {
		return nil, ui.Next(fmt.Errorf("%s: %w", dir, err), "give the folder with builds.json, and below it ID/ARCH/meta.json")
	}
	return &document{Origin: origin}, nil
}

// release is a release payload and where it was read from.
type release struct {
	*payload.Release
	registry publish.Registry
	node     string // version of the node image
}

// read gives a document's bytes, and the release payload that they are from.
func (s *source) read(cmd *cobra.Command, from string) (data []byte, of *release, err error) {
	from = spelled(from)
	if pullspec, ok := strings.CutPrefix(from, "release:"); ok {
		if named := releaseNamed(pullspec); named != "" {
			pullspec = named
		}
		return s.release(cmd.Context(), pullspec)
	}
	if strings.HasPrefix(from, "http://") || strings.HasPrefix(from, "https://") {
		data, err = fetch(cmd.Context(), from)
		return data, nil, err
	}
	if strings.HasPrefix(from, "builds:") {
		return nil, nil, ui.Next(ui.Usagef("%s: wanted is one document, not a catalogue", from), "name a file of it, such as builds/ID/ARCH/meta.json")
	}
	in := cmd.InOrStdin()
	if from != "-" {
		file, err := os.Open(from)
		if err != nil {
			return nil, nil, ui.Next(err, "give the path of a document, its address, -, or the version or pullspec of a release")
		}
		defer file.Close()
		in = file
	}
	data, err = io.ReadAll(io.LimitReader(in, bootimage.MaxDocumentSize+1))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", from, err)
	}
	return data, nil, nil
}

func fetch(ctx context.Context, address string) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil || path.Base(u.Path) == "." || strings.HasSuffix(u.Path, "/") || u.RawQuery != "" {
		return nil, ui.Usagef("%q is not the address of a file", address)
	}
	key := path.Base(u.Path)
	u.Path, u.RawPath = strings.TrimSuffix(path.Dir(u.Path), "/"), ""
	store, err := open.Store(ctx, u.String(), &open.StoreOptions{HTTP: httpstore.Options{Jitter: rand.Float64}})
	if err != nil {
		return nil, err
	}
	data, _, err := publish.ReadDocument(ctx, store, key)
	if closer, ok := store.(io.Closer); ok {
		err = errors.Join(err, closer.Close())
	}
	if err != nil {
		return nil, ui.Next(err, "check the address, and whether this machine reaches it")
	}
	return data, nil
}

// release reads the ConfigMap of a release payload, and the version of its node
// image.
func (s *source) release(ctx context.Context, pullspec string) (data []byte, of *release, err error) {
	ref, err := name.ParseReference(pullspec)
	if err != nil {
		return nil, nil, &ui.UsageError{Err: err}
	}
	registry, err := open.Registry(ctx, s.registry, &open.RegistryOptions{Remote: s.remote.Options(nil)})
	if err != nil {
		return nil, nil, &ui.UsageError{Err: err}
	}
	payloadOf, err := payload.Open(ctx, registry, ref, nil)
	if err != nil {
		return nil, nil, ui.Next(err, "check the pullspec, and --authfile if the registry wants credentials")
	}
	info, err := payloadOf.Info()
	if err != nil {
		return nil, nil, err
	}
	for file, content := range payloadOf.Manifests() {
		if file == bootimage.ConfigMapManifest {
			return content, &release{payloadOf, registry, info.Versions["machine-os"].Version}, nil
		}
	}
	return nil, nil, ui.Next(fmt.Errorf("release %s: %s: %w", pullspec, bootimage.ConfigMapManifest, fs.ErrNotExist),
		"releases before 4.8 have no boot images: name the installer's pin, its data/data/coreos folder in git")
}

// prober looks addresses up.
func prober(private bool) func(ctx context.Context, url string) (int64, error) {
	return func(ctx context.Context, url string) (int64, error) {
		data, err := json.Marshal(map[string]string{"location": url})
		if err != nil {
			return 0, err
		}
		report, err := linkcheck.Check(ctx, []linkcheck.Document{{Name: url, Data: data}}, &linkcheck.Options{AllowPrivate: private})
		if err != nil {
			return 0, err
		}
		if len(report.Links) > 0 {
			link := report.Links[0]
			switch link.Verdict {
			case linkcheck.OK:
				return link.FoundSize, nil
			case linkcheck.Missing:
				return 0, fmt.Errorf("%s: %w", link.Cause, fs.ErrNotExist)
			}
			return 0, errors.New(string(link.Verdict) + ": " + link.Cause)
		}
		return 0, errors.New("not an address that can be looked up")
	}
}
