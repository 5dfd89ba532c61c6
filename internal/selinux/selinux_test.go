package selinux_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/selinux"
)

const (
	regular = 0o100644
	dir     = 0o040755
	link    = 0o120777
	char    = 0o020666
	block   = 0o060660
	fifo    = 0o010644
	socket  = 0o140755
)

const config = "# comment\nSELINUX=enforcing\nSELINUXTYPE= targeted \n"

const contexts = "etc/selinux/targeted/contexts/files/file_contexts"

// policy is a tree with a policy of these file_contexts.
func policy(specs string, more ...string) fstest.MapFS {
	fsys := fstest.MapFS{"etc/selinux/config": {Data: []byte(config)}, contexts: {Data: []byte(specs)}}
	for i := 0; i < len(more); i += 2 {
		fsys[contexts+more[i]] = &fstest.MapFile{Data: []byte(more[i+1])}
	}
	return fsys
}

func read(t testing.TB, fsys fs.FS) *selinux.Policy {
	t.Helper()
	p, err := selinux.Read(fsys)
	require.NoError(t, err)
	return p
}

func TestLookup(t *testing.T) {
	p := read(t, policy(`
# The order of the lines is that of their weight.
/.*                      s:default
/	-d	s:root
/usr(/.*)?	s:usr
/usr/lib(/.*)?		s:lib
/usr/lib/.*\.so(\.[^/]*)*  --  s:so
/usr/bin/sh	--	s:exact
/usr/bin/.*		s:bin
/usr/bin/s[a-h]{1,2}	s:short
/usr/bin/\[		s:bracket
/proc(/.*)?	<<none>>
/dev/[0-9]\.[^/]*	-c	s:tty
/dev/sd.		-b	s:disk
/run/p	-p	s:pipe
/run/p	-s	s:sock
/run/p	-l	s:link
/run/p	-d	s:dir
/both(/.*)?	--	s:file
/both(/.*)?	-d	s:folder
/opt/a	s:first
/opt/a	s:second
^/anchored(/.*)?$	s:anchored
/bytes/..	s:two
/nolabel	<<none>>
/var/?	s:var
/lost\+found/.*	s:lost
/more/fields -- s:label ignored
`[1:]+"/tabs\v \fs:tabs\r\n"+"/last s:last", ".homedirs", "/home/[^/]+/.*\ts:home\n", ".local", "/usr/bin/local -- s:local\n",
		".subs", "/alias /usr\n/alias/lib /opt\n/only\n # x y\n/slash /\n/twice /dist\n",
		".subs_dist", "/dist /usr/bin\n/lib64 /usr/lib\n"))
	require.Equal(t, "targeted", p.Name())
	for _, c := range []struct {
		path string
		mode uint32
		want string
	}{
		{"/", dir, "s:root"},
		{"/", regular, "s:default"},
		{"//", dir, "s:root"},
		{"/x", regular, "s:default"},
		{"x", regular, ""},
		{"/proc", dir, ""},
		{"/proc/1", dir, ""},
		{"/proc2", dir, "s:default"},
		{"/nolabel", regular, ""},
		{"/dev/1.x", char, "s:tty"},
		{"/dev/1.x", block, "s:default"},
		{"/dev/1.x", 0, "s:tty"},
		{"/dev/sda", block, "s:disk"},
		{"/dev/sd/", block, "s:default"},
		{"/run/p", fifo, "s:pipe"},
		{"/run/p", socket, "s:sock"},
		{"/run/p", link, "s:link"},
		{"/run/p/", dir, "s:dir"},
		{"/run/p", regular, "s:default"},
		{"/run/p", 0, "s:dir"},
		{"/both/x", dir, "s:folder"},
		{"/both/x", regular, "s:file"},
		{"/both/x", link, "s:default"},
		{"/opt/a", regular, "s:second"},
		{"/anchored", regular, "s:anchored"},
		{"/anchored/x", regular, "s:anchored"},
		{"/bytes/ab", regular, "s:two"},
		{"/bytes/é", regular, "s:two"}, // two bytes
		{"/bytes/a", regular, "s:default"},
		{"/tabs", regular, "s:tabs"},
		{"/last", regular, "s:last"},
		{"/lost+found/x", regular, "s:lost"},
		{"/var", dir, "s:default"}, // as libselinux, which looks for this below /var only
		{"/more/fields", regular, "s:label"},
		{"/home/me/x", regular, "s:home"},
		{"/home//me///x", regular, "s:home"},
		// Perl's end of a string may have a newline behind it.
		{"/opt/a\n", regular, "s:second"},
		{"/opt/a\n\n", regular, "s:default"},
		{"/anchored\n", regular, "s:anchored"},
		// Replaced beginnings: the last line that fits, and .subs before .subs_dist.
		{"/alias", dir, "s:usr"},
		{"/alias/x", regular, "s:usr"},
		{"/alias/lib/a", regular, "s:second"},
		{"/aliases", regular, "s:default"},
		{"/slash/opt/a", regular, "s:second"},
		{"/slash", dir, "s:root"},
		{"/twice/sh", regular, "s:exact"},
		{"/dist/sh", regular, "s:exact"},
		{"/lib64/x.so.1", regular, "s:so"},
	} {
		got, err := p.Lookup(c.path, c.mode)
		require.NoError(t, err, c.path)
		require.Equal(t, c.want, got, "%q %o", c.path, c.mode)
	}
	for _, path := range []string{"", "a\x00b", "/" + strings.Repeat("x", 1<<20)} {
		_, err := p.Lookup(path, regular)
		require.Error(t, err)
	}
}

