package ostree_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
)

// pullServer serves a repository and lets a test see and change answers.
type pullServer struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string // paths, in their order
	answer   func(w http.ResponseWriter, r *http.Request, n int) bool
}

// newPullServer serves files; answer may answer the so manieth request (from 0
// on) instead and say so.
func newPullServer(t testing.TB, files http.Handler, answer func(w http.ResponseWriter, r *http.Request, n int) bool) *pullServer {
	t.Helper()
	s := &pullServer{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		n := len(s.requests)
		s.requests = append(s.requests, r.URL.Path)
		answer := s.answer
		s.mu.Unlock()
		if answer == nil || !answer(w, r, n) {
			files.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *pullServer) reset(answer func(w http.ResponseWriter, r *http.Request, n int) bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.requests
	s.requests, s.answer = nil, answer
	return old
}

func handlerOf(t testing.TB, r *ostree.Repo) http.Handler {
	t.Helper()
	h, err := ostree.Handler(r)
	require.NoError(t, err)
	return h
}

// pullTree has files, a link and directories.
func pullTree(content string) ostree.Tree {
	return literal(dir("."), dir("etc"), file("etc/a", "one"), file("etc/b", content), dir("usr"), dir("usr/lib"), file("usr/lib/large", strings.Repeat(content, 40_000)),
		link("usr/link", "lib/large"), dir("usr/share"), file("usr/share/empty", ""), dir("usr/share/doc"), file("usr/share/doc/x", "doc "+content), file("z", "last"))
}

// smallSource is an archive repository of two commits of few files, the second
// os/stable.
func smallSource(t testing.TB) (*ostree.Repo, [2]ostree.Checksum) {
	t.Helper()
	r := newRepo(t, ostree.ModeArchive)
	var commits [2]ostree.Checksum
	for i := range commits {
		opts := &ostree.CommitOptions{Ref: "os/stable", Timestamp: time.Unix(int64(1_700_000_000+i), 0), Metadata: []ostree.MetadataItem{ostree.RefBinding("os/next", "os/stable")}}
		if i > 0 {
			opts.Parent = commits[0]
		}
		var err error
		commits[i], err = r.Commit(t.Context(), pullTree(fmt.Sprintf("content %d\n", i)), opts)
		require.NoError(t, err)
	}
	require.NoError(t, r.UpdateSummary(t.Context(), nil))
	return r, commits
}

// pullSnapshot tells every file of a repository apart, its lock aside.
func pullSnapshot(t testing.TB, r *ostree.Repo) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.Walk(r.Path(), func(path string, st os.FileInfo, err error) error {
		if err == nil && !st.IsDir() && filepath.Base(path) != ".lock" {
			found[path] = fmt.Sprint(inode(st), st.Size(), st.ModTime())
		}
		return err
	})
	require.NoError(t, err)
	return found
}

func requireNoRefs(t testing.TB, r *ostree.Repo) {
	t.Helper()
	for ref, err := range r.Refs(t.Context()) {
		require.NoError(t, err)
		require.Fail(t, "ref is set", ref.String())
	}
}

// TestPullTwice: the second time nothing is fetched but what may have changed,
// and nothing is written.
func TestPullTwice(t *testing.T) {
	src, commits := smallSource(t)
	server := newPullServer(t, handlerOf(t, src), nil)
	for _, mirror := range []bool{false, true} {
		for _, mode := range allModes() {
			r := newRepo(t, mode)
			opts := &ostree.PullOptions{URL: server.URL, Mirror: mirror, Verifier: unverified}
			if !mirror {
				opts.Revs = []string{"os/stable"}
			}
			require.NoError(t, r.Pull(t.Context(), "origin", opts))
			before := pullSnapshot(t, r)
			server.reset(nil)
			var stats ostree.PullStats
			opts.Stats = &stats
			require.NoError(t, r.Pull(t.Context(), "origin", opts))
			if mirror {
				delete(before, filepath.Join(r.Path(), "summary")) // may be another, of the same bytes
			}
			after := pullSnapshot(t, r)
			for path := range before {
				require.Equal(t, before[path], after[path], path)
			}
			commit := "/objects/" + commits[1].String()[:2] + "/" + commits[1].String()[2:] + ".commitmeta"
			require.ElementsMatch(t, []string{"/summary", "/summary.sig", "/config", commit}, server.reset(nil))
			require.Zero(t, stats.Commits+stats.MetadataFetched+stats.ContentFetched)
			require.EqualValues(t, 4, stats.Requests)
		}
	}
}

// TestPullWhat is about what is pulled.
func TestPullWhat(t *testing.T) {
	src, commits := smallSource(t)
	next, err := src.Commit(t.Context(), pullTree("next"), &ostree.CommitOptions{Ref: "os/next", Timestamp: time.Unix(1_700_000_005, 0), Metadata: []ostree.MetadataItem{ostree.RefBinding("os/next")}})
	require.NoError(t, err)
	require.NoError(t, src.UpdateSummary(t.Context(), &ostree.SummaryOptions{Sign: []ostree.SummarySigner{{Kind: ostree.SignatureEd25519, Signer: edKey(t, 1)}}}))
	first, second := commits[0].String(), commits[1].String()
	for name, tc := range map[string]struct {
		config  string
		remote  string
		opts    ostree.PullOptions
		refs    string // afterwards
		commits []string
		partial bool
		absent  []string // paths that are not there
		err     string
	}{
		"a ref":                {opts: ostree.PullOptions{Revs: []string{"os/stable"}}, refs: "origin:os/stable " + second, commits: []string{second}},
		"two refs":             {opts: ostree.PullOptions{Revs: []string{"os/stable", "os/next"}}, refs: "origin:os/next " + next.String() + " origin:os/stable " + second, commits: []string{second, next.String()}},
		"branches":             {config: "branches=os/next;", refs: "origin:os/next " + next.String(), commits: []string{next.String()}},
		"a checksum":           {opts: ostree.PullOptions{Revs: []string{first}}, commits: []string{first}},
		"a ref's old commit":   {opts: ostree.PullOptions{Revs: []string{"os/stable@" + first}}, refs: "origin:os/stable " + first, commits: []string{first}},
		"ancestors":            {opts: ostree.PullOptions{Revs: []string{"os/stable"}, Depth: 1}, refs: "origin:os/stable " + second, commits: []string{first, second}},
		"all ancestors":        {opts: ostree.PullOptions{Revs: []string{"os/stable"}, Depth: -1}, refs: "origin:os/stable " + second, commits: []string{first, second}},
		"a mirror":             {opts: ostree.PullOptions{Mirror: true}, refs: "os/next " + next.String() + " os/stable " + second, commits: []string{second, next.String()}},
		"a mirror of one ref":  {opts: ostree.PullOptions{Mirror: true, Revs: []string{"os/stable"}}, refs: "os/stable " + second, commits: []string{second}},
		"commits only":         {opts: ostree.PullOptions{Revs: []string{"os/stable"}, CommitsOnly: true, Depth: -1}, refs: "origin:os/stable " + second, commits: []string{first, second}, partial: true, absent: []string{"etc"}},
		"a subpath":            {opts: ostree.PullOptions{Revs: []string{"os/stable"}, Subpaths: []string{"/usr/share"}}, refs: "origin:os/stable " + second, commits: []string{second}, partial: true, absent: []string{"etc", "usr/lib", "usr/link", "z"}},
		"a file, a directory":  {opts: ostree.PullOptions{Revs: []string{"os/stable"}, Subpaths: []string{"/z", "/usr/share/doc/"}}, refs: "origin:os/stable " + second, commits: []string{second}, partial: true, absent: []string{"etc", "usr/lib", "usr/share/empty"}},
		"everything":           {opts: ostree.PullOptions{Revs: []string{"os/stable"}, Subpaths: []string{"/"}}, refs: "origin:os/stable " + second, commits: []string{second}, partial: true},
		"no such subpath":      {opts: ostree.PullOptions{Revs: []string{"os/stable"}, Subpaths: []string{"/etc", "/usr/nothing"}}, err: "/usr/nothing: not in the tree: file does not exist"},
		"a relative subpath":   {opts: ostree.PullOptions{Revs: []string{"os/stable"}, Subpaths: []string{"etc"}}, err: "not absolute"},
		"no such ref":          {opts: ostree.PullOptions{Revs: []string{"os/old"}}, err: "os/old: not in the server's summary: file does not exist"},
		"no such commit":       {opts: ostree.PullOptions{Revs: []string{strings.Repeat("0", 64)}}, err: strings.Repeat("0", 64) + ".commit: server says 404 Not Found: file does not exist"},
		"another's ref":        {opts: ostree.PullOptions{Revs: []string{"os/next@" + first, "os/other@" + first}}, err: "is meant for the refs [\"os/next\" \"os/stable\"], not for \"os/other\""},
		"another's, taken":     {opts: ostree.PullOptions{Revs: []string{"os/other@" + first}, AnyBinding: true}, refs: "origin:os/other " + first, commits: []string{first}},
		"a bad ref":            {opts: ostree.PullOptions{Revs: []string{"../os"}}, err: "no valid ref name"},
		"a remote's ref":       {opts: ostree.PullOptions{Revs: []string{"x:os"}}, err: "no name of a ref"},
		"nothing":              {err: "no refs given"},
		"of a collection":      {config: "collection-id=org.example", opts: ostree.PullOptions{Revs: []string{"os/stable"}}, err: "is not of the remote's collection"},
		"a backend":            {config: "custom-backend=x", opts: ostree.PullOptions{Revs: []string{"os/stable"}}, err: "unsupported operation"},
		"not configured":       {config: "unconfigured-state=register first", opts: ostree.PullOptions{Revs: []string{"os/stable"}}, err: "register first"},
		"no such remote":       {remote: "other", opts: ostree.PullOptions{Revs: []string{"os/stable"}}, err: "no such remote in the config: file does not exist"},
		"signatures by config": {config: "gpg-verify=true", opts: ostree.PullOptions{Revs: []string{"os/stable"}}, err: "no signature of kind ostree.gpgsigs"},
		"too many workers":     {opts: ostree.PullOptions{Revs: []string{"os/stable"}, Workers: 257}, err: "257 workers"},
		"one worker":           {opts: ostree.PullOptions{Revs: []string{"os/stable"}, Workers: 1, Depth: -1}, refs: "origin:os/stable " + second, commits: []string{first, second}},
		"not older":            {opts: ostree.PullOptions{Revs: []string{"os/stable"}, NewerThanRef: true, NewerThan: "", Depth: 0}, refs: "origin:os/stable " + second, commits: []string{second}},
		"not older, ancestors": {opts: ostree.PullOptions{Revs: []string{"os/stable"}, NewerThanRef: true, Depth: 1}, err: "no depth"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRepo(t, ostree.ModeBareUser)
			config := filepath.Join(r.Path(), "config")
			data, err := os.ReadFile(config)
			require.NoError(t, err)
			if !strings.Contains(tc.config, "gpg-verify") {
				tc.config += "\ngpg-verify=false"
			}
			require.NoError(t, os.WriteFile(config, append(data, "[remote \"origin\"]\nurl="+handlerServer(t, src)+"/\n"+tc.config+"\n"...), 0o644))
			r, err = ostree.Open(t.Context(), r.Path(), nil)
			require.NoError(t, err)
			defer r.Close()
			remote := tc.remote
			if remote == "" {
				remote = "origin"
			}
			err = r.Pull(t.Context(), remote, &tc.opts)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				requireNoRefs(t, r)
				require.NoError(t, r.Fsck(t.Context(), nil))
				return
			}
			require.NoError(t, err)
			noLitter(t, r)
			var refs []string
			for ref, err := range r.Refs(t.Context()) {
				require.NoError(t, err)
				refs = append(refs, ref.String()+" "+ref.Commit.String())
			}
			require.Equal(t, tc.refs, strings.Join(refs, " "))
			have := make(map[string]bool)
			names, err := filepath.Glob(filepath.Join(r.Path(), "objects", "*", "*.commit"))
			require.NoError(t, err)
			for _, name := range names {
				have[filepath.Base(filepath.Dir(name))+strings.TrimSuffix(filepath.Base(name), ".commit")] = true
			}
			require.Len(t, have, len(tc.commits))
			for _, text := range tc.commits {
				require.True(t, have[text], text)
				c, err := ostree.ParseChecksum(text)
				require.NoError(t, err)
				partial, err := r.Partial(t.Context(), c)
				require.NoError(t, err)
				require.Equal(t, tc.partial, partial)
			}
			require.NoError(t, r.Fsck(t.Context(), nil))
			for _, path := range tc.absent {
				c, err := ostree.ParseChecksum(tc.commits[len(tc.commits)-1])
				require.NoError(t, err)
				want, err := ostree.ParseChecksum(second)
				require.NoError(t, err)
				require.Equal(t, want, c)
				require.False(t, hasPath(t, src, r, c, path), path)
			}
			summary, sig, err := r.ReadSummary(t.Context())
			if name == "a mirror" {
				require.NoError(t, err)
				want, wantSig, err := src.ReadSummary(t.Context())
				require.NoError(t, err)
				require.Equal(t, want, summary)
				require.Equal(t, wantSig, sig)
			} else {
				require.ErrorIs(t, err, os.ErrNotExist)
			}
		})
	}
}

