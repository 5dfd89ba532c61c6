package tekton

import (
	"strings"

	"github.com/okd-project/okd-streams/stream"
)

const (
	taskPick    = "pick-release"
	taskPromote = "release-promote"
	// workspaceBinaries is okd-release-pipeline's, where client tools were; it holds
	// all files on their way.
	workspaceBinaries = "release-binaries"
	// workspaceKeys has the public keys by which clusters judge the release.
	workspaceKeys  = "release-keys"
	keysFile       = "public.asc"
	releaseAccount = "okd-streams-release"
)

// pickRelease pins the release that a payload starts from.
func (p *plan) pickRelease(pipeline, param string) *Task {
	t := p.task(taskPick, pipeline, "Pick the newest accepted release, by digest")
	if pipeline != nameDaily {
		t.Metadata.Name += "-" + strings.TrimPrefix(pipeline, "okd-") // one task for each pipeline: parameters differ
	}
	t.Spec.Params = []ParamSpec{{Name: param, Type: typeString, Description: "pullspec of a release to take instead", Default: text("")}}
	t.Spec.Workspaces = p.workspaces(workspaceDefinition, workspaceRegistry)
	t.Spec.Results = results("release-name", "release-pullspec", "release-digest")
	args := []string{"tekton", "pick", "--stream=$(workspaces." + workspaceDefinition + ".path)/" + definitionKey, "--release=$(params." + param + ")"}
	step := p.step("pick", append(args, p.registryFlags()...)...)
	step.Env = []EnvVar{{Name: "OKD_STREAMS_RESULTS_DIR", Value: resultsDir}}
	t.Spec.Steps = []Step{step}
	return t
}

// registryFlags are those by which commands speak to registries.
func (p *plan) registryFlags() []string {
	var args []string
	if p.auth != "" {
		args = append(args, "--authfile=$(workspaces."+workspaceRegistry+".path)/"+dockerConfig)
	}
	for _, host := range p.opts.Insecure {
		args = append(args, "--insecure="+host)
	}
	return args
}

// signs reports whether the stream signs its releases.
func (p *plan) signs() bool {
	for _, k := range p.def.Trust.Keys {
		if k.Signs {
			return true
		}
	}
	return false
}

// tags reports whether releases are tagged in an image stream of this cluster, and gives its
// namespace.
func (p *plan) tags() (namespace string, ok bool) {
	if p.opts.Platform != OpenShift {
		return "", false
	}
	for _, i := range p.def.Imports {
		if i.Image == stream.ReleaseRole {
			return i.Namespace, true
		}
	}
	return "", false
}

// releaseParams are okd-release-pipeline's, which the command has as flags of the same names, and
// the few that it has not.
func (p *plan) releaseParams() (pipelines, ours []ParamSpec) {
	param := func(of, does string) ParamSpec {
		return ParamSpec{Name: of, Type: typeString, Description: does + " (empty: as the definition says)", Default: text("")}
	}
	pipelines = []ParamSpec{
		param("release-controller", "URL of the release controller that accepts payloads"),
		param("release-stream", "stream there that is promoted from"),
		param("target-release-stream", "stream that is promoted to"),
		param("release-imagestream", "image stream in which the release is tagged"),
		param("content-mirror-pushspec", "repository of component images"),
		param("release-mirror-pushspec", "repository of release images"),
		param("github-org-repo", "OWNER/NAME on GitHub where releases are announced; none: nowhere"),
		param("is-release-latest", "true or false: the latest release, or a pre-release"),
		param("enable-notifications", "true or false: tell people"),
		param("matrix-room", "room of Matrix that is told"),
		param("matrix-endpoint", "host of its Matrix server"),
	}
	empty := func(of, does string) ParamSpec {
		return ParamSpec{Name: of, Type: typeString, Description: does, Default: text("")}
	}
	store := ParamSpec{Name: "store", Type: typeString, Description: "where the register of names and the journals are: s3://BUCKET/PREFIX?endpoint=URL or dir:PATH"}
	if u := storeURL(p.def); strings.HasPrefix(u, "s3:") {
		store.Default = text(u)
	}
	registry := empty("registry", "where images are: docker:// or dir:PATH")
	registry.Default = text("docker://")
	// Client tools are for the page of the release on GitHub.
	flags := ParamSpec{Name: "promote-args", Type: typeArray, Description: "further flags of okd-streams release promote", Default: &Value{List: []string{}}}
	if p.def.GitHub == nil {
		flags.Default.List = []string{"--no-tools"}
	}
	results := empty("results", "where results of gates are looked for (empty: in the store)")
	return pipelines, []ParamSpec{
		store, results, registry,
		empty("source", "pullspec of the payload to promote (empty: the newest accepted)"),
		empty("target-release-name", "version that it is released as (empty: the next)"),
		empty("flow", "key in the store of a stream without a release controller"),
		empty("source-date-epoch", "time of the release, in seconds since 1970 (empty: now)"),
		flags,
	}
}

