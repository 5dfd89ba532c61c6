package stream_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/stream"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

const minimal = `apiVersion: streams.okd.io/v1alpha1
kind: Stream
identity: {name: mine, distribution: custom, osName: mine}
version: "4.21"
naming: {release: okd-scos}
architectures: [x86_64]
os: {kind: given}
`

func decode(text string) (*stream.Definition, error) {
	return stream.Decode(strings.NewReader(text))
}

func TestDecodeMinimal(t *testing.T) {
	d, err := decode(minimal)
	require.NoError(t, err)
	require.Equal(t, &stream.Definition{
		APIVersion: stream.APIVersion, Kind: stream.ResourceKind,
		Identity:      stream.Identity{Name: "mine", Distribution: stream.Custom, OSName: "mine"},
		Version:       stream.Minor{Major: 4, Minor: 21},
		Naming:        stream.Naming{Release: stream.SchemeSCOS},
		Architectures: []stream.Arch{stream.X8664},
		OS:            stream.OS{Kind: stream.Given},
	}, d)
}

// TestDecodeFaults is every fault at once, each with its place.
func TestDecodeFaults(t *testing.T) {
	data, err := os.ReadFile("testdata/broken.yaml")
	require.NoError(t, err)
	d, err := stream.Decode(bytes.NewReader(data))
	require.Nil(t, d)
	var b strings.Builder
	for _, f := range stream.Faults(err) {
		require.Positive(t, f.Line, f.Path)
		require.Positive(t, f.Column, f.Path)
		fmt.Fprintln(&b, f)
	}
	require.Equal(t, b.String(), err.Error()+"\n")
	require.NotContains(t, b.String(), "hunter2", "a secret is shown")
	require.NotContains(t, b.String(), "user:secret", "a secret is shown")
	golden(t, "broken.txt", b.String())
}

