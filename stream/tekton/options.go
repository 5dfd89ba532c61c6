package tekton

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/stream"
)

// Platform is the kind of cluster that objects are rendered for.
type Platform string

// The platforms.
const (
	Plain     Platform = "plain"     // Kubernetes with Tekton Pipelines
	Kind      Platform = "kind"      // Kubernetes in containers of one machine
	OpenShift Platform = "openshift" // with OpenShift Pipelines
)

// Platforms are all of them.
func Platforms() []Platform { return []Platform{Plain, Kind, OpenShift} }

// UnmarshalText accepts a known platform.
func (p *Platform) UnmarshalText(text []byte) error {
	if !slices.Contains(Platforms(), Platform(text)) {
		return fmt.Errorf("platform %.40q: there are plain, kind and openshift", text)
	}
	*p = Platform(text)
	return nil
}

// Defaults of [Options].
const (
	DefaultNamespace = "okd-coreos"
	DefaultStorage   = stream.Size(40 << 30)
)

// Options of [Render] and [Tree]. Image is required.
type Options struct {
	// Image is the task image by digest, as okd-streams image build prints it.
	Image string
	// Namespace of all objects; "": [DefaultNamespace].
	Namespace string
	// Prefix begins the name of every object, so that several streams share a
	// namespace; at most 20 lower-case letters, digits and "-", a letter
	// first. "": none.
	Prefix string
	// Platform is the kind of cluster; "": [Plain]. [Tree] renders all.
	Platform Platform
	// StorageClass of the volume claims; "": the cluster's default.
	StorageClass string
	// Storage is the size of the volume that builds work in, bytes; 0: what the
	// definition says of its builder, else [DefaultStorage].
	Storage stream.Size
	// Insecure are registries HOST[:PORT] that are spoken to over plain HTTP; those
	// on loopback always are.
	Insecure []string
	// HostNetwork has pods use the network of their node, where registries and
	// stores on its loopback address are reached. The namespace must allow it.
	HostNetwork bool
	// Params are values of the pipelines' parameters in every run, by name; a
	// parameter that no pipeline has is refused. What a definition leaves open is to be
	// given here or with each run.
	Params map[string]string
}

// plan is what objects are rendered from.
type plan struct {
	def     *stream.Definition
	opts    Options
	profile stream.Profile
	text    string // of the definition
	store   string // secret of the store's credentials, and the key of the file in it
	files   string
	auth    string          // secret of the registry's credentials
	notify  *Task           // nil: nobody is told anything
	makes   map[string]bool // what a definition leaves open and the builder makes, by its path
}

var (
	reNamespace = lazyregexp.New(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	rePrefix    = lazyregexp.New(`^[a-z][a-z0-9-]{0,18}[a-z0-9]?$`)
	reHost      = lazyregexp.New(`^[A-Za-z0-9.\[\]:-]{1,255}$`)
)

// newPlan checks options and definition; every fault is named.
func newPlan(def *stream.Definition, opts *Options) (*plan, error) {
	p := &plan{def: def}
	if opts != nil {
		p.opts = *opts
	}
	o := &p.opts
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if o.Namespace == "" {
		o.Namespace = DefaultNamespace
	}
	if o.Platform == "" {
		o.Platform = Plain
	}
	if !slices.Contains(Platforms(), o.Platform) {
		fault("platform %.40q: there are plain, kind and openshift", o.Platform)
	}
	if !reNamespace.MatchString(o.Namespace) {
		fault("namespace %.80q is no name of Kubernetes", o.Namespace)
	}
	if o.Prefix != "" && !rePrefix.MatchString(o.Prefix) {
		fault("prefix %.80q: lower-case letters, digits and \"-\", at most 20", o.Prefix)
	}
	if _, err := name.NewDigest(o.Image); err != nil {
		fault("task image %.200q is not named by digest: okd-streams image build prints it", o.Image)
	}
	for _, host := range o.Insecure {
		if !reHost.MatchString(host) {
			fault("insecure registry %.80q is not HOST[:PORT]", host)
		}
	}
	if o.Storage == 0 {
		o.Storage = def.OS.Builder.Storage
	}
	if o.Storage == 0 {
		o.Storage = DefaultStorage
	}
	if err := def.Validate(); err != nil {
		fault("%w", err)
	} else if p.profile, err = def.Profile(def.Version.String()); err != nil {
		fault("%w", err)
	}
	var b strings.Builder
	if err := def.Encode(&b); err != nil {
		fault("%w", err)
	}
	p.text = b.String()
	if c := def.Registry.Credentials; c != nil && c.Keys["file"] != "" {
		p.auth = c.Secret
		if c.Keys["file"] != dockerConfig {
			fault("registry.credentials: the key of the file is %s, as of a Secret of type kubernetes.io/dockerconfigjson", dockerConfig)
		}
	}
	if c := def.Store.Credentials; c != nil && c.Keys["file"] != "" {
		p.store, p.files = c.Secret, c.Keys["file"]
	}
	if p.builds() && def.OS.Builder.Image == "" {
		fault("os.builder.image: a build of kind %s runs in an image that the definition must name by digest", p.profile.Kind)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("tekton: render %s: %w", def.Identity.Name, err)
	}
	return p, nil
}
