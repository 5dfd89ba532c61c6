package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/okd-project/okd-streams/internal/interop"
)

// transferPeak is how much memory a transfer may use.
const transferPeak = 120 << 20

// copies is copying the components of a release within a docker-registry, again
// with nothing to do, and to another registry, beside go-containerregistry.
// Both keep eight images under way, and each has registries of its own.
func (b *bench) copies(ctx context.Context) ([]row, error) {
	const within, again, other = "within", "again", "other"
	run := func(label string, command func(list, to string) *exec.Cmd) side {
		return func(round int) (map[string]cost, error) {
			costs := make(map[string]cost)
			return costs, b.withRegistry(ctx, b.path("from-"+label, round), func(host string) (err error) {
				list := b.path("list-"+label, round)
				// In a process of its own: a child begins with its parent's peak.
				if _, err := measure(ctx, b.ours("components", "-list", list, "-to", host+"/okd/content")); err != nil {
					return err
				}
				for _, what := range []string{within, again} {
					if costs[label+what], err = measure(ctx, command(list, host+"/okd/mirror")); err != nil {
						return err
					}
				}
				return b.withRegistry(ctx, b.path("to-"+label, round), func(host string) error {
					costs[label+other], err = measure(ctx, command(list, host+"/okd/mirror"))
					return err
				})
			})
		}
	}
	const ours, ggcr = "ours", "go-containerregistry"
	got, err := b.each("copy of 190 images", map[string]side{
		ours: run(ours, func(list, to string) *exec.Cmd { return b.ours("copy", "-list", list, "-to", to) }),
		ggcr: run(ggcr, func(list, to string) *exec.Cmd { return exec.Command(b.self, floorVerb, "copy", list, to) }),
	}, ours, ggcr)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, c := range []struct{ key, what string }{
		{within, "copy 190 images within a registry"}, {again, "copy 190 images, again"}, {other, "copy 190 images to another registry"},
	} {
		rows = append(rows, row{
			what: c.what, ours: got[ours+c.key], otherName: ggcr, other: got[ggcr+c.key],
			limits: []limit{atMost("wall", wall, 1.3), shown("CPU", cpu)}, peak: transferPeak,
		})
	}
	return rows, nil
}

// largeSize is the size of the one large blob, bytes.
const largeSize = 1 << 30

// large is pushing an image with one large layer from an OCI layout to
// docker-registry and pulling it into another layout, beside skopeo and
// go-containerregistry.
func (b *bench) large(ctx context.Context) ([]row, error) {
	// One source for all rounds, beside the work folder, which is emptied between
	// them, and what a side wrote goes at once: it is few files,
	// and the disk need not hold more than three gigabytes.
	source, err := os.MkdirTemp(filepath.Dir(b.work), "bench-large-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(source)
	if err := largeImage(ctx, source, largeSize); err != nil {
		return nil, err
	}
	run := func(label string, push, pull func(home, layout, tag string) *exec.Cmd) side {
		return func(round int) (map[string]cost, error) {
			costs := make(map[string]cost)
			home, registry, pulled := b.path("home-"+label, round), b.path("registry-"+label, round), b.path("pulled-"+label, round)
			defer os.RemoveAll(registry)
			defer os.RemoveAll(pulled)
			return costs, b.withServer(ctx, registry, func(srv *interop.Server) (err error) {
				tag := srv.Host + "/okd/large:1"
				if err := interop.InsecureHome(home, srv.Host); err != nil {
					return err
				}
				if costs[label+"push"], err = served(ctx, srv, push(home, filepath.Join(source, largePath), tag)); err != nil {
					return err
				}
				costs[label+"pull"], err = served(ctx, srv, pull(home, filepath.Join(pulled, largePath), tag))
				return err
			})
		}
	}
	skopeo := func(home string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "skopeo", append([]string{"copy", "--quiet"}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME=", "XDG_CACHE_HOME=", "XDG_CONFIG_HOME=")
		return cmd
	}
	const ours, ggcr, sk = "ours", "go-containerregistry", "skopeo"
	got, err := b.each("1 GiB blob", map[string]side{
		ours: run(ours,
			func(_, layout, tag string) *exec.Cmd {
				return b.ours("pushlarge", "-dir", filepath.Dir(layout), "-tag", tag)
			},
			func(_, layout, tag string) *exec.Cmd {
				return b.ours("pulllarge", "-dir", filepath.Dir(layout), "-tag", tag)
			}),
		ggcr: run(ggcr,
			func(_, layout, tag string) *exec.Cmd { return exec.Command(b.self, floorVerb, "push", layout, tag) },
			func(_, layout, tag string) *exec.Cmd { return exec.Command(b.self, floorVerb, "pull", tag, layout) }),
		sk: run(sk,
			func(home, layout, tag string) *exec.Cmd { return skopeo(home, "oci:"+layout+":1", "docker://"+tag) },
			func(home, layout, tag string) *exec.Cmd {
				if err := os.MkdirAll(filepath.Dir(layout), 0o700); err != nil {
					return exec.Command("false")
				}
				return skopeo(home, "docker://"+tag, "oci:"+layout+":1")
			}),
	}, ours, ggcr, sk)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, what := range []string{"push", "pull"} {
		for _, peer := range []string{sk, ggcr} {
			rows = append(rows, row{
				what: what + " 1 GiB blob", ours: got[ours+what], otherName: peer, other: got[peer+what],
				limits: []limit{faster("wall", wall, 1), shown("CPU", cpu), shown("CPU with the server's", both)}, peak: transferPeak,
			})
		}
	}
	return rows, nil
}

// withRegistry runs fn beside an empty registry in the new folder dir.
func (b *bench) withRegistry(ctx context.Context, dir string, fn func(host string) error) error {
	return b.withServer(ctx, dir, func(srv *interop.Server) error { return fn(srv.Host) })
}

func (b *bench) withServer(ctx context.Context, dir string, fn func(srv *interop.Server) error) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	srv, err := interop.StartRegistry(ctx, dir)
	if err != nil {
		return err
	}
	defer srv.Stop()
	return fn(srv)
}

// served is [measure] with the processor time that the server spent meanwhile.
func served(ctx context.Context, srv *interop.Server, cmd *exec.Cmd) (cost, error) {
	before, err := srv.CPU()
	if err != nil {
		return cost{}, err
	}
	c, err := measure(ctx, cmd)
	if err != nil {
		return c, err
	}
	after, err := srv.CPU()
	c.server = after - before
	return c, err
}

// tagOf is the tag of the so manieth image.
func tagOf(i int) string { return fmt.Sprintf("component-%03d", i) }
