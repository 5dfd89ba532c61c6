package pgp

import (
	"crypto"
	"crypto/rsa"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// cert is a primary key and what it says of itself.
type cert struct {
	primary     *key
	uids        []*uid
	subs        []*key
	direct      []*packet.Signature // of the primary key by itself
	revocations []*packet.Signature // of the primary key
	once        sync.Once           // guards proof of the signatures
}

type uid struct {
	name string
	sigs []*packet.Signature
}

// key is a primary key or subkey.
type key struct {
	cert   *cert
	pub    *packet.PublicKey
	secret *packet.PrivateKey  // nil in keyrings
	sigs   []*packet.Signature // bindings and revocations of a subkey
}

func (k *key) fingerprint() string { return strings.ToUpper(hex.EncodeToString(k.pub.Fingerprint)) }

func (c *cert) keys() []*key { return append([]*key{c.primary}, c.subs...) }

// selfDigest tells the digests that keys may be bound with. SHA-1 is among
// them: old keys that are still in use have nothing else, and finding two keys
// with one self-signature takes the owner of the key.
func selfDigest(h crypto.Hash) bool { return h == crypto.SHA1 || messageDigest(h) }

// messageDigest tells the digests that messages may be signed with.
func messageDigest(h crypto.Hash) bool {
	return h == crypto.SHA256 || h == crypto.SHA384 || h == crypto.SHA512 || h == crypto.SHA224
}

// prove drops every signature that the primary key did not make. It is done
// once, when a signature by one of the keys is first looked at.
func (c *cert) prove() {
	c.once.Do(func() {
		self := c.primary.pub
		keep := func(sigs []*packet.Signature, good func(*packet.Signature) bool) []*packet.Signature {
			return slices.DeleteFunc(sigs, func(sig *packet.Signature) bool {
				return !selfDigest(sig.Hash) || hasUnknownCriticalNotation(sig) ||
					sig.CreationTime.Before(self.CreationTime) || !good(sig)
			})
		}
		c.direct = keep(c.direct, func(sig *packet.Signature) bool { return self.VerifyDirectKeySignature(sig) == nil })
		c.revocations = keep(c.revocations, func(sig *packet.Signature) bool { return self.VerifyRevocationSignature(sig) == nil })
		for _, u := range c.uids {
			u.sigs = keep(u.sigs, func(sig *packet.Signature) bool {
				return isUserIDSignature(sig.SigType) && self.VerifyUserIdSignature(u.name, self, sig) == nil
			})
		}
		for _, sub := range c.subs {
			sub.sigs = keep(sub.sigs, func(sig *packet.Signature) bool {
				switch sig.SigType {
				case packet.SigTypeSubkeyBinding, packet.SigTypeSubkeyRevocation:
					return self.VerifySubkeyRevocationSignature(sig, sub.pub) == nil // both hash the two keys
				}
				return false
			})
		}
	})
}

func isUserIDSignature(t packet.SignatureType) bool {
	switch t {
	case packet.SigTypeGenericCert, packet.SigTypePersonaCert, packet.SigTypeCasualCert, packet.SigTypePositiveCert,
		packet.SigTypeCertificationRevocation:
		return true
	}
	return false
}

// state is what a key is at one time.
type state struct {
	bound   bool      // the primary key says it belongs to it; itself, that it has a user
	crossed bool      // a subkey says so too
	signs   bool      // may sign messages
	revoked bool      // whenever that was
	expires time.Time // zero: never
	userIDs []string  // of the primary key, those not revoked, the main one first
}

// expired follows GnuPG: the second named is still good.
func (s *state) expired(now time.Time) bool { return !s.expires.IsZero() && s.expires.Before(now) }

// at judges k at a time, as GnuPG's merge_selfsigs does.
func (k *key) at(now time.Time) state {
	k.cert.prove()
	primary := k.cert.primaryAt(now)
	if k == k.cert.primary {
		return primary
	}
	s := state{revoked: primary.revoked, userIDs: primary.userIDs}
	var binding *packet.Signature
	for _, sig := range k.sigs {
		switch {
		case sig.SigType == packet.SigTypeSubkeyRevocation:
			s.revoked = true // even if bound again later
		case sigExpired(sig, now):
		case binding == nil || !sig.CreationTime.Before(binding.CreationTime):
			binding = sig
		}
	}
	if binding == nil {
		return s
	}
	s.bound = primary.bound
	s.signs = maySign(binding, k.pub)
	s.expires = expiry(binding, k.pub)
	if primary.expired(now) {
		s.expires = primary.expires
	}
	s.crossed = k.crossSigned(binding)
	return s
}

// crossSigned tells whether the subkey signed its primary key in return,
// without which anyone could claim someone else's subkey as theirs.
func (k *key) crossSigned(binding *packet.Signature) bool {
	back := binding.EmbeddedSignature
	if back == nil || !selfDigest(back.Hash) {
		return false
	}
	h, err := back.PrepareVerify()
	if err != nil {
		return false
	}
	if k.cert.primary.pub.SerializeForHash(h) != nil || k.pub.SerializeForHash(h) != nil {
		return false
	}
	return k.pub.VerifySignature(h, back) == nil
}

// primaryAt judges the primary key: by its newest signature on itself and,
// where that says nothing, by the newest on its user ids.
func (c *cert) primaryAt(now time.Time) state {
	pub := c.primary.pub
	s := state{revoked: len(c.revocations) > 0, crossed: true}
	var usage, lifetime *packet.Signature
	for _, sig := range c.direct {
		if !sigExpired(sig, now) && (usage == nil || !sig.CreationTime.Before(usage.CreationTime)) {
			usage = sig
		}
	}
	if usage != nil {
		s.bound = true
		lifetime = usage
		if expiry(lifetime, pub).IsZero() {
			lifetime = nil
		}
		if !usage.FlagsValid {
			usage = nil
		}
	}
	fromUsers, fromUsersLifetime := usage == nil, lifetime == nil
	type user struct {
		name string
		sig  *packet.Signature
	}
	var users []user
	for _, u := range c.uids {
		newest := u.newest(now)
		if newest == nil {
			continue
		}
		s.bound = true
		if newest.SigType == packet.SigTypeCertificationRevocation {
			continue
		}
		users = append(users, user{u.name, newest})
		if fromUsers && newest.FlagsValid && (usage == nil || newest.CreationTime.After(usage.CreationTime)) {
			usage = newest
		}
		if fromUsersLifetime && !expiry(newest, pub).IsZero() &&
			(lifetime == nil || newest.CreationTime.After(lifetime.CreationTime)) {
			lifetime = newest
		}
	}
	slices.SortStableFunc(users, func(a, b user) int {
		main := func(u user) bool { return u.sig.IsPrimaryId != nil && *u.sig.IsPrimaryId }
		if main(a) != main(b) {
			if main(a) {
				return -1
			}
			return 1
		}
		return b.sig.CreationTime.Compare(a.sig.CreationTime)
	})
	for _, u := range users {
		s.userIDs = append(s.userIDs, u.name)
	}
	s.signs = maySign(usage, pub)
	if lifetime != nil {
		s.expires = expiry(lifetime, pub)
	}
	return s
}

// newest is the newest signature on a user id, a revocation included.
func (u *uid) newest(now time.Time) *packet.Signature {
	var newest *packet.Signature
	for _, sig := range u.sigs {
		if !sigExpired(sig, now) && (newest == nil || !sig.CreationTime.Before(newest.CreationTime)) {
			newest = sig
		}
	}
	return newest
}

// maySign reads the key flags of a self-signature. A key without flags may do
// what its algorithm can.
func maySign(sig *packet.Signature, pub *packet.PublicKey) bool {
	if sig == nil || !sig.FlagsValid {
		return pub.PubKeyAlgo.CanSign()
	}
	return sig.FlagSign && pub.PubKeyAlgo.CanSign()
}

// expiry is when pub expires according to sig; zero: never.
func expiry(sig *packet.Signature, pub *packet.PublicKey) time.Time {
	if sig.KeyLifetimeSecs == nil || *sig.KeyLifetimeSecs == 0 {
		return time.Time{}
	}
	return pub.CreationTime.Add(time.Duration(*sig.KeyLifetimeSecs) * time.Second)
}

// sigExpires is when a signature expires; zero: never.
func sigExpires(sig *packet.Signature) time.Time {
	if sig.SigLifetimeSecs == nil || *sig.SigLifetimeSecs == 0 {
		return time.Time{}
	}
	return sig.CreationTime.Add(time.Duration(*sig.SigLifetimeSecs) * time.Second)
}

// sigExpired follows GnuPG: the second named is too late.
func sigExpired(sig *packet.Signature, now time.Time) bool {
	end := sigExpires(sig)
	return !end.IsZero() && !now.Before(end)
}

// rsaBits is the size of an RSA key, 0 of others.
func rsaBits(pub *packet.PublicKey) int {
	if k, ok := pub.PublicKey.(*rsa.PublicKey); ok {
		return k.N.BitLen()
	}
	return 0
}

// hasUnknownCriticalNotation: whoever signed wants such a signature refused by
// those who do not know the notation, and none are known here.
func hasUnknownCriticalNotation(sig *packet.Signature) bool {
	return slices.ContainsFunc(sig.Notations, func(n *packet.Notation) bool { return n.IsCritical })
}
