package gatecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/linkcheck"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
	"github.com/okd-project/okd-streams/publish/prow"
)

// runFlags say how a gate is checked.
type runFlags struct {
	kola, osVersion, prowJob, http, controller, controllerStream, job, payload, graph, channel, signed, regression, since string
	junit, promoted, links, keys, signatures                                                                              []string
	private                                                                                                               bool
}

func (c *common) run() *cobra.Command {
	f := &runFlags{}
	cmd := leaf("run NAME {--KIND ... | -- COMMAND ARGUMENTS...}", "Check a gate, and record what was found", `

A command passes with exit code 0, is pending with 75, and failed with any other;
it finds RELEASE and DIGEST in its environment. Exit code 1 unless the gate passed.`, 1, func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		if dash := cmd.ArgsLenAtDash(); dash != 1 && len(args) > 1 {
			return ui.WrongArguments(cmd, args)
		}
		g, err := c.gate(args[0])
		if err != nil {
			return err
		}
		clock, err := c.clock()
		if err != nil {
			return err
		}
		opts := &gate.RunOptions{}
		if f.since != "" {
			if opts.Since, err = until(f.since, clock()); err != nil {
				return err
			}
		}
		book, err := c.book(ctx)
		if err != nil {
			return err
		}
		check, err := c.check(cmd, f, args[1:])
		if err != nil {
			return err
		}
		s, err := c.subject(ctx)
		if err != nil {
			return err
		}
		r, err := gate.Run(ctx, g, s, check, clock, opts)
		ui.SetResult(ctx, "gate", r.Gate)
		ui.SetResult(ctx, "state", r.State)
		ui.SetResult(ctx, "reason", r.Reason)
		c := prow.Case{Suite: "gates of " + s.Release, Name: g.Name}
		if r.State != gate.Passed && r.State != gate.Waived {
			c.Failure = string(r.State) + ": " + r.Reason
		}
		ui.AddCases(ctx, c)
		if r.Gate != "" { // pending, where it could not be found out
			err = errors.Join(err, book.Record(context.WithoutCancel(ctx), r), printResults(cmd, []gate.Result{r}))
		}
		if err == nil && r.State != gate.Passed {
			err = fmt.Errorf("gate %s: %s", r.Gate, r.State)
		}
		return err
	})
	set := cmd.Flags()
	set.StringVar(&f.kola, "kola", "", "`REPORT` of kola: file or URL of report.json")
	set.StringVar(&f.osVersion, "os-version", "", "`VERSION` of the operating system that kola must have tested")
	set.StringArrayVar(&f.junit, "junit", nil, "`RESULTS` of tests: file or URL of JUnit XML; may be repeated")
	set.StringVar(&f.prowJob, "prow-job", "", "`FOLDER` or URL with a Prow job's finished.json and prowjob.json")
	set.StringVar(&f.http, "http", "", "`URL` of a service that answers with digest, state and reason as JSON; {digest} and {release} in it stand for the release's")
	set.StringVar(&f.controller, "controller", "", "`URL` of a release controller, with --controller-stream and, for one job of it, --job")
	set.StringVar(&f.controllerStream, "controller-stream", "", "`STREAM` of the release controller")
	set.StringVar(&f.job, "job", "", "`JOB` of the release controller (default: whether it accepted the release)")
	set.StringVar(&f.graph, "graph", "", "`GRAPH` in which the release must be reachable from --promoted: file or URL")
	set.StringVar(&f.channel, "channel", "", "`CHANNEL` of the graph")
	set.StringSliceVar(&f.promoted, "promoted", nil, "`VERSIONS` that were promoted")
	set.StringArrayVar(&f.links, "links", nil, "`DOCUMENT` whose links must lead where they should: URL; may be repeated")
	set.BoolVar(&f.private, "allow-private", false, "links may lead into this machine and its network")
	set.StringVar(&f.payload, "payload", "", "`REPOSITORY`, read from --from, in which the release must read back, its manifests without fault")
	set.StringVar(&f.signed, "signed", "", "`REPOSITORY` in which the release must be signed by every --key, by a signature in one of --signatures")
	set.StringArrayVar(&f.keys, "key", nil, "`FILE` of OpenPGP keys; may be repeated")
	set.StringArrayVar(&f.signatures, "signatures", nil, "signature store: `FOLDER` or URL; may be repeated")
	set.StringVar(&f.regression, "regression", "", "`PULLSPEC` of the release before: no package of the node image that matters may be gone or older")
	set.StringVar(&f.since, "since", "", "`TIME` at which the release was made: evidence that ended earlier does not count")
	return cmd
}

