// Package controller speaks with release controllers: the service that makes
// payloads of image streams, has them tested by Prow, and accepts or rejects
// them.
//
// [Client] reads its HTTP API, [Config] is how a stream is configured there, in
// the annotation [ConfigAnnotation] of an image stream.
//
// Formats and behaviour are those of openshift/release-controller in 2026; what
// a newer one adds is kept by Config and passed over by Client.
package controller
