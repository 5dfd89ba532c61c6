// Package cosign makes and checks signatures of images with keys, as cosign
// does: an image of payloads at the tag sha256-<digest>.sig beside the signed
// one (cosign's specs/SIGNATURE_SPEC.md), and a Sigstore bundle of version 0.3
// in a manifest that refers to the signed one (OCI 1.1), cosign's default since
// version 3. It makes and reads values; it moves nothing.
//
// Certificates, transparency logs and timestamps are not looked at: trust is in
// keys alone.
package cosign
