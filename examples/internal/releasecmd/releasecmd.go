// Package releasecmd is the command `okd-streams release`: accepted payloads are
// promoted to releases and announced.
package releasecmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/prowcmd"
	"github.com/okd-project/okd-streams/examples/internal/remote"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/promotion"
	"github.com/okd-project/okd-streams/publish/prow"
)

const about = `Promote accepted payloads to releases.

A promotion reserves a name, assembles the release under it, mirrors and signs
it, extracts the client tools, writes the notes, waits for the gates, and only
then announces it and moves tags and channels. It may be stopped anywhere: its
journal is in --store, and promote or resume goes on, on any machine.

In place of okd-release-pipeline: its parameters are flags of the same names, or
--param NAME=VALUE.`

// common is what the commands share.
type common struct {
	stream, store, prefix, registry, repository, state, secrets, at string
	quiet                                                           bool
	remote                                                          remote.Flags
	params                                                          []string
	pipeline                                                        parameters

	flow, graph, results                         string
	key, passphrase, signatures, signaturePrefix string
	cosignKey, cosignPassphrase                  string
	cosignPublicKeys                             []string
	publicKeys, trustKeys, trustStores, gates    []string
	unsigned, noTools, compatible, tagForGates   bool
	os                                           []string
	clones, githubToken, githubAPI               string
	oc, namespace                                string
	cluster                                      prowcmd.Cluster
	noImageStream                                bool
}

// Command gives the command with those below it.
func Command() *cobra.Command {
	c := &common{}
	root := &cobra.Command{
		Use: "release", Short: "Promote accepted payloads to releases", Long: about, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return ui.Usagef("unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	set := root.PersistentFlags()
	set.StringVar(&c.stream, "stream", "", "`STREAM`: the name of a built-in one, or a definition's file (default: by --target-release-stream)")
	set.StringVar(&c.store, "store", "", "`STORE` with the register of names and the journals: dir:PATH or s3://BUCKET (required)")
	set.StringVar(&c.prefix, "prefix", "promotions/", "`PREFIX` of what is kept in it")
	set.StringVar(&c.registry, "registry", "docker://", "where images are: docker:// or dir:PATH")
	set.StringVar(&c.repository, "repository", "", "`REPOSITORY` that the definition's image names are below, in place of its own")
	set.StringVar(&c.state, "state", "", "`FOLDER` for files on their way (default: in the user's cache)")
	set.StringVar(&c.secrets, "secrets", "", "`FOLDER` with the definition's secrets, a folder each")
	set.StringVar(&c.at, "now", "", "`TIME` that is now, as 2006-01-02T15:04:05Z (default: the clock)")
	ui.AddOutput(set)
	ui.AddJSON(set)
	set.BoolVar(&c.quiet, "quiet", false, "no progress")
	set.StringVar(&c.graph, "graph", "", "`KEY` of an update graph in the store that gets the release (default: none)")
	set.StringVar(&c.signatures, "signatures", "", "`STORE` that signatures go to (default: --store)")
	set.StringVar(&c.signaturePrefix, "signature-prefix", "signatures/openshift/release/", "`PREFIX` of signatures in it")
	set.StringArrayVar(&c.publicKeys, "public-key", nil, "`FILE` of public OpenPGP keys by which clusters judge the release; may be repeated")
	set.StringVar(&c.githubToken, "github-token-file", "", "`FILE` with a token for GitHub (default: the definition's credentials, GITHUB_TOKEN, GH_TOKEN)")
	set.StringVar(&c.githubAPI, "github-api", "", "`URL` of GitHub's API; of an Enterprise server https://HOST/api/v3")
	set.StringVar(&c.oc, "oc", "oc", "`PROGRAM` that tags image streams, without --api-server")
	c.cluster.Add(set)
	set.StringVar(&c.namespace, "namespace", "", "`NAMESPACE` of the image stream (default: the definition's)")
	set.BoolVar(&c.noImageStream, "no-image-stream", false, "tag no image stream")
	set.BoolVar(&c.unsigned, "unsigned", false, "do not sign the release")
	set.BoolVar(&c.noTools, "no-tools", false, "extract no client tools")
	set.StringArrayVar(&c.os, "os", nil, "operating `SYSTEM[/ARCHITECTURE]` that client tools are extracted for (linux, mac, windows; default: all); may be repeated")
	set.BoolVar(&c.compatible, "compatible", false, "assemble as oc does, without the strict checks")
	set.BoolVar(&c.tagForGates, "tag-for-gates", false, "tag the image stream before the gates, for those that are jobs of its release controller")
	c.remote.Add(set)
	c.pipeline.add(set)
	set.StringArrayVar(&c.params, "param", nil, "`NAME=VALUE` of okd-release-pipeline; may be repeated")
	root.AddCommand(c.promote(), c.resume(), c.abort(), c.shadow(), c.due(), c.list(), c.show())
	return root
}

// leaf makes a command with so many arguments.
func leaf(use, short, long string, arguments int, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: short + "." + long,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != arguments {
				return ui.WrongArguments(cmd, args)
			}
			return nil
		},
		RunE: run,
	}
}

