package tekton

import (
	"fmt"
	"strings"

	"github.com/okd-project/okd-streams/stream"
)

// cosa begins scripts of coreos-assembler.
const cosa = `#!/bin/bash
set -euo pipefail
mkdir -p ` + cosaDir + `
cd ` + cosaDir + `
`

// probe refuses a coreos-assembler that cannot build this stream before anything is built. Its
// main branch has lost build-extensions-container in January 2026, and
// in April build's --force-nocache with what fetch does; then fetch says so and succeeds.
const probe = `known=$(cosa --help 2>&1 || true)
missing=()
for command in init fetch build %s; do
  grep -qw -- "$command" <<<"$known" || missing+=("cosa $command")
done
if ! grep -q -- --force-nocache <<<"$(cosa build --help 2>&1 || true)"; then
  missing+=("cosa build --force-nocache")
fi
if [ "${#missing[@]}" -gt 0 ]; then
  echo "this coreos-assembler cannot build the stream, it has not:" >&2
  printf '  %%s\n' "${missing[@]}" >&2
  echo "name in os.builder.image one of a branch rhcos-4.NN of 2025, by digest" >&2
  exit 1
fi
`

// commands are those of coreos-assembler, beside init, fetch and build, that the stream needs.
func (p *plan) commands() []string {
	var out []string
	if *p.profile.ExtensionsRequired && p.def.Extensions.Image == "" {
		out = append(out, "extensions-container")
	}
	for _, platform := range p.platforms() {
		out = append(out, "buildextend-"+platform)
	}
	if p.kola() {
		out = append(out, "kola")
	}
	return out
}

// platforms are those that buildextend makes, each once; live makes several artifacts, and nothing can
// be made of the live image before metal.
func (p *plan) platforms() []string {
	var out []string
	add := func(platform string) {
		if !contains(out, platform) {
			out = append(out, platform)
		}
	}
	for _, d := range p.disks() {
		if strings.HasPrefix(d, "live-") {
			add("metal")
			add("metal4k")
			d = "live"
		}
		add(d)
	}
	return out
}

// cosaInit prepares the folder that coreos-assembler works in. Builds of earlier
// runs stay in it.
func (p *plan) cosaInit(params []ParamSpec) *Task {
	t := p.task(taskInit, nameDaily, "Fetch the configuration, and find out whether this coreos-assembler can build it")
	t.Spec.Params = p.pick(params, "repo", "branch", "commit", "variant")
	t.Spec.Workspaces = p.workspaces(workspaceShared)
	t.Spec.Results = results("source-commit")
	env := fromParams("repo", "branch", "commit", "variant")
	var repos []string
	for i, r := range p.def.OS.Repositories {
		url, err := r.BaseURL.Expand(p.vars())
		if err != nil {
			continue // checked with the definition
		}
		repos = append(repos, fmt.Sprintf("repository %s %s %s %s %s", shellQuote(r.Name), shellQuote(url), shellQuote(r.GPGKey),
			shellQuote(strings.Join(r.Include, ",")), shellQuote(strings.Join(r.Exclude, ","))))
		if c := r.Credentials; c != nil && c.Secret != "" {
			for _, role := range []string{"username", "password"} {
				if c.Keys[role] != "" {
					name := fmt.Sprintf("REPOSITORY_%d_%s", i, strings.ToUpper(role))
					env = append(env, EnvVar{Name: name, ValueFrom: &EnvSource{SecretKeyRef: &SecretKey{Name: c.Secret, Key: c.Keys[role]}}})
					repos[len(repos)-1] += fmt.Sprintf(` "$%s"`, name)
				}
			}
		}
	}
	script := cosa + fmt.Sprintf(probe, strings.Join(p.commands(), " ")) + `rm -rf src/config src/config-git
args=(--force)
if [ -n "$BRANCH" ]; then args+=(--branch "$BRANCH"); fi
if [ -n "$COMMIT" ]; then args+=(--commit "$COMMIT"); fi
if [ -n "$VARIANT" ]; then args+=(--variant "$VARIANT"); fi
cosa init "${args[@]}" -- "$REPO"
git -C src/config rev-parse HEAD | tr -d '\n' >$(results.source-commit.path)
`
	if len(repos) > 0 {
		script += `repository() {
  {
    printf '[%s]\nname=%s\nbaseurl=%s\nenabled=1\n' "$1" "$1" "$2"
    if [ -n "$3" ]; then printf 'gpgcheck=1\ngpgkey=%s\n' "$3"; else printf 'gpgcheck=0\n'; fi
    if [ -n "$4" ]; then printf 'includepkgs=%s\n' "$4"; fi
    if [ -n "$5" ]; then printf 'excludepkgs=%s\n' "$5"; fi
    if [ -n "${6-}" ]; then printf 'username=%s\n' "$6"; fi
    if [ -n "${7-}" ]; then printf 'password=%s\n' "$7"; fi
  } >"src/config/$1.repo"
  chmod 600 "src/config/$1.repo"
}
` + strings.Join(repos, "\n") + "\n"
	}
	t.Spec.Steps = []Step{p.builderStep("init", script, env...)}
	p.kvm(t)
	return t
}

