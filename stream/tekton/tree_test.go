package tekton_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/okd-project/okd-streams/stream/tekton"
)

// TestTreeIsRender builds each overlay as kustomize does one with resources alone, and
// finds what Render gives for its platform.
func TestTreeIsRender(t *testing.T) {
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			files, err := tekton.Tree(tc.definition(t), tc.opts)
			require.NoError(t, err)
			at := map[string]string{}
			for _, f := range files {
				at[f.Path] = string(f.Data)
			}
			var build func(dir string) []string
			build = func(dir string) (docs []string) {
				var k struct {
					APIVersion, Kind string
					Resources        []string
				}
				require.Contains(t, at, dir+"/kustomization.yaml")
				require.NoError(t, yaml.UnmarshalStrict([]byte(at[dir+"/kustomization.yaml"]), &k))
				require.Equal(t, "Kustomization", k.Kind)
				for _, r := range k.Resources {
					r = path.Join(dir, r)
					if text, ok := at[r]; ok {
						docs = append(docs, strings.SplitAfter(text+"---\n", "---\n")...)
					} else {
						docs = append(docs, build(r)...)
					}
				}
				return slices.DeleteFunc(docs, func(s string) bool { return s == "" })
			}
			for _, platform := range tekton.Platforms() {
				opts := *tc.opts
				opts.Platform = platform
				r, err := tekton.Render(tc.definition(t), &opts)
				require.NoError(t, err)
				require.NoError(t, r.Check())
				var b bytes.Buffer
				require.NoError(t, r.Encode(&b))
				require.ElementsMatch(t, slices.DeleteFunc(strings.SplitAfter(b.String()+"---\n", "---\n"), func(s string) bool { return s == "" }), build("overlays/"+string(platform)))
				for _, run := range r.Runs {
					b.Reset()
					require.NoError(t, tekton.Encode(&b, run))
					require.Equal(t, b.String(), at["runs/"+string(platform)+"/"+strings.TrimSuffix(run.Metadata.GenerateName, "-")+".yaml"])
				}
			}
		})
	}
}

func TestWrite(t *testing.T) {
	files, err := tekton.Tree(cases["sample"].definition(t), cases["sample"].opts)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "new", "deploy")
	read := func() map[string]string {
		found := map[string]string{}
		require.NoError(t, fs.WalkDir(os.DirFS(filepath.Dir(dir)), ".", func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(filepath.Join(filepath.Dir(dir), p))
			found[strings.TrimPrefix(p, "deploy/")] = string(data)
			return err
		}))
		return found
	}
	want := map[string]string{}
	for _, f := range files {
		want[f.Path] = string(f.Data)
	}
	require.NoError(t, tekton.Write(dir, files))
	require.Equal(t, want, read())
	// What is not rendered any more is gone, and nothing else is left behind.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "old.yaml"), nil, 0o644))
	require.NoError(t, tekton.Write(dir, files))
	require.Equal(t, want, read())

	other := t.TempDir()
	require.NoError(t, tekton.Write(other, files)) // empty
	require.NoError(t, os.WriteFile(filepath.Join(other, "base", "kustomization.yaml"), []byte("mine\n"), 0o644))
	require.ErrorIs(t, tekton.Write(other, files), fs.ErrExist)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	require.Error(t, tekton.Write(file, files))
	for _, bad := range []string{"../x", "/x", "", "a//b"} {
		require.ErrorIs(t, tekton.Write(dir, []tekton.File{{Path: bad}}), fs.ErrInvalid, bad)
		require.Equal(t, want, read(), "a folder that cannot be written leaves the old one")
	}
}

// TestScripts has bash read every script.
func TestScripts(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash here")
	}
	count := 0
	for name, tc := range cases {
		r, err := tekton.Render(tc.definition(t), tc.opts)
		require.NoError(t, err)
		for _, o := range r.Objects {
			task, ok := o.(*tekton.Task)
			if !ok {
				continue
			}
			for _, step := range task.Spec.Steps {
				if step.Script == "" {
					require.NotEmpty(t, step.Command)
					continue
				}
				count++
				cmd := exec.CommandContext(t.Context(), bash, "-n")
				cmd.Stdin = strings.NewReader(step.Script)
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, "%s %s: %s", name, task.Metadata.Name, out)
			}
		}
	}
	require.Greater(t, count, 5)
}
