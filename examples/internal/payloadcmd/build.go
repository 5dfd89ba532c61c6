package payloadcmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/buildah"
	"github.com/okd-project/okd-streams/examples/internal/gitsource"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	fromsource "github.com/okd-project/okd-streams/publish/components"
)

const buildLong = `

With a RELEASE its images are kept, but for the components of --list, which are
built, and what the list excludes; with --scratch all are built that the list or the
release has. --only builds some of them. NAME=PULLSPEC are images that are there
already, the node image for instance.

A list is a file (apiVersion: streams.okd.io/v1alpha1, kind: Components), or okd, the
set that makes an OKD of an OpenShift release; what it leaves open of a component's
sources is taken from what the release's image says it was built from. Branches are
pinned to commits and images to digests first: --plan shows that and builds nothing,
--save-plan writes it into a file, from which --use-plan builds elsewhere.

Components are built with buildah, those that others are built of first, and go to
--images, by digest. What was built of the same before is found there and not built
again, so it may be stopped and run again. A component that fails is named at the end,
and only what is built of it is left out. Printed are NAME=PULLSPEC, as payload swap
and payload new take them; with --version the release is made at once.`

// building is the command `payload build`.
type building struct {
	*common
	made              making
	list, minor       string
	scratch, again    bool
	only, folders     []string
	images            string
	usePlan, savePlan string
	state, git        string
	workers           int
	output            string
	builder           buildah.Builder
	storage           string
	args              []string // build arguments
}

func (c *common) build() *cobra.Command {
	b := &building{common: c}
	cmd := c.leaf("build [RELEASE] [NAME=PULLSPEC]...", "Build components of a release from their sources, any or all", buildLong, 0, -1, b.run)
	b.made.flags(cmd)
	flags := cmd.Flags()
	flags.Lookup("plan").Usage = "show what would be built and of what, and build nothing"
	flags.StringVar(&b.list, "list", "okd", "`FILE` that says which components there are and how they are built, or okd")
	flags.BoolVar(&b.scratch, "scratch", false, "build all components and keep no image of the release")
	flags.StringArrayVar(&b.only, "only", nil, "build component `NAME` and no others; may be repeated")
	flags.StringArrayVar(&b.folders, "source", nil, "`NAME=FOLDER`: build a component from a folder as it is; may be repeated")
	flags.StringArrayVar(&b.args, "build-arg", nil, "`NAME=VALUE` for the Dockerfiles that declare it, in place of the list's; may be repeated")
	flags.StringVar(&b.minor, "minor", "", "`X.Y` for the names of branches (default: the release's)")
	flags.StringVar(&b.images, "images", "", "`REPOSITORY` that built images go to")
	flags.StringVar(&b.usePlan, "use-plan", "", "build what this `FILE` says")
	flags.StringVar(&b.savePlan, "save-plan", "", "`FILE` to write the plan to")
	flags.StringVar(&b.state, "state", "", "`FOLDER` for sources and images on the way (default: in the user's cache folder)")
	flags.IntVar(&b.workers, "workers", 1, "components to build at one time")
	flags.BoolVar(&b.again, "again", false, "build also what was built before of the same")
	flags.StringVar(&b.git, "git", "git", "`PROGRAM` that fetches sources")
	flags.StringVar(&b.builder.Program, "buildah", "buildah", "`PROGRAM` that builds images")
	flags.StringVar(&b.storage, "buildah-storage", "", "`FOLDER` of buildah's storage (default: buildah's own)")
	flags.StringVar(&b.builder.Driver, "buildah-driver", "", "`DRIVER` of buildah's storage: overlay or vfs (default: buildah's own)")
	flags.StringVar(&b.builder.Isolation, "buildah-isolation", "", "`ISOLATION` of build steps: oci, rootless or chroot (default: buildah's own)")
	flags.StringArrayVar(&b.builder.Volumes, "volume", nil, "`PATH:PATH:ro` that build steps see; may be repeated")
	flags.StringArrayVar(&b.builder.Secrets, "secret", nil, "`id=NAME,src=FILE` that build steps may ask for; may be repeated")
	return cmd
}

func (b *building) run(cmd *cobra.Command, args []string) error {
	b.output = ui.Format(cmd)
	env, err := b.env(cmd)
	if err != nil {
		return err
	}
	plan, err := b.plan(cmd, env, args)
	if err != nil {
		return err
	}
	if b.savePlan != "" {
		if err := ui.Output(cmd.OutOrStdout(), b.savePlan, plan.Encode); err != nil {
			return err
		}
	}
	if b.made.plan {
		return b.show(cmd.OutOrStdout(), plan)
	}
	if b.images == "" {
		return ui.Usagef("--images is required: the repository that built images go to")
	}
	if env.Repository, err = name.NewRepository(b.images); err != nil {
		return ui.Usagef("--images: %w", err)
	}
	if env.Registry, err = b.registry(cmd, b.made.into); err != nil {
		return err
	}
	env.Images = &twoPlaces{built: env.Registry, repo: env.Repository, Images: env.Images}
	progress := &lines{w: cmd.ErrOrStderr(), total: len(plan.Steps())}
	result, failed := fromsource.Run(cmd.Context(), plan, env, &fromsource.RunOptions{Workers: b.workers, Again: b.again, Progress: progress.event})
	if result == nil {
		return failed
	}
	failed = ui.Next(failed, "mend what failed and run it again: what is built is not built again")
	out := &built{Result: result}
	if failed == nil && b.made.version != "" {
		out.Release, failed = b.assemble(cmd, plan, result, env.Images)
	}
	return errors.Join(failed, b.print(cmd, out))
}

