// Package promotion makes a release of an accepted payload: it is given a name,
// assembled under it, signed and announced.
//
// [Promote] picks the newest accepted payload, unless a promotion is open, reserves
// the next name of the stream, and goes through these phases:
//
//   - content: signatures of the payload verified; the release assembled with
//     its name and the promoted releases that lead to it; its images mirrored, by
//     digest; the release signed, by the digest and name that were pushed (with
//     OpenPGP, and as cosign does), and the signature judged as clusters do;
//     client tools extracted; notes written, with what changed since the release
//     before.
//   - catalogue: release.json, for programs, beside the journal.
//   - gates: all must have passed. One without a result holds the promotion.
//   - announcement: a draft with all files, a node in the update graph in no
//     channel.
//   - pointers: tags of the images and of the release, the draft made public, tags
//     that follow the newest release, channels, an image stream, the register; then
//     people are notified.
//
// A run can be stopped anywhere. The journal lies in the store, so that Promote
// or [Resume] goes on from it on any machine; what it says was done is not done
// again, but all content is looked at again before a gate is asked. [Abort] takes a
// promotion back until pointers are moved. [Due] says when the next one is, and
// [Shadow] what a release that was promoted, by whomever, lacks.
//
// # Names
//
// A name is reserved in the register of the stream by compare-and-swap, with
// who, when and from which payload. Two promoters never get one name: of the same
// payload they work on one release, of two payloads the second waits ([ErrBusy]).
// A name of an aborted promotion, or one that is a tag of the repository already, is
// never taken.
//
// # What leads to a release
//
// The list of previous versions holds promoted releases, never the nightlies
// that the payload came from, in the order of OKD: an early candidate is older
// than the release it was a candidate for (payload/graph.Plan has the rule).
// Plain semantic versions say the opposite, which is why clusters at
// 4.17.0-okd-scos.0 were once left without an update.
//
// # In place of okd-release-pipeline
//
// Its parameters, and what they are here:
//
//	release-controller, release-stream  Env.Accepted: Tags of a controller.Client
//	target-release-stream               Settings.Stream; Env.Published: Tags of it
//	release-imagestream                 Settings.ImageStream, Env.ImageStreams
//	content-mirror-pushspec             Settings.Content
//	release-mirror-pushspec             Settings.Release
//	github-org-repo                     Env.Announcer
//	is-release-latest                   Settings.Latest, else Settings.Prerelease
//	enable-notifications, matrix-*      Env.Notify
//
// What it does otherwise: the pipeline took a name again after a failure,
// announced before its gates, signed nothing itself, listed nightlies as previous
// versions and wrote notes without changes.
package promotion
