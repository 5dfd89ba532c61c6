package stream_test

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/okd-project/okd-streams/stream"
	"github.com/stretchr/testify/require"
)

const editable = `# Head comment, stays.

apiVersion: streams.okd.io/v1alpha1
kind:   Stream   # spaces stay
identity:
  name: "mine"   # quoted
  title: 'It''s mine'
  # a comment between

  distribution: custom
  osName: mine   # Ö before nothing
  # last comment of identity
# before version
version: "4.20"
naming: {release: okd-scos, candidate: okd-scos-nightly} # flow
architectures: [x86_64, aarch64]
os:
  kind: given
  source:
    dir: /srv/tree
gates:
- name: lint   # at the indent of its key
  kind: lint
- {name: kola, kind: kola}

- name: upgrade
  kind: upgrade
  retries: 2

  # about the timeout
store:
  url: dir:out
  prefix: ${STREAM}
# the end
`

func TestEdit(t *testing.T) {
	for _, tt := range []struct {
		name     string
		set      stream.Set
		old, new string // lines that change: "" new line is an insertion after old
	}{
		{"plain", stream.Set{"os.source.dir", "/srv/other tree"}, "    dir: /srv/tree\n", "    dir: /srv/other tree\n"},
		{"plain with spaces and comment", stream.Set{"kind", "Other"}, "kind:   Stream   # spaces stay\n", "kind:   Other   # spaces stay\n"},
		{"double quotes stay", stream.Set{"identity.name", "yours"}, `name: "mine"   # quoted`, `name: "yours"   # quoted`},
		{"single quotes stay", stream.Set{"identity.title", "'tis"}, `title: 'It''s mine'`, `title: '''tis'`},
		{"single quotes cannot", stream.Set{"identity.title", "two\nlines"}, `title: 'It''s mine'`, `title: "two\nlines"`},
		{"quoted when needed", stream.Set{"identity.osName", "4.20"}, "osName: mine   #", `osName: "4.20"   #`},
		{"comment sign", stream.Set{"identity.osName", "a #b"}, "osName: mine   #", `osName: "a #b"   #`},
		{"word of another type", stream.Set{"identity.osName", "yes"}, "osName: mine   #", `osName: "yes"   #`},
		{"empty", stream.Set{"identity.osName", ""}, "osName: mine   #", `osName: ""   #`},
		{"version", stream.Set{"version", stream.Minor{Major: 4, Minor: 21}}, `version: "4.20"`, `version: "4.21"`},
		{"in flow mapping", stream.Set{"naming.release", "okd-scos-ec"}, "{release: okd-scos,", "{release: okd-scos-ec,"},
		{"in flow mapping, quoted", stream.Set{"naming.release", "a,b"}, "{release: okd-scos,", `{release: "a,b",`},
		{"in flow list", stream.Set{"architectures[1]", "s390x"}, "[x86_64, aarch64]", "[x86_64, s390x]"},
		{"item", stream.Set{"gates[0].name", "first"}, "- name: lint   #", "- name: first   #"},
		{"number", stream.Set{"gates[2].retries", 10}, "retries: 2", "retries: 10"},
		{"number to text", stream.Set{"gates[2].retries", "2"}, "retries: 2", `retries: "2"`},

		{"add to the end of a mapping", stream.Set{"os.containerfile", "Containerfile"}, "    dir: /srv/tree\n", "    dir: /srv/tree\n  containerfile: Containerfile\n"},
		{"add before a blank and a comment", stream.Set{"gates[2].timeout", 90 * time.Minute}, "  retries: 2\n", "  retries: 2\n  timeout: 1h30m\n"},
		{"add to an item", stream.Set{"gates[0].mode", stream.Informing}, "  kind: lint\n", "  kind: lint\n  mode: informing\n"},
		{"add to a flow mapping", stream.Set{"gates[1].retries", 3}, "{name: kola, kind: kola}", "{name: kola, kind: kola, retries: 3}"},
		{"add to the flow mapping with a comment", stream.Set{"naming.build", "fcos"}, "okd-scos-nightly} #", "okd-scos-nightly, build: fcos} #"},
		{"add mappings above it", stream.Set{"os.builder.kvm", true}, "    dir: /srv/tree\n", "    dir: /srv/tree\n  builder:\n    kvm: true\n"},
		{"add mappings in flow", stream.Set{"gates[1].a.b", "c"}, "kind: kola}", "kind: kola, a: {b: c}}"},
		{"add at the top", stream.Set{"payload.base", "q@sha256:0"}, "  prefix: ${STREAM}\n", "  prefix: ${STREAM}\npayload:\n  base: q@sha256:0\n"},
		{"add a key that needs quotes", stream.Set{`os.buildArgs["A.B"]`, "1"}, "    dir: /srv/tree\n", "    dir: /srv/tree\n  buildArgs:\n    A.B: \"1\"\n"},
		{"add after a comment at deeper indent", stream.Set{"identity.description", "d"}, "  # last comment of identity\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := stream.Edit([]byte(editable), tt.set)
			require.NoError(t, err)
			dos, err := stream.Edit([]byte(crlf(editable)), tt.set)
			require.NoError(t, err)
			require.Equal(t, crlf(string(got)), string(dos))
			if tt.new == "" {
				require.Contains(t, string(got), "  osName: mine   # Ö before nothing\n  description: d\n  # last comment of identity\n# before version\n")
				return
			}
			require.Equal(t, 1, strings.Count(editable, tt.old))
			require.Equal(t, strings.Replace(editable, tt.old, tt.new, 1), string(got))
		})
	}
}