// built is what the command prints.
type built struct {
	*fromsource.Result
	Release *assembled `json:"release,omitempty"` // that was made of it
}

// env is where sources come from and who builds.
func (b *building) env(cmd *cobra.Command) (*fromsource.Env, error) {
	if b.state == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			base = filepath.Join(os.TempDir(), "uid-"+strconv.Itoa(os.Getuid()))
		}
		b.state = filepath.Join(base, "okd-streams", "components")
	}
	work := filepath.Join(b.state, "work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return nil, err
	}
	if b.storage != "" {
		b.builder.Root, b.builder.RunRoot = filepath.Join(b.storage, "root"), filepath.Join(b.storage, "run")
	}
	if b.verbose {
		b.builder.Output = cmd.ErrOrStderr()
	}
	src, err := b.common.images(cmd)
	if err != nil {
		return nil, err
	}
	fetcher := &gitsource.Fetcher{Program: b.git, Dir: filepath.Join(b.state, "sources")}
	return &fromsource.Env{Fetch: fetcher.Fetch, Images: src, Build: b.builder.BuildComponent, BuilderID: "buildah", Dir: work}, nil
}

// plan makes the plan, or reads it.
func (b *building) plan(cmd *cobra.Command, env *fromsource.Env, args []string) (*fromsource.Plan, error) {
	if b.usePlan != "" {
		if len(args) > 0 || b.scratch || len(b.only)+len(b.folders) > 0 {
			return nil, ui.Usagef("--use-plan says what is built: no RELEASE, NAME=PULLSPEC, --scratch, --only and --source with it")
		}
		file, err := os.Open(b.usePlan)
		if err != nil {
			return nil, err
		}
		plan, err := fromsource.DecodePlan(file)
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", b.usePlan, err)
		}
		return plan, nil
	}
	list, err := b.readList()
	if err != nil {
		return nil, err
	}
	opts := &fromsource.PlanOptions{Minor: b.minor, Only: b.only, Platform: v1.Platform{OS: "linux", Architecture: b.arch}}
	if b.scratch {
		opts.Mode = fromsource.Scratch
	}
	if opts.Created, err = ui.BuildTime(); err != nil {
		return nil, err
	}
	if len(args) > 0 && !strings.Contains(args[0], "=") {
		if opts.Release, _, err = b.common.release(cmd, args[0]); err != nil {
			return nil, err
		}
		args = args[1:]
	} else if !b.scratch {
		return nil, ui.Usagef("name the RELEASE whose images are kept, or build all with --scratch")
	}
	if err := given(list, args); err != nil {
		return nil, err
	}
	plan, err := fromsource.NewPlan(cmd.Context(), list, env, opts)
	if _, usage := errors.AsType[*ui.UsageError](err); usage || cmd.Context().Err() != nil {
		return nil, err
	}
	return plan, ui.Next(err, "say in the list where sources are (repository, ref) and what is taken for an image (images), or name what is there already as NAME=PULLSPEC")
}

func (b *building) readList() (*fromsource.List, error) {
	list, err := fromsource.OKD()
	if b.list != "okd" {
		file, openErr := os.Open(b.list)
		if openErr != nil {
			return nil, openErr
		}
		list, err = fromsource.DecodeList(file)
		if err = errors.Join(err, file.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", b.list, err)
		}
	}
	if err != nil {
		return nil, err
	}
	for _, text := range b.args {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, ui.Usagef("--build-arg=%s: want NAME=VALUE", text)
		}
		if list.Args == nil {
			list.Args = map[string]string{}
		}
		list.Args[key] = value
		for i := range list.Components {
			if _, own := list.Components[i].Args[key]; own {
				list.Components[i].Args[key] = value
			}
		}
	}
	for _, text := range b.folders {
		component, folder, ok := strings.Cut(text, "=")
		if !ok || folder == "" {
			return nil, ui.Usagef("--source=%s: want NAME=FOLDER", text)
		}
		path, err := filepath.Abs(folder)
		if err != nil {
			return nil, err
		}
		c := find(list, component)
		if c == nil {
			list.Components = append(list.Components, fromsource.Component{Name: component})
			c = find(list, component)
		}
		c.Repository, c.Ref, c.Commit = "file://"+filepath.ToSlash(path), "", ""
	}
	return list, nil
}

func find(list *fromsource.List, component string) *fromsource.Component {
	for i := range list.Components {
		if list.Components[i].Name == component {
			return &list.Components[i]
		}
	}
	return nil
}

