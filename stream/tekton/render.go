package tekton

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/stream"
)

// Rendered are the objects of a stream.
type Rendered struct {
	// Objects are to be applied, in this order.
	Objects []Object
	// Runs are to be created, each time that a pipeline is to run: of each pipeline, and for the
	// daily build of each architecture, one. The CronJobs among Objects create the same.
	Runs []*PipelineRun
}

// Encode writes Objects as YAML, a document each.
func (r *Rendered) Encode(w io.Writer) error { return Encode(w, r.Objects...) }

// Check is [Check] of all objects and runs.
func (r *Rendered) Check() error {
	all := slices.Clone(r.Objects)
	for _, run := range r.Runs {
		all = append(all, run)
	}
	return Check(all...)
}

// Names of objects, behind [Options.Prefix]. Those of pipelines, of workspaces and of
// parameters are okd-coreos-pipeline's and okd-release-pipeline's where the
// same is meant.
const (
	nameDaily     = "okd-coreos"
	nameRelease   = "okd-release-pipeline"
	namePayload   = "okd-payload"
	buildAccount  = "okd-streams-build"
	timerAccount  = "okd-streams-timer"
	definitionMap = "definition"
	runsMap       = "runs"

	workspaceShared     = "shared-workspace"
	workspaceDefinition = "definition"
	workspaceRegistry   = "registry-credentials"
	workspaceStore      = "s3-credentials"

	definitionKey = "stream.yaml"
	dockerConfig  = ".dockerconfigjson"
	program       = "/usr/bin/okd-streams" // in the task image
	resultsDir    = "/tekton/results"      // where Tekton has steps write results
	secretsDir    = "/var/run/okd-streams/secrets"
	runsDir       = "/etc/okd-streams/runs"
	tokenDir      = "/var/run/okd-streams/cluster"
)

// Labels of all objects, and of those that belong to a pipeline.
const (
	labelPart     = "app.kubernetes.io/part-of"
	labelStream   = "streams.okd.io/stream"
	labelPipeline = "streams.okd.io/pipeline"
	labelArch     = "streams.okd.io/architecture"
)

// taskUser is whom the task image runs as, and the group that volumes are given to.
const taskUser int64 = 65532

// Render makes the objects of a stream for one platform: tasks and pipelines of the
// daily build, of releases and of payloads, their runs, the CronJobs that start them by
// the definition's cadences, and what these need. A definition or options that lack what
// a run needs are refused; all faults are joined. The result passes [Rendered.Check], and
// is the same whenever and wherever it is made.
func Render(def *stream.Definition, opts *Options) (*Rendered, error) {
	p, err := newPlan(def, opts)
	if err != nil {
		return nil, err
	}
	r := &Rendered{}
	r.Objects = append(r.Objects, p.namespace()...)
	r.Objects = append(r.Objects, p.accounts()...)
	r.Objects = append(r.Objects, p.releaseAccounts()...)
	r.Objects = append(r.Objects, p.definition())
	pipelines := []*pipeline{p.daily(), p.release(), p.payload()}
	if p.notify != nil {
		r.Objects = append(r.Objects, p.notify)
	}
	var timers []Object
	runs := map[string]string{}
	for _, pl := range pipelines {
		for _, t := range pl.tasks {
			r.Objects = append(r.Objects, t)
		}
		r.Objects = append(r.Objects, pl.Pipeline)
		for _, c := range pl.claims {
			r.Objects = append(r.Objects, c)
		}
		var files []string
		for _, run := range pl.runs {
			open, err := p.fill(pl.Pipeline, run)
			if err == nil && open != nil && pl.cadence.Schedule != "" {
				err = fmt.Errorf("parameter %s of pipeline %s, which its CronJob has to give, is said neither by the definition nor by Options.Params: %s", open.Name, pl.Metadata.Name, open.Description)
			}
			if err != nil {
				return nil, fmt.Errorf("tekton: render %s: %w", def.Identity.Name, err)
			}
			if open != nil {
				continue // only who creates the run knows
			}
			r.Runs = append(r.Runs, run)
			var b bytes.Buffer
			if err := Encode(&b, run); err != nil {
				return nil, err
			}
			file := strings.TrimSuffix(run.Metadata.GenerateName, "-") + ".yaml"
			runs[file], files = b.String(), append(files, path.Join(runsDir, file))
		}
		if pl.cadence.Schedule != "" {
			timers = append(timers, p.timer(pl, files))
		}
	}
	if timers != nil {
		m := &ConfigMap{Header: p.head("v1", "ConfigMap", runsMap), Data: runs}
		r.Objects = append(append(r.Objects, m), timers...)
	}
	if err := p.known(pipelines); err != nil {
		return nil, fmt.Errorf("tekton: render %s: %w", def.Identity.Name, err)
	}
	if err := r.Check(); err != nil {
		return nil, fmt.Errorf("tekton: render %s:\n%w", def.Identity.Name, err)
	}
	return r, nil
}

