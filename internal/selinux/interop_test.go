package selinux_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/selinux"
)

// judge asks libselinux itself: file_contexts as argument, "MODE PATH" records
// that end in NUL in, labels out. An error is "!".
const judge = `
import ctypes, errno, sys
lib = ctypes.CDLL("libselinux.so.1", use_errno=True)
class Opt(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("value", ctypes.c_char_p)]
lib.selabel_open.restype = ctypes.c_void_p
lib.selabel_open.argtypes = [ctypes.c_uint, ctypes.POINTER(Opt), ctypes.c_uint]
lib.selabel_lookup_raw.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_char_p), ctypes.c_char_p, ctypes.c_int]
lib.freecon.argtypes = [ctypes.c_char_p]
handle = lib.selabel_open(0, ctypes.byref(Opt(3, sys.argv[1].encode())), 1)
if not handle:
    sys.exit("selabel_open: errno %d" % ctypes.get_errno())
out = []
for record in sys.stdin.buffer.read().split(b"\0")[:-1]:
    mode, path = record.split(b" ", 1)
    label = ctypes.c_char_p()
    ctypes.set_errno(0)
    if lib.selabel_lookup_raw(handle, ctypes.byref(label), path, int(mode)) == 0:
        out.append(label.value)
    else:
        out.append(b"" if ctypes.get_errno() == errno.ENOENT else b"!")
sys.stdout.buffer.write(b"".join(l + b"\0" for l in out))
`

type question struct {
	path string
	mode uint32
}

// theirs are libselinux's labels.
func theirs(ctx context.Context, contexts string, questions []question) ([]string, error) {
	var in, out, diag bytes.Buffer
	for _, q := range questions {
		fmt.Fprintf(&in, "%d %s\x00", q.mode, q.path)
	}
	cmd := exec.CommandContext(ctx, "python3", "-c", judge, contexts)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &diag
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, diag.String())
	}
	labels := strings.Split(out.String(), "\x00")
	if len(labels) != len(questions)+1 {
		return nil, fmt.Errorf("%d labels for %d paths: %s", len(labels)-1, len(questions), diag.String())
	}
	return labels[:len(questions)], nil
}

// agree asks both. The judge is slow: each processor asks a part.
func agree(t testing.TB, p *selinux.Policy, contexts string, questions []question) {
	t.Helper()
	parts := make([][]string, runtime.GOMAXPROCS(0))
	size := (len(questions) + len(parts) - 1) / len(parts)
	var group errgroup.Group
	for i := range parts {
		group.Go(func() (err error) {
			parts[i], err = theirs(t.Context(), contexts, questions[min(i*size, len(questions)):min((i+1)*size, len(questions))])
			return err
		})
	}
	require.NoError(t, group.Wait())
	for i, want := range slices.Concat(parts...) {
		got, err := p.Lookup(questions[i].path, questions[i].mode)
		require.NoError(t, err)
		if got != want {
			t.Fatalf("%q, mode %o: got %q, want %q", questions[i].path, questions[i].mode, got, want)
		}
	}
}

// installed is the policy of this machine.
func installed(t testing.TB) (*selinux.Policy, string) {
	t.Helper()
	p := read(t, os.DirFS("/"))
	return p, filepath.Join("/etc/selinux", p.Name(), "contexts/files/file_contexts")
}

var kinds = []uint32{regular, dir, link, char, block, fifo, socket}

// TestRealTree labels every path of a Debian system, as what it is and as each
// other file type.
func TestRealTree(t *testing.T) {
	interop.Peer(t, "python3", "matchpathcon")
	p, contexts := installed(t)
	tree := interop.DebianTree(t)
	var questions, other []question
	require.NoError(t, filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		q := question{"/" + strings.TrimPrefix(path[len(tree):], "/"), regular}
		switch d.Type() {
		case fs.ModeDir:
			q.mode = dir
		case fs.ModeSymlink:
			q.mode = link
		}
		questions = append(questions, q)
		if len(questions)%100 == 0 {
			for _, mode := range append(kinds, 0) {
				other = append(other, question{q.path, mode})
			}
		}
		return nil
	}))
	agree(t, p, contexts, questions)
	agree(t, p, contexts, other)

	fresh := read(t, os.DirFS("/"))
	start := time.Now()
	for _, q := range questions {
		if _, err := fresh.Lookup(q.path, q.mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d paths in %v", len(questions), time.Since(start))

	// The program that people use says the same.
	for _, q := range questions[:20] {
		got, err := p.Lookup(q.path, regular)
		require.NoError(t, err)
		if got == "" {
			got = "<<none>>"
		}
		out, err := exec.CommandContext(t.Context(), "matchpathcon", "-n", "-N", "-m", "file", "-f", contexts, q.path).Output()
		require.NoError(t, err)
		require.Equal(t, strings.TrimSpace(string(out)), got, q.path)
	}
}

// TestHostilePaths makes paths out of the patterns of the real policy: what they
// say, a little more, a little less, and bytes that no name should have.
func TestHostilePaths(t *testing.T) {
	interop.Peer(t, "python3", "matchpathcon")
	p, contexts := installed(t)
	rng := rand.New(rand.NewPCG(1, 2))
	var questions []question
	for _, suffix := range []string{"", ".homedirs", ".subs_dist"} {
		text, err := os.ReadFile(contexts + suffix)
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
				continue
			}
			for range 3 {
				questions = append(questions, question{spoil(rng, sample(rng, fields[0])), kinds[rng.IntN(len(kinds))]})
			}
			questions = append(questions, question{sample(rng, fields[0]), 0})
		}
	}
	agree(t, p, contexts, questions)
}

