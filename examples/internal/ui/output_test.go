package ui_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/okd-project/okd-streams/examples/internal/ui"
)

// tricky are strings that YAML reads as something else when they are not quoted.
var tricky = []string{
	"", "true", "yes", "No", "on", "OFF", "null", "~", "y", "1.0", "1e3", "0x1f", "0o7", "010", "1_000", "+1", "-1", ".5", "2026-11-26", "2026-11-26T10:00:00Z", "12:30:45",
	"a: b", "a:b", "a:", ":a", "a #b", "#a", "- a", "-", "?", "a\nb", "a\n", "\na", " a", "a ", "\t", "a\tb", "@a", "`a", "%a", "!a", "&a", "*a", "{a}", "[a]", "a,b",
	"'a'", `"a"`, "a'b", `a"b`, "<<", "=", ".inf", ".nan", "ü", "\x01", "\x7f", "\u0085", "\u2028", "\ufeff", "😀", "http://x/y", "sha256:abc", "...", "---", "| a", "> a", `a\b`, "a\r\nb",
	"a b c", "quay.io/okd/x@sha256:0", "/usr/bin", "0.", "a:b:c", "a: ", "<a>&",
}

func TestYAML(t *testing.T) {
	values := map[string]any{"number": json.Number("12345678901234567890"), "large": 1e21, "none": nil, "yes": true, "empty": map[string]any{}, "list": []any{},
		"nested": []any{map[string]any{"a": 1, "b": []any{"x", []any{}, []any{1, []any{2}}}}, []any{map[string]any{"c": nil}}, map[string]any{}}}
	for i, text := range tricky {
		values[fmt.Sprint("value ", i)], values[text] = text, "key"
	}
	for _, v := range []any{values, tricky, "1", 1, nil, []any{}, map[string]any{}, []any{[]any{[]any{"a"}, "b"}}} {
		want, err := json.Marshal(v)
		require.NoError(t, err)
		var out bytes.Buffer
		require.NoError(t, ui.YAML(&out, v))
		got, err := yaml.YAMLToJSON(out.Bytes())
		require.NoError(t, err, out.String())
		require.JSONEq(t, string(want), string(got), out.String())
	}
	var out bytes.Buffer
	require.NoError(t, ui.YAML(&out, struct {
		Z string         `json:"z"`
		A []any          `json:"a"`
		M map[string]any `json:"m"`
	}{"last first", []any{map[string]any{"b": 1, "a": []int{1, 2}}, "x", []string{"y"}}, map[string]any{"k": "v"}}))
	require.Equal(t, `z: last first
a:
  - a:
      - 1
      - 2
    b: 1
  - x
  - - "y"
m:
  k: v
`, out.String())
}

type command struct {
	set *pflag.FlagSet
	out bytes.Buffer
}

func (c *command) Flags() *pflag.FlagSet  { return c.set }
func (c *command) OutOrStdout() io.Writer { return &c.out }

func TestPrint(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "text\n"}, {[]string{"-o", "json"}, "{\n  \"a\": 1\n}\n"}, {[]string{"--output=yaml"}, "a: 1\n"}, {[]string{"--json"}, "{\n  \"a\": 1\n}\n"},
		{[]string{"--json=false"}, "text\n"}, {[]string{"-o", "yaml", "--json=false"}, "a: 1\n"}, {[]string{"-o", "html"}, "text\n"},
	} {
		c := &command{set: pflag.NewFlagSet("x", pflag.ContinueOnError)}
		ui.AddOutput(c.set, "html")
		ui.AddJSON(c.set)
		require.NoError(t, c.set.Parse(tc.args))
		require.NoError(t, ui.Print(c, map[string]int{"a": 1}, func(w io.Writer) error { _, err := fmt.Fprintln(w, "text"); return err }))
		require.Equal(t, tc.want, c.out.String())
	}
	c := &command{set: pflag.NewFlagSet("x", pflag.ContinueOnError)}
	ui.AddOutput(c.set)
	require.ErrorContains(t, c.set.Parse([]string{"-o", "xml"}), "it is one of text, json, yaml")
	require.Equal(t, ui.Text, ui.Format(&command{set: pflag.NewFlagSet("x", pflag.ContinueOnError)}))
}
