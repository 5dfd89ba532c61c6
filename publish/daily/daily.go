package daily

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/atomicfile"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/stream"
)

// The steps, in order.
const (
	StepInputs      = "inputs"
	StepCommit      = "commit"
	StepEncapsulate = "encapsulate"
	StepNode        = "node"
	StepBootimage   = "bootimage"
	StepPayload     = "payload"
	StepPublish     = "publish"
)

// Steps are all steps, in order.
func Steps() []string {
	return []string{StepInputs, StepCommit, StepEncapsulate, StepNode, StepBootimage, StepPayload, StepPublish}
}

var (
	// ErrBusy: another run works in the state folder.
	ErrBusy = errors.New("another run works in the state folder")
	// ErrMissing: the stream needs something that was not given. Errors that
	// wrap it are [*MissingError].
	ErrMissing = errors.New("needed and not given")
)

// MissingError lists what a run must be given.
type MissingError struct {
	Stream string
	Needs  []stream.Need
	// Ended is what the definition says of a stream that has ended, else "".
	Ended string
}

func (e *MissingError) Error() string {
	text := "stream " + e.Stream + " needs:"
	for _, need := range e.Needs {
		article := "a"
		if strings.ContainsRune("aeiou", rune(need.What[0])) {
			article = "an"
		}
		text += fmt.Sprintf("\n  - %s %s (%s)", article, need.What, need.Path)
	}
	if e.Ended != "" {
		text += "\n" + e.Ended
	}
	return text
}

// Unwrap gives [ErrMissing].
func (e *MissingError) Unwrap() error { return ErrMissing }

// Env is the world a run works in.
type Env struct {
	// State is the folder for everything a run keeps. It is made if missing.
	State string
	// Store and Registry are where builds are published.
	Store    publish.Store
	Registry publish.Registry
	// Repository is what image names are below, in place of the definition's
	// registry.repository; "": the definition's.
	Repository string
	// PublicURL is where readers find Store; "": the definition's
	// store.publicURL. It is in the URLs of metadata.
	PublicURL string
	// Images is where the base release and components are read; nil: Registry.
	Images payload.Images
	// Book is where results of gates are recorded, and those that others
	// recorded are found. Without a store they are kept in the state folder.
	Book gate.Book
	// PublishReport puts the report of a published build into Store, too, as
	// report.html beside the build's meta.json, where publish/browse finds it. Its
	// bytes are not a function of the inputs: it says how long steps took.
	PublishReport bool
	// Clock gives the time for durations in records. It is not in any output
	// that has a digest. Nil: durations are zero.
	Clock func() time.Time
	// Logger is told each finished step; nil: nobody.
	Logger *slog.Logger
	// Progress may be called from several goroutines at once and must not block;
	// nil: nobody is told.
	Progress func(Event)
}

// Event is a report of progress.
type Event struct {
	Step  string // one of [Steps]
	Phase string // "": begins; "done"; "reused"; others: what is being done
	Done  int64  // things, or with Bytes bytes
	Total int64  // 0: not known
	Bytes bool
}

// Options say what a run builds.
type Options struct {
	// Time is the time of the build: in names, in the commit, in images.
	// Required. A run that resumes keeps the time of the run it resumes.
	Time time.Time
	// Arch is the architecture; "": the definition's first.
	Arch stream.Arch
	// Version names the release; "": the next by the definition's scheme.
	Version string
	// Build, if not "", is a build of the state folder to go on with: its
	// pinned inputs are used, and all other options that name inputs but
	// NodeBuilder must be empty.
	Build string
	// Source is the root filesystem. SourceName names it for people.
	Source     ostree.Tree
	SourceName string
	// SourceImage is an image with the root filesystem, in place of Source.
	SourceImage v1.Image
	// Metadata is added to the commit's, before the keys of this package.
	Metadata []ostree.MetadataItem
	// TrustFiles skips reading files of Source that have the device, inode, size
	// and times they had in the last run (see [ostree.DevInoCache]).
	TrustFiles bool
	// Node is the node image by digest or tag (its digest is pinned). Nil: what
	// NodeBuilder makes, else the base image itself.
	Node name.Reference
	// Extensions is the extensions image; nil: what NodeBuilder makes, else the
	// definition's.
	Extensions name.Reference
	// NodeBuilder builds the node and extensions image (may be nil) from the
	// base image; NodeBuilderID changes when its result for one base would.
	NodeBuilder   func(ctx context.Context, base v1.Image) (node, extensions v1.Image, err error)
	NodeBuilderID string
	// FromRelease is the release the payload starts from; nil: the definition's.
	FromRelease name.Reference
	// Components replace or add images of the payload, after the definition's.
	Components map[string]name.Reference
	// Disks are boot images that someone made of the commit.
	Disks []Disk
	// Gates are results of the definition's gates, by name. They are recorded
	// as the last ones of the release.
	Gates map[string]GateResult
	// MaxLayers limits the layers of the base image beside that of the commit,
	// 2 to 499; 0: [DefaultMaxLayers].
	MaxLayers int
}

