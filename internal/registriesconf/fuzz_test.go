package registriesconf_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/internal/registriesconf"
)

// check asks c and holds what is always true: no candidate is the source if it
// is blocked, none comes twice, and there is one or an error.
func check(t *testing.T, c *registriesconf.Config, ref string) {
	repo, err := name.NewRepository(ref)
	if err != nil {
		return
	}
	for _, byDigest := range []bool{false, true} {
		list, err := c.Candidates(repo, byDigest)
		require.Equal(t, err == nil, len(list) > 0)
		seen := map[registriesconf.Candidate]bool{}
		for _, candidate := range list {
			require.False(t, seen[candidate])
			seen[candidate] = true
			_, err := c.Destination(candidate.Repository)
			require.NotErrorIs(t, err, fs.ErrPermission, "a blocked place must not be tried")
		}
	}
}

func FuzzConf(f *testing.F) {
	for text := range tomlTexts {
		f.Add([]byte(text), "a.example/xx")
	}
	f.Add([]byte("[[registry]]\nprefix='*.example'\nlocation='b.c'\nmirror=[{location='m.n/x',insecure=true,pull-from-mirror='digest-only'}]"), "a.example:5000/xx")
	f.Add([]byte("[[registry]]\nlocation='a.example'\nblocked=true\n[[registry.mirror]]\nlocation='a.example/yy'"), "a.example/xx")
	f.Add([]byte("[[registry]]\nlocation='docker.io/library'\nblocked=true\n[[registry]]\nlocation='a.example'\nmirror=[{location='docker.io'},{location='index.docker.io/yy'}]"), "a.example/xx")
	f.Fuzz(func(t *testing.T, data []byte, ref string) {
		c, err := fuzzbound.Parse(t, 500, func(data []byte) (*registriesconf.Config, error) {
			return registriesconf.New([]registriesconf.File{{Name: "x", Data: data}}, nil)
		}, data)
		require.Equal(t, err == nil, c != nil)
		if err == nil {
			check(t, c, ref)
		}
	})
}

func FuzzMirrorSets(f *testing.F) {
	for doc := range mutants.Of(idms) {
		f.Add([]byte(doc), "quay.io/okd/scos-release")
	}
	f.Add([]byte("a: &a ["+strings.Repeat("{},", 300)+"]\nb: ["+strings.Repeat("*a,", 90)+"]\n"), "a.example/x")
	f.Add([]byte("---\n--- {}\n---\napiVersion: v1\nkind: List\nitems: [null, {}]"), "a.example/xx")
	f.Add([]byte(strings.ReplaceAll(idms, "Digest", "Tag")), "registry.redhat.io/ubi9/ubi")
	conf := registriesconf.File{Name: "x.conf", Data: []byte("[[registry]]\nlocation='quay.io/okd/scos-content/xx'\ninsecure=true")}
	f.Fuzz(func(t *testing.T, data []byte, ref string) {
		c, err := fuzzbound.Parse(t, 4000, func(data []byte) (*registriesconf.Config, error) {
			return registriesconf.New([]registriesconf.File{conf}, []registriesconf.File{{Name: "x", Data: data}})
		}, data)
		require.Equal(t, err == nil, c != nil)
		if err == nil {
			check(t, c, ref)
		}
	})
}
