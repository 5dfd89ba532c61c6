package releasecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/githubcmd"
	"github.com/okd-project/okd-streams/examples/internal/payloadcmd"
	"github.com/okd-project/okd-streams/examples/internal/secrets"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/cosignsigner"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/github"
	"github.com/okd-project/okd-streams/publish/notify"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
	"github.com/okd-project/okd-streams/publish/promotion"
	"github.com/okd-project/okd-streams/stream"
)

// run is one call of a command.
type run struct {
	def      *stream.Definition
	settings *promotion.Settings
	env      *promotion.Env
	progress *ui.Progress
	closers  []io.Closer
}

// run makes everything a command needs; signing is for those that sign.
func (c *common) run(cmd *cobra.Command, signing bool, fn func(*run) error) (err error) {
	r := &run{progress: ui.NewProgress(cmd.ErrOrStderr(), time.Now, c.quiet)}
	defer func() {
		r.progress.Done()
		for _, closer := range r.closers {
			err = errors.Join(err, closer.Close())
		}
	}()
	if err := c.setup(cmd.Context(), cmd, r, signing); err != nil {
		return err
	}
	err = fn(r)
	if errors.Is(err, publish.ErrSignature) || errors.Is(err, publish.ErrDigest) {
		return &ui.VerificationError{Err: err}
	}
	return err
}

func (c *common) setup(ctx context.Context, cmd *cobra.Command, r *run, signing bool) error {
	if err := c.setParams(cmd); err != nil {
		return err
	}
	which, err := c.definition()
	if err != nil {
		return &ui.UsageError{Err: err}
	}
	if r.def, err = walk.Definition(which); err != nil {
		return err
	}
	if c.repository != "" {
		r.def.Registry.Repository = c.repository
	}
	s := promotion.FromDefinition(r.def)
	r.settings = s
	if err := c.pipeline.apply(s, r.def); err != nil {
		return err
	}
	s.Graph, s.OS, s.Compatible, s.TagForGates = c.graph, c.os, c.compatible, c.tagForGates
	s.Unsigned = s.Unsigned || c.unsigned
	s.NoTools = s.NoTools || c.noTools
	s.Verify = len(c.trustKeys) > 0
	s.Cosign = c.cosignKey != ""
	if c.noImageStream {
		s.ImageStream, s.TagForGates = "", false
	}
	now := time.Now
	if c.at != "" {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			return ui.Usagef("--now: %w", err)
		}
		now = func() time.Time { return at }
	}
	if c.store == "" {
		return ui.Usagef("no store: give --store dir:PATH or s3://BUCKET")
	}
	e := &promotion.Env{Prefix: c.prefix, Now: now, Dir: c.state, SignaturePrefix: c.signaturePrefix}
	r.env = e
	if e.Dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			base = filepath.Join(os.TempDir(), "uid-"+strconv.Itoa(os.Getuid()))
		}
		e.Dir = filepath.Join(base, "okd-streams", "promotions")
	}
	if e.Store, err = r.open(ctx, "store", c.store); err != nil {
		return err
	}
	if c.signatures != "" {
		if e.Signatures, err = r.open(ctx, "signatures", c.signatures); err != nil {
			return err
		}
	}
	if e.Registry, err = open.Registry(ctx, c.registry, &open.RegistryOptions{Remote: c.remote.Options(nil)}); err != nil {
		return ui.Usagef("--registry: %w", err)
	}
	if c.clones != "" {
		e.History = payloadcmd.Clones(c.clones)
	}
	e.Progress = func(event promotion.Event) { r.progress.Update(event.Step, event.Phase, event.Done, event.Total, true) }
	return errors.Join(c.payloads(r), c.keys(ctx, r, signing), c.imageKeys(r), c.gating(ctx, r), c.people(ctx, cmd, r))
}

// open opens a store that is closed at the end.
func (r *run) open(ctx context.Context, flag, url string) (publish.Store, error) {
	s, err := open.Store(ctx, url, nil)
	if err != nil {
		return nil, ui.Usagef("--%s: %w", flag, err)
	}
	if closer, ok := s.(io.Closer); ok {
		r.closers = append(r.closers, closer)
	}
	return s, nil
}

