// Package prow is where a build meets OpenShift CI: what a Prow job is told
// ([JobSpec], [ProwJob]) and leaves behind ([Finished], [JUnit]), the image
// streams that hand images over ([ImageStream]), the check that they did
// ([HandOver]), and the requests that import, tag and map images ([Cluster]).
//
// Formats are those of sigs.k8s.io/prow and of image.openshift.io/v1 as their
// sources have them; the parts used here alone. Image streams come from a func of
// the caller, such as [Cluster.ImageStream]. Requests and answers are held to the
// types of github.com/openshift/api in internal/e2e; none of it is proven on
// OpenShift.
package prow
