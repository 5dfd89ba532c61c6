// Package s3store is a [publish.Store] in a bucket of Amazon S3 or a server that
// speaks its protocol.
//
// The SHA-256 of an object is kept in its metadata ("x-amz-meta-sha256") and
// checked when the object is read; objects of other programs have none, and so
// have those that List gives. Info.Revision is the entity tag. Objects beyond
// one part go as a multipart upload, in parts that are read, checked and sent
// one after the other with a few in flight; if anything fails the upload is
// aborted, and what Put left of earlier uploads in a crash is invisible.
//
// IfAbsent and IfRevision become If-None-Match and If-Match. A server other
// than Amazon's is asked once whether it honours them, with a probe object that
// is removed again; one that ignores them gives [errors.ErrUnsupported]. Such a
// write is sent once: after a lost answer the caller has to look.
//
// 404 becomes [io/fs.ErrNotExist], 401 and 403 [io/fs.ErrPermission]. Amazon
// answers 403 for a missing key to those who may not list the bucket, so in an
// anonymous store 403 is both of them.
//
// All retries are those of one transport ([Options]); the SDK's are off, and so
// is its logging. Errors show neither keys nor signatures.
package s3store
