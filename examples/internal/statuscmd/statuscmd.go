// Package statuscmd is the command `okd-streams status`: are the streams ready
// to release, and if not, what broke them?
package statuscmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/remote"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/status"
	"github.com/okd-project/okd-streams/stream"
)

// errNotReady ends the command when a stream cannot be released.
var errNotReady = errors.New("not ready")

type flags struct {
	controller, cache, channel string
	results                    string
	to                         string
	reference, from, at        string
	days                       int
	warn, fail, maxAge         time.Duration
	lenient, inside            bool
	remote                     remote.Flags
	registry                   publish.Registry
}

// Command gives the command.
func Command() *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "status {--controller URL | --results STORE} STREAM...",
		Short: "Say whether streams are ready to release, and what broke them",
		Long: `Say whether streams are ready to release, and what broke them.

A release controller is asked for the builds of each stream and their gates. For
a gate that is red the last green build is named and, with --inside, what changed
between: packages of the node image and commits of the components.

With --results, results that okd-streams gate and the daily build recorded count
too. Without --controller they are all that is known, and each STREAM is a
built-in stream or the path of a definition, whose gates say what blocks.

It fails if a stream cannot be released: exit code 1, the report is written all
the same.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return ui.Usagef("no stream, but it is %s", cmd.UseLine())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	set := cmd.Flags()
	set.StringVar(&f.controller, "controller", "", "`URL` of the release controller")
	set.StringVar(&f.results, "results", "", "`STORE` with the recorded results of gates: dir:PATH or s3://BUCKET")
	set.StringVar(&f.cache, "cache", "", "`STORE` that keeps what is known of decided builds: dir:PATH or s3://BUCKET")
	set.DurationVar(&f.maxAge, "max-age", controller.DefaultMaxAge, "`AGE` at which decided builds are asked for again")
	set.StringVar(&f.channel, "channel", "", "`CHANNEL` of the update graph in which updates are looked for")
	ui.AddOutput(set, "html", "prometheus")
	set.StringVar(&f.to, "to", "", "`FILE` that the report is written to (default: standard output)")
	set.IntVar(&f.days, "days", status.DefaultDays, "`DAYS` that are looked back")
	set.DurationVar(&f.warn, "warn-after", status.DefaultWarnAfter, "`AGE` of the last build that is a warning")
	set.DurationVar(&f.fail, "fail-after", status.DefaultFailAfter, "`AGE` of the last build at which a stream cannot be released")
	set.BoolVar(&f.inside, "inside", false, "look into the payloads whose difference matters")
	set.StringVar(&f.reference, "reference", "", "`RELEASE` whose node image the newest accepted build is compared with; implies --inside")
	set.StringVar(&f.from, "from", "docker://", "where payloads are read from: docker:// or dir:PATH")
	f.remote.Add(set)
	set.StringVar(&f.at, "now", "", "`TIME` of the report, as 2006-01-02T15:04:05Z (default: now)")
	set.BoolVar(&f.lenient, "exit-zero", false, "succeed whatever the report says")
	return cmd
}

func (f *flags) run(cmd *cobra.Command, streams []string) error {
	ctx := cmd.Context()
	if f.controller == "" && f.results == "" {
		return ui.Usagef("no release controller: give --controller URL, or --results STORE")
	}
	now := time.Now()
	if f.at != "" {
		var err error
		if now, err = time.Parse(time.RFC3339, f.at); err != nil {
			return ui.Usagef("--now: %w", err)
		}
	}
	opts := &controller.ClientOptions{MaxAge: f.maxAge, Now: func() time.Time { return now }}
	if f.cache != "" {
		store, err := open.Store(ctx, f.cache, nil)
		if err != nil {
			return ui.Usagef("--cache: %w", err)
		}
		opts.Cache = store
	}
	var client *controller.Client
	if f.controller != "" {
		var err error
		if client, err = controller.NewClient(f.controller, opts); err != nil {
			return &ui.UsageError{Err: err}
		}
	}
	var book gate.Book
	if f.results != "" {
		var err error
		if err = ui.Exists(f.results); err != nil {
			return ui.Next(fmt.Errorf("--results: %w", err), "name the store that okd-streams gate wrote to")
		}
		if book.Store, err = open.Store(ctx, f.results, nil); err != nil {
			return ui.Usagef("--results: %w", err)
		}
	}
	collect := &status.CollectOptions{Days: f.days, Channel: f.channel}
	var reference *status.Content
	if f.inside || f.reference != "" {
		var err error
		if f.registry, err = open.Registry(ctx, f.from, &open.RegistryOptions{Remote: f.remote.Options(nil)}); err != nil {
			return ui.Usagef("--from: %w", err)
		}
		collect.Look = f.look
	}
	if f.reference != "" {
		var err error
		if reference, err = f.look(ctx, f.reference); err != nil {
			return err
		}
	}
	var histories []status.History
	for _, name := range streams {
		h, recorded := &status.History{Stream: name}, &status.RecordedOptions{Days: f.days}
		if client != nil {
			var err error
			if h, err = status.Collect(ctx, client, name, now, collect); err != nil {
				return fmt.Errorf("%w\n(%s/ lists the streams)", err, f.controller)
			}
		} else if err := defined(name, h, recorded); err != nil {
			return err
		}
		if book.Store != nil {
			if err := h.AddRecorded(ctx, book, now, recorded); err != nil {
				return err
			}
		}
		h.Reference = reference
		histories = append(histories, *h)
	}
	report := status.New(histories, now, &status.Options{WarnAfter: f.warn, FailAfter: f.fail, Days: f.days})
	format := ui.Format(cmd)
	text := map[string]func(*status.Report, io.Writer) error{"html": (*status.Report).WriteHTML, "prometheus": (*status.Report).WriteMetrics}[format]
	if text == nil {
		text = (*status.Report).WriteText
	}
	if err := ui.Output(cmd.OutOrStdout(), f.to, func(w io.Writer) error {
		return ui.Write(w, format, report, func(w io.Writer) error { return text(report, w) })
	}); err != nil {
		return err
	}
	if report.Level == status.Failing && !f.lenient {
		return ui.Next(errNotReady, "do what the report says is failing; --exit-zero succeeds all the same")
	}
	return nil
}

// defined says what a definition knows of a stream without a release controller.
func defined(which string, h *status.History, o *status.RecordedOptions) error {
	def, err := walk.Definition(which)
	if err != nil {
		return err
	}
	h.Stream, h.Title = def.Identity.Name, def.Identity.Title
	o.Gates = def.Gates
	schemes := []stream.Scheme{def.Naming.Release, def.Naming.Candidate}
	o.Belongs = func(release string) bool {
		v, err := stream.ParseVersion(release)
		return err == nil && slices.Contains(schemes, v.Scheme)
	}
	return nil
}

// look looks into a payload.
func (f *flags) look(ctx context.Context, pullSpec string) (*status.Content, error) {
	ref, err := name.ParseReference(pullSpec)
	if err != nil {
		return nil, err
	}
	r, err := payload.Open(ctx, f.registry, ref, nil)
	if err != nil {
		return nil, err
	}
	return status.ContentOf(ctx, f.registry, r)
}
