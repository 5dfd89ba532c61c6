package pgp

import (
	"bytes"
	"io"
	"slices"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
)

// Types of armoured blocks, RFC 4880 section 6.2.
const (
	blockSignature = "PGP SIGNATURE"
	blockMessage   = "PGP MESSAGE"
	blockPublic    = "PGP PUBLIC KEY BLOCK"
	blockSecret    = "PGP PRIVATE KEY BLOCK"
	blockClear     = "PGP SIGNED MESSAGE"
)

// isBinary tells packets from armour: every packet begins with a set high bit.
func isBinary(data []byte) bool { return len(data) > 0 && data[0]&0x80 != 0 }

// dearmor gives the packets in data, which are binary or in armoured blocks of
// the types allowed, one after the other.
func dearmor(data []byte, types ...string) ([]byte, error) {
	if isBinary(data) {
		return data, nil
	}
	var out []byte
	for {
		start := bytes.Index(data, []byte("-----BEGIN PGP "))
		if start < 0 {
			break
		}
		data = data[start:]
		name, _, ok := bytes.Cut(data[len("-----BEGIN "):min(len(data), 80)], []byte("-----"))
		if !ok {
			return nil, malformed("armour has no first line")
		}
		if !slices.Contains(types, string(name)) {
			return nil, malformed("a %.30q where there should be a %s", name, types[0])
		}
		last := []byte("\n-----END " + string(name) + "-----")
		end := bytes.Index(data, last)
		if end < 0 {
			return nil, malformed("armour has no last line")
		}
		end += len(last)
		block, err := armor.Decode(bytes.NewReader(data[:end]))
		if err != nil {
			return nil, malformed("armour")
		}
		packets, err := io.ReadAll(block.Body)
		if err != nil {
			return nil, malformed("armour")
		}
		out = append(out, packets...)
		data = data[end:]
	}
	if len(out) == 0 {
		return nil, malformed("no OpenPGP data")
	}
	return out, nil
}

// enarmor makes an armoured block with its checksum, for readers that want one.
func enarmor(packets []byte, kind string) ([]byte, error) {
	var out bytes.Buffer
	w, err := armor.EncodeWithChecksumOption(&out, kind, nil, true)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(packets); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// looksClear tells a clear-signed text by its first line.
func looksClear(data []byte) bool {
	return bytes.HasPrefix(data, []byte("-----BEGIN "+blockClear+"-----"))
}
