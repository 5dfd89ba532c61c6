// Package ext4 reads files of an ext2, ext3 or ext4 file system and replaces
// the content of small ones, or makes new ones, with nothing but an [io.ReaderAt]: no mount, no
// root, no kernel. What there is to write is data ([Step]), so that it can
// be written in place or laid over a source that stays as it is.
//
// Sources: the kernel's Documentation/filesystems/ext4 for the format, and
// e2fsprogs (mke2fs, e2fsck, debugfs), which the tests run beside.
//
// All numbers are little-endian but the journal's. A file system is
//
//	1024               superblock, 1024 bytes; checksum in its last 4
//	next block         group descriptors, 32 or 64 bytes a group; with meta_bg
//	                   in the first group of each run of groups that fill a block
//	group descriptor   where a group's block bitmap, inode bitmap and inode table are
//	inode              size, flags, and of its content either extents (a tree,
//	                   its root in the inode), block numbers (direct and indirect)
//	                   or, of small files, the content itself
//
// With metadata_csum each structure has a CRC-32C, seeded by the file system's
// UUID or a stored seed, and what belongs to an inode by its number and
// generation, too; with uninit_bg alone group descriptors have a CRC-16. Every
// checksum of what is read is checked before it is believed.
//
// A replaced file gets new blocks: its content is written there first, then the
// bitmaps, then the inode, which is less than a sector of a disk, and the old
// blocks are freed last. Whatever is written when the power fails, the file has
// its old or its new content; what can be wrong is that blocks count as used that
// are not, which e2fsck repairs. A new file gets its name last; before that, e2fsck
// moves it to lost+found.
//
// Refused, with an error that wraps [errors.ErrUnsupported]: file systems that
// were not unmounted cleanly or have errors, features that change what is read
// here or would need more to be written (encryption, case folding, bigalloc,
// quotas, multiple mount protection, external journals), and features that are
// not known.
package ext4
