package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/okd-project/okd-streams/internal/interop"
)

// The versions that testdata/peers/go.mod.txt pins.
const (
	KubernetesVersion = "1.35.4"
	TektonVersion     = "1.12.0"
)

// programs are those that the one binary of Kubernetes is called by.
var programs = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"}

// tektonPrograms are built of Tekton's cmd folder.
var tektonPrograms = []string{"controller", "webhook", "entrypoint", "nop", "workingdirinit"}

//go:embed testdata/peers
var peersModule embed.FS

// buildPeers gives the folder with all programs, and Tekton's config folder. It
// builds them if they are not in the cache, which takes minutes.
func buildPeers(ctx context.Context) (string, error) {
	module, err := fs.Sub(peersModule, "testdata/peers")
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	files, err := fs.Glob(module, "*")
	if err != nil {
		return "", err
	}
	for _, name := range files {
		data, err := fs.ReadFile(module, name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(data), data)
	}
	name := fmt.Sprintf("kubernetes-%s-tekton-%s-%s", KubernetesVersion, TektonVersion, hex.EncodeToString(sum.Sum(nil)[:4]))
	return interop.Cached(ctx, name, func(ctx context.Context, dir string) error {
		source := filepath.Join(dir, "source")
		if err := os.Mkdir(source, 0o755); err != nil {
			return err
		}
		for _, name := range files {
			data, err := fs.ReadFile(module, name)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(source, strings.TrimSuffix(name, ".txt")), data, 0o644); err != nil {
				return err
			}
		}
		fmt.Fprintf(os.Stderr, "cluster: building Kubernetes %s and Tekton %s, once; this takes minutes\n", KubernetesVersion, TektonVersion)
		version := "k8s.io/component-base/version"
		parts := strings.Split(KubernetesVersion, ".")
		stamp := fmt.Sprintf("-s -w -X %s.gitVersion=v%s -X %s.gitMajor=%s -X %s.gitMinor=%s", version, KubernetesVersion, version, parts[0], version, parts[1])
		bin := filepath.Join(dir, "bin")
		if err := os.Mkdir(bin, 0o755); err != nil {
			return err
		}
		if _, err := goTool(ctx, source, "build", "-ldflags", stamp, "-o", filepath.Join(bin, "kubernetes"), "."); err != nil {
			return err
		}
		for _, name := range programs {
			if err := os.Symlink("kubernetes", filepath.Join(bin, name)); err != nil {
				return err
			}
		}
		args := []string{"build", "-ldflags", "-s -w", "-o", bin + "/"}
		for _, name := range tektonPrograms {
			args = append(args, "github.com/tektoncd/pipeline/cmd/"+name)
		}
		if _, err := goTool(ctx, source, args...); err != nil {
			return err
		}
		tekton, err := goTool(ctx, source, "list", "-m", "-f", "{{.Dir}}", "github.com/tektoncd/pipeline")
		if err != nil {
			return err
		}
		return errors.Join(
			os.CopyFS(filepath.Join(dir, "config"), os.DirFS(filepath.Join(strings.TrimSpace(tekton), "config"))),
			os.RemoveAll(source),
		)
	})
}

// buildProgram builds okd-streams of the working tree at path.
func buildProgram(ctx context.Context, path string) error {
	root, err := interop.Root()
	if err != nil {
		return err
	}
	_, err = goTool(ctx, root, "build", "-trimpath", "-o", path, "./examples/okd-streams")
	return err
}

// goTool runs the go command and gives what it prints.
func goTool(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly -buildvcs=false", "GOWORK=off")
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, tail(diag.String(), 40))
	}
	return out.String(), nil
}

// tail gives the last lines of text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
