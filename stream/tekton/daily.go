package tekton

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/stream"
)

// defaultTimeout is for cadences without one: that of okd-coreos-pipeline.
const defaultTimeout = 4 * time.Hour

// finallyTimeout is what a run has beyond, to say how it ended.
const finallyTimeout = 15 * time.Minute

// The tasks of the daily build. Each goes on with what the one before left, up to a step of
// publish/daily that it is named after: a pod takes seconds to begin, and longer where its volume has to
// be attached, so steps that need nothing else of one share it. What each task leaves for the others and
// for people to see are its results.
var dailyTasks = []struct {
	step, does string
	retries    int           // records have a step go on where it was; a gate that failed will again
	timeout    time.Duration // also of a pod that waits for its volume
	results    []string
}{
	{"inputs", "Pin the inputs and name the build", 2, 2 * time.Hour, []string{"build", "release-name"}},
	{"node", "Commit the tree and lint it, make the base image of the commit, and find the node image and its extensions", 2, 3 * time.Hour, []string{
		"commit", "ref", "base-image", "base-digest", "node-image", "node-digest", "extensions-image", "extensions-digest",
	}},
	{"payload", "Measure the boot artifacts and assemble the release image", 2, 2 * time.Hour, []string{"release-name", "release-pullspec", "release-digest"}},
	{"publish", "Publish, pointers last", 1, 2 * time.Hour, []string{"published", "gates", "tags", "changed"}},
}

var resultsMean = map[string]string{
	"build": "version of the build", "release-name": "version of the release", "commit": "checksum of the commit", "ref": "OSTree ref of the commit",
	"base-image": "base image, by digest", "base-digest": "its digest", "node-image": "node image, by digest", "node-digest": "its digest",
	"extensions-image": "extensions image, by digest, empty if there is none", "extensions-digest": "its digest",
	"release-pullspec": "the release's image, by digest", "release-digest": "its digest", "published": "true when it is published",
	"gates": "what the gates say together: passed, pending or failed", "tags": "tags that were moved", "changed": "false if there was nothing to do",
	"output": "OK when it is done", "source-commit": "commit of the source", "cosa-build": "coreos-assembler's name of the build",
	"kola": "passed or failed", "state": "how far the promotion is", "target-release-name": "version that the payload is released as",
	"mirrored-pullspec": "image of the release where it was put, by digest", "mirrored-digest": "its digest", "previous": "versions that lead to the release",
	"images": "NAME=PULLSPEC of each component that was built",
}

func results(names ...string) []Result {
	var out []Result
	for _, n := range names {
		out = append(out, Result{Name: n, Type: typeString, Description: resultsMean[n]})
	}
	return out
}

// task begins a task of the pipeline of a name.
func (p *plan) task(of, pipeline, does string) *Task {
	h := p.head(tektonAPI, kindTask, of)
	if pipeline != "" {
		h.Metadata.Labels[labelPipeline] = pipeline
	}
	return &Task{Header: h, Spec: TaskSpec{Description: does + "."}}
}

// Parameters of the daily pipeline and its tasks.
func (p *plan) dailyParams() []ParamSpec {
	open := map[string]bool{} // what has no default
	if needs, err := p.def.Needs(p.def.Version.String()); err == nil {
		for _, n := range needs {
			open[n.Path] = !p.makes[n.Path]
		}
	}
	param := func(of, path, does string) ParamSpec {
		s := ParamSpec{Name: of, Type: typeString, Description: does}
		if !open[path] {
			s.Default = text("")
		}
		return s
	}
	params := []ParamSpec{
		{Name: "arch", Type: typeString, Description: "architecture, as x86_64", Default: text(string(p.def.Architectures[0]))},
		param("source", "os.source", "root filesystem: dir:PATH, tar:PATH or ostree:REPOSITORY:REF, in the shared workspace at "+sharedPath+" (empty: what the definition names)"),
		param("from-release", "payload.base", "pullspec of the release that the payload starts from (empty: the definition's)"),
		param("extensions", "extensions.image", "pullspec of the extensions image (empty: the definition's)"),
		param("release-name", "", "version of the release (empty: the next by the definition's scheme)"),
		param("build", "", "build of the shared workspace to go on with, with the inputs that it has (empty: a new one)"),
		param("target-registry", "", "where images go: docker://HOST/PATH or dir:PATH (empty: the definition's)"),
		param("store", "", "where files go: s3://BUCKET/PREFIX?endpoint=URL or dir:PATH (empty: the definition's)"),
		param("results", "", "where results of gates are looked for, as okd-streams gate record writes them: s3://BUCKET/PREFIX?endpoint=URL or dir:PATH (empty: the shared workspace)"),
		param("source-date-epoch", "", "time of the build, in seconds since 1970 (empty: now)"),
		{Name: "wait", Type: typeString, Description: "how long to wait for another run of this stream, as 90m", Default: text("1h")},
		{Name: "inputs-args", Type: typeArray, Description: "further flags of okd-streams build inputs, as --component=NAME=PULLSPEC", Default: &Value{List: []string{}}},
	}
	if u := storeURL(p.def); strings.HasPrefix(u, "s3:") {
		for i := range params {
			if n := params[i].Name; n == "store" || n == "results" {
				params[i].Default = text(u)
			}
		}
	}
	return append(params, p.sourceParams()...)
}

