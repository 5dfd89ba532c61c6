package actions

import (
	"maps"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/stream"
)

// secret is a value that a run is given.
type secret struct {
	name      string // of the repository's secret
	from, key string // Kubernetes Secret and key, and so a file
	env       string // or an environment variable
}

// Secrets lists the secrets that a repository with the workflows of a definition has
// to have, by name.
func Secrets(def *stream.Definition) []string {
	p := &plan{def: def}
	var names []string
	for _, s := range slices.Concat(p.secrets(false), p.secrets(true)) {
		if !slices.Contains(names, s.name) {
			names = append(names, s.name)
		}
	}
	slices.Sort(names)
	return names
}

// secrets are those of the daily build, or of the promotion.
func (p *plan) secrets(promotion bool) []secret {
	def := p.def
	list := []*stream.Credentials{def.Store.Credentials, def.Registry.Credentials}
	if promotion {
		if def.Cadences.Promotion.Schedule == "" {
			return nil
		}
		for i := range def.Trust.Keys {
			if def.Trust.Keys[i].Signs {
				list = append(list, def.Trust.Keys[i].Credentials)
			}
		}
		if def.GitHub != nil {
			list = append(list, def.GitHub.Credentials)
		}
	}
	for i := range def.Notifications {
		list = append(list, def.Notifications[i].Credentials)
	}
	var out []secret
	for _, c := range list {
		if c == nil {
			continue
		}
		for _, role := range slices.Sorted(maps.Keys(c.Keys)) {
			out = append(out, secret{name: nameOf(c.Secret, c.Keys[role]), from: c.Secret, key: c.Keys[role]})
		}
		for _, role := range slices.Sorted(maps.Keys(c.Env)) {
			if c.Keys[role] == "" {
				out = append(out, secret{name: c.Env[role], env: c.Env[role]})
			}
		}
	}
	slices.SortFunc(out, func(a, b secret) int { return strings.Compare(a.name+a.from+a.key, b.name+b.from+b.key) })
	return slices.Compact(out)
}

// nameOf is what GitHub's secret for a key of a Secret is called.
func nameOf(from, key string) string {
	var b strings.Builder
	gap := false
	for _, r := range strings.ToUpper(from + "_" + key) {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			if gap && b.Len() > 0 {
				b.WriteByte('_')
			}
			b.WriteRune(r)
			gap = false
		} else {
			gap = true
		}
	}
	return b.String()
}
