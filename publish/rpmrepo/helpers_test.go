package rpmrepo_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"github.com/okd-project/okd-streams/stream"
)

// entry is a package in a repository of a test.
type entry struct {
	name, arch, epoch, version, release string
	provides                            []string
}

func (e entry) xml() string {
	var b strings.Builder
	fmt.Fprintf(&b, `<package type="rpm">
  <name>%s</name>
  <arch>%s</arch>
  <version epoch="%s" ver="%s" rel="%s"/>
  <checksum type="sha256" pkgid="YES">%064d</checksum>
  <summary>A &lt;package&gt; &amp; more</summary>
  <description>Text <![CDATA[<with> sections]]></description>
  <location href="%[1]s.rpm"/>
  <format>
    <rpm:provides>
      <rpm:entry name="%[1]s" flags="EQ" epoch="0" ver="1" rel="1"/>
`, e.name, e.arch, e.epoch, e.version, e.release, 0)
	for _, p := range e.provides {
		fmt.Fprintf(&b, "      <rpm:entry name='%s'/>\n", strings.ReplaceAll(p, ">", "&gt;"))
	}
	b.WriteString(`    </rpm:provides>
    <rpm:requires><rpm:entry name="nowhere"/></rpm:requires>
    <file>/usr/bin/x</file>
  </format>
</package>
`)
	return b.String()
}

func pkg(name, arch string, provides ...string) entry {
	return entry{name, arch, "0", "1.0", "1.el9", provides}
}

func primary(entries ...entry) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `<?xml version="1.0" encoding="UTF-8"?>
<!-- a > b -->
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="%d">
`, len(entries))
	for _, e := range entries {
		b.WriteString(e.xml())
	}
	b.WriteString("</metadata>\n")
	return []byte(b.String())
}

func pack(t testing.TB, how string, data []byte) []byte {
	var b bytes.Buffer
	var w interface {
		Write([]byte) (int, error)
		Close() error
	}
	var err error
	switch how {
	case "gz":
		w = gzip.NewWriter(&b)
	case "zst":
		w, err = zstd.NewWriter(&b)
	case "xz":
		w, err = xz.NewWriter(&b)
	default:
		return data
	}
	require.NoError(t, err)
	_, err = w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// write makes a repository in a folder.
func write(t testing.TB, dir, how string, entries ...entry) {
	data := primary(entries...)
	packed := pack(t, how, data)
	name := "repodata/primary.xml"
	if how != "" {
		name += "." + how
	}
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "repodata"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), packed, 0o644))
	repomd := fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">
  <revision>1</revision>
  <data type="filelists"><checksum type="md5">x</checksum><location href="../x"/></data>
  <data type="primary">
    <checksum type="sha256">%x</checksum>
    <open-checksum type="sha256">%x</open-checksum>
    <location href="%s"/>
    <timestamp>1</timestamp>
    <size>%d</size>
    <open-size>%d</open-size>
  </data>
</repomd>
`, sha256.Sum256(packed), sha256.Sum256(data), name, len(packed), len(data))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "repodata", "repomd.xml"), []byte(repomd), 0o644))
}

// serve serves a folder. Below locked/ it wants user "u" with password "p".
func serve(t testing.TB, dir string) string {
	files := http.FileServer(http.Dir(dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); strings.HasPrefix(r.URL.Path, "/locked/") && (user != "u" || password != "p") {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// definition is one of a layer with packages of repositories.
func definition(t testing.TB, packages []string, repositories ...stream.RPMRepository) *stream.Definition {
	d, err := stream.Builtin("okd-scos-next")
	require.NoError(t, err)
	d.OS.Repositories, d.OS.Packages, d.Extensions.Sets = repositories, packages, nil
	d.Architectures = []stream.Arch{stream.X8664}
	return d
}

func repository(name, url string) stream.RPMRepository {
	return stream.RPMRepository{Name: name, BaseURL: stream.Template(url)}
}

func secrets(values map[string]string) func(context.Context, *stream.Credentials, string) (string, error) {
	return func(_ context.Context, c *stream.Credentials, role string) (string, error) {
		if value, ok := values[c.Env[role]]; ok {
			return value, nil
		}
		return "", fmt.Errorf("variable %s: %w", c.Env[role], fs.ErrNotExist)
	}
}
