package payload_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
)

// The grammar of image placeholders. In compatible mode the outcome is what oc
// was observed to do.
func TestImageSubstitution(t *testing.T) {
	const P = "PULLSPEC"
	const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	cases := []struct {
		name, in   string
		compatible string          // "": as in
		strict     string          // "": as in
		checks     []payload.Check // strict, instead of strict
	}{
		{name: "bare", in: `image: q.io/o/repo`, compatible: "image: " + P, strict: "image: " + P},
		{name: "tag", in: `image: q.io/o/repo:v1`, compatible: "image: " + P, strict: "image: " + P},
		{name: "quoted", in: `"q.io/o/repo:v1"`, compatible: `"` + P + `"`, strict: `"` + P + `"`},
		{name: "single quotes", in: `'q.io/o/repo'`, compatible: "'" + P + "'", strict: "'" + P + "'"},
		{name: "digest", in: "q.io/o/repo" + digest, compatible: P, strict: P},
		{name: "equals", in: "name=q.io/o/repo:v1", compatible: "name=" + P, strict: "name=" + P},
		{name: "line end", in: "a\nq.io/o/repo:v1\nb", compatible: "a\n" + P + "\nb", strict: "a\n" + P + "\nb"},
		{name: "windows line end", in: "q.io/o/repo:v1\r\n", compatible: P + "\r\n", strict: P + "\r\n"},
		{name: "other repository, hyphen", in: "q.io/o/repo-z"},
		{name: "other repository, path", in: "q.io/o/repo/z"},
		{name: "other repository, letters", in: "q.io/o/repository:v1"},
		{name: "parentheses", in: "(q.io/o/repo:v1)", strict: "(" + P + ")"},
		{name: "comma", in: "q.io/o/repo:v1,x", strict: P + ",x"},
		{name: "JSON in YAML", in: `'{"a":"q.io/o/repo:v1"}'`, compatible: `'{"a":"` + P + `"}'`, strict: `'{"a":"` + P + `"}'`},
		{name: "escaped quote", in: `"{\"a\":\"q.io/o/repo:v1\"}"`, strict: `"{\"a\":\"` + P + `\"}"`},
		{name: "tag and digest", in: "q.io/o/repo:v1" + digest, strict: P},
		{name: "dotted prefix", in: "foo.q.io/o/repo:v1", compatible: "foo." + P},
		{name: "hyphenated prefix", in: "foo-q.io/o/repo:v1", compatible: "foo-" + P},
		{name: "longer path", in: "x.io/q.io/o/repo:v1", compatible: "x.io/" + P},
		{name: "transport", in: "docker://q.io/o/repo:v1", compatible: "docker://" + P, strict: "docker://" + P},
		{name: "word before", in: "xq.io/o/repo:v1"},
		{name: "one space between", in: "q.io/o/repo:v1 q.io/o/repo:v2", compatible: P + " q.io/o/repo:v2", strict: P + " " + P},
		{name: "comma between", in: "q.io/o/repo:v1,q.io/o/repo:v2", compatible: "q.io/o/repo:v1," + P, strict: P + "," + P},
		{name: "two spaces between", in: "q.io/o/repo:v1  q.io/o/repo:v2", compatible: P + "  " + P, strict: P + "  " + P},
		{name: "end of sentence", in: "see q.io/o/repo:v1.", compatible: "see " + P, strict: "see " + P + "."},
		{name: "dot of a domain is a dot", in: "qXio/o/repo:v1"},
		{name: "variable tag", in: "q.io/o/repo:$(TAG)", checks: []payload.Check{payload.CheckPlaceholder}},
		{name: "variable suffix", in: "q.io/o/repo${X}", checks: []payload.Check{payload.CheckPlaceholder}},
		{name: "two tags", in: "q.io/o/repo:v1:v2", checks: []payload.Check{payload.CheckPlaceholder}},
		{name: "port in place of a tag", in: "q.io/o/repo:80/x", checks: []payload.Check{payload.CheckPlaceholder}},
		{name: "placeholder with tag", in: "p.example.org:one", compatible: "PONE", strict: "PONE"},
		{name: "placeholder with longer tag", in: "p.example.org:one-more", strict: "p.example.org:one-more"},
		{name: "placeholder with other tag", in: "p.example.org:two"},
		{name: "longest wins", in: "q.io/o/repo:special", compatible: "PSPECIAL", strict: "PSPECIAL"},
	}
	for _, mode := range []string{"compatible", "strict"} {
		for _, c := range cases {
			t.Run(mode+"/"+c.name, func(t *testing.T) {
				w := newWorld(t)
				one, special, plain := w.plain(t, "one", nil), w.plain(t, "special", nil), w.plain(t, "plain", nil)
				w.operator(t, "op", "image-references", references("plain", "q.io/o/repo", "one", "p.example.org:one", "special", "q.io/o/repo:special"), "text.txt", c.in)
				fill := strings.NewReplacer("PSPECIAL", special.Name(), "PONE", one.Name(), P, plain.Name())
				want := c.compatible
				if mode == "strict" {
					want = c.strict
				}
				if want == "" {
					want = c.in
				}
				_, r, err := w.assemble(t, w.spec(), &payload.AssembleOptions{Compatible: mode == "compatible"})
				if mode == "strict" && c.checks != nil {
					require.Equal(t, c.checks, checksOf(t, err)[:1])
					return
				}
				require.NoError(t, err)
				require.Equal(t, fill.Replace(want), filesOf(r)["0000_50_op_text.txt"])
			})
		}
	}
}

