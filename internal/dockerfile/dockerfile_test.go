package dockerfile_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/dockerfile"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
)

func TestImages(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		opts       *dockerfile.Options
		want       []string
	}{
		{"one", "FROM a", nil, []string{"a"}},
		{"scratch", "from scratch\nCOPY x /", nil, nil},
		{"stages", "FROM a AS Build\nFROM b\nCOPY --from=build /x /y\n", nil, []string{"a", "b"}},
		{"stage by number", "FROM a\nFROM b\nCOPY --from=0 /x /y\n", nil, []string{"a", "b"}},
		{"from stage", "FROM a AS base\nFROM base AS more\nFROM more\n", nil, []string{"a"}},
		{"later stage is none", "FROM b\nFROM a AS b\n", &dockerfile.Options{Target: "0"}, []string{"b"}},
		{"not needed", "FROM rhel AS rhel\nFROM c9s AS scos\nFROM scos\n", nil, []string{"c9s"}},
		{"target", "FROM a AS one\nFROM b AS two\n", &dockerfile.Options{Target: "One"}, []string{"a"}},
		{"copied from outside", "FROM a\nCOPY --chown=1:1 --from=registry.example/x:1 /x /y\n", nil, []string{"a", "registry.example/x:1"}},
		{"mounted", "FROM a\nRUN --mount=type=cache,target=/c --mount=type=bind,from=b,target=/b make\n", nil, []string{"a", "b"}},
		{"once", "FROM a AS x\nFROM a\nCOPY --from=a / /\n", nil, []string{"a"}},
		{"arg", "ARG TAG=1\nARG IMAGE=a:$TAG\nFROM ${IMAGE}\n", nil, []string{"a:1"}},
		{"arg given", "ARG TAG=1\nFROM a:$TAG\n", &dockerfile.Options{Args: map[string]string{"TAG": "2"}}, []string{"a:2"}},
		{"arg not declared", "FROM a${TAG}b\n", &dockerfile.Options{Args: map[string]string{"TAG": "2"}}, []string{"ab"}},
		{"arg of a stage", "ARG FROM=x\nFROM a\nARG FROM\nCOPY --from=$FROM / /\n", nil, []string{"a", "x"}},
		{"arg with a default in a stage", "FROM a\nARG FROM=\"x\" OTHER='y z'\nARG SRC=q\nCOPY --from=${SRC} / /\n", nil, []string{"a", "q"}},
		{"default", "FROM a:${TAG:-${OTHER:-3}}\n", nil, []string{"a:3"}},
		{"alternative", "ARG OKD=\nARG X=y\nFROM a:${OKD:+okd}${OKD-no}${X+ocp}${Z+no}\n", nil, []string{"a:ocp"}},
		{"platform", "FROM --platform=$BUILDPLATFORM a:$TARGETARCH AS x\nFROM x\n", &dockerfile.Options{OS: "linux", Architecture: "arm64"}, []string{"a:arm64"}},
		{"quoted", `FROM "a"` + "\n", nil, []string{"a"}},
		{"continued", "FROM \\\n  # why\n\n  a \\\n  AS x\nFROM x\n", nil, []string{"a"}},
		{"escape", "# escape=`\n\nFROM `\n a\nRUN dir c:\\\nCOPY --from=b x y\n", nil, []string{"a", "b"}},
		{"here document", "FROM a\nRUN <<EOF cat >x\nFROM b\nCOPY --from=c / /\nEOF\nCOPY --from=d / /\n", nil, []string{"a", "d"}},
		{"here document with tabs", "FROM a\nCOPY <<-'x' /y\n\tFROM b\n\tx\n", nil, []string{"a"}},
		{"comment", "# FROM x\nFROM a\n  # FROM b\n", nil, []string{"a"}},
		{"other base", "FROM b AS build\nFROM rhel\nCOPY --from=build / /\n", &dockerfile.Options{From: "build"}, []string{"b", "build"}},
		{"carriage returns", "FROM a \\\r\n AS x\r\nFROM x\r\n", nil, []string{"a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := dockerfile.Parse([]byte(tc.text))
			require.NoError(t, err)
			list, err := f.Images(tc.opts)
			require.NoError(t, err)
			var names []string
			for _, i := range list {
				names = append(names, i.Name)
			}
			require.Equal(t, tc.want, names)
		})
	}
}

