package ostree_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/treegen"
	"github.com/okd-project/okd-streams/ostree"
)

// measureFigures makes TestReadmeFigures measure and write the table anew:
//
//	go test ./ostree -run TestReadmeFigures -measure
var measureFigures = flag.Bool("measure", false, "measure the figures in README.md")

// figureFiles is how many entries the tree has that figures are measured with.
const figureFiles = 5000

// figure is a row of the table: a command of okd-streams ostree, and what it does
// with a repository of the tree. prepare is not measured.
type figure struct {
	command string
	prepare func(b *testing.B, in *figureInput) (run func(into string))
}

var figures = []figure{
	{"commit, into archive", func(b *testing.B, in *figureInput) func(string) { return figureCommit(b, in, ostree.ModeArchive) }},
	{"commit, into bare-user", func(b *testing.B, in *figureInput) func(string) { return figureCommit(b, in, ostree.ModeBareUser) }},
	{"commit --link-checkout-speedup, again", func(b *testing.B, in *figureInput) func(string) {
		cache, err := ostree.OpenDevInoCache(filepath.Join(b.TempDir(), "cache"))
		require.NoError(b, err)
		r := newRepo(b, ostree.ModeBareUser)
		opts := &ostree.CommitOptions{NoFsync: true, Cache: cache}
		tree := openDir(b, in.folder)
		must(r.Commit(b.Context(), tree, opts))
		return func(string) { must(r.Commit(b.Context(), tree, opts)) }
	}},
	{"checkout, from archive", func(b *testing.B, in *figureInput) func(string) { return figureCheckout(b, in, ostree.ModeArchive) }},
	{"checkout --user-mode, hard links from bare-user", func(b *testing.B, in *figureInput) func(string) { return figureCheckout(b, in, ostree.ModeBareUser) }},
	{"export", func(b *testing.B, in *figureInput) func(string) {
		r, c := in.repos[ostree.ModeArchive], in.commit
		return func(string) { require.NoError(b, r.Export(b.Context(), io.Discard, c, nil)) }
	}},
	{"ls -R", func(b *testing.B, in *figureInput) func(string) {
		r, c := in.repos[ostree.ModeBareUser], in.commit
		return func(string) {
			for _, err := range r.List(b.Context(), c, "/", &ostree.ListOptions{Recursive: true}) {
				require.NoError(b, err)
			}
		}
	}},
	{"fsck, archive", func(b *testing.B, in *figureInput) func(string) { return figureFsck(b, in, ostree.ModeArchive) }},
	{"fsck, bare-user", func(b *testing.B, in *figureInput) func(string) { return figureFsck(b, in, ostree.ModeBareUser) }},
	{"prune --no-prune", func(b *testing.B, in *figureInput) func(string) {
		r := in.repos[ostree.ModeBareUser]
		return func(string) { must(r.Prune(b.Context(), &ostree.PruneOptions{DryRun: true})) }
	}},
	{"pull, into archive", func(b *testing.B, in *figureInput) func(string) { return figurePull(b, in, ostree.ModeArchive) }},
	{"pull, into bare-user", func(b *testing.B, in *figureInput) func(string) { return figurePull(b, in, ostree.ModeBareUser) }},
	{"pull-local, archive to archive", func(b *testing.B, in *figureInput) func(string) { return figurePullLocal(b, in, ostree.ModeArchive) }},
	{"pull-local, bare-user to archive", func(b *testing.B, in *figureInput) func(string) { return figurePullLocal(b, in, ostree.ModeBareUser) }},
	{"checkout --composefs", func(b *testing.B, in *figureInput) func(string) {
		r, c := in.repos[ostree.ModeBareUser], in.commit
		return func(string) { must(r.WriteComposefs(b.Context(), io.Discard, c, nil)) }
	}},
}

// figureInput is the tree: in a folder, and committed, with a ref and a summary.
type figureInput struct {
	folder  string
	repos   map[ostree.Mode]*ostree.Repo
	commit  ostree.Checksum
	objects int
}

func newFigureInput(t testing.TB) *figureInput {
	in := &figureInput{folder: filepath.Join(t.TempDir(), "tree"), repos: make(map[ostree.Mode]*ostree.Repo)}
	require.NoError(t, os.Mkdir(in.folder, 0o755))
	require.NoError(t, treegen.Write(in.folder, 1, &treegen.Options{Files: figureFiles, MaxSize: 1 << 20, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}))
	for _, mode := range modes {
		r := newRepo(t, mode)
		var err error
		in.commit, err = r.Commit(t.Context(), openDir(t, in.folder), &ostree.CommitOptions{Ref: "x"})
		require.NoError(t, err)
		require.NoError(t, r.UpdateSummary(t.Context(), nil))
		in.repos[mode], in.objects = r, len(objectsOf(t, r))
	}
	return in
}

// inNew runs with a new repository.
func inNew(b *testing.B, dir string, mode ostree.Mode, run func(r *ostree.Repo) error) {
	r := must(ostree.Init(b.Context(), dir, mode, nil))
	require.NoError(b, run(r))
	require.NoError(b, r.Close())
}

func figureCommit(b *testing.B, in *figureInput, mode ostree.Mode) func(string) {
	tree := openDir(b, in.folder)
	return func(into string) {
		inNew(b, into, mode, func(r *ostree.Repo) error {
			_, err := r.Commit(b.Context(), tree, &ostree.CommitOptions{NoFsync: true})
			return err
		})
	}
}

