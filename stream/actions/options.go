package actions

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/stream"
)

// Options of [Render]. Image is required.
type Options struct {
	// Image is the task image by digest, as okd-streams image build prints it. The
	// runner's docker or podman pulls it.
	Image string
	// Inputs are values for the inputs of the workflows, which each run has unless it
	// is started by hand with others. What the definition leaves open is to be given
	// here: a run by schedule is given nothing.
	Inputs map[string]string
	// Runners are the labels of runners, by architecture. Default: GitHub's own,
	// which are there for x86_64 and aarch64.
	Runners map[stream.Arch]string
	// Actions are the commits, 40 hexadecimal digits, of the actions that may be used:
	// actions/cache and actions/upload-artifact.
	Actions map[string]string
	// Context is the folder of the workflows' repository that the node image is built
	// in with buildah; the repository is fetched first. "": the definition's os.source
	// for kind layer, if it names a git repository.
	Context string
	// Checkout fetches the workflows' repository, for a definition that names files
	// in it.
	Checkout bool
	// State is a folder of the runner that is kept from run to run, absolute; "": one
	// that goes with the job.
	State string
	// PublicKeys are the OpenPGP keys by which clusters judge the releases, in ASCII
	// armor. Required for promotions of a stream that signs.
	PublicKeys string
	// Flow is the key in the store of a stream whose payloads no release controller
	// accepts; promotions are from there.
	Flow string
}

// The actions that may be used.
const (
	actionCache  = "actions/cache"
	actionUpload = "actions/upload-artifact"
)

// hosted are the labels of GitHub's own runners.
var hosted = map[stream.Arch]string{"x86_64": "ubuntu-24.04", "aarch64": "ubuntu-24.04-arm"}

var (
	commitID    = lazyregexp.New(`^[0-9a-f]{40}$`)
	secretName  = lazyregexp.New(`^[A-Z_][A-Z0-9_]*$`)
	armored     = lazyregexp.New(`^(-----BEGIN PGP PUBLIC KEY BLOCK-----\n([A-Za-z0-9+/=:., ()@<>-]*\n)*-----END PGP PUBLIC KEY BLOCK-----\n*)+$`)
	runnerLabel = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$`)
)

// plan is what workflows are rendered from.
type plan struct {
	def     *stream.Definition
	opts    Options
	profile stream.Profile
	text    string // of the definition
}

// newPlan checks options and definition; every fault is named.
func newPlan(def *stream.Definition, opts *Options) (*plan, error) {
	p := &plan{def: def}
	if opts != nil {
		p.opts = *opts
	}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if _, err := name.NewDigest(p.opts.Image); err != nil {
		fault("task image %.200q is not named by digest: okd-streams image build prints it", p.opts.Image)
	}
	for _, action := range slices.Sorted(maps.Keys(p.opts.Actions)) {
		if action != actionCache && action != actionUpload {
			fault("action %.100q is not used: there are %s and %s", action, actionCache, actionUpload)
		} else if !commitID.MatchString(p.opts.Actions[action]) {
			fault("action %s: %.100q is no commit of 40 hexadecimal digits", action, p.opts.Actions[action])
		}
	}
	known := map[string]bool{}
	for _, in := range append(slices.Clone(dailyInputs), promotionInputs...) {
		known[in.name] = true
	}
	for _, key := range slices.Sorted(maps.Keys(p.opts.Inputs)) {
		if !known[key] {
			fault("no workflow has an input %.100q", key)
		}
		if v := p.opts.Inputs[key]; strings.ContainsAny(v, "\r\n") || strings.Contains(v, "${{") {
			fault("input %s: more than a line, or an expression", key)
		}
	}
	if c := p.opts.Context; c != "" && (!fs.ValidPath(c) || strings.ContainsAny(c, "\r\n$\"\\`")) {
		fault("context %.200q is no folder of a repository", c)
	}
	if s := p.opts.State; s != "" && (!strings.HasPrefix(s, "/") || strings.ContainsAny(s, "\r\n$\"\\`")) {
		fault("state %.200q is no absolute folder", s)
	}
	if k := p.opts.PublicKeys; k != "" && !armored.MatchString(k) {
		fault("public keys are not OpenPGP keys in ASCII armor")
	}
	if strings.ContainsAny(p.opts.Flow, "\r\n") {
		fault("flow %.200q is no key", p.opts.Flow)
	}
	if def == nil {
		return nil, errors.New("actions: render: no definition")
	}
	if err := def.Validate(); err != nil {
		fault("%w", err)
	} else if p.profile, err = def.Profile(def.Version.String()); err != nil {
		fault("%w", err)
	}
	for _, arch := range def.Architectures {
		if label := p.runner(arch); label == "" {
			fault("architecture %s has no runner of GitHub's: give the label of one", arch)
		} else if !runnerLabel.MatchString(label) {
			fault("runner %.100q of %s is no label", label, arch)
		}
	}
	var b strings.Builder
	if err := def.Encode(&b); err != nil {
		fault("%w", err)
	}
	p.text = b.String()
	if len(faults) == 0 {
		faults = p.lacking()
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("actions: render %s: %w", def.Identity.Name, err)
	}
	return p, nil
}

