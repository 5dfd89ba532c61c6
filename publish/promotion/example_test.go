package promotion_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"testing"
	"time"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/promotion"
	"github.com/okd-project/okd-streams/stream"
)

// inExample is what a world needs of a test.
type inExample struct {
	testing.TB
	dir string
}

func (e inExample) Helper()                           {}
func (e inExample) Context() context.Context          { return context.Background() }
func (e inExample) TempDir() string                   { return e.dir }
func (e inExample) Errorf(format string, args ...any) { log.Panicf(format, args...) }
func (e inExample) FailNow()                          { log.Panic("failed") }

// inWorld shows something in a world with a release, 4.21.0-okd-scos.0, and an
// accepted payload.
func inWorld(fn func(ctx context.Context, w *world)) {
	dir, err := os.MkdirTemp("", "promotion-")
	if err != nil {
		log.Panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	fn(context.Background(), small(inExample{dir: dir}))
}

func ExamplePromote() {
	inWorld(func(ctx context.Context, w *world) {
		w.gates["aws"] = publish.GatePending
		_, err := promotion.Promote(ctx, w.env(), settings(), &promotion.Options{By: "weekly job"})
		fmt.Println(errors.Is(err, publish.ErrPending), err)

		w.gates["aws"] = publish.GatePassed // some hours later
		r, err := promotion.Promote(ctx, w.env(), settings(), nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(r.Version, r.State, "after", r.Previous)
	})
	// Output:
	// true publish/promotion: promote 4.21.0-okd-scos.1: gates: waiting for aws
	// 4.21.0-okd-scos.1 promoted after [4.21.0-okd-scos.0]
}

func ExampleResume() {
	inWorld(func(ctx context.Context, w *world) {
		w.gates["aws"] = publish.GatePending
		_, err := promotion.Promote(ctx, w.env(), settings(), nil)
		fmt.Println(errors.Is(err, publish.ErrPending))

		// On another machine, which needs to know nothing but the name.
		w.gates["aws"] = publish.GatePassed
		r, err := promotion.Resume(ctx, w.env(), "4-scos-stable", "4.21.0-okd-scos.1")
		fmt.Println(r.State, err)
	})
	// Output:
	// true
	// promoted <nil>
}

func ExampleAbort() {
	inWorld(func(ctx context.Context, w *world) {
		w.gates["aws"] = publish.GateFailed
		r, err := promotion.Promote(ctx, w.env(), settings(), nil)
		fmt.Println(errors.Is(err, publish.ErrGate))
		if err := promotion.Abort(ctx, w.env(), r.Stream, r.Version, "somebody", "does not install"); err != nil {
			fmt.Println(err)
		}
		_, err = promotion.Resume(ctx, w.env(), r.Stream, r.Version)
		fmt.Println(err)
	})
	// Output:
	// true
	// publish/promotion: promote 4.21.0-okd-scos.1: 4.21.0-okd-scos.1: somebody: does not install: the promotion was aborted
}

func ExampleReservations() {
	inWorld(func(ctx context.Context, w *world) {
		if _, err := promotion.Promote(ctx, w.env(), settings(), &promotion.Options{By: "weekly job"}); err != nil {
			fmt.Println(err)
			return
		}
		all, err := promotion.Reservations(ctx, w.env(), "4-scos-stable")
		for _, r := range all {
			fmt.Println(r.Name, r.State, "by", r.By, "from", r.SourceVersion)
		}
		j, jErr := promotion.JournalOf(ctx, w.env(), "4-scos-stable", "4.21.0-okd-scos.1")
		fmt.Println(j.Steps[0].Name, j.State, err, jErr)
	})
	// Output:
	// 4.21.0-okd-scos.1 promoted by weekly job from 4.21.0-0.okd-scos-nightly-2026-11-20-080000
	// verify promoted <nil> <nil>
}

func ExampleFromDefinition() {
	def, err := stream.Builtin("okd-scos-stable")
	if err != nil {
		fmt.Println(err)
		return
	}
	s := promotion.FromDefinition(def)
	fmt.Println(s.Scheme, s.Release, s.Content, s.Gates, s.Latest)
	// Output: okd-scos quay.io/okd/scos-release quay.io/okd/scos-content [lint payload aws upgrade upgrade-minor] true
}

func ExampleFlow() {
	store := memstore.New()
	engine := &controller.Engine{Store: store, Key: "flow.json", Config: &controller.Config{Name: "4.21.0-0.okd-scos-nightly"}}
	err := engine.Edit(context.Background(), func(f *controller.Flow) error {
		f.Releases = []controller.FlowRelease{
			{Name: "4.21.0-0.okd-scos-nightly-2026-11-21-080000", Phase: controller.Ready},
			{Name: "4.21.0-0.okd-scos-nightly-2026-11-20-080000", Phase: controller.Accepted, PullSpec: "example.com/release@sha256:…"},
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	tags, err := promotion.Flow(engine)(context.Background())
	fmt.Println(len(tags), tags[0].Name, err)
	// Output: 1 4.21.0-0.okd-scos-nightly-2026-11-20-080000 <nil>
}

func ExampleShadow() {
	inWorld(func(ctx context.Context, w *world) {
		// The release that somebody promoted before, as public as it is.
		c, err := promotion.Shadow(ctx, w.env(), settings(), nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(c.Version, c.Same)
		for _, d := range c.Differences {
			fmt.Printf("%s: %s %q, %q\n", d.Subject, d.What, d.Published, d.Ours[:min(len(d.Ours), 12)])
		}
	})
	// Output:
	// 4.21.0-okd-scos.0 []
	// previous: a version that was never promoted: no cluster has it "4.21.0-0.okd-scos-nightly-2026-01-01-000000", ""
	// tags: tag latest "", "sha256:dce8f"
	// tags: tag 4.21 "", "sha256:dce8f"
	// signature: signature over the release's digest and name "none", "registry.exa"
}

func ExampleDue() {
	inWorld(func(ctx context.Context, w *world) {
		sprintly := stream.Cadence{Schedule: "0 5 * * 1", MinInterval: 21 * 24 * time.Hour}
		if _, err := promotion.Promote(ctx, w.env(), settings(), nil); err != nil {
			fmt.Println(err)
			return
		}
		s, err := promotion.Due(ctx, w.env(), "4-scos-stable", sprintly)
		fmt.Println(s.Due, s.At, err)
	})
	// Output: false 2026-12-14 05:00:00 +0000 UTC <nil>
}