// sample is something that a pattern could match: groups once, not at all or
// doubled, classes and dots by any byte.
func sample(rng *rand.Rand, pattern string) string {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '\\':
			if i++; i < len(pattern) {
				b.WriteByte(pattern[i])
			}
		case '(', ')', '|', '?', '+', '{', '}':
		case '*':
			b.WriteString([]string{"", "x", "x/y", ".so", "/"}[rng.IntN(5)])
		case '.':
			b.WriteString([]string{"", "a", ".", "0", "\n"}[rng.IntN(5)])
		case '[':
			end := strings.IndexByte(pattern[i:], ']')
			if end < 0 {
				end = 0
			}
			b.WriteByte("a0-z"[rng.IntN(4)])
			i += end
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// spoil changes a path here and there.
func spoil(rng *rand.Rand, path string) string {
	for range rng.IntN(3) {
		at := rng.IntN(len(path) + 1)
		switch rng.IntN(7) {
		case 0:
			path = path[:at] + "/" + path[at:]
		case 1:
			path = path[:at] + []string{"é", "\xff", "\n", " ", "\\", "(", "."}[rng.IntN(7)] + path[at:]
		case 2:
			path += "\n"
		case 3:
			path += "/"
		case 4:
			path = path[:at]
		case 5:
			path += "/sub"
		case 6:
			path = []string{"/usr", "/lib64", "/home/me", "/sysroot", "/"}[rng.IntN(5)] + path
		}
	}
	if path == "" {
		path = "/"
	}
	return path
}

// TestRandomPolicies compares policies that nobody would write.
func TestRandomPolicies(t *testing.T) {
	interop.Peer(t, "python3", "matchpathcon")
	for seed := range uint64(15) {
		rng := rand.New(rand.NewPCG(seed, 3))
		folder := t.TempDir()
		fsys := policy("")
		var patterns []string
		for _, suffix := range []string{"", ".homedirs", ".local"} {
			var text strings.Builder
			for range 60 {
				pattern := randomPattern(rng)
				kind := []string{"", "", "", "--", "-d", "-l", "-b", "-c", "-p", "-s"}[rng.IntN(10)]
				label := "u:o:t" + strconv.Itoa(len(patterns)) + ":s0"
				if rng.IntN(20) == 0 {
					label = "<<none>>"
				}
				line := pattern + " " + kind + " " + label + "\n"
				if _, err := selinux.Read(policy(line)); err != nil || strings.HasPrefix(pattern, "//") { // which 3.4 never finds
					continue
				}
				patterns = append(patterns, pattern)
				text.WriteString(line)
			}
			fsys[contexts+suffix] = &fstest.MapFile{Data: []byte(text.String())}
		}
		for _, suffix := range []string{".subs", ".subs_dist"} {
			var text strings.Builder
			for range 6 {
				fmt.Fprintf(&text, "/%s /%s\n", randomName(rng), []string{randomName(rng), "", randomName(rng) + "/" + randomName(rng)}[rng.IntN(3)])
			}
			fsys[contexts+suffix] = &fstest.MapFile{Data: []byte(text.String())}
		}
		for name, f := range fsys {
			require.NoError(t, os.WriteFile(filepath.Join(folder, filepath.Base(name)), f.Data, 0o644))
		}
		var questions []question
		for _, pattern := range patterns {
			for range 8 {
				questions = append(questions, question{spoil(rng, sample(rng, pattern)), append(kinds, 0)[rng.IntN(8)]})
			}
		}
		agree(t, read(t, fsys), filepath.Join(folder, "file_contexts"), questions)
	}
}

func randomName(rng *rand.Rand) string {
	return []string{"a", "b", "ab", "usr", "lib", "x-y", "a_b"}[rng.IntN(7)]
}

// deep reports whether a pattern goes on behind its first component: there
// libselinux 3.4 takes a backslash for one of the file's name, later ones don't.
func deep(pattern string) bool { return strings.Count(pattern, "/") > 1 }

func randomPattern(rng *rand.Rand) string {
	var b strings.Builder
	if rng.IntN(20) == 0 {
		b.WriteByte('^')
	}
	for range 1 + rng.IntN(4) {
		b.WriteString([]string{"/", "/", "/", "/?", "(/.*)?", "(/"}[rng.IntN(6)])
		open := strings.HasSuffix(b.String(), "(/")
		if rng.IntN(4) > 0 {
			b.WriteString(randomName(rng))
		}
		for range rng.IntN(3) {
			part := []string{
				".*", "[^/]*", "[^/]+", "[a-l]", "[[:alpha:]]+", "[]x]", "[^]x]", "[a-]", `[\.-]`, "(a|b|)", "(ab)*", "x?", "a{2}", "a{1,3}", "a{2,}", "a*?", "a+?",
				`\d`, `\w+`, `\W`, `\D`, "{", "a{x", "}", "]", ".", "(?:b|ab)?", "()",
			}[rng.IntN(28)]
			if !strings.Contains(part, `\`) || deep(b.String()) {
				b.WriteString(part)
			}
		}
		if rng.IntN(5) == 0 && deep(b.String()) {
			b.WriteString([]string{`\.`, `\+`, `\-`, `\\`, `\/`}[rng.IntN(5)])
		}
		if open {
			b.WriteString([]string{")", ")?", ")*", ")+"}[rng.IntN(4)])
		}
	}
	if rng.IntN(20) == 0 {
		b.WriteByte('$')
	}
	return b.String()
}
