// Package graph is the update graph of releases: which version may follow
// which, on what evidence, in which channel and with which known risks. It
// reads, makes and serves the documents that the cluster-version operator asks
// for, in the format of Cincinnati.
//
// A graph is made in three steps that are functions of their inputs alone:
//
//   - [Build] takes releases. What their metadata says of previous and next
//     versions are the candidates for edges.
//   - [Data.Apply] does what a graph-data folder says ([ReadData]): channels,
//     blocked edges, conditional edges, more metadata.
//   - [Graph.Prove] leaves the edges for which there is evidence: a passed
//     upgrade job, or a waiver with a name, a reason and an end.
//
// [Graph.Select] gives one channel of one architecture, as clusters see it.
// [NewHandler] serves it, [Graph.Files] are the same answers as files for a
// plain web server, [Client] asks such a server, and that of a release
// controller.
//
// People ask why there is no way: [Graph.Updates] is what a cluster would be
// offered, [Graph.Path] the way from one version to another, [Gaps] what is
// missing, [Lost] what a change cuts off, [Plan] the upgrade jobs that a new
// release needs, [Reachable] the gate for it, and [Graph.WriteSVG] a picture.
//
// # Order
//
// Versions are ordered as OKD means them (stream.Version.Compare), not as
// semantic versions: those put 4.20.0-okd-scos.ec.1 above 4.20.0-okd-scos.10.
// Versions of other schemes are ordered as semantic versions.
//
// # What differs from Cincinnati
//
// Files of graph-data are read in the order of their names, so that the result
// does not depend on a folder's order, and two blocks of one target add up
// instead of the last one winning. A plain block that also says fixedIn or
// autoExtend blocks; Cincinnati drops it without a word. A file that cannot be
// read is an error, unless [DataOptions.Lenient] is set. The architecture
// filter compares the architecture instead of looking for its name somewhere in
// the version.
package graph
