package retention_test

import (
	"context"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/retention"
)

func stored() publish.Store {
	s := memstore.New()
	for key, text := range map[string]string{
		"builds/builds.json":              `{"schema-version":"1.0.0","builds":[{"id":"9.0.2-0","arches":["x86_64"]},{"id":"9.0.1-0","arches":["x86_64"]}]}`,
		"builds/9.0.1-0/x86_64/meta.json": `{"buildid":"9.0.1-0","name":"scos","ostree-commit":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","ostree-timestamp":"2026-01-01T00:00:00Z","ostree-version":"9.0.1-0"}`,
	} {
		if _, err := s.Put(context.Background(), key, publish.BytesSource([]byte(text)), nil); err != nil {
			log.Fatal(err)
		}
	}
	return s
}

// A dry run prints the plan.
func ExampleNew() {
	p, err := retention.New(context.Background(), stored(), "builds/", retention.Policy{Build: 90 * 24 * time.Hour}, now, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range p.Steps {
		fmt.Println(s.Kind, s.Build, s.Reason, s.Keys)
	}
	// Output: build 9.0.1-0 329 days old [builds/9.0.1-0/x86_64/meta.json]
}

func ExamplePlan_Apply() {
	ctx, store := context.Background(), stored()
	p, err := retention.New(ctx, store, "builds/", retention.Policy{Build: 90 * 24 * time.Hour}, now, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := p.Apply(ctx, store, now, nil); err != nil {
		log.Fatal(err)
	}
	for info, err := range store.List(ctx, "") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(info.Key)
	}
	// Output: builds/builds.json
}

func ExampleDecodePolicies() {
	p, err := retention.DecodePolicies(strings.NewReader("testing-devel:\n  images: 18m\n  images-keep: [qemu, live-iso]\n"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p["testing-devel"].Images, p["testing-devel"].ImagesKeep)
	// Output: 12960h0m0s [qemu live-iso]
}

func ExampleDecodePlan() {
	_, err := retention.DecodePlan(strings.NewReader(`{"prefix":"builds/","steps":[{"build":"9.0.1-0","kind":"build","keys":["builds/9.0.2-0/x"]}]}`))
	fmt.Println(err)
	// Output: publish/retention: plan: builds/9.0.2-0/x is not of build 9.0.1-0
}

func ExamplePlan_Bytes() {
	p := &retention.Plan{Steps: []retention.Step{{Build: "9.0.1-0", Kind: retention.Images, Bytes: 1 << 30}}}
	fmt.Println(p.Bytes())
	// Output: 1073741824
}
