// Command determinism prints the digests of a fixed set of what the library
// makes, one "name digest" a line. Its test runs it with other numbers of
// processors, time zones, languages, file creation masks and temporary folders
// and wants the same lines each time, those of testdata/digests.golden: same
// inputs, same bytes, on any machine and with any version of Go.
package main
