// Package xfs reads files of an XFS file system with nothing but an [io.ReaderAt]: no
// mount, no root, no kernel.
//
// Sources: the kernel's fs/xfs/libxfs (xfs_format.h, xfs_da_format.h, xfs_log_format.h)
// for the format, and xfsprogs (mkfs.xfs, xfs_db) and the kernel, whose file systems the
// tests read.
//
// All numbers are big-endian but checksums. A file system is allocation groups of equal
// size, but the last, each with a copy of the superblock at its start. A block's number
// has its group in the high bits, an inode's number its block, so that nothing has to be
// looked up to find it.
//
//	superblock   at 0: sizes, features, the root's inode, where the log is
//	inode        256 to 2048 bytes: fields, then the content or, 16 bytes each, the
//	             extents that have it, or the root of a tree of those
//	directory    in its inode; or blocks of entries from its start and, from 32 GiB
//	             on, blocks of an index by hash; of one block the index is at its end
//	log          a ring of 512-byte sectors
//
// In version 5 each structure has a CRC-32C, the UUID of the file system, its own place
// and the inode it is of. All four are checked before any of what is read is believed.
// Version 4 has none of that: what is wrong in it may be seen, or not.
//
// A directory is searched through all of its entries, without its index. Extents that
// were never written and holes read as zeros.
//
// Nothing is replayed from the log. What a log has that is not in its place yet can make
// a file seem absent or to have old content, and no checksum would tell; so a file
// system whose log does not end with the record of an unmount is refused, as is one
// whose log is on another disk.
//
// Refused, with an error that wraps [errors.ErrUnsupported]: that, file systems that are
// marked as in need of repair, files on a realtime device, larger files and directories than
// [MaxFileSize] and [MaxDirSize], and incompatible features that are not known; others,
// those of the log among them, change nothing of what is read.
package xfs
