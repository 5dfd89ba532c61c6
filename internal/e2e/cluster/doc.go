// Package cluster runs a real Kubernetes with Tekton Pipelines on this machine,
// for tests of what OKD Streams renders: etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler, kubelet, and Tekton's controller and
// webhook, built from their Go modules at pinned versions (testdata/peers), over
// Debian's containerd, runc and CNI plugins.
//
// All of it, and the tests themselves, live in process, mount and network
// namespaces that end with the test binary, whatever ends it: no process, mount
// or address is left, even by kill -9. It reaches nothing outside, and
// nothing reaches it. Empty cgroups and the program that was built are all that a
// killed run leaves, and the next one removes them.
//
// It needs root with CAP_SYS_ADMIN and CAP_NET_ADMIN, cgroups version 1, and the
// packages containerd, runc and containernetworking-plugins. Tests that use it are
// gated as those of package interop: off without OKD_STREAMS_INTEROP=1, and with
// it a failure where something is missing.
package cluster
