// Package walk turns command lines into runs of publish/daily: the flags, the
// stream, the source, where to publish. dailybuild and okd-streams share it.
package walk

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/examples/internal/remote"
	"github.com/okd-project/okd-streams/examples/internal/sample"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/daily"
	"github.com/okd-project/okd-streams/publish/httpstore"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
	"github.com/okd-project/okd-streams/publish/s3store"
	"github.com/okd-project/okd-streams/stream"
)

// Flags are what people say on the command line.
type Flags struct {
	Stream      string
	Source      string
	State       string
	Store       string
	Registry    string
	FromRelease string
	Node        string
	Extensions  string
	Version     string
	Arch        string
	Build       string
	AuthFile    string
	// How the node image is built of the base image: see node.go.
	NodeContext, NodeSpec, Buildah, BuildahStorage, BuildahDriver, BuildahIsolation string
	// How registries and buckets are spoken to.
	CertDir, RegistriesConf, S3Credentials string
	Insecure, MirrorSets                   list
	Components                             list
	Disks                                  list
	Gates                                  list
	Results                                string
	TrustFiles                             bool
	MaxLayers                              int
	Plan                                   bool
	Output                                 string // text, json or yaml; "": text
	Quiet                                  bool
	Verbose                                bool
	DetailedExitCode, PublishReport        bool
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// Type is what pflag calls the value in its help.
func (l *list) Type() string { return "value" }

// Register declares the flags.
func (f *Flags) Register(set *flag.FlagSet) {
	set.StringVar(&f.Stream, "stream", "sample", "built-in stream (see okd-streams stream list), or the path of a definition")
	set.StringVar(&f.Source, "source", "", "root filesystem: dir:PATH, tar:PATH (also .gz, .zst, .xz; pinned by #sha256=HEX at the end), ostree:REPOSITORY:REF, or cosa:FOLDER[#BUILD], a build of coreos-assembler's with its disks")
	set.StringVar(&f.State, "state", "", "folder for everything that is kept between runs (default: in the user's cache folder)")
	set.StringVar(&f.Store, "store", "", "where files go: dir:PATH or s3://BUCKET/PREFIX?endpoint=URL (default: the definition's)")
	set.StringVar(&f.Registry, "registry", "", "where images go: dir:PATH or docker://HOST/PATH (default: the definition's)")
	set.StringVar(&f.FromRelease, "from-release", "", "pullspec of the release that the payload starts from")
	set.Var(&f.Components, "component", "image of the payload to replace or add, as NAME=PULLSPEC; may be repeated")
	set.StringVar(&f.Node, "node", "", "pullspec of the node image (default: the base image)")
	set.StringVar(&f.Extensions, "extensions", "", "pullspec of the extensions image")
	set.StringVar(&f.NodeContext, "node-context", "", "folder that the node image is built in with buildah: a checkout of the definition's os.source.git, or what -node-spec is about")
	set.StringVar(&f.NodeSpec, "node-spec", "", "JSON file of what the node image is built of (see okd-streams container node render; base, version and time are the build's)")
	set.StringVar(&f.Buildah, "buildah", "buildah", "program that builds the node image")
	set.StringVar(&f.BuildahStorage, "buildah-storage", "", "folder of buildah's storage (default: buildah's own)")
	set.StringVar(&f.BuildahDriver, "buildah-driver", "", "driver of buildah's storage: overlay or vfs (default: buildah's own)")
	set.StringVar(&f.BuildahIsolation, "buildah-isolation", "", "isolation of build steps: oci, rootless or chroot (default: buildah's own)")
	set.StringVar(&f.Version, "version", "", "name of the release (default: the next by the definition's scheme)")
	set.StringVar(&f.Arch, "arch", "", "architecture, as x86_64 (default: the definition's first)")
	set.Var(&f.Disks, "disk", "boot image that was made elsewhere, as PLATFORM=PATH; may be repeated")
	set.Var(&f.Gates, "gate", "result of a gate, as NAME=passed or NAME=failed:REASON; may be repeated")
	set.StringVar(&f.Results, "results", "", "where results of gates are kept and looked for, as okd-streams gate has them: dir:PATH or s3://BUCKET/PREFIX?endpoint=URL (default: the state folder)")
	set.BoolVar(&f.TrustFiles, "devino-cache", false, "do not read files again whose device, inode, size and times are those of the last run")
	set.IntVar(&f.MaxLayers, "max-layers", 0, "most layers of the base image beside the commit's (default 64)")
	set.StringVar(&f.AuthFile, "authfile", "", "registry credentials (default: as podman finds them)")
	set.StringVar(&f.CertDir, "cert-dir", "", "folder with a folder HOST[:PORT] of certificates for each registry (default: as podman finds it)")
	set.StringVar(&f.RegistriesConf, "registries-conf", "", "registries.conf that says from where to pull instead (default: as podman finds it)")
	set.Var(&f.MirrorSets, "mirror-set", "file with ImageDigestMirrorSet, ImageTagMirrorSet or ImageContentSourcePolicy objects; may be repeated")
	set.Var(&f.Insecure, "insecure", "registry HOST[:PORT] that may be spoken to over plain HTTP; may be repeated (loopback always may)")
	set.StringVar(&f.S3Credentials, "s3-credentials", "", "shared credentials file of the AWS tools, or the folder with it (default: as the AWS SDK finds them)")
	set.BoolVar(&f.PublishReport, "publish-report", false, "put the report into the store too, beside the build's files")
	set.BoolVar(&f.Plan, "plan", false, "print what would be done, and do nothing")
	output := ui.NewFormat()
	set.Func("output", "print the result as `text|json|yaml` (default text)", func(text string) error {
		err := output.Set(text)
		f.Output = output.String()
		return err
	})
	set.BoolFunc("json", "print the result as JSON, as -output json does", func(text string) error {
		err := ui.JSONOf(output).Set(text)
		f.Output = output.String()
		return err
	})
	set.BoolVar(&f.Quiet, "quiet", false, "no progress")
	set.BoolVar(&f.DetailedExitCode, "detailed-exit-code", false, "exit with 4 in place of 0 if there was nothing to do")
	set.BoolVar(&f.Verbose, "verbose", false, "log each step and request")
}

// Run is a run that is set up.
type Run struct {
	Definition *stream.Definition
	Env        *daily.Env
	Options    *daily.Options
	Store      string // URLs, for people
	Registry   string
	progress   *ui.Progress
	steps      steps
	closers    []func() error
}

// Close ends the run.
func (r *Run) Close() error {
	r.progress.Done()
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	r.closers = nil
	return errors.Join(errs...)
}

// Setup opens everything that the flags name. Wrong flags are a
// [*ui.UsageError].
func Setup(ctx context.Context, f *Flags, stderr io.Writer) (_ *Run, err error) {
	def, err := Definition(f.Stream)
	if err != nil {
		return nil, err
	}
	r := &Run{Definition: def}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	now, err := ui.BuildTime()
	if err != nil {
		return nil, err
	}
	r.progress = ui.NewProgress(stderr, time.Now, f.Quiet)
	r.Env = &daily.Env{
		State: f.State, Clock: time.Now,
		Progress: func(e daily.Event) {
			r.steps.event(e, time.Now())
			switch e.Phase {
			case "done":
			case "reused":
				r.progress.Update(e.Step, "is done already", 0, 0, false)
			default:
				r.progress.Update(e.Step, e.Phase, e.Done, e.Total, e.Bytes)
			}
		},
	}
	if f.Verbose {
		r.Env.Logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if r.Env.State == "" {
		r.Env.State = defaultState(def.Identity.Name)
	}
	if arch := stream.Arch(f.Arch); arch != "" && !slices.Contains(def.Architectures, arch) {
		return nil, ui.Usagef("-arch %s: stream %s has %s", arch, def.Identity.Name, strings.Trim(fmt.Sprint(def.Architectures), "[]"))
	}
	if f.MaxLayers != 0 && (f.MaxLayers < 2 || f.MaxLayers > 499) {
		return nil, ui.Usagef("-max-layers %d: it is 2 to 499", f.MaxLayers)
	}
	if f.Version != "" {
		if _, err := def.Needs(f.Version); err != nil {
			return nil, ui.Usagef("-version %s: %w", f.Version, err)
		}
	}
	r.Options = &daily.Options{
		Time: now, Version: f.Version, Arch: stream.Arch(f.Arch), Build: f.Build,
		TrustFiles: f.TrustFiles, MaxLayers: f.MaxLayers,
	}
	if err := r.references(f); err != nil {
		return nil, err
	}
	if err := r.nodeBuilder(f); err != nil {
		return nil, err
	}
	if err := r.missing(ctx, f); err != nil {
		return nil, err
	}
	if err := r.targets(ctx, f); err != nil {
		return nil, err
	}
	return r, r.inputs(ctx, f)
}

// Definition finds a stream: a built-in one by name, else a file.
func Definition(which string) (*stream.Definition, error) {
	def, err := stream.Builtin(which)
	if err == nil {
		return def, nil
	}
	if !strings.ContainsAny(which, "./") {
		hint := "for a file, give its path"
		if info, err := os.Stat(which); err == nil && info.Mode().IsRegular() {
			hint = "the file is ./" + which
		}
		return nil, &ui.UsageError{Err: fmt.Errorf("%w; %s", err, hint)}
	}
	file, err := os.Open(which)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	def, err = stream.Decode(file)
	if err != nil {
		return nil, fmt.Errorf("%s:\n%w", which, err)
	}
	return def, nil
}

// defaultState is in the user's cache folder; task images run as any user,
// without a home.
func defaultState(name string) string {
	base, err := os.UserCacheDir()
	if err != nil {
		base = filepath.Join(os.TempDir(), "uid-"+strconv.Itoa(os.Getuid()))
	}
	return filepath.Join(base, "okd-streams", name)
}

// references parses what names images, disks and gates.
func (r *Run) references(f *Flags) error {
	o := r.Options
	for _, image := range []struct {
		flag, text string
		to         *name.Reference
	}{
		{"node", f.Node, &o.Node}, {"extensions", f.Extensions, &o.Extensions}, {"from-release", f.FromRelease, &o.FromRelease},
	} {
		if image.text == "" {
			continue
		}
		ref, err := name.ParseReference(image.text)
		if err != nil {
			return ui.Usagef("-%s: %w", image.flag, err)
		}
		*image.to = ref
	}
	for _, text := range f.Components {
		component, pullspec, ok := strings.Cut(text, "=")
		ref, err := name.ParseReference(pullspec)
		if !ok || component == "" || err != nil {
			return ui.Usagef("-component %q: want NAME=PULLSPEC", text)
		}
		if o.Components == nil {
			o.Components = map[string]name.Reference{}
		}
		o.Components[component] = ref
	}
	for _, text := range f.Disks {
		platform, path, ok := strings.Cut(text, "=")
		if !ok || platform == "" || path == "" {
			return ui.Usagef("-disk %q: want PLATFORM=PATH", text)
		}
		if base := filepath.Base(path); !strings.Contains(base, ".") {
			return ui.Usagef("-disk %q: the file's name says its format, as in %s.qcow2", text, base)
		}
		o.Disks = append(o.Disks, daily.Disk{Platform: platform, Path: path})
	}
	for _, text := range f.Gates {
		gate, result, ok := strings.Cut(text, "=")
		verdict, reason, _ := strings.Cut(result, ":")
		if !ok || gate == "" || verdict != "passed" && verdict != "failed" {
			return ui.Usagef("-gate %q: want NAME=passed or NAME=failed:REASON", text)
		}
		if o.Gates == nil {
			o.Gates = map[string]daily.GateResult{}
		}
		o.Gates[gate] = daily.GateResult{Passed: verdict == "passed", Reason: reason}
	}
	return nil
}

// missing finds out what is needed and not given before a store or a registry is
// opened, which would make its folder.
func (r *Run) missing(ctx context.Context, f *Flags) error {
	if f.Build != "" || f.Plan || r.Definition.LocalOnly() {
		return nil
	}
	o := *r.Options
	o.SourceName = r.sourceName(f)
	// Any other error is one of the run, too.
	if _, err := daily.Plan(ctx, r.Definition, r.Env, &o); errors.Is(err, daily.ErrMissing) {
		return classify(err)
	}
	return nil
}

func (r *Run) sourceName(f *Flags) string {
	if f.Source != "" {
		return f.Source
	}
	return daily.SourceOf(r.Definition)
}

// targets opens the store and the registry.
func (r *Run) targets(ctx context.Context, f *Flags) error {
	def := r.Definition
	places := PlacesOf(def, r.Env.State, f.Store, f.Registry)
	r.Store, r.Registry, r.Env.Repository = places.Store, places.Registry, places.Repository
	if def.LocalOnly() {
		if err := localOnly(def.Identity.Name, r.Store, r.Registry); err != nil {
			return err
		}
	}
	if f.Plan {
		// Nothing is opened or made.
		return nil
	}
	if r.Store == "" {
		return ui.Usagef("stream %s does not say where it is published: give -store dir:PATH or s3://BUCKET", def.Identity.Name)
	}
	store := func(url string) (publish.Store, error) {
		s, err := open.Store(ctx, url, &open.StoreOptions{
			S3:   s3store.Options{CredentialsFile: f.S3Credentials, Jitter: rand.Float64, Logger: r.Env.Logger},
			HTTP: httpstore.Options{Jitter: rand.Float64, Logger: r.Env.Logger},
		})
		if closer, ok := s.(io.Closer); ok && err == nil {
			r.closers = append(r.closers, closer.Close)
		}
		return s, err
	}
	var err error
	if r.Env.Store, err = store(r.Store); err != nil {
		return err
	}
	if f.Results != "" {
		r.Env.Book.Jitter = rand.Float64
		if r.Env.Book.Store, err = store(f.Results); err != nil {
			return err
		}
	}
	registries := f.registries(r.Env.Logger)
	if r.Env.Registry, err = open.Registry(ctx, r.Registry, &open.RegistryOptions{Remote: registries}); err != nil {
		return err
	}
	r.Env.PublicURL, r.Env.PublishReport = publicURL(def, f.Store, r.Store), f.PublishReport
	if strings.HasPrefix(r.Registry, "docker:") {
		return nil // one client reads from every registry
	}
	// What is not in the folder is read from where its name says.
	elsewhere, err := remoteregistry.Open(ctx, &registries)
	if err != nil {
		return err
	}
	r.Env.Images = firstOf{r.Env.Registry, elsewhere}
	return nil
}

// registries is how registries are spoken to.
func (f *Flags) registries(logger *slog.Logger) remoteregistry.Options {
	of := remote.Flags{AuthFile: f.AuthFile, CertDir: f.CertDir, RegistriesConf: f.RegistriesConf, MirrorSets: f.MirrorSets, Insecure: f.Insecure}
	return of.Options(logger)
}

// publicURL is where readers find the store: as the definition says, unless
// another store was named.
func publicURL(def *stream.Definition, named, store string) string {
	if named == "" && def.Store.PublicURL != "" {
		return def.Store.PublicURL
	}
	if dir, ok := strings.CutPrefix(store, "dir:"); ok {
		if abs, err := filepath.Abs(dir); err == nil {
			dir = abs
		}
		return "file://" + filepath.ToSlash(dir)
	}
	base, query, _ := strings.Cut(strings.TrimPrefix(store, "s3://"), "?")
	values, err := url.ParseQuery(query)
	if endpoint := values.Get("endpoint"); err == nil && endpoint != "" {
		return strings.TrimSuffix(endpoint, "/") + "/" + base
	}
	bucket, prefix, _ := strings.Cut(base, "/")
	return strings.TrimSuffix("https://"+bucket+".s3.amazonaws.com/"+prefix, "/")
}

// StoreURL is a definition's store as one URL.
func StoreURL(def *stream.Definition) string {
	s := def.Store
	if !strings.HasPrefix(s.URL, "s3:") {
		return s.URL
	}
	query := url.Values{}
	for key, value := range map[string]string{"endpoint": s.Endpoint, "region": s.Region, "acl": s.ACL} {
		if value != "" {
			query.Set(key, value)
		}
	}
	if s.PathStyle {
		query.Set("path-style", "true")
	}
	if len(query) == 0 {
		return s.URL
	}
	return s.URL + "?" + query.Encode()
}

// below puts a relative folder of a definition into the state folder.
func below(state, target string) string {
	if dir, ok := strings.CutPrefix(target, "dir:"); ok && !filepath.IsAbs(dir) {
		return "dir:" + filepath.Join(state, dir)
	}
	return target
}

// localOnly refuses targets of a sample that others can reach.
func localOnly(stream string, targets ...string) error {
	for _, target := range targets {
		scheme, rest, _ := strings.Cut(target, ":")
		host := ""
		switch scheme {
		case "dir":
			continue
		case "docker":
			host, _, _ = strings.Cut(strings.TrimPrefix(rest, "//"), "/")
		case "s3":
			_, query, _ := strings.Cut(rest, "?")
			values, err := url.ParseQuery(query)
			if err != nil {
				return ui.Usagef("%s: %w", target, err)
			}
			if endpoint, err := url.Parse(values.Get("endpoint")); err == nil {
				host = endpoint.Host
			}
		}
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
			continue
		}
		return ui.Usagef("stream %s is a sample, which is published only to a folder or to loopback, not to %s", stream, target)
	}
	return nil
}

// firstOf reads an image from the first that has it.
type firstOf []payload.Images

func (l firstOf) Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error) {
	return first(l, func(images payload.Images) (*v1.Descriptor, error) { return images.Head(ctx, ref) })
}

