package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// payloadImages pushes the generator's 190 component images to a
// docker-registry of its own and gives the image stream that names them.
func payloadImages(tb testing.TB, host string) *payload.ImageStream {
	tb.Helper()
	root, err := interop.Root()
	require.NoError(tb, err)
	dir := tb.TempDir()
	args := []string{filepath.Join(root, "..", "shared", "peers", "fakeimages.py"), "--registry", host, "--repo", "big/content", "--n", "190", "--layer-kib", "256", "--seed", "2", "--out", dir}
	if markers := payloadMarkers(tb, dir); markers != "" {
		args = append(args, "--tools")
		tb.Setenv("MARKERS_FILE", markers)
	}
	out, err := exec.CommandContext(tb.Context(), "python3", args...).CombinedOutput()
	require.NoError(tb, err, string(out))
	data, err := os.ReadFile(filepath.Join(dir, "is.json"))
	require.NoError(tb, err)
	s, err := payload.DecodeImageStream(data)
	require.NoError(tb, err)
	return s
}

// payloadMarkers writes the room that tools have for what the release is.
func payloadMarkers(tb testing.TB, dir string) string {
	tb.Helper()
	var buf bytes.Buffer
	for marker, n := range map[string]int{"_RELEASE_IMAGE_LOCATION_": 300, "_RELEASE_VERSION_LOCATION_": 64, "_RELEASE_ARCHITECTURE_LOCATION_": 64} {
		fmt.Fprintf(&buf, "\x00%s\x00%s\x00", marker, bytes.Repeat([]byte("X"), n))
	}
	path := filepath.Join(dir, "markers")
	require.NoError(tb, os.WriteFile(path, buf.Bytes(), 0o600))
	return path
}

// BenchmarkPayload assembles and reads a release of 190 images of a
// docker-registry on loopback, as it is and with 25 ms before each answer. The
// reference has what oc needs for the same. requests/op are those of one
// operation, cpu-ms/op the processor time of this process.
//
//	OKD_STREAMS_INTEROP=1 go test ./internal/bench -run '^$' -bench Payload -benchtime 5x
func BenchmarkPayload(b *testing.B) {
	interop.Peer(b, "docker-registry", "python3")
	host := interop.Registry(b)
	stream := payloadImages(b, host)
	for _, latency := range []time.Duration{0, 25 * time.Millisecond} {
		at, hits := host, func() int { return 0 }
		if latency > 0 {
			proxy := interop.Proxy(b, "http://"+host, interop.Fault{Stall: latency})
			at, hits = proxy.Host, func() int { return len(proxy.Requests()) }
		}
		b.Run(fmt.Sprint("latency=", latency), func(b *testing.B) { payloadVerbs(b, at, hits, stream) })
	}
}

func payloadVerbs(b *testing.B, host string, hits func() int, stream *payload.ImageStream) {
	moved := *stream
	moved.Tags = append([]payload.Tag(nil), stream.Tags...)
	for i := range moved.Tags {
		ref, err := name.NewDigest(moved.Tags[i].Pullspec, name.Insecure)
		require.NoError(b, err)
		moved.Tags[i].Pullspec = host + "/" + ref.Context().RepositoryStr() + "@" + ref.DigestStr()
	}
	registry, err := remoteregistry.Open(b.Context(), nil)
	require.NoError(b, err)
	spec := &payload.Spec{Version: "4.20.0-bench.1", Created: time.Unix(stamp, 0), Stream: &moved}
	opts := &payload.AssembleOptions{Compatible: true}
	built, err := payload.Assemble(b.Context(), registry, spec, opts)
	require.NoError(b, err)
	repo, err := name.NewRepository(host+"/big/release", name.Insecure)
	require.NoError(b, err)
	desc, err := registry.WriteImage(b.Context(), repo, built.Image, nil)
	require.NoError(b, err)
	tag := repo.Tag("latest")
	require.NoError(b, registry.Tag(b.Context(), tag, desc.Digest))

	for _, verb := range []struct {
		name string
		run  func(ctx context.Context, src payload.Images) error
	}{
		{"assemble", func(ctx context.Context, src payload.Images) error {
			_, err := payload.Assemble(ctx, src, spec, opts)
			return err
		}},
		{"info", func(ctx context.Context, src payload.Images) error {
			r, err := payload.Open(ctx, src, tag, nil)
			if err == nil {
				err = r.WriteText(&bytes.Buffer{}, nil)
			}
			return err
		}},
		{"images", func(ctx context.Context, src payload.Images) error {
			r, err := payload.Open(ctx, src, tag, nil)
			if err == nil {
				_, err = r.Components(ctx, src, nil)
			}
			return err
		}},
		{"tools", func(ctx context.Context, src payload.Images) error {
			r, err := payload.Open(ctx, src, tag, nil)
			if err == nil {
				_, err = r.Tools(ctx, src, b.TempDir(), nil)
			}
			return err
		}},
	} {
		b.Run(verb.name, func(b *testing.B) {
			before, start := hits(), processorTime(b)
			for b.Loop() {
				// Each time with a client that knows nothing.
				src, err := remoteregistry.Open(b.Context(), nil)
				require.NoError(b, err)
				require.NoError(b, verb.run(b.Context(), src))
			}
			b.ReportMetric(float64(processorTime(b)-start)/float64(time.Millisecond)/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(hits()-before)/float64(b.N), "requests/op")
		})
	}
}

func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