// working are the flags of commands that do the work.
func (c *common) working(cmd *cobra.Command) *cobra.Command {
	set := cmd.Flags()
	set.StringVar(&c.key, "key", "", "`FILE` with the secret OpenPGP key, as gpg --export-secret-keys writes it (default: the definition's)")
	set.StringVar(&c.passphrase, "passphrase-file", "", "`FILE` with its passphrase")
	set.StringVar(&c.cosignKey, "cosign-key", "", "`FILE` with a private key of cosign's, which signs the images too")
	set.StringVar(&c.cosignPassphrase, "cosign-passphrase-file", "", "`FILE` with its passphrase")
	set.StringArrayVar(&c.cosignPublicKeys, "cosign-public-key", nil, "`FILE` with a public key that these signatures are judged by (default: the one of --cosign-key); may be repeated")
	set.StringArrayVar(&c.trustKeys, "trust-key", nil, "`FILE` of public OpenPGP keys that must have signed the payload; may be repeated")
	set.StringArrayVar(&c.trustStores, "trust-store", nil, "`URL` of a store with the payload's signatures (default: the definition's); may be repeated")
	set.StringArrayVar(&c.gates, "gate", nil, "result of a gate, as `NAME=passed|failed`; may be repeated")
	set.StringVar(&c.results, "results", "", "`STORE` with results of gates, as okd-streams gate keeps them (default: --store)")
	set.StringVar(&c.clones, "clones", "", "`FOLDER` with clones of the components' repositories, for the change log (default: no pull requests)")
	return cmd
}

func (c *common) promote() *cobra.Command {
	o := &promotion.Options{}
	var source string
	cmd := c.working(leaf("promote", "Promote the newest accepted payload, or go on with the promotion that is open", `

Payloads are those of --release-stream at --release-controller, or of --flow in the
store; --source names one. A gate without a result ends the run with an error that
names it: run it again when there is one. Results for the payload count for the
release, but those of upgrades and external ones.`, 0, func(cmd *cobra.Command, _ []string) error {
		if source != "" {
			ref, err := name.ParseReference(source, name.StrictValidation)
			if err != nil {
				return ui.Usagef("--source: %w", err)
			}
			o.Source = ref
		}
		if o.By == "" {
			host, err := os.Hostname()
			if err != nil {
				return err
			}
			o.By = host
		}
		return c.run(cmd, true, func(r *run) error {
			out, err := promotion.Promote(cmd.Context(), r.env, r.settings, o)
			return c.ended(cmd, r, out, err)
		})
	}))
	cmd.Flags().StringVar(&source, "source", "", "`PULLSPEC` of the payload")
	cmd.Flags().StringVar(&o.Version, "version", "", "`VERSION` that the release is called (default: the next one)")
	cmd.Flags().StringVar(&o.By, "by", "", "`NAME` of who promotes (default: this machine)")
	cmd.Flags().StringVar(&c.flow, "flow", "", "`KEY` in the store of a stream without a release controller")
	return cmd
}

func (c *common) resume() *cobra.Command {
	return c.working(leaf("resume VERSION", "Go on with a promotion, with the settings that it was begun with", "", 1, func(cmd *cobra.Command, args []string) error {
		return c.run(cmd, true, func(r *run) error {
			out, err := promotion.Resume(cmd.Context(), r.env, r.settings.Stream, args[0])
			return c.ended(cmd, r, out, err)
		})
	}))
}