func TestImageReferencesOfOperators(t *testing.T) {
	cases := []struct {
		name, references string
		opts             payload.AssembleOptions
		err              string
	}{
		{name: "unknown image", references: references("nowhere", "q.io/x"), err: `no image named "nowhere"`},
		{name: "unknown image allowed", references: references("nowhere", "q.io/x"), opts: payload.AssembleOptions{AllowMissingImages: true}},
		{name: "empty placeholder", references: references("plain", `""`), err: `tag "plain" has no from.name`},
		{name: "same placeholder twice", references: references("plain", "q.io/x", "op", "q.io/x"), err: "have the same placeholder"},
		{name: "other kind", references: strings.Replace(references("nowhere", "q.io/x"), "DockerImage", "ImageStreamTag", 1)},
		{name: "not an image stream", references: namespace("x"), err: "want ImageStream"},
		{name: "not YAML", references: "{", err: "image-references"},
	}
	for _, c := range cases {
		for _, compat := range []bool{true, false} {
			t.Run(c.name+map[bool]string{true: "/compatible", false: "/strict"}[compat], func(t *testing.T) {
				w := newWorld(t)
				w.plain(t, "plain", nil)
				w.operator(t, "op", "image-references", c.references, "10_x.txt", "image: q.io/x:v1\n")
				opts := c.opts
				opts.Compatible = compat
				_, r, err := w.assemble(t, w.spec(), &opts)
				if c.err != "" {
					require.ErrorContains(t, err, c.err)
					require.ErrorContains(t, err, "component op")
					return
				}
				require.NoError(t, err)
				require.Equal(t, "image: q.io/x:v1\n", filesOf(r)["0000_50_op_10_x.txt"])
				require.Len(t, filesOf(r), 1, "image-references itself is not copied")
			})
		}
	}
}

func TestVersionSubstitution(t *testing.T) {
	const V = "4.20.0-test.1"
	cases := []struct {
		name, in           string
		compatible, strict string // "": as in
		err                string // in both modes
		checks             []payload.Check
	}{
		{name: "release", in: `v: "0.0.1-snapshot"`, compatible: `v: "` + V + `"`, strict: `v: "` + V + `"`},
		{name: "end", in: "0.0.1-snapshot", compatible: V, strict: V},
		{name: "component", in: "k: 0.0.1-snapshot-kubernetes\n", compatible: "k: 1.33.4\n", strict: "k: 1.33.4\n"},
		{name: "component at the end", in: "0.0.1-snapshot-kubernetes", compatible: "1.33.4", strict: "1.33.4"},
		{name: "v before", in: "v0.0.1-snapshot", checks: []payload.Check{payload.CheckVersion}},
		{name: "digit before", in: "10.0.1-snapshot", checks: []payload.Check{payload.CheckVersion}},
		{name: "underscore before", in: "_0.0.1-snapshot", checks: []payload.Check{payload.CheckVersion}},
		{name: "letters after", in: "0.0.1-snapshotfoo", checks: []payload.Check{payload.CheckVersion}},
		{name: "hyphen before", in: "x-0.0.1-snapshot", compatible: "x-" + V, strict: "x-" + V},
		{name: "slash after", in: "0.0.1-snapshot/x", compatible: V + "/x", strict: V + "/x"},
		{name: "two", in: "0.0.1-snapshot 0.0.1-snapshot", compatible: V + " 0.0.1-snapshot", strict: V + " " + V},
		{name: "two apart", in: "0.0.1-snapshot, 0.0.1-snapshot", compatible: V + ", " + V, strict: V + ", " + V},
		{name: "two, a character of two bytes between", in: "0.0.1-snapshotö0.0.1-snapshot", compatible: V + "ö0.0.1-snapshot", strict: V + "ö" + V},
		{name: "unknown component", in: "0.0.1-snapshot-nothing", err: "no version known for nothing"},
		{name: "component not of this operator", in: "0.0.1-snapshot-kubectl", err: "no version known for kubectl"},
		{name: "empty component", in: "0.0.1-snapshot-", err: "hyphen and no component"},
		{name: "empty component, capital", in: "0.0.1-snapshot-X", err: "hyphen and no component"},
	}
	for _, mode := range []string{"compatible", "strict"} {
		for _, c := range cases {
			t.Run(mode+"/"+c.name, func(t *testing.T) {
				w := newWorld(t)
				w.plain(t, "kube", map[string]string{"io.openshift.build.versions": "kubernetes=1.33.4+build"})
				w.plain(t, "cli", map[string]string{"io.openshift.build.versions": "kubectl=1.33.4"})
				w.operator(t, "op", "image-references", references("kube", "q.io/o/kube"), "text.txt", c.in)
				spec := w.spec()
				spec.Version = V + "+build.7"
				_, r, err := w.assemble(t, spec, &payload.AssembleOptions{Compatible: mode == "compatible"})
				switch {
				case c.err != "":
					require.ErrorContains(t, err, c.err)
					require.ErrorContains(t, err, "manifests/text.txt")
					return
				case c.checks != nil && mode == "strict":
					require.Equal(t, c.checks, checksOf(t, err))
					return
				}
				require.NoError(t, err)
				want := c.compatible
				if mode == "strict" {
					want = c.strict
				}
				if want == "" {
					want = c.in
				}
				require.Equal(t, want, filesOf(r)["0000_50_op_text.txt"])
			})
		}
	}
}

