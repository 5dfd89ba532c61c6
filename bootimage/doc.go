// Package bootimage says what builds made: the build catalogue in
// coreos-assembler's layout, artifacts measured once, and the metadata of
// releases and streams that installers and users read. Documents go in and
// documents come out; nothing here writes to a store.
//
// # The catalogue
//
//   - builds.json: the builds of a stream, newest first ([Builds], [AddBuild],
//     [TagBuild], [DeleteBuild], [CleanBuild], [MergeBuilds]).
//   - ID/release.json: a release, all architectures ([ReleaseFor], [UpdateRelease],
//     [MergeRelease]); read at ID/ARCH/, too ([ReadRelease]).
//   - ID/ARCH/meta.json: the record of one architecture's build ([Meta], [PutMeta],
//     [MergeMeta], [FinalizeMeta]).
//   - ID/ARCH/commitmeta.json: the metadata of its commit ([CommitMeta]).
//   - ID/ARCH/NAME-ID-ARTIFACT.ARCH.EXT: the artifacts ([ArtifactPath], [Measure]).
//
// [ImportBuild] reads a build from a folder of coreos-assembler's, which has the same
// layout. [NewDiskIndex] and [DiskIndexEntries] are for disks in registries,
// [NewBuildIndex] and [BuildsOfIndex] for whole builds there. Publish artifacts first,
// then meta.json and release.json, then builds.json, and after the gates what announces:
// the metadata of the stream.
//
// [CompressBuild] compresses the artifacts of such a folder, [UncompressBuild] takes it
// back, verified; [Compress] and [Uncompress] are the same for streams. bootimage/convert
// makes the artifacts of platforms of its raw disk, and records them by [AddArtifacts].
//
// # The metadata of a stream
//
//   - releases.json: all releases, for tools ([UpdateIndex], [ValidateIndex]).
//   - streams/STREAM.json: the release to take, for users and installers ([StreamFor],
//     [UpdateStream]).
//   - updates/STREAM.json: which release machines update to, when and by which way
//     ([AddUpdate], [UpdateGraphFor]).
//
// [Entries] lists the boot images that stream metadata names, [ValidateStream]
// checks it, [CompareStreams] tells two apart ([CompareDocuments] those of other kinds),
// [Document.Override] adds what only
// a stream's owner knows, and [MirrorStream] plans a copy elsewhere. [ConfigMap] is
// how releases carry it into clusters. Documents are signed as any file is, by
// publish/pgpsigner.
//
// # Where is my boot image
//
// [ReadOrigin] reads whatever names boot images, [BuildOrigin] a catalogue, and
// [Find] chooses one and says why. [Download] gets it, verified, and [Cache] keeps
// what was got.
//
// [FindISO] tells where in a release payload the live ISO of installers is, and
// [ExtractISO] takes it from there, so that nothing but a registry is needed.
//
// [SkewOf] tells how far the image that machines boot from is from the one they
// run, [DriftOf] how far a cluster's images are from a stream, [CheckAleph] whether
// a disk was made from what it is published as.
//
// # Documents
//
// [Document] holds the bytes of a document and a view of them. Others write
// these documents, too, with keys that no version of ours knows:
// [Document.Edit] applies what changed in the view to the text and leaves the
// rest, byte for byte. AddBuild, PutMeta, UpdateRelease and UpdateStream are
// such changes in the form that publish.Update takes,
// func(old []byte) ([]byte, error); each changes nothing when run again.
//
// The views of release.json and stream metadata are those of
// github.com/coreos/stream-metadata-go. They have fields for the platforms
// known to that version only; a platform that is newer is in the release.json
// written here, but not in the stream metadata made from its view.
//
// # Options
//
// Options may be nil where no field of theirs is required: nil is the zero value, in
// which each field has its default. A verb that lacks a required one returns an
// error.
//
// # Limits
//
// Documents have at most [MaxDocumentSize] bytes, 150,000 values and 64 levels.
// A key that is there twice is an error, as readers differ in which they take.
// File names and ids are checked to be single safe segments of a path.
package bootimage
