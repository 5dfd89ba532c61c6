package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree/container"
)

// side is one of two that take turns: it gives the costs of what it did, by name.
type side = func(round int) (map[string]cost, error)

// copyFloor is what writing the tree's files costs at least.
func (b *bench) copyFloor(ctx context.Context) ([]row, error) {
	got, err := b.each("cp -a", map[string]side{"cp": func(round int) (map[string]cost, error) {
		c, err := measure(ctx, exec.Command("cp", "-a", "--reflink=never", b.tree, b.path("cp", round)))
		return map[string]cost{"cp": c}, err
	}}, "cp")
	return []row{{what: "floor: copy of the tree", otherName: "cp -a", other: got["cp"]}}, err
}

// commits is day one into an empty repository, day two into the same, and for
// us both with the device-inode cache into another.
func (b *bench) commits(ctx context.Context, mode string) ([]row, error) {
	const day1, day2, cached1, cached2, theirs1, theirs2 = "day 1", "day 2", "day 1 cached", "day 2 cached", "ostree day 1", "ostree day 2"
	seen := make(map[string]string) // commits by day, the same on both sides
	same := func(day, repo string) error {
		ref, err := os.ReadFile(filepath.Join(repo, "refs", "heads", branch))
		if err != nil {
			return err
		}
		if seen[day] == "" {
			seen[day] = string(ref)
		}
		if seen[day] != string(ref) {
			return fmt.Errorf("commit of day %s is %s here and %s elsewhere", day, strings.TrimSpace(string(ref)), strings.TrimSpace(seen[day]))
		}
		return nil
	}
	got, err := b.each("commit "+mode, map[string]side{
		"ours": func(round int) (map[string]cost, error) {
			repo, cache := b.path("ours", round), b.path("ours-cache", round)
			costs := make(map[string]cost)
			commit := func(name, day, repo, tree string, more ...string) error {
				c, err := measure(ctx, b.ours(append([]string{"commit", "-repo", repo, "-repomode", mode, "-tree", tree}, more...)...))
				if err != nil {
					return err
				}
				if c.size, err = bytesBelow(filepath.Join(repo, "objects")); err != nil {
					return err
				}
				costs[name] = c
				return same(day, repo)
			}
			if err := commit(day1, "1", repo, b.tree); err != nil {
				return nil, err
			}
			if err := commit(day2, "2", repo, b.day2); err != nil {
				return nil, err
			}
			// The same again in another repository, where day one fills the cache, of a tree that
			// is updated in place: files that are copied or linked anew, no cache can know.
			second, work := b.path("ours-cached", round), b.path("tree", round)
			if err := copyTree(ctx, work, b.tree); err != nil {
				return nil, err
			}
			if err := commit(cached1, "1", second, work, "-cache", cache); err != nil {
				return nil, err
			}
			if err := update(ctx, work, b.tree, b.day2); err != nil {
				return nil, err
			}
			return costs, commit(cached2, "2", second, work, "-cache", cache)
		},
		"ostree": func(round int) (map[string]cost, error) {
			repo := b.path("ostree", round)
			if err := peerInit(repo, mode); err != nil {
				return nil, err
			}
			costs := make(map[string]cost)
			for _, day := range []struct{ name, day, tree string }{{theirs1, "1", b.tree}, {theirs2, "2", b.day2}} {
				c, err := measure(ctx, peerCommit(repo, day.tree))
				if err != nil {
					return nil, err
				}
				if c.size, err = bytesBelow(filepath.Join(repo, "objects")); err != nil {
					return nil, err
				}
				costs[day.name] = c
				if err := same(day.day, repo); err != nil {
					return nil, err
				}
			}
			return costs, nil
		},
	}, "ours", "ostree")
	if err != nil {
		return nil, err
	}
	wallLimit, cpuLimit := 3.0, 1.6
	if mode == "archive" {
		wallLimit, cpuLimit = 5, 2.5
	}
	first := []limit{faster("wall", wall, wallLimit), faster("CPU", cpu, cpuLimit)}
	second := []limit{shown("wall", wall), shown("CPU", cpu)}
	if mode == "archive" {
		first = append(first, atMost("size", size, 1.06))
		second[0] = faster("wall", wall, 15) // ostree compresses again what is there
	}
	return []row{
		{what: "commit " + mode, ours: got[day1], otherName: "ostree", other: got[theirs1], limits: first},
		{what: "commit " + mode + ", day 2", ours: got[day2], otherName: "ostree", other: got[theirs2], limits: second},
		{what: "commit " + mode + ", day 2", ours: got[day2], otherName: "our day 1", other: got[day1], limits: []limit{atMost("wall", wall, 0.8)}},
		{what: "commit " + mode + ", day 2, cache", ours: got[cached2], otherName: "its day 1", other: got[cached1], limits: []limit{atMost("wall", wall, 0.1)}},
	}, nil
}

