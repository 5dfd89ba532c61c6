// Package layoutregistry is a [publish.Registry] in a folder: one OCI image
// layout for each repository, at the repository's path.
//
//	dir/okd/scos-release/oci-layout
//	dir/okd/scos-release/index.json
//	dir/okd/scos-release/blobs/sha256/…
//
// The registry host of a reference is not used: quay.io/okd/scos-release and
// localhost/okd/scos-release are the same folder. Each layout is complete in
// itself, so skopeo reads it as oci:dir/okd/scos-release:TAG and
// publish/registryserver serves the whole folder over HTTP.
//
// # index.json
//
// A tag is an entry with the annotation org.opencontainers.image.ref.name. A
// manifest that was written but not tagged, or that lost its last tag, is an
// entry without it, and so stays findable by digest. The children of an index
// are not entries; they are found through their parent, as other tools that
// write layouts have it. Entries that do not change, and keys that this package
// does not know, are kept byte for byte.
//
// A [Registry] remembers what index.json says of the repositories used last, up
// to 16 MiB of such files, and compares the file's bytes each time: it is never
// behind another writer, and of 3,000 tags one is found in 0.1 ms.
//
// # Writing
//
// Blobs come in without a lock, many at a time. index.json has one writer at a
// time, in all processes: it holds an advisory lock (flock) on the repository's
// folder while it writes manifests, which must find there what they name, and
// the index, and while it removes files. Readers need no lock. Everything is
// written to the folder .tmp of the repository and renamed into place after its
// digest was checked and, unless [Options.NoSync] is set, its bytes were synced:
// blobs first, then manifests, then index.json. A file in .tmp is locked by its
// writer; what a killed one left is removed by the next.
//
// A blob is linked instead of copied when its reader is an [*os.File], or has
// a method File() *os.File, that stands at its start, and the file system
// allows it: by hard link where the file has no write permission for anyone
// (so it is taken for immutable, as the blobs of this package are), else by
// reflink. The digest is checked then too. Between repositories of the folder
// blobs are always linked; [Registry.MountBlob] reads none of their bytes.
//
// # Referrers
//
// The manifests with a subject are listed for [Registry.Referrers] in the form
// in which olareg keeps them: an index among the blobs, named
// in index.json by the annotation org.olareg.referrer.subject. Lists that other
// tools tag sha256-… are read as well. For other tools they are indexes without
// a tag.
//
// # Removing
//
// [Registry.Untag] and [Registry.Delete] change index.json, [Registry.GC]
// removes files; [Registry.Verify] finds what is missing or damaged.
package layoutregistry
