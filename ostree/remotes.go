package ostree

import (
	"maps"
	"slices"
	"strings"
)

// Remote is another repository that a repository's config names, in a group
// `remote "NAME"`.
type Remote struct {
	Name string
	// Keys are the group's keys and values as written: "url", "gpg-verify",
	// "branches" and so on. The source is ostree.repo-config(5).
	Keys map[string]string
}

// URL is where the remote is; "" if its group does not say.
func (r *Remote) URL() string { return r.Keys["url"] }

// Remotes gives the remotes of the repository's config and, where this one does
// not have the name, of its parent's (core.parent), sorted by name. Remotes of
// the machine, in /etc/ostree/remotes.d, are not looked at.
func (r *Repo) Remotes() []Remote {
	found := make(map[string]Remote)
	for repo := r; repo != nil; repo = repo.parent {
		own := make(map[string]Remote)
		for _, line := range repo.config.lines {
			name, ok := strings.CutPrefix(line.group, `remote "`)
			if !ok {
				continue
			}
			if name, ok = strings.CutSuffix(name, `"`); !ok || !remoteName.MatchString(name) {
				continue
			}
			remote, ok := own[name]
			if !ok {
				remote = Remote{name, make(map[string]string)}
				own[name] = remote
			}
			if line.key != "" {
				remote.Keys[line.key] = line.value
			}
		}
		for name, remote := range own {
			if _, ok := found[name]; !ok {
				found[name] = remote
			}
		}
	}
	list := make([]Remote, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		list = append(list, found[name])
	}
	return list
}
