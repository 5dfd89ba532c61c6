package container

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The build arguments that every rendered Containerfile has.
const (
	argBase    = "BASE"    // what the node image is FROM
	argNode    = "NODE"    // the node image that extensions are for
	argBuilder = "BUILDER" // what makes the extensions' repository
)

// Where images have their lists of packages, and where build steps see the build
// context and repositories.
const (
	extensionsDir = "/usr/share/rpm-ostree/extensions"
	nodeContext   = "/run/src"
	nodeRepos     = "/etc/yum.repos.d"
	nodeRepoFile  = nodeRepos + "/okd-streams.repo"
)

// RenderNode writes the Containerfiles that a spec asks for: of the node image,
// and of its extensions image. "": there is none, or the spec has its own. The
// same spec gives the same bytes. buildah and podman build them in the build
// context:
//
//	buildah build --layers -f Containerfile -t NODE .
//	buildah build --layers -f Containerfile.extensions --build-arg NODE=NODE -t EXTENSIONS .
//
// with --secret id=yumrepos,src=FILE where a repository is a secret. The last
// layer of either image is the list of its packages, where OpenShift looks for it.
func RenderNode(spec *NodeSpec) (node, extensions string, err error) {
	if err := spec.Check(); err != nil {
		return "", "", err
	}
	if spec.Containerfile == "" {
		node = spec.renderNode()
	}
	if spec.hasExtensions() && spec.ExtensionsContainerfile == "" {
		extensions = spec.renderExtensions()
	}
	return node, extensions, nil
}

// containerfile is a Containerfile that is being written.
type containerfile struct{ strings.Builder }

func (c *containerfile) line(format string, args ...any) {
	fmt.Fprintf(c, format+"\n", args...)
}

// run writes commands that are one layer, each of which must succeed.
func (c *containerfile) run(mounts []string, commands []string) {
	c.WriteString("RUN ")
	for _, m := range mounts {
		c.WriteString("--mount=" + m + " \\\n    ")
	}
	c.WriteString("set -eu")
	for _, command := range commands {
		c.WriteString("; \\\n    " + command)
	}
	c.WriteString("\n")
}

// labels sets all labels at once: each instruction is an image to a builder.
func (c *containerfile) labels(labels map[string]string) {
	c.WriteString("LABEL")
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		c.WriteString(" \\\n    " + key + "=" + nodeQuote(labels[key]))
	}
	c.WriteString("\n")
}

// args declares the spec's build arguments, which end with a stage.
func (c *containerfile) args(n *NodeSpec) {
	for _, key := range slices.Sorted(maps.Keys(n.Args)) {
		c.line("ARG %s=%s", key, nodeQuote(n.Args[key]))
	}
}

// nodeQuote makes text a word of a Containerfile.
func nodeQuote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`).Replace(text) + `"`
}

func (n *NodeSpec) manager() PackageManager {
	if n.Manager == "" {
		return ManagerRPMOSTree
	}
	return n.Manager
}

// mounts are what steps that install packages see.
func (n *NodeSpec) mounts() []string {
	out := []string{"type=bind,target=" + nodeContext}
	if slices.ContainsFunc(n.Repositories, func(r NodeRepository) bool { return r.Secret }) {
		out = append(out, "type=secret,id=yumrepos,target="+nodeRepos+"/okd-streams-secret.repo")
	}
	return out
}

func (n *NodeSpec) renderNode() string {
	c := &containerfile{}
	c.line("# Node image %s. Rendered by okd-streams: change what it is rendered from.", n.Version)
	c.line("ARG %s=%s", argBase, n.Base)
	c.line("FROM ${%s} AS build", argBase)
	c.args(n)
	if n.Files != "" {
		c.line("COPY %s/ /", n.Files)
	}
	if commands := n.installCommands(); len(commands) > 0 {
		c.run(n.mounts(), commands)
	}
	if list := n.listCommand(); list != "" {
		c.line("")
		c.line("FROM build AS metadata")
		c.run(nil, []string{"mkdir -p /usr/share/openshift/base", list + " > /" + metaLayerFile})
	}
	c.line("")
	c.line("FROM build")
	labels := n.nodeLabels()
	if n.listCommand() != "" {
		labels[LabelMetaLayer] = "true"
	}
	c.labels(labels)
	if n.listCommand() != "" {
		c.line("# The last layer: OpenShift reads it alone.")
		c.line("COPY --from=metadata /usr/share/openshift /usr/share/openshift")
	}
	return c.String()
}