// pipeline is a pipeline with all that is its own.
type pipeline struct {
	*Pipeline
	tasks   []*Task
	claims  []*VolumeClaim
	runs    []*PipelineRun
	cadence stream.Cadence
}

// name gives the full name of an object.
func (p *plan) name(of string) string { return p.opts.Prefix + of }

// head begins an object.
func (p *plan) head(api, kind, of string) Header {
	return Header{APIVersion: api, Kind: kind, Metadata: Metadata{
		Name: p.name(of), Namespace: p.opts.Namespace,
		Labels: map[string]string{labelPart: "okd-streams", labelStream: p.def.Identity.Name},
	}}
}

// namespace is made by who administers the cluster; where that is OpenShift, as a project.
func (p *plan) namespace() []Object {
	if p.opts.Platform == OpenShift {
		return nil
	}
	h := p.head(coreAPI, "Namespace", "")
	h.Metadata.Name, h.Metadata.Namespace = p.opts.Namespace, ""
	delete(h.Metadata.Labels, labelStream) // there may be several
	level := "baseline"                    // Tekton's own containers are not restricted by default
	if p.def.OS.Builder.Image != "" || p.opts.HostNetwork {
		level = "privileged"
	}
	h.Metadata.Labels["pod-security.kubernetes.io/enforce"] = level
	return []Object{&Namespace{Header: h}}
}

// accounts: who builds may look at runs, with a token that only the step has which asks whether
// another run has ended; who starts runs may start them, and see and remove those there are.
func (p *plan) accounts() []Object {
	var privileged []Object
	if p.opts.Platform == OpenShift && p.def.OS.Builder.Image != "" {
		// Builders run containers in their own.
		privileged = []Object{&RoleBinding{
			Header:   p.head(rbacAPI, "RoleBinding", buildAccount+"-privileged"),
			RoleRef:  RoleRef{APIGroup: rbacGroup, Kind: "ClusterRole", Name: "system:openshift:scc:privileged"},
			Subjects: []Subject{{Kind: "ServiceAccount", Name: p.name(buildAccount), Namespace: p.opts.Namespace}},
		}}
	}
	return slices.Concat(p.account(buildAccount, "get"), p.account(timerAccount, "create", "delete", "list"), privileged)
}

// account may do so much with runs.
func (p *plan) account(of string, verbs ...string) []Object {
	return []Object{
		&ServiceAccount{Header: p.head(coreAPI, "ServiceAccount", of)},
		&Role{Header: p.head(rbacAPI, "Role", of), Rules: []Rule{
			{APIGroups: []string{"tekton.dev"}, Resources: []string{"pipelineruns"}, Verbs: verbs},
		}},
		&RoleBinding{
			Header:   p.head(rbacAPI, "RoleBinding", of),
			RoleRef:  RoleRef{APIGroup: rbacGroup, Kind: "Role", Name: p.name(of)},
			Subjects: []Subject{{Kind: "ServiceAccount", Name: p.name(of), Namespace: p.opts.Namespace}},
		},
	}
}

// definition is named after its content, so that a build goes on with the one that it began
// with.
func (p *plan) definition() *ConfigMap {
	return &ConfigMap{Header: p.head(coreAPI, "ConfigMap", p.definitionName()), Immutable: true, Data: map[string]string{definitionKey: p.text}}
}

func (p *plan) definitionName() string {
	sum := sha256.Sum256([]byte(p.text))
	return p.def.Identity.Name + "-" + definitionMap + "-" + hex.EncodeToString(sum[:5])
}

// restricted is what a step may that only computes, as Pod Security's level of that name
// has it.
func restricted() *SecurityContext {
	no := false
	return &SecurityContext{
		AllowPrivilegeEscalation: &no, Capabilities: &Capabilities{Drop: []string{"ALL"}}, RunAsNonRoot: true,
		SeccompProfile: &SeccompProfile{Type: "RuntimeDefault"},
	}
}

// resources of steps of the task image.
func resources() *Resources {
	return &Resources{
		Requests: map[string]string{"cpu": "200m", "memory": "256Mi"},
		Limits:   map[string]string{"memory": "4Gi"},
	}
}

