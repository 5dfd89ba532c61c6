package components_test

import (
	"compress/gzip"
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish/components"
)

func (w *world) plan(text string, opts *components.PlanOptions) *components.Plan {
	w.t.Helper()
	plan, err := components.NewPlan(w.t.Context(), list(w.t, text), w.env(), opts)
	require.NoError(w.t, err)
	return plan
}

func (w *world) built() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, b := range w.builds {
		out = append(out, b.Component)
	}
	slices.Sort(out)
	w.builds = nil
	return out
}

func TestRun(t *testing.T) {
	w := smallWorld(t)
	r := w.release(smallRelease(w))
	plan := w.plan(small, &components.PlanOptions{Release: r})
	result, err := components.Run(t.Context(), plan, w.env(), &components.RunOptions{Workers: 4})
	require.NoError(t, err)
	require.Equal(t, []string{"artifacts", "base", "builder", "installer", "mco"}, w.built())
	images := map[string]name.Digest{}
	for _, b := range result.Components {
		require.False(t, b.Reused)
		ref, err := name.NewDigest(b.Image)
		require.NoError(t, err)
		images[b.Name] = ref
		img, err := w.registry.Image(t.Context(), ref)
		require.NoError(t, err)
		require.NoError(t, validate.Image(img))
		config, err := img.ConfigFile()
		require.NoError(t, err)
		require.Equal(t, b.Source.Commit, config.Config.Labels["io.openshift.build.commit.id"])
		require.Equal(t, b.Source.Ref, config.Config.Labels["io.openshift.build.commit.ref"])
		require.Equal(t, b.Source.Repository, config.Config.Labels["io.openshift.build.source-location"])
		require.Equal(t, commitTime, config.Created.UTC())
	}

	// What the builder packed again is as the base has it.
	base, err := w.registry.Image(t.Context(), images["base"])
	require.NoError(t, err)
	mco, err := w.registry.Image(t.Context(), images["mco"])
	require.NoError(t, err)
	of, err := base.Manifest()
	require.NoError(t, err)
	on, err := mco.Manifest()
	require.NoError(t, err)
	require.Len(t, of.Layers, 2)
	require.Len(t, on.Layers, 3)
	for i := range of.Layers {
		require.Equal(t, of.Layers[i].Digest, on.Layers[i].Digest)
	}

	// A release is assembled from it.
	spec, err := plan.Spec(result)
	require.NoError(t, err)
	spec.Version, spec.Created = "4.20.0-okd-scos.2", commitTime
	built, err := payload.Assemble(t.Context(), w.registry, spec, nil)
	require.NoError(t, err)
	var tags []string
	for _, tag := range built.References.Tags {
		tags = append(tags, tag.Name)
	}
	require.Equal(t, []string{"artifacts", "cli", "cluster-version-operator", "installer", "mco"}, tags)
	require.Equal(t, images["mco"].String(), built.References.Tag("mco").Pullspec)

	// The same again builds nothing, and needs no sources.
	env := w.env()
	env.Fetch = nil
	again, err := components.Run(t.Context(), plan, env, nil)
	require.NoError(t, err)
	require.Empty(t, w.built())
	left, err := os.ReadDir(env.Dir)
	require.NoError(t, err)
	require.Empty(t, left)
	for i := range again.Components {
		require.True(t, again.Components[i].Reused)
		require.Equal(t, result.Components[i].Image, again.Components[i].Image)
	}

	// A change builds what has it and what is built of that.
	w.write("images", "base/f", "changed")
	_, err = components.Run(t.Context(), w.plan(small, &components.PlanOptions{Release: r}), w.env(), nil)
	require.NoError(t, err)
	require.Equal(t, []string{"artifacts", "base", "builder", "installer", "mco"}, w.built(), "all of that repository, and what is of them")
	w.write("mco", "f", "changed")
	_, err = components.Run(t.Context(), w.plan(small, &components.PlanOptions{Release: r}), w.env(), nil)
	require.NoError(t, err)
	require.Equal(t, []string{"mco"}, w.built())

	// So does another builder, and being told to.
	env = w.env()
	env.BuilderID = "another"
	plan = w.plan(small, &components.PlanOptions{Release: r, Only: []string{"mco", "base"}})
	_, err = components.Run(t.Context(), plan, env, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"base", "mco"}, w.built())
	_, err = components.Run(t.Context(), plan, env, &components.RunOptions{Again: true})
	require.NoError(t, err)
	require.Equal(t, []string{"base", "mco"}, w.built())
}

