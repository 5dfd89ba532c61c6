// Package ostreetar writes the tar dialects of OSTree-native container images,
// byte for byte as current bootc does ("v1b") and as ostree-ext up to 0.15 did
// ("v1a"). [Writer.File] writes a layer without a repository, for other images.
//
// A layer holds an OSTree repository in mode bare-split-xattrs below
// sysroot/ostree/repo, and a hard link to a content object at each path the
// object has in the tree. Headers are GNU tar headers with fixed-width octal
// numbers; [archive/tar] cannot produce them, because diff IDs depend on
// details that no tar format asks for:
//
//   - names longer than 100 bytes come in an L entry, link targets in a K
//     entry; the fields of the header proper then keep what still fitted;
//   - the header of a hard link is a copy of its object's header, so the bytes
//     after the NUL of its name and link fields are left over from the object;
//   - extended attributes are a regular file beside the object (the serialised
//     GVariant) and, for all but security.selinux, a PAX header as well. In v1a
//     there is no such header, and the file beside the object is a hard link to
//     one that is named by its own checksum, which is in the layer once: so it
//     may get more links than a file system can count.
//
// One thing differs on purpose: a symbolic link's target is always written as
// it is. The reference cleans targets such as "a/./b", and then the object no
// longer has its checksum, so that nobody can import the image. [Writer.Compat]
// does so, too.
package ostreetar
