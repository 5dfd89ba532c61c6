// Package s3store is a [publish.Store] in a bucket of Amazon S3 or a server that
// speaks its protocol.
//
// The SHA-256 of an object is kept in its metadata ("x-amz-meta-sha256", with the
// size it is of in "x-amz-meta-sha256-size") and checked when the object is
// read; objects of other programs have none, and so have those that List gives.
// Info.Revision is the entity tag. A read that breaks off goes on with a range
// of the same revision.
//
// Objects beyond one part go as a multipart upload, in parts that are read,
// checked and sent one after the other with a few in flight. If that fails the
// upload is aborted, or, with Options.Uploads, remembered where a later Put may
// do better: that one compares each part the server holds with its own bytes (by
// MD5, which is what S3 tells of parts) and sends the others. What killed
// writers leave is invisible; [Store.Uploads] and [Store.AbortUpload] find and
// remove it. A server that says that it checks parts gets a CRC-32 of each; the
// request's signature is of its headers then, not of the part. Over plain HTTP
// somebody on the way could change both, which is found out when the object is
// read: its SHA-256 was signed.
//
// IfAbsent and IfRevision become If-None-Match and If-Match. A server other
// than Amazon's is asked once whether it honours them, with a probe object that
// is removed again; one that ignores them gives [errors.ErrUnsupported], unless
// Config.SingleWriter allows to look before the write. A conditional write is
// sent once: after a lost answer the caller has to look.
//
// 404 becomes [io/fs.ErrNotExist], 401 and 403 [io/fs.ErrPermission]. Amazon
// answers 403 for a missing key to those who may not list the bucket, so in an
// anonymous store 403 is both of them.
//
// All retries are those of one transport ([Options]); the SDK's are off, and so
// is its logging. Errors show neither keys nor signatures.
package s3store
