// Package composefs writes composefs images, EROFS file systems that hold a
// tree's directories, names and metadata but of regular files only a reference
// to the backing file, and computes fs-verity digests.
//
// The bytes are those of libcomposefs (its `mkcomposefs`) in format version 0
// for trees as OSTree has them: directories, symbolic links, regular files that
// all have a backing file, all times 0. Sources: the kernel's
// Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h for the format,
// libcomposefs' lcfs-writer-erofs.c for the order and place of things, and
// Documentation/filesystems/fsverity.rst.
//
// An image is, from its start, all little-endian:
//
//	   0  header of composefs, 32 bytes
//	1024  superblock, 128 bytes
//	1152  inodes in breadth-first order, each on a multiple of 32: 32 or 64
//	      bytes, extended attributes, and the tail: the last names of a
//	      directory, a link's target or a file's null block address
//	      extended attributes that more than one inode has
//	      blocks of 4096 bytes: names of directories, targets without room
package composefs
