// Package signature holds what the rooms that make and check signatures share:
// why a signature is not accepted, reading a message under a context, and what is
// signed of a container image.
package signature