// hasPath reports whether dst has the object of a path in src's commit.
func hasPath(t testing.TB, src, dst *ostree.Repo, c ostree.Checksum, path string) bool {
	t.Helper()
	commit, err := src.ReadCommit(t.Context(), c)
	require.NoError(t, err)
	tree := commit.RootTree
	parts := strings.Split(path, "/")
	for i, part := range parts {
		d, err := src.ReadDirTree(t.Context(), tree)
		require.NoError(t, err)
		for _, f := range d.Files {
			if f.Name == part && i == len(parts)-1 {
				ok, err := dst.Has(t.Context(), ostree.TypeFile, f.Object)
				require.NoError(t, err)
				return ok
			}
		}
		for _, f := range d.Dirs {
			if f.Name == part {
				tree = f.Tree
			}
		}
	}
	ok, err := dst.Has(t.Context(), ostree.TypeDirTree, tree)
	require.NoError(t, err)
	return ok
}

// TestPullWithoutSummary finds refs by their files.
func TestPullWithoutSummary(t *testing.T) {
	src, commits := smallSource(t)
	require.NoError(t, os.Remove(filepath.Join(src.Path(), "summary")))
	r := newRepo(t, ostree.ModeArchive)
	opts := &ostree.PullOptions{URL: handlerServer(t, src), Revs: []string{"os/stable"}, Verifier: unverified}
	require.NoError(t, r.Pull(t.Context(), "origin", opts))
	got, err := r.Resolve(t.Context(), "origin:os/stable")
	require.NoError(t, err)
	require.Equal(t, commits[1], got)
	opts.Revs = []string{"os/nothing"}
	require.ErrorIs(t, r.Pull(t.Context(), "origin", opts), os.ErrNotExist)
	require.ErrorIs(t, r.Pull(t.Context(), "origin", &ostree.PullOptions{URL: opts.URL, Mirror: true, Verifier: unverified}), os.ErrNotExist)
}

