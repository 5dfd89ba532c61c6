// Package httpstore is a read-only [publish.Store] over a web server: what is
// published under a base URL, such as https://builds.example/prod/streams.
//
// A key is a path below the base URL. The revision of an object is its strong
// ETag (RFC 9110, 8.8.3), or else its Last-Modified time and size; a server
// that tells neither gets a revision that is another one each time. A weak ETag
// is taken together with the size. The SHA-256 is known where the server sends
// x-amz-meta-sha256, as buckets do for objects that s3store put, or Repr-Digest
// (RFC 9530), and then checked while reading.
//
// A transfer that breaks off is taken up again by a ranged request, if there is
// a strong ETag or a Last-Modified time to be sure that the object is still the
// same; one that is not gives [publish.ErrConflict]. A server that ignores
// ranges is read from the beginning again, and what was there already thrown
// away. The length is always checked; bytes are only where a digest is known,
// so callers that need to be sure verify what they read.
//
// Bytes are those the server sends, never decompressed. Put, Delete and List
// answer [errors.ErrUnsupported]: a web server has no listing. 404 and 410 are
// [fs.ErrNotExist], 401 and 403 [fs.ErrPermission]; a bucket that may not be
// listed says 403 of objects that do not exist. Redirects are followed without
// credentials, and never from https to http.
package httpstore
