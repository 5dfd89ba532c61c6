package stream_test

import (
	"bytes"
	"errors"
	"io/fs"
	"testing"

	"github.com/okd-project/okd-streams/stream"
	"github.com/stretchr/testify/require"
)

func TestBuiltin(t *testing.T) {
	require.Equal(t, []string{"okd-fcos-stable", "okd-scos-next", "okd-scos-stable", "sample"}, stream.BuiltinNames())
	for _, name := range stream.BuiltinNames() {
		t.Run(name, func(t *testing.T) {
			d, err := stream.Builtin(name)
			require.NoError(t, err)
			require.Equal(t, name, d.Identity.Name)
			require.NoError(t, d.Validate())

			var b bytes.Buffer
			require.NoError(t, d.Encode(&b))
			back, err := stream.Decode(&b)
			require.NoError(t, err)
			require.Equal(t, d, back)
		})
	}
}

// TestBuiltinProfiles is what pipelines.md says of each version.
func TestBuiltinProfiles(t *testing.T) {
	for _, name := range []string{"okd-scos-stable", "okd-scos-next"} {
		d, err := stream.Builtin(name)
		require.NoError(t, err)
		for _, tt := range []struct {
			version            string
			kind               stream.Kind
			build              stream.Scheme
			nodeImage          string
			nodeTags, extTags  []string
			extensionsRequired bool
		}{
			{"4.12", stream.Compose, stream.SchemeSCOSBuild, "centos-stream-coreos-9", []string{"centos-stream-coreos-9"}, nil, false},
			{"4.13.0-0.okd-scos-2023-02-28-060912", stream.Compose, stream.SchemeSCOSBuild, "centos-stream-coreos-9", []string{"centos-stream-coreos-9"}, []string{"centos-stream-coreos-9-extensions"}, true},
			{"4.15", stream.Compose, stream.SchemeSCOSBuild, "centos-stream-coreos-9", []string{"centos-stream-coreos-9"}, []string{"centos-stream-coreos-9-extensions"}, true},
			{"4.16", stream.Compose, stream.SchemeSCOSBuild, "centos-stream-coreos-9", []string{"stream-coreos"}, []string{"stream-coreos-extensions"}, true},
			{"4.19.0-okd-scos.9", stream.Compose, stream.SchemeSCOSBuild, "centos-stream-coreos-9", []string{"stream-coreos"}, []string{"stream-coreos-extensions"}, true},
			{"4.20", stream.Layer, stream.SchemeSCOSBase, "stream-coreos", []string{"stream-coreos"}, []string{"stream-coreos-extensions"}, true},
			{"4.22.0-okd-scos.ec.3", stream.Layer, stream.SchemeSCOSBase, "stream-coreos", []string{"stream-coreos"}, []string{"stream-coreos-extensions"}, true},
			{"4.30", stream.Layer, stream.SchemeSCOSBase, "stream-coreos", []string{"stream-coreos"}, []string{"stream-coreos-extensions"}, true},
		} {
			p, err := d.Profile(tt.version)
			require.NoError(t, err, tt.version)
			require.Equal(t, tt.kind, p.Kind, tt.version)
			require.Equal(t, tt.build, p.Build, tt.version)
			require.Equal(t, tt.nodeImage, p.NodeImage, tt.version)
			require.Equal(t, tt.nodeTags, p.NodeTags, tt.version)
			require.Equal(t, tt.extTags, p.ExtensionsTags, tt.version)
			required, err := d.ExtensionsRequired(tt.version)
			require.NoError(t, err)
			require.Equal(t, tt.extensionsRequired, required, tt.version)
		}
		_, err = d.Profile("4.11")
		require.ErrorIs(t, err, errors.ErrUnsupported)
		_, err = d.Profile("four")
		require.ErrorContains(t, err, "has no X.Y")
	}
}

func TestBuiltinFCOS(t *testing.T) {
	d, err := stream.Builtin("okd-fcos-stable")
	require.NoError(t, err)
	for _, version := range []string{"4.12", "4.15.0-0.okd-2024-03-10-010116"} {
		p, err := d.Profile(version)
		require.NoError(t, err)
		require.Equal(t, stream.Layer, p.Kind)
		require.Equal(t, stream.Template("release-"+version[:4]), p.Ref)
		require.Equal(t, []string{"fedora-coreos", "machine-os-content"}, p.NodeTags)
		require.Empty(t, p.ExtensionsTags)
		require.False(t, *p.ExtensionsRequired)
	}
	_, err = d.Profile("4.16")
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.EqualError(t, err, "stream: okd-fcos-stable has no version 4.16, it ended with 4.15: OKD on Fedora CoreOS ended with 4.15; use okd-scos-stable.: unsupported operation")
	_, err = d.ExtensionsRequired("4.16")
	require.Error(t, err)
	_, err = d.Needs("4.16")
	require.Error(t, err)
}