// TestDecodeFault is one fault each, in an otherwise good definition.
func TestDecodeFault(t *testing.T) {
	for _, tt := range []struct{ add, want string }{
		{"identitty: {}", `line 8, column 1: identitty: unknown key "identitty" (did you mean "identity"?)`},
		{"xyzzy: 1", `line 8, column 1: xyzzy: unknown key "xyzzy"`},
		{"gates: {}", `line 8, column 8: gates: want a list, got a mapping (write a list: [a, b])`},
		{"gates:", `line 8, column 8: gates: want a list, got nothing (give a value or remove the key)`},
		{"gates: [lint]", `line 8, column 9: gates[0]: want a mapping, got text`},
		{"extensions: {required: 1}", `extensions.required: want true or false, got a number`},
		{"payload: {exclude: [1.5]}", `payload.exclude[0]: want text, got a number with a point (quote it: "1.5")`},
		{"payload: {exclude: ['']}", `payload.exclude[0]: empty text (give a value or remove the key)`},
		{"kind: Stream", `line 8, column 1: kind: key "kind" is there twice (remove one)`},
		{"---\nkind: Stream", `line 9, column 1: second document (keep one definition a file)`},
		{"payload: {pick: {controller: 'https://a', stream: '${VERSIO}'}}", `payload.pick.stream: unknown variable "${VERSIO}" (did you mean "${VERSION}"?)`},
		{"graph: {minors: 0x10}", `graph.minors: "0x10" is not a whole number from 0 to 999999999 (write decimal digits)`},
		{"graph: {minors: -1}", `graph.minors: "-1" is not a whole number`},
		{"graph: !!map {}", `line 8, column 8: tag "!!map" is not allowed`},
		{"graph: {<<: {}}", `merge keys are not allowed`},
		{"graph: *x", `graph: alias *x stands for nothing`},
		{"graph: &x {channels: *x}", `graph.channels: alias *x stands for nothing`},
		{"? graph\n: {}", `complex keys are not allowed`},
		{"graph: [", `line 8`},
		{"%YAML 1.2", `line 8`},
		{"graph: {channels: [a\u2028b]}", `line 8, column 21: character U+2028 is not allowed`},
		{"a: \x00", `line 8, column 4: character U+0000 is not allowed`},
		{"a: \xff", `line 8, column 4: not UTF-8`},
		{"cadences: {daily: {schedule: '@daily'}}", `schedule "@daily" has 1 fields, want 5`},
		{"cadences: {daily: {schedule: '* * 31 4,6 *'}}", `never comes`},
		{"cadences: {daily: {schedule: '*/0 * * * *'}}", `step "0" is not between 1 and 59`},
		{"cadences: {daily: {schedule: '5-1 * * * *'}}", `minute "5-1" is not between 0 and 59`},
		{"cadences: {daily: {schedule: '* 24 * * *'}}", `hour "24" is not between 0 and 23`},
		{"cadences: {daily: {schedule: '* * 0 * *'}}", `day of month "0" is not between 1 and 31`},
		{"cadences: {daily: {schedule: '* * * foo *'}}", `month "foo" is not between 1 and 12`},
		{"cadences: {daily: {schedule: '* * * * 8'}}", `day of week "8" is not between 0 and 7`},
		{"cadences: {promotion: {minInterval: 21d}}", `cadences.promotion.minInterval: interval without schedule (add a schedule)`},
		{"cadences: {daily: {timeout: 0s}}", `cadences.daily.timeout: "0s" is not a duration`},
		{"payload: {base: 'quay.io/okd/scos-release:4.20.0-okd-scos.1'}", `payload.base: "quay.io/okd/scos-release:4.20.0-okd-scos.1" names a tag, which can move; a digest is needed (write registry/repository@sha256:…)`},
		{"payload: {base: 'QUAY'}", `payload.base: "QUAY" is not a pullspec by digest`},
		{"extensions: {required: true}", `payload.extensionsTags: missing (required extensions need a component name)`},
		{"profiles: [{from: '4.12', to: '4.15'}]", `version: no profile covers 4.21`},
		{"registry: {repository: 'https://quay.io/okd'}", `registry.repository: "https://quay.io/okd" is not a registry and path`},
		{"registry: {node: {name: a}}", `registry.repository: missing`},
		{"registry: {repository: quay.io/okd, node: {name: 'a:b'}}", `registry.node.name: "a:b" is not possible here`},
		{"store: {endpoint: 'https://a'}", `store.url: missing`},
		{"store: {url: 'dir:x', acl: public-read}", `store.acl: not for a folder (remove it)`},
		{"store: {url: 's3://B'}", `store.url: "s3://B" is not a bucket`},
		{"store: {url: 's3://key:secret@bucket'}", `store.url`},
		{"trust: {signatureStores: ['https://a:b@c']}", `address holds a user name or password (name a secret under credentials instead)`},
		{"github: {repository: a/b, credentials: {token: abc}}", `github.credentials.token: unknown key "token"`},
		{"github: {repository: a/b, credentials: {}}", `github.credentials: names nothing`},
		{"artifacts: [{platform: x-own, format: raw}, {platform: own, format: raw}]", `artifacts[1].platform: unknown platform "own"`},
	} {
		t.Run(tt.add, func(t *testing.T) {
			_, err := decode(minimal + tt.add + "\n")
			require.ErrorContains(t, err, tt.want)
			require.Len(t, stream.Faults(err), 1, "%v", err)
			require.NotContains(t, err.Error(), "secret@")
		})
	}
}

func TestDecodeEndOfLife(t *testing.T) {
	text := strings.Replace(minimal, "osName: mine", `osName: mine, endOfLife: {version: "4.20", message: it ended}`, 1)
	_, err := decode(text)
	require.EqualError(t, err, `stream: line 4, column 10: version: 4.21 is after the end of life, 4.20`)
	_, err = decode(strings.Replace(text, ", message: it ended", "", 1))
	require.ErrorContains(t, err, "identity.endOfLife.message: missing")
}

func TestDecodeSampleIsLocal(t *testing.T) {
	sample := strings.Replace(minimal, "custom", "sample", 1)
	for _, tt := range []struct {
		add  string
		good bool
	}{
		{"registry: {repository: 'dir:out'}", true},
		{"registry: {repository: '127.0.0.1:5000/okd'}", true},
		{"registry: {repository: 'localhost:5000/okd'}", true},
		{"registry: {repository: quay.io/okd}", false},
		{"store: {url: 'dir:out'}", true},
		{"store: {url: 's3://bucket', endpoint: 'http://127.0.0.1:9000'}", true},
		{"store: {url: 's3://bucket', endpoint: 'http://[::1]:9000'}", true},
		{"store: {url: 's3://bucket', endpoint: 'https://example.com'}", false},
		{"store: {url: 's3://bucket'}", false},
		{"github: {repository: a/b}", false},
		{"imports: [{image: node, namespace: a, imageStream: b, tag: c}]", false},
	} {
		_, err := decode(sample + tt.add + "\n")
		if tt.good {
			require.NoError(t, err, tt.add)
			continue
		}
		require.ErrorContains(t, err, "samples are published only to a folder or loopback", tt.add)
	}
}

