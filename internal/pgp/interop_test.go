package pgp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/pgp"
	"github.com/okd-project/okd-streams/internal/signature"
)

// word is our verdict in gpg's words.
func word(err error) string {
	switch {
	case err == nil:
		return "GOODSIG"
	case errors.Is(err, signature.ErrRevoked):
		return "REVKEYSIG"
	case errors.Is(err, signature.ErrExpired) && strings.Contains(err.Error(), "signature: expired"):
		return "EXPSIG"
	case errors.Is(err, signature.ErrExpired):
		return "EXPKEYSIG"
	case errors.Is(err, signature.ErrUnknownKey):
		return "ERRSIG 9"
	case strings.Contains(err.Error(), "does not fit the message"):
		return "BADSIG"
	}
	return err.Error()
}

func words(all []pgp.Signature) []string {
	var out []string
	for _, s := range all {
		out = append(out, word(s.Err))
	}
	return out
}

// differ verifies a file with both sides, at a time.
type differ struct {
	g       *gpg
	k       *pgp.Keyring
	message []byte
}

func (d *differ) check(name string, signed []byte, detached bool, at time.Time) []string {
	d.g.t.Helper()
	path := d.g.file("signed", signed)
	var want []string
	var all []pgp.Signature
	var err error
	if detached {
		want = d.g.verdict(at, "--verify", path, d.g.file("message", d.message))
		all, err = d.k.Verify(d.g.t.Context(), bytes.NewReader(d.message), signed, at, nil)
	} else {
		want = d.g.verdict(at, "--verify", path)
		_, all, err = d.k.Open(d.g.t.Context(), bytes.NewReader(signed), at, nil)
	}
	got := words(all)
	if len(all) == 0 {
		got = []string{word(err)}
	}
	require.Equal(d.g.t, want, got, "%s at %s: %v", name, at, err)
	return got
}

// Every form by every key, at times around revocation and expiry: gpg's
// verdict is ours.
func TestVerdictsOfGPG(t *testing.T) {
	g := newGPG(t)
	message := readFixture(t, "message")
	d := &differ{g: g, message: message}
	type file struct {
		name     string
		data     []byte
		detached bool
	}
	var files []file
	sign := func(name string, at time.Time, detached bool, args ...string) {
		files = append(files, file{name, g.run(at, message, args...), detached})
	}
	for _, u := range users {
		makeUser(g, u.name, u.algo, u.sub)
		user := []string{"--local-user", userID(u.name)}
		for i, form := range forms {
			if i > 4 && u.name != "ed" && u.name != "rsa" { // compressions and armour are of no key
				continue
			}
			sign(u.name+" "+form.name, day(100), strings.Contains(strings.Join(form.args, " "), "detach"), append(user, form.args...)...)
		}
		sign(u.name+" lifetime", day(100), true, append(user, "--default-sig-expire", "30d", "--detach-sign")...)
		sign(u.name+" notation", day(100), true, append(user, "--sig-notation", "role@example.com=release", "--detach-sign")...)
	}
	both := []string{"--local-user", userID("ed"), "--local-user", userID("revoked"), "--local-user", userID("subexpired"), "--local-user", userID("rsa")}
	sign("several", day(100), true, append(both, "--detach-sign")...)
	sign("several inline", day(100), false, append(both, "--sign")...)
	sign("several clear", day(100), false, append(both, "--digest-algo", "SHA512", "--clear-sign")...)
	for _, digest := range []string{"SHA224", "SHA256", "SHA384", "SHA512"} {
		sign(digest, day(100), true, "--local-user", userID("rsa"), "--digest-algo", digest, "--detach-sign")
	}
	sign("expired meanwhile", day(364), true, "--local-user", userID("expired"), "--detach-sign")
	sign("from the future", day(500), true, "--local-user", userID("ed"), "--detach-sign")
	for _, u := range users {
		revokeUser(g, u.name)
	}
	// A key whose user was revoked, one that was expired and then prolonged,
	// one whose newest user says when it expires, one that never was public.
	makeUser(g, "olduser", "ed25519", "")
	old := g.fingerprints(userID("olduser"))[0]
	sign("olduser", day(100), true, "--local-user", old, "--detach-sign")
	g.run(day(101), nil, "--quick-add-uid", old, "new <new@example.com>")
	g.run(day(102), nil, "--quick-revoke-uid", old, userID("olduser"))
	makeUser(g, "prolonged", "ed25519", "ed25519")
	fprs := g.fingerprints(userID("prolonged"))
	g.run(day(1), nil, "--quick-set-expire", fprs[0], "10d")
	g.run(day(2), nil, "--quick-set-expire", fprs[0], "10d", "*")
	sign("prolonged", day(5), true, "--local-user", fprs[0], "--detach-sign")
	g.run(day(11), nil, "--quick-set-expire", fprs[0], "390d")
	g.run(day(11), nil, "--quick-set-expire", fprs[0], "390d", "*")

	k := mustParse(t, g.run(day(250), nil, "--export"))
	d.k = k
	count := map[string]int{}
	for _, f := range files {
		for _, at := range []time.Time{day(130).Add(-time.Second), day(130), day(250), day(365), day(365).Add(time.Second), day(402)} {
			for _, w := range d.check(f.name, f.data, f.detached, at) {
				count[w]++
			}
			if f.detached && strings.HasSuffix(f.name, " sig") {
				d.message = append([]byte("x"), message...)
				for _, w := range d.check(f.name+" of another message", f.data, true, at) {
					count[w]++
				}
				d.message = message
			}
		}
	}
	t.Logf("%d files, verdicts %v", len(files), count)
	for _, w := range []string{"GOODSIG", "BADSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG"} {
		require.NotZero(t, count[w], w)
	}

	// Without the keys, gpg has none either.
	empty := newGPG(t)
	unknown := &differ{empty, keyring(t, "ed.asc"), message}
	for _, f := range files {
		if !strings.HasPrefix(f.name, "ed ") && !strings.HasPrefix(f.name, "several") && f.name != "from the future" {
			unknown.check(f.name, f.data, f.detached, day(250))
		}
	}
}

