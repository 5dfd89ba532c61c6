package tekton

import (
	"fmt"
	"strings"

	"github.com/okd-project/okd-streams/stream"
)

// Tasks of builds that make the operating system, as of okd-coreos-pipeline, and
// what they have in the shared workspace.
const (
	taskSource     = "git-clone" // kind layer
	taskBase       = "base-image"
	taskInit       = "cosa-init"
	taskCompose    = "cosa-build-baseos"
	taskTest       = "cosa-test"
	taskExtensions = "cosa-build-extensions"
	taskDisks      = "cosa-buildextend"

	sourceDir = sharedPath + "/source"    // kind layer: what the node image is built in
	baseRepo  = sharedPath + "/base-repo" // kind layer: of the followed base image
	baseRef   = "base"
	cosaDir   = sharedPath + "/coreos" // kind compose: coreos-assembler's
	cosaRepo  = cosaDir + "/tmp/repo"
	disksDir  = sharedPath + "/disks" // boot images under names that do not change
	toolsDir  = "/okd-streams"
)

// layered reports whether the node image is built in the cluster.
func (p *plan) layered() bool {
	return p.profile.Kind == stream.Layer && (p.def.OS.Containerfile != "" || len(p.def.OS.Packages) > 0)
}

// builds reports whether the operating system is made in the cluster, in the image of the
// definition's builder.
func (p *plan) builds() bool { return p.profile.Kind == stream.Compose || p.layered() }

// madeByBuilder are paths of what a definition leaves open and tasks make.
func (p *plan) madeByBuilder() map[string]bool {
	return map[string]bool{
		"os.source":        p.profile.Kind == stream.Compose || p.layered() && p.def.OS.Source.Follow != "",
		"extensions.image": p.builds(),
		"payload.base":     p.picks(),
	}
}

// picks reports whether runs find the release that the payload starts from.
func (p *plan) picks() bool { return p.def.Payload.Pick != nil && p.def.Payload.Base == "" }

// sourceParams are okd-coreos-pipeline's.
func (p *plan) sourceParams() []ParamSpec {
	s := p.def.OS.Source
	if s.Git == "" || !p.builds() {
		return nil
	}
	param := func(of, does, value string) ParamSpec {
		return ParamSpec{Name: of, Type: typeString, Description: does, Default: text(value)}
	}
	out := []ParamSpec{
		param("repo", "git repository of the operating system's configuration", s.Git),
		param("branch", "branch or tag of it", string(p.profile.Ref)),
		param("commit", "commit of it, in place of the branch's newest", s.Commit),
	}
	if p.profile.Kind == stream.Compose {
		out = append(out, param("variant", "variant of coreos-assembler", p.profile.Variant))
	}
	return out
}

// nodeFlags have the node image built, or what was built read: all steps need the same.
func (p *plan) nodeFlags() []string {
	if !p.layered() {
		return nil
	}
	return []string{"--node-context=" + sourceDir}
}

// diskFlags name the boot images that coreos-assembler made.
func (p *plan) diskFlags() []string {
	var flags []string
	for _, a := range p.disks() {
		flags = append(flags, "--disk="+a+"="+disksDir+"/"+a)
	}
	return flags
}

// disks are the boot images that are made of the commit, by their names in
// meta.json; kernel and initramfs are in the commit itself.
func (p *plan) disks() []string {
	if p.profile.Kind != stream.Compose {
		return nil
	}
	var out []string
	for _, a := range p.def.Artifacts {
		of := a.Platform
		if of == "live" {
			of += "-" + a.Format
		}
		if of != "live-kernel" && of != "live-initramfs" {
			out = append(out, of)
		}
	}
	return out
}

// fromBuilder are parameters of build-inputs that tasks before it give.
func (p *plan) fromBuilder(pl *pipeline) []Param {
	var given []Param
	if p.picks() {
		given = append(given, Param{Name: "from-release", Value: *text("$(tasks." + taskPick + ".results.release-pullspec)")})
	}
	if find(pl.Spec.Tasks, taskCompose, taskName) != nil {
		given = append(given, Param{Name: "source", Value: *text("ostree:" + cosaRepo + ":$(tasks." + taskCompose + ".results.commit)")})
	}
	if find(pl.Spec.Tasks, taskBase, taskName) != nil {
		given = append(given, Param{Name: "source", Value: *text("ostree:" + baseRepo + ":" + baseRef)})
	}
	if find(pl.Spec.Tasks, taskExtensions, taskName) != nil {
		given = append(given, Param{Name: "extensions", Value: *text("$(tasks." + taskExtensions + ".results.extensions-image)")})
	}
	return given
}

