// Package prunecmd is the command `okd-streams prune`: what a policy says is old
// goes from a stream's store.
package prunecmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/retention"
)

type flags struct {
	store, prefix, policy, stream, at, plan string
	pins                                    []string
	apply, json                             bool
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
that anything else refers to. What is in registries and clouds is named, and left.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return ui.Usagef("%d arguments, but it is %s", len(args), cmd.UseLine())
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
	set.StringVar(&f.plan, "plan", "", "`FILE` with a plan of --json, which is done as it is, in place of a new one")
	set.BoolVar(&f.apply, "apply", false, "do it")
	set.BoolVar(&f.json, "json", false, "print the plan as JSON")
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
	store, err := open.Store(ctx, f.store, nil)
	if err != nil {
		return ui.Usagef("--store: %w", err)
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
		opts := &retention.Options{}
		for _, pin := range f.pins {
			build, reason, ok := strings.Cut(pin, "=")
			if !ok || build == "" || reason == "" {
				return ui.Usagef("--pin %s: it is BUILD=REASON", pin)
			}
			opts.Pins = append(opts.Pins, retention.Pin{Build: build, Reason: reason})
		}
		if p, err = retention.New(ctx, store, f.prefix, policy, now, opts); err != nil {
			return err
		}
	}
	if f.json {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		err = enc.Encode(p)
	} else {
		err = write(cmd.OutOrStdout(), p)
	}
	if err != nil || !f.apply {
		if err == nil && !f.json && len(p.Steps) > 0 {
			_, err = fmt.Fprintln(cmd.ErrOrStderr(), "nothing was removed; --apply does it")
		}
		return err
	}
	return p.Apply(ctx, store, now, &retention.ApplyOptions{Progress: func(d retention.Done) {
		switch {
		case errors.Is(d.Err, errors.ErrUnsupported):
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "left: %v\n", d.Err)
		case d.Err == nil:
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "removed: %s of build %s, %s\n", d.Kind, d.Build, ui.Size(d.Bytes))
		}
	}})
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
