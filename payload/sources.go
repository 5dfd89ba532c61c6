package payload

import (
	"cmp"
	"slices"
	"strings"
)

// Source is source code that images of a payload were built from, as their
// labels say.
type Source struct {
	// Host and Path are of the repository, as github.com and openshift/oc.
	Host, Path string
	Commit     string   // hexadecimal
	Components []string // built from it, by name
}

// URL is where the repository can be cloned from.
func (s Source) URL() string { return repository{s.Host, s.Path}.url() }

// Sources lists what the payload's images were built from, by host, path and
// commit; a repository may be there with several commits. unknown are the
// components whose image does not say it, or not as an URL of http, https or
// ssh, or git@HOST:PATH, and a hexadecimal commit. Neither URL nor commit can
// be an option of a command, or a path that leads out of a folder.
func (r *Release) Sources() (list []Source, unknown []string) {
	for _, t := range r.References.Tags {
		repo, ok := parseRepository(t.Annotations[annotationSource])
		commit := t.Annotations[annotationCommit]
		if !ok || !isCommit(commit) || strings.Trim(repo.host, ".") == "" {
			unknown = append(unknown, t.Name)
			continue
		}
		at := func(s Source) bool { return s.Host == repo.host && s.Path == repo.path && s.Commit == commit }
		if i := slices.IndexFunc(list, at); i >= 0 {
			list[i].Components = append(list[i].Components, t.Name)
			continue
		}
		list = append(list, Source{Host: repo.host, Path: repo.path, Commit: commit, Components: []string{t.Name}})
	}
	slices.SortStableFunc(list, func(a, b Source) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), strings.Compare(a.Path, b.Path), strings.Compare(a.Commit, b.Commit))
	})
	return list, unknown
}
