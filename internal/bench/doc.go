// Command bench runs us beside the field's own tools on the same input, in one
// run, taking turns, and prints a table with ratios and the limits they are
// held to.
//
//	go run ./internal/bench [-tree DIR] [-day2 DIR] [-only REGEXP] [-rounds N] [-work DIR]
//
// Without -tree it uses the Debian tree of internal/interop (made the first
// time; that needs root). Peers: ostree, ostree-ext with skopeo and
// docker-registry, cp; pigz, zstd and xz; qemu-img for disks; for copies of images
// skopeo and go-containerregistry, which this program is itself when it is told so.
// Both sides run as child processes: CPU seconds and peak memory are those that the
// kernel counts for the child and its descendants, and medians of the rounds are shown. Neither calls fsync; every round starts
// with fresh repositories; nothing is deleted while the clock runs. The
// registry's own CPU is counted for neither side.
//
// A limit that is not met makes the exit status 1.
package main
