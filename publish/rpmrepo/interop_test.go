package rpmrepo_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish/rpmrepo"
	"github.com/okd-project/okd-streams/stream"
)

func tool(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	require.NoError(t, err, "%s %v: %s", name, args, errs.String())
	return string(out)
}

const spec = `Name: cri-o
Epoch: 1
Version: 1.33.0~rc1
Release: 1.el9
Summary: Runs <containers> & more
License: MIT
Provides: ocicni = 1.33.0
Provides: pkgconfig(a<b) = 2
Provides: golang(a&b)
%description
Text with ]]> and "quotes".
%package -n openshift-kubelet
Summary: Kubelet
Provides: atomic-openshift-node = %{version}
BuildArch: noarch
%description -n openshift-kubelet
Kubelet.
%files
%files -n openshift-kubelet
`

// TestCreaterepo: repositories that createrepo_c made of packages that rpmbuild
// made are read as rpm reads the packages, however they are compressed.
func TestCreaterepo(t *testing.T) {
	interop.Peer(t, "createrepo_c", "rpmbuild", "rpm", "gpg")
	top := t.TempDir()
	rpms := filepath.Join(top, "rpms")
	require.NoError(t, os.WriteFile(filepath.Join(top, "x.spec"), []byte(spec), 0o644))
	tool(t, top, nil, "rpmbuild", "-bb", "--define", "_topdir "+top, "--define", "_rpmdir "+rpms, "--define", "_build_name_fmt %%{NAME}.rpm", "x.spec")
	machine := strings.TrimSpace(tool(t, top, nil, "rpm", "--eval", "%{_target_cpu}"))
	arch := stream.Arch(machine)

	home := filepath.Join(top, "gnupg")
	require.NoError(t, os.Mkdir(home, 0o700))
	gpg := []string{"GNUPGHOME=" + home}
	t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() })
	tool(t, top, gpg, "gpg", "--batch", "--passphrase", "", "--quick-generate-key", "repo@example.com", "rsa3072", "sign", "never")
	key := filepath.Join(top, "key.asc")
	require.NoError(t, os.WriteFile(key, []byte(tool(t, top, gpg, "gpg", "--armor", "--export")), 0o644))

	var want []string
	for _, file := range []string{"cri-o", "openshift-kubelet"} {
		path := filepath.Join(rpms, file+".rpm")
		provides := strings.Fields(tool(t, top, nil, "rpm", "-qp", "--qf", `[%{PROVIDENAME}\n]`, path))
		want = append(want, strings.TrimSpace(tool(t, top, nil, "rpm", "-qp", "--qf", `%{NAME}-%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}.%{ARCH}`, path))+" "+strings.Join(provides, " "))
	}
	url := serve(t, top)
	for i, options := range [][]string{
		nil, {"--compress-type=gz", "--general-compress-type=gz"}, {"--general-compress-type=bz2"}, {"--xz", "--general-compress-type=xz"},
		{"--simple-md-filenames", "--no-database"}, {"--checksum=sha512"}, {"--repomd-checksum=sha384", "--checksum=sha256"}, {"--zck"}, {"--database", "--retain-old-md=0"},
	} {
		require.NoError(t, os.RemoveAll(filepath.Join(rpms, "repodata")))
		tool(t, top, nil, "createrepo_c", append(options, rpms)...)

		// What is in primary.xml is what rpm says of the packages.
		data, err := os.ReadFile(filepath.Join(rpms, "repodata", "repomd.xml"))
		require.NoError(t, err)
		p, err := rpmrepo.DecodeRepomd(bytes.NewReader(data))
		require.NoError(t, err, options)
		unpacked := map[string]string{".gz": "gzip", ".bz2": "bzip2", ".xz": "xz"}[filepath.Ext(p.Href)]
		var got []string
		content := tool(t, rpms, nil, unpacked, "-dc", p.Href)
		require.NoError(t, rpmrepo.DecodePrimary(strings.NewReader(content), func(nevra string, provides []string) {
			got = append(got, nevra+" "+strings.Join(provides, " "))
		}))
		slices.Sort(got)
		require.Equal(t, want, got, options)

		d := definition(t, []string{"cri-o-1:1.33.0~rc1", "openshift-kubelet", "atomic-openshift-node", "ocicni", "crio"}, repository("real", url+"/rpms"))
		d.Architectures = []stream.Arch{arch}
		d.OS.Repositories[0].GPGKey = key
		opts := &rpmrepo.Options{Now: time.Now(), ReadFile: os.ReadFile}
		r := check(t, d, opts)
		require.Equal(t, rpmrepo.Read, r.Repositories[0].State, "%v: %s", options, text(t, r))
		require.Contains(t, r.Repositories[0].Note, "not signed")
		for _, one := range r.Requests[:4] {
			require.Equal(t, rpmrepo.Found, one.State, "%v: %s", options, text(t, r))
		}
		require.Equal(t, []string{"cri-o"}, r.Requests[4].Near)

		// Signed, by gpg; and changed after that.
		if i > 0 {
			continue
		}
		repomd := filepath.Join(rpms, "repodata", "repomd.xml")
		tool(t, top, gpg, "gpg", "--batch", "--yes", "--armor", "--detach-sign", repomd)
		r = check(t, d, opts)
		require.Regexp(t, `^[0-9A-F]{40}$`, r.Repositories[0].Signer, text(t, r))
		require.NoError(t, os.WriteFile(repomd, append(data, '\n'), 0o644))
		r = check(t, d, opts)
		require.Equal(t, rpmrepo.Failed, r.Repositories[0].State, text(t, r))
		require.Contains(t, r.Repositories[0].Cause, "repomd.xml.asc")
	}
}
