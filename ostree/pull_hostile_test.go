package ostree_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree"
)

// storedObject gives the path of some object of a kind in a repository, and its
// bytes.
func storedObject(t testing.TB, r *ostree.Repo, ext string) (string, []byte) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(r.Path(), "objects", "*", "*."+ext))
	require.NoError(t, err)
	require.NotEmpty(t, names)
	data, err := os.ReadFile(names[0])
	require.NoError(t, err)
	return strings.TrimPrefix(names[0], r.Path()), data
}

func objectURL(c ostree.Checksum, ext string) string {
	return "/objects/" + c.String()[:2] + "/" + c.String()[2:] + "." + ext
}

// filez makes an archive object with a header that may lie.
func filez(t testing.TB, size int64, content []byte, more ...byte) []byte {
	t.Helper()
	data := ostree.EncodeFilez(&ostree.File{Mode: ostree.ModeRegular | 0o644, Size: size})
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 9)
	require.NoError(t, err)
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return append(append(data, b.Bytes()...), more...)
}

// TestPullLies pulls from servers that lie. Each lie is an error that names the
// object, and leaves a repository without faults, refs or litter, into which the
// same pulls well from an honest server.
func TestPullLies(t *testing.T) {
	src, commits := smallSource(t)
	honest := handlerOf(t, src)
	summary, _, err := src.ReadSummary(t.Context())
	require.NoError(t, err)
	commit, err := src.ReadCommit(t.Context(), commits[1])
	require.NoError(t, err)
	commitPath, rootPath, metaPath := objectURL(commits[1], "commit"), objectURL(commit.RootTree, "dirtree"), objectURL(commit.RootMeta, "dirmeta")
	root, err := src.Object(t.Context(), ostree.TypeDirTree, commit.RootTree)
	require.NoError(t, err)
	d, err := src.ReadDirTree(t.Context(), commit.RootTree)
	require.NoError(t, err)
	z := d.Files[0].Object // "z": "last"
	zPath := objectURL(z, "filez")
	zData, err := os.ReadFile(filepath.Join(src.Path(), filepath.FromSlash(zPath)))
	require.NoError(t, err)
	isNoArchive := bytes.Replace(summary, []byte("archive-z2"), []byte("bare-user\x00"), 1)
	// The same summary in which a name leads out.
	escape := bytes.Replace(summary, []byte("os/stable\x00"), []byte("../../../\x00"), 1)
	require.NotEqual(t, summary, escape)
	cut := func(data []byte, n int) []byte { return data[:len(data)-n] }
	huge := filez(t, 10, make([]byte, 256<<20))
	prefix := func(n uint32) []byte { return append(binary.BigEndian.AppendUint32(nil, n), zData[4:]...) }

	for name, tc := range map[string]struct {
		path  string // of what is not served as it is
		body  []byte
		fn    http.HandlerFunc // instead of body
		is    error            // what the error wraps
		text  string           // what it says
		modes []ostree.Mode
	}{
		"summary of junk":           {path: "/summary", body: []byte("junk"), is: ostree.ErrCorrupt, text: "summary"},
		"summary cut":               {path: "/summary", body: cut(summary, 1), is: ostree.ErrCorrupt, text: "summary"},
		"summary with a bad name":   {path: "/summary", body: escape, is: ostree.ErrCorrupt, text: "no valid ref name"},
		"summary is a page":         {path: "/summary", body: []byte("<html>welcome</html>"), is: ostree.ErrCorrupt, text: "summary"},
		"summary of no archive":     {path: "/summary", body: isNoArchive, is: ostree.ErrCorrupt},
		"commit is another":         {path: commitPath, body: append([]byte{}, root...), is: ostree.ErrCorrupt, text: commits[1].String() + ".commit: corrupt: checksum is"},
		"commit of nothing":         {path: commitPath, body: nil, is: ostree.ErrCorrupt, text: commits[1].String() + ".commit"},
		"commit is not there":       {path: commitPath, fn: http.NotFound, is: os.ErrNotExist, text: commits[1].String() + ".commit"},
		"commit is secret":          {path: commitPath, fn: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, is: os.ErrNotExist},
		"detached metadata of junk": {path: commitPath + "meta", body: []byte("junk"), is: ostree.ErrCorrupt, text: commits[1].String() + ".commitmeta"},
		"dirtree is another":        {path: rootPath, body: []byte{0}, is: ostree.ErrCorrupt, text: commit.RootTree.String() + ".dirtree: corrupt: checksum is"},
		"dirtree cut":               {path: rootPath, body: cut(root, 1), is: ostree.ErrCorrupt, text: commit.RootTree.String() + ".dirtree"},
		"dirtree is not there":      {path: rootPath, fn: http.NotFound, is: os.ErrNotExist, text: commit.RootTree.String() + ".dirtree"},
		"dirmeta is another":        {path: metaPath, body: make([]byte, 12), is: ostree.ErrCorrupt, text: commit.RootMeta.String() + ".dirmeta"},
		"file is another":           {path: zPath, body: filez(t, 4, []byte("LAST")), is: ostree.ErrCorrupt, text: z.String() + ".file: corrupt: checksum is"},
		"file is not there":         {path: zPath, fn: http.NotFound, is: os.ErrNotExist, text: z.String() + ".file"},
		"file of nothing":           {path: zPath, body: nil, is: ostree.ErrCorrupt, text: z.String() + ".file"},
		"file cut in its header":    {path: zPath, body: zData[:20], is: ostree.ErrCorrupt, text: z.String() + ".file"},
		"file cut in its content":   {path: zPath, body: cut(zData, 1), is: ostree.ErrCorrupt, text: z.String() + ".file"},
		"file with more behind":     {path: zPath, body: append(zData[:len(zData):len(zData)], 0), is: ostree.ErrCorrupt, text: "bytes follow the content"},
		"file with a long header":   {path: zPath, body: prefix(1 << 31), is: ostree.ErrCorrupt, text: "header of 2147483648 bytes"},
		"file with a longer header": {path: zPath, body: prefix(1 << 20), is: ostree.ErrCorrupt, text: "ends in its header"},
		"file not compressed":       {path: zPath, body: append(ostree.EncodeFilez(&ostree.File{Mode: ostree.ModeRegular | 0o644, Size: 4}), "last"...), is: ostree.ErrCorrupt},
		"file longer than it says":  {path: zPath, body: filez(t, 3, []byte("last")), is: ostree.ErrCorrupt, text: "goes on behind its length"},
		"file shorter":              {path: zPath, body: filez(t, 5, []byte("last")), is: ostree.ErrCorrupt, text: "ends 1 bytes early"},
		"file far shorter":          {path: zPath, body: filez(t, 5<<20, []byte("last")), is: ostree.ErrCorrupt, text: "bytes early"},
		"file without end":          {path: zPath, body: filez(t, 1<<62, []byte("last"))},
		"file is a bomb":            {path: zPath, body: huge, is: ostree.ErrCorrupt, text: "goes on behind its length"},
		"file is a link":            {path: zPath, body: ostree.EncodeFilez(&ostree.File{Mode: ostree.ModeSymlink | 0o777, Target: "/etc/passwd"}), is: ostree.ErrCorrupt, text: "checksum is"},
		"a link with content":       {path: zPath, body: append(ostree.EncodeFilez(&ostree.File{Mode: ostree.ModeSymlink | 0o777, Target: "/etc/passwd"}), "last"...), is: ostree.ErrCorrupt},
		"redirect without end":      {path: zPath, fn: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, text: "redirect refused"},
		"redirect to a file": {path: zPath, fn: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, text: "redirect refused"},
		"always an error": {path: rootPath, fn: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, text: "500"},
		"a range nobody asked for": {path: zPath, fn: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 5-9/20")
			w.WriteHeader(http.StatusPartialContent)
			w.Write(zData)
		}, is: ostree.ErrCorrupt, text: "range"},
		"ends early, again and again": {path: zPath, fn: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			w.Write(zData[:10])
			panic(http.ErrAbortHandler)
		}, text: z.String()},
		"says nothing": {path: zPath, fn: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, text: "response header"},
		"says nothing more": {path: zPath, fn: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			w.Write(zData[:10])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, text: z.String()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, mode := range modes {
				server := newPullServer(t, honest, func(w http.ResponseWriter, r *http.Request, _ int) bool {
					if r.URL.Path != tc.path {
						return false
					}
					if tc.fn != nil {
						tc.fn(w, r)
					} else {
						w.Write(tc.body)
					}
					return true
				})
				r := newRepo(t, mode)
				opts := &ostree.PullOptions{URL: server.URL, Revs: []string{"os/stable"}, Verifier: unverified, Attempts: 2, Delay: time.Millisecond}
				if strings.Contains(name, "says") {
					opts.HeaderTimeout, opts.StallTimeout = 300*time.Millisecond, 300*time.Millisecond
				}
				err := r.Pull(t.Context(), "origin", opts)
				require.Error(t, err)
				if tc.is != nil {
					require.ErrorIs(t, err, tc.is)
				}
				require.ErrorContains(t, err, tc.text)
				requireNoRefs(t, r)
				noLitter(t, r)
				require.NoError(t, r.Fsck(t.Context(), nil))
				opts.URL = handlerServer(t, src)
				require.NoError(t, r.Pull(t.Context(), "origin", opts))
				require.NoError(t, r.Fsck(t.Context(), nil))
			}
		})
	}
}

