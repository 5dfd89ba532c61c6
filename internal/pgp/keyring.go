package pgp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// MaxKeyringSize bounds one file of keys, in bytes.
const MaxKeyringSize = 8 << 20

// maxParts bounds the user ids, subkeys and signatures of one key.
const maxParts = 2000

// Keys of RSA that are read. maxRSABits bounds the work of one check; GnuPG makes at
// most 4096. Keys of less than minRSABits, which anyone can break, are not worth the
// kilobyte that each takes, be it of 14 bytes.
const (
	minRSABits = 512
	maxRSABits = 16384
)

// Keyring is the keys that signatures are checked against. It does not change
// once made and may be used from any goroutine.
type Keyring struct {
	certs   []*cert
	byPrint map[string]*cert // by the primary key's fingerprint
	byID    map[uint64][]*key
}

func newKeyring() *Keyring {
	return &Keyring{byPrint: make(map[string]*cert), byID: make(map[uint64][]*key)}
}

// ParseKeyring reads public keys, binary or armoured, from any number of
// files. What several files say of the same key is put together: a revocation
// in one counts for the key in another. Keys whose kind cannot be checked here
// stay in the keyring, so that a signature by one is reported as such.
func ParseKeyring(files ...[]byte) (*Keyring, error) {
	k := newKeyring()
	for i, data := range files {
		if err := k.add(data); err != nil {
			return nil, fmt.Errorf("pgp: keyring %d of %d: %w", i+1, len(files), err)
		}
	}
	return k, k.index()
}

// ReadKeyring is [ParseKeyring] for every regular file of a folder, but those
// whose names begin with a dot. A file that is no keyring is an error.
func ReadKeyring(dir fs.FS) (*Keyring, error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, fmt.Errorf("pgp: keyrings: %w", err)
	}
	k := newKeyring()
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") || entry.IsDir() {
			continue
		}
		data, err := readFile(dir, entry.Name())
		if err == nil && data != nil {
			err = k.add(data)
		}
		if err != nil {
			return nil, fmt.Errorf("pgp: keyring %s: %w", path.Base(entry.Name()), err)
		}
	}
	return k, k.index()
}

// readFile gives a regular file's content, nil if it is something else.
func readFile(dir fs.FS, name string) ([]byte, error) {
	file, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(file, MaxKeyringSize+1))
}

// add reads one file.
func (k *Keyring) add(data []byte) error {
	certs, err := parseCerts(data, blockPublic)
	if err != nil {
		return err
	}
	for _, c := range certs {
		k.merge(c)
	}
	return nil
}

// merge adds c, or what it says to the same key that is there already.
func (k *Keyring) merge(c *cert) {
	have := k.byPrint[c.primary.fingerprint()]
	if have == nil {
		k.byPrint[c.primary.fingerprint()] = c
		k.certs = append(k.certs, c)
		return
	}
	have.direct = append(have.direct, c.direct...)
	have.revocations = append(have.revocations, c.revocations...)
	have.uids = append(have.uids, c.uids...)
	for _, sub := range c.subs {
		sub.cert = have
		have.subs = append(have.subs, sub)
	}
	have.join()
}

// index finishes a keyring; one without keys is useless and an error.
func (k *Keyring) index() error {
	if len(k.certs) == 0 {
		return fmt.Errorf("pgp: keyring: no key that signatures can be checked with: %w", fs.ErrNotExist)
	}
	for _, c := range k.certs {
		for _, key := range c.keys() {
			k.byID[key.pub.KeyId] = append(k.byID[key.pub.KeyId], key)
		}
	}
	return nil
}

// Fingerprints are those of the primary keys, in the order they were read.
func (k *Keyring) Fingerprints() []string {
	all := make([]string, len(k.certs))
	for i, c := range k.certs {
		all[i] = c.primary.fingerprint()
	}
	return all
}

