// Package ed25519signer makes and checks the Ed25519 signatures of OSTree
// commits and summaries: 64 bytes over the message, keys as base64 text.
package ed25519signer
