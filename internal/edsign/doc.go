// Package edsign makes and checks Ed25519 signatures as OSTree does
// (ostree-sign-ed25519.c): 64 bytes over the message as it is, keys in base64,
// several to a file, one a line.
package edsign
