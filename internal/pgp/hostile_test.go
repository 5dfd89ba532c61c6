package pgp_test

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"crypto"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/pgp"
	"github.com/okd-project/okd-streams/internal/signature"
)

// pkt makes a packet with a new-format header of five bytes.
func pkt(tag byte, body ...byte) []byte {
	head := binary.BigEndian.AppendUint32([]byte{0xc0 | tag, 255}, uint32(len(body)))
	return append(head, body...)
}

func zip(data []byte) []byte {
	var out bytes.Buffer
	out.WriteByte(1)
	w, _ := flate.NewWriter(&out, flate.BestCompression)
	w.Write(data)
	w.Close()
	return pkt(8, out.Bytes()...)
}

func TestHostileSignatures(t *testing.T) {
	k := keyring(t, "ed.asc")
	head := []byte{4, 0, 22, 8}
	long := func(body ...byte) []byte { return pkt(2, append(body, make([]byte, 48)...)...) }
	for name, sig := range map[string][]byte{
		"empty":                   {},
		"not OpenPGP":             []byte("hello"),
		"no packet":               {0x80 | 0x40 | 2},
		"length beyond the end":   {0xc2, 255, 0xff, 0xff, 0xff, 0xff, 4},
		"packet without length":   {0x80 | 2<<2 | 3, 4},
		"partial length":          {0xc2, 224, 4},
		"endless partial lengths": append([]byte{0xc0 | 11}, bytes.Repeat([]byte{224, 0}, 1000)...),
		"too large":               pkt(2, make([]byte, 64<<10+1)...),
		"version 6 of 4 GiB":      long(6, 0, 22, 8, 0xff, 0xff, 0xff, 0xff),
		"version 5":               long(5, 0, 22, 8, 0, 0),
		"version 6 in version 4":  long(append(slices.Clone(head), 0, 10, 9, 32, 6, 0, 22, 8, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0)...),
		"empty exportable":        long(append(slices.Clone(head), 0, 2, 1, 4, 0, 0, 0, 0)...),
		"empty subpacket":         long(append(slices.Clone(head), 0, 1, 0, 0, 0, 0, 0)...),
		"subpacket of 4 GiB":      long(append(slices.Clone(head), 0, 6, 255, 0xff, 0xff, 0xff, 0xff, 2)...),
		"short":                   pkt(2, append(slices.Clone(head), make([]byte, 43)...)...),
		"short version 3":         pkt(2, 3, 5, 0, 0),
		"a message":               readFixture(t, "ed.message.gpg"),
		"a key":                   readFixture(t, "ed.pgp"),
		"armour of a key":         readFixture(t, "ed.asc"),
		"armour without end":      []byte("-----BEGIN PGP SIGNATURE-----\n\nAAAA\n"),
		"armour without line":     []byte("-----BEGIN PGP " + strings.Repeat("A", 200)),
		"armour of nothing":       []byte("-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n"),
		"too much":                make([]byte, pgp.MaxSignatureSize+1),
	} {
		var err error
		spent := fuzzbound.Allocated(func() { _, err = verify(t, k, nil, sig, day(100), nil) })
		require.ErrorIs(t, err, signature.ErrSignature, name)
		require.Less(t, spent, 4<<20, name)
	}
}

const emptyBzip2 = "BZh9\x17\x72\x45\x38\x50\x90\x00\x00\x00\x00"

