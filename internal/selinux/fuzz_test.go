package selinux_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/selinux"
)

// FuzzPolicy reads any policy without harm. What it says of a path is what the
// rules say where they are tried one after the other.
func FuzzPolicy(f *testing.F) {
	f.Add("/usr(/.*)?\ts:usr\n/usr/bin/sh\t--\ts:sh\n/proc <<none>>\n", "/a /usr\n", "/usr/bin/sh", uint32(regular))
	f.Add("/.*a.{3}b s:x\n^/x$ s:y\n/[^/]+/[[:alpha:]]* -d s:z\n", "", "/x\n", uint32(dir))
	f.Add("/(a|b)*\\.so s:x", "/ /b", "//a//", uint32(0))
	f.Add("/usr/? s:x\n/usr/\\w{2,} -l s:y", "", "/usr/ab", uint32(link))
	f.Fuzz(func(t *testing.T, specs, subs, path string, mode uint32) {
		if len(specs) > 1000 || len(subs) > 500 || len(path) > 100 {
			return
		}
		fsys := policy(specs)
		var p *selinux.Policy
		var err error
		// Of regular expressions up to 1000 bytes long: programs and their states.
		fuzzbound.Linear(t, len(specs)+len(subs), 20_000, func() { p, err = selinux.Read(fsys) })
		if err != nil {
			return
		}
		got, err := p.Lookup(path, mode)
		if err != nil {
			require.True(t, path == "" || strings.ContainsRune(path, 0) || strings.Contains(err.Error(), "complex"), err)
			return
		}
		again, err := p.Lookup(path, mode)
		require.NoError(t, err)
		require.Equal(t, got, again)
		if want, ok := oneByOne(specs, path, mode); ok {
			require.Equal(t, want, got)
		}
		if p, err = selinux.Read(policy(specs, ".subs", subs)); err == nil {
			_, _ = p.Lookup(path, mode)
		}
	})
}

// oneByOne tries each line with Go's regexp. It does not know everything.
func oneByOne(specs, path string, mode uint32) (string, bool) {
	for _, c := range path {
		if c > 0x7e || c < ' ' {
			return "", false
		}
	}
	if strings.Contains(path, "//") || len(path) > 1 && strings.HasSuffix(path, "/") {
		return "", false
	}
	var exact, found string
	for line := range strings.Lines(specs) {
		fields := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r", r) })
		if len(fields) == 0 || fields[0][0] == '#' {
			continue
		}
		pattern, label := fields[0], fields[1]
		if strings.ContainsAny(pattern, `\^$`) || strings.Contains(pattern, "/?") || strings.Contains(pattern, "/*") || strings.Contains(pattern, "/{") {
			return "", false
		}
		if len(fields) > 2 {
			label = fields[2]
			is := map[string]uint32{"--": regular, "-d": dir, "-l": link, "-b": block, "-c": char, "-p": fifo, "-s": socket}[fields[1]]
			if mode&0o170000 != 0 && mode&0o170000 != is&0o170000 {
				continue
			}
		}
		matches, err := regexp.MatchString(fmt.Sprintf("(?s)^(?:%s)$", pattern), path)
		switch {
		case err != nil:
			return "", false
		case matches && strings.ContainsAny(pattern, ".?*+|[({"):
			found = label
		case matches:
			exact = label
		}
	}
	if exact != "" {
		found = exact
	}
	if found == "<<none>>" {
		found = ""
	}
	return found, true
}

// BenchmarkLookup is many paths of few directories, as a tree has them, against
// a policy of the size of a real one.
func BenchmarkLookup(b *testing.B) {
	var specs strings.Builder
	for i := range 5000 {
		switch dir := fmt.Sprintf("/usr/lib/d%d", i%700); {
		case i%100 == 0: // a few that are for any depth
			fmt.Fprintf(&specs, "/usr/(.*/)?lib%d[^/]*\\.x -- s:%d\n", i, i)
		case i%3 == 0:
			fmt.Fprintf(&specs, "%s(/.*)? s:%d\n", dir, i)
		case i%3 == 1:
			fmt.Fprintf(&specs, "%s/.*\\.so(\\.[^/]*)* -- s:%d\n", dir, i)
		default:
			fmt.Fprintf(&specs, "%s/exact%d s:%d\n", dir, i, i)
		}
	}
	var paths []string
	var size int64
	for i := range 50000 {
		paths = append(paths, fmt.Sprintf("/usr/lib/d%d/sub%d/file%d.so.1", i%1000, i%7, i))
		size += int64(len(paths[i]))
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		p := read(b, policy(specs.String()))
		for _, path := range paths {
			if _, err := p.Lookup(path, regular); err != nil {
				b.Fatal(err)
			}
		}
	}
}
