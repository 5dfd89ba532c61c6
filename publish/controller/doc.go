// Package controller speaks with release controllers: the service that makes
// payloads of image streams, has them tested by Prow, and accepts or rejects
// them.
//
// [Client] reads its HTTP API, [Config] is how a stream is configured there, in
// the annotation release.openshift.io/config of an image stream.
//
// Where there is no release controller, [Engine] does the same in one process
// over a store: [Flow] is the state of a stream, [Flow.Plan] decides what is next
// as a function of its arguments, and [Handler] serves it at a controller's
// addresses.
//
// Formats and behaviour are those of openshift/release-controller in 2026; what
// a newer one adds is kept by Config and passed over by Client.
package controller
