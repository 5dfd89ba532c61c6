// Package prunecmd is the command `okd-streams prune`: what a policy says is old
// goes from a stream's store.
package prunecmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/retention"
)

type flags struct {
	store, prefix, policy, stream, at, plan string
	pins, streams, updates                  []string
	apply                                   bool

	registry, graph string
	keep, releases  []string
}

// Command gives the command.
func Command() *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "prune --store STORE --policy FILE --stream NAME",
		Short: "Remove what a policy says is old from a stream's store",
		Long: `Remove what a policy says is old from a stream's store.

Without --apply it prints what would go. The policy is a gc-policy.yaml as of
Fedora CoreOS' pipeline, a policy for each stream:

  okd-scos-next:
    images: 6m                     # disk images: d, w, m (30 days) or y
    images-keep: [qemu, live-iso]
    build: 2y                      # all of the build

The newest build of each architecture and builds with a tag never go; pin those
that anything else refers to. With --registry container images go too, with what
is attached to them; a build stays if a tag other than its own, or an image or
release that is to be kept, refers to one of its images. Without it they are named
and left, as is what is in clouds.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return ui.WrongArguments(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	set := cmd.Flags()
	set.StringVar(&f.store, "store", "", "`STORE` with the builds: dir:PATH or s3://BUCKET")
	set.StringVar(&f.prefix, "prefix", "builds/", "`PREFIX` of the builds in it, where builds.json is")
	set.StringVar(&f.policy, "policy", "", "policy `FILE`")
	set.StringVar(&f.stream, "stream", "", "`NAME` of the stream in the policy file")
	set.StringArrayVar(&f.pins, "pin", nil, "`BUILD=REASON`: a build that stays; may be repeated")
	set.StringArrayVar(&f.streams, "streams", nil, "`KEY` in the store of a stream's metadata, whose builds stay; may be repeated")
	set.StringArrayVar(&f.updates, "updates", nil, "`KEY` in the store of a stream's updates: images of barriers and rollouts stay; may be repeated")
	set.StringVar(&f.registry, "registry", "", "`REGISTRY` of the builds' images: docker:// or dir:PATH")
	set.StringArrayVar(&f.keep, "keep", nil, "`PULLSPEC=REASON`: an image that stays; may be repeated")
	set.StringArrayVar(&f.releases, "keep-release", nil, "`PULLSPEC` of a release that stays with the images that it names; may be repeated")
	set.StringVar(&f.graph, "keep-graph", "", "`FILE` with an update graph, whose releases stay")
	set.StringVar(&f.plan, "plan", "", "`FILE` with a plan of --output json, which is done as it is, in place of a new one")
	set.BoolVar(&f.apply, "apply", false, "do it")
	ui.AddOutput(set)
	ui.AddJSON(set)
	set.StringVar(&f.at, "now", "", "`TIME` from which ages count, as 2006-01-02T15:04:05Z (default: now)")
	return cmd
}

func (f *flags) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	now := time.Now()
	if f.at != "" {
		var err error
		if now, err = time.Parse(time.RFC3339, f.at); err != nil {
			return ui.Usagef("--now: %w", err)
		}
	}
	if f.store == "" {
		return ui.Usagef("no store: give --store dir:PATH or s3://BUCKET")
	}
	if err := ui.Exists(f.store); err != nil {
		return fmt.Errorf("--store: %w", err)
	}
	store, err := open.Store(ctx, f.store, nil)
	if err != nil {
		return ui.Usagef("--store: %w", err)
	}
	registry, keep, err := f.images(cmd)
	if err != nil {
		return err
	}
	var p *retention.Plan
	if f.plan != "" {
		file, err := os.Open(f.plan)
		if err != nil {
			return err
		}
		p, err = retention.DecodePlan(file)
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
	} else {
		policy, err := f.choose()
		if err != nil {
			return err
		}
		opts := &retention.Options{Registry: registry, Keep: keep}
		if opts.Pins, err = f.pinned(cmd, store); err != nil {
			return err
		}
		if p, err = retention.New(ctx, store, f.prefix, policy, now, opts); err != nil {
			return err
		}
	}
	err = ui.Print(cmd, p, func(w io.Writer) error { return write(w, p) })
	if err != nil || !f.apply {
		if err == nil && ui.Format(cmd) == ui.Text && len(p.Steps) > 0 {
			_, err = fmt.Fprintln(cmd.ErrOrStderr(), "nothing was removed; --apply does it")
		}
		return err
	}
	return p.Apply(ctx, store, now, &retention.ApplyOptions{Registry: registry, Keep: keep, Progress: func(d retention.Done) {
		switch {
		case errors.Is(d.Err, errors.ErrUnsupported):
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "left: %v\n", d.Err)
		case d.Err == nil:
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "removed: %s of build %s, %s\n", d.Kind, d.Build, ui.Size(d.Bytes))
		}
	}})
}

// images opens the registry and reads what stays in it.
func (f *flags) images(cmd *cobra.Command) (retention.Registry, []retention.Root, error) {
	if f.registry == "" {
		if len(f.keep) > 0 || len(f.releases) > 0 || f.graph != "" {
			return nil, nil, ui.Usagef("images to keep and no registry: give --registry docker:// or dir:PATH")
		}
		return nil, nil, nil
	}
	opened, err := open.Registry(cmd.Context(), f.registry, nil)
	if err != nil {
		return nil, nil, ui.Usagef("--registry: %w", err)
	}
	registry, ok := opened.(retention.Registry)
	if !ok {
		return nil, nil, ui.Usagef("--registry %s: nothing can be removed from it", f.registry)
	}
	var keep []retention.Root
	for _, text := range f.keep {
		image, reason, ok := strings.Cut(text, "=")
		if !ok || image == "" || reason == "" {
			return nil, nil, ui.Usagef("--keep %s: it is PULLSPEC=REASON", text)
		}
		keep = append(keep, retention.Root{Image: image, Reason: reason})
	}
	for _, release := range f.releases {
		keep = append(keep, retention.Root{Image: release, Reason: "release " + release, Payload: true})
	}
	if f.graph == "" {
		return registry, keep, nil
	}
	file, err := os.Open(f.graph)
	if err != nil {
		return nil, nil, err
	}
	g, err := graph.Decode(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.graph, err)
	}
	return registry, append(keep, retention.GraphRoots(g)...), nil
}

// pinned are the builds that stay.
func (f *flags) pinned(cmd *cobra.Command, store publish.Store) ([]retention.Pin, error) {
	var pins []retention.Pin
	for _, pin := range f.pins {
		build, reason, ok := strings.Cut(pin, "=")
		if !ok || build == "" || reason == "" {
			return nil, ui.Usagef("--pin %s: it is BUILD=REASON", pin)
		}
		pins = append(pins, retention.Pin{Build: build, Reason: reason})
	}
	for _, key := range f.streams {
		data, _, err := publish.ReadDocument(cmd.Context(), store, key)
		if err != nil {
			return nil, err
		}
		d, err := bootimage.DecodeStream(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		more, err := retention.StreamPins(d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		pins = append(pins, more...)
	}
	for _, key := range f.updates {
		data, _, err := publish.ReadDocument(cmd.Context(), store, key)
		if err != nil {
			return nil, err
		}
		d, err := bootimage.DecodeUpdates(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		pins = append(pins, retention.UpdatesPins(d.Value())...)
	}
	return pins, nil
}

// choose reads the policy of the stream.
func (f *flags) choose() (retention.Policy, error) {
	if f.policy == "" || f.stream == "" {
		return retention.Policy{}, ui.Usagef("no policy: give --policy FILE and --stream NAME")
	}
	file, err := os.Open(f.policy)
	if err != nil {
		return retention.Policy{}, err
	}
	policies, err := retention.DecodePolicies(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return retention.Policy{}, fmt.Errorf("%s: %w", f.policy, err)
	}
	p, ok := policies[f.stream]
	if !ok {
		var names []string
		for n := range policies {
			names = append(names, n)
		}
		slices.Sort(names)
		return retention.Policy{}, fmt.Errorf("%s has no policy for %s; it has %s", f.policy, f.stream, strings.Join(names, ", "))
	}
	return p, nil
}

// write is the plan for people.
func write(w io.Writer, p *retention.Plan) error {
	rows := [][]string{}
	for _, s := range p.Steps {
		what := fmt.Sprintf("%d files", len(s.Keys))
		if len(s.Images) > 0 {
			what = strings.Join(s.Images, " ")
		}
		if more := len(s.Manifests) - len(s.Images); more > 0 {
			what += fmt.Sprintf(" and %d manifests with it", more)
		}
		rows = append(rows, []string{s.Build, string(s.Kind), ui.Size(s.Bytes), what, s.Reason})
	}
	for _, k := range p.Kept {
		kind := ""
		for _, one := range k.Kinds {
			kind += string(one)
		}
		rows = append(rows, []string{k.Build, kind, "stays", "", k.Reason})
	}
	for _, u := range p.Unknown {
		rows = append(rows, []string{u, "", "stays", "", "not in the catalogue"})
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "nothing is old")
		return err
	}
	return ui.Table(w, rows)
}
