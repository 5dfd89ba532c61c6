package rpmrepo_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/publish/rpmrepo"
)

var update = flag.Bool("update", false, "write golden files")

func TestPrimary(t *testing.T) {
	var got []string
	collect := func(nevra string, provides []string) { got = append(got, nevra+" "+fmt.Sprint(provides)) }
	require.NoError(t, rpmrepo.DecodePrimary(bytes.NewReader(primary(pkg("a", "noarch", "x", "b->c"), entry{"b", "x86_64", "2", "1~rc1", "1", nil})), collect))
	require.Equal(t, []string{"a-1.0-1.el9.noarch [a x b->c]", "b-2:1~rc1-1.x86_64 [b]"}, got)

	none := func(string, []string) {}
	whole := string(primary(pkg("a", "noarch")))
	for name, tc := range map[string]struct{ from, to, want string }{
		"nothing":          {whole, "", "EOF"},
		"another root":     {"<metadata", "<repomd", "is no metadata"},
		"cut":              {"</metadata>", "", "EOF"},
		"wrong end":        {"</format>", "</formats>", "ends as"},
		"document type":    {"<metadata", "<!DOCTYPE x [<!ENTITY a 'b'>]><metadata", "document type"},
		"entity":           {"<name>a", "<name>&a;", "entity"},
		"bare ampersand":   {"<name>a", "<name>& a", "entity"},
		"no character":     {"<name>a", "<name>&#0;", "no character"},
		"section":          {"<name>a", "<name><![CDATA[a]]>", "section"},
		"two names":        {"<name>a</name>", "<name>a</name><name>b</name>", "twice"},
		"no name":          {"<name>a</name>", "", "missing"},
		"attribute":        {`epoch="0"`, `epoch`, "attribute"},
		"open attribute":   {`epoch="0"`, `epoch="0`, "EOF"},
		"text after":       {"</metadata>", "</metadata>x", "outside"},
		"two documents":    {"</metadata>", "</metadata><metadata/>", "second"},
		"long text":        {"<name>a", "<name>" + strings.Repeat("a", 1<<20), "text of more"},
		"long tag":         {"<format>", "<format x='" + strings.Repeat("a", 1<<20) + "'>", "a tag of more"},
		"deep":             {"<format>", "<format>" + strings.Repeat("<a>", 1<<20), "deeper"},
		"end of nothing":   {"<metadata", "</x><metadata", "ends nothing"},
		"tag without name": {"<format>", "< format>", "tag"},
	} {
		err := rpmrepo.DecodePrimary(strings.NewReader(strings.Replace(whole, tc.from, tc.to, 1)), none)
		require.ErrorContains(t, err, tc.want, name)
	}
}

func FuzzRepomd(f *testing.F) {
	dir := f.TempDir()
	write(f, dir, "gz")
	f.Add([]byte(`<repomd><data type="primary"><checksum type="sha256">` + strings.Repeat("0", 64) + `</checksum><location href="repodata/x"/><size>1</size></data></repomd>`))
	f.Add([]byte(`<repomd><data type="primary"><checksum type="sha256">` + strings.Repeat("0", 64) + `</checksum><location href="a#/../x"/></data></repomd>`))
	f.Add([]byte(`<?xml version="1.0"?><!-- - --><repomd xmlns:rpm='x'/>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := fuzzbound.Read(t, 512, rpmrepo.DecodeRepomd, data)
		if err == nil {
			require.NotContains(t, "/"+p.Href+"/", "/../")
			require.NotContains(t, p.Sum, "md5")
		}
	})
}

func FuzzPrimary(f *testing.F) {
	f.Add(primary(pkg("a", "noarch", "x", "b->c"), entry{"b", "x86_64", "2", "1~rc1", "1", nil}))
	f.Add([]byte(`<metadata><package><name>&#65;&#x42;&lt;</name><arch>x</arch><version ver='1' rel="2"/></package></metadata>`))
	f.Add([]byte("\xef\xbb\xbf<metadata/>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzbound.Linear(t, len(data), 64, func() {
			_ = rpmrepo.DecodePrimary(bytes.NewReader(data), func(string, []string) {})
		})
		kept := 0
		err := rpmrepo.DecodePrimary(bytes.NewReader(data), func(nevra string, provides []string) {
			kept += len(nevra)
			for _, p := range provides {
				kept += len(p)
			}
		})
		if err == nil {
			require.LessOrEqual(t, kept, 4*len(data))
		}
	})
}

// endless gives packages for as long as it is read, up to a number.
type endless struct {
	left int
	rest []byte
	n    int
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		switch {
		case e.n == 0:
			e.rest = []byte(`<metadata xmlns:rpm="x">`)
		case e.left == 0:
			e.rest, e.left = []byte("</metadata>"), -1
		case e.left < 0:
			return 0, io.EOF
		default:
			e.left--
			e.rest = []byte(entry{fmt.Sprintf("package-%d-devel", e.n), "x86_64", "0", "1.2.3", "4.el9", []string{fmt.Sprintf("pkgconfig(package-%d)", e.n), fmt.Sprintf("libpackage-%d.so.1()(64bit)", e.n)}}.xml())
		}
		e.n++
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// TestMemory: how much is held does not depend on how long primary.xml is.
func TestMemory(t *testing.T) {
	count := 0
	var most uint64
	require.NoError(t, rpmrepo.DecodePrimary(&endless{left: 20000}, func(string, []string) {
		if count++; count%5000 == 0 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
	}))
	require.Equal(t, 20000, count)
	require.Less(t, most, uint64(32<<20))
}

func BenchmarkPrimary(b *testing.B) {
	data, err := io.ReadAll(&endless{left: 50000})
	require.NoError(b, err)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		require.NoError(b, rpmrepo.DecodePrimary(bytes.NewReader(data), func(string, []string) { n++ }))
		require.Equal(b, 50000, n)
	}
}
