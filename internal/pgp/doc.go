// Package pgp makes and checks OpenPGP signatures (RFC 4880) the way GnuPG 2.2
// does: detached, binary or armoured; around a message; and as clear text.
//
// Packets are read by ProtonMail/go-crypto behind checks of our own that bound
// what hostile ones can ask for. Which key may have signed, whether it expired
// or was revoked, and what a signature says is judged here, by GnuPG's rules
// (its verdicts are the test): a revocation counts from the beginning of time,
// the newest self-signature decides, a signing subkey must have signed its
// primary key. Beyond GnuPG, SHA-1 and MD5 are refused for messages, and RSA
// below 2048 bits and DSA at all ([signature.ErrWeak]).
//
// Signatures of version 3 are read (container signatures of old releases are
// such), ones of version 5 and 6 and curves other than NIST's and Ed25519 are
// not: [errors.ErrUnsupported].
package pgp
