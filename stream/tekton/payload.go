package tekton

import (
	"strings"

	"github.com/okd-project/okd-streams/stream"
)

const (
	taskBatch   = "batch-build"
	taskNew     = "new-release"
	taskVerify  = "verify-release"
	payloadWork = "payload-workspace"
)

// payload makes a release of another with other images in it: those that are given and, where the
// definition names a builder, components that are built of their sources. Names
// are okd-payload-pipeline's.
func (p *plan) payload() *pipeline {
	h := p.head(tektonAPI, kindPipeline, namePayload)
	h.Metadata.Labels[labelPipeline] = namePayload
	build := p.def.OS.Builder.Image != ""
	param := func(of, does string) ParamSpec {
		return ParamSpec{Name: of, Type: typeString, Description: does}
	}
	list := func(of, does string) ParamSpec {
		return ParamSpec{Name: of, Type: typeArray, Description: does, Default: &Value{List: []string{}}}
	}
	initial := param("initial-payload", "pullspec of the release to start from")
	switch base := p.def.Payload.Base; {
	case base != "":
		initial.Default = text(base)
	case p.picks():
		initial.Default = text("")
		initial.Description += " (empty: the newest accepted)"
	}
	params := []ParamSpec{
		initial,
		param("release-image", "REPOSITORY:TAG to push the release to"),
		param("release-image-name", "version of the release"),
		param("release-mirror-location", "REPOSITORY to copy the images to"),
		list("components", "images that take the place of the release's, NAME=PULLSPEC"),
		{Name: "source-date-epoch", Type: typeString, Description: "time of the release, in seconds since 1970 (empty: now)", Default: text("")},
	}
	if build {
		params = append(params, list("build-args", "further flags of okd-streams payload build, as --only=NAME or --scratch"))
	}
	pl := &pipeline{Pipeline: &Pipeline{Header: h, Spec: PipelineSpec{
		Description: "A release of another with other images in it, for stream " + p.def.Identity.Name + ".", Params: params,
	}}}
	var after []string
	from := *text("$(params.initial-payload)")
	if p.picks() {
		t := p.pickRelease(namePayload, initial.Name)
		pt := use(taskPick, t)
		pt.Retries = 1
		pl.tasks, pl.Spec.Tasks = append(pl.tasks, t), append(pl.Spec.Tasks, pt)
		from = *text("$(tasks." + taskPick + ".results.release-pullspec)")
		after = []string{taskPick}
	}
	t := p.newRelease(build, params)
	pt := use(strings.TrimPrefix(t.Metadata.Name, p.opts.Prefix), t, Param{Name: initial.Name, Value: from})
	pt.RunAfter, pt.Retries = after, 1
	pl.tasks, pl.Spec.Tasks = append(pl.tasks, t), append(pl.Spec.Tasks, pt)
	for _, r := range t.Spec.Results {
		if r.Name != "images" {
			pl.Spec.Results = append(pl.Spec.Results, Result{Name: r.Name, Type: typeString, Description: r.Description, Value: "$(tasks." + pt.Name + ".results." + r.Name + ")"})
		}
	}
	verify := p.task(taskVerify, namePayload, "Look for what a cluster would trip over")
	verify.Spec.Params = []ParamSpec{param("release-pullspec", "the release's image, by digest")}
	verify.Spec.Workspaces = p.workspaces(workspaceRegistry)
	verify.Spec.Steps = []Step{p.step("lint", append([]string{"payload", "lint", "$(params.release-pullspec)"}, p.registryFlags()...)...)}
	last := use(taskVerify, verify, Param{Name: "release-pullspec", Value: *text("$(tasks." + pt.Name + ".results.release-pullspec)")})
	last.Retries = 1
	pl.tasks, pl.Spec.Tasks = append(pl.tasks, verify), append(pl.Spec.Tasks, last)
	p.tell(pl, stream.OnFailure, []string{"Failed"}, "")
	pl.Spec.Workspaces = pipelineWorkspaces(pl)
	if p.notify != nil && find(pl.Spec.Workspaces, workspaceDefinition, workspaceName) == nil {
		pl.Spec.Workspaces = append(pl.Spec.Workspaces, p.workspaces(workspaceDefinition)...)
	}
	return pl
}

// newRelease makes the release, of images alone or also of sources.
func (p *plan) newRelease(build bool, params []ParamSpec) *Task {
	made := []string{"$(params.initial-payload)", "$(params.components[*])", "--to=$(params.release-image)", "--version=$(params.release-image-name)", "--mirror=$(params.release-mirror-location)"}
	env := []EnvVar{{Name: "OKD_STREAMS_RESULTS_DIR", Value: resultsDir}, {Name: "SOURCE_DATE_EPOCH", Value: "$(params.source-date-epoch)"}}
	if !build {
		t := p.task(taskNew, namePayload, "Make the release of the images")
		t.Spec.Params, t.Spec.Workspaces = params, p.workspaces(workspaceRegistry)
		t.Spec.Results = results("release-name", "release-pullspec", "release-digest")
		step := p.step("new", append(append([]string{"payload", "swap"}, made...), p.registryFlags()...)...)
		step.Env = env
		t.Spec.Steps = []Step{step}
		return t
	}
	const tools, containers = "tools", "containers"
	t := p.task(taskBatch, namePayload, "Build components of their sources, those first that others are built of, and make the release of them")
	t.Spec.Params, t.Spec.Workspaces = params, append([]Workspace{{Name: payloadWork, Description: "sources, and what was built of them"}}, p.workspaces(workspaceRegistry)...)
	t.Spec.Results = results("release-name", "release-pullspec", "release-digest", "images")
	install := p.step(tools, "tekton", "install", toolsDir)
	step := p.builderStep("build", "", env...)
	step.Security = privileged()
	step.Command = []string{toolsDir + "/okd-streams"}
	step.Args = append(append([]string{"payload", "build"}, made...),
		"--images=$(params.release-mirror-location)", "--state=$(workspaces."+payloadWork+".path)/state",
		"--buildah-isolation=chroot", "--buildah-driver=vfs", "--buildah-storage=/var/lib/okd-streams", "$(params.build-args[*])")
	step.Args = append(step.Args, p.registryFlags()...)
	step.Mounts = []VolumeMount{{Name: tools, MountPath: toolsDir}, {Name: containers, MountPath: "/var/lib/okd-streams"}}
	install.Mounts = step.Mounts[:1]
	t.Spec.Steps = []Step{install, step}
	t.Spec.Volumes = []Volume{{Name: tools, EmptyDir: &EmptyDir{}}, {Name: containers, EmptyDir: &EmptyDir{}}}
	return t
}
