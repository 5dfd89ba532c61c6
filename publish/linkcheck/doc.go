// Package linkcheck reads back what published documents name: disks, their
// signatures, other documents, container images. It answers for each link of a
// document whether a reader who follows it finds what the document promises.
//
// # Documents
//
// [Links] knows stream metadata, release.json, the index of releases, builds.json
// and meta.json (whose names are relative), the coreos-bootimages ConfigMap with
// the documents inside it, rhcos.json of old installers, and update graphs. It
// knows them by their keys, so platforms that are new, and documents of other
// origin with the same keys, are read, too:
//
//	location, url            the address of a file; sha256, size, signature beside it
//	digest-ref, image        a container image; image only beside digest or digest-ref
//	payload                  a container image by digest
//	metadata                 in the index of releases, beside version: a document
//	images.NAME.path         in meta.json: a file beside it
//	builds[].id, arches      in builds.json: ID/ARCH/meta.json
//
// Ids of cloud images and addresses in prose are no links.
//
// # Looking
//
// [Check] looks links up: in a [Store] where their address is below that of a
// [Mount], else over HTTP; images in a [Registry]. Existence is one request a
// distinct address, however many links name it; size and, where a store knows
// it, checksum are compared for nothing. Bytes are read and hashed on request.
//
// # Trust
//
// Whoever writes a document chooses where a check sends requests. Addresses
// other than http and https are not followed (below a mount any are), nor are
// those with a user or password. Hosts within the machine or the network it is
// in (loopback, private, link-local and other addresses that are not of the
// public internet) are refused unless [Options.AllowPrivate] is set: by their
// name or number before a request, and, with the transport of this package, by
// the address that is really dialled. Behind a proxy the proxy decides.
//
// Redirects are followed, at most ten, by the same rules. No request carries
// credentials, cookies or a referrer; a caller's Transport that adds them must
// look at the host. Numbers of links, sizes of documents and bytes that are read
// are bounded.
package linkcheck