// TestExactFirst: without special characters goes before those that have some,
// wherever it is.
func TestExactFirst(t *testing.T) {
	p := read(t, policy("/usr/bin/sh s:exact\n/usr/bin/[ab] s:class\n/usr/bin/\\. s:dot\n/usr/bin/.* s:all\n/usr/bin/(x|y)+ s:group\n"))
	for path, want := range map[string]string{"/usr/bin/sh": "s:exact", "/usr/bin/a": "s:all", "/usr/bin/.": "s:dot", "/usr/bin/xy": "s:group"} {
		got, err := p.Lookup(path, regular)
		require.NoError(t, err)
		require.Equal(t, want, got, path)
	}
}

func TestWhere(t *testing.T) {
	other := "usr/" + contexts
	for name, c := range map[string]struct {
		fsys fstest.MapFS
		want string // the label of /x
		is   error
		text string
	}{
		"none":     {fstest.MapFS{}, "", fs.ErrNotExist, "usr/etc/selinux/config"},
		"disabled": {fstest.MapFS{"etc/selinux/config": {Data: []byte("SELINUX=disabled\nSELINUXTYPE=targeted\n")}}, "", fs.ErrNotExist, "does not enable"},
		"usr/etc":  {fstest.MapFS{"usr/etc/selinux/config": {Data: []byte(config)}, other: {Data: []byte("/x s:usr")}}, "s:usr", nil, ""},
		"etc first": {fstest.MapFS{"etc/selinux/config": {Data: []byte(config)}, contexts: {Data: []byte("/x s:etc")},
			"usr/etc/selinux/config": {Data: []byte(config)}, other: {Data: []byte("/x s:usr")}}, "s:etc", nil, ""},
		"empty etc":  {fstest.MapFS{"etc/selinux": {Mode: fs.ModeDir}, "usr/etc/selinux/config": {Data: []byte(config)}}, "", fs.ErrNotExist, " etc/selinux/config"},
		"permissive": {fstest.MapFS{"etc/selinux/config": {Data: []byte("SELINUX=Permissive\nSELINUXTYPE=targeted")}, contexts: {Data: []byte("/x s:x")}}, "s:x", nil, ""},
		"no type":    {fstest.MapFS{"etc/selinux/config": {Data: []byte("SELINUX=enforcing\n")}}, "", nil, "not the name of a policy"},
		"escape":     {fstest.MapFS{"etc/selinux/config": {Data: []byte("SELINUX=enforcing\nSELINUXTYPE=../x\n")}}, "", nil, "not the name of a policy"},
		"no files":   {fstest.MapFS{"etc/selinux/config": {Data: []byte(config)}}, "", fs.ErrInvalid, "has no etc/selinux"},
		"compiled": {fstest.MapFS{"etc/selinux/config": {Data: []byte(config)}, contexts + ".bin": {}}, "", errors.ErrUnsupported,
			"only as compiled"},
		"empty": {policy(""), "", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := selinux.Read(c.fsys)
			if c.text != "" {
				require.ErrorContains(t, err, c.text)
				if c.is != nil {
					require.ErrorIs(t, err, c.is)
				} else {
					require.NotErrorIs(t, err, fs.ErrNotExist)
				}
				return
			}
			require.NoError(t, err)
			got, err := p.Lookup("/x", regular)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestFaults(t *testing.T) {
	for line, want := range map[string]string{
		"/a":                                     "no label",
		"/a -x s:l":                              "no file type",
		"/a - s:l":                               "no file type",
		"/a --- s:l":                             "no file type",
		"/é s:l":                                 "not ASCII",
		"/a s:é":                                 "not ASCII",
		"/a\x00 s:l":                             "NUL",
		"/a(?=b) s:l":                            "group",
		"/a(?!b) s:l":                            "group",
		"/a(?i)b s:l":                            "group",
		`/(a)\1 s:l`:                             "escape",
		`/a\bc s:l`:                              "escape",
		`/a\x41 s:l`:                             "escape",
		`/a\ s:l`:                                "backslash at its end",
		"/a$b s:l":                               "anchor",
		"/a^b s:l":                               "anchor",
		"/a|/b s:l":                              "alternatives outside",
		"/a++ s:l":                               "invalid nested repetition",
		"/a{,3} s:l":                             "without lower limit",
		"/a{2000} s:l":                           "invalid repeat count",
		"/[a s:l":                                "without end",
		"/[[:x s:l":                              "without end",
		"/[[:nothing:]] s:l":                     "invalid character class",
		"/[z-a] s:l":                             "invalid character class range",
		"/(a s:l":                                "missing closing",
		"/a) s:l":                                "unexpected )",
		"/" + strings.Repeat("a", 5000) + " s:l": "at most 4095",
		"/a " + strings.Repeat("s", 20000) + "\n": "at most 16384",
		"*a s:l": "missing argument to repetition",
	} {
		_, err := selinux.Read(policy("/ok s:l\n" + line + "\n"))
		require.ErrorContains(t, err, want, line)
		require.ErrorContains(t, err, contexts+":2: ", line)
	}
	for _, line := range []string{"/a(?=b) s:l", `/(a)\1 s:l`, "/a|/b s:l", "/a$b s:l", "/a++ s:l"} {
		_, err := selinux.Read(policy(line))
		require.ErrorIs(t, err, errors.ErrUnsupported, line)
	}
	// All are told, up to a limit.
	_, err := selinux.Read(policy("/a\n/b\n/ok s:l\n/c\n"))
	require.ErrorContains(t, err, ":1:")
	require.ErrorContains(t, err, ":4:")
	_, err = selinux.Read(policy(strings.Repeat("/a\n", 1000)))
	require.Less(t, len(err.Error()), 3000)
	_, err = selinux.Read(policy("/a s:a", ".local", "/b\n"))
	require.ErrorContains(t, err, ".local:1:")
	_, err = selinux.Read(policy("/a s:a", ".subs", "/b\x00 /c\n"))
	require.ErrorContains(t, err, ".subs:1:")
	_, err = selinux.Read(policy(strings.Repeat("#"+strings.Repeat("x", 1000)+"\n", 40000)))
	require.ErrorContains(t, err, "more than 33554432 bytes")
}

// TestManyStates: a policy whose automaton would not fit in memory is forgotten
// on the way, without another result.
func TestManyStates(t *testing.T) {
	p := read(t, policy("/.*a.{18}b s:match\n/x s:other\n"))
	var path strings.Builder
	path.WriteByte('/')
	x := uint32(1)
	for range 40000 {
		x = x*1664525 + 1013904223
		path.WriteByte("ac"[x>>31])
	}
	for _, end := range []struct{ text, want string }{{"a" + strings.Repeat("c", 18) + "b", "s:match"}, {"c" + strings.Repeat("c", 18) + "b", ""}} {
		got, err := p.Lookup(path.String()+end.text, regular)
		require.NoError(t, err)
		require.Equal(t, end.want, got)
	}
	// Expressions that are too large together are an error, not memory.
	p = read(t, policy(strings.Repeat("/(a{1,500}|b{1,400})x s:x\n", 2000)))
	_, err := p.Lookup("/aaax", regular)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, contexts+":")
	p = read(t, policy("/x(abcdefghijklmnop){900} s:x\n"))
	_, err = p.Lookup("/x", regular)
	require.ErrorContains(t, err, contexts+":1: the pattern is too complex")
	require.ErrorIs(t, err, errors.ErrUnsupported)
	got, err := p.Lookup("/x/other", regular) // also needs it
	require.Error(t, err)
	require.Empty(t, got)
}

func TestConcurrent(t *testing.T) {
	p := read(t, policy("/usr/.*\\.so s:so\n/usr/[a-m]+/.* s:am\n"))
	for range 8 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for _, c := range []struct{ path, want string }{{"/usr/lib/x.so", "s:so"}, {"/usr/abc/x", "s:am"}, {"/usr/xyz/x", ""}} {
				got, err := p.Lookup(c.path, regular)
				require.NoError(t, err)
				if c.path == "/usr/lib/x.so" {
					c.want = "s:am" // the later line
				}
				require.Equal(t, c.want, got)
			}
		})
	}
}