// TestPullNarrowThenAll completes what earlier pulls left out.
func TestPullNarrowThenAll(t *testing.T) {
	src, commits := smallSource(t)
	url := handlerServer(t, src)
	r := newRepo(t, ostree.ModeBareUser)
	for _, opts := range []*ostree.PullOptions{{CommitsOnly: true}, {Subpaths: []string{"/etc"}}, {Subpaths: []string{"/usr/share/doc"}}, {}, {Depth: -1}, {Subpaths: []string{"/nothing"}}} {
		opts.URL, opts.Revs, opts.Verifier = url, []string{"os/stable"}, unverified
		require.NoError(t, r.Pull(t.Context(), "origin", opts))
		require.NoError(t, r.Fsck(t.Context(), nil))
	}
	require.Equal(t, objectsOf(t, src), objectsOf(t, r))
	partial, err := r.Partial(t.Context(), commits[1])
	require.NoError(t, err)
	require.False(t, partial)
}

// TestPullHistory: ancestors that the server lacks end the history.
func TestPullHistory(t *testing.T) {
	src, commits := smallSource(t)
	path := filepath.Join(src.Path(), "objects", commits[0].String()[:2], commits[0].String()[2:]+".commit")
	require.NoError(t, os.Remove(path))
	r := newRepo(t, ostree.ModeArchive)
	opts := &ostree.PullOptions{URL: handlerServer(t, src), Revs: []string{"os/stable"}, Verifier: unverified, Depth: -1}
	require.NoError(t, r.Pull(t.Context(), "origin", opts))
	require.NoError(t, r.Fsck(t.Context(), nil))
	// Asked for by itself it must be there; a tombstone says why it is not.
	opts.Revs = []string{commits[0].String()}
	err := r.Pull(t.Context(), "origin", opts)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NotContains(t, err.Error(), "on purpose")
	require.NoError(t, src.SetConfig(t.Context(), "core", "tombstone-commits", "true"))
	require.NoError(t, src.UpdateSummary(t.Context(), nil))
	require.NoError(t, os.WriteFile(strings.TrimSuffix(path, "commit")+"tombstone-commit", []byte{}, 0o644))
	err = r.Pull(t.Context(), "origin", opts)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "deleted on purpose")
}