// parseCerts reads keys with what follows each: user ids, subkeys and
// signatures (RFC 4880 section 11.1).
func parseCerts(data []byte, kind string) ([]*cert, error) {
	if len(data) > MaxKeyringSize {
		return nil, malformed("keyring of more than %d bytes", MaxKeyringSize)
	}
	if len(data) >= 12 && string(data[8:12]) == "KBXf" {
		return nil, fmt.Errorf("GnuPG's keybox, of which gpg --export makes a keyring: %w", errors.ErrUnsupported)
	}
	raw, err := dearmor(data, kind)
	if err != nil {
		return nil, err
	}
	var certs []*cert
	var c *cert                   // nil after a key that is left out
	var sigs *[]*packet.Signature // where the signatures go that come next
	seen, parts := false, 0
	for p := newPackets(bytes.NewReader(raw)); ; {
		tag, r, err := p.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if parts++; parts > maxParts {
			return nil, malformed("key with more than %d parts", maxParts)
		}
		switch tag {
		case tagPublicKey, tagSecretKey, tagPublicSubkey, tagSecretSubkey:
			seen = true
			sub := tag == tagPublicSubkey || tag == tagSecretSubkey
			sigs = nil
			if !sub {
				c, parts = nil, 0
			} else if c == nil {
				continue
			}
			body, err := readPacket(r)
			if err != nil {
				return nil, err
			}
			if (tag == tagSecretKey || tag == tagSecretSubkey) && kind == blockPublic {
				return nil, malformed("a secret key in a keyring")
			}
			key, err := parseKey(tag, body)
			if errors.Is(err, errors.ErrUnsupported) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if sub {
				key.cert = c
				c.subs = append(c.subs, key)
			} else {
				c = &cert{primary: key}
				key.cert = c
				certs = append(certs, c)
			}
			sigs = &key.sigs
		case tagUserID:
			sigs = nil
			if c == nil {
				continue
			}
			id, err := readPacket(r)
			if err != nil {
				return nil, err
			}
			u := &uid{name: string(id)}
			c.uids = append(c.uids, u)
			sigs = &u.sigs
		case tagSignature:
			if c == nil || sigs == nil {
				continue
			}
			body, err := readPacket(r)
			if err != nil {
				return nil, err
			}
			// Signatures that cannot be read, or are by others, say nothing here.
			if sig, err := parseSignature(body); err == nil && sig.CheckKeyIdOrFingerprint(c.primary.pub) {
				*sigs = append(*sigs, sig)
			}
		case tagTrust, tagMarker, tagPadding:
		case tagOnePass, tagCompressed, tagLiteral:
			return nil, malformed("a message where there should be keys")
		default: // photographs and what else is not for signing
			sigs = nil
		}
	}
	if !seen {
		return nil, malformed("no key")
	}
	for _, c := range certs {
		c.sort()
		c.join()
	}
	return certs, nil
}

// join makes one of the user ids and of the subkeys that are there twice.
func (c *cert) join() {
	uids := make(map[string]*uid)
	c.uids = slices.DeleteFunc(c.uids, func(u *uid) bool {
		have := uids[u.name]
		if have == nil {
			uids[u.name] = u
			return false
		}
		have.sigs = append(have.sigs, u.sigs...)
		return true
	})
	subs := make(map[string]*key)
	c.subs = slices.DeleteFunc(c.subs, func(sub *key) bool {
		have := subs[sub.fingerprint()]
		if have == nil {
			subs[sub.fingerprint()] = sub
			return false
		}
		have.sigs = append(have.sigs, sub.sigs...)
		return true
	})
}

// sort puts the signatures right after the primary key where they are looked for.
func (c *cert) sort() {
	for _, sig := range c.primary.sigs {
		switch sig.SigType {
		case packet.SigTypeKeyRevocation:
			c.revocations = append(c.revocations, sig)
		case packet.SigTypeDirectSignature:
			c.direct = append(c.direct, sig)
		}
	}
	c.primary.sigs = nil
}

// Curves that a key may be on, as GnuPG writes them (RFC 6637 section 11 and
// draft-koch-eddsa-for-openpgp).
var (
	oidP256    = []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}
	oidP384    = []byte{0x2b, 0x81, 0x04, 0x00, 0x22}
	oidP521    = []byte{0x2b, 0x81, 0x04, 0x00, 0x23}
	oidEd25519 = []byte{0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01}
)

// parseKey reads a key packet; [errors.ErrUnsupported] for one that can never
// have made a signature that is checked here.
func parseKey(tag byte, body []byte) (*key, error) {
	if len(body) < 6 {
		return nil, malformed("key of %d bytes", len(body))
	}
	if body[0] != 4 {
		return nil, fmt.Errorf("key of version %d: %w", body[0], errors.ErrUnsupported)
	}
	switch algo := packet.PublicKeyAlgorithm(body[5]); algo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		if len(body) < 8 {
			return nil, malformed("key is cut off")
		}
		if bits := binary.BigEndian.Uint16(body[6:]); bits < minRSABits || bits > maxRSABits {
			return nil, fmt.Errorf("RSA key of %d bits: %w", bits, errors.ErrUnsupported)
		}
	case packet.PubKeyAlgoECDSA, packet.PubKeyAlgoEdDSA:
		if len(body) < 7 || len(body) < 7+int(body[6]) {
			return nil, malformed("key is cut off")
		}
		oid := body[7 : 7+int(body[6])]
		known := bytes.Equal(oid, oidEd25519)
		if algo == packet.PubKeyAlgoECDSA {
			known = bytes.Equal(oid, oidP256) || bytes.Equal(oid, oidP384) || bytes.Equal(oid, oidP521)
		}
		if !known {
			return nil, fmt.Errorf("key on curve %x: %w", oid, errors.ErrUnsupported)
		}
	default:
		return nil, fmt.Errorf("key of algorithm %d: %w", algo, errors.ErrUnsupported)
	}
	if tag == tagSecretKey || tag == tagSecretSubkey {
		return parseSecret(tag, body)
	}
	p, err := packet.Read(bytes.NewReader(frame(tag, body)))
	if err != nil {
		return nil, keyError(err)
	}
	pub, ok := p.(*packet.PublicKey)
	if !ok {
		return nil, malformed("key packet")
	}
	return &key{pub: pub}, nil
}

// keyError never has a key's bytes in it: only which of the library's checks
// failed.
func keyError(err error) error {
	return malformed("key packet (%T)", err)
}
