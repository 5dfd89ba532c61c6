package status_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/status"
)

func ExampleNew() {
	r := status.New([]status.History{red()}, now, nil)
	fmt.Println(r.Level)
	for _, reason := range r.Streams[0].Reasons[:2] {
		fmt.Println(reason.Text)
	}
	// Output:
	// failing
	// the last accepted build, 4.22.0-0.okd-scos-2026-11-23-120000, is 72 hours old
	// gate aws is red since 4.22.0-0.okd-scos-2026-11-24-120000; last green 4.22.0-0.okd-scos-2026-11-23-120000
}

func ExampleReport_WriteText() {
	if err := status.New([]status.History{green()}, now, nil).WriteText(os.Stdout); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 4.21.0-0.okd-scos: OK
	//   last build     4.21.0-0.okd-scos-2026-11-26-080000, 4 hours ago
	//   last accepted  4.21.0-0.okd-scos-2026-11-26-080000, 4 hours ago
	//   gate aws (blocking): succeeded, 1 of 1 passed https://example.com/4.21.0-0.okd-scos-2026-11-26-080000/aws
}

func ExampleReport_WriteMetrics() {
	if err := status.New([]status.History{{Stream: "s", Builds: green().Builds}}, now, nil).WriteMetrics(os.Stdout); err != nil {
		log.Fatal(err)
	}
	// Output:
	// # HELP okd_streams_level Readiness of the stream: 0 ok, 1 warning, 2 failing.
	// # TYPE okd_streams_level gauge
	// okd_streams_level{stream="s"} 0
	// # HELP okd_streams_age_seconds Age of the last build, accepted build and published release.
	// # TYPE okd_streams_age_seconds gauge
	// okd_streams_age_seconds{stream="s",what="build"} 14400
	// okd_streams_age_seconds{stream="s",what="accepted"} 14400
	// # HELP okd_streams_gate Last result of the gate: 1 passed, 0 failed, -1 pending.
	// # TYPE okd_streams_gate gauge
	// okd_streams_gate{stream="s",gate="aws",blocking="true"} 1
	// # HELP okd_streams_missing_updates Updates that clusters miss.
	// # TYPE okd_streams_missing_updates gauge
	// okd_streams_missing_updates{stream="s"} 0
	// # HELP okd_streams_stale_boot_images Boot images that are too old.
	// # TYPE okd_streams_stale_boot_images gauge
	// okd_streams_stale_boot_images{stream="s"} 0
	// # HELP okd_streams_faults Things that could not be found out.
	// # TYPE okd_streams_faults gauge
	// okd_streams_faults{stream="s"} 0
}

// A page for a web server.
func ExampleReport_WriteHTML() {
	var page strings.Builder
	if err := status.New([]status.History{red(), green()}, now, nil).WriteHTML(&page); err != nil {
		log.Fatal(err)
	}
	fmt.Println("scripts:", strings.Count(page.String(), "<script"))
	// Output: scripts: 0
}

func ExampleReport_WriteJSON() {
	if err := status.New(nil, now, nil).WriteJSON(os.Stdout); err != nil {
		log.Fatal(err)
	}
	// Output:
	// {
	//   "made": "2026-11-26T12:00:00Z",
	//   "level": "ok",
	//   "streams": []
	// }
}

// A release controller is asked; here it is a stand-in with one release.
func ExampleCollect() {
	ctx := context.Background()
	engine := &controller.Engine{
		Store: memstore.New(), Key: "flow.json", Config: &controller.Config{Name: "4.22.0-0.okd-scos"},
	}
	err := engine.Edit(ctx, func(f *controller.Flow) error {
		f.Releases = []controller.FlowRelease{{
			Name: "4.22.0-0.okd-scos-2026-11-24-060000", Phase: controller.Accepted,
			Jobs: map[string]controller.Job{"aws": {State: controller.JobSucceeded}},
		}}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(controller.Handler(engine))
	defer server.Close()
	client, err := controller.NewClient(server.URL, nil)
	if err != nil {
		log.Fatal(err)
	}
	h, err := status.Collect(ctx, client, "4.22.0-0.okd-scos", now, nil)
	if err != nil {
		log.Fatal(err)
	}
	r := status.New([]status.History{*h}, now, nil)
	fmt.Println(r.Level)
	for _, reason := range r.Streams[0].Reasons {
		fmt.Println(reason.Text)
	}
	// Output:
	// warning
	// the last build, 4.22.0-0.okd-scos-2026-11-24-060000, is 54 hours old
	// the last accepted build, 4.22.0-0.okd-scos-2026-11-24-060000, is 54 hours old
}

// The payloads that matter are opened, for what changed before a gate became red.
func ExampleContentOf() {
	var images payload.Images // a registry
	_ = status.CollectOptions{
		Look: func(ctx context.Context, pullSpec string) (*status.Content, error) {
			ref, err := name.ParseReference(pullSpec)
			if err != nil {
				return nil, err
			}
			r, err := payload.Open(ctx, images, ref, nil)
			if err != nil {
				return nil, err
			}
			return status.ContentOf(ctx, images, r)
		},
	}
}