// given puts images that are there already into the list.
func given(list *fromsource.List, args []string) error {
	for _, text := range args {
		component, pullspec, ok := strings.Cut(text, "=")
		if !ok {
			return ui.Usagef("%q is not NAME=PULLSPEC", text)
		}
		if _, err := name.NewDigest(pullspec); err != nil {
			return ui.Usagef("%s: want a pullspec by digest: %w", text, err)
		}
		c := find(list, component)
		if c == nil {
			list.Components = append(list.Components, fromsource.Component{})
			c = &list.Components[len(list.Components)-1]
		}
		*c = fromsource.Component{Name: component, Image: pullspec, Tool: c.Tool}
	}
	return nil
}

// show prints a plan.
func (b *building) show(w io.Writer, plan *fromsource.Plan) error {
	switch b.output {
	case ui.JSONFormat:
		return plan.Encode(w)
	case ui.YAMLFormat:
		var text bytes.Buffer
		if err := plan.Encode(&text); err != nil {
			return err
		}
		return ui.YAML(w, json.RawMessage(text.Bytes()))
	}
	rows := [][]string{{"BATCH", "COMPONENT", "SOURCE", "BUILT OF"}}
	for i, batch := range plan.Batches {
		for _, s := range batch {
			component := s.Name
			if s.Tool {
				component += " (tool)"
			}
			var uses []string
			for _, u := range s.Uses {
				uses = append(uses, u.Component+short(u.Reference))
			}
			rows = append(rows, []string{strconv.Itoa(i + 1), component, origin(&s), strings.Join(uses, ", ")})
		}
	}
	for _, g := range plan.Given {
		rows = append(rows, []string{"", g.Name, "is there: " + short(g.Image), ""})
	}
	if err := ui.Table(w, rows); err != nil {
		return err
	}
	if len(plan.Exclude) > 0 {
		_, err := fmt.Fprintf(w, "Left out: %s\n", strings.Join(plan.Exclude, ", "))
		return err
	}
	return nil
}

// short is a pullspec with a digest that people can still tell from others.
func short(pullspec string) string {
	repo, digest, ok := strings.Cut(pullspec, "@sha256:")
	if !ok {
		return pullspec
	}
	return repo + "@" + digest[:12]
}

func origin(s *fromsource.Step) string {
	switch {
	case s.Source.Repository == "":
		return "containerfile"
	case s.Source.Commit == "":
		return s.Source.Repository
	}
	text := s.Source.Repository + "@" + s.Source.Commit[:12]
	if s.Source.Ref != "" {
		text += " (" + s.Source.Ref + ")"
	}
	return text
}

func (b *building) print(cmd *cobra.Command, out *built) error {
	var images []string
	for _, c := range out.Components {
		if !c.Tool {
			images = append(images, c.Name+"="+c.Image)
		}
	}
	ui.SetResult(cmd.Context(), "images", images)
	lines := images
	if out.Release != nil {
		lines = append(slices.Clip(lines), out.Release.line())
	}
	return ui.Print(cmd, out, eachLine(lines))
}

// assemble makes the release of what was built.
func (b *building) assemble(cmd *cobra.Command, plan *fromsource.Plan, result *fromsource.Result, src payload.Images) (*assembled, error) {
	spec, err := plan.Spec(result)
	if err != nil {
		return nil, err
	}
	spec.Version, spec.Previous = b.made.version, b.made.previous
	spec.Exclude = append(spec.Exclude, b.made.exclude...)
	if spec.Created, err = ui.BuildTime(); err != nil {
		return nil, err
	}
	opts := b.made.options()
	opts.Platform = b.platform()
	var from []name.Repository
	if spec.FromRelease != nil {
		from = append(from, spec.FromRelease.Context())
	}
	return b.made.release(b.common, cmd, src, spec, opts, from...)
}

// twoPlaces reads what was built here where it was put, and all else where the
// release is.
type twoPlaces struct {
	payload.Images
	built publish.Registry
	repo  name.Repository
}

func (t *twoPlaces) Head(ctx context.Context, ref name.Reference) (*v1.Descriptor, error) {
	if ref.Context() == t.repo {
		return t.built.Head(ctx, ref)
	}
	return t.Images.Head(ctx, ref)
}

func (t *twoPlaces) Image(ctx context.Context, ref name.Reference) (v1.Image, error) {
	if ref.Context() == t.repo {
		return t.built.Image(ctx, ref)
	}
	return t.Images.Image(ctx, ref)
}

func (t *twoPlaces) Index(ctx context.Context, ref name.Reference) (v1.ImageIndex, error) {
	if ref.Context() == t.repo {
		return t.built.Index(ctx, ref)
	}
	return t.Images.Index(ctx, ref)
}

// lines says how builds go, a line an event.
type lines struct {
	mu          sync.Mutex
	w           io.Writer
	done, total int
}

func (l *lines) event(e fromsource.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e.Phase {
	case fromsource.Reused, fromsource.Done, fromsource.Failed, fromsource.Skipped:
		l.done++
	}
	text := fmt.Sprintf("[%d/%d] %s: %s", l.done, l.total, e.Component, e.Phase)
	if e.Err != nil {
		text += ": " + firstLine(e.Err.Error())
	}
	fmt.Fprintln(l.w, text)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
