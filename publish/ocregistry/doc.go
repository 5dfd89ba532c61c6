// Package ocregistry is a registry in the folder that
// `oc adm release mirror --to-dir` and `oc image mirror file://…` write and
// read, for carrying images to where no registry can be reached from:
//
//	v2/REPOSITORY/blobs/sha256:HEX          blobs, manifests among them
//	v2/REPOSITORY/manifests/sha256:HEX      the same file as the blob
//	v2/REPOSITORY/manifests/TAG             a link to the manifest
//
// (measured on oc 4.20). The host of a reference is not looked at. Colons in
// names of files rule out file systems of Windows.
//
// A blob is written under a temporary name and renamed when all of it is there,
// so that a killed writer leaves nothing that counts, and what it finished is
// not written again. The folder has no place for referrers; they are listed by
// the tag schema of the distribution specification, sha256-HEX, as in a
// registry without the referrers API, so that they survive a walk through oc.
package ocregistry
