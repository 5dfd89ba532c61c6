// Package disk reads disk images. [Partitions] reads the partition table of a
// raw disk.
//
// Images are hostile until they have been checked: what a header says of sizes
// and offsets is held against the bytes there are before anything is allocated
// or read by it.
package disk