// TestRunFails: a component that fails takes only those with it that are built of it,
// and the next run goes on with what is missing.
func TestRunFails(t *testing.T) {
	w := smallWorld(t)
	r := w.release(smallRelease(w))
	w.write("installer", "images/Dockerfile.ci", "FROM "+ci+"ocp/4.22:base\nRUN false\n")
	plan := w.plan(small, &components.PlanOptions{Release: r})
	var mu sync.Mutex
	phases := map[string]components.Phase{}
	result, err := components.Run(t.Context(), plan, w.env(), &components.RunOptions{Workers: 3, Progress: func(e components.Event) {
		mu.Lock()
		defer mu.Unlock()
		phases[e.Component] = e.Phase
	}})
	require.ErrorContains(t, err, "build component installer: exit status 1")
	require.ErrorContains(t, err, "build component artifacts: not built: it is of installer, which there is not")
	require.Equal(t, map[string]components.Phase{"base": components.Done, "builder": components.Done, "mco": components.Done, "installer": components.Failed, "artifacts": components.Skipped}, phases)
	require.Len(t, result.Components, 3)
	_, err = plan.Spec(result)
	require.ErrorContains(t, err, "not built: installer, artifacts")

	w.built()
	w.write("installer", "images/Dockerfile.ci", "FROM "+ci+"ocp/4.22:base\nCOPY f /installer\n")
	_, err = components.Run(t.Context(), w.plan(small, &components.PlanOptions{Release: r}), w.env(), nil)
	require.NoError(t, err)
	require.Equal(t, []string{"artifacts", "installer"}, w.built())
}

func TestRunScratch(t *testing.T) {
	w := newWorld(t)
	plan := w.plan("components: [{name: cluster-version-operator, containerfile: FROM scratch}, {name: b, containerfile: FROM x, from: cluster-version-operator}]\n",
		&components.PlanOptions{Mode: components.Scratch})
	result, err := components.Run(t.Context(), plan, w.env(), nil)
	require.NoError(t, err)
	spec, err := plan.Spec(result)
	require.NoError(t, err)
	require.Nil(t, spec.FromRelease)
	require.Len(t, spec.Components, 2)
}

// TestRunFolder: a folder as it is must not change between plan and build.
func TestRunFolder(t *testing.T) {
	w := newWorld(t)
	w.write("own", "Dockerfile", "FROM scratch\nCOPY f /f\n")
	w.write("own", "f", "1")
	w.write("own", ".git/index", "1")
	text := "components: [{name: a, repository: \"file://" + w.sources + "/own\"}]\n"
	opts := &components.PlanOptions{Mode: components.Scratch}
	plan := w.plan(text, opts)
	require.Len(t, plan.Batches[0][0].Tree, 64)
	w.write("own", ".git/index", "2")
	_, err := components.Run(t.Context(), plan, w.env(), nil)
	require.NoError(t, err)
	w.write("own", "f", "2")
	_, err = components.Run(t.Context(), plan, w.env(), &components.RunOptions{Again: true})
	require.ErrorContains(t, err, "has changed since the plan was made")
	w.built()
	_, err = components.Run(t.Context(), w.plan(text, opts), w.env(), nil)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, w.built())
}

// TestRunForeignTag: a tag that somebody else put where ours would be is not taken
// for a build.
func TestRunForeignTag(t *testing.T) {
	w := newWorld(t)
	plan := w.plan("components: [{name: a, containerfile: FROM scratch}]\n", &components.PlanOptions{Mode: components.Scratch})
	result, err := components.Run(t.Context(), plan, w.env(), nil)
	require.NoError(t, err)
	var tag string
	for one, err := range w.registry.Tags(t.Context(), w.repo) {
		require.NoError(t, err)
		tag = one
	}
	require.True(t, strings.HasPrefix(tag, "a-"))
	w.tag(w.image(w.repo.String(), "evil", nil), tag)
	w.built()
	again, err := components.Run(t.Context(), plan, w.env(), nil)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, w.built())
	require.Equal(t, result.Components[0].Image, again.Components[0].Image)
}

