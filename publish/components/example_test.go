package components_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish/components"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
)

// exampleEnv has a registry in a folder, a repository with the sources of all
// components, and a builder that makes images without any file.
func exampleEnv() (env *components.Env, done func()) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	registry, err := layoutregistry.Open(context.Background(), filepath.Join(dir, "registry"), nil)
	if err != nil {
		log.Fatal(err)
	}
	repo, err := name.NewRepository("registry.example/okd/content")
	if err != nil {
		log.Fatal(err)
	}
	for file, text := range map[string]string{
		"Dockerfile":          "FROM scratch\nCOPY manifests /manifests\n",
		"console/Dockerfile":  "ARG BASE=registry.ci.openshift.org/ocp/4.21:base\nFROM $BASE\nCOPY console /usr/bin/\n",
		"operator/Dockerfile": "FROM registry.ci.openshift.org/ocp/4.21:console AS console\nFROM registry.ci.openshift.org/ocp/4.21:base\nCOPY --from=console /x /y\n",
	} {
		path := filepath.Join(dir, "sources", file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			log.Fatal(err)
		}
	}
	return &components.Env{
		Registry: registry, Repository: repo, Dir: dir,
		Fetch: func(_ context.Context, s components.Source) (*components.Tree, error) { // git, for instance
			return &components.Tree{Dir: filepath.Join(dir, "sources"), Commit: strings.Repeat("12", 20), Time: time.Unix(1780000000, 0)}, nil
		},
		Build: func(_ context.Context, b *components.Build) error { // buildah, for instance
			config := &v1.ConfigFile{OS: b.Platform.OS, Architecture: b.Platform.Architecture, RootFS: v1.RootFS{Type: "layers"}}
			config.Config.Labels = map[string]string{}
			for _, l := range b.Labels {
				key, value, _ := strings.Cut(l, "=")
				config.Config.Labels[key] = value
			}
			img, err := mutate.ConfigFile(empty.Image, config)
			if err != nil {
				return err
			}
			to, err := layout.Write(b.Output, empty.Index)
			if err != nil {
				return err
			}
			return to.AppendImage(img)
		},
	}, func() { os.RemoveAll(dir) }
}

const exampleList = `
apiVersion: streams.okd.io/v1alpha1
kind: Components
ref: release-${MINOR}
images:
  - {match: "registry.ci.openshift.org/*/*:*", use: "*"}
components:
  - {name: base, tool: true, repository: https://git.example/okd}
  - {name: console, repository: https://git.example/okd, context: console}
  - {name: console-operator, repository: https://git.example/okd, context: operator}
`

func ExampleNewPlan() {
	env, done := exampleEnv()
	defer done()
	list, err := components.DecodeList(strings.NewReader(exampleList))
	if err != nil {
		log.Fatal(err)
	}
	plan, err := components.NewPlan(context.Background(), list, env, &components.PlanOptions{Mode: components.Scratch, Minor: "4.21"})
	if err != nil {
		log.Fatal(err)
	}
	for i, batch := range plan.Batches {
		for _, s := range batch {
			fmt.Println(i+1, s.Name, s.Source.Ref)
			for _, u := range s.Uses {
				fmt.Println("   ", u.Image, "is", u.Component)
			}
		}
	}
	// Output:
	// 1 base release-4.21
	// 2 console release-4.21
	//     registry.ci.openshift.org/ocp/4.21:base is base
	// 3 console-operator release-4.21
	//     registry.ci.openshift.org/ocp/4.21:console is console
	//     registry.ci.openshift.org/ocp/4.21:base is base
}

// A plan is made in one place and carried out in another, and again where it stopped.
func ExampleRun() {
	env, done := exampleEnv()
	defer done()
	list, err := components.DecodeList(strings.NewReader(exampleList))
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	made, err := components.NewPlan(ctx, list, env, &components.PlanOptions{Mode: components.Scratch, Minor: "4.21"})
	if err != nil {
		log.Fatal(err)
	}
	var file bytes.Buffer
	if err := made.Encode(&file); err != nil {
		log.Fatal(err)
	}

	plan, err := components.DecodePlan(&file)
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		result, err := components.Run(ctx, plan, env, nil)
		if err != nil {
			log.Fatal(err)
		}
		for _, b := range result.Components {
			fmt.Println(b.Name, "reused:", b.Reused)
		}
	}
	// Output:
	// base reused: false
	// console reused: false
	// console-operator reused: false
	// base reused: true
	// console reused: true
	// console-operator reused: true
}

// The release keeps what is not built, if it is made of another one.
func ExamplePlan_Spec() {
	zeros := strings.Repeat("0", 64)
	plan := &components.Plan{Mode: components.Replace, Release: "registry.example/okd/release@sha256:" + zeros, Exclude: []string{"rhel-coreos"}}
	spec, err := plan.Spec(&components.Result{Components: []components.Built{{Name: "console", Image: "registry.example/okd/content@sha256:" + zeros}}})
	if err != nil {
		log.Fatal(err)
	}
	spec.Version = "4.21.0-okd-scos.1"
	var _ *payload.Spec = spec // for payload.Assemble
	fmt.Println(len(spec.Overrides), spec.Exclude)
	// Output: 1 [rhel-coreos]
}

func ExampleOKD() {
	list, err := components.OKD()
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range list.Components[:3] {
		fmt.Println(c.Name, c.Repository, c.Args)
	}
	// Output:
	// builder https://github.com/okd-project/images map[]
	// base https://github.com/okd-project/images map[]
	// machine-config-operator https://github.com/openshift/machine-config-operator map[TAGS:scos]
}

func ExampleDecodeList() {
	_, err := components.DecodeList(strings.NewReader("apiVersion: streams.okd.io/v1alpha1\nkind: Components\ncomponents:\n  - {name: Console}\n"))
	fmt.Println(err)
	// Output: publish/components: decode list: components[0] (Console).name: "Console" is not of at most 90 lower-case letters, digits, "-", "." and "_"
}
