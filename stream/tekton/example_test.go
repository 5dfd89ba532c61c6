package tekton_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/okd-project/okd-streams/stream"
	"github.com/okd-project/okd-streams/stream/tekton"
)

const exampleImage = "quay.io/example/okd-streams@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func ExampleRender() {
	def, err := stream.Builtin("sample")
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := tekton.Render(def, &tekton.Options{Image: exampleImage, Namespace: "streams"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, o := range r.Objects {
		if p, ok := o.(*tekton.Pipeline); ok {
			fmt.Println(p.Metadata.Name)
			for _, t := range p.Spec.Tasks {
				fmt.Println("  " + t.Name)
			}
		}
	}
	// Output:
	// okd-coreos
	//   build-inputs
	//   build-node
	//   build-payload
	//   build-publish
	// okd-release-pipeline
	//   release-promote
	// okd-payload
	//   new-release
	//   verify-release
}

func ExampleTree() {
	def, err := stream.Builtin("sample")
	if err != nil {
		fmt.Println(err)
		return
	}
	files, err := tekton.Tree(def, &tekton.Options{Image: exampleImage})
	if err != nil {
		fmt.Println(err)
		return
	}
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := tekton.Write(filepath.Join(dir, "deploy"), files); err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range files[:4] {
		fmt.Println(f.Path)
	}
	// Output:
	// base/kustomization.yaml
	// base/objects.yaml
	// overlays/kind/kustomization.yaml
	// overlays/kind/objects.yaml
}

func ExampleWrite() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	files := []tekton.File{{Path: "base/objects.yaml", Data: []byte("---\n")}}
	if err := tekton.Write(filepath.Join(dir, "deploy"), files); err != nil {
		fmt.Println(err)
		return
	}
	text, err := os.ReadFile(filepath.Join(dir, "deploy", "base/objects.yaml"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(string(text))
	// A folder with something of others is left as it is.
	fmt.Println(errors.Is(tekton.Write(dir, files), fs.ErrExist))
	// Output:
	// ---
	// true
}

func ExampleEncode() {
	err := tekton.Encode(os.Stdout, &tekton.ConfigMap{
		Header: tekton.Header{APIVersion: "v1", Kind: "ConfigMap", Metadata: tekton.Metadata{Name: "release-keys"}},
		Data:   map[string]string{"public.asc": "-----BEGIN PGP PUBLIC KEY BLOCK-----\n…\n"},
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// apiVersion: v1
	// kind: ConfigMap
	// metadata:
	//   name: release-keys
	// data:
	//   public.asc: |
	//     -----BEGIN PGP PUBLIC KEY BLOCK-----
	//     …
}

// What a cluster takes, and a run trips over.
func ExampleCheck() {
	objects, err := tekton.Decode(strings.NewReader(`
apiVersion: tekton.dev/v1
kind: Task
metadata: {name: greet}
spec:
  params:
  - name: who
  steps:
  - name: say
    image: registry.example/busybox:1
    command: [echo, $(params.who)]
---
apiVersion: tekton.dev/v1
kind: Pipeline
metadata: {name: all}
spec:
  tasks:
  - name: first
    taskRef: {name: greet}
    params:
    - name: whom
      value: world
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(tekton.Check(objects...))
	// Output:
	// tekton: Pipeline all: tasks[first].params[whom]: there is no such parameter
	// tekton: Pipeline all: tasks[first].params: who is required and not given
}

func ExampleDecode() {
	objects, err := tekton.Decode(strings.NewReader("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: okd-coreos\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(objects[0].Head().Kind, objects[0].Head().Metadata.Name)
	_, err = tekton.Decode(strings.NewReader("apiVersion: v1\nkind: Pod\n"))
	fmt.Println(err)
	// Output:
	// Namespace okd-coreos
	// tekton: document 1: apiVersion "v1", kind "Pod": unsupported operation
}

func ExampleNewCluster() {
	// An API server, for the example.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"metadata":{"name":"okd-coreos-x86-64-x7k2p"}}`)
	}))
	defer server.Close()
	cluster, err := tekton.NewCluster(server.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	def, err := stream.Builtin("sample")
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := tekton.Render(def, &tekton.Options{Image: exampleImage})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cluster.Create(context.Background(), r.Runs[0]))
	// Output: okd-coreos-x86-64-x7k2p <nil>
}

// What a run came to, and its removal.
func ExampleCluster_Run() {
	// An API server, for the example.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"metadata":{"name":"okd-coreos-x86-64-x7k2p"},
			"status":{"conditions":[{"type":"Succeeded","status":"False","reason":"Failed","message":"Tasks Completed: 4"}]}}`)
	}))
	defer server.Close()
	cluster, err := tekton.NewCluster(server.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	run, err := cluster.Run(context.Background(), "okd-coreos", "okd-coreos-x86-64-x7k2p")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(run.State, run.Reason, run.Message)
	fmt.Println(cluster.Delete(context.Background(), "okd-coreos", run.Name))
	// Output:
	// False Failed Tasks Completed: 4
	// <nil>
}

func ExamplePlatforms() {
	fmt.Println(tekton.Platforms())
	// Output: [plain kind openshift]
}