func TestRunFaults(t *testing.T) {
	w := newWorld(t)
	w.write("r", "Dockerfile", "FROM scratch\n")
	require.NoError(t, os.Symlink("/", w.sources+"/r/out"))
	plan := w.plan("components: [{name: a, repository: https://git.example/r, ref: x}]\n", &components.PlanOptions{Mode: components.Scratch})
	run := func(change func(*components.Env)) error {
		env := w.env()
		change(env)
		_, err := components.Run(t.Context(), plan, env, nil)
		return err
	}
	require.ErrorContains(t, run(func(e *components.Env) { e.Registry = nil }), "no registry")
	require.ErrorContains(t, run(func(e *components.Env) { e.Build = nil }), "nobody to build")
	require.ErrorContains(t, run(func(e *components.Env) { e.Dir = "" }), "no folder")
	require.ErrorContains(t, run(func(e *components.Env) { e.Fetch = nil }), "nobody to fetch")
	require.ErrorContains(t, run(func(e *components.Env) {
		e.Build = func(context.Context, *components.Build) error { return nil }
	}), "the builder made no image")
	require.ErrorContains(t, run(func(e *components.Env) {
		e.Build = func(ctx context.Context, b *components.Build) error {
			b.Labels = nil
			return w.build(ctx, b)
		}
	}), "did not set the label")
	require.ErrorContains(t, run(func(e *components.Env) {
		e.Build = func(ctx context.Context, b *components.Build) error {
			b.Platform.Architecture = "arm64"
			return w.build(ctx, b)
		}
	}), "an image for linux/arm64, not for linux/amd64")
	plan.Batches[0][0].Context = "out"
	require.ErrorContains(t, run(func(*components.Env) {}), "path escapes")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := components.Run(ctx, plan, w.env(), nil)
	require.ErrorIs(t, err, context.Canceled)
	_, err = components.Run(t.Context(), nil, w.env(), nil)
	require.ErrorContains(t, err, "no plan")
}

// TestRunDockerBase: an image of Docker's is handed to the builder as an OCI image,
// of which the result has the layers as they were.
func TestRunDockerBase(t *testing.T) {
	w := newWorld(t)
	img, err := mutate.AppendLayers(empty.Image, layerOf(t, map[string]string{"f": "docker"}, gzip.BestCompression))
	require.NoError(t, err)
	m, err := img.Manifest()
	require.NoError(t, err)
	require.Equal(t, types.DockerManifestSchema2, m.MediaType)
	config, err := img.ConfigFile()
	require.NoError(t, err)
	config.OS, config.Architecture = "linux", "amd64"
	img, err = mutate.ConfigFile(img, config)
	require.NoError(t, err)
	desc, err := w.registry.WriteImage(t.Context(), w.repo, img, nil)
	require.NoError(t, err)
	plan := w.plan("components: [{name: a, containerfile: \"FROM "+w.repo.Digest(desc.Digest.String()).String()+"\"}]\n", &components.PlanOptions{Mode: components.Scratch})
	env := w.env()
	env.Build = func(ctx context.Context, b *components.Build) error {
		index, err := layout.ImageIndexFromPath(b.Bases[0].Layout)
		require.NoError(t, err)
		list, err := index.IndexManifest()
		require.NoError(t, err)
		base, err := index.Image(list.Manifests[0].Digest)
		require.NoError(t, err)
		require.NoError(t, validate.Image(base))
		m, err := base.Manifest()
		require.NoError(t, err)
		require.Equal(t, []types.MediaType{types.OCIManifestSchema1, types.OCIConfigJSON, types.OCILayer}, []types.MediaType{m.MediaType, m.Config.MediaType, m.Layers[0].MediaType})
		return w.build(ctx, b)
	}
	result, err := components.Run(t.Context(), plan, env, nil)
	require.NoError(t, err)
	ref, err := name.NewDigest(result.Components[0].Image)
	require.NoError(t, err)
	built, err := w.registry.Image(t.Context(), ref)
	require.NoError(t, err)
	require.NoError(t, validate.Image(built))
	on, err := built.Manifest()
	require.NoError(t, err)
	of, err := img.Manifest()
	require.NoError(t, err)
	require.Equal(t, of.Layers[0].Digest, on.Layers[0].Digest)
	require.Equal(t, types.OCILayer, on.Layers[0].MediaType)
}
