package ostree_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// TestPullInterop pulls what `ostree` wrote, and has it pull what we pulled, in
// every mode: both get the same objects and refs, and take each other's.
func TestPullInterop(t *testing.T) {
	interop.Peer(t, "ostree")
	tree := t.TempDir()
	require.NoError(t, treegen.Write(tree, 1, &treegen.Options{Root: isRoot(), Files: 250, MaxSize: 1 << 19, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}))
	src := peerRepo(t, ostree.ModeArchive)
	run(t, "ostree", "--repo="+src, "commit", "--branch=os/x86_64/stable", "--tree=dir="+tree, "--add-detached-metadata-string=fixture=kept")
	run(t, "ostree", "--repo="+src, "commit", "--branch=os/x86_64/stable", "--tree=dir="+tree, "--add-metadata-string=version=2")
	run(t, "ostree", "--repo="+src, "commit", "--branch=os/canonical", "--tree=dir="+tree, "--canonical-permissions")
	run(t, "ostree", "--repo="+src, "summary", "-u")
	url := staticServer(t, src)
	for _, mode := range allModes() {
		ref := "os/x86_64/stable"
		if mode == ostree.ModeBareUserOnly {
			ref = "os/canonical"
		}
		theirs := peerRepo(t, mode)
		run(t, "ostree", "--repo="+theirs, "remote", "add", "--no-gpg-verify", "origin", url)
		run(t, "ostree", "--repo="+theirs, "pull", "--depth=-1", "origin", ref)
		peer, err := ostree.Open(t.Context(), theirs, nil)
		require.NoError(t, err)
		defer peer.Close()

		r := newRepo(t, mode)
		require.NoError(t, r.Pull(t.Context(), "origin", &ostree.PullOptions{URL: url, Revs: []string{ref}, Verifier: unverified, Depth: -1}))
		require.Equal(t, objectsOf(t, peer), objectsOf(t, r), mode)
		require.Equal(t, run(t, "ostree", "--repo="+theirs, "rev-parse", "origin:"+ref), run(t, "ostree", "--repo="+r.Path(), "rev-parse", "origin:"+ref))
		run(t, "ostree", "--repo="+r.Path(), "fsck")
		require.NoError(t, r.Fsck(t.Context(), nil))
		require.Equal(t, run(t, "ostree", "--repo="+theirs, "ls", "-R", "-C", "-X", "origin:"+ref), run(t, "ostree", "--repo="+r.Path(), "ls", "-R", "-C", "-X", "origin:"+ref))
		// Each goes on from where the other ended, with nothing to do.
		before := snapshot(t, theirs)
		require.NoError(t, peer.Pull(t.Context(), "origin", &ostree.PullOptions{Revs: []string{ref}, Depth: -1}))
		require.Equal(t, before, snapshot(t, theirs))
		run(t, "ostree", "--repo="+r.Path(), "remote", "add", "--no-gpg-verify", "origin", url)
		before = regexp.MustCompile(`.*commitmeta.*`).ReplaceAllString(snapshot(t, filepath.Join(r.Path(), "objects")), "")
		run(t, "ostree", "--repo="+r.Path(), "pull", "--depth=-1", "origin", ref)
		// It always writes the detached metadata again.
		require.Equal(t, before, regexp.MustCompile(`.*commitmeta.*`).ReplaceAllString(snapshot(t, filepath.Join(r.Path(), "objects")), ""))
	}
}

