package tekton

import (
	"fmt"
	"slices"

	"github.com/okd-project/okd-streams/stream"
)

// nameNotify is as of okd-coreos-pipeline, which tells Matrix alone.
const nameNotify = "notify"

// tell has people told how a run ended, if the definition names any for the
// occasion. The task is made once for all pipelines.
func (p *plan) tell(pl *pipeline, occasion stream.Occasion, status []string, release string) {
	if !slices.ContainsFunc(p.def.Notifications, func(n stream.Notification) bool { return slices.Contains(n.On, occasion) }) {
		return
	}
	if p.notify == nil {
		p.notify = p.notifyTask()
	}
	pt := use(nameNotify+"-"+string(occasion), p.notify,
		Param{Name: "occasion", Value: *text(string(occasion))},
		Param{Name: "release-name", Value: *text(release)},
		Param{Name: "line", Value: *text("PipelineRun $(context.pipelineRun.namespace)/$(context.pipelineRun.name): $(tasks.status)")},
	)
	pt.When = []When{{Input: "$(tasks.status)", Operator: "in", Values: status}}
	pl.Spec.Finally = append(pl.Spec.Finally, pt)
}

func (p *plan) notifyTask() *Task {
	t := p.task(nameNotify, "", "Tell people how a run ended; whom, the definition says")
	t.Spec.Params = []ParamSpec{
		{Name: "occasion", Type: typeString, Description: "success, failure or promotion"},
		{Name: "release-name", Type: typeString, Description: "version of the release, empty if there is none"},
		{Name: "line", Type: typeString, Description: "further line of the message"},
	}
	t.Spec.Workspaces = p.workspaces(workspaceDefinition)
	step := p.step(nameNotify, "notify",
		"--stream=$(workspaces."+workspaceDefinition+".path)/"+definitionKey, "--occasion=$(params.occasion)",
		"--release=$(params.release-name)", "--line=$(params.line)", "--secrets="+secretsDir)
	var all []*stream.Credentials
	for i := range p.def.Notifications {
		all = append(all, p.def.Notifications[i].Credentials)
	}
	step.Mounts, t.Spec.Volumes = secrets(all...)
	t.Spec.Steps = []Step{step}
	return t
}

// secrets mounts those that credentials name, a folder each, as
// the flag --secrets expects it. A step sees no others. It begins without one too, as
// with [plan.bind], and fails when it needs it.
func secrets(credentials ...*stream.Credentials) (mounts []VolumeMount, volumes []Volume) {
	seen := map[string]bool{}
	for _, c := range credentials {
		if c == nil || c.Secret == "" || seen[c.Secret] {
			continue
		}
		seen[c.Secret] = true
		volume := fmt.Sprintf("secret-%d", len(volumes)) // a secret's name may be none of a volume
		mounts = append(mounts, VolumeMount{Name: volume, MountPath: secretsDir + "/" + c.Secret, ReadOnly: true})
		volumes = append(volumes, Volume{Name: volume, Secret: &SecretVolume{SecretName: c.Secret, Optional: true}})
	}
	return mounts, volumes
}
