// Package registryserver serves a folder of OCI layouts, as
// publish/layoutregistry keeps it, over the OCI distribution protocol. It is
// made for loopback: for tests, for the registry that a local run pushes to,
// and for a cluster that pulls from a laptop.
//
// It is the only package that knows the server behind it (olareg).
package registryserver
