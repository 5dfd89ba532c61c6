package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/okd-project/okd-streams/internal/interop"
)

// pushImages starts the registry and fills it with what the node pulls: the task
// image, Tekton's own, and the one that holds a pod's namespaces.
func (c *Cluster) pushImages(ctx context.Context) error {
	dir := filepath.Join(runFolder, "docker-registry")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	server, err := interop.StartRegistry(ctx, dir)
	if err != nil {
		return err
	}
	c.Registry = server.Host
	// containerd speaks plain HTTP to it alone.
	hosts := filepath.Join(runFolder, "registry", c.Registry)
	if err := os.MkdirAll(hosts, 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf("server = %q\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", "http://"+c.Registry, "http://"+c.Registry)
	if err := os.WriteFile(filepath.Join(hosts, "hosts.toml"), []byte(text), 0o644); err != nil {
		return err
	}
	for _, program := range []string{"entrypoint", "nop", "workingdirinit"} {
		img, err := programImage(filepath.Join(c.peers, "bin", program), "ko-app/"+program)
		if err != nil {
			return err
		}
		ref, err := name.ParseReference(c.tektonImage(program), name.Insecure)
		if err != nil {
			return err
		}
		if err := remote.Write(ref, img, remote.WithContext(ctx)); err != nil {
			return err
		}
	}
	if err := c.importPause(ctx); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, c.Program, "image", "build", "--json", c.Registry+"/okd/okd-streams:e2e")
	var diag bytes.Buffer
	cmd.Stderr = &diag
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("okd-streams image build: %w\n%s", err, diag.String())
	}
	var built struct {
		Image string `json:"image"`
	}
	if err := json.Unmarshal(out, &built); err != nil {
		return err
	}
	c.TaskImage = built.Image
	return nil
}

func (c *Cluster) tektonImage(program string) string { return c.Registry + "/tekton/" + program + ":1" }

// importPause puts the image of sandboxes where containerd needs no registry
// for it, as it is named in its configuration. Tekton's nop can wait forever.
func (c *Cluster) importPause(ctx context.Context) error {
	img, err := programImage(filepath.Join(c.peers, "bin", "nop"), "ko-app/nop", "tekton_run_indefinitely")
	if err != nil {
		return err
	}
	file := filepath.Join(runFolder, "pause.tar")
	tag, err := name.NewTag("localhost/pause:1")
	if err != nil {
		return err
	}
	if err := tarball.WriteToFile(file, tag, img); err != nil {
		return err
	}
	return c.await(ctx, "containerd", func(ctx context.Context) error {
		out, err := exec.CommandContext(ctx, "ctr", "--address", socket, "--namespace", "k8s.io", "images", "import", file).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ctr images import: %w\n%s", err, out)
		}
		return nil
	})
}

// programImage is an image of one static program.
func programImage(path, at string, args ...string) (v1.Image, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	archive := tar.NewWriter(&layer)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeDir, Name: filepath.Dir(at) + "/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: at, Mode: 0o755, Size: int64(len(data))},
	} {
		if err := archive.WriteHeader(h); err != nil {
			return nil, err
		}
	}
	if _, err := archive.Write(data); err != nil {
		return nil, err
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	made, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, made)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS = runtime.GOARCH, "linux"
	config.Config.Entrypoint = append([]string{"/" + at}, args...)
	return mutate.ConfigFile(img, config)
}