func TestReplace(t *testing.T) {
	f, err := dockerfile.Parse([]byte(`# syntax=docker/dockerfile:1
ARG VERSION=4.20
FROM registry.example/builder:${VERSION} AS rhel
FROM --platform=$BUILDPLATFORM registry.example/builder:c9s AS Build
RUN --security=x,from=tools --mount=type=bind,x-from=tools,type=from=tools,from=tools,target=/t \
    # why ,from=tool, --mount=from=tool
	--mount=from=tool,ty\
pe=bind,target=/u make --mount=from=tool
FROM registry.example/${VERSION}:base
COPY --from=1 /x /y
COPY --from=build /x /z
RUN <<EOF
COPY --from=tools
EOF
LABEL a=b`))
	require.NoError(t, err)
	got, err := f.Replace(nil, map[string]string{"registry.example/builder:c9s": "B", "registry.example/4.20:base": "X", "tools": "T", "tool": "U"})
	require.NoError(t, err)
	require.Equal(t, `ARG VERSION=4.20
FROM B AS build
RUN --security=x,from=tools --mount=type=bind,x-from=tools,type=from=tools,from=T,target=/t \
    # why ,from=tool, --mount=from=tool
	--mount=from=U,ty\
pe=bind,target=/u make --mount=from=tool
FROM X
COPY --from=0 /x /y
COPY --from=build /x /z
RUN <<EOF
COPY --from=tools
EOF
LABEL a=b
`, string(got))
	require.True(t, f.Declares("VERSION"))
	require.False(t, f.Declares("TAGS"))

	broken, err := dockerfile.Parse([]byte("FROM a\nCOPY --from=to\\\nol x y\n"))
	require.NoError(t, err)
	_, err = broken.Replace(nil, map[string]string{"a": "A", "tool": "U"})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "line 2: --from=tool: a line break in it")

	_, err = f.Replace(nil, map[string]string{"tools": "T"})
	require.ErrorContains(t, err, "line 4: image registry.example/builder:c9s has no replacement")
}

func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "without FROM",
		"RUN x":                      "line 1: RUN before the first FROM",
		"FROM":                       "line 1: \"\" is not FROM IMAGE",
		"FROM a b":                   "is not FROM IMAGE",
		"FROM a AS \\\\":             "line 1: \"\\\\\" is not the name of a stage",
		"FROM a AS -0":               "line 1: \"-0\" is the number of a stage",
		"FROM a\nRUN <<EOF\nx\n":     "line 2: here document without its end \"EOF\"",
		"FROM a\n=x\n":               "line 2: \"=x\" is not an instruction",
		"# escape=x\nFROM a":         "line 1: escape",
		"FROM a\x00":                 "zero byte",
		"FROM ${a":                   "line 1: FROM \"${a\": no name or no closing",
		"FROM ${a:?x}":               "is followed by neither",
		"FROM ${a:-x":                "no closing }",
		"FROM 'a":                    "no closing '",
		"FROM $x":                    "line 1: no image is left",
		"FROM a\nCOPY --from= x y":   "line 2: no image is left",
		"ARG A=${x\nFROM a":          "line 1: ARG A",
		"FROM a AS x\nFROM y AS Y\n": "no stage \"z\"",
	} {
		f, err := dockerfile.Parse([]byte(text))
		if err == nil {
			opts := &dockerfile.Options{}
			if strings.Contains(want, "no stage") {
				opts.Target = "z"
			}
			_, err = f.Images(opts)
		}
		require.ErrorContains(t, err, want, "%q", text)
	}
	_, err := dockerfile.Parse(make([]byte, dockerfile.MaxSize+1))
	require.ErrorContains(t, err, "limit")
	doubling := "ARG A=xxxxxxxxxxxxxxxx\n" + strings.Repeat("ARG A=$A$A\n", 30) + "FROM $A\n"
	f, err := dockerfile.Parse([]byte(doubling))
	require.NoError(t, err)
	_, err = f.Images(nil)
	require.ErrorContains(t, err, "after expansion")
}

