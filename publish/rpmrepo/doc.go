// Package rpmrepo looks into the RPM repositories of a stream, and says which
// packages that its definition asks for none of them has, or hides behind
// credentials, before a build runs for an hour to find it out. [Check] is all of
// it. Dependencies are not solved.
//
// # Repositories
//
// A repository is what createrepo_c writes: BASEURL/repodata/repomd.xml, which
// names primary.xml with its checksum. Both checksums, of the file as it is and
// of what is in it, must be SHA-224 or better and are checked over the whole; what
// was read before a mismatch does not count. primary.xml may be compressed by gzip,
// bzip2, xz or zstd; it is read as a stream, in memory that does not depend on how
// long it is. With a key in the definition a repomd.xml.asc beside must be a good
// signature by it; where there is none the report says so, for dnf does not insist
// either.
//
// # Packages
//
// A package is meant by its name, or by name and version, as dnf reads it:
// NAME, NAME.ARCH, NAME-[EPOCH:]VERSION[-RELEASE[.ARCH]]; else by what a package
// provides. It must be for the architecture (noarch is for all, on x86_64 those
// of 32 bits count). include and exclude of the definition hide packages by the
// same names, with "*", "?" and "[...]"; exclude counts more. Streams of modules,
// priorities and costs are not looked at, nor are repositories of the base image.
//
// Credentials are sent to the repository's own host alone, never to where it
// redirects.
package rpmrepo
