// Package publish moves what a build made to where people fetch it: objects
// into a [Store], images into a [Registry], in an order in which no reader
// ever sees a pointer to something that is not there.
//
// # Seams
//
// [Store] holds bytes at keys and [Registry] images at references; a [Source]
// is content that can be opened again. Backends live in folders of their own:
// dirstore, memstore, s3store, and httpstore, which only reads; layoutregistry
// and remoteregistry, which also offer [Blobs] and [Referrers], and ocregistry for
// what oc mirrored into a folder; open makes each from a URL, registryserver serves
// a folder over HTTP. Around any store lie limitstore, cachestore, logstore, dryrunstore and faultstore. publishtest
// judges anyone's. [CheckKey], [CheckPut] and [OpenSource] are what every store
// begins with. A [Signer] and a [Verifier] are made by pgpsigner, cosignsigner
// and ed25519signer.
//
// # Documents
//
// A document that many write, such as a catalogue of builds, changes by
// [Update]: read, transform, write if nobody else has. Rooms that know what a
// document means give the transform, func(old []byte) ([]byte, error).
//
// # Plans
//
// A [Plan] says in JSON what is to be published, stage by stage: content, then
// the catalogue, then gates, the announcement, and the pointers. [Apply] carries
// it out with the backends and bytes of an [Env]. It can be stopped anywhere and
// applied again on another machine; a [Journal] spares it work, and looking
// decides. A gate without a result holds the plan: [ErrPending].
//
// # Transfers
//
// A set of [Copy] says in data which images are to be elsewhere too. [Transfer]
// looks at all of them at once and brings what is missing: mounted where the
// registry has it, else moved once; manifests after what they name, tags last.
//
// Errors are [*Error] with the operation, the target and the cause; Retryable
// says whether trying again later may help. Nothing here repeats a request:
// transports do, and [Apply] and [Transfer] open content again where that may
// help.
package publish