// TestAllocations has what is small in a file, often.
func TestAllocations(t *testing.T) {
	var images, stages strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&images, "from=IMAGE%d,", i)
	}
	for i := range 150 {
		fmt.Fprintf(&stages, "FROM a AS s%d\n", i)
	}
	for name, tc := range map[string]struct{ text, fault string }{
		"instructions": {"FROM a\n" + strings.Repeat("A\n", 9000), ""},
		"arguments":    {strings.Repeat("ARG\n", 9000) + "FROM a", ""},
		"images":       {"FROM a\nRUN --mount=" + images.String(), ""},
		"no stages":    {stages.String() + "FROM a\nRUN --mount=" + images.String(), ""},
		"values":       {"ARG A=xxxxxxxx" + strings.Repeat(" A=$A$A", 9) + strings.Repeat(" A=$A", 3000) + "\nFROM a", "after expansion of this"},
		"unused":       {"ARG A=xxxxxxxx" + strings.Repeat(" A=$A$A", 9) + strings.Repeat(" B=${C+$A}", 3000) + "\nFROM a", "after expansion of this"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := fuzzbound.Parse(t, 256, dockerfile.Parse, []byte(tc.text))
			require.NoError(t, err)
			_, err = fuzzbound.Parse(t, 256, func(string) ([]dockerfile.Image, error) { return f.Images(nil) }, tc.text)
			if tc.fault != "" {
				require.ErrorContains(t, err, tc.fault)
				return
			}
			require.NoError(t, err)
		})
	}
}

// FuzzParse: what can be read is written as a file of the same images.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"FROM a AS b\nFROM b\nCOPY --from=c / /\n", "ARG X=1\nFROM a:${X:-$Y}\nRUN <<EOF\nEOF\n", "# escape=`\nFROM `\n a\n", "FROM a\nRUN --mount=from=b,type=bind x\nCOPY --from=0 . .\nFROM c\nCOPY --from=0 . .\n",
		"FROM a\nRUN --mount=-from=r,type --mount=from=r,type x\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := fuzzbound.Parse(t, 256, dockerfile.Parse, data)
		if err != nil {
			return
		}
		images, err := fuzzbound.Parse(t, 256, func([]byte) ([]dockerfile.Image, error) { return file.Images(nil) }, data)
		if err != nil {
			return
		}
		instead, want := map[string]string{}, []string{}
		for i, image := range images {
			require.NotEmpty(t, image.Name)
			name := fmt.Sprintf("registry.invalid/i:%d", i)
			instead[image.Name] = name
			want = append(want, name)
		}
		text, err := file.Replace(nil, instead)
		if err != nil || len(text) > dockerfile.MaxSize {
			return
		}
		again, err := dockerfile.Parse(text)
		require.NoError(t, err, "%q", text)
		list, err := again.Images(nil)
		require.NoError(t, err, "%q", text)
		got := []string{}
		for _, image := range list {
			got = append(got, image.Name)
		}
		require.Equal(t, want, got, "%q", text)
	})
}

func BenchmarkParse(b *testing.B) {
	var text strings.Builder
	text.WriteString("ARG BUILDER=registry.example/builder:1\nFROM ${BUILDER} AS builder\n")
	for range 200 {
		text.WriteString("RUN --mount=type=cache,target=/root/.cache make build && \\\n    # what it makes\n    cp -r out /out\nCOPY --from=builder /x /y\n")
	}
	data := []byte(text.String())
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		f, err := dockerfile.Parse(data)
		require.NoError(b, err)
		_, err = f.Images(nil)
		require.NoError(b, err)
	}
}