// TestPullLiesWithoutSummary is about what is read only then.
func TestPullLiesWithoutSummary(t *testing.T) {
	src, _ := smallSource(t)
	for name, tc := range map[string]struct {
		config, ref string
		is          error
	}{
		"no archive":       {config: "[core]\nrepo_version=1\nmode=bare\n", is: errors.ErrUnsupported},
		"no mode":          {config: "[core]\n", is: errors.ErrUnsupported},
		"no config":        {config: "<html>", is: ostree.ErrCorrupt},
		"a long config":    {config: strings.Repeat("#", 2<<20), is: ostree.ErrCorrupt},
		"a ref to nothing": {ref: "nothing", is: ostree.ErrCorrupt},
		"a long ref":       {ref: strings.Repeat("0", 1<<20), is: ostree.ErrCorrupt},
		"an alias":         {ref: "ref: other", is: ostree.ErrCorrupt},
	} {
		server := newPullServer(t, handlerOf(t, src), func(w http.ResponseWriter, r *http.Request, _ int) bool {
			switch {
			case r.URL.Path == "/summary":
				http.NotFound(w, r)
			case r.URL.Path == "/config" && tc.config != "":
				io.WriteString(w, tc.config)
			case r.URL.Path == "/refs/heads/os/stable" && tc.ref != "":
				io.WriteString(w, tc.ref)
			default:
				return false
			}
			return true
		})
		r := newRepo(t, ostree.ModeArchive)
		err := r.Pull(t.Context(), "origin", &ostree.PullOptions{URL: server.URL, Revs: []string{"os/stable"}, Verifier: unverified})
		require.ErrorIs(t, err, tc.is, name)
		require.Empty(t, objectsOf(t, r), name)
	}
}