const sharedPath = "/workspace/" + workspaceShared

// targets are the parameters that say what is built and where everything goes, for every step.
var targets = []string{"arch", "target-registry", "store"}

func (p *plan) pick(from []ParamSpec, names ...string) []ParamSpec {
	var out []ParamSpec
	for _, n := range names {
		for _, s := range from {
			if s.Name == n {
				out = append(out, s)
			}
		}
	}
	return out
}

// storeURL is a definition's store as one address.
func storeURL(def *stream.Definition) string {
	s := def.Store
	if !strings.HasPrefix(s.URL, "s3:") {
		return s.URL
	}
	query := url.Values{}
	for key, value := range map[string]string{"endpoint": s.Endpoint, "region": s.Region, "acl": s.ACL} {
		if value != "" {
			query.Set(key, value)
		}
	}
	if s.PathStyle {
		query.Set("path-style", "true")
	}
	if len(query) == 0 {
		return s.URL
	}
	return s.URL + "?" + query.Encode()
}

// flags are those by which each command finds stream, state, store and registry.
func (p *plan) flags() []string {
	args := []string{
		"--stream=$(workspaces." + workspaceDefinition + ".path)/" + definitionKey,
		"--state=$(workspaces." + workspaceShared + ".path)/state",
		"--arch=$(params.arch)",
		"--store=$(params.store)",
	}
	return append(args, p.credentials(true)...)
}

// credentials are the flags for secrets that workspaces hold.
func (p *plan) credentials(registry bool) []string {
	var args []string
	if p.store != "" {
		args = append(args, "--s3-credentials=$(workspaces."+workspaceStore+".path)/"+p.files)
	}
	if !registry {
		return args
	}
	args = append(args, "--registry=$(params.target-registry)")
	if p.auth != "" {
		args = append(args, "--authfile=$(workspaces."+workspaceRegistry+".path)/"+dockerConfig)
	}
	for _, host := range p.opts.Insecure {
		args = append(args, "--insecure="+host)
	}
	return args
}

// workspaces are those of a task, all of them or just what the lease needs.
func (p *plan) workspaces(names ...string) []Workspace {
	var out []Workspace
	for _, w := range []Workspace{
		{Name: workspaceShared, Description: "what is kept between tasks and between runs"},
		{Name: workspaceDefinition, Description: "the stream's definition, " + definitionKey, ReadOnly: true},
		{Name: workspaceRegistry, Description: "credentials for registries, " + dockerConfig, ReadOnly: true},
		{Name: workspaceStore, Description: "credentials for the store, " + p.files, ReadOnly: true},
	} {
		if w.Name == workspaceRegistry && p.auth == "" || w.Name == workspaceStore && p.store == "" {
			continue
		}
		if len(names) == 0 || contains(names, w.Name) {
			out = append(out, w)
		}
	}
	return out
}

func contains(list []string, s string) bool {
	for _, item := range list {
		if item == s {
			return true
		}
	}
	return false
}

// use is a task in a pipeline, which gives it its own parameters and
// workspaces of the same names, but for those in given.
func use(of string, t *Task, given ...Param) PipelineTask {
	pt := PipelineTask{Name: of, TaskRef: TaskRef{Name: t.Metadata.Name, Kind: kindTask}}
	for _, s := range t.Spec.Params {
		at := -1
		for i := range given {
			if given[i].Name == s.Name {
				at = i
			}
		}
		switch {
		case at >= 0:
			pt.Params = append(pt.Params, given[at])
		case s.Type == typeArray:
			pt.Params = append(pt.Params, Param{Name: s.Name, Value: list("$(params." + s.Name + "[*])")})
		default:
			pt.Params = append(pt.Params, Param{Name: s.Name, Value: *text("$(params." + s.Name + ")")})
		}
	}
	for _, w := range t.Spec.Workspaces {
		pt.Workspaces = append(pt.Workspaces, WorkspaceBinding{Name: w.Name, Workspace: w.Name})
	}
	return pt
}

// holder names a run to the lease.
const holder = "$(context.pipelineRun.name) $(context.pipelineRun.uid)"