// check makes the one check that the flags name.
func (c *common) check(cmd *cobra.Command, f *runFlags, command []string) (gate.Check, error) {
	kinds := map[string]func() (gate.Check, error){}
	add := func(kind string, given bool, check func() (gate.Check, error)) {
		if given {
			kinds[kind] = check
		}
	}
	plain := func(check gate.Check) func() (gate.Check, error) {
		return func() (gate.Check, error) { return check, nil }
	}
	add("a command", len(command) > 0, plain(execute(command, cmd.ErrOrStderr())))
	add("--kola", f.kola != "", plain(gate.Kola(source(f.kola), f.osVersion)))
	add("--junit", len(f.junit) > 0, plain(gate.JUnit(sources(f.junit)...)))
	add("--prow-job", f.prowJob != "", plain(gate.ProwJob(source(within(f.prowJob, "finished.json")), source(within(f.prowJob, "prowjob.json")))))
	add("--http", f.http != "", plain(gate.HTTP(f.http, nil)))
	add("--controller", f.controller != "", func() (gate.Check, error) { return c.asked(f) })
	add("--graph", f.graph != "", plain(gate.Reachable(func(ctx context.Context) (*graph.Graph, error) { return openGraph(ctx, f) }, f.promoted, nil)))
	add("--links", len(f.links) > 0, func() (gate.Check, error) {
		for _, address := range f.links {
			if !isURL(address) {
				return nil, ui.Usagef("--links %s: want a URL", address)
			}
		}
		return gate.Links(func(ctx context.Context, _ gate.Subject) ([]linkcheck.Document, error) {
			return documents(ctx, f.links)
		}, &linkcheck.Options{AllowPrivate: f.private}), nil
	})
	add("--payload", f.payload != "", func() (gate.Check, error) {
		repo, err := name.NewRepository(f.payload)
		if err != nil {
			return nil, ui.Usagef("--payload: %w", err)
		}
		images, err := c.images(cmd.Context())
		return gate.Payload(images, repo), err
	})
	add("--signed", f.signed != "", func() (gate.Check, error) { return c.signed(f) })
	add("--regression", f.regression != "", func() (gate.Check, error) {
		if c.image == "" {
			return nil, ui.Usagef("--regression needs --image")
		}
		return gate.Regression(func(ctx context.Context, _ gate.Subject) (gate.Comparison, error) { return c.compare(ctx, f) }), nil
	})
	if len(kinds) != 1 {
		given := slices.Sorted(maps.Keys(kinds))
		if len(given) == 0 {
			given = []string{"none"}
		}
		return nil, ui.Usagef("a gate is checked in one way, not %s: give one of --kola, --junit, --prow-job, --http, --controller, --graph, --links, --payload, --signed, --regression, or -- COMMAND", strings.Join(given, ", "))
	}
	for _, check := range kinds {
		return check()
	}
	return nil, nil
}

func isURL(text string) bool {
	return strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://")
}

// source is a file or URL.
func source(text string) gate.Source {
	if isURL(text) {
		return gate.URL(text, nil)
	}
	s := gate.File(os.DirFS(filepath.Dir(text)), filepath.Base(text))
	s.Name = text
	return s
}

func sources(texts []string) (out []gate.Source) {
	for _, t := range texts {
		out = append(out, source(t))
	}
	return out
}

// within is a file of a folder or URL.
func within(folder, file string) string {
	if isURL(folder) {
		return strings.TrimSuffix(folder, "/") + "/" + file
	}
	return filepath.Join(folder, file)
}

