package ostree_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// TestDeltasShared applies the recorded deltas into every mode, and shows them
// as `ostree static-delta show` did.
func TestDeltasShared(t *testing.T) {
	interop.Peer(t, "tar", "zstd", "ostree")
	path := unpack(t, "repo-archive")
	run(t, "tar", "--zstd", "-xf", interop.SharedData(t, "ostree", "static-deltas.tar.zst"), "-C", filepath.Dir(path))
	src, err := ostree.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer src.Close()

	// `ostree` lists them in the order of the directory.
	var deltas []ostree.DeltaName
	var shown strings.Builder
	for line := range strings.Lines(readShared(t, "ostree", "expected", "static-delta-list.txt")) {
		n, err := ostree.ParseDeltaName(strings.TrimSpace(line))
		require.NoError(t, err)
		deltas = append(deltas, n)
		showDelta(t, &shown, src, n)
	}
	require.ElementsMatch(t, deltas, listDeltas(t, src))
	want := ""
	for line := range strings.Lines(readShared(t, "ostree", "expected", "static-delta-show.txt")) {
		if !strings.HasPrefix(line, "+") && !strings.HasPrefix(line, "=") {
			want += line
		}
	}
	same(t, humanless(want), shown.String())

	v1, v2 := deltas[0].From, deltas[0].To
	folder := func(n ostree.DeltaName) string { return filepath.Join(path, ostree.DeltaPath(n)) }
	m := mirror(src)
	for i, c := range []struct {
		path     string
		from, to ostree.Checksum
	}{
		{folder(deltas[1]), ostree.Checksum{}, v1},
		{folder(deltas[0]), v1, v2},
		{filepath.Join(folder(deltas[0]), "superblock"), v1, v2},
		{filepath.Join(filepath.Dir(path), "delta-v2-inline.delta"), ostree.Checksum{}, v2},
		{filepath.Join(filepath.Dir(path), "delta-v1-v2-inline.delta"), v1, v2},
		{filepath.Join(filepath.Dir(path), "delta-v1-v2-nobsdiff.delta"), v1, v2},
		{filepath.Join(filepath.Dir(path), "delta-v1-bigendian.delta"), ostree.Checksum{}, v1},
	} {
		for k, mode := range faithful() {
			if i == 0 || (i+k)%len(faithful()) == 0 {
				m.apply(t, mode, c.path, c.from, c.to)
			}
		}
	}
	// One object is to be fetched.
	r := newRepo(t, ostree.ModeBareUser)
	_, err = r.ApplyDelta(t.Context(), folder(deltas[2]), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "6f21eae0ca195fc986c1b72209de6bf7afc21fa114db8aee7229661c5fb2a233.file, which is not in the delta but to be fetched")
	require.NoError(t, r.PullLocal(t.Context(), src, &ostree.PullLocalOptions{Revs: []string{v1.String()}}))
	got, err := r.ApplyDelta(t.Context(), folder(deltas[2]), nil)
	require.NoError(t, err)
	require.Equal(t, v2, got)
	run(t, "ostree", "--repo="+r.Path(), "fsck")
}

func listDeltas(t testing.TB, r *ostree.Repo) (names []ostree.DeltaName) {
	t.Helper()
	for n, err := range r.Deltas(t.Context()) {
		require.NoError(t, err)
		names = append(names, n)
	}
	return names
}