func figureCheckout(b *testing.B, in *figureInput, mode ostree.Mode) func(string) {
	r, c := in.repos[mode], in.commit
	return func(into string) {
		require.NoError(b, os.Mkdir(into, 0o755))
		checkout(b, r, into, c, &ostree.CheckoutOptions{UserMode: mode == ostree.ModeBareUser || !isRoot()})
	}
}

func figureFsck(b *testing.B, in *figureInput, mode ostree.Mode) func(string) {
	r := in.repos[mode]
	return func(string) { require.NoError(b, r.Fsck(b.Context(), nil)) }
}

func figurePull(b *testing.B, in *figureInput, mode ostree.Mode) func(string) {
	url := leanServer(b, in.repos[ostree.ModeArchive].Path())
	return func(into string) {
		inNew(b, into, mode, func(r *ostree.Repo) error {
			return r.Pull(b.Context(), "origin", &ostree.PullOptions{URL: url, Revs: []string{"x"}, Verifier: unverified, NoFsync: true})
		})
	}
}

func figurePullLocal(b *testing.B, in *figureInput, mode ostree.Mode) func(string) {
	src := in.repos[mode]
	return func(into string) {
		inNew(b, into, ostree.ModeArchive, func(r *ostree.Repo) error {
			return r.PullLocal(b.Context(), src, &ostree.PullLocalOptions{NoFsync: true})
		})
	}
}

// leanServer serves a folder with as little work as possible, for it is measured
// with the client.
func leanServer(b *testing.B, folder string) string {
	listener, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	require.NoError(b, err)
	done := context.AfterFunc(b.Context(), func() { listener.Close() })
	b.Cleanup(func() { done() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serveLean(conn, folder)
		}
	}()
	return "http://" + listener.Addr().String()
}

// serveLean answers GET requests until the client goes away.
func serveLean(conn net.Conn, folder string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	var out []byte
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(string(line), "GET "), " ")
		for len(line) > 2 {
			if line, err = in.ReadSlice('\n'); err != nil {
				return
			}
		}
		out = out[:0]
		if fd, err := syscall.Open(folder+name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err != nil {
			out = append(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"...)
		} else {
			var st syscall.Stat_t
			if syscall.Fstat(fd, &st) != nil {
				st.Size = 0
			}
			out = append(strconv.AppendInt(append(out, "HTTP/1.1 200 OK\r\nContent-Length: "...), st.Size, 10), "\r\n\r\n"...)
			start := len(out)
			out = append(out, make([]byte, st.Size)...)
			if n, _ := syscall.Read(fd, out[start:]); n != len(out)-start {
				out = nil
			}
			syscall.Close(fd)
		}
		if _, err := conn.Write(out); err != nil || out == nil {
			return
		}
	}
}

// figureCPU is what this process used.
func figureCPU(t testing.TB) time.Duration {
	var usage syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkFigures measures what the table of the README has: CPU seconds, of
// this process, with the server of pulls, and allocations an object.
func BenchmarkFigures(b *testing.B) {
	in := newFigureInput(b)
	for _, f := range figures {
		b.Run(f.command, func(b *testing.B) { benchmarkFigure(b, in, f) })
	}
}

func benchmarkFigure(b *testing.B, in *figureInput, f figure) {
	run := f.prepare(b, in)
	objects := float64(in.objects)
	repos := b.TempDir()
	runtime.GC() // of what was prepared
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := figureCPU(b)
	i := 0
	for ; b.Loop(); i++ {
		run(filepath.Join(repos, strconv.Itoa(i)))
	}
	used := figureCPU(b) - start
	runtime.ReadMemStats(&after)
	b.ReportMetric(used.Seconds()/float64(i), "cpu-s/op")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(i)/objects, "allocs/object")
	b.ReportMetric(objects, "objects")
}

// TestReadmeFigures wants a row of the table for each figure, and measures them
// if it is told so.
func TestReadmeFigures(t *testing.T) {
	const begin, end = "<!-- figures -->\n", "<!-- end of figures -->\n"
	data, err := os.ReadFile("README.md")
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(data), begin)
	require.True(t, ok)
	table, tail, ok := strings.Cut(rest, end)
	require.True(t, ok)
	if *measureFigures {
		table = measureTable(t)
		require.NoError(t, os.WriteFile("README.md", []byte(head+begin+table+end+tail), 0o644))
	}
	rows := strings.Split(strings.TrimSpace(table), "\n")
	require.Len(t, rows, len(figures)+2)
	for i, f := range figures {
		require.True(t, strings.HasPrefix(rows[i+2], "| `"+f.command+"` |"), "row %d: %s", i, rows[i+2])
	}
}

// measureTable takes the least of three runs of each figure.
func measureTable(t *testing.T) string {
	text := "| command | CPU seconds | allocations an object |\n|---|---|---|\n"
	in := newFigureInput(t)
	for _, f := range figures {
		least := make(map[string]float64)
		for round := range 3 {
			result := testing.Benchmark(func(b *testing.B) { benchmarkFigure(b, in, f) })
			require.Positive(t, result.N, f.command)
			for unit, v := range result.Extra {
				if round == 0 || v < least[unit] {
					least[unit] = v
				}
			}
		}
		text += fmt.Sprintf("| `%s` | %.2f | %.1f |\n", f.command, least["cpu-s/op"], least["allocs/object"])
		t.Logf("%s: %v", f.command, least)
	}
	return text
}
