package rpmrepo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/rpmrepo"
	"github.com/okd-project/okd-streams/stream"
)

func check(t testing.TB, d *stream.Definition, opts *rpmrepo.Options) *rpmrepo.Report {
	t.Helper()
	r, err := rpmrepo.Check(t.Context(), d, opts)
	require.NoError(t, err)
	_, err = json.Marshal(r)
	require.NoError(t, err)
	return r
}

func text(t testing.TB, r *rpmrepo.Report) string {
	var b bytes.Buffer
	require.NoError(t, r.WriteText(&b))
	return b.String()
}

// TestWhatCounts: names, versions, architectures, provides and hidden packages
// count as they do for dnf.
func TestWhatCounts(t *testing.T) {
	dir := t.TempDir()
	for _, how := range []string{"", "gz", "xz", "zst"} {
		write(t, dir, how,
			pkg("bash", "x86_64", "/bin/sh", "sh"), entry{"bash", "x86_64", "0", "1.10", "1.el9", nil}, entry{"bash", "x86_64", "0", "1.9", "1.el9", nil},
			pkg("tzdata", "noarch"), pkg("glibc32", "i686"), pkg("armed", "aarch64"),
			entry{"openssl", "x86_64", "1", "3.0.7", "2.el9", []string{"webserver", "a->b"}},
			entry{"cri-o", "x86_64", "", "1.33.4", "1", nil}, pkg("kernel-core", "x86_64"), pkg("openshift-kubelet", "x86_64"), pkg("nginx", "x86_64", "webserver"),
		)
		url := serve(t, dir)
		for want, found := range map[string]string{
			"bash": "bash-1.10-1.el9.x86_64", "bash-1.9": "bash-1.9-1.el9.x86_64", "bash-1.0-1.el9": "bash-1.0-1.el9.x86_64", "bash.x86_64": "bash-1.10-1.el9.x86_64",
			"bash-0:1.9-1.el9.x86_64": "bash-1.9-1.el9.x86_64", "bash-0:1.9": "bash-1.9-1.el9.x86_64", "tzdata": "tzdata-1.0-1.el9.noarch", "glibc32": "glibc32-1.0-1.el9.i686",
			"openssl-1:3.0.7-2.el9": "openssl-1:3.0.7-2.el9.x86_64", "openssl-3.0.7": "openssl-1:3.0.7-2.el9.x86_64", "webserver": "openssl-1:3.0.7-2.el9.x86_64",
			"sh": "bash-1.0-1.el9.x86_64", "cri-o-1.33.4": "cri-o-1.33.4-1.x86_64", "cri-o-0:1.33.4-1": "cri-o-1.33.4-1.x86_64", "openssl-2:3.0.7": "",
			"armed": "", "bash-2": "", "kernel": "", "nowhere": "", "cri-o-1.33.0": "", "cri": "", "ash": "",
		} {
			r := check(t, definition(t, []string{want}, repository("one", url)), nil)
			require.Equal(t, rpmrepo.Read, r.Repositories[0].State, text(t, r))
			require.Equal(t, 11, r.Repositories[0].Packages)
			if found == "" {
				require.Equal(t, rpmrepo.Missing, r.Requests[0].State, want)
				require.ErrorIs(t, r.Err(), fs.ErrNotExist)
				continue
			}
			require.Equal(t, []rpmrepo.Candidate{{Repository: "one", Package: found}}, r.Requests[0].Found, want)
			require.NoError(t, r.Err())
		}
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "repodata")))
	}
}

// TestReport: what is missing is said with the reason, and with what may have
// been meant.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "x86_64"), "gz", entry{"cri-o", "x86_64", "0", "1.33.4", "1", nil}, pkg("ecr-credential-provider", "x86_64"), pkg("secret-tool", "x86_64"), pkg("usbguard", "x86_64"), pkg("kernel-devel", "x86_64"))
	write(t, filepath.Join(dir, "aarch64"), "gz", pkg("cri-o", "aarch64"), pkg("usbguard", "aarch64"), pkg("armed", "x86_64"))
	url := serve(t, dir)
	d := definition(t, []string{"cri-o-1.33.0", "ose-aws-ecr-image-credential-provider", "usbgard", "secret-tool", "armed"}, repository("main", url+"/${ARCH}"))
	d.Architectures = []stream.Arch{stream.X8664, stream.AArch64}
	d.Extensions.Sets = []stream.Extension{{Name: "kernel-devel", Packages: []string{"kernel-devel"}, Architectures: []stream.Arch{stream.X8664}}, {Name: "usbguard", Packages: []string{"usbguard"}}}
	d.OS.Repositories[0].Exclude = []string{"secret-*"}
	got := strings.ReplaceAll(text(t, check(t, d, nil)), url, "URL")
	golden := filepath.Join("testdata", "report.golden")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// TestIncludes: as of the repository that OKD's own packages are in, include
