// Package components builds images of a release payload from their sources: any,
// or all.
//
// A [List] says what there is: repository, branch, Dockerfile and build arguments
// of each component, what stands in for the builder images that Dockerfiles name,
// forks. [DecodeList] reads it from a file, [OKD] is the set that makes OKD
// differ from the release it is mirrored from, and what a list leaves open comes
// from the release, whose images say what they were built from.
//
// [NewPlan] looks at the sources and Dockerfiles and says what is to be built, of
// which commit and which images by digest, and in which order: components that are
// built on others come after them. A [Plan] is data, to be shown, kept and carried
// out elsewhere. [Run] carries it out: what was built of the same inputs before is
// found in the registry and not built again, what fails takes only those with it
// that need it. [Plan.Spec] is then what payload.Assemble makes the release of.
//
// Three ways lead to a release. [Replace] keeps a release's images and builds those
// of the list; [Scratch] builds all; and with [PlanOptions.Only] it is one component.
//
// A plan is for one platform; several take a plan and a run each.
//
// This package runs no program. Sources come from [Env.Fetch], git for instance, and
// images are made by [Env.Build], buildah for instance, which finds everything that a
// build is FROM beside it and needs no registry.
package components