// builderTasks are those before build-inputs; it gives the last.
func (p *plan) builderTasks(pl *pipeline, params []ParamSpec) (last []string) {
	first := func(t *Task) Param {
		held := p.lock(t, params, pl.cadence)
		t.Spec.Workspaces = p.workspaces(workspaceShared, workspaceDefinition, workspaceRegistry, workspaceStore)
		return held
	}
	add := func(t *Task, after []string, timed bool, given ...Param) {
		pt := use(strings.TrimPrefix(t.Metadata.Name, p.opts.Prefix), t, given...)
		pt.RunAfter = after
		pt.Retries = 1
		if d := p.def.OS.Builder.Timeout; timed && d > 0 {
			pt.Timeout = d.String()
		}
		pl.tasks, pl.Spec.Tasks = append(pl.tasks, t), append(pl.Spec.Tasks, pt)
	}
	defer func() {
		if p.picks() {
			add(p.pickRelease(nameDaily, "from-release"), nil, false)
			last = append(last, taskPick)
		}
	}()
	switch {
	case p.layered():
		t := p.gitClone(params)
		add(t, nil, false, first(t))
		last = append(last, taskSource)
		if p.def.OS.Source.Follow != "" {
			add(p.baseImage(), last, false)
			last = []string{taskBase}
		}
	case p.profile.Kind == stream.Compose:
		t := p.cosaInit(params)
		add(t, nil, false, first(t))
		add(p.cosaCompose(), []string{taskInit}, true)
		after := []string{taskCompose}
		if p.kola() {
			add(p.cosaTest(), after, true)
			after = []string{taskTest}
		}
		last = after
		if *p.profile.ExtensionsRequired && p.def.Extensions.Image == "" {
			add(p.cosaExtensions(params), after, true)
			last = []string{taskExtensions}
		}
		if len(p.disks()) > 0 {
			add(p.cosaDisks(), after, true)
			if len(last) > 0 && last[0] != after[0] {
				last = append(last, taskDisks)
			} else {
				last = []string{taskDisks}
			}
		}
	}
	return last
}

// kola reports whether coreos-assembler's tests are a gate.
func (p *plan) kola() bool {
	for _, g := range p.def.Gates {
		if g.Kind == stream.GateKola {
			return true
		}
	}
	return false
}

// builderStep is a script in the builder's image. Scripts read parameters from
// their environment, and never have them as a part of themselves.
func (p *plan) builderStep(of, script string, env ...EnvVar) Step {
	b := p.def.OS.Builder
	r := &Resources{Requests: map[string]string{}, Limits: map[string]string{}}
	if b.CPUs > 0 {
		r.Requests["cpu"] = fmt.Sprint(b.CPUs)
	}
	if b.Memory > 0 {
		r.Requests["memory"], r.Limits["memory"] = b.Memory.String(), b.Memory.String()
	}
	s := Step{Name: of, Image: b.Image, Script: script, Env: env}
	if len(r.Requests) > 0 || b.KVM {
		s.Resources = r
	}
	if p.layered() {
		s.Security = privileged()
	}
	return s
}

// privileged is for steps that run buildah, which runs containers itself.
func privileged() *SecurityContext {
	return &SecurityContext{Privileged: true, RunAsUser: new(int64)}
}