// ended prints how far a promotion is.
func (c *common) ended(cmd *cobra.Command, r *run, out *promotion.Result, err error) error {
	r.progress.Done()
	if out != nil {
		setResults(cmd, out)
		err = errors.Join(err, cases(cmd, r, out, err))
		if printErr := ui.Print(cmd, out, func(w io.Writer) error {
			rows := [][]string{{"release", out.Version}, {"state", string(out.State)}, {"source", out.SourceVersion + "  " + out.Source}}
			if out.Pullspec != "" {
				rows = append(rows, []string{"image", out.Pullspec}, []string{"previous", strings.Join(out.Previous, " ")})
			}
			if out.Unchanged {
				rows = append(rows, []string{"", "nothing to do: the newest payload was promoted before"})
			}
			return ui.Table(w, rows)
		}); printErr != nil {
			return errors.Join(err, printErr)
		}
	}
	again := "okd-streams release resume " + r.settings.Stream
	if out != nil {
		again = "okd-streams release resume " + out.Version
	}
	switch {
	case errors.Is(err, publish.ErrPending):
		return ui.Next(err, "run this, or "+again+", when the gates have results")
	case errors.Is(err, publish.ErrGate):
		return ui.Next(err, "when it passed after all: "+again+"; else: okd-streams release abort "+out.Version+" --by NAME --reason TEXT")
	}
	return err
}

// setResults leaves what a pipeline goes on with.
func setResults(cmd *cobra.Command, out *promotion.Result) {
	set := func(name string, value any) { ui.SetResult(cmd.Context(), name, value) }
	set("changed", !out.Unchanged)
	set("state", out.State)
	set("release-name", out.SourceVersion)
	set("release-pullspec", out.Source)
	_, digest, _ := strings.Cut(out.Source, "@")
	set("release-digest", digest)
	set("target-release-name", out.Version)
	set("mirrored-pullspec", out.Pullspec)
	_, digest, _ = strings.Cut(out.Pullspec, "@")
	set("mirrored-digest", digest)
	set("previous", out.Previous)
}

// cases has a Prow job keep the steps that are done and the gates that are not.
func cases(cmd *cobra.Command, r *run, out *promotion.Result, failed error) error {
	if out.Unchanged || !ui.InJob(cmd.Context()) {
		return nil
	}
	journal, err := promotion.JournalOf(cmd.Context(), r.env, r.settings.Stream, out.Version)
	if err != nil {
		return err
	}
	for _, s := range journal.Steps {
		ui.AddCases(cmd.Context(), prow.Case{Name: s.Name})
	}
	ui.AddCases(cmd.Context(), walk.Gates(failed)...)
	return nil
}

