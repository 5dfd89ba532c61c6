package container_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree/container"
)

// With Compat the images in which the reference fails come out the same, too: config byte
// for byte, manifest but for compressed digests.
func TestCompatCopiesFaults(t *testing.T) {
	edge := openRepo(t, unpack(t, "v1b", "repo-edge-archive.tar.zst"))
	bash := []string{"/usr/bin/bash"}
	for _, tc := range []struct {
		image, ref, commit, pack, prior string
		opts                            container.EncapsulateOptions
	}{
		{image: "image-v1b-edge-sysroot", ref: "fixture/edge-sysroot"},
		{image: "image-v1b-edge-emptychunk-fv2", commit: commitEdge, pack: "v1b/expected/pack-edge-emptychunk.json.zst", opts: container.EncapsulateOptions{FormatVersion: 2, Cmd: bash}},
		{image: "image-v1b-2-pack8-prior", commit: commit2, pack: "expected/pack2.json.zst", prior: "image-v1b-1-pack8.tar.zst", opts: container.EncapsulateOptions{Cmd: bash, MaxLayers: 8}},
		// Where it has no fault nothing differs.
		{image: "image-v1b-edge", commit: commitEdge},
	} {
		t.Run(tc.image, func(t *testing.T) {
			repo, opts := edge, tc.opts
			if tc.prior != "" {
				if !interop.Enabled() {
					t.Skipf("takes seconds; set %s=1", interop.Variable)
				}
				repo = openRepo(t, unpack(t, "repo-bare-user.tar.zst"))
				opts.Prior = golden(t, "v1b", tc.prior)
				split, err := container.SplitOf(opts.Prior)
				require.NoError(t, err)
				opts.Planner = container.OstreeExt{Prior: split}
			}
			want := golden(t, "v1b", tc.image+".tar.zst")
			commit := tc.commit
			if tc.ref != "" {
				c, err := repo.Resolve(t.Context(), tc.ref)
				require.NoError(t, err)
				commit = c.String()
			}
			if tc.pack != "" {
				var p pack
				require.NoError(t, json.Unmarshal(readShared(t, tc.pack), &p))
				opts.Components = p.components(t)
				if opts.Planner == nil {
					opts.Planner = layoutOf(t, want, opts.Components)
				}
			}
			opts.Compat, opts.Architecture = true, "amd64"
			got, err := container.Encapsulate(t.Context(), openCache(t, t.TempDir()), repo, checksum(t, commit), &opts)
			require.NoError(t, err)
			wantConfig, err := want.RawConfigFile()
			require.NoError(t, err)
			gotConfig, err := got.RawConfigFile()
			require.NoError(t, err)
			require.Equal(t, string(wantConfig), string(gotConfig))
			wantManifest, err := want.RawManifest()
			require.NoError(t, err)
			gotManifest, err := got.RawManifest()
			require.NoError(t, err)
			require.Equal(t, withoutDigests(t, wantManifest), withoutDigests(t, gotManifest))
		})
	}
	_, err := container.Encapsulate(t.Context(), openCache(t, t.TempDir()), edge, checksum(t, commitEdge), &container.EncapsulateOptions{Dialect: container.Plain, Compat: true})
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
