package tekton_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/okd-project/okd-streams/stream/tekton"
)

// TestEncodeText has texts that YAML readers like to take for something else come
// back from the one that kubectl has, and from ours.
func TestEncodeText(t *testing.T) {
	data := map[string]string{}
	for _, text := range []string{
		"", "a", "true", "Yes", "off", "n", "null", "~", "1", "0x1f", "1e3", "-1", ".5", "12:30", "2026-11-26", "1_000", "=", "<<", "-", "--", "---", "--x", "---x", "- a", "? a", "a: b", "a:b", "a:", ": a",
		" a", "a ", "a #b", "#a", "a#b", "@a", "`a", "%a", "&a", "*a", "!a", "|", ">", "[a", "{a", "a]", "a}", "a,b", ",", "'a'", `"a"`, `\a`, "a\\", "é", "日本", "\u2028", "\u0085", "\u200b", "\ufeff", "a\tb", "\ta", "a\x00b", "\x7f", "a\rb",
		"\n", "\n\n", "a\n", "a\n\n", "\na", " a\nb", "a\n b\n", "a\nb", "a\n\nb\n", "a\nb\n\n", "a \nb\n", "a\n\tb\n", "$(params.x)", "${X}", "$(params.x[*])", "a\n---\nb\n", "...\na\n", "#!/bin/sh\nset -eu\n", "é\nü\n", "a\n\u2028\n", "a\r\nb\r\n",
	} {
		data["k"+text] = text
		data[text] = "v"
	}
	object := &tekton.ConfigMap{Header: tekton.Header{APIVersion: "v1", Kind: "ConfigMap", Metadata: tekton.Metadata{Name: "texts"}}, Data: data}
	var b bytes.Buffer
	require.NoError(t, tekton.Encode(&b, object))
	read := &tekton.ConfigMap{}
	require.NoError(t, yaml.UnmarshalStrict(b.Bytes(), read), "%s", b.Bytes())
	require.Equal(t, object, read)
	ours, err := tekton.Decode(&b)
	require.NoError(t, err)
	require.Equal(t, []tekton.Object{object}, ours)
}
