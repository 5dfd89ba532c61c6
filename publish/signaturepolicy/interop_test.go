package signaturepolicy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish/cosignsigner"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// skopeo, which has the policies' own code, says the same of every case. Debian's
// is built without cosign's signatures: cosignsigner's tests have cosign itself.
func TestSkopeoSaysTheSame(t *testing.T) {
	interop.Peer(t, "skopeo", "docker-registry")
	s := newSigners(t)
	host := interop.Registry(t)
	registry, err := remoteregistry.Open(t.Context(), nil)
	require.NoError(t, err)
	for i := range verdicts {
		v := &verdicts[i]
		if strings.Contains(v.policy, "sigstoreSigned") {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			// Each case has an image of its own, and so signatures.
			img, err := random.Image(100, 1)
			require.NoError(t, err)
			digest, err := img.Digest()
			require.NoError(t, err)
			repo, err := name.NewRepository(host + "/okd/os")
			require.NoError(t, err)
			_, err = registry.WriteImage(t.Context(), repo, img, nil)
			require.NoError(t, err)
			require.NoError(t, registry.Tag(t.Context(), repo.Tag("1"), digest))
			sig, cosign := v.signatures(t, s, host, digest)
			dir := t.TempDir()
			if cosign != nil {
				desc, err := registry.WriteImage(t.Context(), repo, cosign, nil)
				require.NoError(t, err)
				require.NoError(t, registry.Tag(t.Context(), repo.Tag(cosignsigner.Tag(digest)), desc.Digest))
			}
			if sig != nil {
				at := filepath.Join(dir, "signatures", "okd", "os@sha256="+digest.Hex)
				require.NoError(t, os.MkdirAll(at, 0o700))
				require.NoError(t, os.WriteFile(filepath.Join(at, "signature-1"), sig, 0o600))
			}
			registriesD := filepath.Join(dir, "registries.d")
			require.NoError(t, os.Mkdir(registriesD, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(registriesD, "x.yaml"), fmt.Appendf(nil, "default-docker: {lookaside: 'file://%s/signatures', use-sigstore-attachments: true}\n", dir), 0o600))
			policy := filepath.Join(dir, "policy.json")
			require.NoError(t, os.WriteFile(policy, []byte(v.file(s, host)), 0o600))
			out, err := exec.CommandContext(t.Context(), "skopeo", "copy", "--policy", policy, "--registries.d", registriesD, "--src-tls-verify=false", "--remove-signatures",
				"docker://"+v.reference(t, host, digest).Name(), "dir:"+filepath.Join(dir, "out")).CombinedOutput()
			if v.ok {
				require.NoError(t, err, "%s", out)
			} else {
				require.Error(t, err)
				require.Contains(t, string(out), "Source image rejected")
			}
		})
	}
}