func TestHostileMessages(t *testing.T) {
	k := keyring(t, "ed.asc")
	good := readFixture(t, "ed.message.plain.gpg")
	literal := append([]byte{'b', 0, 0, 0, 0, 0}, "content"...)
	bomb := zip(pkt(11, append([]byte{'b', 0, 0, 0, 0, 0}, make([]byte, 16<<20)...)...))
	markers := zip(bytes.Repeat(pkt(10, 'P', 'G', 'P'), 200_000))
	deep := good
	for range 5 {
		deep = zip(deep)
	}
	onlyFour := good
	for range 4 {
		onlyFour = zip(onlyFour)
	}
	_, _, err := k.Open(t.Context(), bytes.NewReader(onlyFour), day(100), nil)
	require.NoError(t, err)
	for name, signed := range map[string][]byte{
		"bomb":                bomb,
		"bomb of nothing":     markers,
		"bomb in a bomb":      zip(bomb),
		"deep":                deep,
		"not signed":          pkt(11, literal...),
		"two contents":        append(bytes.Clone(good), pkt(11, literal...)...),
		"content in front":    append(pkt(11, literal...), good...),
		"not announced":       good[2+13:],
		"announced twice":     append(bytes.Clone(good[:2+13]), good...),
		"unknown compression": pkt(8, 9, 0),
		"bad zlib":            pkt(8, 2, 0),
		"row of nothings":     bytes.Repeat(pkt(8, append([]byte{3}, emptyBzip2...)...), 100),
		"encrypted":           pkt(18, 1, 0),
		"file name too long":  pkt(11, 'b', 200, 'x'),
		"detached":            readFixture(t, "ed.message.sig"),
		"clear and cut":       []byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\ntext\n"),
		"clear without text":  []byte("-----BEGIN PGP SIGNED MESSAGE-----"),
		"too much":            bytes.Repeat([]byte{0xca}, 2*pgp.MaxMessageSize+pgp.MaxSignatureSize+1),
	} {
		var content []byte
		var err error
		spent := fuzzbound.Allocated(func() { content, _, err = k.Open(t.Context(), bytes.NewReader(signed), day(100), nil) })
		require.ErrorIs(t, err, signature.ErrSignature, name)
		require.Nil(t, content)
		require.Less(t, spent, 70<<20, name)
	}
	var packed bytes.Buffer
	packed.WriteByte(2)
	z := zlib.NewWriter(&packed)
	z.Write(good)
	require.NoError(t, z.Close())
	_, _, err = k.Open(t.Context(), bytes.NewReader(pkt(8, packed.Bytes()...)), day(100), nil)
	require.NoError(t, err)
	packed.WriteByte('x')
	_, _, err = k.Open(t.Context(), bytes.NewReader(pkt(8, packed.Bytes()...)), day(100), nil)
	require.ErrorContains(t, err, "something after the compressed message")
}

// parts are the packets of a key's public part, in order.
func parts(t testing.TB, data []byte) (all []packet.Packet) {
	t.Helper()
	for r := packet.NewReader(bytes.NewReader(data)); ; {
		p, err := r.Next()
		if err == io.EOF {
			return all
		}
		require.NoError(t, err)
		all = append(all, p)
	}
}