func TestDecodeAliases(t *testing.T) {
	d, err := decode(minimal + `gates:
  - &kola {name: kola, kind: &k kola, timeout: 1h}
  - {name: kola-again, kind: *k}
artifacts:
  - platform: qemu
    format: qcow2
    architectures: &a [x86_64]
  - {platform: live, format: iso, architectures: *a}
`)
	require.NoError(t, err)
	require.Equal(t, stream.GateKola, d.Gates[1].Kind)
	require.Equal(t, []stream.Arch{stream.X8664}, d.Artifacts[1].Architectures)
}

func TestDecodeAliasBombs(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 20; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	fuzzbound.Within(t, 8<<20, func() {
		_, err := decode(b.String())
		require.ErrorContains(t, err, "aliases stand for more than 16000 values")
	})

	// Many uses of one large value.
	text := "a: &a [" + strings.Repeat("x,", 2000) + "]\n"
	for i := range 900 {
		text += fmt.Sprintf("b%d: *a\n", i)
	}
	_, err := decode(text)
	require.ErrorContains(t, err, "aliases stand for more than 16000 values")
}

// hostile are texts that make naive readers slow, big or stop.
func hostile() map[string]string {
	const n = stream.MaxDefinitionSize
	deep := ""
	for i := range 200 {
		deep += strings.Repeat(" ", i) + "k:\n"
	}
	return map[string]string{
		"flow lists":      strings.Repeat("[", n),
		"flow maps":       strings.Repeat("{a: ", n/4),
		"dashes":          strings.Repeat("- ", n/2),
		"dashes on lines": strings.Repeat("-\n", n/2),
		"questions":       strings.Repeat("? ", n/2),
		"tags":            strings.Repeat("!!a ", n/4),
		"tag lines":       strings.Repeat("!a\n", n/3),
		"anchors":         strings.Repeat("&a ", n/3),
		"aliases":         strings.Repeat("*a\n", n/3),
		"colons":          strings.Repeat(":", n),
		"colon space":     strings.Repeat(": ", n/2),
		"deep block":      deep,
		"long key":        strings.Repeat("k", n-10) + ": {a: 1}",
		"long quoted key": `"` + strings.Repeat("k", n-20) + `": {a: 1}`,
		"quotes":          strings.Repeat(`"`, n),
		"single quotes":   strings.Repeat("'", n),
		"open quote":      `"` + strings.Repeat("a\n", n/2-1),
		"newlines":        strings.Repeat("\n", n),
		"spaces":          strings.Repeat(" ", n),
		"spaced lines":    strings.Repeat("  \n", n/3),
		"comments":        strings.Repeat("#\n", n/2),
		"literal":         "a: |\n" + strings.Repeat(" x\n", n/3-3),
		"folded":          "a: >\n" + strings.Repeat(" x\n\n", n/4-3),
		"ends of a text":  "a: |\n x" + strings.Repeat("\n", n-20),
		"numbers":         strings.Repeat("--- 1\n", n/6),
		"keys of no text": strings.Repeat("a:\n", n/3),
		"plain lines":     "a: b\n" + strings.Repeat(" x\n", n/3-3),
		"many keys":       manyKeys(n),
		"long paths":      longPaths(n),
		"flow many":       "a: [" + strings.Repeat("x,", n/2-3) + "]",
		"documents":       strings.Repeat("---\n", n/4),
		"escapes":         `a: "` + strings.Repeat(`\u0041`, n/6-2) + `"`,
		"directives":      strings.Repeat("%YAML 1.2\n", n/10),
	}
}

// longPaths has as many values as allowed below keys as long and deep as
// allowed; the parser keeps a path in each.
func longPaths(n int) string {
	var b strings.Builder
	for depth := range 23 {
		fmt.Fprintf(&b, "%s%s:\n", strings.Repeat(" ", depth), strings.Repeat("k", 128))
	}
	line := strings.Repeat(" ", 23)
	for i := 0; i < 7900 && b.Len() < n-40; i++ {
		b.WriteString(line + "-\n")
	}
	return b.String()
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n-12; i++ {
		fmt.Fprintf(&b, "k%d: 1\n", i)
	}
	return b.String()
}

func TestDecodeHostile(t *testing.T) {
	for name, text := range hostile() {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			alloc := fuzzbound.Allocated(func() {
				_, err := decode(text)
				require.Error(t, err)
				require.Less(t, len(err.Error()), 64<<10)
			})
			t.Logf("%d bytes: %d MiB allocated, %v", len(text), alloc>>20, time.Since(start))
			require.Less(t, alloc, 200<<20)
		})
	}
}