func (c *common) abort() *cobra.Command {
	var by, reason string
	cmd := leaf("abort VERSION", "Take a promotion back, as long as no tag was moved", `

Its name stays reserved and is not used again. Images stay, by digest.`, 1, func(cmd *cobra.Command, args []string) error {
		if by == "" || reason == "" {
			return ui.Usagef("who aborts it, and why? give --by NAME and --reason TEXT")
		}
		return c.run(cmd, false, func(r *run) error {
			if err := promotion.Abort(cmd.Context(), r.env, r.settings.Stream, args[0], by, reason); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is aborted\n", args[0])
			return err
		})
	})
	cmd.Flags().StringVar(&by, "by", "", "`NAME` of who aborts it")
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` that says why")
	return cmd
}

func (c *common) list() *cobra.Command {
	return leaf("list", "List the names that were reserved, oldest first", "", 0, func(cmd *cobra.Command, _ []string) error {
		return c.run(cmd, false, func(r *run) error {
			all, err := promotion.Reservations(cmd.Context(), r.env, r.settings.Stream)
			if err != nil {
				return err
			}
			return ui.Print(cmd, all, func(w io.Writer) error {
				var rows [][]string
				for _, v := range all {
					rows = append(rows, []string{v.Name, string(v.State), v.At.Format(time.RFC3339), v.By, v.SourceVersion, v.Reason})
				}
				return ui.Table(w, rows)
			})
		})
	})
}

func (c *common) show() *cobra.Command {
	return leaf("show VERSION", "Show the journal of a promotion: how far it is, and what each step noted", "", 1, func(cmd *cobra.Command, args []string) error {
		return c.run(cmd, false, func(r *run) error {
			j, err := promotion.JournalOf(cmd.Context(), r.env, r.settings.Stream, args[0])
			if err != nil {
				return err
			}
			return ui.Print(cmd, j, func(w io.Writer) error {
				rows := [][]string{{"release", j.Name}, {"state", string(j.State)}}
				for _, s := range j.Steps {
					var noted bytes.Buffer
					if err := json.Compact(&noted, s.Output); err != nil {
						return err
					}
					rows = append(rows, []string{s.Name, s.At.Format(time.RFC3339), fmt.Sprintf("%.100s", noted.String())})
				}
				return ui.Table(w, rows)
			})
		})
	})
}

// errNotDue ends due --exit-code.
var errNotDue = errors.New("not due")

func (c *common) due() *cobra.Command {
	var code bool
	cmd := leaf("due", "Say whether the stream is to be promoted now, by its definition's cadence", "", 0, func(cmd *cobra.Command, _ []string) error {
		return c.run(cmd, false, func(r *run) error {
			s, err := promotion.Due(cmd.Context(), r.env, r.settings.Stream, r.def.Cadences.Promotion)
			if err != nil {
				return err
			}
			ui.SetResult(cmd.Context(), "due", s.Due)
			if !s.At.IsZero() {
				ui.SetResult(cmd.Context(), "at", s.At.Format(time.RFC3339))
			}
			if s.Open != nil {
				ui.SetResult(cmd.Context(), "target-release-name", s.Open.Name)
			}
			if err := ui.Print(cmd, s, func(w io.Writer) error { return ui.Table(w, dueRows(s)) }); err != nil {
				return err
			}
			if code && !s.Due {
				return ui.Next(errNotDue, "run it again later; without --exit-code it only says so")
			}
			return nil
		})
	})
	cmd.Flags().BoolVar(&code, "exit-code", false, "fail if it is not due")
	return cmd
}

func dueRows(s *promotion.Schedule) [][]string {
	var rows [][]string
	switch {
	case s.Open != nil:
		rows = append(rows, []string{"due", s.Open.Name + " is to be finished"})
	case s.Due:
		rows = append(rows, []string{"due", "since " + s.At.Format(time.RFC3339)})
	case s.At.IsZero():
		rows = append(rows, []string{"not due", "there is no schedule"})
	default:
		rows = append(rows, []string{"not due", "before " + s.At.Format(time.RFC3339)})
	}
	if !s.Last.IsZero() {
		rows = append(rows, []string{"last", s.Last.Format(time.RFC3339)})
	}
	return rows
}

// errDifferent ends shadow --exit-code.
var errDifferent = errors.New("the promotion is not as it would be made here")

func (c *common) shadow() *cobra.Command {
	o := &promotion.ShadowOptions{}
	var source, notes, write string
	var code bool
	cmd := leaf("shadow", "Replay the last real promotion without writing, and show the differences", `

What is compared: the name, the versions that lead to the release, its images,
manifests and metadata, tags, the signature, the graph and the notes.`, 0, func(cmd *cobra.Command, _ []string) error {
		if source != "" {
			ref, err := name.ParseReference(source, name.StrictValidation)
			if err != nil {
				return ui.Usagef("--source: %w", err)
			}
			o.Source = ref
		}
		if notes != "" {
			var err error
			if o.Notes, err = os.ReadFile(notes); err != nil {
				return err
			}
		}
		return c.run(cmd, false, func(r *run) error {
			out, err := promotion.Shadow(cmd.Context(), r.env, r.settings, o)
			if err != nil {
				return err
			}
			if write != "" {
				if err := ui.Output(cmd.OutOrStdout(), write, func(w io.Writer) error { _, err := w.Write(out.Notes); return err }); err != nil {
					return err
				}
			}
			if err := ui.Print(cmd, out, func(w io.Writer) error { return ui.Table(w, shadowRows(out)) }); err != nil {
				return err
			}
			if code && len(out.Differences) > 0 {
				return errDifferent
			}
			return nil
		})
	})
	set := cmd.Flags()
	set.StringVar(&o.Version, "version", "", "`VERSION` of the release (default: the newest)")
	set.StringVar(&source, "source", "", "`PULLSPEC` of the payload that it was made of (default: found)")
	set.StringVar(&c.flow, "flow", "", "`KEY` in the store of a stream without a release controller")
	set.StringVar(&notes, "notes", "", "`FILE` with the notes that were published")
	set.StringVar(&write, "write-notes", "", "`FILE` to write our notes to")
	set.StringVar(&c.clones, "clones", "", "`FOLDER` with clones of the components' repositories, for the change log")
	set.BoolVar(&code, "exit-code", false, "fail if there are differences")
	return cmd
}

func shadowRows(c *promotion.Comparison) [][]string {
	rows := [][]string{{"release", c.Version, c.Pullspec}, {"source", c.Source}}
	for _, s := range c.Same {
		rows = append(rows, []string{"same", string(s)})
	}
	for _, d := range c.Differences {
		text := d.What
		switch {
		case d.Published != "" && d.Ours != "":
			text += ": " + d.Published + ", would be " + d.Ours
		case d.Published != "":
			text += ": " + d.Published
		case d.Ours != "":
			text += ": would be " + d.Ours
		}
		rows = append(rows, []string{"different", string(d.Subject), text})
	}
	for _, u := range c.Unknown {
		rows = append(rows, []string{"not known", string(u.Subject), u.Why})
	}
	return rows
}