// What we refuse and gpg does not.
func TestStricterThanGPG(t *testing.T) {
	g := newGPG(t)
	message := readFixture(t, "message")
	makeUser(g, "rsa", "rsa2048", "")
	makeUser(g, "short", "rsa1024", "")
	makeUser(g, "dsa", "dsa2048", "")
	makeUser(g, "brain", "brainpoolP256r1", "")
	for name, tc := range map[string]struct {
		args []string
		gpg  string
		want error
	}{
		"sha1":      {[]string{"--local-user", userID("rsa"), "--digest-algo", "SHA1"}, "GOODSIG", signature.ErrWeak},
		"md5":       {[]string{"--local-user", userID("rsa"), "--allow-weak-digest-algos", "--digest-algo", "MD5"}, "ERRSIG 5", signature.ErrWeak},
		"ripemd160": {[]string{"--local-user", userID("rsa"), "--digest-algo", "RIPEMD160"}, "GOODSIG", signature.ErrWeak},
		"rsa1024":   {[]string{"--local-user", userID("short")}, "GOODSIG", signature.ErrWeak},
		"dsa":       {[]string{"--local-user", userID("dsa")}, "GOODSIG", signature.ErrWeak},
		"brainpool": {[]string{"--local-user", userID("brain")}, "GOODSIG", signature.ErrUnknownKey},
		"critical":  {[]string{"--local-user", userID("rsa"), "--sig-notation", "!role@example.com=release"}, "BADSIG", signature.ErrSignature},
	} {
		signed := g.run(day(100), message, append(tc.args, "--detach-sign")...)
		require.Equal(t, []string{tc.gpg}, g.verdict(day(100), "--verify", g.file("signed", signed), g.file("message", message)), name)
		k := mustParse(t, g.run(day(100), nil, "--export"))
		_, err := verify(t, k, message, signed, day(100), nil)
		require.ErrorIs(t, err, tc.want, name)
		require.ErrorIs(t, err, signature.ErrSignature, name)
	}
	// Only for encryption or certification: GnuPG would not sign with these.
	g.run(day(0), nil, "--quick-gen-key", "cert <cert@example.com>", "ed25519", "cert", "never")
	_, err := pgp.ParseSecret(g.run(day(0), nil, "--export-secret-keys", "cert@example.com"), &pgp.SecretOptions{Passphrase: pass})
	require.NoError(t, err)
}

// gpg verifies what we sign, in every form and with every kind of key.
func TestGPGVerifiesOurs(t *testing.T) {
	g := newGPG(t)
	message := readFixture(t, "message")
	for _, u := range users {
		if u.name == "revoked" || u.name == "subrevoked" {
			continue
		}
		g.run(day(100), readFixture(t, u.name+".asc"), "--import")
		s := secret(t, u.name+".secret.asc", "")
		d := &differ{g, mustParse(t, g.run(day(100), nil, "--export", userID(u.name))), message}
		for form := pgp.Detached; form <= pgp.Packed; form++ {
			signed, err := s.Sign(t.Context(), bytes.NewReader(message), form, day(100), nil)
			require.NoError(t, err)
			name := fmt.Sprintf("%s form %d", u.name, form)
			require.Equal(t, []string{"GOODSIG"}, d.check(name, signed, form <= pgp.Armored, day(101)))
			if form >= pgp.Clear {
				out := g.run(day(101), nil, "--decrypt", g.file("signed", signed))
				want := string(message)
				if form == pgp.Clear {
					want = strings.ReplaceAll(want, "  \t\n", "\n")
				}
				require.Equal(t, want, string(out))
			}
		}
		signed, err := s.Sign(t.Context(), bytes.NewReader(message), pgp.Detached, day(100), &pgp.SignOptions{Lifetime: time.Hour})
		require.NoError(t, err)
		require.Equal(t, []string{"EXPSIG"}, d.check(u.name+" expired", signed, true, day(101)))
	}
}

