package streamcmd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/examples/internal/remote"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/daily"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/promotion"
	"github.com/okd-project/okd-streams/publish/status"
	"github.com/okd-project/okd-streams/stream"
)

const statusLong = `

STREAM is a built-in one, or a file. In one table: the newest build of each
architecture, what of it is announced, which tags point to it, when the next build
and the next promotion are due, what the gates of its release say (of --results),
and whether it is ready. Nothing is written, and nothing is asked but the store
and the registry, unless --controller names a release controller.`

// standing is how a stream stands.
type standing struct {
	Stream  string    `json:"stream"`
	Version string    `json:"version"` // X.Y that is built now
	At      time.Time `json:"at"`
	// Built are the newest builds, one an architecture.
	Built []built `json:"built"`
	// Announced is the build that releases.json ends with, and Offered those that
	// stream metadata name, one an architecture.
	Announced string            `json:"announced,omitempty"`
	Offered   map[string]string `json:"offered,omitempty"`
	Pointers  []pointer         `json:"pointers"`
	Daily     due               `json:"daily"`
	Promotion due               `json:"promotion"`
	Gates     *gate.Verdict     `json:"gates,omitempty"` // of the newest release; nil: not known
	Readiness readiness         `json:"readiness"`
	// Faults are what could not be found out.
	Faults []string `json:"faults,omitempty"`
	// unknown says that the builds could not be read, which is not that there are
	// none.
	unknown bool
}

type built struct {
	Arch    string    `json:"arch"`
	Build   string    `json:"build"`
	Release string    `json:"release,omitempty"` // that it was made for
	At      time.Time `json:"at,omitzero"`
}

// pointer is a tag: its state is ok, moved (to another image than that of the
// newest build), missing or unknown.
type pointer struct {
	Tag    string `json:"tag"`
	Digest string `json:"digest,omitempty"`
	State  string `json:"state"`
}

type due struct {
	Due  bool      `json:"due"`
	At   time.Time `json:"at,omitzero"`   // when it is, or was; zero: by hand
	Last time.Time `json:"last,omitzero"` // zero: never
	Open string    `json:"open,omitempty"`
}

type readiness struct {
	Level   status.Level    `json:"level"`
	Reasons []status.Reason `json:"reasons,omitempty"`
}

type statusFlags struct {
	store, registry, state, results, promotions, prefix, controller, at string
	code                                                                bool
	remote                                                              remote.Flags

	def    *stream.Definition
	places walk.Places
	now    time.Time
	bucket bootimage.Bucket
	opened publish.Store
	images publish.Registry
	close  []func() error
}

// errNotReady ends status --exit-code.
var errNotReady = errors.New("the stream is not ready to release")

func statusCommand() *cobra.Command {
	f := &statusFlags{}
	cmd := leaf("status STREAM", "Say in one table how a stream stands: built, announced, pointed to, due, gates, readiness", statusLong, 1, func(cmd *cobra.Command, args []string) error {
		out, err := f.look(cmd.Context(), args[0])
		for _, fn := range f.close {
			err = errors.Join(err, fn())
		}
		if err != nil {
			return err
		}
		ui.SetResult(cmd.Context(), "level", out.Readiness.Level)
		if len(out.Built) > 0 {
			ui.SetResult(cmd.Context(), "build", out.Built[0].Build)
			ui.SetResult(cmd.Context(), "release-name", out.Built[0].Release)
		}
		ui.SetResult(cmd.Context(), "due", out.Daily.Due)
		if err := ui.Print(cmd, out, out.write); err != nil {
			return err
		}
		if f.code && out.Readiness.Level != status.OK {
			return ui.Next(errNotReady, "do what the table says is missing")
		}
		return nil
	})
	set := cmd.Flags()
	set.StringVar(&f.store, "store", "", "`STORE` with the stream's builds (default: the definition's)")
	set.StringVar(&f.registry, "registry", "", "where its images are: docker://HOST/PATH or dir:PATH (default: the definition's)")
	set.StringVar(&f.state, "state", "", "`FOLDER` that relative folders of the definition are below (default: in the user's cache folder)")
	set.StringVar(&f.results, "results", "", "`STORE` with the recorded results of gates: dir:PATH or s3://BUCKET/PREFIX")
	set.StringVar(&f.promotions, "promotions", "", "`STORE` of okd-streams release (default: --store)")
	set.StringVar(&f.prefix, "prefix", "promotions/", "`PREFIX` of what okd-streams release keeps in it")
	set.StringVar(&f.controller, "controller", "", "`URL` of a release controller, of which the definition's payload.pick.stream counts, too")
	set.StringVar(&f.at, "now", "", "`TIME` that is now, as 2006-01-02T15:04:05Z (default: the clock)")
	set.BoolVar(&f.code, "exit-code", false, "fail unless it is ready")
	f.remote.Add(set)
	return cmd
}