// Whoever claims another's signing subkey as theirs must have its signature in
// return; and a key that no signature binds to anyone is nobody's.
func TestStolenSubkey(t *testing.T) {
	t.Parallel()
	victim := parts(t, readFixture(t, "sub.pgp"))
	sub := victim[3].(*packet.PublicKey)
	block, err := armor.Decode(bytes.NewReader(readFixture(t, "ed.secret.asc")))
	require.NoError(t, err)
	thief, err := packet.NewReader(block.Body).Next()
	require.NoError(t, err)
	priv := thief.(*packet.PrivateKey)
	require.NoError(t, priv.Decrypt([]byte(passphrase)))
	bind := func(flags bool, cross *packet.Signature) []byte {
		sig := &packet.Signature{
			Version: 4, SigType: packet.SigTypeSubkeyBinding, PubKeyAlgo: priv.PubKeyAlgo, Hash: crypto.SHA256, CreationTime: day(10),
			IssuerKeyId: &priv.KeyId, FlagsValid: flags, FlagSign: flags, EmbeddedSignature: cross,
		}
		require.NoError(t, sig.SignKey(sub, priv, nil))
		var out bytes.Buffer
		require.NoError(t, sub.Serialize(&out))
		require.NoError(t, sig.Serialize(&out))
		return out.Bytes()
	}
	message, sig := readFixture(t, "message"), readFixture(t, "sub.message.sig")
	own := readFixture(t, "ed.pgp")
	var bare bytes.Buffer
	require.NoError(t, sub.Serialize(&bare))
	for name, claim := range map[string][]byte{
		"claimed":                    bind(true, nil),
		"claimed without flags":      bind(false, nil),
		"with the owner's signature": bind(true, victim[4].(*packet.Signature).EmbeddedSignature),
		"not even claimed":           bare.Bytes(),
	} {
		k := mustParse(t, append(bytes.Clone(own), claim...))
		all, err := verify(t, k, message, sig, day(100), nil)
		require.ErrorIs(t, err, signature.ErrUnknownKey, name)
		require.Len(t, all, 1)

		// The owner's keyring beside it still counts, in either order.
		for _, files := range [][][]byte{{append(bytes.Clone(own), claim...), readFixture(t, "sub.pgp")}, {readFixture(t, "sub.pgp"), append(bytes.Clone(own), claim...)}} {
			all, err := verify(t, mustParse(t, files...), message, sig, day(100), nil)
			require.NoError(t, err, name)
			require.Equal(t, []string{userID("sub")}, all[0].UserIDs)
		}
	}
	// A primary key that says nothing of itself, and one with a stranger's word.
	ed := parts(t, own)
	bare.Reset()
	require.NoError(t, ed[0].(*packet.PublicKey).Serialize(&bare))
	_, err = verify(t, mustParse(t, bare.Bytes()), message, readFixture(t, "ed.message.sig"), day(100), nil)
	require.ErrorIs(t, err, signature.ErrUnknownKey)
	require.NoError(t, ed[1].(*packet.UserId).Serialize(&bare))
	other := parts(t, readFixture(t, "rsa.pgp"))
	require.NoError(t, other[2].(*packet.Signature).Serialize(&bare))
	_, err = verify(t, mustParse(t, bare.Bytes()), message, readFixture(t, "ed.message.sig"), day(100), nil)
	require.ErrorIs(t, err, signature.ErrUnknownKey)
}

// rsaKey is a key packet of so many bits.
func rsaKey(bits int) []byte {
	n := bytes.Repeat([]byte{0xff}, bits/8)
	return pkt(6, slices.Concat([]byte{4, 0, 0, 0, 1, 1, byte(bits >> 8), byte(bits)}, n, []byte{0, 1, 3})...)
}

// TestAllocations has what is small in a keyring, often.
func TestAllocations(t *testing.T) {
	head := []byte{4, 0x10, 22, 8, 0, 0, 0, 10, 9, 16, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0} // up to the numbers
	long := append(bytes.Clone(head), slices.Concat([]byte{1, 0}, bytes.Repeat([]byte{0xff}, 32), []byte{1, 0}, bytes.Repeat([]byte{0xff}, 32))...)
	for name, parts := range map[string][]byte{
		"users": {0xcd, 0}, "users with a name": {0xcd, 1, 'x'}, "signatures": slices.Concat([]byte{0xc2, byte(len(long))}, long),
		"short signatures":      slices.Concat([]byte{0xc2, byte(len(head) + 6)}, head, []byte{0, 1, 1, 0, 1, 1}),
		"signatures of nothing": {0xc2, 2, 4, 0}, "trust": {0xcc, 1, 0},
		"small subkeys": {0xce, 12, 4, 0, 0, 0, 1, 1, 0, 1, 1, 0, 1, 1}, "version 3": {0xce, 6, 3, 0, 0, 0, 1, 1},
	} {
		for _, key := range [][]byte{rsaKey(512), rsaKey(8), pkt(6, 3, 0, 0, 0, 1, 1)} {
			data := append(readFixture(t, "ed.pgp"), bytes.Repeat(append(key, bytes.Repeat(parts, 1990)...), 10)...)
			_, err := fuzzbound.Parse(t, 64, func(data []byte) (*pgp.Keyring, error) { return pgp.ParseKeyring(data) }, data)
			require.NoError(t, err, name)
		}
	}
	for _, bits := range []int{8, 512} {
		_, err := fuzzbound.Parse(t, 64, func(data []byte) (*pgp.Keyring, error) { return pgp.ParseKeyring(data) }, bytes.Repeat(rsaKey(bits), 3000))
		require.Equal(t, bits < 512, err != nil)
	}
}

