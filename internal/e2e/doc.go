// Package e2e holds what we send to others, and read from them, against their
// own types. It is a module of its own, so that those types and all that they
// need compile into nothing else.
//
// OpenShift's are those of github.com/openshift/api v3.9.0, the only version that
// the module proxy has: its image API is v1 as today's, which has gained members
// since and lost none (of those used here importPolicy.importMode). Nothing here
// talks to a cluster: what passes is not proven on OpenShift.
package e2e