// installCommands are what makes a node image of a base image.
func (n *NodeSpec) installCommands() []string {
	var out []string
	installs := len(n.Packages) > 0 || n.PackageDir != ""
	rpm := n.manager() == ManagerRPMOSTree || n.manager() == ManagerDNF
	if installs && rpm {
		// Programs in Python that run here write .pyc files anew, with times that
		// OSTree does not keep: they would differ from what is shipped.
		out = append(out, `find /usr -name '*.pyc' -exec mv '{}' '{}.orig' ';'`)
	}
	if installs {
		out = append(out, n.withRepositories(n.installCommand(), n.manager() == ManagerAPT && len(n.Packages) > 0)...)
	}
	if n.Script != "" {
		out = append(out, nodeContext+"/"+n.Script)
	}
	if n.OpenShift != "" {
		out = append(out, fmt.Sprintf(`echo 'OPENSHIFT_VERSION="%s"' >> /usr/lib/os-release`, n.OpenShift))
	}
	switch {
	case !installs:
	case rpm:
		out = append(out,
			"rm -rf /var/cache/* /var/log/* /var/lib/dnf /var/lib/rpm-state",
			`find /usr -name '*.pyc.orig' -exec sh -c 'mv "$1" "${1%.orig}"' _ '{}' ';'`)
	case n.manager() == ManagerAPT:
		out = append(out, "rm -rf /var/cache/apt/* /var/cache/ldconfig /var/lib/apt/lists/* /var/log/*")
	}
	if len(out) > 0 {
		out = append(out, "if command -v ostree > /dev/null; then ostree container commit; fi")
	}
	return out
}

// withRepositories puts what makes the spec's repositories seen around a command.
func (n *NodeSpec) withRepositories(command string, update bool) []string {
	var out []string
	lines := n.repositoryLines()
	if lines != "" {
		out = append(out, "mkdir -p "+nodeRepos, "printf '%s\\n'"+lines+" > "+nodeRepoFile)
	}
	if update {
		out = append(out, "apt-get update")
	}
	out = append(out, command)
	if lines != "" {
		out = append(out, "rm "+nodeRepoFile)
	}
	return out
}

// repositoryLines are the lines of a file in /etc/yum.repos.d, as words of a shell
// with a space in front of each.
func (n *NodeSpec) repositoryLines() string {
	var b strings.Builder
	add := func(format string, args ...any) { b.WriteString(" '" + fmt.Sprintf(format, args...) + "'") }
	for _, r := range n.Repositories {
		if r.Secret {
			continue
		}
		add("[%s]", r.Name)
		add("name=%s", r.Name)
		add("baseurl=%s", r.URL)
		add("enabled=1")
		if r.GPGKey == "" {
			add("gpgcheck=0")
		} else {
			add("gpgcheck=1")
			add("gpgkey=%s", r.GPGKey)
		}
		if len(r.Include) > 0 {
			add("includepkgs=%s", strings.Join(r.Include, ","))
		}
		if len(r.Exclude) > 0 {
			add("excludepkgs=%s", strings.Join(r.Exclude, ","))
		}
	}
	return b.String()
}

func (n *NodeSpec) installCommand() string {
	what, suffix := strings.Join(n.Packages, " "), ".rpm"
	if n.manager() == ManagerAPT {
		suffix = ".deb"
	}
	if n.PackageDir != "" {
		what = strings.TrimSpace(what + " " + nodeContext + "/" + n.PackageDir + "/*" + suffix)
	}
	switch n.manager() {
	case ManagerAPT:
		return "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends " + what
	case ManagerDNF:
		return "dnf -y --setopt=install_weak_deps=False" + n.only("--repo=") + " install " + what
	default:
		only := n.only("--enablerepo=")
		if only != "" {
			only = " --disablerepo='*'" + only
		}
		return "rpm-ostree install -y" + only + " " + what
	}
}

// only says that packages are from the spec's repositories alone: what else the
// base image has would make its versions differ from day to day.
func (n *NodeSpec) only(flag string) string {
	out := ""
	for _, r := range n.Repositories {
		out += " " + flag + r.Name
	}
	return out
}

// listCommand prints the list of packages that OpenShift reads; "": the image has
// no package manager that could. Its form is that of the commit metadata
// rpmostree.rpmdb.pkglist, as openshift/os has it.
func (n *NodeSpec) listCommand() string {
	var rows string
	switch n.manager() {
	case ManagerRPMOSTree, ManagerDNF:
		rows = `rpm -qa --queryformat '["%{NAME}","%{EPOCHNUM}","%{VERSION}","%{RELEASE}","%{ARCH}"]\n'`
	case ManagerAPT:
		rows = `dpkg-query -W -f '${db:Status-Status} ${Package} ${Version} ${Architecture}\n' | ` +
			`sed -n -E -e 's/^installed //; t start' -e d -e ':start' ` +
			`-e 's/^([^ ]+) (([0-9]+):)?([^ ]*)-([^ -]*) ([^ ]+)$/["\1","\3","\4","\5","\6"]/; t done' ` +
			`-e 's/^([^ ]+) (([0-9]+):)?([^ ]*) ([^ ]+)$/["\1","\3","\4","","\5"]/' -e ':done' -e 's/,"",/,"0",/' -e p`
	default:
		return ""
	}
	return `{ echo '{"rpmdb.pkglist":['; ` + rows + ` | LC_ALL=C sort | sed '$!s/$/,/'; echo ']}'; }`
}

