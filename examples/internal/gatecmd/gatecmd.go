// Package gatecmd is the command `okd-streams gate`: results of a release's
// gates, found out, recorded and shown.
package gatecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/remote"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/stream"
)

// common is what the commands share.
type common struct {
	results, image, from, release, digest, stream, at string
	remote                                            remote.Flags
	registry                                          publish.Registry
}

// Command gives the command with all that is below it.
func Command() *cobra.Command {
	c := &common{}
	root := &cobra.Command{
		Use: "gate", Short: "Find out, record and show what the gates of a release say", Args: cobra.ArbitraryArgs,
		Long: `Find out, record and show what the gates of a release say.

A release is known by its name and the digest of its image: --image PULLSPEC, or
--release and --digest. Results are added to the --results store, and none is
ever taken from it. What has no result that counts is pending, and blocks.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return ui.Usagef("unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	set := root.PersistentFlags()
	set.StringVar(&c.results, "results", "", "`STORE` of results: dir:PATH or s3://BUCKET/PREFIX (required)")
	set.StringVar(&c.image, "image", "", "`PULLSPEC` of the release image")
	set.StringVar(&c.from, "from", "docker://", "where --image is read: docker:// or dir:PATH")
	set.StringVar(&c.release, "release", "", "`VERSION` of the release, instead of --image")
	set.StringVar(&c.digest, "digest", "", "`DIGEST` of the release image, instead of --image")
	set.StringVar(&c.stream, "stream", "", "built-in stream or `FILE` of a definition, whose gates they are")
	set.StringVar(&c.at, "now", "", "`TIME` of the result, as 2006-01-02T15:04:05Z (default: now)")
	c.remote.Add(set)
	ui.AddOutput(set)
	root.AddCommand(c.run(), c.record(), c.show())
	return root
}

// leaf makes a command with so many arguments at least.
func leaf(use, short, long string, least int, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: short + "." + long,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < least || least == 0 && len(args) > 0 {
				return ui.WrongArguments(cmd, args)
			}
			return nil
		},
		RunE: run,
	}
}

// book opens the store of results.
func (c *common) book(ctx context.Context) (gate.Book, error) {
	if c.results == "" {
		return gate.Book{}, ui.Usagef("where are the results? give --results STORE")
	}
	store, err := open.Store(ctx, c.results, nil)
	if err != nil {
		return gate.Book{}, ui.Usagef("--results: %w", err)
	}
	return gate.Book{Store: store, Jitter: rand.Float64}, nil
}

// clock gives the time of results.
func (c *common) clock() (func() time.Time, error) {
	if c.at == "" {
		return time.Now, nil
	}
	t, err := time.Parse(time.RFC3339, c.at)
	if err != nil {
		return nil, ui.Usagef("--now: %w", err)
	}
	return func() time.Time { return t }, nil
}

// images opens where releases are read.
func (c *common) images(ctx context.Context) (publish.Registry, error) {
	if c.registry != nil {
		return c.registry, nil
	}
	var err error
	if c.registry, err = open.Registry(ctx, c.from, &open.RegistryOptions{Remote: c.remote.Options(nil)}); err != nil {
		return nil, ui.Usagef("--from: %w", err)
	}
	return c.registry, nil
}

// payload opens a release.
func (c *common) payload(ctx context.Context, pullSpec string) (*payload.Release, error) {
	ref, err := name.ParseReference(pullSpec)
	if err != nil {
		return nil, &ui.UsageError{Err: err}
	}
	images, err := c.images(ctx)
	if err != nil {
		return nil, err
	}
	return payload.Open(ctx, images, ref, nil)
}

// subject is the release that the flags name.
func (c *common) subject(ctx context.Context) (gate.Subject, error) {
	if c.image == "" {
		if c.release == "" || c.digest == "" {
			return gate.Subject{}, ui.Usagef("which release? give --image PULLSPEC, or --release VERSION and --digest DIGEST")
		}
		return gate.Subject{Release: c.release, Digest: c.digest}, nil
	}
	r, err := c.payload(ctx, c.image)
	if err != nil {
		return gate.Subject{}, err
	}
	s := gate.Subject{Release: r.Version(), Digest: imageDigest(r).String()}
	for _, given := range []struct{ flag, is, want string }{{"--release", s.Release, c.release}, {"--digest", s.Digest, c.digest}} {
		if given.want != "" && given.want != given.is {
			return s, &ui.VerificationError{Err: fmt.Errorf("%s is %s, %s says %s", c.image, given.is, given.flag, given.want)}
		}
	}
	return s, nil
}

// imageDigest is what clusters know a release by: of several architectures, the
// index.
func imageDigest(r *payload.Release) v1.Hash {
	if r.ListDigest != (v1.Hash{}) {
		return r.ListDigest
	}
	return r.Digest
}

// gates are those of the definition; nil without one.
func (c *common) gates() ([]stream.Gate, error) {
	if c.stream == "" {
		return nil, nil
	}
	def, err := walk.Definition(c.stream)
	if err != nil {
		return nil, err
	}
	return def.Gates, nil
}

// gate is one of the definition's, or without a definition one that blocks.
func (c *common) gate(name string) (stream.Gate, error) {
	gates, err := c.gates()
	if err != nil || c.stream == "" {
		return stream.Gate{Name: name}, err
	}
	i := slices.IndexFunc(gates, func(g stream.Gate) bool { return g.Name == name })
	if i < 0 {
		var names []string
		for _, g := range gates {
			names = append(names, g.Name)
		}
		return stream.Gate{}, ui.Usagef("stream %s has no gate %s, but %s", c.stream, name, strings.Join(names, ", "))
	}
	return gates[i], nil
}

func (c *common) record() *cobra.Command {
	var by, reason, expires string
	cmd := leaf("record NAME=STATE...", "Record results that are known elsewhere, or that a person answers for", `

STATE is passed, failed, pending or waived. With --by it is a person's decision,
which needs --reason and --expires; waived is always one.`, 1, func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		clock, err := c.clock()
		if err != nil {
			return err
		}
		now := clock().UTC()
		r := gate.Result{Reason: reason, At: now, By: by}
		if expires != "" {
			if r.Expires, err = until(expires, now); err != nil {
				return err
			}
		}
		var names, states []string
		for _, text := range args {
			gateName, state, ok := strings.Cut(text, "=")
			if !ok {
				return ui.Usagef("%q: want NAME=STATE", text)
			}
			if _, err := c.gate(gateName); err != nil {
				return err
			}
			names, states = append(names, gateName), append(states, state)
		}
		if r.Subject, err = c.subject(ctx); err != nil {
			return err
		}
		var results []gate.Result
		for i := range names {
			one := r
			one.Gate, one.State = names[i], gate.State(states[i])
			results = append(results, one)
		}
		book, err := c.book(ctx)
		if err != nil {
			return err
		}
		if err := book.Record(ctx, results...); errors.Is(err, gate.ErrInvalid) {
			return ui.Next(&ui.UsageError{Err: err}, "a result is NAME=passed or NAME=failed; NAME=waived needs --by, --reason and --expires")
		} else if err != nil {
			return err
		}
		return printResults(cmd, results)
	})
	cmd.Flags().StringVar(&by, "by", "", "`NAME` of the person who decides")
	cmd.Flags().StringVar(&reason, "reason", "", "`SENTENCE` that says why")
	cmd.Flags().StringVar(&expires, "expires", "", "when the decision ends: `TIME` as 2006-01-02T15:04:05Z, a day as 2006-01-02, or after so many hours, as 72h")
	return cmd
}

// until reads when a decision ends.
func until(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(d), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, ui.Usagef("--expires %q: want 2006-01-02T15:04:05Z, 2006-01-02 or 72h", text)
}

func (c *common) show() *cobra.Command {
	var all bool
	cmd := leaf("show", "Say what the gates of a release say, and whether it may be announced", `

With --stream the verdict is that on the definition's gates: exit code 1 unless all
that block passed or are waived; in a Prow job each gate is a case.
Without, all results are shown.`, 0, func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		clock, err := c.clock()
		if err != nil {
			return err
		}
		gates, err := c.gates()
		if err != nil {
			return err
		}
		book, err := c.book(ctx)
		if err != nil {
			return err
		}
		s, err := c.subject(ctx)
		if err != nil {
			return err
		}
		results, err := book.Results(ctx, s.Digest)
		if err != nil {
			return err
		}
		if c.stream == "" || all {
			return printResults(cmd, results)
		}
		v := gate.Evaluate(gates, s, results, clock(), nil)
		setResults(ctx, v)
		err = ui.Print(cmd, v, func(w io.Writer) error { return printVerdict(w, v) })
		ui.AddCases(ctx, v.JUnit().Cases...)
		return errors.Join(err, ui.Next(v.Err(), "okd-streams gate run runs gates, gate record says what another found"))
	})
	cmd.Flags().BoolVar(&all, "all", false, "show every result that was recorded")
	return cmd
}

// setResults leaves a verdict for a pipeline.
func setResults(ctx context.Context, v *gate.Verdict) {
	by := map[gate.State][]string{}
	for _, s := range v.Gates {
		by[s.State] = append(by[s.State], s.Gate)
	}
	ui.SetResult(ctx, "state", v.State)
	ui.SetResult(ctx, "pending", by[gate.Pending])
	ui.SetResult(ctx, "failed", by[gate.Failed])
}

func printVerdict(w io.Writer, v *gate.Verdict) error {
	if _, err := fmt.Fprintf(w, "%s %s: %s\n", v.Subject.Release, v.Subject.Digest, v.State); err != nil {
		return err
	}
	var rows [][]string
	for _, s := range v.Gates {
		kind := "blocks"
		if !s.Blocking {
			kind = "informs"
		}
		rows = append(rows, []string{"  " + s.Gate, kind, string(s.State), oneLine(s.Reason)})
	}
	if err := ui.Table(w, rows); err != nil {
		return err
	}
	for _, n := range v.Notes {
		if _, err := fmt.Fprintf(w, "  note: %s\n", oneLine(n)); err != nil {
			return err
		}
	}
	return nil
}

func printResults(cmd *cobra.Command, results []gate.Result) error {
	var rows [][]string
	for _, r := range results {
		who := r.Reason
		if r.By != "" {
			who = fmt.Sprintf("%s: %s (until %s)", r.By, r.Reason, r.Expires.UTC().Format(time.RFC3339))
		}
		rows = append(rows, []string{r.At.UTC().Format(time.RFC3339), r.Gate, string(r.State), oneLine(who)})
	}
	return ui.Print(cmd, results, ui.Rows(rows))
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