// step is a step of the task image.
func (p *plan) step(of string, args ...string) Step {
	s := Step{
		Name: of, Image: p.opts.Image, Command: []string{program}, Args: args,
		Resources: resources(), Security: restricted(),
	}
	if p.layered() {
		// One user for all files of the volume: that of the builder.
		s.Security.RunAsNonRoot, s.Security.RunAsUser = false, new(int64)
	}
	return s
}

// timer starts a pipeline's runs by its cadence.
func (p *plan) timer(pl *pipeline, files []string) *CronJob {
	of := strings.TrimPrefix(pl.Metadata.Name, p.opts.Prefix)
	h := p.head(batchAPI, kindCronJob, of)
	h.Metadata.Labels[labelPipeline] = of
	args := []string{"tekton", "run", "--namespace=" + p.opts.Namespace, "--keep=10"}
	if pl.cadence.MinInterval > 0 {
		args = append(args, "--min-interval="+pl.cadence.MinInterval.String())
	}
	s := p.step("run", append(args, files...)...)
	yes := true
	return &CronJob{Header: h, Spec: CronJobSpec{
		Schedule: string(pl.cadence.Schedule), TimeZone: "Etc/UTC", ConcurrencyPolicy: "Forbid", StartingDeadlineSeconds: 3600,
		SuccessfulJobsHistoryLimit: 1, FailedJobsHistoryLimit: 3,
		JobTemplate: JobTemplate{Spec: JobSpec{BackoffLimit: 3, ActiveDeadlineSeconds: 600, Template: PodTemplateSpec{
			Metadata: &Metadata{Labels: map[string]string{labelPart: "okd-streams"}},
			Spec: PodSpec{
				ServiceAccountName: p.name(timerAccount), AutomountToken: &yes, RestartPolicy: "Never", HostNetwork: p.opts.HostNetwork,
				Containers: []Container{{
					Name: s.Name, Image: s.Image, Command: s.Command, Args: s.Args, Resources: s.Resources, Security: s.Security,
					Mounts: []VolumeMount{{Name: runsMap, MountPath: runsDir, ReadOnly: true}},
				}},
				Volumes: []Volume{{Name: runsMap, ConfigMap: &NameRef{Name: p.name(runsMap)}}},
			},
		}}},
	}}
}

// run is a run of a pipeline, which the cluster names.
func (p *plan) run(pl *Pipeline, suffix string) *PipelineRun {
	h := p.head(tektonAPI, kindPipelineRun, "")
	of := strings.TrimPrefix(pl.Metadata.Name, p.opts.Prefix)
	h.Metadata.Name, h.Metadata.GenerateName = "", pl.Metadata.Name+"-"+suffix
	h.Metadata.Labels[labelPipeline] = of
	// Once the volume is the group's, its files stay as they are: they go into images.
	pod := &PodTemplate{HostNetwork: p.opts.HostNetwork, Security: &PodSecurity{FSGroupChangePolicy: "OnRootMismatch"}}
	if p.opts.Platform != OpenShift { // which gives each namespace a group
		group := taskUser
		pod.Security.FSGroup = &group
	}
	return &PipelineRun{Header: h, Spec: PipelineRunSpec{
		PipelineRef:  NameRef{Name: pl.Metadata.Name},
		TaskTemplate: &TaskRunTemplate{ServiceAccountName: p.name(buildAccount), PodTemplate: pod},
	}}
}

// fill gives a run the values that the options have for its pipeline's parameters. It gives
// a parameter that still has no value.
func (p *plan) fill(pl *Pipeline, run *PipelineRun) (open *ParamSpec, err error) {
	for i := range pl.Spec.Params {
		param := &pl.Spec.Params[i]
		if find(run.Spec.Params, param.Name, givenName) != nil {
			continue
		}
		value, ok := p.opts.Params[param.Name]
		switch {
		case ok && param.Type == typeArray:
			return nil, fmt.Errorf("parameter %s is a list: give it with each run", param.Name)
		case ok:
			run.Spec.Params = append(run.Spec.Params, Param{Name: param.Name, Value: *text(value)})
		case param.Default == nil && open == nil:
			open = param
		}
	}
	return open, nil
}

// known refuses values of parameters that no pipeline has.
func (p *plan) known(all []*pipeline) error {
	for _, of := range sortedKeys(p.opts.Params) {
		if !slices.ContainsFunc(all, func(pl *pipeline) bool {
			return slices.ContainsFunc(pl.Spec.Params, func(q ParamSpec) bool { return q.Name == of })
		}) {
			return fmt.Errorf("no pipeline has the parameter %.80q", of)
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (p *plan) vars() stream.Vars {
	return stream.Vars{Minor: p.def.Version.String(), Stream: p.def.Identity.Name}
}
