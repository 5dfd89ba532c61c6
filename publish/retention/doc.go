// Package retention removes what a policy says is old from a stream's store:
// disk images, container images, cloud uploads, at last whole builds. It does
// what `cosa coreos-prune` does, with the same policy file ([DecodePolicies])
// and the same notes in builds.json, for streams of any name.
//
// [New] makes a [Plan], which is data: print it, look at it, run it elsewhere
// with [Plan.Apply]. Nothing goes that is pinned ([Pin]): what a stream, tag,
// payload, graph or running promotion refers to is for the caller to say
// ([StreamPins], [UpdatesPins], [GraphRoots]); builds with a tag in builds.json and
// the newest build of each architecture are pinned in any case. A build is noted as
// removed before its files go, so that nobody is sent to what is not there, and what
// an interrupted run leaves is found by the next plan.
//
// With a [Registry] it looks at container images too. What its tags and the given
// roots ([Root]) refer to stays, down to the images that a release names. An image
// goes with its referrers and with what cosign keeps under tags, an index before its
// manifests.
//
// Nobody can look at all of a registry at once: an image that is tagged between the
// last look and its removal is removed with that tag. So give promotions that are
// under way as roots. And keep the plan of a run that was interrupted, to apply it
// again: when an index is gone and its manifests, which no build's record names, are
// not, a later plan does not find them.
//
// Clouds are left to what [ApplyOptions] name.
//
// Objects of builds that the catalogue does not know are never touched.
package retention
