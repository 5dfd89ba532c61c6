// Package publishtest judges backends of package publish: [TestStore] and
// [TestRegistry] run a conformance suite on anyone's store or registry, and
// [Faulty] and [FaultyRegistry] make one fail on purpose.
//
// The suites themselves are proven: the tests of this package run them against
// backends that are broken in one way each, and each of those must fail in the
// case that is about it.
package publishtest
