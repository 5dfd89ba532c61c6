package tekton_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/stream"
	"github.com/okd-project/okd-streams/stream/tekton"
)

var update = flag.Bool("update", false, "write golden files")

const taskImage = "quay.io/okd/okd-streams@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

const builderImage = "quay.io/okd/builder@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

// cases are streams of every kind, and how they are rendered.
var cases = map[string]struct {
	definition func(t testing.TB) *stream.Definition
	opts       *tekton.Options
}{
	"sample": {builtin("sample", nil), &tekton.Options{Image: taskImage}},
	// All that options change.
	"sample-options": {builtin("sample", func(t testing.TB, d *stream.Definition) {
		d.Cadences.Daily = stream.Cadence{Schedule: "30 6 * * *", Timeout: 90 * time.Minute}
	}), &tekton.Options{
		Image: taskImage, Namespace: "os-builds", Prefix: "try-", StorageClass: "fast", Storage: 20 << 30,
		Insecure: []string{"registry.local:5000"}, HostNetwork: true,
		Params: map[string]string{"target-registry": "docker://localhost:5000/okd", "store": "s3://okd?endpoint=http://localhost:9000", "results": "s3://okd?endpoint=http://localhost:9000"},
	}},
	// Kind layer, the base image handed in.
	"okd-scos-next": {builtin("okd-scos-next", func(t testing.TB, d *stream.Definition) {
		d.OS.Builder.Image = builderImage
	}), &tekton.Options{Image: taskImage, Params: map[string]string{"source": "tar:/workspace/shared-workspace/base.tar"}}},
	// Kind layer, the base image followed.
	"okd-fcos-stable": {builtin("okd-fcos-stable", func(t testing.TB, d *stream.Definition) {
		d.OS.Builder.Image = builderImage
		d.OS.Repositories = nil
	}), &tekton.Options{Image: taskImage}},
	// Kind compose, with tests.
	"okd-scos-4.18": {builtin("okd-scos-next", func(t testing.TB, d *stream.Definition) {
		require.NoError(t, d.Version.UnmarshalText([]byte("4.18")))
		d.OS.Builder.Image = builderImage
		d.Gates = append(d.Gates, stream.Gate{Name: "kola", Kind: stream.GateKola})
	}), &tekton.Options{Image: taskImage, Prefix: "okd-418-"}},
}

// builtin is a built-in stream with changes.
func builtin(name string, change func(testing.TB, *stream.Definition)) func(testing.TB) *stream.Definition {
	return func(t testing.TB) *stream.Definition {
		t.Helper()
		def, err := stream.Builtin(name)
		require.NoError(t, err)
		if change != nil {
			change(t, def)
		}
		return def
	}
}

// TestTree holds the objects of each stream to its golden folder.
func TestTree(t *testing.T) {
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			files, err := tekton.Tree(tc.definition(t), tc.opts)
			require.NoError(t, err)
			golden := filepath.Join("testdata", "golden", name)
			if *update {
				require.NoError(t, tekton.Write(golden, files))
			}
			want := map[string]bool{}
			for _, f := range files {
				want[f.Path] = true
				data, err := os.ReadFile(filepath.Join(golden, f.Path))
				require.NoError(t, err)
				require.Equal(t, string(data), string(f.Data), f.Path)
			}
			require.NoError(t, filepath.WalkDir(golden, func(path string, d os.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				rel, err := filepath.Rel(golden, path)
				require.True(t, want[filepath.ToSlash(rel)], "%s is not rendered any more", rel)
				return err
			}))
		})
	}
}

// TestDecode reads back what was written.
func TestDecode(t *testing.T) {
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r, err := tekton.Render(tc.definition(t), tc.opts)
			require.NoError(t, err)
			objects := r.Objects
			for _, run := range r.Runs {
				objects = append(objects, run)
			}
			var b bytes.Buffer
			require.NoError(t, tekton.Encode(&b, objects...))
			read, err := tekton.Decode(&b)
			require.NoError(t, err)
			require.Equal(t, objects, read)
		})
	}
}
