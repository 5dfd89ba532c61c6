package stream

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed builtin/*.yaml
var builtins embed.FS

// BuiltinNames are the names of the built-in definitions, ascending.
func BuiltinNames() []string {
	files, _ := fs.Glob(builtins, "builtin/*.yaml") // fails only on a bad pattern
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), ".yaml")
	}
	return slices.Sorted(slices.Values(files))
}

// BuiltinSource gives the text of a built-in definition, comments and all: a
// start for an own one. nil if there is none of that name.
func BuiltinSource(name string) []byte {
	if !slices.Contains(BuiltinNames(), name) {
		return nil
	}
	data, _ := builtins.ReadFile("builtin/" + name + ".yaml") // it is in the list
	return data
}

// Builtin gives a built-in definition: okd-fcos-stable, okd-scos-stable,
// okd-scos-next or sample. The error for another name wraps
// [io/fs.ErrNotExist].
func Builtin(name string) (*Definition, error) {
	data := BuiltinSource(name)
	if data == nil {
		return nil, fmt.Errorf("stream: no built-in definition %.80q (there are %s): %w", name, strings.Join(BuiltinNames(), ", "), fs.ErrNotExist)
	}
	return Decode(bytes.NewReader(data))
}