// shellQuote makes one word of a text of the definition.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (p *plan) cosaCompose() *Task {
	t := p.task(taskCompose, nameDaily, "Compose the tree")
	t.Spec.Workspaces = p.workspaces(workspaceShared)
	t.Spec.Results = results("commit", "cosa-build")
	t.Spec.Steps = []Step{p.builderStep("build", cosa+`cosa fetch
cosa build container --force-nocache
meta=builds/latest/$(uname -m)/meta.json
jq -rj '.["ostree-commit"]' "$meta" >$(results.commit.path)
jq -rj .buildid "$meta" >$(results.cosa-build.path)
`)}
	p.kvm(t)
	return t
}

// cosaTest runs the basic scenarios, which okd-coreos-pipeline has left out since June 2024.
func (p *plan) cosaTest() *Task {
	t := p.task(taskTest, nameDaily, "Boot the tree in a virtual machine, and test it")
	t.Spec.Workspaces = p.workspaces(workspaceShared)
	t.Spec.Results = results("kola")
	t.Spec.Steps = []Step{p.builderStep("kola", cosa+`cosa buildextend-qemu
if cosa kola run --basic-qemu-scenarios; then
  printf passed >$(results.kola.path)
else
  printf failed >$(results.kola.path)
fi
`)}
	p.kvm(t)
	return t
}

// kolaGate has the gates that are coreos-assembler's tests know what these said.
func (p *plan) kolaGate(publish *Task) Param {
	publish.Spec.Params = append(publish.Spec.Params, ParamSpec{Name: "kola", Type: typeString, Description: resultsMean["kola"]})
	step := &publish.Spec.Steps[0]
	for _, g := range p.def.Gates {
		if g.Kind == stream.GateKola {
			step.Args = append(step.Args, "--gate="+g.Name+"=$(params.kola)")
		}
	}
	return Param{Name: "kola", Value: *text("$(tasks." + taskTest + ".results.kola)")}
}

// cosaExtensions builds the extensions image and pushes it by digest alone, where it is
// content: what names it is published at the end.
func (p *plan) cosaExtensions(params []ParamSpec) *Task {
	t := p.task(taskExtensions, nameDaily, "Build the extensions image, and push it")
	t.Spec.Params = p.pick(params, "target-registry")
	t.Spec.Workspaces = p.workspaces(workspaceShared, workspaceRegistry)
	t.Spec.Results = results("output", "extensions-image")
	repository := p.def.Registry.Repository
	env := append(fromParams("target-registry"), EnvVar{Name: "REPOSITORY", Value: repository}, EnvVar{Name: "NAME", Value: p.profile.ExtensionsImage})
	auth := ""
	if p.auth != "" {
		auth = " --authfile=$(workspaces." + workspaceRegistry + ".path)/" + dockerConfig
	}
	t.Spec.Steps = []Step{p.builderStep("build", cosa+`cosa build-extensions-container
meta=builds/latest/$(uname -m)/meta.json
archive=builds/latest/$(uname -m)/$(jq -r '.images["extensions-container"].path' "$meta")
to=${TARGET_REGISTRY:-docker://$REPOSITORY}/$NAME
skopeo copy -q`+auth+` --digestfile=/tmp/digest "oci-archive:$archive" "$to:$(jq -r .buildid "$meta")-$(uname -m)-candidate"
printf '%s@%s' "${to#docker://}" "$(cat /tmp/digest)" >$(results.extensions-image.path)
printf OK >$(results.output.path)
`, env...)}
	p.kvm(t)
	return t
}

// cosaDisks makes boot images, and gives them names that do not change.
func (p *plan) cosaDisks() *Task {
	t := p.task(taskDisks, nameDaily, "Make the boot images")
	t.Spec.Workspaces = p.workspaces(workspaceShared)
	t.Spec.Results = results("output")
	var b strings.Builder
	b.WriteString(cosa)
	for _, platform := range p.platforms() {
		fmt.Fprintf(&b, "cosa buildextend-%s\n", platform)
	}
	b.WriteString(`build=$PWD/builds/$(jq -r '.builds[0].id' builds/builds.json)/$(uname -m)
rm -rf ` + disksDir + `
mkdir -p ` + disksDir + `
for disk in ` + strings.Join(p.disks(), " ") + `; do
  path=$(jq -r --arg disk "$disk" '.images[$disk].path // empty' "$build/meta.json")
  if [ -z "$path" ]; then
    echo "coreos-assembler made no $disk" >&2
    exit 1
  fi
  ln -s "$build/$path" "` + disksDir + `/$disk"
done
printf OK >$(results.output.path)
`)
	t.Spec.Steps = []Step{p.builderStep("buildextend", b.String())}
	p.kvm(t)
	return t
}