// payloads says where payloads and earlier releases are found.
func (c *common) payloads(r *run) error {
	if c.flow != "" {
		r.env.Accepted = promotion.Flow(&controller.Engine{Store: r.env.Store, Key: c.flow, Config: &controller.Config{}})
		return nil
	}
	address, from := c.pipeline.controller, c.pipeline.stream
	if pick := r.def.Payload.Pick; pick != nil {
		if address == "" {
			address = pick.Controller
		}
		if from == "" {
			var err error
			if from, err = pick.Stream.Expand(stream.Vars{Minor: r.def.Version.String(), Stream: r.def.Identity.Name}); err != nil {
				return err
			}
		}
	}
	if address == "" {
		return nil
	}
	client, err := controller.NewClient(address, nil)
	if err != nil {
		return &ui.UsageError{Err: err}
	}
	r.env.Accepted = func(ctx context.Context) ([]controller.Tag, error) {
		return client.Tags(ctx, from, controller.Accepted)
	}
	if c.pipeline.target != "" {
		r.env.Published = func(ctx context.Context) ([]string, error) {
			tags, err := client.Tags(ctx, c.pipeline.target, controller.Accepted)
			var names []string
			for _, t := range tags {
				names = append(names, t.Name)
			}
			return names, err
		}
	}
	return nil
}

// keys reads who signs and whom to trust.
func (c *common) keys(ctx context.Context, r *run, signing bool) error {
	ring := func(flag string, files []string) (*payload.Keyring, error) {
		var data [][]byte
		for _, file := range files {
			one, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("--%s: %w", flag, err)
			}
			data = append(data, one)
		}
		keys, err := pgpsigner.ParseKeyring(data...)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		return keys, nil
	}
	var err error
	if len(c.publicKeys) > 0 {
		if r.env.Keys, err = ring("public-key", c.publicKeys); err != nil {
			return err
		}
	}
	if len(c.trustKeys) > 0 {
		keys, err := ring("trust-key", c.trustKeys)
		if err != nil {
			return err
		}
		r.env.Trust = &payload.Policy{Keyrings: map[string]*payload.Keyring{"--trust-key": keys}, AnyIdentity: true}
		stores := c.trustStores
		if len(stores) == 0 {
			stores = r.def.Trust.SignatureStores
		}
		for _, address := range stores {
			s, err := payload.HTTPSignatures(address, nil)
			if err != nil {
				return ui.Usagef("--trust-store: %w", err)
			}
			r.env.Trust.Stores = append(r.env.Trust.Stores, s)
		}
	}
	if !signing || r.settings.Unsigned {
		return nil
	}
	if r.env.Keys == nil {
		return ui.Usagef("by which keys do clusters judge the release? give --public-key FILE, or --unsigned")
	}
	key, passphrase, err := c.secretKey(ctx, r)
	if err != nil {
		return err
	}
	signer := func(form pgpsigner.Form) func(time.Time) (payload.Signer, error) {
		return func(at time.Time) (payload.Signer, error) {
			opts := &pgpsigner.SignerOptions{Form: form}
			if passphrase != "" {
				opts.Passphrase = func() ([]byte, error) { return []byte(passphrase), nil }
			}
			return pgpsigner.ParseSigner(key, func() time.Time { return at }, opts)
		}
	}
	r.env.Signer, r.env.SumsSigner = signer(pgpsigner.Packed), signer(pgpsigner.Armored)
	_, err = r.env.Signer(r.env.Now()) // a key that cannot be used is said first
	return err
}