// Text with all kinds of line ends, as gpg signs it and as we do.
func TestTextsOfGPG(t *testing.T) {
	g := newGPG(t)
	makeUser(g, "ed", "ed25519", "")
	k := mustParse(t, g.run(day(0), nil, "--export"))
	s, err := pgp.ParseSecret(g.run(day(0), nil, "--export-secret-keys"), &pgp.SecretOptions{Passphrase: pass})
	require.NoError(t, err)
	for _, text := range []string{"a", "a\n", "a\n\n", "a\r\n", "a \t\n", "a\r\r\nb\n", "a\rb\n", "- a\n", "From a\n", "\n", "a \n\n b\n", strings.Repeat("a long line ", 1500) + "\n"} {
		d := &differ{g, k, []byte(text)}
		for _, args := range [][]string{{"--textmode", "--detach-sign"}, {"--detach-sign"}, {"--clear-sign"}, {"--textmode", "--sign"}} {
			signed := g.run(day(1), []byte(text), args...)
			got := d.check(fmt.Sprintf("%.20q %s", text, args), signed, args[len(args)-1] == "--detach-sign", day(2))
			require.Equal(t, []string{"GOODSIG"}, got)
		}
		signed, err := s.Sign(t.Context(), strings.NewReader(text), pgp.Clear, day(1), nil)
		require.NoError(t, err)
		require.Equal(t, []string{"GOODSIG"}, d.check("our clear text", signed, false, day(2)))
	}
}

// Signatures that others published, with the keys that made them.
func TestPublishedSignatures(t *testing.T) {
	t.Run("boot images", func(t *testing.T) {
		dir := interop.SharedData(t, "bootimage", "coreos-installer", "verify")
		read := reader(t, dir)
		k := mustParse(t, read("test-key.pub.asc"))
		for _, name := range []string{"1M", "1M.gz", "1M.xz", "1M.zst"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				continue // only signatures of some are there
			}
			_, err := verify(t, k, read(name), read(name+".sig"), day(300), nil)
			require.NoError(t, err, name)
			_, err = verify(t, k, read(name)[1:], read(name+".sig"), day(300), nil)
			require.ErrorIs(t, err, signature.ErrSignature)
		}
		_, err := pgp.ParseKeyring(reader(t, filepath.Dir(dir))("signing-keys.asc"))
		require.NoError(t, err)
	})
	t.Run("releases", func(t *testing.T) {
		read := reader(t, interop.SharedData(t, "payload", "verify"))
		const digest = "sha256=e3f12513a4b22a2d7c0e7c9207f52128113758d9d68c7d06b11a0ac7672966f7"
		signed := read("signatures/" + digest + "/signature-1") // of version 3
		content, all, err := mustParse(t, read("keyrings/redhat.txt")).Open(t.Context(), bytes.NewReader(signed), day(300), nil)
		require.NoError(t, err)
		require.Equal(t, "567E347AD0044ADE55BA8A5F199E2F91FD431D51", all[0].Primary)
		var message struct {
			Critical struct {
				Image struct {
					Digest string `json:"docker-manifest-digest"`
				} `json:"image"`
			} `json:"critical"`
		}
		require.NoError(t, json.Unmarshal(content, &message))
		require.Equal(t, strings.Replace(digest, "=", ":", 1), message.Critical.Image.Digest)
		_, _, err = mustParse(t, read("keyrings/combined.txt")).Open(t.Context(), bytes.NewReader(signed), day(300), nil)
		require.NoError(t, err)
		_, _, err = mustParse(t, read("keyrings/simple.txt")).Open(t.Context(), bytes.NewReader(signed), day(300), nil)
		require.ErrorIs(t, err, signature.ErrUnknownKey)

		read = reader(t, interop.SharedData(t, "payload", "sample"))
		content, _, err = mustParse(t, read("key.asc")).Open(t.Context(), bytes.NewReader(read("signature-1")), time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), nil)
		require.NoError(t, err)
		require.Equal(t, read("sig1.json"), content)
	})
	t.Run("ostree keys", func(t *testing.T) {
		read := reader(t, interop.SharedData(t, "ostree", "expected"))
		require.Equal(t, mustParse(t, read("fixture-key.gpg")).Fingerprints(), mustParse(t, read("fixture-key.asc")).Fingerprints())
		_, err := pgp.ParseSecret(read("fixture-secret-key.asc"), nil)
		require.NoError(t, err)
	})
}

func reader(t testing.TB, dir string) func(name string) []byte {
	return func(name string) []byte {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return data
	}
}
