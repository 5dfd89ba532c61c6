package promotion

import (
	"context"
	"log/slog"
	"time"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/controller"
)

// Env is the world a promotion works in. Store, Registry and Now are required,
// and what Settings ask for: so that a release which is resumed on a machine
// that lacks something is not released without it.
type Env struct {
	// Store keeps the register of names, the journals, the notes and the graph,
	// below Prefix ("" or ending in "/"; the graph is at its own key). It must
	// honour conditions: names are reserved by compare-and-swap.
	Store  publish.Store
	Prefix string
	// Registry holds what is promoted and gets the result.
	Registry publish.Registry
	// Dir is a folder for files on their way, made if missing. It may be lost
	// between two runs: everything in it is made again, and must then be the
	// same.
	Dir string
	// Now is the clock.
	Now func() time.Time

	// Accepted gives the accepted payloads of the stream that is promoted from;
	// of these the newest as OKD orders versions is picked. (*controller.Client).Tags
	// with controller.Accepted is one, [Flow] another.
	Accepted func(ctx context.Context) ([]controller.Tag, error)
	// Published gives the versions that were promoted by others, as the
	// accepted tags of 4-scos-stable. Nil: the tags of Settings.Release. Their
	// names are never reserved, and they lead to a new release.
	Published func(ctx context.Context) ([]string, error)

	// Trust says whose signatures a payload must have to be promoted.
	Trust *payload.Policy
	// Signer signs the release, as of a time: an OpenPGP message in binary
	// (pgpsigner.Message, pgpsigner.Packed).
	Signer func(at time.Time) (payload.Signer, error)
	// Keys are the public keys by which clusters judge. A signature that they do
	// not accept is not published.
	Keys *payload.Keyring
	// ImageSigner signs images as cosign does, and ImageKeys are its public keys.
	ImageSigner ImageSigner
	ImageKeys   []*payload.CosignKey
	// Signatures is where signatures go, at SignaturePrefix ("" or ending in "/")
	// followed by sha256=HEX/signature-N. Nil: Store.
	Signatures      publish.Store
	SignaturePrefix string
	// SumsSigner signs sha256sum.txt of the client tools, detached and in text
	// (pgpsigner.Armored); nil: unsigned.
	SumsSigner func(at time.Time) (payload.Signer, error)
	// History of source code, for the change log; nil: repositories are named
	// without their commits.
	History payload.History

	// Gate gives the result of a gate; nil: every gate is pending.
	Gate func(ctx context.Context, r *Release, gate string) (publish.GateResult, error)
	// Evidence gives what speaks for edges to the release; nil: nothing.
	Evidence func(ctx context.Context, r *Release) ([]graph.Evidence, error)
	// Announcer announces the release for people.
	Announcer Announcer
	// ImageStreams tags the release in Settings.ImageStream.
	ImageStreams ImageStreams
	// Notify tells people that the release is out. It is called last, and again
	// if its answer was lost. That they could not be told is noted in the journal
	// and no fault of the release.
	Notify func(ctx context.Context, r *Release) error

	// Logger is told each finished step; nil: nobody.
	Logger *slog.Logger
	// Progress may be called from several goroutines at once and must not block.
	Progress func(Event)
}

// Event is a report of progress.
type Event struct {
	Step  string // one of the steps of [Journal.Steps]
	Phase string // "": begins; "done"; "reused": done before
	Done  int64  // bytes
	Total int64  // 0: not known
}

// Release is what is being promoted, as far as it is known.
type Release struct {
	Version string `json:"version"`
	// Pullspec names the release image by digest.
	Pullspec string `json:"pullspec"`
	// Previous are the versions that lead to it, in the order of OKD.
	Previous []string `json:"previous"`
	// Source is the payload that it was made from, by digest, and SourceVersion
	// what it is called there.
	Source        string    `json:"source"`
	SourceVersion string    `json:"sourceVersion"`
	Stream        string    `json:"stream"`  // that it is promoted to
	Created       time.Time `json:"created"` // when its name was reserved
}

// Announcer is where releases are announced for people, such as GitHub. Every
// method may be called again after its answer was lost, and must then find its
// work done.
type Announcer interface {
	// Prepare makes a draft that nobody sees, with all assets, verified.
	Prepare(ctx context.Context, a *Announcement) error
	// Publish makes the draft public, and the latest if it says so.
	Publish(ctx context.Context, a *Announcement) error
	// Discard takes the draft of a version back; none is no error. What is
	// public is an error and stays.
	Discard(ctx context.Context, version string) error
}

// Announcement is what an [Announcer] announces.
type Announcement struct {
	Version    string
	Body       string // Markdown
	Latest     bool
	Prerelease bool
	Assets     []Asset
}

// Asset is a file of an announcement.
type Asset struct {
	Name        string
	ContentType string
	SHA256      string // lower-case hexadecimal
	Source      publish.Source
}

// ImageStreams tags images in image streams of a cluster. Both methods may be
// called again.
type ImageStreams interface {
	// Tag points IMAGESTREAM:TAG at a pullspec by digest. A tag that points
	// elsewhere is an error that wraps [io/fs.ErrExist].
	Tag(ctx context.Context, imageStream, tag, pullspec string) error
	// Untag removes it if it points at the pullspec; none is no error.
	Untag(ctx context.Context, imageStream, tag, pullspec string) error
}

func (e *Env) signatures() publish.Store {
	if e.Signatures != nil {
		return e.Signatures
	}
	return e.Store
}

func (e *Env) event(event Event) {
	if e.Progress != nil {
		e.Progress(event)
	}
}

// Flow gives the accepted payloads of a stream without a release controller, for
// Env.Accepted.
func Flow(engine *controller.Engine) func(ctx context.Context) ([]controller.Tag, error) {
	return func(ctx context.Context) ([]controller.Tag, error) {
		f, err := engine.Load(ctx)
		if err != nil {
			return nil, err
		}
		var out []controller.Tag
		for _, r := range f.Releases {
			if r.Phase == controller.Accepted {
				out = append(out, controller.Tag{Name: r.Name, Phase: r.Phase, PullSpec: r.PullSpec})
			}
		}
		return out, nil
	}
}