// objectServer serves objects that need not be what a repository would hold, and
// one ref.
type objectServer map[string][]byte

func (s objectServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if data, ok := s[r.URL.Path]; ok {
		w.Write(data)
		return
	}
	http.NotFound(w, r)
}

func (s objectServer) put(data []byte, ext string) ostree.Checksum {
	c := ostree.Checksum(sha(data))
	s[objectURL(c, ext)] = data
	return c
}

// commit serves a commit of a root dirtree as the ref os.
func (s objectServer) commit(t testing.TB, tree ostree.Checksum) {
	t.Helper()
	meta, err := (&ostree.DirMeta{Mode: ostree.ModeDir | 0o755}).Marshal()
	require.NoError(t, err)
	data, err := (&ostree.Commit{RootTree: tree, RootMeta: s.put(meta, "dirmeta")}).Marshal()
	require.NoError(t, err)
	s["/refs/heads/os"] = []byte(s.put(data, "commit").String() + "\n")
	s["/config"] = []byte("[core]\nrepo_version=1\nmode=archive-z2\n")
}

// TestPullHostileTrees pulls trees whose checksums are right.
func TestPullHostileTrees(t *testing.T) {
	dirs := func(names []string, tree ostree.Checksum) []byte {
		d := &ostree.DirTree{}
		for _, name := range names {
			d.Dirs = append(d.Dirs, ostree.DirTreeDir{Name: name, Tree: tree, Meta: ostree.Checksum{1}})
		}
		data, err := d.Marshal()
		require.NoError(t, err)
		return data
	}
	metaData, err := (&ostree.DirMeta{Mode: ostree.ModeDir | 0o755}).Marshal()
	require.NoError(t, err)
	meta := ostree.Checksum(sha(metaData))
	proper := func(names []string, tree ostree.Checksum) []byte {
		return bytes.ReplaceAll(dirs(names, tree), append([]byte{1}, make([]byte, 31)...), meta[:])
	}
	pull := func(s objectServer, mode ostree.Mode) (*ostree.Repo, error) {
		server := newPullServer(t, s, nil)
		r := newRepo(t, mode)
		return r, r.Pull(t.Context(), "origin", &ostree.PullOptions{URL: server.URL, Revs: []string{"os"}, Verifier: unverified})
	}

	// Names that lead out, or to no place.
	for _, bad := range []string{"..", "/x", "x/", "a\x00"} {
		s := objectServer{}
		data := proper([]string{"ab"}, s.put([]byte{0}, "dirtree"))
		s.commit(t, s.put(bytes.Replace(data, []byte("ab"), []byte(bad), 1), "dirtree"))
		r, err := pull(s, ostree.ModeBareUser)
		require.ErrorIs(t, err, ostree.ErrCorrupt, "%q", bad)
		requireNoRefs(t, r)
	}
	// 2^60 directories, of 61 dirtrees.
	s := objectServer{}
	tree := s.put([]byte{0}, "dirtree")
	for range 60 {
		tree = s.put(proper([]string{"a", "b"}, tree), "dirtree")
	}
	s.commit(t, tree)
	r, err := pull(s, ostree.ModeArchive)
	require.NoError(t, err)
	require.Len(t, objectsOf(t, r), 63)
	// Deeper than anything can be.
	s = objectServer{}
	tree = s.put([]byte{0}, "dirtree")
	for range 2050 {
		tree = s.put(proper([]string{"a"}, tree), "dirtree")
	}
	s.commit(t, tree)
	r, err = pull(s, ostree.ModeArchive)
	require.ErrorIs(t, err, ostree.ErrCorrupt)
	require.ErrorContains(t, err, "deeper")
	requireNoRefs(t, r)
	// A dirmeta that is a file's.
	s = objectServer{}
	s.commit(t, s.put([]byte{0}, "dirtree"))
	file := []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x81\xa4")
	commit, err := (&ostree.Commit{RootTree: sha([]byte{0}), RootMeta: s.put(file, "dirmeta")}).Marshal()
	require.NoError(t, err)
	s["/refs/heads/os"] = []byte(s.put(commit, "commit").String())
	_, err = pull(s, ostree.ModeArchive)
	require.ErrorIs(t, err, ostree.ErrCorrupt)
}