func (l firstOf) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	return first(l, func(images payload.Images) (v1.Image, error) { return images.Image(ctx, ref) })
}

func (l firstOf) Index(ctx context.Context, ref name.Reference) (v1.ImageIndex, error) {
	return first(l, func(images payload.Images) (v1.ImageIndex, error) { return images.Index(ctx, ref) })
}

func first[T any](l firstOf, get func(payload.Images) (T, error)) (found T, err error) {
	for _, images := range l {
		found, err = get(images)
		if !errors.Is(err, fs.ErrNotExist) {
			return found, err
		}
	}
	return found, err
}

// inputs opens the source; the sample's are made on the spot.
func (r *Run) inputs(ctx context.Context, f *Flags) error {
	if f.Build != "" {
		r.Options.NodeBuilderID = ""
		if r.Definition.LocalOnly() && r.Options.NodeBuilder == nil {
			r.Options.NodeBuilder = sample.Node
		}
		return nil
	}
	spec := r.sourceName(f)
	if r.Definition.LocalOnly() {
		if err := r.sample(ctx, f); err != nil {
			return err
		}
	}
	if spec == "" || f.Plan {
		if spec != "" {
			r.Options.SourceName = spec
		}
		return nil
	}
	src, err := daily.OpenSource(ctx, spec, &daily.SourceOptions{Arch: r.arch()})
	if errors.Is(err, fs.ErrInvalid) {
		return &ui.UsageError{Err: err}
	}
	if err != nil {
		return err
	}
	r.closers = append(r.closers, src.Close)
	o := r.Options
	o.Source, o.SourceImage, o.SourceName, o.Metadata = src.Tree, src.Image, spec, src.Metadata
	for _, disk := range src.Disks {
		// One that was named takes its place.
		if !slices.ContainsFunc(o.Disks, func(d daily.Disk) bool { return d.Platform == disk.Platform }) {
			o.Disks = append(o.Disks, disk)
		}
	}
	return nil
}

func (r *Run) arch() stream.Arch {
	if r.Options.Arch != "" {
		return r.Options.Arch
	}
	return r.Definition.Architectures[0]
}

// sample makes the sample's inputs; what was given takes their place.
func (r *Run) sample(ctx context.Context, f *Flags) error {
	o := r.Options
	o.Source, o.SourceName = sample.Tree(), "the sample's own tree"
	if o.Node == nil && o.NodeBuilder == nil {
		o.NodeBuilder, o.NodeBuilderID = sample.Node, sample.NodeID
	}
	if o.FromRelease != nil || len(o.Components) > 0 || f.Plan {
		return nil
	}
	repo, err := name.NewRepository(r.Env.Repository + "/" + r.Definition.Registry.Content)
	if err != nil {
		return err
	}
	o.Components, err = sample.Components(ctx, r.Env.Registry, repo)
	return err
}