func TestDecodeLimits(t *testing.T) {
	_, err := decode(minimal + strings.Repeat("#", stream.MaxDefinitionSize))
	require.ErrorContains(t, err, "more than 131072 bytes")
	_, err = decode(minimal + "#" + strings.Repeat(" ", stream.MaxDefinitionSize-len(minimal)-2) + "\n")
	require.NoError(t, err)
	for _, text := range []string{"", "\n", "# only a comment\n", "---\n"} {
		_, err = decode(text)
		require.ErrorContains(t, err, "empty document", "%q", text)
	}
	_, err = decode("text")
	require.ErrorContains(t, err, "want a mapping, got text")
	broken := errors.New("broken")
	_, err = stream.Decode(iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
	_, err = stream.Decode(iotest.OneByteReader(strings.NewReader(minimal)))
	require.NoError(t, err)
	many := minimal
	for i := range 300 {
		many += fmt.Sprintf("k%d: 1\n", i)
	}
	_, err = decode(many)
	require.Len(t, stream.Faults(err), 100)
	require.ErrorContains(t, err, "and 200 more faults")
}

func TestValidate(t *testing.T) {
	d, err := decode(minimal)
	require.NoError(t, err)
	d.Identity.Name = "Not Good"
	d.Gates = []stream.Gate{{Name: "a", Kind: stream.GateLint}, {Name: "a", Kind: stream.GateLint}}
	err = d.Validate()
	require.EqualError(t, err, `stream: identity.name: "Not Good" is not possible here (lower-case letters, digits and '-', at most 63)`+"\n"+
		`stream: gates[1].name: "a" is there already, as gates[0]`)
	require.Zero(t, stream.Faults(err)[0].Line)
	require.Error(t, (&stream.Definition{}).Validate())
	require.Empty(t, stream.Faults(nil))
	require.Empty(t, stream.Faults(io.EOF))
	require.Len(t, stream.Faults(fmt.Errorf("file: %w", err)), 2)
}

func TestEncode(t *testing.T) {
	var b bytes.Buffer
	d, err := stream.Builtin("okd-scos-next")
	require.NoError(t, err)
	d.Identity.Title = `colon: "quotes" # and 'more' \ ` + "\n\ttab\u0085é"
	d.Identity.Description = "- dash"
	d.OS.BuildArgs["A"] = "true"
	d.OS.BuildArgs["b_c"] = "1e3"
	d.Extensions.Sets = []stream.Extension{{Name: "kernel-devel", Packages: []string{"kernel-devel"}, Architectures: []stream.Arch{stream.X8664}, MatchVersion: "kernel"}}
	d.OS.Builder.Memory = 1500
	d.OS.Builder.Timeout = 90*time.Minute + time.Millisecond
	require.NoError(t, d.Encode(&b))
	golden(t, "encoded.yaml", b.String())
	back, err := stream.Decode(&b)
	require.NoError(t, err)
	require.Equal(t, d, back)
	require.ErrorIs(t, d.Encode(failing{}), io.ErrClosedPipe)
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func FuzzDecode(f *testing.F) {
	for _, name := range stream.BuiltinNames() {
		f.Add(stream.BuiltinSource(name))
	}
	mutants.Add(f, minimal, editable, string(stream.BuiltinSource("okd-scos-next")))
	f.Add([]byte(crlf(editable)))
	if data, err := os.ReadFile("testdata/broken.yaml"); err == nil {
		f.Add(data)
	}
	for _, text := range hostile() {
		f.Add([]byte(text[:min(len(text), 300)]))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := fuzzbound.Read(t, 4096, stream.Decode, data)
		if err == nil {
			var b bytes.Buffer
			if err := d.Encode(&b); err != nil {
				t.Fatal(err)
			}
			back, err := stream.Decode(bytes.NewReader(b.Bytes()))
			if err != nil {
				t.Fatalf("%v\n%s", err, b.Bytes())
			}
			require.Equal(t, d, back)
		}
		// An edit either fails or does what it says.
		if got, err := stream.Edit(data, stream.Set{Path: "identity.title", Value: "a: #b"}); err == nil {
			again, err := stream.Edit(got, stream.Set{Path: "identity.title", Value: "a: #b"})
			if err != nil || !bytes.Equal(got, again) {
				t.Fatalf("%v: %q becomes %q", err, got, again)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	src := stream.BuiltinSource("okd-scos-next")
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := stream.Decode(bytes.NewReader(src)); err != nil {
			b.Fatal(err)
		}
	}
}
