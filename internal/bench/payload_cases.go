package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// payloadLatency lies before each answer in the cases of a far registry.
const payloadLatency = 25 * time.Millisecond

// payloadToolImages have the client tools.
var payloadToolImages = []string{"cli", "cli-artifacts", "installer", "installer-artifacts", "cloud-credential-operator"}

// payloads is assembling a release of 190 images, reading it and extracting its
// tools, beside what the reference allows: it was measured where oc was, on a
// docker-registry on loopback. What oc took itself is in the names.
func (b *bench) payloads(ctx context.Context) ([]row, error) {
	run := func(round int) (map[string]cost, error) {
		costs := make(map[string]cost)
		return costs, b.withRegistry(ctx, b.path("payload", round), func(host string) error {
			dir := b.path("payload-images", round)
			if err := payloadGenerate(ctx, dir, host); err != nil {
				return err
			}
			stream := filepath.Join(dir, "is.json")
			for _, latency := range []time.Duration{0, payloadLatency} {
				proxy, err := newPayloadProxy(host, latency)
				if err != nil {
					return err
				}
				defer proxy.close()
				// What costs time is measured without the proxy where it has none to
				// add, what costs bytes with it: the release names its images there.
				at := proxy.host
				call := func(verb string, args ...string) (err error) {
					before := proxy.sent.Load()
					c, err := measure(ctx, b.ours(append([]string{verb, "-host", at}, args...)...))
					c.size = proxy.sent.Load() - before
					costs[fmt.Sprint(verb, latency)] = c
					return err
				}
				if latency == 0 {
					at = host
				}
				for _, verb := range []string{"assemble", "info", "images"} {
					if err := call(verb, "-stream", stream, "-from", host); err != nil {
						return err
					}
				}
				if at != proxy.host {
					at = proxy.host
					if _, err := measure(ctx, b.ours("assemble", "-host", at, "-stream", stream, "-from", host)); err != nil {
						return err
					}
				}
				if err := call("tools", "-to", b.path(fmt.Sprint("tools", latency), round)); err != nil {
					return err
				}
				distinct, err := payloadDistinct(ctx, host)
				if err != nil {
					return err
				}
				costs[fmt.Sprint("distinct", latency)] = cost{size: distinct}
			}
			return nil
		})
	}
	got, err := b.each("payload of 190 images", map[string]side{"ours": run}, "ours")
	if err != nil {
		return nil, err
	}
	const near, far = time.Duration(0), payloadLatency
	of := func(verb string, latency time.Duration) cost { return got[fmt.Sprint(verb, latency)] }
	line := func(what, verb string, latency time.Duration, other string, bound cost, limits ...limit) row {
		return row{what: what, ours: of(verb, latency), otherName: other, other: bound, limits: limits, peak: transferPeak}
	}
	return []row{
		line("assemble 190 images", "assemble", near, "limit (oc 1.9 s)", cost{wall: 700 * time.Millisecond}, atMost("wall", wall, 1)),
		line("assemble 190 images, 25 ms", "assemble", far, "limit (oc 5.6 s)", cost{wall: 1200 * time.Millisecond}, atMost("wall", wall, 1)),
		line("info", "info", near, "limit", cost{cpu: 60 * time.Millisecond}, atMost("CPU", cpu, 1)),
		line("info, 25 ms", "info", far, "oc, recorded", cost{wall: 500 * time.Millisecond}, shown("wall", wall)),
		line("info of 190 images", "images", near, "oc, recorded", cost{wall: 1100 * time.Millisecond}, shown("wall", wall)),
		line("info of 190 images, 25 ms", "images", far, "oc, recorded", cost{wall: 3500 * time.Millisecond}, shown("wall", wall)),
		line("client tools", "tools", near, "distinct bytes (oc 8.3x)", of("distinct", near), atMost("size", size, 1)),
		line("client tools, 25 ms", "tools", far, "distinct bytes (oc 8.3x)", of("distinct", far), atMost("size", size, 1)),
	}, nil
}

// payloadGenerate pushes the generator's component images and writes is.json.
func payloadGenerate(ctx context.Context, dir, host string) error {
	root, err := interop.Root()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var markers bytes.Buffer
	for _, m := range []struct {
		name string
		room int
	}{{"_RELEASE_IMAGE_LOCATION_", 300}, {"_RELEASE_VERSION_LOCATION_", 64}, {"_RELEASE_ARCHITECTURE_LOCATION_", 64}} {
		fmt.Fprintf(&markers, "\x00%s\x00%s\x00", m.name, bytes.Repeat([]byte("X"), m.room))
	}
	file := filepath.Join(dir, "markers")
	if err := os.WriteFile(file, markers.Bytes(), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "python3", filepath.Join(root, "..", "shared", "peers", "fakeimages.py"),
		"--registry", host, "--repo", "big/content", "--n", "190", "--layer-kib", "256", "--seed", "2", "--tools", "--out", dir)
	cmd.Env = append(os.Environ(), "MARKERS_FILE="+file)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fakeimages.py: %w\n%s", err, out)
	}
	return nil
}

