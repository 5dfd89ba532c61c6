// Package container makes OSTree-native container images of commits, and commits
// of container images.
//
// An OSTree-native image is an OCI image that is a commit as well. Its first
// layer has the commit, all directories and the metadata objects; the others
// ("chunks") have content objects, each below sysroot/ostree/repo and as a hard
// link at every path. [Encapsulate] makes one, in the tar dialect of current
// bootc, through a [Cache] that keeps compressed layers by what they are made
// from, so that a day on which little changed costs little. In the dialect
// [Plain] it makes an image of the same files that carries no commit, as chunkah
// does.
//
// What changes together shall be in one layer. [Components] finds out what
// belongs together, from the package database in the commit; a [Planner]
// spreads that over layers. With the image before at hand that is [Frugal],
// which minimises what is pulled a day; without one it is [Stable]. [OstreeExt]
// does what rpm-ostree does. README.md compares them. Plans made elsewhere come
// as [ContentMeta] or [Layout].
//
// The format's source is bootc's crate ostree-ext. Three of its faults are not
// copied: targets of symbolic links are written as they are, content in
// /sysroot keeps its directories, and layers that came out empty are left out.
//
// [Import] stores any image in a repository: an OSTree-native one as the commit
// that it is, with the layers that a container build added merged over it, under
// the refs by which bootc and ostree-ext keep images. [Flatten] only reads an
// image as a tree, its layers one over the other, without the repository that an
// OSTree-native image carries.
//
// [Inspect], [History], [Packages] and [Compare] tell what an image is and how it
// differs from another, [Lint] what is wrong with it, [CheckRegression] what
// packages went back. [Rechunk] splits an image anew, [Reexport] makes one again
// of what was imported, [ReplaceDetachedMetadata] signs one, [Index] joins those
// of several architectures.
//
// What nodes of a cluster run is such a base image with more on top: a [NodeSpec]
// says what, [RenderNode] writes the Containerfiles, [BuildNode] has the caller's
// builder make the node image and its extensions, [CheckNode] names where they and
// the base image disagree.
//
// Options may be nil, those of [BuildNode] excepted: nil is the zero value, in which
// each field has its default.
package container