// release promotes an accepted payload. Its one task is the whole of it, since the command
// keeps a journal in the store and goes on from it wherever it was stopped; what was nine tasks there are steps of
// that journal.
func (p *plan) release() *pipeline {
	h := p.head(tektonAPI, kindPipeline, nameRelease)
	h.Metadata.Labels[labelPipeline] = nameRelease
	cadence := p.def.Cadences.Promotion
	if cadence.Timeout == 0 {
		cadence.Timeout = defaultTimeout
	}
	theirs, ours := p.releaseParams()
	pl := &pipeline{cadence: cadence, Pipeline: &Pipeline{Header: h, Spec: PipelineSpec{
		Description: "Promotion of accepted payloads of stream " + p.def.Identity.Name + " to releases. A gate without a result fails the run, and the next goes on where it was.",
		Params:      append(append([]ParamSpec{}, theirs...), ours...),
	}}}
	t := p.task(taskPromote, nameRelease, "Promote the newest accepted payload, or go on with the promotion that is open")
	t.Spec.Params = append(append([]ParamSpec{}, pl.Spec.Params...), ParamSpec{Name: "by", Type: typeString, Description: "name of who promotes"})
	t.Spec.Workspaces = append([]Workspace{{Name: workspaceBinaries, Description: "files on their way"}}, p.workspaces(workspaceDefinition, workspaceRegistry, workspaceStore)...)
	args := []string{
		"release", "promote", "--stream=$(workspaces." + workspaceDefinition + ".path)/" + definitionKey,
		"--state=$(workspaces." + workspaceBinaries + ".path)/state", "--secrets=" + secretsDir,
		"--store=$(params.store)", "--results=$(params.results)", "--registry=$(params.registry)",
		"--source=$(params.source)", "--version=$(params.target-release-name)", "--flow=$(params.flow)", "--by=$(params.by)",
	}
	for _, s := range theirs {
		args = append(args, "--"+s.Name+"=$(params."+s.Name+")")
	}
	namespace, tags := p.tags()
	if !tags {
		args = append(args, "--no-image-stream")
	} else {
		args = append(args, "--namespace="+namespace)
	}
	var used []*stream.Credentials
	if p.signs() {
		args = append(args, "--public-key=$(workspaces."+workspaceKeys+".path)/"+keysFile)
		t.Spec.Workspaces = append(t.Spec.Workspaces, Workspace{Name: workspaceKeys, Description: "public keys by which clusters judge the release, " + keysFile, ReadOnly: true})
		for _, k := range p.def.Trust.Keys {
			if k.Signs {
				used = append(used, k.Credentials)
			}
		}
	} else {
		args = append(args, "--unsigned")
	}
	if g := p.def.GitHub; g != nil {
		used = append(used, g.Credentials)
	}
	for i := range p.def.Notifications {
		used = append(used, p.def.Notifications[i].Credentials)
	}
	step := p.step("promote", append(append(args, p.registryFlags()...), "$(params.promote-args[*])")...)
	step.Security = restricted() // nothing here is the builder's
	step.Env = []EnvVar{
		{Name: "OKD_STREAMS_RESULTS_DIR", Value: resultsDir}, {Name: "SOURCE_DATE_EPOCH", Value: "$(params.source-date-epoch)"},
	}
	if p.store != "" {
		step.Env = append(step.Env, EnvVar{Name: "AWS_SHARED_CREDENTIALS_FILE", Value: "$(workspaces." + workspaceStore + ".path)/" + p.files})
	}
	step.Mounts, t.Spec.Volumes = secrets(used...)
	t.Spec.Steps = []Step{step}
	t.Spec.Results = results("release-name", "release-pullspec", "release-digest", "target-release-name", "mirrored-pullspec", "mirrored-digest", "previous", "state", "changed")
	pt := use(taskPromote, t, Param{Name: "by", Value: *text("$(context.pipelineRun.name)")})
	pt.Retries = 1
	pl.tasks, pl.Spec.Tasks = []*Task{t}, []PipelineTask{pt}
	for _, r := range t.Spec.Results {
		pl.Spec.Results = append(pl.Spec.Results, Result{Name: r.Name, Type: typeString, Description: r.Description, Value: "$(tasks." + taskPromote + ".results." + r.Name + ")"})
	}
	p.tell(pl, stream.OnFailure, []string{"Failed"}, "")
	pl.Spec.Workspaces = pipelineWorkspaces(pl)
	const claim = nameRelease
	pl.claims = []*VolumeClaim{p.claim(claim)}
	run := p.run(pl.Pipeline, "")
	run.Spec.TaskTemplate.ServiceAccountName = p.name(releaseAccount)
	run.Spec.Workspaces = p.bind(pl.Pipeline, p.name(claim))
	run.Spec.Timeouts = timeouts(cadence.Timeout)
	pl.runs = []*PipelineRun{run}
	return pl
}

// releaseAccounts: who promotes tags the release in its image stream, where this is the cluster that has it.
func (p *plan) releaseAccounts() []Object {
	namespace, tags := p.tags()
	account := &ServiceAccount{Header: p.head(coreAPI, "ServiceAccount", releaseAccount), AutomountToken: tags}
	if !tags {
		return []Object{account}
	}
	role := &Role{Header: p.head(rbacAPI, "Role", releaseAccount), Rules: []Rule{
		{APIGroups: []string{"image.openshift.io"}, Resources: []string{"imagestreams"}, Verbs: []string{"get"}},
		{APIGroups: []string{"image.openshift.io"}, Resources: []string{"imagestreamtags"}, Verbs: []string{"create", "delete", "get"}},
	}}
	binding := &RoleBinding{
		Header:   p.head(rbacAPI, "RoleBinding", releaseAccount),
		RoleRef:  RoleRef{APIGroup: rbacGroup, Kind: "Role", Name: p.name(releaseAccount)},
		Subjects: []Subject{{Kind: "ServiceAccount", Name: p.name(releaseAccount), Namespace: p.opts.Namespace}},
	}
	role.Metadata.Namespace, binding.Metadata.Namespace = namespace, namespace
	return []Object{account, role, binding}
}

// pipelineWorkspaces are those that the tasks of a pipeline need, each once.
func pipelineWorkspaces(pl *pipeline) []Workspace {
	var out []Workspace
	for _, t := range pl.tasks {
		for _, w := range t.Spec.Workspaces {
			w.ReadOnly = false // is for tasks to say
			if find(out, w.Name, workspaceName) == nil {
				out = append(out, w)
			}
		}
	}
	return out
}