// payloadProxy forwards to a registry, waits before each answer, and counts the
// bytes of manifests and blobs that it sends.
type payloadProxy struct {
	host   string
	sent   atomic.Int64
	server *http.Server
}

func newPayloadProxy(host string, latency time.Duration) (*payloadProxy, error) {
	p := &payloadProxy{}
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: host})
			r.Out.Host = r.In.Host
		},
		Transport: transport, FlushInterval: -1,
		ModifyResponse: func(resp *http.Response) error {
			if path := resp.Request.URL.Path; !strings.Contains(path, "/blobs/") && !strings.Contains(path, "/manifests/") {
				return nil
			}
			resp.Body = struct {
				io.Reader
				io.Closer
			}{io.TeeReader(resp.Body, (*countWriter)(&p.sent)), resp.Body}
			return nil
		},
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.host = listener.Addr().String()
	p.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(latency)
		forward.ServeHTTP(w, r)
	})}
	go func() { _ = p.server.Serve(listener) }() // until close
	return p, nil
}

func (p *payloadProxy) close() { _ = p.server.Close() }

type countWriter atomic.Int64

func (c *countWriter) Write(p []byte) (int, error) {
	(*atomic.Int64)(c).Add(int64(len(p)))
	return len(p), nil
}

// payloadRelease is where cases have the release.
func payloadRelease(host string) (name.Tag, error) {
	repo, err := name.NewRepository(host + "/big/release")
	return repo.Tag("latest"), err
}

// payloadDistinct sums up what extraction of tools needs, each blob once: of
// the release image manifest, configuration and last layer, of the images with
// tools everything.
func payloadDistinct(ctx context.Context, host string) (int64, error) {
	registry, err := remoteregistry.Open(ctx, nil)
	if err != nil {
		return 0, err
	}
	tag, err := payloadRelease(host)
	if err != nil {
		return 0, err
	}
	r, err := payload.Open(ctx, registry, tag, nil)
	if err != nil {
		return 0, err
	}
	sizes := map[string]int64{}
	add := func(ref name.Reference, all bool) error {
		img, err := registry.Image(ctx, ref)
		if err != nil {
			return err
		}
		m, err := img.Manifest()
		if err != nil {
			return err
		}
		raw, err := img.RawManifest()
		if err != nil {
			return err
		}
		sizes[ref.Name()] = int64(len(raw))
		layers := m.Layers
		if !all {
			layers = layers[len(layers)-1:]
		}
		for _, d := range append([]v1.Descriptor{m.Config}, layers...) {
			sizes[d.Digest.String()] = d.Size
		}
		return nil
	}
	if err := add(r.Pullspec(), false); err != nil {
		return 0, err
	}
	for _, t := range r.References.Tags {
		if !slices.Contains(payloadToolImages, t.Name) {
			continue
		}
		ref, err := r.Image(t.Name)
		if err != nil {
			return 0, err
		}
		ref = tag.Context().Registry.Repo(strings.Split(ref.Context().RepositoryStr(), "/")...).Digest(ref.DigestStr())
		if err := add(ref, true); err != nil {
			return 0, err
		}
	}
	sum := int64(0)
	for _, n := range sizes {
		sum += n
	}
	return sum, nil
}

// oursPayload is our side of one verb.
func oursPayload(ctx context.Context, verb, host, from, stream, to string) error {
	registry, err := remoteregistry.Open(ctx, nil)
	if err != nil {
		return err
	}
	tag, err := payloadRelease(host)
	if err != nil {
		return err
	}
	if verb == "assemble" {
		data, err := os.ReadFile(stream)
		if err != nil {
			return err
		}
		// What is read and what the payload names is behind the proxy.
		s, err := payload.DecodeImageStream(bytes.ReplaceAll(data, []byte(from), []byte(host)))
		if err != nil {
			return err
		}
		built, err := payload.Assemble(ctx, registry, &payload.Spec{Version: "4.20.0-bench.1", Created: time.Unix(stamp, 0), Stream: s}, &payload.AssembleOptions{Compatible: true})
		if err != nil {
			return err
		}
		base, err := name.NewRepository(host + "/big/content")
		if err != nil {
			return err
		}
		desc, err := registry.WriteImage(ctx, tag.Context(), built.Image, &publish.WriteOptions{From: []name.Repository{base}})
		if err != nil {
			return err
		}
		return registry.Tag(ctx, tag, desc.Digest)
	}
	r, err := payload.Open(ctx, registry, tag, nil)
	if err != nil {
		return err
	}
	switch verb {
	case "info":
		return r.WriteText(io.Discard, nil)
	case "images":
		images, err := r.Components(ctx, registry, nil)
		if err != nil {
			return err
		}
		return json.NewEncoder(io.Discard).Encode(images)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	_, err = r.Tools(ctx, registry, to, nil)
	return err
}
