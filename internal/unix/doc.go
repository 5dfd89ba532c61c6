// Package unix has the system calls that this module makes, under the names of
// golang.org/x/sys/unix, on every system that Go knows.
//
// On Linux they are those calls and nothing else. On macOS, what Linux alone has
// is done by the nearest call or answers ENOSYS. On other systems descriptors
// of this package stand for files and folders that are open for reading: what
// reads an archive repository works, the rest answers ENOSYS. ENOSYS and
// ENOTSUP wrap [errors.ErrUnsupported].
package unix
