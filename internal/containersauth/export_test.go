package containersauth

import "github.com/google/go-containerregistry/pkg/authn"

// Find looks a repository up in one file.
func (f *File) Find(repo, registry string, help func(name, registry string) (*authn.AuthConfig, error)) (*authn.AuthConfig, string, error) {
	registry = plain(registry)
	return f.find(target{keys: Keys(repo, registry), registry: registry}, help)
}
