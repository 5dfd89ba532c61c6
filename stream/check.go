package stream

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

var (
	reName       = lazyregexp.New(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	reImageName  = lazyregexp.New(`^[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)
	reFileName   = lazyregexp.New(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	reObject     = lazyregexp.New(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`) // Kubernetes name
	reSecretKey  = lazyregexp.New(`^[A-Za-z0-9._-]{1,253}$`)
	reEnv        = lazyregexp.New(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	reSHA256     = lazyregexp.New(`^[0-9a-f]{64}$`)
	reGitCommit  = lazyregexp.New(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	reRef        = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,253}$`)
	reFormat     = lazyregexp.New(`^[a-z0-9]+(\.[a-z0-9]+)*$`)
	reKeyID      = lazyregexp.New(`^([0-9A-Fa-f]{16}|[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})$`)
	reMail       = lazyregexp.New(`^[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$`)
	reRepository = lazyregexp.New(`^[A-Za-z0-9]([A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]{1,100}$`)
	reBucket     = lazyregexp.New(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	rePackage    = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9+._:~^-]{0,252}$`)
	reNoSpace    = lazyregexp.New(`^\S+$`)
	reWord       = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,252}$`)
)

// platforms are those of stream metadata; own ones start with "x-".
var platforms = strings.Fields(`aliyun applehv aws azure azurestack digitalocean exoscale gcp hetzner hyperv ibmcloud
	kubevirt live metal metal4k nutanix openstack oraclecloud packet powervs proxmoxve qemu qemu-secex virtualbox vmware vultr`)

var roles = []string{"username", "password", "token", "key", "file", "url"}

// checker is the rules of a definition over its collected faults.
type checker struct{ *faults }

func (c checker) fail(path, hint, format string, args ...any) {
	c.add(path, hinted(fmt.Errorf(format, args...), hint))
}

// need reports an absent value.
func (c checker) need(path string, present bool, hint string) bool {
	if !present {
		c.fail(path, hint, "missing")
	}
	return present
}

// match checks the form of a value that may be absent.
func (c checker) match(path, value string, re *lazyregexp.Regexp, hint string) {
	if value != "" && !re.MatchString(value) {
		c.fail(path, hint, "%.80q is not possible here", value)
	}
}

// unique reports the second of equal names.
func unique[T any](c checker, path string, list []T, name func(T) (value, step string)) {
	first := map[string]int{}
	for i, x := range list {
		value, step := name(x)
		if value == "" {
			continue
		}
		if at, ok := first[value]; ok {
			c.fail(fmt.Sprintf("%s[%d]%s", path, i, step), "", "%.80q is there already, as %s[%d]", value, path, at)
			continue
		}
		first[value] = i
	}
}

// digest checks an optional pullspec by digest.
func (c checker) digest(path, ref string) {
	if ref == "" {
		return
	}
	if _, err := name.NewDigest(ref, name.StrictValidation); err != nil || strings.Contains(ref, "//") {
		hint := "write registry/repository@sha256:…"
		if _, err := name.ParseReference(ref, name.WeakValidation); err == nil && !strings.Contains(ref, "@") {
			c.fail(path, hint, "%.200q names a tag, which can move; a digest is needed", ref)
			return
		}
		c.fail(path, hint, "%.200q is not a pullspec by digest", ref)
	}
}

// url checks an optional URL: http or https, and no user or password in it.
func (c checker) url(path, text string) *url.URL {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		c.fail(path, "write https://host/path", "%.200q is not a web address", text)
		return nil
	case u.User != nil:
		c.fail(path, "name a secret under credentials instead", "address holds a user name or password")
		return nil
	}
	return u
}

func (c checker) credentials(path string, cr *Credentials) {
	if cr == nil {
		return
	}
	if cr.Secret == "" && len(cr.Env) == 0 && !c.faulty(path) {
		c.fail(path, "name a secret or environment variables", "names nothing")
	}
	c.match(join(path, "secret"), cr.Secret, reObject, "the name of a Kubernetes Secret")
	if cr.Secret == "" && len(cr.Keys) > 0 {
		c.fail(join(path, "keys"), "name the secret", "keys without secret")
	}
	for _, m := range []struct {
		name   string
		values map[string]string
		form   *lazyregexp.Regexp
		hint   string
	}{
		{"keys", cr.Keys, reSecretKey, "the name of a key in the secret"},
		{"env", cr.Env, reEnv, "the name of an environment variable, not its value"},
	} {
		for _, role := range sortedKeys(m.values) {
			at := join(join(path, m.name), role)
			if !slices.Contains(roles, role) {
				c.add(at, oneOf("role", role, roles...))
			}
			c.match(at, m.values[role], m.form, m.hint)
		}
	}
}

func (c checker) image(path string, t ImageTarget) {
	c.match(join(path, "name"), t.Name, reImageName, "a repository name in lower case, without registry or tag")
	if len(t.Tags) > 0 && t.Name == "" {
		c.fail(join(path, "name"), "name the repository", "missing")
	}
	for i, tag := range t.Tags {
		if err := tag.checkTag(); err != nil {
			c.add(fmt.Sprintf("%s.tags[%d]", path, i), err)
		}
	}
	unique(c, path+".tags", t.Tags, func(t Template) (string, string) { return string(t), "" })
}

// gitRef checks a branch or tag.
func (c checker) gitRef(path string, ref Template) {
	text, err := ref.expand(Vars{Minor: sampleVars.Minor})
	if err != nil {
		c.add(path, hinted(err, "only ${MINOR} has a value here"))
		return
	}
	c.match(path, text, reRef, "a branch or tag")
}

// words checks a list of names.
func (c checker) words(path string, list []string, form *lazyregexp.Regexp, hint string) {
	for i, w := range list {
		c.match(fmt.Sprintf("%s[%d]", path, i), w, form, hint)
	}
	unique(c, path, list, func(w string) (string, string) { return w, "" })
}

// check holds every rule. Faults of decoding are in f already, and keep
// others at the same path away.
func (d *Definition) check(f *faults) {
	c := checker{f}
	if c.need("apiVersion", d.APIVersion != "", "write apiVersion: "+APIVersion) && d.APIVersion != APIVersion {
		c.fail("apiVersion", "write "+APIVersion, "%.80q is not supported", d.APIVersion)
	}
	if c.need("kind", d.Kind != "", "write kind: "+ResourceKind) && d.Kind != ResourceKind {
		c.fail("kind", "write "+ResourceKind, "%.80q is not supported", d.Kind)
	}
	c.identity(d)
	c.need("naming.release", d.Naming.Release != "" || c.faulty("naming"), "one of "+strings.Join(names(Schemes()), ", "))
	for _, s := range []struct {
		path   string
		scheme Scheme
		os     bool
	}{{"naming.release", d.Naming.Release, false}, {"naming.candidate", d.Naming.Candidate, false}, {"naming.build", d.Naming.Build, true}} {
		if s.scheme != "" && s.scheme.OS() != s.os {
			c.fail(s.path, "", "scheme %s is for %s", s.scheme, map[bool]string{true: "operating-system builds", false: "releases"}[s.scheme.OS()])
		}
	}
	c.need("architectures", len(d.Architectures) > 0 || c.faulty("architectures"), "write architectures: [x86_64]")
	unique(c, "architectures", d.Architectures, func(a Arch) (string, string) { return string(a), "" })
	c.os(d)
	c.packages(d)
	c.profiles(d)
	c.artifacts(d)
	c.digest("extensions.image", d.Extensions.Image)
	c.gates(d)
	c.targets(d)
	c.payload(d)
	c.graph(d)
	c.people(d)
}

func (c checker) identity(d *Definition) {
	id := d.Identity
	c.need("identity.name", id.Name != "" || c.faulty("identity"), "")
	c.match("identity.name", id.Name, reName, "lower-case letters, digits and '-', at most 63")
	c.need("identity.distribution", id.Distribution != "" || c.faulty("identity"), "one of "+strings.Join(names(distributions()), ", "))
	c.need("identity.osName", id.OSName != "" || c.faulty("identity"), `such as "scos"`)
	c.match("identity.osName", id.OSName, reFileName, "lower-case letters, digits, '.', '_' and '-'")
	c.need("version", d.Version != (Minor{}) || id.Distribution == Sample || c.faulty("version"), `write version: "4.21"`)
	if end := id.EndOfLife; end != nil {
		c.need("identity.endOfLife.version", end.Version != (Minor{}), "the last version")
		c.need("identity.endOfLife.message", end.Message != "", "say why, and what to use instead")
		if d.Version.Compare(end.Version) > 0 && !c.faulty("version") && !c.faulty("identity.endOfLife.version") {
			c.fail("version", "", "%s is after the end of life, %s", d.Version, end.Version)
		}
	}
}

func (c checker) os(d *Definition) {
	s, path := d.OS.Source, "os.source"
	if d.OS.Kind == "" && len(d.Profiles) == 0 {
		c.need("os.kind", c.faulty("os.kind") || c.faulty("os"), "one of "+strings.Join(names(kinds()), ", "))
	}
	// A kind that only profiles say could be any of theirs.
	may := func(ks ...Kind) bool {
		if d.OS.Kind != "" && slices.Contains(ks, d.OS.Kind) {
			return true
		}
		for _, p := range d.Profiles {
			if p.Kind != "" && slices.Contains(ks, p.Kind) {
				return true
			}
		}
		return d.OS.Kind == "" && len(d.Profiles) == 0
	}
	only := func(path string, set bool, ks ...Kind) {
		if set && !may(ks...) {
			c.fail(path, "only for kind "+strings.Join(names(ks), " or "), "not for kind %s", d.OS.Kind)
		}
	}
	only(path+".git", s.Git != "", Compose, Layer)
	only(path+".ref", s.Ref != "", Compose, Layer)
	only(path+".commit", s.Commit != "", Compose, Layer)
	only(path+".variant", s.Variant != "", Compose)
	only(path+".image", s.Image != "", Layer, Given)
	only(path+".follow", s.Follow != "", Layer)
	only(path+".tar", s.Tar != "", Given)
	only(path+".dir", s.Dir != "", Given)
	only(path+".ostree", s.OSTree != nil, Given)
	only("os.builder", d.OS.Builder != (Builder{}), Compose, Layer)
	only("os.repositories", d.OS.Repositories != nil, Compose, Layer)
	only("os.containerfile", d.OS.Containerfile != "", Layer)
	only("os.buildArgs", d.OS.BuildArgs != nil, Layer)
	only("os.manager", d.OS.Manager != "", Layer)
	only("os.packages", d.OS.Packages != nil, Layer)
	only("extensions.sets", d.Extensions.Sets != nil, Layer)

	c.url(path+".git", s.Git)
	c.gitRef(path+".ref", s.Ref)
	c.match(path+".commit", s.Commit, reGitCommit, "40 or 64 hexadecimal digits")
	c.match(path+".variant", s.Variant, reWord, "")
	if (s.Ref != "" || s.Commit != "") && s.Git == "" {
		c.fail(path+".git", "name the repository of ref and commit", "missing")
	}
	c.digest(path+".image", s.Image)
	if s.Follow != "" {
		if _, err := name.NewTag(s.Follow, name.StrictValidation); err != nil || strings.Contains(s.Follow, "//") {
			c.fail(path+".follow", "write registry/repository:tag; a digest belongs in image", "%.200q is not a pullspec by tag", s.Follow)
		}
	}
	given := 0
	for _, set := range []bool{s.Image != "", s.Tar != "", s.Dir != "", s.OSTree != nil} {
		if set {
			given++
		}
	}
	if given > 1 {
		c.fail(path, "keep one of image, tar, dir, ostree", "%d sources", given)
	}
	c.need(path+".sha256", s.Tar == "" || s.SHA256 != "", "the SHA-256 of the tar file pins it")
	if s.SHA256 != "" && s.Tar == "" {
		c.fail(path+".sha256", "", "belongs to tar, which is absent")
	}
	c.match(path+".sha256", s.SHA256, reSHA256, "64 lower-case hexadecimal digits")
	if o := s.OSTree; o != nil {
		c.need(path+".ostree.repository", o.Repository != "", "")
		c.need(path+".ostree.commit", o.Ref != "" || o.Commit != "", "a ref or a commit")
		c.match(path+".ostree.ref", o.Ref, reRef, "")
		c.match(path+".ostree.commit", o.Commit, reSHA256, "64 lower-case hexadecimal digits")
	}

	b := d.OS.Builder
	c.digest("os.builder.image", b.Image)
	if b.CPUs > 1024 {
		c.fail("os.builder.cpus", "at most 1024", "%d is too many", b.CPUs)
	}
	for i, r := range d.OS.Repositories {
		at := fmt.Sprintf("os.repositories[%d]", i)
		c.need(at+".name", r.Name != "", "")
		c.match(at+".name", r.Name, reWord, "")
		if c.need(at+".baseURL", r.BaseURL != "", "") {
			if text, err := r.BaseURL.expand(sampleVars); err == nil {
				c.url(at+".baseURL", text)
			}
		}
		c.words(at+".include", r.Include, reNoSpace, "")
		c.words(at+".exclude", r.Exclude, reNoSpace, "")
		c.credentials(at+".credentials", r.Credentials)
	}
	unique(c, "os.repositories", d.OS.Repositories, func(r RPMRepository) (string, string) { return r.Name, ".name" })
	if f := d.OS.Containerfile; f != "" && (insidePath(f) != f) {
		c.fail("os.containerfile", "a path within the source, as Containerfile or images/node/Containerfile", "%.80q leaves the source", f)
	}
	for _, k := range sortedKeys(d.OS.BuildArgs) {
		if !reEnv.MatchString(k) {
			c.fail(join("os.buildArgs", k), "", "%.80q is not the name of a build argument", k)
		}
	}
}

// packages checks what is installed in the node image, and what may be.
func (c checker) packages(d *Definition) {
	const hint = "a package's name, as usbguard or kernel-devel-6.12.0"
	c.words("os.packages", d.OS.Packages, rePackage, hint)
	if d.OS.Containerfile != "" && (d.OS.Packages != nil || d.OS.Manager != "") {
		c.fail("os.containerfile", "keep it, or manager and packages", "says already what is installed")
	}
	if d.OS.Manager == APT && d.OS.Repositories != nil {
		c.fail("os.repositories", "apt's are in the base image", "are for RPM packages, not for apt")
	}
	if d.Extensions.Sets != nil && d.Extensions.Image != "" {
		c.fail("extensions.sets", "keep one of them", "extensions.image is handed in")
	}
	for i, e := range d.Extensions.Sets {
		at := fmt.Sprintf("extensions.sets[%d]", i)
		c.need(at+".name", e.Name != "", "")
		c.match(at+".name", e.Name, reWord, "")
		c.need(at+".packages", len(e.Packages) > 0 || c.faulty(at+".packages"), "an extension has at least one package")
		c.words(at+".packages", e.Packages, rePackage, hint)
		c.match(at+".matchVersion", e.MatchVersion, rePackage, hint)
		c.architectures(at, d, e.Architectures)
	}
	unique(c, "extensions.sets", d.Extensions.Sets, func(e Extension) (string, string) { return e.Name, ".name" })
}

// architectures checks some of the stream's.
func (c checker) architectures(at string, d *Definition, list []Arch) {
	unique(c, at+".architectures", list, func(a Arch) (string, string) { return string(a), "" })
	for i, arch := range list {
		if arch != "" && !slices.Contains(d.Architectures, arch) {
			c.fail(fmt.Sprintf("%s.architectures[%d]", at, i), "add it to architectures", "the stream has no %s", arch)
		}
	}
}

// insidePath is the clean path if p is relative and stays inside, else "".
func insidePath(p string) string {
	if clean := path.Clean(p); !path.IsAbs(clean) && clean != ".." && !strings.HasPrefix(clean, "../") {
		return clean
	}
	return ""
}

func (c checker) profiles(d *Definition) {
	for i, p := range d.Profiles {
		at := fmt.Sprintf("profiles[%d]", i)
		if !c.need(at+".from", p.From != (Minor{}) || c.faulty(at+".from"), `write from: "4.12"`) || c.faulty(at+".from") {
			continue
		}
		if p.To != nil && p.To.Compare(p.From) < 0 {
			c.fail(at+".to", "", "%s is before from, %s", p.To, p.From)
		}
		if i > 0 {
			before := d.Profiles[i-1]
			if before.To == nil || before.To.Compare(p.From) >= 0 {
				c.fail(at+".from", "order profiles by version; end each with to", "%s is within or before profiles[%d]", p.From, i-1)
			}
		}
		if end := d.Identity.EndOfLife; end != nil && p.To != nil && p.To.Compare(end.Version) > 0 {
			c.fail(at+".to", "", "%s is after the end of life, %s", p.To, end.Version)
		}
		c.gitRef(at+".ref", p.Ref)
		c.match(at+".variant", p.Variant, reWord, "")
		c.match(at+".nodeImage", p.NodeImage, reImageName, "a repository name in lower case, without registry or tag")
		c.match(at+".extensionsImage", p.ExtensionsImage, reImageName, "a repository name in lower case, without registry or tag")
		if p.Build != "" && !p.Build.OS() {
			c.fail(at+".build", "", "scheme %s is for releases", p.Build)
		}
		c.words(at+".nodeTags", p.NodeTags, reObject, "a component name")
		c.words(at+".extensionsTags", p.ExtensionsTags, reObject, "a component name")
		filled := d.fill(p, p.From)
		c.need(at+".kind", filled.Kind != "" || c.faulty("os.kind"), "here or in os")
		if *filled.ExtensionsRequired {
			c.need(at+".extensionsTags", len(filled.ExtensionsTags) > 0, "required extensions need a component name, here or in payload")
		}
	}
	if len(d.Profiles) > 0 && !c.faulty("profiles") && !c.faulty("version") &&
		!slices.ContainsFunc(d.Profiles, func(p Profile) bool { return p.covers(d.Version) }) {
		c.fail("version", "add one or choose another version", "no profile covers %s", d.Version)
	}
}

func (c checker) artifacts(d *Definition) {
	for i, a := range d.Artifacts {
		at := fmt.Sprintf("artifacts[%d]", i)
		if c.need(at+".platform", a.Platform != "", "") && !slices.Contains(platforms, a.Platform) &&
			(!strings.HasPrefix(a.Platform, "x-") || !reFileName.MatchString(a.Platform)) {
			err := oneOf("platform", a.Platform, platforms...)
			if suggest(a.Platform, platforms) == "" {
				err = hinted(err, `own platforms start with "x-"`)
			}
			c.add(at+".platform", err)
		}
		c.need(at+".format", a.Format != "", "such as qcow2, raw.xz, iso")
		c.match(at+".format", a.Format, reFormat, "such as qcow2, raw.xz, iso")
		c.architectures(at, d, a.Architectures)
	}
	unique(c, "artifacts", d.Artifacts, func(a Artifact) (string, string) {
		if a.Platform == "" || a.Format == "" {
			return "", ""
		}
		// The same disk may be listed once an architecture.
		return strings.Join(append([]string{a.Platform, a.Format}, names(a.Architectures)...), " "), ""
	})
}

func (c checker) gates(d *Definition) {
	for i, g := range d.Gates {
		at := fmt.Sprintf("gates[%d]", i)
		c.need(at+".name", g.Name != "", "")
		c.match(at+".name", g.Name, reName, "lower-case letters, digits and '-'")
		c.need(at+".kind", g.Kind != "" || c.faulty(at+".kind"), "such as lint, kola, install, upgrade")
		if g.Retries > 10 {
			c.fail(at+".retries", "at most 10", "%d is too many", g.Retries)
		}
		c.match(at+".job", g.Job, reWord, "")
		if g.Job != "" && (g.Kind == GateLint || g.Kind == GatePayload || g.Kind == GateRegression) {
			c.fail(at+".job", "remove it", "gate of kind %s runs here, it has no job", g.Kind)
		}
	}
	unique(c, "gates", d.Gates, func(g Gate) (string, string) { return g.Name, ".name" })
}

func (c checker) targets(d *Definition) {
	s := d.Store
	local := d.LocalOnly()
	switch scheme, rest, _ := strings.Cut(s.URL, ":"); {
	case s.URL == "":
		if s.Prefix != "" || s.Endpoint != "" || s.Region != "" || s.ACL != "" || s.PathStyle || s.Credentials != nil {
			c.need("store.url", false, "dir:PATH or s3://BUCKET/PREFIX")
		}
	case scheme == "dir":
		c.need("store.url", rest != "", "dir:PATH")
		for _, x := range []struct {
			key string
			set bool
		}{{"endpoint", s.Endpoint != ""}, {"region", s.Region != ""}, {"pathStyle", s.PathStyle}, {"acl", s.ACL != ""}, {"credentials", s.Credentials != nil}} {
			if x.set {
				c.fail("store."+x.key, "remove it", "not for a folder")
			}
		}
	case scheme == "s3":
		u, err := url.Parse(s.URL)
		if err == nil && u.User != nil {
			c.fail("store.url", "name a secret under credentials instead", "address holds a user name or password")
		} else if err != nil || !reBucket.MatchString(u.Host) || u.RawQuery != "" || u.Fragment != "" {
			c.fail("store.url", "s3://BUCKET/PREFIX", "%.200q is not a bucket", s.URL)
		}
	default:
		c.fail("store.url", "dir:PATH or s3://BUCKET/PREFIX", "%.200q is of no known kind", s.URL)
	}
	endpoint := c.url("store.endpoint", s.Endpoint)
	if local && strings.HasPrefix(s.URL, "s3:") && (endpoint == nil || !loopback(endpoint.Hostname())) {
		c.fail("store.endpoint", "use dir:PATH or an endpoint on 127.0.0.1", "samples are published only to a folder or loopback")
	}
	c.url("store.publicURL", s.PublicURL)
	c.match("store.acl", s.ACL, reName, "a canned ACL, as public-read")
	c.match("store.region", s.Region, reName, "")
	if p, err := s.Prefix.expand(sampleVars); err == nil && p != "" && insidePath(p) != p {
		c.fail("store.prefix", "words and '/', without slash at the ends", "%.80q is not a key prefix", string(s.Prefix))
	}
	c.credentials("store.credentials", s.Credentials)

	r := d.Registry
	if folder, ok := strings.CutPrefix(r.Repository, "dir:"); ok {
		c.need("registry.repository", folder != "", "dir:PATH")
	} else if r.Repository != "" {
		repo, err := name.NewRepository(r.Repository, name.StrictValidation)
		switch {
		case err != nil || strings.Contains(r.Repository, "//"):
			c.fail("registry.repository", "write registry/path, as quay.io/okd", "%.200q is not a registry and path", r.Repository)
		case local && !loopback(hostOf(repo.RegistryStr())):
			c.fail("registry.repository", "use dir:PATH or a registry on 127.0.0.1", "samples are published only to a folder or loopback")
		}
	} else if r.Node.Name != "" || r.Extensions.Name != "" || r.Release.Name != "" || r.Content != "" || r.Credentials != nil {
		c.need("registry.repository", c.faulty("registry.repository"), "write registry/path, as quay.io/okd")
	}
	c.image("registry.node", r.Node)
	c.image("registry.extensions", r.Extensions)
	c.image("registry.release", r.Release)
	c.match("registry.content", r.Content, reImageName, "a repository name in lower case, without registry or tag")
	c.credentials("registry.credentials", r.Credentials)

	for i, im := range d.Imports {
		at := fmt.Sprintf("imports[%d]", i)
		c.need(at+".image", im.Image != "" || c.faulty(at+".image"), "node, extensions or release")
		c.need(at+".namespace", im.Namespace != "", "")
		c.match(at+".namespace", im.Namespace, reName, "")
		if c.need(at+".imageStream", im.ImageStream != "" || c.faulty(at+".imageStream"), "") {
			if text, err := im.ImageStream.expand(sampleVars); err == nil && im.ImageStream != "" && !reObject.MatchString(text) {
				c.fail(at+".imageStream", "", "%.80q is not the name of an image stream", string(im.ImageStream))
			}
		}
		if c.need(at+".tag", im.Tag != "" || c.faulty(at+".tag"), "") && im.Tag != "" {
			if err := im.Tag.checkTag(); err != nil {
				c.add(at+".tag", err)
			}
		}
	}
	if local && len(d.Imports) > 0 {
		c.fail("imports", "remove them", "samples are published only to a folder or loopback")
	}
	if local && d.GitHub != nil {
		c.fail("github", "remove it", "samples are published only to a folder or loopback")
	}
}

func hostOf(registry string) string {
	if host, _, err := net.SplitHostPort(registry); err == nil {
		return host
	}
	return registry
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

func (c checker) payload(d *Definition) {
	p := d.Payload
	c.digest("payload.base", p.Base)
	if p.Pick != nil {
		c.need("payload.pick.controller", p.Pick.Controller != "", "")
		c.url("payload.pick.controller", p.Pick.Controller)
		c.need("payload.pick.stream", p.Pick.Stream != "" || c.faulty("payload.pick.stream"), "")
	}
	for i, o := range p.Overrides {
		at := fmt.Sprintf("payload.overrides[%d]", i)
		c.need(at+".name", o.Name != "", "")
		c.match(at+".name", o.Name, reObject, "a component name")
		c.need(at+".image", o.Image != "", "a pullspec by digest")
		c.digest(at+".image", o.Image)
		if slices.Contains(p.Exclude, o.Name) {
			c.fail(at+".name", "remove one", "component %s is excluded, too", o.Name)
		}
	}
	unique(c, "payload.overrides", p.Overrides, func(o Component) (string, string) { return o.Name, ".name" })
	c.words("payload.exclude", p.Exclude, reObject, "a component name")
	c.words("payload.nodeTags", p.NodeTags, reObject, "a component name")
	c.words("payload.extensionsTags", p.ExtensionsTags, reObject, "a component name")
	if d.Extensions.Required && len(d.Profiles) == 0 {
		c.need("payload.extensionsTags", len(p.ExtensionsTags) > 0, "required extensions need a component name")
	}
}

func (c checker) graph(d *Definition) {
	g := d.Graph
	for i, ch := range g.Channels {
		if text, err := ch.expand(sampleVars); err == nil && ch != "" && !reWord.MatchString(text) {
			c.fail(fmt.Sprintf("graph.channels[%d]", i), "", "%.80q is not a channel name", string(ch))
		}
	}
	unique(c, "graph.channels", g.Channels, func(t Template) (string, string) { return string(t), "" })
	if g.Minors > 10 {
		c.fail("graph.minors", "at most 10", "%d is too many", g.Minors)
	}
	c.url("graph.server", g.Server)
	for _, x := range []struct {
		path string
		Cadence
	}{{"cadences.daily", d.Cadences.Daily}, {"cadences.promotion", d.Cadences.Promotion}} {
		if x.Schedule == "" && x.MinInterval != 0 && !c.faulty(x.path+".schedule") {
			c.fail(x.path+".minInterval", "add a schedule", "interval without schedule")
		}
	}
	for _, k := range []struct {
		path string
		keep *Keep
	}{{"builds", d.Retention.Builds}, {"artifacts", d.Retention.Artifacts}, {"images", d.Retention.Images}, {"releases", d.Retention.Releases}} {
		if k.keep != nil && *k.keep == (Keep{}) {
			c.fail("retention."+k.path, "say count or age, or remove the rule", "would keep nothing")
		}
	}
	unique(c, "retention.pins", d.Retention.Pins, func(p Pin) (string, string) { return string(p), "" })
}

func (c checker) people(d *Definition) {
	if g := d.GitHub; g != nil {
		c.need("github.repository", g.Repository != "", "OWNER/NAME")
		c.match("github.repository", g.Repository, reRepository, "OWNER/NAME")
		if g.Latest && g.Prerelease {
			c.fail("github.prerelease", "keep one", "a pre-release cannot be the latest")
		}
		for _, list := range []struct {
			path  string
			globs []string
		}{{"github.assets.include", g.Assets.Include}, {"github.assets.exclude", g.Assets.Exclude}} {
			for i, glob := range list.globs {
				if _, err := path.Match(glob, ""); err != nil || strings.Contains(glob, "/") {
					c.fail(fmt.Sprintf("%s[%d]", list.path, i), "a file name with *, ? and [a-z]", "%.80q is not a pattern", glob)
				}
			}
		}
		c.credentials("github.credentials", g.Credentials)
	}
	for i, k := range d.Trust.Keys {
		at := fmt.Sprintf("trust.keys[%d]", i)
		c.need(at+".id", k.ID != "", "")
		if k.ID != "" && !reKeyID.MatchString(k.ID) && !reMail.MatchString(k.ID) {
			c.fail(at+".id", "16, 40 or 64 hexadecimal digits, or a mail address", "%.80q is not a key id", k.ID)
		}
		if strings.Contains(k.Source, "://") {
			c.url(at+".source", k.Source)
		}
		c.need(at+".credentials", !k.Signs || k.Credentials != nil, "signing needs a key by reference")
		c.credentials(at+".credentials", k.Credentials)
	}
	unique(c, "trust.keys", d.Trust.Keys, func(k Key) (string, string) { return strings.ToLower(k.ID), ".id" })
	for i, u := range d.Trust.SignatureStores {
		c.url(fmt.Sprintf("trust.signatureStores[%d]", i), u)
	}
	for i, n := range d.Notifications {
		at := fmt.Sprintf("notifications[%d]", i)
		if !c.need(at+".kind", n.Kind != "" || c.faulty(at+".kind"), "matrix, slack, mail or webhook") {
			continue
		}
		switch n.Kind {
		case Matrix:
			c.need(at+".url", n.URL != "", "the home server")
			c.need(at+".target", n.Target != "", "the room")
		case Mail:
			c.need(at+".target", n.Target != "", "the address")
			c.match(at+".target", n.Target, reMail, "a mail address")
		case Slack, Webhook:
			if n.URL == "" && n.Credentials == nil {
				c.fail(at+".url", "an address, or credentials with it where it is a secret", "missing")
			}
		}
		c.url(at+".url", n.URL)
		c.credentials(at+".credentials", n.Credentials)
		unique(c, at+".on", n.On, func(o Occasion) (string, string) { return string(o), "" })
	}
}