// lacking are the faults of a definition that is sound by itself.
func (p *plan) lacking() []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	needs, err := p.def.Needs(p.def.Version.String())
	if err != nil {
		return []error{err}
	}
	for _, n := range needs {
		for _, in := range dailyInputs {
			if in.path == n.Path && p.opts.Inputs[in.name] == "" && !(in.name == fromRelease && p.picks()) {
				fault("%s: a run needs it, the %s: name it in the definition, or give the input %s", n.Path, n.What, in.name)
			}
		}
	}
	if p.profile.Kind == stream.Compose && p.opts.Inputs["source"] == "" && p.def.Identity.Distribution != stream.Sample {
		fault("os.kind: %s needs coreos-assembler and KVM: give the input source, or render for Tekton: %w", stream.Compose, errors.ErrUnsupported)
	}
	for _, local := range []struct{ path, url string }{{"store.url", p.def.Store.URL}, {"registry.repository", p.def.Registry.Repository}} {
		if strings.HasPrefix(local.url, "dir:") && !p.own() {
			fault("%s: %.200s is gone with GitHub's runner: name a service, or a runner of your own", local.path, local.url)
		}
	}
	if p.def.Cadences.Promotion.Schedule != "" && p.def.Payload.Pick == nil && p.opts.Flow == "" {
		fault("payload.pick: no release controller to promote from, and no flow in the store")
	}
	if p.def.Cadences.Promotion.Schedule != "" && strings.HasPrefix(p.def.Registry.Repository, "dir:") {
		fault("registry.repository: releases are promoted in a registry, not in the folder %.200s", p.def.Registry.Repository)
	}
	if p.def.Cadences.Promotion.Schedule != "" && p.signs() && p.opts.PublicKeys == "" {
		fault("trust.keys: the stream signs its releases: give the public keys by which clusters judge them")
	}
	for _, cadence := range []struct {
		path     string
		schedule stream.Cron
	}{{"daily", p.def.Cadences.Daily.Schedule}, {"promotion", p.def.Cadences.Promotion.Schedule}} {
		if fields := strings.Fields(string(cadence.schedule)); len(fields) == 5 && strings.Contains(fields[4], "7") {
			fault("cadences.%s.schedule: %q: GitHub knows Sunday as 0 and SUN, not as 7", cadence.path, string(cadence.schedule))
		}
	}
	for _, list := range [][]secret{p.secrets(false), p.secrets(true)} {
		for _, s := range list {
			if !secretName.MatchString(s.name) || strings.HasPrefix(s.name, "GITHUB_") {
				fault("credentials: %.100q can be no secret of GitHub's", s.name)
			}
			if s.key == "." || s.key == ".." {
				fault("credentials: key %.100q of secret %.100q is no name of a file", s.key, s.from)
			}
		}
	}
	return faults
}

// signs reports whether the stream signs its releases.
func (p *plan) signs() bool {
	return slices.ContainsFunc(p.def.Trust.Keys, func(k stream.Key) bool { return k.Signs })
}

// picks reports whether each build looks for the release that it starts from.
func (p *plan) picks() bool {
	return p.def.Payload.Pick != nil && p.def.Payload.Base == "" && p.opts.Inputs[fromRelease] == ""
}

// own reports whether no runner is GitHub's.
func (p *plan) own() bool {
	for _, arch := range p.def.Architectures {
		if p.opts.Runners[arch] == "" {
			return false
		}
	}
	return true
}

func (p *plan) runner(arch stream.Arch) string {
	if label := p.opts.Runners[arch]; label != "" {
		return label
	}
	return hosted[arch]
}