func (n *NodeSpec) renderExtensions() string {
	c := &containerfile{}
	c.line("# Extensions of node image %s. Rendered by okd-streams: change what it is rendered from.", n.Version)
	c.line("ARG %s=localhost/node:%s", argNode, nodeTag(n.Version))
	if n.manager() == ManagerNone {
		n.copyExtensions(c)
		return c.String()
	}
	stage := "packages"
	if n.ExtensionsBuilder != "" {
		c.line("ARG %s=%s", argBuilder, n.ExtensionsBuilder)
	}
	c.line("FROM ${%s} AS packages", argNode)
	c.args(n)
	commands := []string{"mkdir -p " + extensionsDir}
	apt := n.manager() == ManagerAPT
	if n.ExtensionDir != "" {
		suffix := ".rpm"
		if apt {
			suffix = ".deb"
		}
		commands = append(commands, fmt.Sprintf("cp %s/%s/*%s %s/", nodeContext, n.ExtensionDir, suffix, extensionsDir))
	}
	if len(n.Extensions) > 0 {
		var downloads []string
		for _, e := range n.Extensions {
			downloads = append(downloads, n.downloadCommand(&e))
		}
		commands = append(commands, n.withRepositories(strings.Join(downloads, "; \\\n    "), apt)...)
	}
	commands = append(commands, n.extensionsListCommand()+" > /"+extensionsFile)
	c.run(n.mounts(), commands)
	switch {
	case apt: // files without an index are all there is
	case n.ExtensionsBuilder != "":
		stage = "repository"
		c.line("")
		c.line("FROM ${%s} AS repository", argBuilder)
		c.line("COPY --from=packages %s/ %s/", extensionsDir, extensionsDir)
		c.run(nil, []string{"createrepo_c " + extensionsDir})
	default:
		c.run(nil, []string{"createrepo_c " + extensionsDir})
	}
	c.line("")
	n.finalExtensions(c)
	c.line("COPY --from=%s %s/ %s/", stage, extensionsDir, extensionsDir)
	c.line("# The last layer: OpenShift reads it alone.")
	c.line("COPY --from=packages /%s /%s", extensionsFile, extensionsFile)
	return c.String()
}

// finalExtensions begins the last stage of an extensions image.
func (n *NodeSpec) finalExtensions(c *containerfile) {
	from := "scratch"
	if n.ExtensionsBase != "" {
		from = n.ExtensionsBase
	}
	c.line("FROM %s", from)
	c.labels(n.extensionsLabels())
}

// copyExtensions makes an extensions image of files that are ready.
func (n *NodeSpec) copyExtensions(c *containerfile) {
	n.finalExtensions(c)
	c.line("COPY %s/ %s/", n.ExtensionDir, extensionsDir)
	c.line("# The last layer: OpenShift reads it alone.")
	c.line("COPY %s/extensions.json /%s", n.ExtensionDir, extensionsFile)
}

// nodeTag is a version as a tag, which has no "+".
func nodeTag(version string) string { return strings.ReplaceAll(version, "+", "_") }

// downloadCommand fetches the packages of an extension and what they need.
func (n *NodeSpec) downloadCommand(e *NodeExtension) string {
	var b strings.Builder
	apt := n.manager() == ManagerAPT
	end := ""
	if len(e.Architectures) > 0 {
		fmt.Fprintf(&b, "case \"$(uname -m)\" in %s) ", strings.Join(e.Architectures, "|"))
		end = " ;; esac"
	}
	version := ""
	if e.MatchVersion != "" {
		// By itself: set -e does not see what fails within an argument.
		query := "rpm -q --queryformat '%{VERSION}-%{RELEASE}' "
		if version = "-$version"; apt {
			query, version = "dpkg-query -W -f '${Version}' ", "=$version"
		}
		fmt.Fprintf(&b, "version=$(%s%s); ", query, e.MatchVersion)
	}
	if apt {
		fmt.Fprintf(&b, "(cd %s && apt-get download", extensionsDir)
		end = ")" + end
	} else {
		fmt.Fprintf(&b, "dnf -y%s download --resolve --alldeps --destdir=%s", n.only("--repo="), extensionsDir)
	}
	for _, p := range e.Packages {
		if version == "" {
			b.WriteString(" " + p)
		} else {
			b.WriteString(` "` + p + version + `"`)
		}
	}
	return b.String() + end
}

// extensionsListCommand prints the names and versions of all packages in the
// extensions' folder, as openshift/os does.
func (n *NodeSpec) extensionsListCommand() string {
	rows := "rpm -qp --queryformat '\"%{NAME}\": \"%{EVR}.%{ARCH}\"\\n' " + extensionsDir + "/*.rpm"
	if n.manager() == ManagerAPT {
		rows = "for f in " + extensionsDir + "/*.deb; do dpkg-deb -W --showformat='\"${Package}\": \"${Version}.${Architecture}\"\\n' \"$f\"; done"
	}
	return "{ echo '{'; " + rows + " | LC_ALL=C sort | sed '$!s/$/,/'; echo '}'; }"
}