// look finds out how the stream stands. What cannot be found out is a fault of
// the standing.
func (f *statusFlags) look(ctx context.Context, which string) (_ *standing, err error) {
	if f.def, err = decode(which); err != nil {
		return nil, err
	}
	f.now = time.Now()
	if f.at != "" {
		if f.now, err = time.Parse(time.RFC3339, f.at); err != nil {
			return nil, ui.Usagef("--now: %w", err)
		}
	}
	f.places = walk.PlacesOf(f.def, f.state, f.store, f.registry)
	prefix, err := f.def.Store.Prefix.Expand(stream.Vars{Stream: f.def.Identity.Name, Arch: string(f.def.Architectures[0]), Minor: f.def.Version.String()})
	if err != nil {
		return nil, err
	}
	f.bucket = bootimage.Bucket{Stream: f.def.Identity.Name, Prefix: prefix}
	out := &standing{Stream: f.def.Identity.Name, Version: f.def.Version.String(), At: f.now.UTC(), Built: []built{}, Pointers: []pointer{}}
	fault := func(what string, err error) {
		if err != nil {
			out.Faults = append(out.Faults, what+": "+strings.Join(strings.Fields(err.Error()), " "))
		}
	}
	if f.opened, err = f.existing(ctx, f.places.Store); err != nil {
		return nil, ui.Usagef("--store %s: %w", f.places.Store, err)
	}
	if there(f.places.Registry) {
		if f.images, err = open.Registry(ctx, f.places.Registry, &open.RegistryOptions{Remote: f.remote.Options(nil)}); err != nil {
			return nil, ui.Usagef("--registry %s: %w", f.places.Registry, err)
		}
	}
	if f.opened != nil {
		err := f.builds(ctx, out)
		out.unknown = err != nil
		fault("builds", err)
		fault("announcement", f.announced(ctx, out))
	}
	if f.images != nil {
		fault("pointers", f.pointers(ctx, out))
	}
	if !out.unknown {
		f.due(out)
	}
	fault("promotion", f.promotion(ctx, out))
	history, err := f.history(ctx, out)
	fault("gates", err)
	history.Faults = append(history.Faults, out.Faults...)
	report := status.New([]status.History{*history}, f.now, &status.Options{
		WarnAfter: f.def.Cadences.Daily.StaleAfter, FailAfter: staleLong(f.def.Cadences.Daily.StaleAfter), PublishedAfter: f.def.Cadences.Promotion.StaleAfter,
	})
	out.Readiness = readiness{report.Streams[0].Level, report.Streams[0].Reasons}
	return out, ctx.Err()
}

// staleLong is when a stream that has no build for so long cannot be released;
// 0: the default.
func staleLong(after time.Duration) time.Duration {
	if after == 0 {
		return 0
	}
	return max(2*after, status.DefaultFailAfter)
}

// there says of a folder whether it is there: none is made to look into it.
func there(url string) bool {
	dir, ok := strings.CutPrefix(url, "dir:")
	if !ok {
		return true
	}
	_, err := os.Stat(dir)
	return !errors.Is(err, fs.ErrNotExist)
}

// existing opens a store; nil: it is a folder that is not there yet.
func (f *statusFlags) existing(ctx context.Context, url string) (publish.Store, error) {
	if !there(url) {
		return nil, nil
	}
	s, err := open.Store(ctx, url, nil)
	if closer, ok := s.(io.Closer); ok && err == nil {
		f.close = append(f.close, closer.Close)
	}
	return s, err
}