// crlf is a text as editors on Windows write it.
func crlf(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }

func TestEditKeepsAll(t *testing.T) {
	for _, name := range stream.BuiltinNames() {
		src := stream.BuiltinSource(name)
		got, err := stream.Edit(src, stream.Set{"identity.title", "Another"}, stream.Set{"os.builder.cpus", 8}, stream.Set{"retention.images.count", 7})
		require.NoError(t, err)
		oldLines, newLines := strings.Split(string(src), "\n"), strings.Split(string(got), "\n")
		for _, line := range oldLines {
			if strings.Contains(line, "#") {
				require.Contains(t, newLines, line, "a comment is lost")
			}
		}
		back, err := stream.Edit(got, stream.Set{"identity.title", titleOf(t, src)})
		require.NoError(t, err)
		require.Contains(t, string(back), titleOf(t, src))
		same, err := stream.Edit(src)
		require.NoError(t, err)
		require.Equal(t, src, same)
	}
}

func titleOf(t *testing.T, src []byte) string {
	t.Helper()
	d, err := stream.Decode(bytes.NewReader(src))
	require.NoError(t, err)
	return d.Identity.Title
}

func TestEditEnds(t *testing.T) {
	for _, tt := range []struct{ name, old, new string }{
		{"no newline at the end", "a: 1", "a: 1\nb: x"},
		{"CRLF", "a: 1\r\nc: 2\r\n", "a: 1\r\nc: 2\r\nb: x\r\n"},
		{"document start", "---\na: 1\n", "---\na: 1\nb: x\n"},
		{"document end", "a: 1\n...\n", "a: 1\nb: x\n...\n"},
		{"empty flow mapping", "{}", "{b: x}"},
		{"block text last", "a: |\n  one\n\n  # two\nc: >-\n  # three\n\n# end\n", "a: |\n  one\n\n  # two\nc: >-\n  # three\nb: x\n\n# end\n"},
		{"text over lines last", "a: one\n  two\n# end\n", "a: one\n  two\nb: x\n# end\n"},
		{"nothing becomes something", "b:\na: 1\n", "b: x\na: 1\n"},
		{"nothing with a comment", "b: # say\na: 1\n", "b: x # say\na: 1\n"},
		{"null", "b: null\n", "b: x\n"},
		{"tilde", "b: ~ # n\n", "b: x # n\n"},
		{"wide letters before", "{ü: ä, b: ö}", "{ü: ä, b: x}"},
		{"list of lists", "a:\n- - 1\n  - 2\n", "a:\n- - 1\n  - 2\nb: x\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := stream.Edit([]byte(tt.old), stream.Set{"b", "x"})
			require.NoError(t, err)
			require.Equal(t, tt.new, string(got))
			if old := crlf(tt.old); old != tt.old && !strings.Contains(tt.old, "\r") {
				got, err := stream.Edit([]byte(old), stream.Set{"b", "x"})
				require.NoError(t, err)
				require.Equal(t, crlf(tt.new), string(got))
			}
		})
	}
}

func TestEditErrors(t *testing.T) {
	doc := "a: &x {b: 1}\nc: *x\nd: |\n  text\ne: one\n  two\nf: [1]\ng: 1\nh: &y 2\ni: {\n  j: 1,\n}\n"
	for _, tt := range []struct {
		path string
		val  any
		want string
		is   error
	}{
		{"a.b", 2, "shared by an anchor", errors.ErrUnsupported},
		{"c.b", 2, "shared by an anchor", errors.ErrUnsupported},
		{"h", 2, "shared by an anchor", errors.ErrUnsupported},
		{"d", "x", "cannot be replaced", errors.ErrUnsupported},
		{"e", "x", "cannot be", errors.ErrUnsupported},
		{"f", "x", "is a list", errors.ErrUnsupported},
		{"f[1]", "x", "item 1 of 1", fs.ErrNotExist},
		{"new[0]", "x", "item 0 of a missing list", fs.ErrNotExist},
		{"f.x", "x", `key "x" in a list`, nil},
		{"g.x", "x", `key "x" in a number`, nil},
		{"a[0]", "x", "shared", nil},
		{"i.k", "x", "cannot be changed", errors.ErrUnsupported},
		{"", "x", "path", nil},
		{".a", "x", "path", nil},
		{"a..b", "x", "path", nil},
		{"a[", "x", "path", nil},
		{"a[-1]", "x", "path", nil},
		{`a["b`, "x", "path", nil},
		{`a[""]`, "x", "path", nil},
		{"g", 1.5, "value of type float64", errors.ErrUnsupported},
		{"g", nil, "value of type <nil>", errors.ErrUnsupported},
		{"g", "\xff", "not UTF-8", nil},
	} {
		got, err := stream.Edit([]byte(doc), stream.Set{tt.path, tt.val})
		require.ErrorContains(t, err, tt.want, tt.path)
		require.Nil(t, got)
		if tt.is != nil {
			require.ErrorIs(t, err, tt.is)
		}
		require.Len(t, stream.Faults(err), 1)
	}
	_, err := stream.Edit([]byte("a: ["), stream.Set{"a", 1})
	require.Error(t, err)
}
