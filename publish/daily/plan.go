package daily

import (
	"context"
	"fmt"
	"path"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/stream"
)

// Outline says what a run would do, as far as that can be known without doing
// it.
type Outline struct {
	Stream  string        `json:"stream"`
	Build   string        `json:"build"`
	Version string        `json:"version"`
	Arch    stream.Arch   `json:"arch"`
	Steps   []OutlineStep `json:"steps"`
}

// OutlineStep is a step and what it would do, a line each.
type OutlineStep struct {
	Step string   `json:"step"`
	Does []string `json:"does"`
}

// Plan outlines a run without doing, opening or writing anything. Env.State,
// Store and Registry are not used; a version that depends on what they hold is
// given as its scheme.
func Plan(_ context.Context, def *stream.Definition, env *Env, opts *Options) (*Outline, error) {
	b := &build{env: env, opts: opts, def: def, outline: true}
	if err := b.missing(); err != nil {
		return nil, err
	}
	o := &Outline{Stream: def.Identity.Name, Version: opts.Version, Arch: b.arch(), Build: "next"}
	if o.Version == "" {
		next, err := def.Next(nil, true, opts.Time)
		if err != nil {
			return nil, err
		}
		o.Version = next.String()
	}
	profile, err := def.Profile(o.Version)
	if err != nil {
		return nil, err
	}
	if profile.Build != "" {
		o.Build = "next of scheme " + string(profile.Build)
	}
	dir, err := b.buildsKey()
	if err != nil {
		return nil, err
	}
	node, err := b.repository(profile.NodeImage)
	if err != nil {
		return nil, err
	}
	release, err := b.repository(def.Registry.Release.Name)
	if err != nil {
		return nil, err
	}
	source := opts.SourceName
	if source == "" {
		source = "the tree that is handed in"
	}
	nodeDoes := []string{"the node image is the base image"}
	switch {
	case opts.Node != nil:
		nodeDoes = []string{"the node image is " + opts.Node.Name()}
	case opts.NodeBuilderID != "":
		nodeDoes = []string{"build the node image on the base image"}
	}
	if opts.Extensions != nil {
		nodeDoes = append(nodeDoes, "the extensions image is "+opts.Extensions.Name())
	}
	from := "the components"
	if opts.FromRelease != nil {
		from = opts.FromRelease.Name()
	} else if def.Payload.Base != "" {
		from = def.Payload.Base
	}
	publishes := []string{
		"images to " + node.Name() + " and " + release.Name(),
		"files and meta.json to " + path.Join(dir, "ID", string(o.Arch)),
		path.Join(dir, bootimage.BuildsFile),
	}
	for _, gate := range def.Gates {
		if gate.Blocking() {
			publishes = append(publishes, "wait for gate "+gate.Name)
		}
	}
	publishes = append(publishes, b.streamKey(), "tags, the release's last")
	o.Steps = []OutlineStep{
		{StepInputs, []string{"read " + source, "pin images and name the build"}},
		{StepCommit, []string{fmt.Sprintf("commit as %s/%s/%s", def.Identity.Name, o.Arch, def.Identity.OSName), "lint the tree"}},
		{StepEncapsulate, []string{"make the base image from the commit"}},
		{StepNode, nodeDoes},
		{StepBootimage, []string{fmt.Sprintf("take kernel and initramfs from the commit, and %d disks", len(opts.Disks))}},
		{StepPayload, []string{"assemble " + release.Tag(o.Version).Name() + " from " + from}},
		{StepPublish, publishes},
	}
	return o, nil
}
