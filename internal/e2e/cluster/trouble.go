package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Kubelet is the program that speaks for the node.
const Kubelet = "kubelet"

// Kill ends a program of the cluster without a warning. The tests of others wait
// until it is started again.
func (c *Cluster) Kill(t testing.TB, name string) {
	t.Helper()
	c.mu.Lock()
	p := c.processes[name]
	c.mu.Unlock()
	if err := unix.Kill(p.pid, unix.SIGKILL); err != nil {
		t.Fatalf("kill %s: %v", name, err)
	}
	<-p.ended
}

// Start starts a program again that was killed.
func (c *Cluster) Start(t testing.TB, name string) {
	t.Helper()
	c.mu.Lock()
	p := c.processes[name]
	c.mu.Unlock()
	if err := c.run(name, p.program, p.args, p.env); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
}

// KillContainers ends all that runs in the pods of a namespace, as a power cut does.
func (c *Cluster) KillContainers(t testing.TB, namespace string) {
	t.Helper()
	pods, err := c.Kubernetes.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal("kill containers: ", err)
	}
	const prefix = "pod" // of a folder that is named after the pod's UID
	own := map[string]bool{}
	for _, pod := range pods.Items {
		own[prefix+string(pod.UID)] = true
	}
	dir := filepath.Join(cgroupRoot, "memory", cgroupName)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), prefix) && !own[d.Name()] {
			return fs.SkipDir
		}
		if err != nil || d.Name() != "cgroup.procs" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for field := range strings.FieldsSeq(string(data)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return err
			}
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a folder that went with its last process
		t.Fatal("kill containers: ", err)
	}
}

// Bare is another API server, of a cluster without nodes and without Tekton. It ends
// with t.
func (c *Cluster) Bare(t testing.TB) *Cluster {
	t.Helper()
	const name, port = "bare", "6443"
	if err := c.run(name, "kube-apiserver", apiServerArgs(port, "--etcd-prefix=/"+name, "--endpoint-reconciler-type=none"), nil); err != nil {
		t.Fatal("bare API server: ", err)
	}
	t.Cleanup(func() {
		c.Kill(t, name)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.processes, name)
	})
	b := &Cluster{Program: c.Program, TaskImage: c.TaskImage, peers: c.peers, processes: map[string]*process{}}
	b.Config = rest.CopyConfig(c.Config)
	b.Config.Host = fmt.Sprintf("https://%s:%s", Address, port)
	if err := b.connect(); err != nil {
		t.Fatal("bare API server: ", err)
	}
	if err := b.await(t.Context(), "the bare API server", ready(b.Kubernetes)); err != nil {
		t.Fatal(err)
	}
	return b
}

// InstallOldTekton has a cluster know runs of pipelines as Tekton 0.43 did.
func (c *Cluster) InstallOldTekton(t testing.TB) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(c.peers, "config", "300-crds", "300-pipelinerun.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		spec := object.Object["spec"].(map[string]any)
		delete(spec, "conversion") // of one version there is none
		var kept []any
		for _, v := range spec["versions"].([]any) {
			if v := v.(map[string]any); v["name"] == "v1beta1" {
				v["storage"] = true
				kept = append(kept, v)
			}
		}
		spec["versions"] = kept
		if _, err := c.Apply(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

// ready asks whether an API server is.
func ready(api kubernetes.Interface) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		_, err := api.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	}
}