// imageKeys reads the keys of cosign.
func (c *common) imageKeys(r *run) error {
	if c.cosignKey == "" {
		return nil
	}
	data, err := os.ReadFile(c.cosignKey)
	if err != nil {
		return err
	}
	opts := &cosignsigner.SignerOptions{}
	if c.cosignPassphrase != "" {
		opts.Passphrase = func() ([]byte, error) {
			text, err := secrets.File(c.cosignPassphrase)
			return []byte(text), err
		}
	}
	signer, err := cosignsigner.ParseSigner(data, opts)
	if err != nil {
		return fmt.Errorf("%s: %w", c.cosignKey, err)
	}
	r.env.ImageSigner = signer
	public := [][]byte{}
	for _, file := range c.cosignPublicKeys {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		public = append(public, data)
	}
	if len(public) == 0 {
		public = append(public, signer.PublicKey())
	}
	for _, data := range public {
		key, err := payload.ParseCosignKey(data)
		if err != nil {
			return fmt.Errorf("--cosign-public-key: %w", err)
		}
		r.env.ImageKeys = append(r.env.ImageKeys, key)
	}
	return nil
}

// secretKey is that of --key, or of the definition's key that signs.
func (c *common) secretKey(ctx context.Context, r *run) (key []byte, passphrase string, err error) {
	if c.passphrase != "" {
		if passphrase, err = secrets.File(c.passphrase); err != nil {
			return nil, "", err
		}
	}
	if c.key != "" {
		key, err = os.ReadFile(c.key)
		return key, passphrase, err
	}
	get := secrets.From(os.Getenv, c.secrets)
	for _, k := range r.def.Trust.Keys {
		if !k.Signs || !secrets.Has(k.Credentials, "key") {
			continue
		}
		text, err := get(ctx, k.Credentials, "key")
		if err == nil && passphrase == "" && secrets.Has(k.Credentials, "password") {
			passphrase, err = get(ctx, k.Credentials, "password")
		}
		if err != nil {
			return nil, "", fmt.Errorf("key %s: %w", k.ID, err)
		}
		return []byte(text), passphrase, nil
	}
	return nil, "", ui.Usagef("nothing to sign with: give --key FILE, or --unsigned")
}

// gating gives results of gates: those on the command line, else those that
// were recorded.
func (c *common) gating(ctx context.Context, r *run) error {
	said := map[string]publish.GateResult{}
	for _, text := range c.gates {
		name, result, _ := strings.Cut(text, "=")
		if name == "" || result != "passed" && result != "failed" {
			return ui.Usagef("--gate %s: it is NAME=passed or NAME=failed", text)
		}
		said[name] = publish.GateResult(result)
	}
	book := gate.Book{Store: r.env.Store}
	if c.results != "" {
		var err error
		if book.Store, err = r.open(ctx, "results", c.results); err != nil {
			return err
		}
	}
	verdict := func(ctx context.Context, version, pullspec string) (*gate.Verdict, error) {
		_, digest, _ := strings.Cut(pullspec, "@")
		results, err := book.Results(ctx, digest)
		if err != nil {
			return nil, err
		}
		return gate.Evaluate(r.def.Gates, gate.Subject{Release: version, Digest: digest}, results, r.env.Now(), nil), nil
	}
	r.env.Gate = func(ctx context.Context, release *promotion.Release, name string) (publish.GateResult, error) {
		if result, ok := said[name]; ok {
			return result, nil
		}
		v, err := verdict(ctx, release.Version, release.Pullspec)
		if err != nil {
			return publish.GatePending, err
		}
		result, err := v.Gate(ctx, name)
		if result != publish.GatePending || err != nil || !inherited(r.def.Gates, name) {
			return result, err
		}
		if v, err = verdict(ctx, release.SourceVersion, release.Source); err != nil {
			return publish.GatePending, err
		}
		return v.Gate(ctx, name)
	}
	r.env.Evidence = func(ctx context.Context, release *promotion.Release) ([]graph.Evidence, error) {
		v, err := verdict(ctx, release.Version, release.Pullspec)
		if err != nil {
			return nil, err
		}
		return evidence(r.def.Gates, v, release), nil
	}
	return nil
}

// inherited says of a gate that its result for the payload holds for the release,
// which has the same images: all but what depends on the name.
func inherited(gates []stream.Gate, name string) bool {
	for _, g := range gates {
		if g.Name == name {
			switch g.Kind {
			case stream.GateLint, stream.GatePayload, stream.GateRegression, stream.GateKola, stream.GateInstall:
				return true
			}
		}
	}
	return false
}