// TestPullMirrorInterop mirrors a repository and has `ostree` pull from that.
func TestPullMirrorInterop(t *testing.T) {
	interop.Peer(t, "ostree", "tar", "zstd")
	url := staticServer(t, unpack(t, "repo-archive"))
	r := newRepo(t, ostree.ModeArchive)
	key, err := os.ReadFile(interop.SharedData(t, "ostree", "expected", "fixture-key.gpg"))
	require.NoError(t, err)
	gpg := verifier(t, ostree.KeyFiles{GPG: [][]byte{key}})
	require.NoError(t, r.Pull(t.Context(), "", &ostree.PullOptions{URL: url, Mirror: true, Depth: -1, Verifier: unverified, SummaryVerifier: gpg, AnyBinding: true, Now: time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)}))
	want, err := os.ReadFile(interop.SharedData(t, "ostree", "expected", "archive.refs.txt"))
	require.NoError(t, err)
	var refs strings.Builder
	for ref, err := range r.Refs(t.Context()) {
		require.NoError(t, err)
		refs.WriteString(ref.String() + " " + ref.Commit.String() + "\n")
	}
	require.Equal(t, string(want), refs.String())
	run(t, "ostree", "--repo="+r.Path(), "fsck")
	mirror := httptest.NewServer(handlerOf(t, r))
	t.Cleanup(mirror.Close)
	client := peerRepo(t, ostree.ModeBareUser)
	keyFile := filepath.Join(t.TempDir(), "key.gpg")
	require.NoError(t, os.WriteFile(keyFile, key, 0o644))
	run(t, "ostree", "--repo="+client, "remote", "add", "--set=gpg-verify=false", "--set=gpg-verify-summary=true", "--gpg-import="+keyFile, "origin", mirror.URL)
	run(t, "ostree", "--repo="+client, "pull", "--disable-static-deltas", "origin", "fixture/owner")
	run(t, "ostree", "--repo="+client, "fsck")

	// What one side pulled in part, the other completes.
	var folder string
	owner, err := r.Resolve(t.Context(), "fixture/owner")
	require.NoError(t, err)
	for e, err := range r.Tree(owner).Entries(t.Context()) {
		require.NoError(t, err)
		if e.Mode&ostree.ModeType == ostree.ModeDir && e.Path != "." {
			folder = "/" + e.Path
			break
		}
	}
	for _, args := range [][]string{{"--commit-metadata-only"}, {"--subpath=" + folder}} {
		half := peerRepo(t, ostree.ModeBareUser)
		run(t, "ostree", "--repo="+half, "remote", "add", "--no-gpg-verify", "origin", mirror.URL)
		run(t, "ostree", append([]string{"--repo=" + half, "pull", "--disable-static-deltas", "origin", "fixture/owner"}, args...)...)
		ours, err := ostree.Open(t.Context(), half, nil)
		require.NoError(t, err)
		defer ours.Close()
		own := newRepo(t, ostree.ModeBareUser)
		opts := &ostree.PullOptions{URL: mirror.URL, Revs: []string{"fixture/owner"}, Verifier: unverified, CommitsOnly: len(args[0]) > 20}
		if !opts.CommitsOnly {
			opts.Subpaths = []string{folder}
		}
		require.NoError(t, own.Pull(t.Context(), "origin", opts))
		require.Equal(t, objectsOf(t, ours), objectsOf(t, own), args[0])
		require.NoError(t, ours.Pull(t.Context(), "origin", &ostree.PullOptions{Revs: []string{"fixture/owner"}}))
		run(t, "ostree", "--repo="+half, "fsck")
		run(t, "ostree", "--repo="+own.Path(), "remote", "add", "--no-gpg-verify", "origin", mirror.URL)
		run(t, "ostree", "--repo="+own.Path(), "pull", "--disable-static-deltas", "origin", "fixture/owner")
		run(t, "ostree", "--repo="+own.Path(), "fsck")
		require.Equal(t, objectsOf(t, ours), objectsOf(t, own), args[0])
		partial, err := own.Partial(t.Context(), func() ostree.Checksum { c, _ := own.Resolve(t.Context(), "origin:fixture/owner"); return c }())
		require.NoError(t, err)
		require.False(t, partial)
	}
}

