package registriesconf_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/registriesconf"
)

const digest = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// conf makes a configuration of texts, the first being registries.conf and the
// others drop-ins.
func conf(t testing.TB, texts ...string) *registriesconf.Config {
	t.Helper()
	var files []registriesconf.File
	for i, text := range texts {
		files = append(files, registriesconf.File{Name: fmt.Sprintf("%d.conf", i), Data: []byte(text)})
	}
	c, err := registriesconf.New(files, nil)
	require.NoError(t, err)
	return c
}

// pull prints the candidates for a reference, "!" marking insecure ones, or
// "blocked".
func pull(t testing.TB, c *registriesconf.Config, ref string) string {
	t.Helper()
	repo, byDigest := strings.CutSuffix(ref, digest)
	r, err := name.NewRepository(repo)
	require.NoError(t, err)
	list, err := c.Candidates(r, byDigest)
	if err != nil {
		require.ErrorIs(t, err, fs.ErrPermission)
		require.Nil(t, list)
		return "blocked"
	}
	var out []string
	for _, candidate := range list {
		text := strings.Replace(candidate.Repository.Name(), "index.docker.io", "docker.io", 1)
		if candidate.Insecure {
			text += "!"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

// A mirror's place is blocked under whichever name of docker.io it has.
func TestCandidatesBlockedByAnotherName(t *testing.T) {
	for mirror, blocked := range map[string]string{"docker.io": "docker.io/library", "index.docker.io": "docker.io/library/xx", "index.docker.io/yy": "docker.io"} {
		c := conf(t, fmt.Sprintf("[[registry]]\nlocation=%q\nblocked=true\n[[registry]]\nlocation='a.example'\n[[registry.mirror]]\nlocation=%q", blocked, mirror))
		require.Equal(t, "a.example/xx", pull(t, c, "a.example/xx"), mirror)
	}
}

func TestCandidates(t *testing.T) {
	t.Parallel()
	c := conf(t, `
unqualified-search-registries = ["docker.io", 'quay.io']
short-name-mode = "enforcing"
future-key = 7

[[registry]]
prefix = "quay.example/okd"
location = "inner.example:5000/mirrored"
insecure = true
[[registry.mirror]]
location = "m1.example/a"
[[registry.mirror]]
location = "m2.example"
insecure = true
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "m3.example/"
pull-from-mirror = "tag-only"

[[registry]]
location = "quay.example"
mirror-by-digest-only = true
mirror = [ {location = "m4.example/quay"}, {location="m5.example", insecure=true}, ]

[[registry]]
prefix = "quay.example/okd/secret"
location = "quay.example/okd/secret"
blocked = true

[[registry]]
prefix = "*.wild.example"
[[registry.mirror]]
location = "m6.example/wild"

[[registry]]
prefix = "*.away.example"
location = "inner.example"

[[registry]]
location = "docker.io/library"
[[registry.mirror]]
location = "m7.example/hub"
[[registry.mirror]]
location = "blocked.example"

[[registry]]
location = "blocked.example"
blocked = true

[aliases]
"fedora" = "registry.example/fedora"
`)
	for ref, want := range map[string]string{
		"quay.example/okd/scos":               "m1.example/a/scos m3.example/scos inner.example:5000/mirrored/scos!",
		"quay.example/okd/scos" + digest:      "m1.example/a/scos m2.example/scos! inner.example:5000/mirrored/scos!",
		"quay.example/okdx/scos" + digest:     "m4.example/quay/okdx/scos m5.example/okdx/scos! quay.example/okdx/scos",
		"quay.example/okdx/scos":              "quay.example/okdx/scos",
		"quay.example/okd/secret":             "blocked",
		"quay.example/okd/secret/x":           "blocked",
		"quay.example/okd/secretx":            "m1.example/a/secretx m3.example/secretx inner.example:5000/mirrored/secretx!",
		"quay.example:443/okd/scos":           "quay.example:443/okd/scos",
		"a.wild.example/x/yy":                 "m6.example/wild/x/yy a.wild.example/x/yy",
		"a.b.wild.example/yy":                 "m6.example/wild/yy a.b.wild.example/yy",
		"wild.example/yy":                     "wild.example/yy",
		"notwild.example/yy":                  "notwild.example/yy",
		"other.example/a.wild.example/yy":     "other.example/a.wild.example/yy",
		"a.away.example/yy":                   "inner.example/yy",
		"a.away.example:5000/yy":              "inner.example:5000/yy",
		"debian":                              "m7.example/hub/debian docker.io/library/debian",
		"okd/debian":                          "docker.io/okd/debian",
		"blocked.example/aa":                  "blocked",
		"unknown.example/aa":                  "unknown.example/aa",
		"m1.example/a/scos":                   "m1.example/a/scos",
		"inner.example:5000/mirrored/scos":    "inner.example:5000/mirrored/scos",
		"sub.quay.example/okd/scos":           "sub.quay.example/okd/scos",
		"quay.example/okd/sub/scos" + digest:  "m1.example/a/sub/scos m2.example/sub/scos! inner.example:5000/mirrored/sub/scos!",
		"docker.io/library/debian" + digest:   "m7.example/hub/debian docker.io/library/debian",
		"registry-1.docker.io/library/debian": "registry-1.docker.io/library/debian",
	} {
		require.Equal(t, want, pull(t, c, ref), ref)
	}
	require.Equal(t, "quay.io/okd/scos", pull(t, nil, "quay.io/okd/scos"), "nothing configured")

	for ref, why := range map[string]string{
		"a.wild.example:8443/yy": "the port stays where a wildcard goes, as with podman",
		"quay.example/okd":       "a mirror that is a host alone cannot stand for a repository",
	} {
		repo, err := name.NewRepository(ref)
		require.NoError(t, err)
		_, err = c.Candidates(repo, true)
		require.ErrorContains(t, err, "is no repository", why)
	}
}

// A repository that stays what it is stays the value it is.
func TestSameValue(t *testing.T) {
	t.Parallel()
	repo, err := name.NewRepository("a.example/xx", name.Insecure)
	require.NoError(t, err)
	list, err := conf(t, "[[registry]]\nlocation='a.example'\ninsecure=true").Candidates(repo, true)
	require.NoError(t, err)
	require.Equal(t, []registriesconf.Candidate{{Repository: repo, Insecure: true}}, list)
}

func TestDestination(t *testing.T) {
	t.Parallel()
	c := conf(t, `
[[registry]]
prefix = "a.example"
location = "b.example"
insecure = true
[[registry.mirror]]
location = "m.example"
[[registry]]
location = "c.example"
blocked = true
`)
	for ref, want := range map[string]string{"a.example/xx": "a.example/xx true", "d.example/xx": "d.example/xx false"} {
		repo, err := name.NewRepository(ref)
		require.NoError(t, err)
		got, err := c.Destination(repo)
		require.NoError(t, err)
		require.Equal(t, want, fmt.Sprint(got.Repository, " ", got.Insecure))
	}
	repo, err := name.NewRepository("c.example/xx")
	require.NoError(t, err)
	_, err = c.Destination(repo)
	require.ErrorIs(t, err, fs.ErrPermission)
	require.EqualError(t, err, "registriesconf: push to c.example/xx: blocked by 0.conf:8: permission denied")
}

func TestDropIns(t *testing.T) {
	t.Parallel()
	c := conf(t,
		"credential-helpers = [\"first\"]\n[[registry]]\nlocation='a.example'\n[[registry.mirror]]\nlocation='m1.example'\n[[registry]]\nlocation='b.example'\nblocked=true",
		"[[registry]]\nlocation='a.example'\n[[registry.mirror]]\nlocation='m2.example'\n[[registry]]\nlocation='a.example'\n[[registry.mirror]]\nlocation='m3.example'",
		"credential-helpers = [\"containers-auth.json\", \"second\"]", "# nothing\n",
	)
	require.Equal(t, "m2.example/xx a.example/xx", pull(t, c, "a.example/xx"), "a later file replaces, within a file the first counts")
	require.Equal(t, "blocked", pull(t, c, "b.example/xx"))
	require.Equal(t, []string{"containers-auth.json", "second"}, c.CredentialHelpers())
}

// Where a wildcard and a host are of one length, the wildcard comes first by
// name, as with podman.
func TestTie(t *testing.T) {
	t.Parallel()
	c := conf(t, "[[registry]]\nlocation='a.x.example'\n[[registry]]\nprefix='*.x.example'\nlocation='w.example'")
	require.Equal(t, "w.example/yy", pull(t, c, "a.x.example/yy"))
}

func TestBadConf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"[[registry]]":             "1: a [[registry]] without location",
		"[[registry]]\nlocation=7": "2: location: want a string",
		"[[registry]]\nlocation='a.example'\ninsecure='true'":                                         "3: insecure: want true or false",
		"[[registry]]\nlocation='a.example'\ninsecur=true":                                            `3: "insecur" is not known here`,
		"[[registry]]\nlocation='https://a.example'":                                                  "want no scheme",
		"[[registry]]\nlocation='myhost/x'":                                                           "needs a dot or a port",
		"[[registry]]\nlocation='a.example/../x'":                                                     "not a namespace",
		"[[registry]]\nlocation='a.example//x'":                                                       "not a namespace",
		"[[registry]]\nlocation='x@a.example'":                                                        "not a host",
		"[[registry]]\nlocation='*.example.com'":                                                      "wildcard is for prefixes",
		"[[registry]]\nprefix='*.example.com/x'\nlocation='a.b'":                                      "a wildcard is",
		"[[registry]]\nprefix='a.example'":                                                            "without a location",
		"[[registry]]\nlocation='a.example'\nmirror=[7]":                                              "want tables",
		"[[registry]]\nlocation='a.example'\nmirror=7":                                                "want an array of tables",
		"[[registry]]\nlocation='a.example'\nmirror=[{}]":                                             "mirror: location: is empty",
		"[registry]\nlocation='a.example'":                                                            "want an array of tables",
		"[registries.search]\nregistries=['a.example']":                                               "version 1",
		"credential-helpers='x'":                                                                      "want an array of strings",
		"credential-helpers=[1]":                                                                      "want an array of strings",
		"[[registry]]\nlocation='a.example'\npull-from-mirror='all'":                                  `"pull-from-mirror" is not known here`,
		"[[registry]]\nlocation='a.example'\nmirror=[{location='b.example',pull-from-mirror='some'}]": "want all, digest-only",
		"[[registry]]\nlocation='a.example'\nmirror-by-digest-only=true\nmirror=[{location='b.example',pull-from-mirror='tag-only'}]": "together with",
		"[[registry]]\nlocation='a.example'\n[[registry]]\nprefix='b.example'\nlocation='a.example'\nblocked=true":                    "differs in insecure or blocked",
		strings.Repeat("#", registriesconf.MaxFileSize+1):                                                                             "more than",
	} {
		_, err := registriesconf.New([]registriesconf.File{{Name: "x.conf", Data: []byte(text)}}, nil)
		require.ErrorContains(t, err, want, "%.200s", text)
		require.ErrorContains(t, err, "registriesconf: x.conf:")
	}
	_, err := registriesconf.New([]registriesconf.File{{Name: "x.conf", Data: []byte("[[registry]]\nlocation=1\nblocked=2\n[[registry]]\n")}}, nil)
	require.ErrorContains(t, err, "x.conf:2")
	require.ErrorContains(t, err, "x.conf:3")
	require.ErrorContains(t, err, "x.conf:4", "every fault is told")
	_, err = registriesconf.New([]registriesconf.File{{Data: []byte("[[registry]]\nnew=1")}}, nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

func TestTooMuch(t *testing.T) {
	t.Parallel()
	var tables, mirrors, sets strings.Builder
	mirrors.WriteString("[[registry]]\nlocation='a.example'\n")
	sets.WriteString("apiVersion: config.openshift.io/v1\nkind: ImageDigestMirrorSet\nspec:\n  imageDigestMirrors:\n")
	for i := range registriesconf.MaxEntries + 1 {
		fmt.Fprintf(&tables, "[[registry]]\nlocation='a%d.example'\n", i)
		fmt.Fprintf(&mirrors, "[[registry.mirror]]\nlocation='a%d.example'\n", i)
		fmt.Fprintf(&sets, "  - {source: a%d.example, mirrors: [b%d.example]}\n", i, i)
	}
	for _, text := range []string{tables.String(), mirrors.String()} {
		_, err := registriesconf.New([]registriesconf.File{{Name: "x.conf", Data: []byte(text)}}, nil)
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.ErrorContains(t, err, "more than 5000")
	}
	_, err := registriesconf.New(nil, []registriesconf.File{{Name: "x.yaml", Data: []byte(sets.String())}})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "more than 5000")
	_, err = registriesconf.New(nil, []registriesconf.File{{Name: "x.yaml", Data: []byte("apiVersion: v1\nkind: List\nitems:\n" + strings.Repeat("- {}\n", 1001))}})
	require.ErrorContains(t, err, "more than 1000 objects")
}

// What is slow or endless in a reader of TOML is neither here.
func TestHostileSizes(t *testing.T) {
	t.Parallel()
	many := func(format string) string {
		var text strings.Builder
		for i := 0; text.Len() < registriesconf.MaxFileSize/4; i++ {
			fmt.Fprintf(&text, format, i)
		}
		return text.String()
	}
	for text, fine := range map[string]bool{
		many("a%d=1\n"): true, many("[a%d]\n"): true, many("[[a%d]]\n"): true, "a={" + many("a%d=1,") + "z=1}": true,
		"credential-helpers=[" + many("'%d',") + "]": true, "[[registry]]\n" + many("a%d=1\n"): false, many("[[registry]]\n#%d\n"): false,
		strings.Repeat("a.", registriesconf.MaxFileSize/2-10) + "a=1": false, "a=" + strings.Repeat("[", registriesconf.MaxFileSize-10): false,
	} {
		_, err := registriesconf.New([]registriesconf.File{{Name: "x", Data: []byte(text)}}, nil)
		require.Equal(t, fine, err == nil, "%.40q: %v", text, err)
		if err != nil {
			require.Less(t, len(err.Error()), 4000, "%.40q", text)
		}
	}
	text := "apiVersion: v1\nkind: List\nitems:\n" + strings.Repeat("- {}\n", 900)
	_, err := registriesconf.New(nil, []registriesconf.File{{Name: "x", Data: []byte(text)}})
	require.ErrorContains(t, err, "and 880 more")
}

// A tag in a prefix matches no repository, and does no harm.
func TestPrefixWithTag(t *testing.T) {
	t.Parallel()
	c := conf(t, "[[registry]]\nlocation='a.example/xx:v1'\nblocked=true\n[[registry]]\nprefix='a.example/xx@sha256:00'\nlocation='b.example/xx@sha256:00'")
	require.Equal(t, "a.example/xx", pull(t, c, "a.example/xx"))
}

func TestLoad(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(home, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	const base = ".config/containers/registries.conf"
	env := map[string]string{"HOME": home}
	getenv := func(key string) string { return env[key] }
	o := registriesconf.Locate(getenv)
	user := filepath.Join(home, base)
	require.Equal(t, &registriesconf.Options{
		Files: []string{"/etc/containers/registries.conf"}, Dirs: []string{"/etc/containers/registries.conf.d", user + ".d"},
	}, o)

	write(base, "[[registry]]\nlocation='a.example'\n[[registry]]\nlocation='b.example'\n[[registry]]\nlocation='c.example'\n")
	write(base+".d/20-b.conf", "[[registry]]\nprefix='b.example'\nlocation='b20.example'")
	write(base+".d/10-b.conf", "[[registry]]\nprefix='b.example'\nlocation='b10.example'\n[[registry]]\nprefix='c.example'\nlocation='c10.example'")
	write(base+".d/30-b.conf.bak", "nonsense")
	write(base+".d/below/40.conf", "nonsense")
	o = registriesconf.Locate(getenv)
	require.Equal(t, &registriesconf.Options{Files: []string{user}, Dirs: []string{user + ".d"}}, o)
	write("idms.yaml", "apiVersion: config.openshift.io/v1\nkind: ImageDigestMirrorSet\nspec:\n  imageDigestMirrors:\n  - source: a.example\n    mirrors: [m.example/a]\n")
	o.MirrorSets = []string{filepath.Join(home, "idms.yaml")}
	c, err := registriesconf.Load(o)
	require.NoError(t, err)
	require.Equal(t, "m.example/a/xx a.example/xx", pull(t, c, "a.example/xx"+digest))
	require.Equal(t, "b20.example/xx", pull(t, c, "b.example/xx"))
	require.Equal(t, "c10.example/xx", pull(t, c, "c.example/xx"))

	env["CONTAINERS_REGISTRIES_CONF"] = filepath.Join(home, "missing.conf")
	o = registriesconf.Locate(getenv)
	require.Equal(t, filepath.Join(home, "missing.conf"), o.File)
	_, err = registriesconf.Load(&registriesconf.Options{File: o.File, MirrorSets: []string{filepath.Join(home, "gone.yaml")}})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "missing.conf")
	require.ErrorContains(t, err, "gone.yaml")

	c, err = registriesconf.Load(&registriesconf.Options{Files: []string{o.File, user}, Dirs: []string{filepath.Join(home, "nowhere")}})
	require.NoError(t, err)
	require.Equal(t, "b.example/xx", pull(t, c, "b.example/xx"))
	c, err = registriesconf.Load(nil)
	require.NoError(t, err)
	require.Empty(t, c.CredentialHelpers())
}

func ExampleConfig_Candidates() {
	c, err := registriesconf.New([]registriesconf.File{{Name: "registries.conf", Data: []byte(`
[[registry]]
prefix = "quay.io/okd"
location = "quay.io/okd"
blocked = true                       # never there
[[registry.mirror]]
location = "registry.example:5000/okd"
pull-from-mirror = "digest-only"
`)}}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	repo, err := name.NewRepository("quay.io/okd/scos-release")
	if err != nil {
		fmt.Println(err)
		return
	}
	list, err := c.Candidates(repo, true)
	fmt.Println(list, err)
	_, err = c.Candidates(repo, false)
	fmt.Println(err)
	// Output:
	// [{registry.example:5000/okd/scos-release false}] <nil>
	// registriesconf: pull from quay.io/okd/scos-release: blocked by registries.conf:2: permission denied
}

// BenchmarkNew reads a registries.conf of 200 tables with two mirrors each.
func BenchmarkNew(b *testing.B) {
	files := []registriesconf.File{{Name: "x", Data: []byte(large(200))}}
	b.SetBytes(int64(len(files[0].Data)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := registriesconf.New(files, nil)
		require.NoError(b, err)
	}
}

// BenchmarkCandidates asks the same for one repository.
func BenchmarkCandidates(b *testing.B) {
	c := conf(b, large(200))
	repo, err := name.NewRepository("registry.example/ns150/deep/image")
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		list, err := c.Candidates(repo, true)
		require.NoError(b, err)
		require.Len(b, list, 3)
	}
}

func large(tables int) string {
	var text strings.Builder
	for i := range tables {
		fmt.Fprintf(&text, "[[registry]]\nlocation = \"registry.example/ns%d\"\n[[registry.mirror]]\nlocation = \"m1.example/ns%d\"\n[[registry.mirror]]\nlocation = \"m2.example/ns%d\"\n\n", i, i, i)
	}
	return text.String()
}