// What several images of one operator state for a component.
func TestVersionConflicts(t *testing.T) {
	label := func(v string) map[string]string { return map[string]string{"io.openshift.build.versions": v} }
	cases := []struct {
		name, one, two string
		tags           [2]string
		token          string
		compatible     string // error, "": none
		strict         string
		want           string
	}{
		{name: "equal and used", one: "kubernetes=1.33.4", two: "kubernetes=1.33.4", token: "kubernetes", compatible: "several versions for kubernetes (one, two)", want: "1.33.4"},
		{name: "equal and not used", one: "kubernetes=1.33.4", two: "kubernetes=1.33.4"},
		{name: "different and not used", one: "kubernetes=1.33.4", two: "kubernetes=1.33.5", compatible: "tag two states 1.33.5", strict: "tag two states 1.33.5"},
		{name: "machine-os may differ", one: "machine-os=9.0.1-0", two: "machine-os=9.0.2-0"},
		{name: "machine-os differs and is used", one: "machine-os=9.0.1-0", two: "machine-os=9.0.2-0", token: "machine-os", compatible: "several versions", strict: "several versions"},
		{name: "kubectl counts from cli", one: "kubectl=1.30.0", two: "kubectl=1.33.0", tags: [2]string{"other", "cli"}, token: "kubectl", want: "1.33.0"},
		{name: "kubectl only elsewhere", one: "kubectl=1.30.0", two: "kubectl=1.30.0", token: "kubectl", compatible: "no version known", strict: "no version known"},
		{name: "component not allowed", one: "etcd=3.5.0", compatible: "not an allowed component", strict: "not an allowed component"},
		{name: "malformed", one: "kubernetes=1.33", compatible: `kubernetes="1.33"`, strict: `kubernetes="1.33"`},
	}
	for _, c := range cases {
		for _, compat := range []bool{true, false} {
			t.Run(c.name+map[bool]string{true: "/compatible", false: "/strict"}[compat], func(t *testing.T) {
				w := newWorld(t)
				tags := c.tags
				if tags[0] == "" {
					tags = [2]string{"one", "two"}
				}
				w.plain(t, tags[0], label(c.one))
				w.plain(t, tags[1], label(c.two))
				text := "x"
				if c.token != "" {
					text = "0.0.1-snapshot-" + c.token
				}
				w.operator(t, "op", "image-references", references(tags[0], "q.io/o/1", tags[1], "q.io/o/2"), "text.txt", text)
				_, r, err := w.assemble(t, w.spec(), &payload.AssembleOptions{Compatible: compat})
				want := c.strict
				if compat {
					want = c.compatible
				}
				if want != "" {
					require.ErrorContains(t, err, want)
					return
				}
				require.NoError(t, err)
				if c.want != "" {
					require.Equal(t, c.want, filesOf(r)["0000_50_op_text.txt"])
				}
			})
		}
	}
}

// Versions that the caller gives hold where no image states one, and stay with
// the payload; oc forgets them.
func TestVersionsOfSpec(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "op", "text.txt", "0.0.1-snapshot-kernel")
	spec := w.spec()
	spec.Versions = map[string]payload.ComponentVersion{"kernel": {Version: "6.12.0-5"}}
	_, _, err := w.assemble(t, spec, compatible)
	require.ErrorContains(t, err, "no version known for kernel")
	built, r := w.must(t, spec, nil)
	require.Equal(t, "6.12.0-5", filesOf(r)["0000_50_op_text.txt"])

	again, _ := w.must(t, &payload.Spec{FromRelease: r.Pullspec()}, nil)
	require.Equal(t, built.Digest, again.Digest)
}