// TestPullBackInTime refuses older commits if it is told so.
func TestPullBackInTime(t *testing.T) {
	src, commits := smallSource(t)
	r := newRepo(t, ostree.ModeArchive)
	opts := &ostree.PullOptions{URL: handlerServer(t, src), Revs: []string{"os/stable"}, Verifier: unverified}
	require.NoError(t, r.Pull(t.Context(), "origin", opts))
	require.NoError(t, src.SetRef(t.Context(), "os/stable", commits[0]))
	require.NoError(t, src.UpdateSummary(t.Context(), nil))
	before := pullSnapshot(t, r)
	opts.NewerThanRef = true
	require.ErrorIs(t, r.Pull(t.Context(), "origin", opts), ostree.ErrOlder)
	opts.NewerThanRef, opts.NewerThan = false, "origin:os/stable"
	require.ErrorIs(t, r.Pull(t.Context(), "origin", opts), ostree.ErrOlder)
	opts.NewerThan = "origin:nothing"
	require.ErrorIs(t, r.Pull(t.Context(), "origin", opts), os.ErrNotExist)
	require.Equal(t, before, pullSnapshot(t, r))
	opts.NewerThan = ""
	require.NoError(t, r.Pull(t.Context(), "origin", opts))
	got, err := r.Resolve(t.Context(), "origin:os/stable")
	require.NoError(t, err)
	require.Equal(t, commits[0], got)
}

