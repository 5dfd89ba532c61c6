// Package archtest holds the project to its design: which room may import
// which, which modules compile into each, what each room exports, what library
// code never calls, and that packages are documented, tested and shown by
// examples. It is all tests; they read `go list` and the source.
//
// What the project exports and compiles is kept in testdata, so that each
// change of it shows in review; `go test ./internal/archtest -update` rewrites
// it. Exceptions are in testdata/allow.txt, each with its reason; one that is
// not needed any more fails too.
package archtest
