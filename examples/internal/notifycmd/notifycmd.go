// Package notifycmd is the command `okd-streams notify`: people are told what
// happened to a stream.
package notifycmd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/secrets"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/publish/notify"
	"github.com/okd-project/okd-streams/stream"
)

type flags struct {
	stream, occasion, release, title, at, secrets string
	lines, links                                  []string
	timeout                                       time.Duration
	strict                                        bool
}

// Command gives the command.
func Command() *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "notify --stream STREAM --occasion OCCASION",
		Short: "Tell people what happened to a stream",
		Long: `Tell people what happened to a stream: those that its definition names for the
occasion, in a Matrix room, by Slack or by a webhook.

That somebody could not be told is said, and no failure: what they were to be told
of is done. --strict makes it one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	set := cmd.Flags()
	set.StringVar(&f.stream, "stream", "", "`STREAM`: the name of a built-in one, or a definition's file (required)")
	set.StringVar(&f.occasion, "occasion", "", "`OCCASION`: success, failure, promotion, stale (required)")
	set.StringVar(&f.release, "release", "", "`VERSION` that it is about")
	set.StringVar(&f.title, "title", "", "first line, in which ${STREAM} and ${VERSION} are filled in (default: by the occasion)")
	set.StringArrayVar(&f.lines, "line", nil, "`TEXT` of a further line; may be repeated")
	set.StringArrayVar(&f.links, "link", nil, "`NAME=URL` of a page about it; may be repeated")
	set.StringVar(&f.secrets, "secrets", "", "`FOLDER` with the definition's secrets, a folder each")
	set.StringVar(&f.at, "at", "", "`TIME` of what happened, as 2006-01-02T15:04:05Z (default: now)")
	set.DurationVar(&f.timeout, "timeout", notify.DefaultTimeout, "`TIME` that each is tried")
	set.BoolVar(&f.strict, "strict", false, "fail if somebody could not be told")
	ui.AddOutput(set)
	ui.AddJSON(set)
	return cmd
}

func (f *flags) run(cmd *cobra.Command) error {
	if f.stream == "" || f.occasion == "" {
		return ui.Usagef("give --stream STREAM and --occasion OCCASION")
	}
	def, err := walk.Definition(f.stream)
	if err != nil {
		return err
	}
	event := &notify.Event{Stream: def.Identity.Name, Release: f.release, Time: time.Now(), Lines: f.lines}
	if err := event.Occasion.UnmarshalText([]byte(f.occasion)); err != nil {
		return ui.Usagef("--occasion: %w", err)
	}
	if f.at != "" {
		if event.Time, err = time.Parse(time.RFC3339, f.at); err != nil {
			return ui.Usagef("--at: %w", err)
		}
	}
	if event.Title, err = stream.Template(f.title).Expand(stream.Vars{Stream: def.Identity.Name, Version: f.release}); err != nil {
		return ui.Usagef("--title: %w", err)
	}
	for _, link := range f.links {
		name, url, ok := strings.Cut(link, "=")
		if !ok {
			return ui.Usagef("--link %s: it is NAME=URL", link)
		}
		event.Links = append(event.Links, notify.Link{Name: name, URL: url})
	}
	results := notify.Send(cmd.Context(), def.Notifications, event, &notify.Options{
		Secret: secrets.From(os.Getenv, f.secrets), Timeout: f.timeout, Jitter: rand.Float64,
	})
	return f.report(cmd, results)
}

func (f *flags) report(cmd *cobra.Command, results []notify.Result) error {
	var failed []error
	rows := [][]string{}
	for _, r := range results {
		said := "told " + r.ID
		if r.Err != nil {
			said = "not told"
			failed = append(failed, r.Err)
		}
		rows = append(rows, []string{string(r.Kind), r.Target, strings.TrimSpace(said)})
	}
	err := ui.Print(cmd, append([]notify.Result{}, results...), ui.Rows(rows))
	if err != nil {
		return err
	}
	if len(results) == 0 {
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "nobody wants to know of %s\n", f.occasion)
		return err
	}
	if f.strict {
		return errors.Join(failed...)
	}
	for _, fault := range failed {
		if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "warning: %v\n", fault); err != nil {
			return err
		}
	}
	return nil
}
