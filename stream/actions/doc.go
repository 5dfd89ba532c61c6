// Package actions renders a stream's definition to workflows of GitHub Actions, for
// streams that have a repository and no cluster: the daily build and the promotion,
// by the definition's cadences.
//
// [Render] gives the files for .github/workflows. Their steps are plain commands of
// okd-streams, which the first step takes from the task image, named by digest. No
// action of anybody is used unless [Options.Actions] names it by commit; two are
// known, actions/cache for what is kept between runs and actions/upload-artifact for
// the report.
//
// # Rights
//
// A workflow has no permissions but those that its job needs, none if registry and
// store have credentials of their own. Values of inputs and secrets are in the
// environment of a step and never become part of a program. One run of a stream goes
// at a time: the workflows share a concurrency group. Of several that wait GitHub keeps
// the newest; a promotion that was dropped stays due.
//
// # Secrets
//
// What the definition names under credentials as a key of a Kubernetes Secret is a
// secret of the repository called SECRET_KEY, in capital letters and with "_" for
// everything else: .dockerconfigjson of okd-quay-pull-secret is
// OKD_QUAY_PULL_SECRET_DOCKERCONFIGJSON. An environment variable is a secret of its
// own name. [Secrets] lists them. A run that lacks one says so and does nothing.
//
// Without credentials for a registry at ghcr.io the run's own token is used, and for
// releases on GitHub, if these are in the repository of the workflows.
//
// # What differs from a cluster
//
// A hosted runner forgets everything, so a build begins anew each day unless
// actions/cache is named or the runner is one's own. coreos-assembler, which needs
// KVM, is not run here: a definition that composes has to be given the tree. Image
// streams are not tagged. GitHub begins scheduled runs late when it is busy, and stops
// them in a repository in which nothing happened for 60 days.
package actions
