package tekton_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/stream"
	"github.com/okd-project/okd-streams/stream/tekton"
)

var update = flag.Bool("update", false, "write golden files")

const taskImage = "quay.io/okd/okd-streams@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// definition reads a built-in stream, or one of testdata.
func definition(t testing.TB, name string) *stream.Definition {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", name+".yaml"))
	if os.IsNotExist(err) {
		def, err := stream.Builtin(name)
		require.NoError(t, err)
		return def
	}
	require.NoError(t, err)
	defer file.Close()
	def, err := stream.Decode(file)
	require.NoError(t, err)
	return def
}

// rendered are the streams of the golden files.
var rendered = map[string]*tekton.Options{
	"sample": {Image: taskImage},
}

// TestTree holds the objects of each stream to its golden folder.
func TestTree(t *testing.T) {
	for name, opts := range rendered {
		t.Run(name, func(t *testing.T) {
			files, err := tekton.Tree(definition(t, name), opts)
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
	for name, opts := range rendered {
		t.Run(name, func(t *testing.T) {
			r, err := tekton.Render(definition(t, name), opts)
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
