// Package ociimage is what every registry backend needs around
// go-containerregistry's values: images and indexes over anything that fetches
// manifests and blobs by digest, and the list of manifests and blobs of a
// given image in the order in which they have to be written. It also has the lock
// that the writers of a layout folder share.
//
// Manifests are read as they come from a stranger: bounded, digest first, and
// refused when they say one thing and their descriptor another.
package ociimage
