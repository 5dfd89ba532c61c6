// Command release makes releases of accepted payloads, without a network and
// without a cluster:
//
//	go run ./examples/release -registry dir:FOLDER -key secret.asc -public public.asc
//
// For each payload that is tagged in the folder of OCI layouts, oldest first, it
// assembles a release under the next name of the stream, signs it, checks its
// gates and publishes it in the folder. Notes, signatures, results of gates, the
// update graph as clusters read it, its picture and a page go into the folder -to.
// Without -registry it makes two small payloads and a key.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/examples/internal/sample"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
	"github.com/okd-project/okd-streams/publish/promotion"
	"github.com/okd-project/okd-streams/publish/status"
	"github.com/okd-project/okd-streams/stream"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := ui.Exit(os.Stderr, "release", run(ctx, os.Args[1:], os.Stdout, os.Stderr))
	stop()
	os.Exit(code)
}

// gates are those of every release here.
var gates = []stream.Gate{{Name: "payload", Kind: stream.GatePayload}, {Name: "signed", Kind: stream.GateExternal}}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.SetOutput(stderr)
	to := flags.String("to", "release", "folder for notes, signatures, graph and pages")
	from := flags.String("registry", "", "dir:PATH with the payloads, which gets the releases (default: two small payloads in -to)")
	payloads := flags.String("payloads", "localhost/okd/payload", "repository whose tags are accepted payloads")
	key := flags.String("key", "", "file with the secret OpenPGP key (required with -registry)")
	public := flags.String("public", "", "file with its public part")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return &ui.UsageError{Err: err}
	}
	source, err := name.NewRepository(*payloads)
	if err != nil {
		return &ui.UsageError{Err: err}
	}
	target := source.Registry.Repo("okd", "release")
	now := time.Now().UTC().Truncate(time.Second)
	small := *from == ""
	if small {
		*from = "dir:" + filepath.Join(*to, "registry")
	}
	registry, err := open.Registry(ctx, *from, nil)
	if err != nil {
		return err
	}
	store, err := open.Store(ctx, "dir:"+*to, nil)
	if err != nil {
		return err
	}
	secret, keys, err := inputs(ctx, small, registry, source, now, *key, *public)
	if err != nil {
		return err
	}
	clock := func() time.Time { return now }
	book := gate.Book{Store: store}
	checks := map[string]gate.Check{
		"payload": gate.Payload(registry, target),
		"signed": gate.Signed(target, &payload.Policy{Keyrings: map[string]*payload.Keyring{"okd": keys}, Stores: []payload.SignatureStore{
			payload.FileSignatures(os.DirFS(filepath.Join(*to, "signatures"))),
		}}, clock),
	}
	env := &promotion.Env{
		Store: store, Prefix: "releases/", SignaturePrefix: "signatures/", Registry: registry, Keys: keys, Now: clock,
		Signer: func(at time.Time) (payload.Signer, error) {
			return pgpsigner.ParseSigner(secret, func() time.Time { return at }, &pgpsigner.SignerOptions{Form: pgpsigner.Packed})
		},
		Gate: func(ctx context.Context, r *promotion.Release, which string) (publish.GateResult, error) {
			ref, err := name.NewDigest(r.Pullspec)
			if err != nil {
				return "", err
			}
			subject := gate.Subject{Release: r.Version, Digest: ref.DigestStr()}
			result, err := gate.Run(ctx, stream.Gate{Name: which}, subject, checks[which], clock, nil)
			if err == nil {
				err = book.Record(ctx, result)
			}
			if err != nil {
				return "", err
			}
			return gate.Evaluate(gates, subject, []gate.Result{result}, now, nil).Gate(ctx, which)
		},
	}
	settings := &promotion.Settings{
		Stream: "stable", Scheme: stream.SchemeSCOS, Release: target.Name(), Content: target.Name() + "-content", Tags: []stream.Template{"latest", "${MINOR}"},
		Gates: []string{"payload", "signed"}, NoTools: true, Graph: "graph.json", Channels: []stream.Template{"stable-${MINOR}"}, Edges: stream.Previous,
	}
	var accepted []string
	for tag, err := range registry.Tags(ctx, source) {
		if err != nil {
			return err
		}
		accepted = append(accepted, tag)
	}
	if len(accepted) == 0 {
		return fmt.Errorf("no payload is tagged in %s of %s", source, *from)
	}
	slices.SortFunc(accepted, graph.Compare)
	history := status.History{Stream: "stable", Title: "Releases"}
	for _, version := range accepted {
		r, err := promotion.Promote(ctx, env, settings, &promotion.Options{Source: source.Tag(version), By: "examples/release"})
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%s of %s: %s\n", r.Version, version, r.Pullspec)
		history.Published = append(history.Published, status.Published{Version: r.Version, At: r.Created})
	}
	if err := history.AddRecorded(ctx, book, now, &status.RecordedOptions{Gates: gates, Belongs: func(string) bool { return true }}); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "notes, signatures, graph and pages are in %s\n", *to)
	return pages(ctx, store, status.New([]status.History{history}, now, nil))
}

// inputs reads the key or, for small payloads, makes both.
func inputs(ctx context.Context, small bool, registry publish.Registry, repo name.Repository, now time.Time, key, public string) (secret []byte, keys *payload.Keyring, err error) {
	var ring []byte
	if small && key == "" {
		secret, ring, err = sample.Key()
	} else if secret, err = os.ReadFile(key); err == nil {
		ring, err = os.ReadFile(public)
	}
	if err != nil {
		return nil, nil, err
	}
	for day := 2; small && day > 0; day-- {
		at := now.AddDate(0, 0, -day).Truncate(24 * time.Hour)
		if _, err := sample.Release(ctx, registry, repo, "4.22.0-0.okd-scos-"+at.Format("2006-01-02-150405"), at); err != nil {
			return nil, nil, err
		}
	}
	keys, err = pgpsigner.ParseKeyring(ring)
	return secret, keys, err
}

// pages writes what people and clusters look at.
func pages(ctx context.Context, store publish.Store, report *status.Report) error {
	data, _, err := publish.ReadDocument(ctx, store, "graph.json")
	if err != nil {
		return err
	}
	g, err := graph.Decode(bytes.NewReader(data))
	if err != nil {
		return err
	}
	files := map[string]*bytes.Buffer{"index.html": {}, "graph.svg": {}}
	if err := errors.Join(report.WriteHTML(files["index.html"]), g.WriteSVG(files["graph.svg"], &graph.SVGOptions{Title: "Updates"})); err != nil {
		return err
	}
	for f, err := range g.Files() {
		if err != nil {
			return err
		}
		files["graph/"+f.Path] = bytes.NewBuffer(f.Data)
	}
	for key, b := range files {
		if _, err := store.Put(ctx, key, publish.BytesSource(b.Bytes()), nil); err != nil {
			return err
		}
	}
	return nil
}