func TestHostileKeyrings(t *testing.T) {
	rsa := readFixture(t, "rsa.pgp")
	huge := []byte{4, 0, 0, 0, 1, 1, 0xff, 0xff}
	for name, data := range map[string][]byte{
		"empty":              {},
		"no key":             pkt(13, 'x'),
		"cut":                rsa[:100],
		"short":              pkt(6, 4),
		"large RSA key, cut": pkt(6, huge...),
		"curve beyond":       pkt(6, 4, 0, 0, 0, 1, 22, 200, 1),
		"too many users":     append(bytes.Clone(rsa), bytes.Repeat(pkt(13, 'x'), 2001)...),
		"too large a packet": append(bytes.Clone(rsa), pkt(13, make([]byte, 64<<10+1)...)...),
		"key of version 3":   pkt(6, 3, 0, 0, 0, 1, 1),
		"key of version 6":   pkt(6, 6, 0, 0, 0, 1, 27, 0xff, 0xff, 0xff, 0xff),
		"ElGamal":            pkt(6, 4, 0, 0, 0, 1, 16),
		"a signature":        readFixture(t, "ed.message.sig"),
	} {
		var err error
		spent := fuzzbound.Allocated(func() { _, err = pgp.ParseKeyring(data) })
		require.Error(t, err, name)
		require.Less(t, spent, 8<<20, name)
	}
	// What else is there does not matter: photographs, trust, strangers' keys.
	mixed := append(bytes.Clone(rsa), pkt(17, make([]byte, 200<<10)...)...)
	mixed = append(mixed, pkt(12, 0)...)
	mixed = append(mixed, pkt(6, 3, 0, 0, 0, 1, 1)...)
	mixed = append(mixed, pkt(14, 4, 0, 0, 0, 1, 16)...)
	require.Len(t, mustParse(t, mixed).Fingerprints(), 1)
}

// A signature of a large file (1 GiB in the longer run) takes no memory worth the name.
func TestVerifyIsAStream(t *testing.T) {
	k := keyring(t, "ed.asc")
	size := int64(32 << 20)
	if interop.Enabled() {
		size = 1 << 30
	}
	s := secret(t, "ed.secret.asc", "")
	sig, err := s.Sign(t.Context(), io.LimitReader(zeros{}, size), pgp.Detached, day(100), nil)
	require.NoError(t, err)
	spent := fuzzbound.Allocated(func() { _, err = k.Verify(t.Context(), io.LimitReader(zeros{}, size), sig, day(100), nil) })
	require.NoError(t, err)
	require.Less(t, spent, 1<<20)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func FuzzKeyring(f *testing.F) {
	for _, u := range users {
		f.Add(readFixture(f, u.name+".pgp"))
		f.Add(readFixture(f, u.name+".asc"))
	}
	f.Add(rsaKey(512))
	var sigs [][]byte
	for _, u := range users {
		sigs = append(sigs, readFixture(f, u.name+".message.sig"))
	}
	all := bytes.Join(sigs, nil)
	message := readFixture(f, "message")
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := fuzzbound.Parse(t, 64, func(data []byte) (*pgp.Keyring, error) { return pgp.ParseKeyring(data) }, data)
		if err != nil {
			return
		}
		for _, fpr := range k.Fingerprints() {
			require.Len(t, fpr, 40)
		}
		got, _ := verify(t, k, message, all, day(100), nil)
		require.Len(t, got, len(users))
		for _, s := range got {
			if s.Err != nil {
				require.ErrorIs(t, s.Err, signature.ErrSignature)
			}
		}
	})
}