// execute runs a command, whose output goes to stderr too.
func execute(command []string, stderr io.Writer) gate.Check {
	return gate.Command(func(ctx context.Context, s gate.Subject, output io.Writer) (int, error) {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Env = append(os.Environ(), "RELEASE="+s.Release, "DIGEST="+s.Digest)
		out := io.MultiWriter(output, stderr)
		cmd.Stdout, cmd.Stderr = out, out
		err := cmd.Run()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
			return exit.ExitCode(), nil
		}
		return 0, err
	})
}

// asked asks a release controller. Which image it means is looked up.
func (c *common) asked(f *runFlags) (gate.Check, error) {
	if f.controllerStream == "" {
		return nil, ui.Usagef("--controller needs --controller-stream")
	}
	client, err := controller.NewClient(f.controller, nil)
	if err != nil {
		return nil, &ui.UsageError{Err: err}
	}
	return gate.Controller(client, f.controllerStream, f.job, func(ctx context.Context, pullSpec string) (string, error) {
		r, err := c.payload(ctx, pullSpec)
		if err != nil {
			return "", err
		}
		return imageDigest(r).String(), nil
	}), nil
}

func openGraph(ctx context.Context, f *runFlags) (*graph.Graph, error) {
	if isURL(f.graph) {
		client, err := graph.NewClient(f.graph, nil)
		if err != nil {
			return nil, err
		}
		return client.Graph(ctx, graph.Query{Channel: f.channel})
	}
	file, err := os.Open(f.graph)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	g, err := graph.Decode(file)
	if err != nil || f.channel == "" {
		return g, err
	}
	return g.Select(f.channel, "")
}

// documents reads what is at addresses.
func documents(ctx context.Context, addresses []string) ([]linkcheck.Document, error) {
	var docs []linkcheck.Document
	for _, address := range addresses {
		s := gate.URL(address, nil)
		body, err := s.Open(ctx)
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(body, maxDocumentSize+1))
		_ = body.Close()
		if err == nil && len(data) > maxDocumentSize {
			err = fmt.Errorf("more than %d bytes", maxDocumentSize)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		docs = append(docs, linkcheck.Document{Name: s.Name, URL: address, Data: data})
	}
	return docs, nil
}

// maxDocumentSize bounds a document whose links are followed, bytes.
const maxDocumentSize = 32 << 20

func (c *common) signed(f *runFlags) (gate.Check, error) {
	if len(f.keys) == 0 || len(f.signatures) == 0 {
		return nil, ui.Usagef("--signed needs --key and --signatures")
	}
	repo, err := name.NewRepository(f.signed)
	if err != nil {
		return nil, ui.Usagef("--signed: %w", err)
	}
	clock, err := c.clock()
	if err != nil {
		return nil, err
	}
	policy := &payload.Policy{Keyrings: map[string]*payload.Keyring{}}
	for _, file := range f.keys {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if policy.Keyrings[file], err = pgpsigner.ParseKeyring(data); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	for _, where := range f.signatures {
		store := payload.FileSignatures(os.DirFS(where))
		if isURL(where) {
			if store, err = payload.HTTPSignatures(where, nil); err != nil {
				return nil, &ui.UsageError{Err: err}
			}
		}
		policy.Stores = append(policy.Stores, store)
	}
	return gate.Signed(repo, policy, clock), nil
}

// compare compares the packages of the release's node image with those of the
// release before.
func (c *common) compare(ctx context.Context, f *runFlags) (gate.Comparison, error) {
	images, err := c.images(ctx)
	if err != nil {
		return nil, err
	}
	var lists [2][]ostree.Package
	for i, pullSpec := range []string{f.regression, c.image} {
		r, err := c.payload(ctx, pullSpec)
		if err != nil {
			return nil, err
		}
		packages, err := r.Packages(ctx, images, nil)
		if err != nil {
			return nil, err
		}
		for _, p := range packages {
			lists[i] = append(lists[i], ostree.Package(p))
		}
	}
	return container.CheckRegression(lists[0], lists[1], nil), nil
}
