// Package pgpsigner makes and checks OpenPGP signatures: of boot images and
// checksum files (detached), OSTree commits (detached), release payloads (an
// atomic container signature is a signed message) and texts (clear-signed).
//
// A [Keyring] is what is trusted; a [Verifier] judges by it and by a clock, as
// GnuPG 2.2 judges: the newest self-signatures of a key decide, a revoked key or
// subkey counts for nothing whenever the signature was made, and an expired key
// no more unless that is asked for. Signatures over SHA-1 or MD5, by DSA keys
// or by RSA keys below 2048 bits are publish.ErrWeak, which GnuPG is not as
// strict about. Keys are RSA, Ed25519 and ECDSA on NIST's curves, of version 4;
// others stay out of a keyring.
//
// A [Signer] signs with a key exported from GnuPG; the same message, key and
// time give the same bytes. No process is started and no folder of GnuPG's is
// read. What a verifier refuses is told apart by publish.ErrUnknownKey,
// publish.ErrExpired, publish.ErrRevoked and publish.ErrWeak, all of which
// are publish.ErrSignature.
package pgpsigner
