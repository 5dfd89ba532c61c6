package pgp_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "make the fixtures anew, with gpg")

// Users of the fixtures: on day 0 their keys are made, on day 100 they sign
// testdata/message, on day 200 some are revoked, on day 365 some expire.
var users = []struct {
	name string
	algo string // of the primary key
	sub  string // of a signing subkey; "": none
}{
	{"rsa", "rsa2048", ""},
	{"ed", "ed25519", ""},
	{"p256", "nistp256", ""},
	{"p384", "nistp384", ""},
	{"p521", "nistp521", ""},
	{"sub", "ed25519", "ed25519"},
	{"subrsa", "rsa2048", "rsa2048"},
	{"expired", "ed25519", ""},
	{"subexpired", "ed25519", "ed25519"},
	{"revoked", "ed25519", ""},
	{"subrevoked", "ed25519", "ed25519"},
}

func userID(name string) string { return name + " <" + name + "@example.com>" }

// forms are the ways gpg signs: a name, the extension and the arguments.
var forms = []struct {
	name string
	args []string
}{
	{"sig", []string{"--detach-sign"}},
	{"asc", []string{"--armor", "--detach-sign"}},
	{"text.sig", []string{"--textmode", "--detach-sign"}},
	{"clear", []string{"--clear-sign"}},
	{"gpg", []string{"--sign"}},
	{"plain.gpg", []string{"--compress-algo", "none", "--sign"}},
	{"zlib.gpg", []string{"--compress-algo", "zlib", "--sign"}},
	{"bzip2.gpg", []string{"--compress-algo", "bzip2", "--sign"}},
	{"armored.gpg", []string{"--armor", "--sign"}},
	{"text.gpg", []string{"--textmode", "--sign"}},
}

// makeUser makes a key on day 0.
func makeUser(g *gpg, name, algo, sub string) {
	usage, expire := "sign", "never"
	if sub != "" {
		usage = "cert"
	}
	if name == "expired" {
		expire = "365d"
	}
	g.run(day(0), nil, "--quick-gen-key", userID(name), algo, usage, expire)
	if sub == "" {
		return
	}
	expire = "never"
	if name == "subexpired" {
		expire = "365d"
	}
	g.run(day(0), nil, "--quick-add-key", g.fingerprints(userID(name))[0], sub, "sign", expire)
}

// revokeUser revokes on day 200 what the name says.
func revokeUser(g *gpg, name string) {
	switch name {
	case "revoked":
		fpr := g.fingerprints(userID(name))[0]
		cert, err := os.ReadFile(filepath.Join(g.home, "openpgp-revocs.d", fpr+".rev"))
		require.NoError(g.t, err)
		g.run(day(200), []byte(strings.Replace(string(cert), ":-----BEGIN", "-----BEGIN", 1)), "--import")
	case "subrevoked":
		g.run(day(200), []byte("key 1\nrevkey\ny\n0\nthe end\n\ny\nsave\n"), "--command-fd", "0", "--edit-key", g.fingerprints(userID(name))[0])
	}
}

// TestUpdateFixtures writes testdata, with -update.
func TestUpdateFixtures(t *testing.T) {
	if !*update {
		return
	}
	g := newGPG(t)
	g.pass = passphrase
	message := readFixture(t, "message")
	write := func(name string, data []byte) {
		require.NoError(t, os.WriteFile(filepath.Join("testdata", name), data, 0o644))
	}
	for _, u := range users {
		makeUser(g, u.name, u.algo, u.sub)
		write(u.name+".secret.asc", g.run(day(0), nil, "--armor", "--export-secret-keys", userID(u.name)))
		write(u.name+".message.sig", g.run(day(100), message, "--local-user", userID(u.name), "--detach-sign"))
	}
	write("sub.only.secret.asc", g.run(day(0), nil, "--armor", "--export-secret-subkeys", userID("sub")))
	for _, form := range forms {
		write("ed.message."+form.name, g.run(day(100), message, append([]string{"--local-user", userID("ed")}, form.args...)...))
	}
	for _, u := range users {
		revokeUser(g, u.name)
		write(u.name+".asc", g.run(day(200), nil, "--armor", "--export", userID(u.name)))
		write(u.name+".pgp", g.run(day(200), nil, "--export", userID(u.name)))
	}
}

func readFixture(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return data
}
