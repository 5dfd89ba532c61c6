package walk

import (
	"strings"

	"github.com/okd-project/okd-streams/stream"
)

// Places are where a stream is published.
type Places struct {
	State      string // the folder that is kept between runs
	Store      string // URLs
	Registry   string
	Repository string // what image names are below
}

// PlacesOf are those of a definition, but for what is named: a state folder, a
// store, a registry.
func PlacesOf(def *stream.Definition, state, store, registry string) Places {
	p := Places{State: state, Store: store, Registry: registry}
	if p.State == "" {
		p.State = defaultState(def.Identity.Name)
	}
	if p.Store == "" {
		p.Store = below(p.State, StoreURL(def))
	}
	if p.Registry == "" {
		p.Registry = below(p.State, def.Registry.Repository)
		if !strings.HasPrefix(p.Registry, "dir:") {
			p.Registry = "docker://" + p.Registry
		}
	}
	switch scheme, rest, _ := strings.Cut(p.Registry, ":"); {
	case scheme == "docker":
		p.Repository = strings.Trim(rest, "/")
	case strings.HasPrefix(def.Registry.Repository, "dir:"):
		// Pullspecs need a host; the folder's layouts are below the path.
		p.Repository = "localhost/" + def.Identity.Name
	default:
		p.Repository = def.Registry.Repository
	}
	return p
}
