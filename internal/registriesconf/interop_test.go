package registriesconf_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/registriesconf"
)

// recorder is some registries that have nothing and write down who asks.
type recorder struct {
	hosts []string

	mu   sync.Mutex
	seen []string // host/repository
}

func newRecorder(t *testing.T, hosts int) *recorder {
	r := &recorder{}
	for range hosts {
		server := httptest.NewServer(r)
		t.Cleanup(server.Close)
		r.hosts = append(r.hosts, strings.TrimPrefix(server.URL, "http://"))
	}
	return r
}

// forget begins anew.
func (r *recorder) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = nil
}

// asked gives who was asked since.
func (r *recorder) asked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	path := strings.TrimPrefix(req.URL.Path, "/v2/")
	if path == "" {
		return
	}
	repo, _, _ := strings.Cut(path, "/manifests/")
	r.mu.Lock()
	defer r.mu.Unlock()
	if place := req.Host + "/" + repo; !slices.Contains(r.seen, place) {
		r.seen = append(r.seen, place)
	}
	w.WriteHeader(http.StatusNotFound)
}

// skopeo looks for an image with a registries.conf and says what it printed.
func skopeo(t *testing.T, conf, ref string) string {
	home := t.TempDir()
	file := filepath.Join(home, "registries.conf")
	require.NoError(t, os.WriteFile(file, []byte(conf), 0o644))
	cmd := exec.CommandContext(t.Context(), "skopeo", "--registries-conf", file, "inspect", "--no-tags", "docker://"+ref)
	cmd.Env = append(os.Environ(), "HOME="+home)
	out, err := cmd.CombinedOutput()
	require.Error(t, err, "nobody has it")
	return string(out)
}

// compare asks skopeo and us.
func compare(t *testing.T, r *recorder, conf, ref string) {
	r.forget()
	printed := skopeo(t, conf, ref)
	var want []string
	c, err := registriesconf.New([]registriesconf.File{{Name: "registries.conf", Data: []byte(conf)}}, nil)
	if err == nil {
		repo, byDigest := strings.CutSuffix(ref, digest)
		repo, _, _ = strings.Cut(repo, ":tag")
		at, parseErr := name.NewRepository(repo)
		require.NoError(t, parseErr)
		var list []registriesconf.Candidate
		list, err = c.Candidates(at, byDigest)
		for _, candidate := range list {
			if slices.Contains(r.hosts, candidate.Repository.RegistryStr()) { // the others are nowhere
				want = append(want, candidate.Repository.Name())
			}
		}
	} else {
		require.Contains(t, printed, "registries", "%v\n%s", err, conf)
	}
	require.Equal(t, want, r.asked(), "%s\n%s\n%s\n%v", ref, conf, printed, err)
}

// What we would try, in which order, is what skopeo tries.
func TestSkopeoContacts(t *testing.T) {
	interop.Peer(t, "skopeo")
	r := newRecorder(t, 4)
	random := rand.New(rand.NewPCG(4, 2))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	place := func() string { return pick(r.hosts...) + pick("", "/m", "/m/deep", "/blocked") }
	for range 40 {
		var conf strings.Builder
		fmt.Fprintf(&conf, "[[registry]]\nlocation = %q\nblocked = true\ninsecure = true\n", r.hosts[0]+"/blocked")
		for range 1 + random.IntN(4) {
			fmt.Fprintf(&conf, "[[registry]]\nprefix = %q\nlocation = %q\ninsecure = true\n",
				pick("s.example", "s.example/ns", "s.example/ns/img", "s.example/n", "*.example", "*.sub.example", "x.sub.example"), place())
			byDigest := random.IntN(4) == 0
			if byDigest {
				conf.WriteString("mirror-by-digest-only = true\n")
			}
			if random.IntN(5) == 0 {
				conf.WriteString("blocked = true\n")
			}
			for range random.IntN(4) {
				fmt.Fprintf(&conf, "[[registry.mirror]]\nlocation = %q\ninsecure = true\n", place())
				if kind := pick("", "", "all", "digest-only", "tag-only"); kind != "" && !byDigest {
					fmt.Fprintf(&conf, "pull-from-mirror = %q\n", kind)
				}
			}
		}
		image := pick("s.example/ns/img", "s.example/ns/img", "s.example/ns/other", "s.example/img", "x.sub.example/ns/img", "example/ns", r.hosts[0]+"/blocked/img")
		if !strings.Contains(image, ".") {
			image = "example.example/ns"
		}
		compare(t, r, conf.String(), image+pick(":tag", digest))
	}
}

