// Package dirstore is a [publish.Store] in a folder, which any web server can
// serve as it is.
//
// An object lies at the path that its key spells, so prod/builds.json is the
// file prod/builds.json. Keys that cannot lie there (a segment over 255 bytes;
// one that begins another, when that came first; one in this package's own
// folder) lie below .okd-streams/keys instead. Readers and writers agree on that
// without a list: the plain path is looked at first, and an object never moves.
//
// Put writes a temporary file below .okd-streams/tmp, checks it, makes it
// durable and renames it. Writers of any number of processes exclude each other
// by flock on .okd-streams/lock for the moment of the rename, where IfAbsent and
// IfRevision are judged; so conditions do not hold on file systems without
// flock, nor against programs that write the folder without this package.
// Temporary files carry a lock, too: those of killed processes are told apart
// and removed by [Open].
//
// SHA-256, content type and cache control are kept in the extended attribute
// user.okd-streams together with size and time of change, so a file that some
// other program changed is noticed: its SHA256 is "" then and its revision
// another one. Where a file system has no such attributes, SHA256 and content
// type are not known to later readers, and nothing else is lost.
//
// Symbolic links are never followed, neither to folders nor to files: an object
// behind one does not exist. Files are 0644 and folders 0755 whatever the umask.
package dirstore