// hides what is not named.
func TestIncludes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "gz", pkg("openshift-kubelet", "x86_64"), pkg("bash", "x86_64"), pkg("openshift-clients", "x86_64"))
	d := definition(t, []string{"openshift-kubelet", "bash", "openshift-clients"}, repository("ose", serve(t, dir)))
	d.OS.Repositories[0].Include, d.OS.Repositories[0].Exclude = []string{"openshift-*", "["}, []string{"openshift-clients-1.0-1.el9.x86_64"}
	r := check(t, d, nil)
	require.Equal(t, rpmrepo.Found, r.Requests[0].State)
	for _, hidden := range r.Requests[1:] {
		require.Equal(t, rpmrepo.Missing, hidden.State)
		require.Contains(t, hidden.Cause, "include or exclude of the definition hides")
	}
}

// TestCredentials is okd-coreos-pipeline#56: packages that are behind a password
// that nobody outside has are named before the build, with what to do.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "locked", "4.22"), "gz", pkg("ose-aws-ecr-image-credential-provider", "x86_64"))
	write(t, filepath.Join(dir, "open"), "gz", pkg("bash", "x86_64"))
	url := serve(t, dir)
	packages := []string{"ose-aws-ecr-image-credential-provider", "bash"}
	ose := repository("rhel-9-server-ose-rpms", url+"/locked/${MINOR}")
	d := definition(t, packages, repository("open", url+"/open"), ose)
	require.NoError(t, d.Version.UnmarshalText([]byte("4.22")))

	r := check(t, d, nil)
	require.Equal(t, rpmrepo.Locked, r.Repositories[1].State)
	require.Contains(t, r.Repositories[1].Cause, "it needs credentials: repodata/repomd.xml: the server says 401")
	require.Contains(t, r.Repositories[1].Advice, "os.repositories[1].credentials")
	require.Equal(t, rpmrepo.Unknown, r.Requests[0].State)
	require.Equal(t, "it may be in rhel-9-server-ose-rpms, which could not be read", r.Requests[0].Cause)
	require.Equal(t, rpmrepo.Found, r.Requests[1].State)
	require.ErrorIs(t, r.Err(), fs.ErrPermission)

	d.OS.Repositories[1].Credentials = &stream.Credentials{Env: map[string]string{"username": "MIRROR_USER", "password": "MIRROR_PASS"}}
	r = check(t, d, nil)
	require.Contains(t, r.Repositories[1].Cause, "which are not here")
	require.Contains(t, r.Repositories[1].Advice, "environment variable MIRROR_USER, environment variable MIRROR_PASS")

	r = check(t, d, &rpmrepo.Options{Secret: secrets(map[string]string{"MIRROR_USER": "u", "MIRROR_PASS": "hunter2"})})
	require.Equal(t, rpmrepo.Locked, r.Repositories[1].State)
	require.Contains(t, r.Repositories[1].Cause, "it refuses the credentials")
	require.NotContains(t, text(t, r), "hunter2")

	r = check(t, d, &rpmrepo.Options{Secret: secrets(map[string]string{"MIRROR_USER": "u", "MIRROR_PASS": "p"})})
	require.NoError(t, r.Err(), text(t, r))
	require.Equal(t, "rhel-9-server-ose-rpms", r.Requests[0].Found[0].Repository)
}

// TestCredentialsStay: they are not sent to where a repository redirects.
func TestCredentialsStay(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "gz", pkg("bash", "x86_64"))
	var told []string
	files := http.FileServer(http.Dir(dir))
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		told = append(told, r.Header.Get("Authorization"))
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(other.Close)
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "Bearer secret", r.Header.Get("Authorization"))
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusFound)
	}))
	t.Cleanup(first.Close)
	d := definition(t, []string{"bash"}, repository("one", first.URL))
	d.OS.Repositories[0].Credentials = &stream.Credentials{Env: map[string]string{"token": "T"}}
	r := check(t, d, &rpmrepo.Options{Secret: secrets(map[string]string{"T": "secret"})})
	require.NoError(t, r.Err(), text(t, r))
	require.Equal(t, []string{"", ""}, told)
}