// TestPullConfig obeys the keys of a remote's config that are about connections,
// as `ostree` writes them.
func TestPullConfig(t *testing.T) {
	src, commits := smallSource(t)
	secure := httptest.NewUnstartedServer(handlerOf(t, src))
	secure.EnableHTTP2 = true
	var protocols []string
	secure.Config.Handler = func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/summary" {
				protocols = append(protocols, r.Proto)
			}
			next.ServeHTTP(w, r)
		})
	}(secure.Config.Handler)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	folder := t.TempDir()
	ca := filepath.Join(folder, "ca.pem")
	require.NoError(t, os.WriteFile(ca, pemOf(secure.Certificate().Raw), 0o644))
	list := newPullServer(t, objectServer{"/mirrors": []byte("# mirrors\nhttp://127.0.0.1:1/\n" + secure.URL + "\n")}, nil)
	for name, tc := range map[string]struct{ keys, err, proto string }{
		"unknown authority":  {keys: "url=" + secure.URL, err: "certificate"},
		"known authority":    {keys: "url=" + secure.URL + "\ntls-ca-path=" + ca, proto: "HTTP/2.0"},
		"no HTTP/2":          {keys: "url=" + secure.URL + "\ntls-ca-path=" + ca + "\nhttp2=false", proto: "HTTP/1.1"},
		"permissive":         {keys: "url=" + secure.URL + "\ntls-permissive=true", proto: "HTTP/2.0"},
		"no such authority":  {keys: "url=" + secure.URL + "\ntls-ca-path=" + folder + "/none", err: "tls-ca-path"},
		"no authority in it": {keys: "url=" + secure.URL + "\ntls-ca-path=" + os.Args[0] + "\n", err: "tls-ca-path"},
		"half a certificate": {keys: "url=" + secure.URL + "\ntls-client-cert-path=" + ca, err: "tls-client-key-path"},
		"not a boolean":      {keys: "url=" + secure.URL + "\ntls-permissive=maybe", err: "tls-permissive"},
		"mirrors":            {keys: "url=mirrorlist=" + list.URL + "/mirrors\ntls-permissive=true", proto: "HTTP/2.0"},
		"no list":            {keys: "url=mirrorlist=" + list.URL + "/nothing", err: "list of mirrors: server says 404"},
		"metalink":           {keys: "metalink=" + secure.URL, err: "unsupported"},
		"a file":             {keys: "url=file:///srv/repo", err: "unsupported"},
		"nothing":            {keys: "branches=os", err: "unsupported"},
		"a proxy":            {keys: "url=http://example.invalid/repo\nproxy=" + secure.URL, err: "certificate"},
		"content elsewhere":  {keys: "url=" + secure.URL + "\ntls-permissive=true\ncontenturl=" + handlerServer(t, src), proto: "HTTP/2.0"},
		"content nowhere":    {keys: "url=" + secure.URL + "\ntls-permissive=true\ncontenturl=" + list.URL, err: ".file: server says 404", proto: "HTTP/2.0"},
	} {
		r := newRepo(t, ostree.ModeArchive)
		config := filepath.Join(r.Path(), "config")
		data, err := os.ReadFile(config)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(config, append(data, "[remote \"origin\"]\ngpg-verify=false\n"+tc.keys+"\n"...), 0o644))
		r, err = ostree.Open(t.Context(), r.Path(), nil)
		require.NoError(t, err)
		defer r.Close()
		protocols = nil
		err = r.Pull(t.Context(), "origin", &ostree.PullOptions{Revs: []string{"os/stable"}, Attempts: 1})
		if tc.err != "" {
			require.ErrorContains(t, err, tc.err, name)
		} else {
			require.NoError(t, err, name)
			got, err := r.Resolve(t.Context(), "origin:os/stable")
			require.NoError(t, err)
			require.Equal(t, commits[1], got)
		}
		if tc.proto != "" {
			require.Equal(t, []string{tc.proto}, protocols, name)
		}
	}
}

func pemOf(certificate []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
}
