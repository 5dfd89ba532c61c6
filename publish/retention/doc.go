// Package retention removes what a policy says is old from a stream's store:
// disk images, container images, cloud uploads, at last whole builds. It does
// what `cosa coreos-prune` does, with the same policy file ([DecodePolicies])
// and the same notes in builds.json, for streams of any name.
//
// [New] makes a [Plan], which is data: print it, look at it, run it elsewhere
// with [Plan.Apply]. Nothing goes that is pinned ([Pin]): what a stream, tag,
// payload, graph or running promotion refers to is for the caller to say; builds
// with a tag in builds.json and the newest build of each architecture are pinned
// in any case. A build is noted as removed before its files go, so that nobody
// is sent to what is not there, and what an interrupted run leaves is found by
// the next plan.
//
// Objects of builds that the catalogue does not know are never touched.
package retention
