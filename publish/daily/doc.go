// Package daily is the walk itself: from a root filesystem to a release.
//
//	inputs ─▶ commit ─▶ encapsulate ─▶ node ─▶ bootimage ─▶ payload ─▶ publish
//
// [Run] does it all; [RunTo] stops after a step. Each step leaves a [Record] in
// the state folder, at <state>/<build>/<step>.json. Interrupted anywhere, even
// by kill -9, a run that is started again with the same inputs goes on where
// it was, under the same names, and gives the same digests. A run whose inputs
// and content are those of the last finished build does nothing and says so.
//
// The state folder also holds the OSTree repository ("repo", mode bare-user),
// the layer cache ("cache"), and "last.json", the last finished build. One run
// at a time works in it ([ErrBusy]).
//
// A build that is published gets a report, <state>/<build>/report.html: a static
// page with its packages and what changed since the build before, artifacts,
// layers, components, gates, and where the time went. publish/browse has pages of
// all builds in a store.
//
// The names of a new build and its release are taken in the store before anything
// is made, in a folder "names" beside that of builds, so that builders of one
// stream that begin at once on several machines get different ones. A name that
// was taken is not used again, whatever came of the build. A store that knows no
// conditions is for one builder at a time.
//
// The base image of a build is split over layers like that of the last finished
// one, read from the registry, as far as that is good ([container.Frugal]); the
// first one by [container.Stable].
//
// A folder of coreos-assembler's as source ([OpenSource]) gives tree and disks of
// a build. The commit is made anew, of the same tree, with the version and the
// metadata of this build; the disks are published as they are, and boot the commit
// that coreos-assembler made.
//
// Publication is a [publish.Plan]: content first, then the build catalogue, the
// gates, the announcement, and pointers last. A gate without a result is
// pending: the run stops there with [publish.ErrPending] and goes on when it is
// started again with the result. A gate of kind "regression" compares the
// packages with those of the last finished build ([container.CheckRegression])
// and leaves regression.md and regression.json in the build's folder.
package daily