// pushes is encapsulating a commit and pushing the image to docker-registry, on
// both days, the registry and our layer cache of day one being there on day two.
// Both encapsulate commits that we made. We find the components and plan the
// layers; ostree-ext's command line is told which object goes into which layer.
func (b *bench) pushes(ctx context.Context) ([]row, error) {
	ostreeExt, err := interop.BuildOstreeExt(ctx)
	if err != nil {
		return nil, err
	}
	trees := map[string]string{"1": b.tree, "2": b.day2}
	// registry runs fn beside an empty registry.
	registry := func(dir string, fn func(host string) error) error {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		srv, err := interop.StartRegistry(ctx, dir)
		if err != nil {
			return err
		}
		defer srv.Stop()
		return fn(srv.Host)
	}
	got, err := b.each("encapsulate and push", map[string]side{
		"ours": func(round int) (map[string]cost, error) {
			costs := make(map[string]cost)
			dir, repo := b.path("registry", round), b.path("ours", round)
			return costs, registry(dir, func(host string) error {
				before := int64(0)
				for _, day := range []string{"1", "2"} {
					if _, err := measure(ctx, b.ours("commit", "-repo", repo, "-repomode", "bare-user", "-tree", trees[day], "-arrange")); err != nil {
						return err
					}
					c, err := measure(ctx, b.ours("push", "-repo", repo, "-layers", b.path("layers", round), "-to", host+"/ours:"+day))
					if err != nil {
						return err
					}
					after, err := bytesBelow(dir)
					if err != nil {
						return err
					}
					c.size, before = after-before, after
					costs[day] = c
					if day != "1" {
						continue
					}
					// The same image with other layers, of which nothing is there.
					c, err = measure(ctx, b.ours("push", "-repo", repo, "-layers", b.path("layers-zstd", round), "-codec", string(container.Zstd), "-to", host+"/ours-zstd:1"))
					if err != nil {
						return err
					}
					if after, err = bytesBelow(dir); err != nil {
						return err
					}
					c.size, before = after-before, after
					costs["zstd"] = c
				}
				return nil
			})
		},
		"ostree-ext": func(round int) (map[string]cost, error) {
			costs := make(map[string]cost)
			dir, repo, home := b.path("peer-registry", round), b.path("peer", round), b.path("home", round)
			return costs, registry(dir, func(host string) error {
				if err := interop.InsecureHome(home, host); err != nil {
					return err
				}
				before := int64(0)
				for _, day := range []string{"1", "2"} {
					if _, err := measure(ctx, b.ours("commit", "-repo", repo, "-repomode", "bare-user", "-tree", trees[day], "-arrange")); err != nil {
						return err
					}
					meta := b.path("contentmeta"+day, round)
					if err := contentMeta(meta, repo, trees[day]); err != nil {
						return err
					}
					c, err := measure(ctx, peerPush(ctx, ostreeExt, home, repo, meta, b.path("layout"+day, round), host, day)...)
					if err != nil {
						return err
					}
					after, err := bytesBelow(dir)
					if err != nil {
						return err
					}
					c.size, before = after-before, after
					costs["peer "+day] = c
				}
				return nil
			})
		},
	}, "ours", "ostree-ext")
	if err != nil {
		return nil, err
	}
	return []row{
		{
			what: "encapsulate and push", ours: got["1"], otherName: "ostree-ext, skopeo", other: got["peer 1"], peak: imagePeak,
			limits: []limit{faster("wall", wall, 4), shown("CPU", cpu), atMost("size", size, 1.06)},
		},
		{
			what: "encapsulate and push, zstd", ours: got["zstd"], otherName: "ostree-ext, skopeo", other: got["peer 1"], peak: imagePeak,
			limits: []limit{faster("wall", wall, 6), shown("CPU", cpu), shown("size", size)},
		},
		{what: "encapsulate and push, day 2", ours: got["2"], otherName: "ostree-ext, skopeo", other: got["peer 2"], limits: []limit{shown("wall", wall), shown("CPU", cpu)}},
		{what: "encapsulate and push, day 2", ours: got["2"], otherName: "our day 1", other: got["1"], limits: []limit{atMost("wall", wall, 0.1), atMost("size", size, 0.1)}},
	}, nil
}