// The same files count, in the same order.
func TestSkopeoDropIns(t *testing.T) {
	interop.Peer(t, "skopeo")
	r := newRecorder(t, 4)
	home := t.TempDir()
	env := func(key string) string { return map[string]string{"HOME": home}[key] }
	base := filepath.Join(home, ".config", "containers", "registries.conf")
	table := func(prefix string, host int) string {
		return fmt.Sprintf("[[registry]]\nprefix = %q\nlocation = %q\ninsecure = true\n", prefix, r.hosts[host])
	}
	both := func(want map[string]int) {
		t.Helper()
		c, err := registriesconf.Load(registriesconf.Locate(env))
		require.NoError(t, err)
		for prefix, host := range want {
			r.forget()
			cmd := exec.CommandContext(t.Context(), "skopeo", "inspect", "--no-tags", "docker://"+prefix+"/img:tag")
			cmd.Env = append(os.Environ(), "HOME="+home)
			out, err := cmd.CombinedOutput()
			require.Error(t, err, "nobody has it")
			require.Equal(t, []string{r.hosts[host] + "/img"}, r.asked(), "%s: %s", prefix, out)
			require.Equal(t, r.hosts[host]+"/img!", pull(t, c, prefix+"/img"))
		}
	}
	for name, text := range map[string]string{
		"20.conf": table("a.example", 1), "10.conf": table("a.example", 2) + table("b.example", 2), "30.txt": "nonsense", "below/40.conf": "nonsense",
	} {
		path := filepath.Join(base+".d", name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	both(map[string]int{"a.example": 1, "b.example": 2}) // with the system's files
	require.NoError(t, os.WriteFile(base, []byte(table("a.example", 0)+table("b.example", 0)+table("c.example", 3)+table("c.example", 0)), 0o644))
	both(map[string]int{"a.example": 1, "b.example": 2, "c.example": 3})
}

// Where we differ, as the package comment says.
func TestSkopeoDiffers(t *testing.T) {
	interop.Peer(t, "skopeo")
	r := newRecorder(t, 1)
	host, port, _ := strings.Cut(r.hosts[0], ":")
	conf := fmt.Sprintf("[[registry]]\nlocation = %q\nblocked = true\n", host)
	require.Contains(t, skopeo(t, conf, host+":"+port+"/ns/img:tag"), "is blocked")
	c, err := registriesconf.New([]registriesconf.File{{Data: []byte(conf)}}, nil)
	require.NoError(t, err)
	require.Equal(t, r.hosts[0]+"/ns/img", pull(t, c, r.hosts[0]+"/ns/img"))
}

// A document that podman takes is one that we take, and the other way round,
// but for some that are not TOML and that its reader lets pass.
func TestSkopeoTOML(t *testing.T) {
	interop.Peer(t, "skopeo")
	r := newRecorder(t, 1)
	var lax []string
	for text, want := range tomlTexts {
		printed := skopeo(t, text, r.hosts[0]+"/ns/img:tag")
		if takes := !strings.Contains(printed, "registries configuration"); takes && !want {
			lax = append(lax, text)
		} else {
			require.Equal(t, want, takes, "%q: %s", text, printed)
		}
	}
	require.ElementsMatch(t, []string{
		"a={}\na.b=1", "a={}\n[a.b]", "a.b=1\na=1", "[a.b.c]\n[a]\nb.d=1", "[fruit]\napple.color=1\n[fruit.apple]",
	}, lax)
}
