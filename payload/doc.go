// Package payload makes and reads OpenShift release payloads: the release
// image, which is the cluster-version operator's image with one more layer,
// and in that layer the folder release-manifests with image-references,
// release-metadata and every operator's manifests.
//
// [Assemble] makes a release image from component images (a map, an image
// stream), from a folder of manifests or from a base release, with overrides;
// [Open] reads one back.
// Neither writes anywhere: [Built.Image] is a value to hand to a registry.
// Images come from a registry, or by [Folder] from an OCI layout or a mirror
// that oc wrote, also in an [Archive]; [OpenFolder] reads a payload that was
// unpacked.
//
// What a [Release] has is shown by [Release.WriteText] and [Release.Info], as
// `oc adm release info` prints it; [Release.Objects] and [Cluster] say what a
// cluster applies of it, [Release.Lint] what it would trip over, [Compare],
// [CompareOS] and [NewChangeLog] what is different in another, [Release.Packages] what the node
// image is made of. [Release.Extract] and [Release.Tools] write its files and
// client tools, [Mirror] plans copies of it for publish.Transfer (as does
// Assemble with Spec.Mirror), [Sign] and [Policy] make and check its
// signatures.
//
// # Trust
//
// Every manifest, configuration and layer is hashed in full and compared with
// its digest (and a layer with its diff ID) before anything parsed from it is
// used, whatever the source of the images promises itself. Sizes and counts
// are bounded by the Max… constants.
//
// Whose signatures count is for the caller to say. What a release says of keys
// ([Release.Trust]) is what clusters that run it will trust; it proves nothing
// about the release that says it.
//
// # Strict and compatible
//
// `oc adm release new` drops or duplicates several things without a word: tags
// without a digest, placeholders that its grammar misses, an operator that is
// overridden. By default Assemble is strict: it replaces what can be replaced
// without doubt and fails with [Findings] for the rest, which
// [AssembleOptions.Allow] can let pass one by one. With
// [AssembleOptions.Compatible] it does what oc does, byte for byte of the
// uncompressed layer.
//
// # Identity
//
// The identity of the appended layer is its diff ID, a function of the inputs
// alone. Its compressed digest depends on the encoder too; ours is pinned by
// go.mod. Building again from a release without any change reuses that
// release's own compressed layer, so that the image's digest is the same.
package payload
