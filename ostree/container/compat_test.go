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
			requireSameDocuments(t, want, got)
		})
	}
	_, err := container.Encapsulate(t.Context(), openCache(t, t.TempDir()), edge, checksum(t, commitEdge), &container.EncapsulateOptions{Dialect: container.Plain, Compat: true})
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// With Compat there are no more layers than asked for either, whatever the split before.
func TestCompatKeepsTheLimit(t *testing.T) {
	repo := newRepo(t)
	c := commit(t, repo, sample)
	cache := openCache(t, t.TempDir())
	opts := container.EncapsulateOptions{Components: split(t, repo, c)}
	for layers := range 8 {
		opts.MaxLayers, opts.Prior = layers+2, nil
		prior := encapsulate(t, cache, repo, c, &opts)
		for _, limit := range []int{3, 4, 5} {
			opts := opts
			opts.Compat, opts.Prior, opts.MaxLayers, opts.Planner = true, prior, limit, container.Stable{}
			m, err := encapsulate(t, cache, repo, c, &opts).Manifest()
			require.NoError(t, err)
			require.LessOrEqual(t, len(m.Layers), 1+limit, "after %d layers", layers+2)
		}
	}
}
