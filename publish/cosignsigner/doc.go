// Package cosignsigner signs and verifies images, and files, with keys as
// cosign does. Signatures are values here, v1.Image, for a registry to move:
//
//   - [Signer.Image] makes the image of signatures that is tagged [Tag] beside
//     the signed one, which clusters and containers/image policies read;
//   - [Signer.Bundle] makes the manifest that refers to the signed one, with a
//     Sigstore bundle, which cosign makes by default since version 3. Ask the
//     registry for referrers of [BundleType].
//
// What is verified is the key, the digest of the image and the name that it was
// signed under. Certificates, transparency logs and timestamps are not looked
// at. A signer is also a publish.Signer for files, as cosign sign-blob.
package cosignsigner
