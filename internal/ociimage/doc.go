// Package ociimage is what every registry backend needs around
// go-containerregistry's values: images and indexes over anything that fetches
// manifests and blobs by digest, and the list of manifests and blobs of a
// given image in the order in which they have to be written.
//
// Manifests are read as they come from a stranger: bounded, digest first, and
// refused when they say one thing and their descriptor another.
package ociimage