// TestPullSigned stores nothing that is not signed as it must be.
func TestPullSigned(t *testing.T) {
	src, commits := smallSource(t)
	url := handlerServer(t, src)
	good := verifier(t, ostree.KeyFiles{Ed25519: [][]byte{[]byte(edKey(t, 1).Public())}})
	other := verifier(t, ostree.KeyFiles{Ed25519: [][]byte{[]byte(edKey(t, 2).Public())}})
	try := func(opts ostree.PullOptions, want error) {
		t.Helper()
		r := newRepo(t, ostree.ModeArchive)
		opts.URL, opts.Revs = url, []string{"os/stable"}
		err := r.Pull(t.Context(), "origin", &opts)
		if want == nil {
			require.NoError(t, err)
			return
		}
		require.ErrorIs(t, err, want)
		require.Empty(t, objectsOf(t, r))
		noLitter(t, r)
		names, err := filepath.Glob(filepath.Join(r.Path(), "state", "*"))
		require.NoError(t, err)
		require.Empty(t, names)
	}
	try(ostree.PullOptions{Verifier: good}, ostree.ErrSignature)
	require.NoError(t, src.Sign(t.Context(), commits[1], ostree.SignatureEd25519, edKey(t, 1)))
	try(ostree.PullOptions{Verifier: good}, nil)
	try(ostree.PullOptions{Verifier: other}, ostree.ErrUnknownKey)
	// An ancestor needs a signature of its own.
	r := newRepo(t, ostree.ModeArchive)
	require.ErrorIs(t, r.Pull(t.Context(), "origin", &ostree.PullOptions{URL: url, Revs: []string{"os/stable"}, Verifier: good, Depth: -1}), ostree.ErrSignature)
	requireNoRefs(t, r)
	require.NoError(t, src.Sign(t.Context(), commits[0], ostree.SignatureEd25519, edKey(t, 1)))
	require.NoError(t, r.Pull(t.Context(), "origin", &ostree.PullOptions{URL: url, Revs: []string{"os/stable"}, Verifier: good, Depth: -1}))
	// One that is here already, too.
	require.ErrorIs(t, r.Pull(t.Context(), "origin", &ostree.PullOptions{URL: url, Revs: []string{"os/stable"}, Verifier: other}), ostree.ErrUnknownKey)

	try(ostree.PullOptions{Verifier: good, SummaryVerifier: good}, ostree.ErrSignature) // no summary.sig
	require.NoError(t, src.UpdateSummary(t.Context(), &ostree.SummaryOptions{Sign: []ostree.SummarySigner{{Kind: ostree.SignatureEd25519, Signer: edKey(t, 1)}}}))
	try(ostree.PullOptions{Verifier: good, SummaryVerifier: good}, nil)
	try(ostree.PullOptions{Verifier: good, SummaryVerifier: other}, ostree.ErrUnknownKey)
	sig := filepath.Join(src.Path(), "summary.sig")
	kept, err := os.ReadFile(sig)
	require.NoError(t, err)
	require.NoError(t, src.UpdateSummary(t.Context(), &ostree.SummaryOptions{LastModified: time.Unix(1, 0)}))
	require.NoError(t, os.WriteFile(sig, kept, 0o644)) // of another summary
	try(ostree.PullOptions{Verifier: good, SummaryVerifier: good}, ostree.ErrSignature)
	require.NoError(t, os.Remove(filepath.Join(src.Path(), "summary")))
	try(ostree.PullOptions{Verifier: good, SummaryVerifier: good}, os.ErrNotExist)
	try(ostree.PullOptions{Verifier: good}, nil)
}

