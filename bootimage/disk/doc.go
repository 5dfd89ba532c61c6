// Package disk reads and makes disk images, in pure Go. [Probe] tells what an image is and
// what is in it, [Partitions] reads the partition table of a raw disk, and [Open] gives
// the disk in an image as an [io.ReaderAt].
//
// Images are hostile until they have been checked: what a header says of sizes
// and offsets is held against the bytes there are before anything is allocated
// or read by it, and no image leads to another file.
package disk