// daily is the daily build.
func (p *plan) daily() *pipeline {
	h := p.head(tektonAPI, kindPipeline, nameDaily)
	h.Metadata.Labels[labelPipeline] = nameDaily
	cadence := p.def.Cadences.Daily
	if cadence.Timeout == 0 {
		cadence.Timeout = defaultTimeout
	}
	p.makes = p.madeByBuilder()
	params := p.dailyParams()
	pl := &pipeline{cadence: cadence, Pipeline: &Pipeline{Header: h, Spec: PipelineSpec{
		Description: fmt.Sprintf("Daily build of stream %s.", p.def.Identity.Name), Params: params,
	}}}
	spec := &pl.Spec
	after := p.builderTasks(pl, params)
	for i, s := range dailyTasks {
		t := p.task("build-"+s.step, nameDaily, s.does)
		args := append([]string{"build", s.step}, p.flags()...)
		var given []Param
		step := p.step(s.step, append(args, "--build=$(params.build)")...)
		step.Env = []EnvVar{{Name: "OKD_STREAMS_RESULTS_DIR", Value: resultsDir}}
		step.Args = append(step.Args, p.nodeFlags()...)
		if i == 0 {
			t.Spec.Params = p.pick(params, "source", "from-release", "extensions", "release-name", "build", "arch", "target-registry", "store", "source-date-epoch", "inputs-args")
			step.Args = append(step.Args, "--source=$(params.source)", "--from-release=$(params.from-release)", "--extensions=$(params.extensions)", "--version=$(params.release-name)")
			step.Args = append(step.Args, p.diskFlags()...)
			step.Args = append(step.Args, "$(params.inputs-args[*])")
			given = append(given, p.fromBuilder(pl)...)
			step.Env = append(step.Env, EnvVar{Name: "SOURCE_DATE_EPOCH", Value: "$(params.source-date-epoch)"})
			t.Spec.Steps = []Step{step}
			if !p.builds() {
				given = append(given, p.lock(t, params, cadence))
			}
		} else {
			t.Spec.Params = append(p.pick(params, targets...), ParamSpec{Name: "build", Type: typeString, Description: "build that goes on"})
			given = []Param{{Name: "build", Value: *text("$(tasks.build-inputs.results.build)")}}
			t.Spec.Steps = []Step{step}
		}
		if s.step == "publish" {
			t.Spec.Params = append(t.Spec.Params, p.pick(params, "results")...)
			t.Spec.Steps[0].Args = append(t.Spec.Steps[0].Args, "--results=$(params.results)", "--publish-report")
		}
		switch {
		case s.step == "node":
			p.buildNode(t)
		case s.step == "publish" && find(spec.Tasks, taskTest, taskName) != nil:
			given = append(given, p.kolaGate(t))
		}
		t.Spec.Workspaces = p.workspaces()
		t.Spec.Results = results(s.results...)
		pt := use("build-"+s.step, t, given...)
		pt.Retries, pt.Timeout = s.retries, min(s.timeout, cadence.Timeout).String()
		if s.step == "node" && p.layered() && p.def.OS.Builder.Timeout > 0 {
			pt.Timeout = min(s.timeout+p.def.OS.Builder.Timeout, cadence.Timeout).String()
		}
		pt.RunAfter = after
		after = []string{pt.Name}
		pl.tasks, spec.Tasks = append(pl.tasks, t), append(spec.Tasks, pt)
		for _, r := range s.results {
			if r == "release-name" && s.step == "inputs" || r == "changed" {
				continue
			}
			spec.Results = append(spec.Results, Result{Name: r, Type: typeString, Description: resultsMean[r], Value: "$(tasks." + pt.Name + ".results." + r + ")"})
		}
	}
	unlock := p.unlock()
	pl.tasks = append(pl.tasks, unlock)
	spec.Finally = append(spec.Finally, use("unlock", unlock, Param{Name: "holder", Value: *text(holder)}))
	p.tell(pl, stream.OnSuccess, []string{"Succeeded", "Completed"}, "$(tasks.build-payload.results.release-name)")
	p.tell(pl, stream.OnFailure, []string{"Failed"}, "")
	spec.Workspaces = pipelineWorkspaces(pl)
	for _, arch := range p.def.Architectures {
		pl.claims = append(pl.claims, p.claim(claimName(arch)))
		pl.runs = append(pl.runs, p.dailyRun(pl, arch))
	}
	return pl
}

func claimName(arch stream.Arch) string {
	return nameDaily + "-" + strings.ReplaceAll(string(arch), "_", "-")
}

// claim is a volume that a pipeline works in.
func (p *plan) claim(of string) *VolumeClaim {
	h := p.head(coreAPI, "PersistentVolumeClaim", of)
	return &VolumeClaim{Header: h, Spec: VolumeClaimSpec{
		AccessModes: []string{"ReadWriteOnce"}, StorageClass: p.opts.StorageClass,
		Resources: Resources{Requests: map[string]string{"storage": p.opts.Storage.String()}},
	}}
}

