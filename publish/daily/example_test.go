package daily_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/daily"
	"github.com/okd-project/okd-streams/publish/dirstore"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/stream"
)

// A stream of one's own, from a folder to a folder.
func ExampleRun() {
	ctx := context.Background()
	build := func() (*daily.Summary, error) {
		def, err := stream.Builtin("okd-scos-next")
		if err != nil {
			return nil, err
		}
		store, err := dirstore.Open(ctx, "store", nil)
		if err != nil {
			return nil, err
		}
		defer store.Close()
		registry, err := layoutregistry.Open(ctx, "registry", nil)
		if err != nil {
			return nil, err
		}
		source, err := daily.OpenSource(ctx, "tar:rootfs.tar.zst", nil)
		if err != nil {
			return nil, err
		}
		defer source.Close()
		return daily.Run(ctx, def, &daily.Env{State: "state", Store: store, Registry: registry, Clock: time.Now}, &daily.Options{
			Time: time.Now(), Source: source.Tree, SourceName: "rootfs", Metadata: source.Metadata,
		})
	}
	summary, err := build()
	switch {
	case errors.Is(err, daily.ErrMissing):
		fmt.Println("give it more:", err)
	case errors.Is(err, publish.ErrPending):
		fmt.Println("run it again when the gates have results:", err)
	case err != nil:
		fmt.Println(err)
	case summary.Unchanged:
		fmt.Println("nothing new since", summary.Version)
	default:
		fmt.Println("released", summary.Release.Reference)
	}
}

// A step of a pipeline engine: the build goes on where the step before it
// stopped, in the same state folder.
func ExampleRunTo() {
	ctx := context.Background()
	def, err := stream.Builtin("okd-scos-next")
	if err != nil {
		fmt.Println(err)
		return
	}
	summary, err := daily.RunTo(ctx, def, &daily.Env{State: "state"}, &daily.Options{Time: time.Now(), Build: "9.0.20261125-0"}, daily.StepEncapsulate)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(summary.Base.Digest)
}

func ExamplePlan() {
	def, err := stream.Builtin("sample")
	if err != nil {
		fmt.Println(err)
		return
	}
	outline, err := daily.Plan(context.Background(), def, &daily.Env{Repository: "localhost/sample"}, &daily.Options{
		Time: time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC), SourceName: "dir:rootfs", NodeBuilderID: "mine",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(outline.Version)
	for _, step := range outline.Steps {
		fmt.Println(step.Step+":", step.Does[0])
	}
	// Output:
	// 0.0.0-sample.20261125
	// inputs: read dir:rootfs
	// commit: commit as sample/x86_64/sample
	// encapsulate: make the base image from the commit
	// node: build the node image on the base image
	// bootimage: take kernel and initramfs from the commit, and 0 disks
	// payload: assemble localhost/sample/sample-release:0.0.0-sample.20261125 from the components
	// publish: images to localhost/sample/sample-coreos and localhost/sample/sample-release
}

func ExampleOpenSource() {
	_, err := daily.OpenSource(context.Background(), "rootfs", nil)
	fmt.Println(err)
	// Output: daily: source rootfs: want dir:PATH, tar:PATH, ostree:REPOSITORY:REF or cosa:FOLDER: invalid argument
}

func ExampleSourceOf() {
	def, err := stream.Builtin("sample")
	if err != nil {
		fmt.Println(err)
		return
	}
	def.OS.Source.Tar = "rootfs.tar.zst"
	fmt.Println(daily.SourceOf(def))
	// Output: tar:rootfs.tar.zst
}

func ExampleSteps() {
	fmt.Println(daily.Steps())
	// Output: [inputs commit encapsulate node bootimage payload publish]
}

func ExampleClaimOf() {
	ctx := context.Background()
	store := memstore.New()
	_, err := store.Put(ctx, "sample/names/build-9.0.20261125-0.json",
		publish.BytesSource([]byte(`{"build": "9.0.20261125-0", "version": "4.21.0-okd-scos.7", "arch": "x86_64"}`)), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	claim, err := daily.ClaimOf(ctx, store, bootimage.Bucket{Stream: "sample", Prefix: "sample"}, "9.0.20261125-0")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(claim.Build, "was made for", claim.Version)
	// Output: 9.0.20261125-0 was made for 4.21.0-okd-scos.7
}
