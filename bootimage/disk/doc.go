// Package disk reads and makes disk images, in pure Go. [Probe] tells what an image is and
// what is in it, [Partitions] reads the partition table of a raw disk, [Open] gives the
// disk in an image as an [io.ReaderAt], and [Convert] makes images for any number of
// platforms of one disk while it is read once.
//
// # Formats
//
//	raw        read, written with holes
//	qcow2      read: versions 2 and 3, compressed or not; written: version 3, clusters of 64 KiB, plain, zlib or zstd
//	vmdk       read: monolithicSparse, streamOptimized; written: streamOptimized
//	vhd        read: fixed, dynamic; written: fixed
//	vhdx       read: fixed, dynamic; written: dynamic
//	iso, squashfs, erofs   told apart, read as the disks they are
//	tar, ova   told apart, with their files; an OVA is written, with a VMDK
//	powervs    written: an OVA of PowerVC's, with a raw disk
//	gcp        written: a gzipped tar archive with a sparse disk.raw
//	kubevirt   written: an OCI image in a tar archive, with a qcow2
//
// What else there is in a format, such as encryption, snapshots' content, extended L2
// entries and logs that have to be replayed, is answered by [errors.ErrUnsupported].
//
// # Stamping
//
// A CoreOS disk is for one platform: its boot entry says which, and how kernel and GRUB
// use the console there. [Stamp] makes a raw disk one for another platform, by changing
// a few blocks of the ext4 file system for /boot, from one table of platforms. The
// changes are written in place ([Stamped.Apply]), laid over the disk ([Stamped.Over]), or
// given to Convert with a target ([Target]), so that one read of the disk makes the images
// of all platforms. [PlatformOf] tells what platform a disk is for. Disks of s390x, whose
// boot loader would have to be written anew, are refused.
//
// # Hostile images
//
// Images are hostile until they have been checked: what a header says of sizes
// and offsets is held against the bytes there are before anything is allocated
// or read by it, and no image leads to another file.
//
// # Identical bytes
//
// The same disk gives the same images on every machine: blocks are compressed one by one
// with encoders of pinned versions, and put in the order of the disk.
package disk