// kvm has a step see the node's /dev/kvm, by the device plugin of KubeVirt: coreos-assembler
// needs no other privilege then. kind has no such plugin, and there the step is privileged.
func (p *plan) kvm(t *Task) {
	if !p.def.OS.Builder.KVM {
		return
	}
	for i := range t.Spec.Steps {
		s := &t.Spec.Steps[i]
		if s.Image != p.def.OS.Builder.Image {
			continue
		}
		if p.opts.Platform == Kind {
			s.Mounts = append(s.Mounts, VolumeMount{Name: "kvm", MountPath: "/dev/kvm"})
			s.Security = &SecurityContext{Privileged: true}
			continue
		}
		s.Resources.Requests[kvmResource], s.Resources.Limits[kvmResource] = "1", "1"
	}
	if p.opts.Platform == Kind {
		t.Spec.Volumes = append(t.Spec.Volumes, Volume{Name: "kvm", HostPath: &HostPath{Path: "/dev/kvm", Type: "CharDevice"}})
	}
}

// kvmResource is as of okd-coreos-pipeline.
const kvmResource = "devices.kubevirt.io/kvm"

func fromParams(names ...string) []EnvVar {
	var env []EnvVar
	for _, n := range names {
		env = append(env, EnvVar{Name: strings.ToUpper(strings.ReplaceAll(n, "-", "_")), Value: "$(params." + n + ")"})
	}
	return env
}

// gitClone fetches one commit, into a folder that begins empty. What is built of packages
// alone needs no more than the folder.
func (p *plan) gitClone(params []ParamSpec) *Task {
	t := p.task(taskSource, nameDaily, "Fetch the source of the node image")
	t.Spec.Params = p.pick(params, "repo", "branch", "commit")
	t.Spec.Workspaces = p.workspaces(workspaceShared)
	if p.def.OS.Source.Git == "" {
		t.Spec.Steps = []Step{p.builderStep("clone", "#!/bin/sh\nset -eu\nmkdir -p "+sourceDir+"\n")}
		return t
	}
	t.Spec.Results = results("source-commit")
	t.Spec.Steps = []Step{p.builderStep("clone", `#!/bin/sh
set -eu
rm -rf `+sourceDir+`
git init -q `+sourceDir+`
cd `+sourceDir+`
git remote add -- origin "$REPO"
git fetch -q --depth 1 -- origin "${COMMIT:-$BRANCH}"
git checkout -q --detach FETCH_HEAD
git submodule update -q --init --recursive --depth 1
git rev-parse HEAD | tr -d '\n' >$(results.source-commit.path)
`, fromParams("repo", "branch", "commit")...)}
	return t
}

// baseImage pins what the definition follows.
func (p *plan) baseImage() *Task {
	t := p.task(taskBase, nameDaily, "Import the base image that the definition follows")
	t.Spec.Workspaces = p.workspaces(workspaceShared, workspaceRegistry)
	repo := "--repo=" + baseRepo
	args := []string{"container", "import", repo, "--registry=docker://", "--cache=" + sharedPath + "/base-cache", "--write-ref=" + baseRef}
	for _, flag := range p.credentials(true) {
		if strings.HasPrefix(flag, "--authfile=") || strings.HasPrefix(flag, "--insecure=") {
			args = append(args, flag)
		}
	}
	t.Spec.Steps = []Step{
		p.step("init", "ostree", "init", repo, "--mode=bare-user"),
		p.step("import", append(args, p.def.OS.Source.Follow)...),
	}
	return t
}

// buildNode has the node image built in the builder's image, where buildah is; the program comes along.
// What is before that needs no privilege, and has a step of its own.
func (p *plan) buildNode(t *Task) {
	if !p.layered() {
		return
	}
	const tools, containers, base = "tools", "containers", "encapsulate"
	step := t.Spec.Steps[0]
	before := p.step(base, append([]string{"build", base}, step.Args[2:]...)...)
	in := p.builderStep(step.Name, "")
	in.Command = []string{toolsDir + "/okd-streams"}
	in.Args = append(step.Args, "--buildah-isolation=chroot", "--buildah-driver=vfs", "--buildah-storage=/var/lib/okd-streams")
	in.Env = step.Env
	in.Mounts = []VolumeMount{{Name: tools, MountPath: toolsDir}, {Name: containers, MountPath: "/var/lib/okd-streams"}}
	install := p.step(tools, "tekton", "install", toolsDir)
	install.Mounts = in.Mounts[:1]
	t.Spec.Steps = []Step{install, before, in}
	t.Spec.Volumes = []Volume{{Name: tools, EmptyDir: &EmptyDir{}}, {Name: containers, EmptyDir: &EmptyDir{}}}
}