func (p *plan) dailyRun(pl *pipeline, arch stream.Arch) *PipelineRun {
	run := p.run(pl.Pipeline, strings.ReplaceAll(string(arch), "_", "-")+"-")
	run.Metadata.Labels[labelArch] = string(arch)
	if p.builds() {
		run.Spec.TaskTemplate.PodTemplate.NodeSelector = map[string]string{"kubernetes.io/arch": arch.GOARCH()}
	}
	run.Spec.Params = []Param{{Name: "arch", Value: *text(string(arch))}}
	run.Spec.Workspaces = p.bind(pl.Pipeline, p.name(claimName(arch)))
	run.Spec.Timeouts = timeouts(pl.cadence.Timeout)
	return run
}

func timeouts(tasks time.Duration) *Timeouts {
	return &Timeouts{Pipeline: (tasks + finallyTimeout).String(), Tasks: tasks.String(), Finally: finallyTimeout.String()}
}

// bind gives the workspaces of a pipeline their volumes. A pod begins without a Secret too: its
// first step says at once that it is missing, where Kubernetes would wait for hours and say
// nothing in a log.
func (p *plan) bind(pl *Pipeline, claim string) []WorkspaceBinding {
	var out []WorkspaceBinding
	for _, w := range pl.Spec.Workspaces {
		b := WorkspaceBinding{Name: w.Name}
		switch w.Name {
		case workspaceShared, workspaceBinaries, payloadWork:
			b.Claim = &ClaimRef{ClaimName: claim}
		case workspaceDefinition:
			b.ConfigMap = &NameRef{Name: p.name(p.definitionName())}
		case workspaceKeys:
			b.ConfigMap = &NameRef{Name: p.name(workspaceKeys)}
		case workspaceRegistry:
			b.Secret = &SecretVolume{SecretName: p.auth, Optional: true}
		case workspaceStore:
			b.Secret = &SecretVolume{SecretName: p.store, Optional: true}
		}
		out = append(out, b)
	}
	return out
}

// lock has the first task of a run begin with a step that waits until no other run
// works in the volume and writes the stream's index. It alone has a token, to ask
// whether the run that has the lease goes on: one that was cancelled cannot give it back.
func (p *plan) lock(t *Task, params []ParamSpec, c stream.Cadence) Param {
	const token = "token"
	for _, s := range append(p.pick(params, "arch", "store", "wait"), ParamSpec{Name: "holder", Type: typeString, Description: "name of the run, for the lease"}) {
		if find(t.Spec.Params, s.Name, paramName) == nil {
			t.Spec.Params = append(t.Spec.Params, s)
		}
	}
	step := p.step("lock", append([]string{
		"tekton", "lock", "--holder=$(params.holder)", "--wait=$(params.wait)", "--ttl=" + (c.Timeout + 2*finallyTimeout).String(),
		"--namespace=" + p.opts.Namespace, "--token-file=" + tokenDir + "/" + token, "--ca-file=" + tokenDir + "/ca.crt",
	}, p.leaseFlags()...)...)
	if p.auth != "" { // missing, it would be noticed when a build is done
		step.Args = append(step.Args, "--authfile=$(workspaces."+workspaceRegistry+".path)/"+dockerConfig)
	}
	step.Mounts = []VolumeMount{{Name: token, MountPath: tokenDir, ReadOnly: true}}
	t.Spec.Steps = append([]Step{step}, t.Spec.Steps...)
	t.Spec.Volumes = append(t.Spec.Volumes, Volume{Name: token, Projected: &Projected{Sources: []Projection{
		{Token: &AccountToken{Path: token, ExpirationSeconds: 3600}}, {ConfigMap: &NameRef{Name: "kube-root-ca.crt"}},
	}}})
	return Param{Name: "holder", Value: *text(holder)}
}

func (p *plan) leaseFlags() []string {
	args := []string{
		"--stream=$(workspaces." + workspaceDefinition + ".path)/" + definitionKey,
		"--state=$(workspaces." + workspaceShared + ".path)/state",
		"--arch=$(params.arch)",
		"--store=$(params.store)",
	}
	return append(args, p.credentials(false)...)
}

// unlock lets the next run begin.
func (p *plan) unlock() *Task {
	t := p.task("unlock", nameDaily, "Give back the lease of the stream's index")
	t.Spec.Params = append(p.pick(p.dailyParams(), "arch", "store"), ParamSpec{Name: "holder", Type: typeString, Description: "name of the run, for the lease"})
	t.Spec.Workspaces = p.workspaces(workspaceShared, workspaceDefinition, workspaceStore)
	t.Spec.Steps = []Step{p.step("unlock", append([]string{"tekton", "unlock", "--holder=$(params.holder)"}, p.leaseFlags()...)...)}
	return t
}
