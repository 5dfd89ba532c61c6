// Package prow is where a build meets OpenShift CI: what a Prow job is told
// ([JobSpec]) and leaves behind ([Finished], [JUnit]), the image streams that
// hand images over ([ImageStream]), and the check that they did ([HandOver]).
//
// Formats are those of sigs.k8s.io/prow and of image.openshift.io/v1 as their
// sources have them; the parts used here alone. Nothing here talks to a cluster:
// image streams come from a func of the caller. What is checked against an
// image stream is not proven on OpenShift.
package prow