// document reads a document of the stream; nil: it is not there.
func (f *statusFlags) document(ctx context.Context, file bootimage.BucketFile) ([]byte, error) {
	key, err := f.bucket.Key(file)
	if err != nil {
		return nil, err
	}
	data, _, err := publish.ReadDocument(ctx, f.opened, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// builds finds the newest build of each architecture.
func (f *statusFlags) builds(ctx context.Context, out *standing) error {
	data, err := f.document(ctx, bootimage.BucketFile{Kind: bootimage.FileBuilds})
	if data == nil {
		return err
	}
	all, err := bootimage.DecodeBuilds(bytes.NewReader(data))
	if err != nil {
		return err
	}
	for _, arch := range f.def.Architectures {
		newest, ok := all.Value().Latest(string(arch))
		if !ok {
			continue
		}
		one := built{Arch: string(arch), Build: newest.ID}
		claim, err := daily.ClaimOf(ctx, f.opened, f.bucket, newest.ID)
		switch {
		case err == nil:
			one.Release, one.At = claim.Version, claim.Time
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if one.At.IsZero() {
			data, err := f.document(ctx, bootimage.BucketFile{Kind: bootimage.FileMeta, Build: newest.ID, Arch: string(arch)})
			if err != nil {
				return err
			}
			if data != nil {
				meta, err := bootimage.DecodeMeta(bytes.NewReader(data))
				if err != nil {
					return err
				}
				one.At = meta.Value().BuildTimestamp
			}
		}
		out.Built = append(out.Built, one)
	}
	return nil
}

// announced finds out what users are told.
func (f *statusFlags) announced(ctx context.Context, out *standing) error {
	data, err := f.document(ctx, bootimage.BucketFile{Kind: bootimage.FileIndex})
	if err != nil {
		return err
	}
	if data != nil {
		index, err := bootimage.DecodeIndex(bytes.NewReader(data))
		if err != nil {
			return err
		}
		if releases := index.Value().Releases; len(releases) > 0 {
			out.Announced = releases[len(releases)-1].Version
		}
	}
	if data, err = f.document(ctx, bootimage.BucketFile{Kind: bootimage.FileStream}); data == nil {
		return err
	}
	doc, err := bootimage.DecodeStream(bytes.NewReader(data))
	if err != nil {
		return err
	}
	out.Offered = map[string]string{}
	for arch, of := range doc.Value().Architectures {
		for _, artifact := range of.Artifacts {
			out.Offered[arch] = max(out.Offered[arch], artifact.Release)
		}
	}
	return nil
}

// pointers looks where the tags of the definition point to. The first tag of an
// image that names the build or its release is what the others should be.
func (f *statusFlags) pointers(ctx context.Context, out *standing) error {
	profile, err := f.def.Profile(f.def.Version.String())
	if err != nil {
		return err
	}
	var faults []error
	for _, b := range out.Built {
		vars := stream.Vars{Version: b.Release, Build: b.Build, Arch: b.Arch, Minor: f.def.Version.String(), Stream: f.def.Identity.Name}
		for _, image := range []struct {
			name string
			tags []stream.Template
		}{{profile.NodeImage, f.def.Registry.Node.Tags}, {profile.ExtensionsImage, f.def.Registry.Extensions.Tags}, {f.def.Registry.Release.Name, f.def.Registry.Release.Tags}} {
			want := ""
			for _, tag := range image.tags {
				text, err := tag.Expand(vars)
				if err != nil || image.name == "" {
					continue // of a build whose release nobody knows
				}
				ref, err := name.NewTag(f.places.Repository + "/" + image.name + ":" + text)
				if err != nil {
					return err
				}
				p := pointer{Tag: ref.Name(), State: "ok"}
				switch d, err := f.images.Head(ctx, ref); {
				case errors.Is(err, fs.ErrNotExist):
					p.State = "missing"
				case err != nil:
					p.State = "unknown"
					faults = append(faults, err)
				default:
					p.Digest = d.Digest.String()
					if want == "" && strings.Contains(string(tag), "${BUILD}") || strings.Contains(string(tag), "${VERSION}") {
						want = p.Digest
					}
					if want != "" && p.Digest != want {
						p.State = "moved"
					}
				}
				out.Pointers = append(out.Pointers, p)
			}
		}
	}
	return errors.Join(faults...)
}

// due says when the next build is.
func (f *statusFlags) due(out *standing) {
	for _, b := range out.Built {
		if out.Daily.Last.Before(b.At) {
			out.Daily.Last = b.At
		}
	}
	out.Daily.Due, out.Daily.At = f.def.Cadences.Daily.Due(out.Daily.Last, f.now)
}

// promotion says when the next promotion is.
func (f *statusFlags) promotion(ctx context.Context, out *standing) error {
	store := f.opened
	if f.promotions != "" {
		var err error
		if store, err = f.existing(ctx, f.promotions); err != nil {
			return err
		}
	}
	if store == nil || f.images == nil {
		out.Promotion.Due, out.Promotion.At = f.def.Cadences.Promotion.Due(time.Time{}, f.now)
		return nil
	}
	env := &promotion.Env{Store: store, Prefix: f.prefix, Registry: f.images, Now: func() time.Time { return f.now }}
	s, err := promotion.Due(ctx, env, f.def.Identity.Name, f.def.Cadences.Promotion)
	if err != nil {
		return err
	}
	out.Promotion = due{Due: s.Due, At: s.At, Last: s.Last}
	if s.Open != nil {
		out.Promotion.Open = s.Open.Name
	}
	return nil
}

// history is what readiness is judged by.
func (f *statusFlags) history(ctx context.Context, out *standing) (*status.History, error) {
	h := &status.History{Stream: out.Stream, Title: f.def.Identity.Title}
	if f.controller != "" {
		asked, err := f.ask(ctx)
		if err != nil {
			return h, err
		}
		h = asked
	}
	for _, b := range out.Built {
		phase := controller.Ready
		if b.Build == out.Announced {
			phase = controller.Accepted
			h.Published = append(h.Published, status.Published{Version: cmp.Or(b.Release, b.Build), At: b.At})
		}
		h.Builds = append(h.Builds, status.Build{Version: cmp.Or(b.Release, b.Build), Phase: phase, Created: b.At})
	}
	if f.results == "" {
		return h, nil
	}
	store, err := f.existing(ctx, f.results)
	if store == nil {
		return h, err
	}
	book := gate.Book{Store: store}
	if err := h.AddRecorded(ctx, book, f.now, &status.RecordedOptions{Gates: f.def.Gates}); err != nil {
		return h, err
	}
	return h, f.verdict(ctx, out, book)
}

// ask asks a release controller about the stream that payloads are picked from.
func (f *statusFlags) ask(ctx context.Context) (*status.History, error) {
	from := f.def.Identity.Name
	if pick := f.def.Payload.Pick; pick != nil {
		var err error
		if from, err = pick.Stream.Expand(stream.Vars{Minor: f.def.Version.String(), Stream: f.def.Identity.Name}); err != nil {
			return nil, err
		}
	}
	client, err := controller.NewClient(f.controller, nil)
	if err != nil {
		return nil, err
	}
	return status.Collect(ctx, client, from, f.now, &status.CollectOptions{Title: f.def.Identity.Title})
}

// verdict judges the release of the newest build by its gates.
func (f *statusFlags) verdict(ctx context.Context, out *standing, book gate.Book) error {
	if len(out.Built) == 0 || out.Built[0].Release == "" || f.images == nil {
		return nil
	}
	ref, err := name.NewTag(f.places.Repository + "/" + f.def.Registry.Release.Name + ":" + out.Built[0].Release)
	if err != nil {
		return err
	}
	d, err := f.images.Head(ctx, ref)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	results, err := book.Results(ctx, d.Digest.String())
	if err != nil {
		return err
	}
	out.Gates = gate.Evaluate(f.def.Gates, gate.Subject{Release: out.Built[0].Release, Digest: d.Digest.String()}, results, f.now, nil)
	return nil
}

// write writes the table.
func (s *standing) write(w io.Writer) error {
	rows := [][]string{{"WHAT", "STATE", "WHICH", "WHEN"}}
	row := func(what, state, which, when string) { rows = append(rows, []string{what, state, which, when}) }
	ago := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339) + ", " + s.At.Sub(t).Round(time.Minute).String() + " ago"
	}
	for _, b := range s.Built {
		row("built", b.Arch, strings.TrimSpace(b.Build+" "+b.Release), ago(b.At))
	}
	switch {
	case s.unknown:
		row("built", "unknown", "", "")
	case len(s.Built) == 0:
		row("built", "nothing", "", "")
	case s.Announced == "":
		row("announced", "nothing", "", "")
	case s.Announced == s.Built[0].Build:
		row("announced", "newest", s.Announced, "")
	default:
		row("announced", "behind", s.Announced, "")
	}
	for _, p := range s.Pointers {
		row("pointer", p.State, p.Tag, p.Digest)
	}
	for _, d := range []struct {
		what string
		due
	}{{"build", s.Daily}, {"promotion", s.Promotion}} {
		switch {
		case s.unknown && d.what == "build":
		case d.Open != "":
			row(d.what, "open", d.Open, "to be finished")
		case d.At.IsZero():
			row(d.what, "by hand", "", "")
		case d.Due:
			row(d.what, "due", "", "since "+d.At.UTC().Format(time.RFC3339))
		default:
			row(d.what, "later", "", "on "+d.At.UTC().Format(time.RFC3339))
		}
	}
	if s.Gates != nil {
		for _, g := range s.Gates.Gates {
			kind := "blocks"
			if !g.Blocking {
				kind = "informs"
			}
			when := ""
			if g.Result != nil {
				when = ago(g.Result.At)
			}
			row("gate", string(g.State), g.Gate+" ("+kind+")", when)
		}
	}
	row("readiness", string(s.Readiness.Level), "", "")
	for _, r := range s.Readiness.Reasons {
		row("", string(r.Level), r.Text, "")
	}
	for _, fault := range s.Faults {
		row("fault", "", fault, "")
	}
	return ui.Table(w, rows)
}