func FuzzSignature(f *testing.F) {
	for _, u := range users {
		f.Add(readFixture(f, u.name+".message.sig"))
	}
	f.Add(readFixture(f, "ed.message.asc"))
	f.Add(readFixture(f, "ed.message.text.sig"))
	v3, _ := hex.DecodeString("88" + "45" + "03050000000000000000000000000001080000" + "0180" + strings.Repeat("ff", 48))
	f.Add(v3)
	k := keyring(f, "rsa.asc", "ed.asc", "p256.asc", "p384.asc", "p521.asc", "sub.asc")
	message := readFixture(f, "message")
	f.Fuzz(func(t *testing.T, data []byte) {
		var all []pgp.Signature
		var err error
		fuzzbound.Linear(t, len(data), 512, func() { all, err = verify(t, k, message, data, day(100), nil) })
		if err != nil {
			require.ErrorIs(t, err, signature.ErrSignature)
			return
		}
		good := slices.ContainsFunc(all, func(s pgp.Signature) bool { return s.Err == nil })
		require.True(t, good)
		_, err = verify(t, k, append([]byte{0}, message...), data, day(100), nil)
		require.ErrorIs(t, err, signature.ErrSignature)
	})
}

func FuzzOpen(f *testing.F) {
	for _, form := range forms {
		f.Add(readFixture(f, "ed.message."+form.name))
	}
	f.Add(bytes.Repeat(pkt(8, append([]byte{3}, emptyBzip2...)...), 10))
	k := keyring(f, "ed.asc")
	message := readFixture(f, "message")
	lines := func(b []byte) string {
		var out []string
		for line := range strings.Lines(string(b)) {
			out = append(out, strings.TrimRight(line, " \t\r\n"))
		}
		return strings.Join(out, "\n")
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var content []byte
		var err error
		// Decoders of bzip2 have 4 MB each, one in the other.
		fuzzbound.Within(t, 20<<20+64*len(data), func() {
			content, _, err = k.Open(t.Context(), bytes.NewReader(data), day(100), &pgp.OpenOptions{MaxSize: 64 << 10})
		})
		if err != nil {
			require.ErrorIs(t, err, signature.ErrSignature)
			require.Nil(t, content)
			return
		}
		require.Equal(t, lines(message), lines(content), "only one message is signed")
	})
}

func FuzzSecret(f *testing.F) {
	f.Add(readFixture(f, "ed.secret.asc"))
	f.Add(readFixture(f, "sub.only.secret.asc"))
	f.Add(readFixture(f, "p256.secret.asc"))
	f.Fuzz(func(t *testing.T, data []byte) {
		refused := errors.New("refused")
		s, err := fuzzbound.Parse(t, 64, func(data []byte) (*pgp.Secret, error) {
			return pgp.ParseSecret(data, &pgp.SecretOptions{Passphrase: func() ([]byte, error) { return nil, refused }})
		}, data)
		if err == nil {
			_, _ = s.Sign(t.Context(), strings.NewReader("m"), pgp.Detached, day(100), nil)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	k := keyring(b, "ed.asc")
	const size = 64 << 20
	sig, err := secret(b, "ed.secret.asc", "").Sign(b.Context(), io.LimitReader(zeros{}, size), pgp.Detached, day(100), nil)
	require.NoError(b, err)
	b.SetBytes(size)
	for b.Loop() {
		_, err := k.Verify(b.Context(), io.LimitReader(zeros{}, size), sig, day(100), nil)
		require.NoError(b, err)
	}
}

func BenchmarkSign(b *testing.B) {
	s := secret(b, "ed.secret.asc", "")
	const size = 64 << 20
	b.SetBytes(size)
	for b.Loop() {
		_, err := s.Sign(b.Context(), io.LimitReader(zeros{}, size), pgp.Detached, day(100), nil)
		require.NoError(b, err)
	}
}
