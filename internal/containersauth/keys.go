package containersauth

import "strings"

// Docker's registry, as keys have it and as docker login writes it.
const (
	hub        = "docker.io"
	hubAddress = "https://index.docker.io/v1/"
)

// Keys lists the keys that fit target, a repository or registry, longest first.
func Keys(target, registry string) []string {
	_, path, _ := strings.Cut(target, "/")
	key := registry
	if path != "" {
		key += "/" + path
	}
	var out []string
	for {
		out = append(out, key)
		i := strings.LastIndexByte(key, '/')
		if i < 0 || len(out) >= 256 {
			return out
		}
		key = key[:i]
	}
}

// plain gives the one name of the registry that has three.
func plain(registry string) string {
	switch registry {
	case "index.docker.io", "registry-1.docker.io":
		return hub
	}
	return registry
}

// names lists how a registry may be called under credHelpers.
func names(registry string) []string {
	if registry == hub {
		return []string{hub, "index.docker.io", hubAddress}
	}
	return []string{registry}
}
