// Package okdstreams is the root of the OKD Streams library: the steps that
// build OKD's operating system every day and release it, each an importable
// package. There is no code here; this comment is the map.
//
// # The walk
//
//	definition ─▶ base:  tree ─▶ commit ─▶ base image ─▶ boot images + metadata
//	 stream              ostree   ostree/container        bootimage
//	                                 │
//	                                 ▼
//	            node:  node image + extensions ─▶ payload ─▶ gates ─▶ publication
//	                   ostree/container           payload    publish/…
//
// [github.com/okd-project/okd-streams/publish/daily] is the walk itself;
// examples/dailybuild is the program around it. Nothing needs root, a daemon
// or cgo.
//
// # The rooms
//
//   - stream: what a stream is. The definition file with its strict parser,
//     the built-in definitions, versions and their order.
//   - ostree: repositories, objects, commits, refs, checkout, fsck.
//   - ostree/container: a commit as an OSTree-native container image, through a
//     cache in which each layer is compressed once.
//   - bootimage: what a build made. The build catalogue in coreos-assembler's
//     layout, measured artifacts, release and stream metadata.
//   - bootimage/disk, bootimage/convert: formats of disks and stamps; a build's
//     disk made into the artifacts of platforms.
//   - payload: release payloads, assembled and read back with everything
//     verified before a byte is used.
//   - publish: the seams Store, Registry and Source; Plan and Apply; Update.
//   - publish/dirstore, memstore, s3store: places for objects.
//   - publish/layoutregistry, remoteregistry: places for images.
//   - publish/registryserver: a layout folder over HTTP.
//   - publish/open: a URL to a backend.
//   - publish/publishtest: conformance suites for anyone's backend.
//   - publish/daily: the walk.
//   - publish/gate, prow, controller, promotion, github, notify, status,
//     retention: what comes after a build.
//   - publish/components, rpmrepo, browse: payload components from their
//     sources, packages that repositories lack, pages of a store.
//   - stream/tekton, stream/actions: a definition as objects of Tekton
//     Pipelines, as workflows of GitHub.
//
// internal/archtest holds these rooms to the arrows between them.
//
// # Glossary
//
//   - stream: what users follow. release: a version in a stream. build: one
//     architecture's output. artifact: one file.
//   - boot image: a disk or live image. base image: the OS alone. node image:
//     base plus OpenShift components, the payload's OS.
//   - platform and format: what an artifact is for and how it is packed.
//   - OSTree commit, object, ref, checksum. To encapsulate a commit is to make
//     it a container image; a chunk is a group of objects, a layer its tar.
//   - OCI descriptor, digest, diff ID, manifest, index, tag, blob; a pullspec
//     is an image reference.
//   - component: a named image of a payload. payload: the set of components.
//     release image: its container. image-references and release-metadata: its
//     two files.
//   - edge, channel, update graph. gate: a check that must pass before an
//     announcement. mirror, promote, prune.
//   - object also means bytes at a key in a Store; blob, bytes at a digest in a
//     registry.
//
// Architectures are spelled the RPM way (x86_64, aarch64) in data and turned
// into Go's names at the OCI edge only.
package okdstreams
