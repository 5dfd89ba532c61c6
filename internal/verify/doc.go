// Package verify checks bytes against the digest and size promised for them
// before the end of the stream is reported, so that a caller who reads to
// [io.EOF] has read what was promised and nothing else.
package verify
