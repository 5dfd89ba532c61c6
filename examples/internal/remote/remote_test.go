package remote_test

import (
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/remote"
)

func TestOptions(t *testing.T) {
	t.Setenv("REGISTRY_AUTH_FILE", "/of/the/environment")
	t.Setenv("HOME", t.TempDir())

	var machine remote.Flags
	o := machine.Options(nil)
	require.Empty(t, o.AuthFile)
	require.Equal(t, "/of/the/environment", o.AuthFiles[0])
	require.NotNil(t, o.CredentialHelper)
	require.NotNil(t, o.Jitter)
	require.NotNil(t, o.Mirrors)

	var said remote.Flags
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	said.Add(set)
	require.NoError(t, set.Parse([]string{
		"--authfile=a", "--cert-dir=c", "--registries-conf=r", "--mirror-set=m1", "--mirror-set=m2", "--insecure=h:1", "--insecure=h:2",
	}))
	o = said.Options(nil)
	require.Equal(t, "a", o.AuthFile)
	require.Equal(t, []string{"c"}, o.CertDirs)
	require.Equal(t, "r", o.Mirrors.File)
	require.Equal(t, []string{"m1", "m2"}, o.Mirrors.Sets)
	require.Equal(t, []string{"h:1", "h:2"}, o.Insecure)
}
