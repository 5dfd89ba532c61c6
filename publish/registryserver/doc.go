// Package registryserver serves a folder of OCI layouts, as
// publish/layoutregistry keeps it, over the OCI distribution protocol. It is
// made for loopback: for tests, for the registry that a local run pushes to,
// and for a cluster that pulls from a laptop.
//
// # Beside other writers
//
// The server changes index.json under the lock (flock) of the repository's
// folder that layoutregistry takes too, and looks at the file anew before. So
// any number of servers and layoutregistry writers, in any processes of one
// machine, work on the folder at once and no entry is lost; its garbage
// collection runs beside the server. Tools that take no lock, such as skopeo's
// oci: transport, may lose entries of others, and others theirs, when they write
// at the same moment.
//
// Blobs are mounted by hard links. Referrers are kept in the form that the
// server behind knows; layoutregistry reads and writes the same.
//
// It is the only package that knows that server (olareg).
package registryserver