func TestUnreadable(t *testing.T) {
	good := t.TempDir()
	write(t, good, "gz", pkg("bash", "x86_64"))
	for name, tc := range map[string]struct {
		change func(dir string) // a copy of a good one
		state  rpmrepo.State
		cause  string
		is     error
	}{
		"nothing":            {func(dir string) { require.NoError(t, os.RemoveAll(filepath.Join(dir, "repodata"))) }, rpmrepo.Nowhere, "404", fs.ErrNotExist},
		"no primary":         {func(dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "repodata", "primary.xml.gz"))) }, rpmrepo.Nowhere, "primary.xml.gz", fs.ErrNotExist},
		"another primary":    {func(dir string) { overwrite(t, dir, pack(t, "gz", primary(pkg("evil", "x86_64")))) }, rpmrepo.Failed, "", publish.ErrDigest},
		"one byte more":      {func(dir string) { overwrite(t, dir, append(read(t, dir), 0)) }, rpmrepo.Failed, "", nil},
		"cut":                {func(dir string) { data := read(t, dir); overwrite(t, dir, data[:len(data)-9]) }, rpmrepo.Failed, "", nil},
		"no XML":             {func(dir string) { edit(t, dir, "<repomd", "<html") }, rpmrepo.Failed, "<html> is no repomd", nil},
		"weak checksum":      {func(dir string) { edit(t, dir, `<checksum type="sha256">`, `<checksum type="sha1">`) }, rpmrepo.Failed, "relied on", errors.ErrUnsupported},
		"another content":    {func(dir string) { edit(t, dir, `<open-checksum type="sha256">`, `<open-checksum type="sha256">0`) }, rpmrepo.Failed, "is no sha256", nil},
		"elsewhere":          {func(dir string) { edit(t, dir, `href="repodata`, `href="../repodata`) }, rpmrepo.Failed, "not below the repository", nil},
		"elsewhere behind #": {func(dir string) { edit(t, dir, `href="repodata`, `href="#/../../repodata`) }, rpmrepo.Failed, "not below the repository", nil},
		"elsewhere behind ?": {func(dir string) { edit(t, dir, `href="repodata`, `href="?/../../repodata`) }, rpmrepo.Failed, "not below the repository", nil},
		"on another server":  {func(dir string) { edit(t, dir, `href="repodata`, `href="http://other.example/repodata`) }, rpmrepo.Failed, "not below the repository", nil},
		"larger":             {func(dir string) { edit(t, dir, `<size>`, `<size>1`) }, rpmrepo.Failed, "", publish.ErrDigest},
		"a bomb":             {func(dir string) { edit(t, dir, `<open-size>`, `<open-size>-`) }, rpmrepo.Failed, "size", nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS(good)))
			tc.change(dir)
			r := check(t, definition(t, []string{"bash", "evil"}, repository("one", serve(t, dir))), nil)
			require.Equal(t, tc.state, r.Repositories[0].State)
			require.Contains(t, r.Repositories[0].Cause, tc.cause)
			if tc.is != nil {
				require.ErrorIs(t, r.Repositories[0].Err, tc.is)
			}
			for _, one := range r.Requests {
				require.Equal(t, rpmrepo.Unknown, one.State, "what was read before an error does not count")
			}
			require.Error(t, r.Err())
		})
	}
}

func TestAddresses(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "9", "x86_64"), "gz", pkg("bash", "x86_64"))
	url := serve(t, dir)
	d := definition(t, []string{"bash"}, repository("one", url+"/$releasever/$basearch"), repository("two", url+"/${VERSION}"))
	r := check(t, d, nil)
	require.Contains(t, r.Repositories[0].Cause, "$releasever")
	require.Contains(t, r.Repositories[1].Cause, "${VERSION} has no value here")
	r = check(t, d, &rpmrepo.Options{ReleaseVer: "9"})
	require.Equal(t, rpmrepo.Found, r.Requests[0].State)

	// Without repositories there is nothing to say, and nothing wrong.
	d.OS.Repositories = nil
	r = check(t, d, nil)
	require.Equal(t, rpmrepo.Unknown, r.Requests[0].State)
	require.NoError(t, r.Err())
	d.OS.Manager = stream.APT
	require.Empty(t, check(t, d, nil).Requests)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d = definition(t, nil, repository("one", url))
	_, err := rpmrepo.Check(ctx, d, nil)
	require.ErrorIs(t, err, context.Canceled)
}

func overwrite(t *testing.T, dir string, data []byte) {
	require.NoError(t, os.WriteFile(filepath.Join(dir, "repodata", "primary.xml.gz"), data, 0o644))
}

func read(t *testing.T, dir string) []byte {
	data, err := os.ReadFile(filepath.Join(dir, "repodata", "primary.xml.gz"))
	require.NoError(t, err)
	return data
}

func edit(t *testing.T, dir, from, to string) {
	file := filepath.Join(dir, "repodata", "repomd.xml")
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	head, tail, ok := strings.Cut(string(data), `<data type="primary">`)
	if from == "<repomd" {
		head = strings.Replace(head, from, to, 1)
	}
	require.True(t, ok)
	require.NoError(t, os.WriteFile(file, []byte(head+`<data type="primary">`+strings.Replace(tail, from, to, 1)), 0o644))
}
