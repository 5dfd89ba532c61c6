// Package signaturepolicy decides by a containers-policy.json(5), as skopeo,
// podman, bootc and `ostree container` read it, whether an image may be used.
//
// [Decode] reads the file, [Policy.Verify] judges an image by its manifest's
// digest and its name; the caller reads keys, and signatures from where they are:
// beside the image in its registry (cosign's), or where registries.d says
// ([Lookaside], OpenPGP's). Of requirements there are insecureAcceptAnything,
// reject, signedBy with GPGKeys, and sigstoreSigned with public keys. An image
// that needs another one (Fulcio's or a PKI's certificates, a Rekor key,
// signedBaseLayer) is refused with [errors.ErrUnsupported].
//
// Differences from containers/image: cosign's signatures are looked for whether or
// not registries.d has use-sigstore-attachments; keys and algorithms are judged
// as the packages pgpsigner and cosignsigner do, which is stricter.
package signaturepolicy
