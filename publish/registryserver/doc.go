// Package registryserver serves a folder of OCI layouts, as
// publish/layoutregistry keeps it, over the OCI distribution protocol. It is
// made for loopback: for tests, for the registry that a local run pushes to,
// and for a cluster that pulls from a laptop.
//
// # Beside other writers
//
// The server changes index.json under the lock (flock) of the repository's
// folder that layoutregistry takes too, and looks at the file anew before. So
// any number of servers and layoutregistry writers, in any processes of one
// machine, work on the folder at once and no entry is lost; its garbage
// collection runs beside the server. Tools that take no lock, such as skopeo's
// oci: transport, may lose entries of others, and others theirs, when they write
// at the same moment.
//
// Blobs are mounted by hard links. Referrers are kept as layoutregistry keeps
// them, in olareg's form. Nothing waits for the disk: a power failure may lose
// or damage what was pushed shortly before, a killed process never does, and
// layoutregistry's Verify tells.
//
// # Uploads
//
// What comes of a blob goes to a file in the folder _uploads of its repository
// at once, and gets its name when the digest is right. At most 256 uploads are
// open; one more ends the one that was idle for longest. Those that are not
// finished are removed by [Server.Close], those of a killed server by the next
// [Open] or by layoutregistry's garbage collection. Where the disk is full the
// answer is 507 and nothing is left of the upload.
//
// # What is served
//
// All of the OCI distribution specification 1.1 but the deletion of blobs, which
// garbage collection does: its conformance suite finds nothing else. Blobs and
// manifests may have digests of SHA-512. Uploads come whole, in chunks or as a
// stream, and may be resumed and cancelled, or spared by mounting a blob of another
// repository, which the request has to name. Lists of tags come in pages where the
// client asks for that, lists of referrers never. Answers to GET have ranges. A
// client that takes no index (Accept) and asks for one by a tag gets the first image
// in it that it takes.
//
// A manifest has at most 4 MiB, and what it names must be there in the size that
// it gives. A manifest that an index of the repository names cannot be deleted
// before that index. Other media types than those of images and indexes, of OCI
// and of Docker's version 2, are refused.
//
// # In place of olareg
//
// This package was once a room around olareg, version 0.2.2, which took manifests of
// 8 MiB, deleted one that an index names, and listed referrers in pages.
package registryserver
