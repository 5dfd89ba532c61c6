package container_test

import (
	"maps"
	"os"
	"path"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
)

// Layers over a commit that has this machine's policy and is labelled by it, and
// layers that change the policy: ostree-ext, which labels with libselinux, and we
// make the same trees.
func TestImportLabelsAsOstreeExt(t *testing.T) {
	program := interop.OstreeExt(t)
	interop.Peer(t, "ostree", "matchpathcon")
	if os.Getuid() != 0 {
		t.Skip("only a bare repository of the peer's is not lossy, which needs root")
	}
	files := maps.Clone(sample)
	maps.Copy(files, map[string]string{
		"usr/lib/systemd/system/x.service": "x", "usr/sbin/sshd": "sshd", "usr/etc/shadow": "root:*", "usr/etc/ssh/sshd_config": "x", "usr/share/man/man1/x.1": "x",
	})
	tree := t.TempDir()
	require.NoError(t, os.CopyFS(tree, mapFS(files)))
	require.NoError(t, os.CopyFS(path.Join(tree, "usr/etc/selinux"), os.DirFS("/etc/selinux")))
	root, err := os.OpenRoot(tree)
	require.NoError(t, err)
	defer root.Close()
	src := ostree.Dir(root)
	policy, err := ostree.TreePolicy(t.Context(), src)
	require.NoError(t, err)
	repo := importRepo(t, ostree.ModeBareUser)
	c, err := repo.Commit(t.Context(), src, &ostree.CommitOptions{Subject: "labelled", Timestamp: time.Unix(1700000000, 0), SELinux: policy, CanonicalPermissions: true})
	require.NoError(t, err)
	base := encapsulate(t, openCache(t, t.TempDir()), repo, c, nil)
	labels := importLabels(t, repo, c)
	require.Equal(t, "system_u:object_r:sshd_exec_t:s0\x00", labels["usr/sbin/sshd"])

	const local = "etc/selinux/default/contexts/files/file_contexts.local"
	changed := "/usr/bin/special\tsystem_u:object_r:shadow_t:s0\n/usr/bin/bash\tsystem_u:object_r:etc_t:s0\n/usr/lib/os-release\tsystem_u:object_r:man_t:s0\n"
	added := []string{"usr/bin/special=1", "usr/sbin/newd=1", "usr/lib/systemd/system/new.service=1", "etc/ssh/ssh_host_rsa_key=1", "etc/new/dir/file=1", "usr/local/bin/x=1", "usr/bin/second=>usr/bin/special"}
	for _, tc := range []struct {
		name   string
		layers [][]byte
		want   map[string]string // labels' types
	}{
		{"policy of the commit", [][]byte{archive(t, added...)}, map[string]string{
			"usr/bin/special": "bin_t", "usr/bin/bash": "shell_exec_t", "usr/etc/new/dir/file": "etc_t",
		}},
		{"the first layer changes it", [][]byte{archive(t, local+"="+changed), archive(t, added...)}, map[string]string{
			"usr/bin/special": "shadow_t", "usr/bin/bash": "etc_t", "usr/lib/os-release": "man_t",
		}},
		{"the last layer changes it", [][]byte{archive(t, added...), archive(t, local+"="+changed)}, map[string]string{
			"usr/bin/special": "shadow_t", "usr/bin/bash": "etc_t", "usr/lib/os-release": "man_t",
		}},
		{"a layer removes files and the change", [][]byte{archive(t, local+"="+changed), archive(t, "etc/selinux/default/contexts/files/.wh.file_contexts.local=", "usr/sbin/.wh.sshd=")}, map[string]string{
			"usr/bin/bash": "shell_exec_t",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img := importWith(t, base, tc.layers...)
			ours, got := ownImport(t, img, nil)
			require.Equal(t, c, got.Base)
			have := importLabels(t, ours, got.Commit)
			for path, kind := range tc.want {
				require.Equal(t, "system_u:object_r:"+kind+":s0\x00", have[path], path)
			}
			theirs := importRepo(t, ostree.ModeBare)
			want, err := peerImport(t, program, theirs, img)
			require.NoError(t, err)
			require.Equal(t, describeTree(t, theirs, want), describeTree(t, ours, got.Commit))
			require.Equal(t, roots(t, theirs, want), roots(t, ours, got.Commit))
		})
	}
}
