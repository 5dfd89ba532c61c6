// Package tekton renders a stream's definition to objects of Tekton Pipelines
// and Kubernetes, with small types of its own, and finds what is wrong with such objects before a
// cluster runs them.
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
// The pipeline okd-coreos is the daily build: a task for each step of publish/daily,
// which is okd-streams build STEP in the task image, over one volume with
// the state folder. Names of pipelines, workspaces, parameters and results are
// those of okd-coreos-pipeline and okd-release-pipeline where the same is meant.
//
// A run takes the lease of the stream's index first and gives it back at the
// end, so that of two runs at once one waits. A step that was stopped goes on
// from its record when it is tried again. At the end people are told, if the
// definition says whom.
//
// Tasks have no rights in the cluster, see only the secrets that they need, and
// run as a user without privileges. Values of parameters never become part of a
// program. Images are named by digest.
//
// # Secrets
//
// Secrets are named, never contained. They have to be in the namespace: those
// that the definition names under credentials, with the keys that it names. The
// registry's is of type kubernetes.io/dockerconfigjson, the store's a file of the AWS
// tools.
package tekton
