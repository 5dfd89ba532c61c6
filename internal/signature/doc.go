// Package signature holds what the rooms that make and check signatures share:
// why a signature is not accepted, and reading a message under a context.
package signature