// evidence is what gates that are upgrade jobs say of updates: from the newest
// release of the same minor version, and of the one before.
func evidence(gates []stream.Gate, v *gate.Verdict, release *promotion.Release) []graph.Evidence {
	to, err := stream.ParseVersion(release.Version)
	if err != nil {
		return nil
	}
	var out []graph.Evidence
	kinds := map[string]stream.GateKind{}
	for _, g := range gates {
		kinds[g.Name] = g.Kind
	}
	for _, s := range v.Gates {
		kind := kinds[s.Gate]
		if s.State != gate.Passed || s.Result == nil || kind != stream.GateUpgrade && kind != stream.GateUpgradeMinor {
			continue
		}
		for _, from := range release.Previous {
			p, err := stream.ParseVersion(from)
			if err != nil || (p.Line() == to.Line()) != (kind == stream.GateUpgrade) {
				continue
			}
			job := &graph.Job{Name: s.Gate, Passed: true, Ended: s.Result.At}
			if len(s.Result.Evidence) > 0 {
				job.URL = s.Result.Evidence[0].URL
			}
			out = append(out, graph.Evidence{From: from, To: release.Version, Job: job})
			break
		}
	}
	return out
}

// people are those who are told.
func (c *common) people(ctx context.Context, cmd *cobra.Command, r *run) error {
	if r.settings.Announce != "" {
		client, err := githubcmd.Client(ctx, r.settings.Announce, r.def.GitHub, &githubcmd.ClientOptions{API: c.githubAPI, TokenFile: c.githubToken, Secrets: c.secrets})
		if err != nil {
			return err
		}
		r.env.Announcer = announcer{client}
	}
	if r.settings.ImageStream != "" {
		namespace := c.namespace
		for _, i := range r.def.Imports {
			if namespace == "" && i.Image == stream.ReleaseRole {
				namespace = i.Namespace
			}
		}
		r.env.ImageStreams = oc{c.oc, namespace}
		if c.cluster.Server != "" {
			api, err := c.cluster.Open()
			if err != nil {
				return err
			}
			r.env.ImageStreams = cluster{api, namespace}
		}
	}
	r.env.Notify = func(ctx context.Context, release *promotion.Release) error {
		event := &notify.Event{
			Occasion: stream.OnPromotion, Stream: r.def.Identity.Name, Release: release.Version, Time: release.Created,
			Lines: []string{release.Pullspec, "from " + release.SourceVersion},
		}
		if r.settings.Announce != "" {
			event.Links = []notify.Link{{Name: release.Version, URL: "https://github.com/" + r.settings.Announce + "/releases/tag/" + release.Version}}
		}
		var faults []error
		for _, result := range notify.Send(ctx, r.def.Notifications, event, &notify.Options{Secret: secrets.From(os.Getenv, c.secrets), Jitter: rand.Float64}) {
			if result.Err != nil {
				faults = append(faults, result.Err)
				if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "warning: %v\n", result.Err); err != nil {
					return err
				}
			}
		}
		return errors.Join(faults...)
	}
	return nil
}

// announcer announces on GitHub.
type announcer struct{ client *github.Client }

func spec(a *promotion.Announcement) *github.Spec {
	s := &github.Spec{Tag: a.Version, Body: a.Body, Prerelease: a.Prerelease, Latest: github.NotLatest}
	if a.Latest {
		s.Latest = github.IsLatest
	}
	for _, asset := range a.Assets {
		s.Assets = append(s.Assets, github.Upload{Name: asset.Name, ContentType: asset.ContentType, SHA256: asset.SHA256, Source: asset.Source})
	}
	return s
}

func (a announcer) Prepare(ctx context.Context, said *promotion.Announcement) error {
	_, err := a.client.Prepare(ctx, spec(said))
	return err
}

func (a announcer) Publish(ctx context.Context, said *promotion.Announcement) error {
	_, err := a.client.Publish(ctx, spec(said))
	return err
}

func (a announcer) Discard(ctx context.Context, version string) error {
	return a.client.Discard(ctx, version)
}