// humanless takes away what `ostree` adds to sizes for people.
func humanless(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if i := strings.Index(line, " ("); i > 0 && strings.HasPrefix(line, "Total") {
			line = line[:i] + "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// showDelta writes what `ostree static-delta show` prints.
func showDelta(t testing.TB, b *strings.Builder, r *ostree.Repo, n ostree.DeltaName) {
	t.Helper()
	d, err := r.ReadDelta(t.Context(), n)
	require.NoError(t, err)
	signed, order := "no", "little"
	if d.Signed {
		signed = "yes"
	}
	if d.BigEndian {
		order = "big"
	}
	if d.Guessed {
		order += " (heuristic)"
	}
	fmt.Fprintf(b, "Delta: %s\nSigned: %s\n", d.DeltaName, signed)
	if d.From.IsZero() {
		fmt.Fprintln(b, "From <scratch>")
	} else {
		fmt.Fprintln(b, "From:", d.From)
	}
	fmt.Fprintf(b, "To: %s\nEndianness: %s\nTimestamp: %d\nNumber of parents: 0\nNumber of fallback entries: %d\n", d.To, order, d.Timestamp.Unix(), len(d.Fallbacks))
	var fallback, fallbackContent, size, content uint64
	for _, f := range d.Fallbacks {
		fmt.Fprintln(b, " ", f.Checksum)
		fallback, fallbackContent = fallback+f.Size, fallbackContent+f.UncompressedSize
	}
	fmt.Fprintf(b, "Total Fallback Size: %d\nTotal Fallback Uncompressed Size: %d\nNumber of parts: %d\n", fallback, fallbackContent, len(d.Parts))
	for i, p := range d.Parts {
		fmt.Fprintf(b, "PartMeta%d: nobjects=%d size=%d usize=%d\n", i, p.Objects, p.Size, p.UncompressedSize)
		fmt.Fprintf(b, "PartPayload%d: nmodes=%d nxattrs=%d blobsize=%d opsize=%d\n", i, p.Modes, p.Xattrs, p.Content, p.Program)
		o := p.Operations
		fmt.Fprintf(b, "PartPayloadOps%d: openspliceclose=%d open=%d write=%d setread=%d unsetread=%d close=%d bspatch=%d\n", i, o["open-splice-and-close"], o["open"],
			o["write"], o["set-read-source"], o["unset-read-source"], o["close"], o["bspatch"])
		size, content = size+p.Size, content+p.UncompressedSize
	}
	fmt.Fprintf(b, "Total Part Size: %d\nTotal Part Uncompressed Size: %d\nTotal Size: %d\nTotal Uncompressed Size: %d\n", size, content, size+fallback, content+fallbackContent)
}

// mirrors are repositories with the commits of another one, a mode each, from
// which commits are pulled as hard links.
type mirrors struct {
	src  *ostree.Repo
	mode map[ostree.Mode]*ostree.Repo
}

func mirror(src *ostree.Repo) *mirrors { return &mirrors{src, make(map[ostree.Mode]*ostree.Repo)} }

// pull takes a commit from the mirror.
func (m *mirrors) pull(t testing.TB, dst *ostree.Repo, c ostree.Checksum) {
	t.Helper()
	from := m.mode[dst.Mode()]
	if from == nil {
		from = newRepo(t, dst.Mode())
		m.mode[dst.Mode()] = from
	}
	opts := &ostree.PullLocalOptions{Revs: []string{c.String()}, Trusted: true}
	require.NoError(t, from.PullLocal(t.Context(), m.src, opts))
	require.NoError(t, dst.PullLocal(t.Context(), from, opts))
}

// apply applies a delta to a repository that has the commit it leads from
// alone, and compares all objects with those of a pull.
func (m *mirrors) apply(t testing.TB, mode ostree.Mode, path string, from, to ostree.Checksum) {
	t.Helper()
	r := newRepo(t, mode)
	if !from.IsZero() {
		m.pull(t, r, from)
	}
	got, err := r.ApplyDelta(t.Context(), path, nil)
	require.NoError(t, err, "%s %s", mode, path)
	require.Equal(t, to, got)
	requireClean(t, r)
	require.NoError(t, r.Fsck(t.Context(), nil))
	run(t, "ostree", "--repo="+r.Path(), "fsck", "-q")
	before := snapshot(t, r.Path())
	m.pull(t, r, to)
	got, err = r.ApplyDelta(t.Context(), path, nil)
	require.NoError(t, err)
	require.Equal(t, to, got)
	require.Equal(t, before, snapshot(t, r.Path()), "nothing was missing, and twice is once")
}

// deltaTrees makes two trees: seeded ones, with large files that change here
// and there, so that a delta has every operation.
func deltaTrees(t testing.TB, canonical bool) (old, young string) {
	t.Helper()
	root := t.TempDir()
	old, young = filepath.Join(root, "old"), filepath.Join(root, "new")
	opts := &treegen.Options{Files: 60, MaxSize: 128 << 10, NoXattrs: canonical}
	require.NoError(t, os.Mkdir(old, 0o755))
	require.NoError(t, treegen.Write(old, 11, opts))
	run(t, "cp", "-a", old, young)
	large := []byte(noise(3, 1200<<10))
	text := []byte(strings.Repeat("a line of text that compresses well\n", 4_000))
	write := func(dir, name string, data []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
	}
	write(old, "large", large)
	write(old, "text", text)
	write(old, "removed", []byte("x"))
	write(young, "added", []byte(noise(4, 1200<<10)))
	write(young, "large", slices.Concat(large[:400<<10], []byte("inserted"), large[400<<10:800<<10], []byte(noise(5, 4000)), large[900<<10:]))
	changed := bytes.Clone(text)
	for i := 1000; i < len(changed); i += 5000 {
		changed[i]++
	}
	write(young, "text", append(changed, large[:1000]...))
	require.NoError(t, os.Symlink("large", filepath.Join(young, "link")))
	return old, young
}

// TestDeltasOfPeer applies deltas that `ostree` makes with each of its options.
func TestDeltasOfPeer(t *testing.T) {
	interop.Peer(t, "ostree", "cp")
	for _, canonical := range []bool{false, true} {
		old, young := deltaTrees(t, canonical)
		r := newRepo(t, ostree.ModeArchive)
		repo := "--repo=" + r.Path()
		commit := func(dir string) ostree.Checksum {
			args := []string{repo, "commit", "-b", "x", dir}
			if canonical {
				args = append(args, "--canonical-permissions", "--no-xattrs")
			}
			c, err := ostree.ParseChecksum(strings.TrimSpace(run(t, "ostree", args...)))
			require.NoError(t, err)
			return c
		}
		from, to := commit(old), commit(young)
		into := faithful()
		if canonical {
			into = []ostree.Mode{ostree.ModeBareUserOnly}
		}
		m := mirror(r)
		folder := t.TempDir()
		for i, args := range [][]string{
			{"--from=" + from.String()},
			{"--from=" + from.String(), "--disable-bsdiff"},
			{"--from=" + from.String(), "--max-bsdiff-size=0"},
			{"--from=" + from.String(), "--max-chunk-size=1", "--swap-endianness"},
			{"--from=" + from.String(), "--inline"},
			{"--empty"},
			{"--empty", "--max-chunk-size=1"},
			{"--empty", "--inline", "--set-endianness=B"},
		} {
			if canonical && i%3 != 0 {
				continue
			}
			path := filepath.Join(folder, fmt.Sprint(i), "any-name")
			require.NoError(t, os.Mkdir(filepath.Dir(path), 0o755))
			run(t, "ostree", append([]string{repo, "static-delta", "generate", "--to=" + to.String(), "--min-fallback-size=0", "--filename=" + path}, args...)...)
			start := ostree.Checksum{}
			if args[0] != "--empty" {
				start = from
			}
			for k, mode := range into {
				if i == 0 || (i+k)%len(into) == 0 {
					m.apply(t, mode, path, start, to)
				}
			}
			if i == 0 {
				// Without the commit that it leads from.
				empty := newRepo(t, into[0])
				_, err := empty.ApplyDelta(t.Context(), path, nil)
				require.ErrorIs(t, err, fs.ErrNotExist)
				require.ErrorContains(t, err, from.String()+".commit, which the delta leads from")
				require.Empty(t, objectNames(t, empty.Path()))
			}
		}
	}
}

// TestDeltasFAH applies the delta between the builds that libostree's own tests
// of bsdiff use.
func TestDeltasFAH(t *testing.T) {
	interop.Peer(t, "ostree", "tar", "xz")
	r := newRepo(t, ostree.ModeArchive)
	var commits []ostree.Checksum
	for _, name := range []string{"old", "new"} {
		dir := t.TempDir()
		run(t, "tar", "-xf", interop.SharedData(t, "ostree", "upstream", "fah-deltadata-"+name+".tar.xz"), "-C", dir)
		c, err := r.Commit(t.Context(), openDir(t, dir), &ostree.CommitOptions{Ref: "x"})
		require.NoError(t, err)
		commits = append(commits, c)
	}
	path := filepath.Join(t.TempDir(), "delta")
	run(t, "ostree", "--repo="+r.Path(), "static-delta", "generate", "--inline", "--min-fallback-size=0", "--filename="+path, "--from="+commits[0].String(), "--to="+commits[1].String())
	m := mirror(r)
	for _, mode := range faithful() {
		m.apply(t, mode, path, commits[0], commits[1])
	}
}

// TestDeltasEndian reads deltas from before they told their byte order.
func TestDeltasEndian(t *testing.T) {
	interop.Peer(t, "ostree", "tar", "xz")
	dir := t.TempDir()
	run(t, "tar", "-xf", interop.SharedData(t, "ostree", "upstream", "pre-endian-deltas-repo-big.tar.xz"), "-C", dir)
	path := filepath.Join(dir, "pre-endian-deltas-repo")
	src, err := ostree.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer src.Close()
	m := mirror(src)
	count := 0
	for n, err := range src.Deltas(t.Context()) {
		require.NoError(t, err)
		count++
		d, err := src.ReadDelta(t.Context(), n)
		require.NoError(t, err)
		require.True(t, d.BigEndian && d.Guessed, n)
		var shown strings.Builder
		showDelta(t, &shown, src, n)
		folder := filepath.Join(path, ostree.DeltaPath(n))
		if _, err := os.Stat(filepath.Join(folder, "0")); err == nil {
			same(t, humanless(run(t, "ostree", "--repo="+path, "static-delta", "show", n.String())), shown.String())
		} // else `ostree` can't show it
		for _, mode := range modes {
			if len(d.Fallbacks) == 0 {
				m.apply(t, mode, folder, n.From, n.To)
				continue
			}
			// All that is to be fetched is there, what is in the delta is not.
			r := newRepo(t, mode)
			pull := &ostree.PullLocalOptions{Revs: []string{n.From.String()}}
			require.NoError(t, r.PullLocal(t.Context(), src, pull))
			_, err := r.ApplyDelta(t.Context(), folder, nil)
			require.ErrorIs(t, err, fs.ErrNotExist)
			before := objectNames(t, r.Path())
			pull.Revs = []string{n.To.String()}
			require.NoError(t, r.PullLocal(t.Context(), src, pull))
			after := objectNames(t, r.Path())
			for name := range strings.SplitSeq(after, "\n") {
				if !strings.Contains(before, name) && !strings.Contains(name, d.Fallbacks[0].Checksum.String()[2:]) {
					require.NoError(t, os.Remove(r.Path()+name))
				}
			}
			_, err = r.ApplyDelta(t.Context(), folder, nil)
			require.NoError(t, err)
			same(t, after, objectNames(t, r.Path()))
			run(t, "ostree", "--repo="+r.Path(), "fsck", "-q")
		}
	}
	require.NotZero(t, count)
}

func readShared(t testing.TB, elem ...string) string {
	t.Helper()
	data, err := os.ReadFile(interop.SharedData(t, elem...))
	require.NoError(t, err)
	return string(data)
}
