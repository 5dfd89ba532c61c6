// Package ostree keeps operating system trees in OSTree repositories: objects,
// commits, refs, checkout and checks. It reads and writes what libostree's
// `ostree` does, bit for bit, without libostree and without cgo.
//
// # Model
//
// Whatever has files is a [Tree]: a directory ([Dir]), a tar stream ([Tar]), an
// [io/fs.FS] ([FS]), several of those on top of each other ([Overlay]), a
// commit ([Repo.Tree]). [Repo.Commit] takes a Tree, so verbs compose: a commit
// can be made from another commit, changed on its way by
// [CommitOptions].Edit.
//
// A repository holds objects under the SHA-256 of their content ([Checksum]):
//
//   - content objects: regular files and symbolic links with owner, mode and
//     extended attributes; no times ([File])
//   - dirtree objects: the names in a directory and the checksums behind them
//     ([DirTree])
//   - dirmeta objects: a directory's owner, mode and attributes ([DirMeta])
//   - commit objects: a root dirtree and dirmeta with parent, subject, body,
//     time and metadata ([Commit])
//
// A ref is a name for a commit. The same tree gives the same checksums in every
// repository, whatever its [Mode] and whoever wrote it.
//
// # Repositories
//
// Four modes are read and written: [ModeArchive], compressed files for serving
// over HTTP; [ModeBareUser], plain files whose owner, mode and attributes are
// kept in an attribute, which needs no privileges; [ModeBareUserOnly], plain
// files without owners and attributes; and [ModeBare], the files as they are,
// for root. [ModeBareSplitXattrs] is read. What else a repository may be is
// refused with an error that wraps [errors.ErrUnsupported].
//
// A repository may have a parent (core.parent), from which it reads what it does
// not have. [Repo.PullLocal] takes commits from one repository to another, of
// whatever modes, [Repo.Pull] from an archive repository behind HTTP, which
// [Handler] serves and whose summary [Repo.UpdateSummary] writes; [Repo.Prune]
// removes what no ref needs; [Repo.Fsck] checks everything.
//
// Writing is a transaction. Objects are staged in a folder under tmp/, flushed,
// moved into place (what is named before what names it) and only then the ref
// is set. A process that is killed at any point leaves a repository without
// faults, and the next transaction removes its staging folder. Locks are
// libostree's, so `ostree` may work in the same repository at the same time.
//
// A tree brings its own SELinux policy: [ReadPolicy] and [TreePolicy] find it, and
// [CommitOptions].SELinux labels everything by it.
//
// # Reading
//
// [Repo.Resolve] finds a commit by a ref or the beginning of its checksum,
// [Repo.Log] its ancestors. What is in it comes as a [Tree], as a list
// ([Repo.List]), as an [io/fs.FS] ([Repo.FS]), as a tar stream ([Repo.Export]) or
// on disk ([Repo.Checkout]). [Diff] compares two trees, [Repo.Packages] and
// [DiffPackages] tell the packages in them. [Repo.Edit] changes a commit's tree
// for the next commit without a checkout.
//
// # Trust
//
// Nothing read is trusted before its checksum or format is checked; such faults
// wrap [ErrCorrupt]. Names that could leave a directory are refused where a
// dirtree is decoded, and [Repo.Checkout] writes through an [os.Root] alone.
package ostree