func TestBuiltinMissing(t *testing.T) {
	_, err := stream.Builtin("okd-scos")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Nil(t, stream.BuiltinSource("okd-scos"))
	require.Nil(t, stream.BuiltinSource("../builtin/sample"))
}

func TestNeeds(t *testing.T) {
	paths := func(d *stream.Definition, version string) (out []string) {
		needs, err := d.Needs(version)
		require.NoError(t, err)
		for _, n := range needs {
			require.NotEmpty(t, n.What)
			out = append(out, n.Path)
		}
		return out
	}
	d, err := stream.Builtin("okd-scos-next")
	require.NoError(t, err)
	require.Equal(t, []string{"os.source", "payload.base", "extensions.image"}, paths(d, "4.22"))
	require.Equal(t, []string{"os.source", "payload.base"}, paths(d, "4.12"))
	d.OS.Source.Dir, d.Payload.Base, d.Extensions.Image = "x", "y", "z"
	require.Empty(t, paths(d, "4.22"))
	d, err = stream.Builtin("sample")
	require.NoError(t, err)
	require.Empty(t, paths(d, "0.0"))
	p, err := d.Profile("0.0.0-sample.20261125")
	require.NoError(t, err)
	require.Equal(t, stream.Given, p.Kind)
	require.Equal(t, []string{"stream-coreos"}, p.NodeTags)
	require.True(t, *p.ExtensionsRequired)
	require.True(t, d.LocalOnly())
}

func TestDefinitionNext(t *testing.T) {
	now := utc(2026, 11, 25, 20, 54, 7)
	for _, tt := range []struct {
		name     string
		daily    bool
		existing []string
		want     string
	}{
		{"okd-scos-stable", false, nil, "4.21.0-okd-scos.0"},
		{"okd-scos-stable", false, []string{"4.21.0-okd-scos.4", "4.22.0-okd-scos.7", "4.20.3-okd-scos.9"}, "4.21.0-okd-scos.5"},
		{"okd-scos-stable", false, []string{"4.21.0-okd-scos.4", "4.21.1-0.okd-scos-nightly-2026-06-10-015300"}, "4.21.1-okd-scos.0"},
		{"okd-scos-next", false, []string{"4.22.0-okd-scos.ec.4"}, "4.22.0-okd-scos.ec.5"},
		{"okd-scos-next", true, []string{"4.22.0-okd-scos.ec.4"}, "4.22.0-0.okd-scos-nightly-2026-11-25-205407"},
		{"okd-fcos-stable", true, nil, "4.15.0-0.okd-2026-11-25-205407"},
		{"sample", true, []string{"0.0.0-sample.20261125"}, "0.0.0-sample.20261125.1"},
	} {
		d, err := stream.Builtin(tt.name)
		require.NoError(t, err)
		got, err := d.Next(parseAll(t, tt.existing...), tt.daily, now)
		require.NoError(t, err)
		require.Equal(t, tt.want, got.String())
	}
}

func TestArch(t *testing.T) {
	for rpm, goarch := range map[stream.Arch]string{"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "", "amd64": ""} {
		require.Equal(t, goarch, rpm.GOARCH())
		if goarch != "" {
			require.Equal(t, rpm, stream.ArchOf(goarch))
		}
	}
	require.Empty(t, stream.ArchOf("x86_64"))
	require.Len(t, stream.Arches(), 4)
}

func TestTemplate(t *testing.T) {
	vars := stream.Vars{Version: "4.21.0-okd-scos.1", Minor: "4.21", Arch: "x86_64", Stream: "next", Build: "9.0.20250222-0"}
	for text, want := range map[stream.Template]string{
		"":                 "",
		"latest":           "latest",
		"${BUILD}-${ARCH}": "9.0.20250222-0-x86_64",
		"a${STREAM}b${MINOR}c${VERSION}$d$${ARCH}": "anextb4.21c4.21.0-okd-scos.1$d$x86_64",
	} {
		got, err := text.Expand(vars)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := stream.Template("${ARCH}").Expand(stream.Vars{})
	require.EqualError(t, err, `stream: template "${ARCH}": ${ARCH} has no value here`)
	_, err = stream.Template("${ARCHS}").Expand(vars)
	require.EqualError(t, err, `stream: unknown variable "${ARCHS}" (did you mean "${ARCH}"?)`)
	_, err = stream.Template("${ARCH").Expand(vars)
	require.ErrorContains(t, err, `"${" without "}"`)
}

func TestSize(t *testing.T) {
	for text, want := range map[string]stream.Size{"0": 0, "1500": 1500, "16Gi": 16 << 30, "3k": 3000, "2M": 2e6, "5Ti": 5 << 40, "1Ki": 1024} {
		var s stream.Size
		require.NoError(t, s.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, s)
		require.Equal(t, text, s.String())
	}
	for _, text := range []string{"", "Gi", "1.5Gi", "-1", "1GB", "999999999Ti", "1 Gi"} {
		var s stream.Size
		require.Error(t, s.UnmarshalText([]byte(text)), text)
	}
}
