package container_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// buildah is Debian's buildah with a storage of its own.
type buildah struct {
	t       testing.TB
	storage []string
}

func newBuildah(t testing.TB) *buildah {
	t.Helper()
	interop.Peer(t, "buildah")
	if os.Getuid() != 0 {
		t.Skip("buildah keeps owners only for root")
	}
	dir := t.TempDir()
	// Each layer is a copy of all below: in memory, where that can be had.
	if memory, err := os.MkdirTemp("/dev/shm", "okd-streams-test-"); err == nil {
		t.Cleanup(func() { require.NoError(t, os.RemoveAll(memory)) })
		dir = memory
	}
	return &buildah{t, []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"}}
}

func (b *buildah) try(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "buildah", append(b.storage[:len(b.storage):len(b.storage)], args...)...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("buildah %s: %w\n%s\n%s", args, err, out, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

func (b *buildah) run(args ...string) string {
	b.t.Helper()
	out, err := b.try(b.t.Context(), "", args...)
	require.NoError(b.t, err)
	return out
}

// build is what [container.BuildNode] asks for.
func (b *buildah) build(ctx context.Context, n *container.NodeBuild) error {
	args := []string{"bud", "--isolation", "chroot", "--layers", "--no-cache", "--identity-label=false", "--format", "oci", "-f", n.Containerfile, "-t", "oci:" + n.Output}
	if n.From != "" {
		// Of the path buildah makes a name, which must have no capital letters.
		id, err := b.try(ctx, filepath.Dir(n.From), "pull", "--quiet", "oci:"+filepath.Base(n.From))
		if err != nil {
			return err
		}
		args = append(args, "--from", id)
	}
	if !n.Created.IsZero() {
		args = append(args, "--timestamp", fmt.Sprint(n.Created.Unix()))
	}
	for _, a := range n.Args {
		args = append(args, "--build-arg", a)
	}
	for _, l := range n.Labels {
		args = append(args, "--label", l)
	}
	_, err := b.try(ctx, "", append(args, n.Context)...)
	return err
}

// debianSubset is a debootstrap'd system with apt, a shell and what they need, and
// no more: storage that keeps each layer whole takes little room then.
func debianSubset(t testing.TB, roots ...string) ostree.Tree {
	t.Helper()
	dir := interop.DebianTree(t)
	status, err := os.ReadFile(filepath.Join(dir, "var", "lib", "dpkg", "status"))
	require.NoError(t, err)
	stanzas, needs, provides := map[string]string{}, map[string][]string{}, map[string]string{}
	for stanza := range strings.SplitSeq(string(status), "\n\n") {
		name := ""
		for line := range strings.Lines(stanza) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			if key == "Package" {
				name = value
			}
			for item := range strings.SplitSeq(value, ",") {
				item, _, _ = strings.Cut(strings.TrimSpace(item), " ")
				item, _, _ = strings.Cut(item, ":")
				switch key {
				case "Depends", "Pre-Depends":
					needs[name] = append(needs[name], item)
				case "Provides":
					provides[item] = name
				}
			}
		}
		stanzas[name] = stanza
	}
	keep, files := map[string]bool{}, map[string]bool{".": true, "var/lib/dpkg/status": true, "etc/passwd": true, "etc/group": true}
	var text strings.Builder
	for todo := roots; len(todo) > 0; todo = todo[1:] {
		name := todo[0]
		if stanzas[name] == "" {
			name = provides[name]
		}
		if name == "" || keep[name] {
			continue
		}
		keep[name] = true
		todo = append(todo, needs[name]...)
		text.WriteString(stanzas[name] + "\n\n")
		lists, err := filepath.Glob(filepath.Join(dir, "var", "lib", "dpkg", "info", name+"[.:]*"))
		require.NoError(t, err)
		for _, list := range lists {
			files["var/lib/dpkg/info/"+filepath.Base(list)] = true
			if filepath.Ext(list) != ".list" {
				continue
			}
			data, err := os.ReadFile(list)
			require.NoError(t, err)
			for path := range strings.Lines(string(data)) {
				path = strings.Trim(path, "/.\n")
				files[path] = true
				files["usr/"+path] = true // where /bin and the like are links
			}
		}
	}
	for _, name := range []string{"bin", "sbin", "lib", "lib64", "var/lib/dpkg", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "var/cache/debconf", "etc/ld.so.cache", "usr/bin/awk", "etc/alternatives/awk", "tmp"} {
		files[name] = true
	}
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, root.Close()) })
	return ostree.TreeFunc(func(ctx context.Context) iter.Seq2[ostree.Entry, error] {
		return func(yield func(ostree.Entry, error) bool) {
			for e, err := range ostree.Dir(root).Entries(ctx) {
				if err == nil && !files[e.Path] {
					continue
				}
				if e.Path == "var/lib/dpkg/status" {
					e = bytesEntry(e, text.String())
				}
				if !yield(e, err) {
					return
				}
			}
		}
	})
}

// debianBase is a base image of such a system.
func debianBase(t testing.TB, tree ostree.Tree) (v1.Image, ostree.Checksum) {
	t.Helper()
	repo := importRepo(t, ostree.ModeBareUser)
	c, err := repo.Commit(t.Context(), tree, &ostree.CommitOptions{Subject: "debian", Timestamp: time.Unix(1795600000, 0), NoFsync: true, SkipXattrs: true, Metadata: []ostree.MetadataItem{
		{Key: "version", Value: ostree.StringVariant("12.0.1")}, {Key: "ostree.bootable", Value: ostree.BoolVariant(true)}, {Key: "ostree.linux", Value: ostree.StringVariant("6.1.0")},
	}})
	require.NoError(t, err)
	return encapsulate(t, openCache(t, t.TempDir()), repo, c, &container.EncapsulateOptions{Architecture: "x86_64"}), c
}

// tryRun runs a reference tool that may fail, and gives what it printed.
func tryRun(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	return string(out), err
}
