package secrets_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/examples/internal/secrets"
	"github.com/okd-project/okd-streams/stream"
)

func TestFrom(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bot"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bot", "t"), []byte("from the file\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bot", "large"), make([]byte, secrets.MaxSize+1), 0o600))
	c := &stream.Credentials{Secret: "bot", Keys: map[string]string{"token": "t", "key": "large", "file": "none"}, Env: map[string]string{"token": "TOKEN", "password": "PASSWORD"}}
	environment := map[string]string{}
	get := secrets.From(func(name string) string { return environment[name] }, dir)

	value, err := get(t.Context(), c, "token")
	require.NoError(t, err)
	require.Equal(t, "from the file", value)
	environment["TOKEN"] = "from the environment"
	value, err = get(t.Context(), c, "token")
	require.NoError(t, err)
	require.Equal(t, "from the environment", value)
	for role, want := range map[string]string{
		"password": "PASSWORD is not set", "url": "names no url", "file": "none",
	} {
		_, err = get(t.Context(), c, role)
		require.ErrorIs(t, err, fs.ErrNotExist, role)
		require.ErrorContains(t, err, want)
	}
	_, err = get(t.Context(), c, "key")
	require.ErrorContains(t, err, "no secret")
	environment = nil
	_, err = secrets.From(func(string) string { return "" }, "")(t.Context(), c, "token")
	require.ErrorContains(t, err, "no folder with the key t of secret bot")

	require.True(t, secrets.Has(c, "token"))
	require.True(t, secrets.Has(c, "password"))
	require.False(t, secrets.Has(c, "url"))
	require.False(t, secrets.Has(nil, "token"))
}
