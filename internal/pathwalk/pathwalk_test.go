package pathwalk_test

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/pathwalk"
)

func TestWalk(t *testing.T) {
	links := map[string]string{"/a/up": "../b", "/a/root": "/b/./c", "/loop": "loop", "/a/out": "../../../b", "/bad": "?"}
	for i := range 41 { // the last one leads to a file
		links[fmt.Sprint("/chain", i)] = fmt.Sprint("chain", i+1)
	}
	links["/chain40"] = "b/c"
	files := []string{"/a", "/b", "/b/c"}
	broken := errors.New("broken")
	child := func(dir, name string) (string, error) {
		at := path.Join(dir, name)
		if _, ok := links[at]; ok || strings.Contains(strings.Join(files, "\n")+"\n", at+"\n") {
			return at, nil
		}
		return "", fs.ErrNotExist
	}
	link := func(file string) (string, bool, error) {
		target, ok := links[file]
		if target == "?" {
			return "", false, broken
		}
		return target, ok, nil
	}
	for name, want := range map[string]any{
		"":            "/",
		"/":           "/",
		"a//./b/..":   fs.ErrNotExist,
		"b/c":         "/b/c",
		"b/..":        "/",
		"../../b/c":   "/b/c",
		"/a/up/c":     "/b/c",
		"/a/root":     "/b/c",
		"/a/out/c":    "/b/c",
		"chain1":      "/b/c", // 40 links
		"chain0":      fs.ErrInvalid,
		"loop":        fs.ErrInvalid,
		"bad":         broken,
		"a/up/../b/c": "/b/c",

		strings.Repeat("a/../", 254) + "b/c": "/b/c",
		strings.Repeat("a/../", 255) + "b/c": fs.ErrInvalid,
	} {
		got, err := pathwalk.Walk("/", name, child, link)
		if is, ok := want.(error); ok {
			require.ErrorIs(t, err, is, name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
	}
}