// TestPullSummaryRace: a summary that is replaced between two requests is
// fetched again.
func TestPullSummaryRace(t *testing.T) {
	src, _ := smallSource(t)
	signed := &ostree.SummaryOptions{Sign: []ostree.SummarySigner{{Kind: ostree.SignatureEd25519, Signer: edKey(t, 1)}}}
	require.NoError(t, src.UpdateSummary(t.Context(), signed))
	_, old, err := src.ReadSummary(t.Context())
	require.NoError(t, err)
	signed.LastModified = time.Unix(5, 0)
	require.NoError(t, src.UpdateSummary(t.Context(), signed))
	var once sync.Once
	server := newPullServer(t, handlerOf(t, src), func(w http.ResponseWriter, r *http.Request, _ int) (stale bool) {
		if r.URL.Path == "/summary.sig" {
			once.Do(func() { stale = true; w.Write(old) })
		}
		return stale
	})
	r := newRepo(t, ostree.ModeArchive)
	v := verifier(t, ostree.KeyFiles{Ed25519: [][]byte{[]byte(edKey(t, 1).Public())}})
	require.NoError(t, r.Pull(t.Context(), "origin", &ostree.PullOptions{URL: server.URL, Revs: []string{"os/stable"}, Verifier: unverified, SummaryVerifier: v}))
}

// TestPullParent takes what the parent repository has from there.
func TestPullParent(t *testing.T) {
	src, commits := smallSource(t)
	parent := newRepo(t, ostree.ModeArchive)
	opts := &ostree.PullOptions{URL: handlerServer(t, src), Revs: []string{"os/stable@" + commits[0].String()}, Verifier: unverified}
	require.NoError(t, parent.Pull(t.Context(), "origin", opts))
	r := newRepo(t, ostree.ModeBareUser)
	require.NoError(t, r.SetConfig(t.Context(), "core", "parent", parent.Path()))
	child, err := ostree.Open(t.Context(), r.Path(), nil)
	require.NoError(t, err)
	defer child.Close()
	opts.Revs = []string{"os/stable"}
	require.NoError(t, child.Pull(t.Context(), "origin", opts))
	for object := range objectsOf(t, child) {
		require.False(t, objectsOf(t, parent)[object], object)
	}
	require.NoError(t, child.Fsck(t.Context(), nil))
}
