package tekton

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/internal/atomicfile"
	"github.com/okd-project/okd-streams/stream"
)

// File is a file of a tree.
type File struct {
	Path string // with slashes, relative
	Data []byte
}

// Files of a tree.
const (
	kustomizationFile = "kustomization.yaml"
	objectsFile       = "objects.yaml"
	markFile          = "base/" + kustomizationFile
	mark              = "# Written by okd-streams tekton render: it replaces this folder.\n"
)

// kustomization is kustomize.config.k8s.io/v1beta1 Kustomization.
type kustomization struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Resources  []string `json:"resources"`
}

// Tree renders a stream for all platforms, as a tree for kustomize: base has what is the
// same for all, overlays/PLATFORM the rest, and runs/PLATFORM the runs, which are
// created and not applied. Together base and an overlay are what [Render] gives for
// that platform. Files are sorted by path.
func Tree(def *stream.Definition, opts *Options) ([]File, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	rendered := map[Platform]*Rendered{}
	texts := map[Platform][]string{}
	for _, platform := range Platforms() {
		o.Platform = platform
		r, err := Render(def, &o)
		if err != nil {
			return nil, err
		}
		rendered[platform] = r
		for _, object := range r.Objects {
			var b bytes.Buffer
			if err := Encode(&b, object); err != nil {
				return nil, err
			}
			texts[platform] = append(texts[platform], b.String())
		}
	}
	var files []File
	add := func(at string, text string) { files = append(files, File{Path: at, Data: []byte(text)}) }
	kustomize := func(at, before string, resources ...string) error {
		var b bytes.Buffer
		b.WriteString(before)
		if err := encodeYAML(&b, kustomization{"kustomize.config.k8s.io/v1beta1", "Kustomization", resources}); err != nil {
			return err
		}
		add(at, b.String())
		return nil
	}
	var base []string
	for _, text := range texts[Plain] {
		same := true
		for _, platform := range Platforms() {
			same = same && slices.Contains(texts[platform], text)
		}
		if same {
			base = append(base, text)
		}
	}
	add("base/"+objectsFile, strings.Join(base, "---\n"))
	if err := kustomize(markFile, mark, objectsFile); err != nil {
		return nil, err
	}
	for _, platform := range Platforms() {
		at := "overlays/" + string(platform) + "/"
		rest := slices.DeleteFunc(texts[platform], func(text string) bool { return slices.Contains(base, text) })
		resources := []string{"../../base"}
		if len(rest) > 0 {
			add(at+objectsFile, strings.Join(rest, "---\n"))
			resources = append(resources, objectsFile)
		}
		if err := kustomize(at+kustomizationFile, "", resources...); err != nil {
			return nil, err
		}
		for _, run := range rendered[platform].Runs {
			var b bytes.Buffer
			if err := Encode(&b, run); err != nil {
				return nil, err
			}
			add("runs/"+string(platform)+"/"+strings.TrimSuffix(run.Metadata.GenerateName, "-")+".yaml", b.String())
		}
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

// Write writes files into a new folder dir, which is there with all of them or not at
// all. A folder that is there already is replaced if it is empty or holds a tree that
// [Tree] rendered; any other is an error that wraps [fs.ErrExist].
func Write(dir string, files []File) (err error) {
	fail := func(err error) error { return fmt.Errorf("tekton: write %s: %w", dir, err) }
	dir = filepath.Clean(dir)
	if err := replaceable(dir); err != nil {
		return fail(err)
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fail(err)
	}
	work, err := os.MkdirTemp(parent, ".tekton-*")
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	made := filepath.Join(work, "new")
	for _, f := range files {
		if !fs.ValidPath(f.Path) {
			return fail(&fs.PathError{Op: "write", Path: f.Path, Err: fs.ErrInvalid})
		}
		at := filepath.Join(made, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return fail(err)
		}
		if err := atomicfile.Write(at, func(w io.Writer) error { _, err := w.Write(f.Data); return err }); err != nil {
			return fail(err)
		}
	}
	// Between the two renames there is no folder, and never half of one.
	if err := os.Rename(dir, filepath.Join(work, "old")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	if err := os.Rename(made, dir); err != nil {
		return fail(errors.Join(err, os.Rename(filepath.Join(work, "old"), dir)))
	}
	return nil
}

// replaceable reports whether a folder may go.
func replaceable(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(markFile)))
	if err != nil || !bytes.HasPrefix(data, []byte(mark)) {
		return fmt.Errorf("it has files that render did not write: %w", fs.ErrExist)
	}
	return nil
}
