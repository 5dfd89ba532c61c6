package mutants_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/mutants"
)

// TestOf: what mutants are for is among them, and they are the same each time.
func TestOf(t *testing.T) {
	const doc = `{"name":"n","list":[{"a":1.50},2],"own":{"b":"c"}}`
	list := slices.Collect(mutants.Of(doc, "no JSON"))
	require.Equal(t, []string{doc, "no JSON"}, list[:2])
	require.Equal(t, list, slices.Collect(mutants.Of(doc, "no JSON")))
	for _, m := range list[2:] {
		require.True(t, json.Valid([]byte(m)), "%q", m)
	}
	for name, want := range map[string]string{
		"null": `"list":null`, "missing": `{"list":[{"a":1.50},2],"own":{"b":"c"}}`, "twice": `"own":{"b":"c"},"own":`, "other case": `"NAME":`,
		"another type": `"name":{`, "in a list": `"name":["n"]`, "empty": `"list":[]`, "another value of it": `"list":{"b":"c"}`,
	} {
		require.True(t, slices.ContainsFunc(list, func(m string) bool {
			return strings.Contains(strings.NewReplacer(" ", "", "\n", "").Replace(m), want)
		}), name)
	}
	require.Contains(t, slices.Collect(mutants.Of("a: 1\n")), `{"a":null}`)
	for range mutants.Of(doc) {
		break // as a test that has seen enough does
	}
	t.Setenv(mutants.Env, "1000")
	more := slices.Collect(mutants.Of(doc))
	require.Greater(t, len(more), 1001)
	require.NotEqual(t, more, slices.Collect(mutants.Of(doc)))
}

// TestTars: tar files that Go can read are among them, and what they are for.
func TestTars(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "usr/bin/sh", Size: 3, Mode: 0o755}))
	_, err := w.Write([]byte("#!x"))
	require.NoError(t, err)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "usr/lib/", Typeflag: tar.TypeDir}))
	require.NoError(t, w.Close())
	list := slices.Collect(mutants.Tars(b.Bytes(), nil, []byte("no tar")))
	require.Equal(t, [][]byte{b.Bytes(), nil, []byte("no tar")}, list[:3])
	require.Equal(t, list, slices.Collect(mutants.Tars(b.Bytes(), nil, []byte("no tar"))))
	require.Len(t, slices.Collect(mutants.Tars([]byte("no tar"))), 1)

	seen := map[string]bool{}
	readable := 0
	for _, data := range list[3:] {
		links := map[string]bool{}
		content := 0
		r := tar.NewReader(bytes.NewReader(data))
		for {
			h, err := r.Next()
			if err == io.EOF {
				readable++
				break
			}
			if err != nil {
				require.NotErrorIs(t, err, io.ErrUnexpectedEOF)
				break
			}
			seen[string(h.Typeflag)] = true
			seen["pax"] = seen["pax"] || h.Format == tar.FormatPAX
			seen["bytes"] = seen["bytes"] || !utf8.ValidString(h.Name)
			seen["through a link"] = seen["through a link"] || links[path.Dir(h.Name)]
			links[h.Name] = h.Typeflag == tar.TypeSymlink
			got, err := io.ReadAll(r)
			if err == nil && string(got) == "#!x" {
				content++
			}
		}
		seen["content"] = seen["content"] || content > 0
		seen["twice"] = seen["twice"] || content > 1
	}
	require.Greater(t, readable, len(list)/3)
	for _, name := range []string{"0", "1", "2", "5", "pax", "bytes", "through a link", "content", "twice"} {
		require.True(t, seen[name], name)
	}
}