// TestPullOwners: what a repository can't keep is refused.
func TestPullOwners(t *testing.T) {
	src := newRepo(t, ostree.ModeArchive)
	e := file("a", "x")
	e.Mode |= 0o6000
	_, err := src.Commit(t.Context(), literal(dir("."), e), &ostree.CommitOptions{Ref: "os"})
	require.NoError(t, err)
	r := newRepo(t, ostree.ModeBareUserOnly)
	err = r.Pull(t.Context(), "origin", &ostree.PullOptions{URL: handlerServer(t, src), Revs: []string{"os"}, Verifier: unverified})
	require.ErrorContains(t, err, "can't keep that")
	requireNoRefs(t, r)
}

// TestPullBroken: bodies that break off are taken up where they ended, by
// servers that know ranges and by others.
func TestPullBroken(t *testing.T) {
	src := newRepo(t, ostree.ModeArchive)
	content := make([]byte, 1<<20)
	for i := range content {
		content[i] = byte(i * i >> 8)
	}
	big := file("big", string(content))
	_, err := src.Commit(t.Context(), literal(dir("."), big), &ostree.CommitOptions{Ref: "os"})
	require.NoError(t, err)
	path, data := storedObject(t, src, "filez")
	require.Greater(t, len(data), 100_000)
	for name, ranges := range map[string]bool{"ranges": true, "no ranges": false} {
		for _, mode := range modes {
			var asked, sent atomic.Int64
			server := newPullServer(t, handlerOf(t, src), func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.URL.Path != path {
					return false
				}
				from := 0
				if text := r.Header.Get("Range"); text != "" && ranges {
					_, err := fmt.Sscanf(text, "bytes=%d-", &from)
					require.NoError(t, err)
					require.Equal(t, `"tag"`, r.Header.Get("If-Range"))
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
				}
				w.Header().Set("ETag", `"tag"`)
				w.Header().Set("Content-Length", fmt.Sprint(len(data)-from))
				if from > 0 {
					w.WriteHeader(http.StatusPartialContent)
				}
				asked.Add(1)
				n := min(len(data)-from, int(asked.Load())*30_000)
				sent.Add(int64(n))
				w.Write(data[from : from+n])
				if from+n < len(data) {
					w.(http.Flusher).Flush()
					panic(http.ErrAbortHandler)
				}
				return true
			})
			r := newRepo(t, mode)
			opts := &ostree.PullOptions{URL: server.URL, Revs: []string{"os"}, Verifier: unverified, Delay: time.Millisecond, Attempts: 3}
			require.NoError(t, r.Pull(t.Context(), "origin", opts), name)
			require.NoError(t, r.Fsck(t.Context(), nil))
			require.Greater(t, asked.Load(), int64(2))
			if ranges {
				require.EqualValues(t, len(data), sent.Load())
			}
		}
	}
}

// TestPullHeader: what a server may know, another one that it redirects to does
// not.
func TestPullHeader(t *testing.T) {
	src, _ := smallSource(t)
	var leaked atomic.Bool
	other := newPullServer(t, handlerOf(t, src), func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if r.Header.Get("X-Token") != "" {
			leaked.Store(true)
		}
		return false
	})
	server := newPullServer(t, nil, func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.Header.Get("X-Token") != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
		return true
	})
	r := newRepo(t, ostree.ModeArchive)
	opts := &ostree.PullOptions{URL: server.URL, Revs: []string{"os/stable"}, Verifier: unverified}
	require.ErrorContains(t, r.Pull(t.Context(), "origin", opts), "401")
	opts.Header = http.Header{"x-token": {"secret"}}
	require.NoError(t, r.Pull(t.Context(), "origin", opts))
	require.False(t, leaked.Load())
	require.NotEmpty(t, other.reset(nil))
}
