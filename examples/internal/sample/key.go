package sample

import (
	"bytes"
	"crypto"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Key makes a key pair for signing, of no value: another each time.
func Key() (secret, public []byte, err error) {
	e, err := openpgp.NewEntity("OKD Streams sample", "of no value", "", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, DefaultHash: crypto.SHA256, Time: func() time.Time { return Epoch },
	})
	if err != nil {
		return nil, nil, err
	}
	var s, p bytes.Buffer
	if err := e.SerializePrivate(&s, &packet.Config{Time: func() time.Time { return Epoch }}); err != nil {
		return nil, nil, err
	}
	err = e.Serialize(&p)
	return s.Bytes(), p.Bytes(), err
}
