// Package convert makes the artifacts of platforms of the raw disk in a build's folder, and
// records them: what is between bootimage, which knows records, and bootimage/disk, which
// knows disks. [Build] does all of it, from one read of the disk.
package convert