// DefaultMaxLayers is how many layers the base image has at most beside that of
// the commit, unless Options say otherwise.
const DefaultMaxLayers = 64

// Disk is a boot image that is handed in.
type Disk struct {
	Platform string // of the catalogue: "qemu", "metal", "live-iso", …
	// Path is of a file on this machine, whose name says its format: what comes
	// after ".ARCH.", or after the first point, is the artifact's extension. A name
	// without one fails when the catalogue is written.
	Path string
	// SHA256 is what the file must have, lower-case hexadecimal; "": anything. A
	// file that has another is an error that wraps [publish.ErrDigest].
	SHA256 string
	// Unstamped says that it was converted without being stamped for the platform, which
	// the record then says, too.
	Unstamped bool
}

// build is a run in progress.
type build struct {
	env  *Env
	opts *Options
	def  *stream.Definition
	in   *Inputs
	id   string // folder of the records
	dir  string
	// outline: nothing is opened.
	outline bool

	repo          *ostree.Repo
	cache         *container.Cache
	contentCommit ostree.Checksum
	stats         ostree.CommitStats
	layers        container.EncapsulateStats
	files         []artifact // measured in this run

	records   []Record
	committed CommitOutputs
	base      ImageOutputs
	nodes     nodeOutputs
	boot      BootimageOutputs
	release   PayloadOutputs
	result    PublishOutputs

	// What was made in this run, each nil until it is needed.
	baseImage, nodeImage, extensionsImage v1.Image
	releaseImage                          *payload.Built
	images                                map[string]v1.Image // by digest
}

func (e *Env) now() time.Time {
	if e.Clock == nil {
		return time.Time{}
	}
	return e.Clock()
}

func (e *Env) event(event Event) {
	if e.Progress != nil {
		e.Progress(event)
	}
}

func (e *Env) publicURL(def *stream.Definition) string {
	if e.PublicURL != "" {
		return e.PublicURL
	}
	return def.Store.PublicURL
}

func (e *Env) images() payload.Images {
	if e.Images != nil {
		return e.Images
	}
	return e.Registry
}

// Run does the whole walk. def, env and opts are needed, and of them
// [Env.State], [Env.Store], [Env.Registry] and [Options.Time].
//
// What it must be given and is not is [ErrMissing], before any work; another run
// in the same state folder [ErrBusy]; a blocking gate that failed [ErrRejected],
// one without a result [publish.ErrPending]. After each of these, and any other
// error, the same call goes on where it stopped.
func Run(ctx context.Context, def *stream.Definition, env *Env, opts *Options) (*Summary, error) {
	return RunTo(ctx, def, env, opts, StepPublish)
}

// RunTo does the walk up to and including last, one of [Steps]; steps that are
// done already are reused. Errors are as of [Run].
func RunTo(ctx context.Context, def *stream.Definition, env *Env, opts *Options, last string) (_ *Summary, err error) {
	if opts.Time.IsZero() {
		return nil, errors.New("daily: Options.Time is not set")
	}
	if err := os.MkdirAll(env.State, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lockState(filepath.Join(env.State, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := atomicfile.Clean(env.State); err != nil {
		return nil, err
	}

	b := &build{env: env, opts: opts, def: def, images: map[string]v1.Image{}}
	defer func() { err = errors.Join(err, b.close()) }()
	steps := map[string]func(context.Context) error{
		StepInputs:      b.inputs,
		StepCommit:      b.commit,
		StepEncapsulate: b.encapsulate,
		StepNode:        b.node,
		StepBootimage:   b.bootimage,
		StepPayload:     b.payload,
		StepPublish:     b.publish,
	}
	if steps[last] == nil {
		return nil, fmt.Errorf("daily: no step %q", last)
	}
	for _, step := range Steps() {
		if err := steps[step](ctx); err != nil {
			return nil, err
		}
		if env.Logger != nil {
			env.Logger.InfoContext(ctx, "step", slog.String("build", b.id), slog.String("step", step))
		}
		if step == StepInputs {
			same, err := b.unchanged(ctx, last)
			if err != nil {
				return nil, err
			}
			if same {
				return b.lastSummary(ctx)
			}
		}
		if step == last {
			break
		}
	}
	return b.summary(ctx, last == StepPublish)
}
