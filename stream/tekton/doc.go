// Package tekton renders a stream's definition to objects of Tekton Pipelines
// (tekton.dev/v1, 0.44 and later) and Kubernetes, with small types of its own, and
// finds what is wrong with such objects before a cluster runs them.
//
//   - [Render] gives the objects for one platform, [Tree] those for all, as
//     files for kustomize; [Encode] and [Write] write them.
//   - [Check] finds what a cluster takes and no run would survive; [Decode]
//     reads what was written, and perhaps changed since.
//   - [Cluster] creates, lists and removes runs: a CronJob of the rendered ones
//     starts pipelines without any other program.
//
// # What is rendered
//
// Names of pipelines, tasks, workspaces, parameters and results are those of
// okd-coreos-pipeline, okd-release-pipeline and okd-payload-pipeline where the same
// is meant.
//
// The pipeline okd-coreos is the daily build: build-inputs, build-node, build-payload
// and build-publish, each of which runs publish/daily up to that step, as okd-streams
// build STEP in the task image, over one volume with the state folder. Steps that need
// nothing of their own share a task, since each task is a pod, and a pod takes seconds to
// begin. The page about a build is published with it. By the kind of operating system
// there is more before them:
//
//   - given: nothing.
//   - layer, with a Containerfile or packages: git-clone fetches the source,
//     base-image imports what the definition follows, and build-node has a last step
//     that runs buildah in the image of the definition's builder.
//   - compose: cosa-init, cosa-build-baseos, cosa-test if there is a gate of kind
//     kola, cosa-build-extensions and cosa-buildextend run coreos-assembler in the
//     builder's image. cosa-init refuses an image that has lost what the stream needs.
//   - where the definition says from which controller a release is picked:
//     pick-release.
//
// The pipeline okd-release-pipeline promotes an accepted payload; okd-payload makes a
// release of another with other images in it and, where there is a builder, with
// components built of their sources.
//
// A daily run takes the lease of the stream's index before it does anything and gives
// it back at the end, so that of two runs at once one waits; a run that was
// cancelled loses it. A step that was stopped goes on from its record when it is
// tried again. A gate without a result, or one that failed, fails the run, and nothing is
// announced; a run with the parameter build goes on with that build. At the end
// people are told, if the definition says whom.
//
// # What runs may do
//
// Steps of the task image are restricted as Pod Security has it, and see only the
// secrets that they need. Steps that run buildah are privileged. Those of
// coreos-assembler have /dev/kvm by the device plugin of KubeVirt; on kind, which has no
// such plugin, they have the node's and are privileged, too. Who builds may look at runs,
// by a token that one step has; who starts runs may create, list and delete them. Values
// of parameters never become part of a program. Images are named by digest.
//
// # What must be there
//
// Secrets are named, never contained. They have to be in the namespace: those that the
// definition names under credentials, with the keys that it names. The registry's
// is of type kubernetes.io/dockerconfigjson, the store's a file of the AWS tools.
// Where the stream signs, the ConfigMap release-keys has under public.asc the
// public keys by which clusters judge releases.
//
// On a cluster where nothing injects sidecars, Tekton's feature flag
// running-in-environment-with-injected-sidecars: "false" has each task begin a second or
// two earlier.
//
// ConfigMaps with definitions are named after their content, and old ones stay: kubectl
// apply --prune -l app.kubernetes.io/part-of=okd-streams removes them.
//
// Results of gates that are found elsewhere reach the pipelines through the store of
// the parameter results, which okd-streams gate record writes; by default it is
// the stream's own, if that is in S3.
package tekton
