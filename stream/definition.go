package stream

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// APIVersion and ResourceKind are what a definition says it is.
const (
	APIVersion   = "streams.okd.io/v1alpha1"
	ResourceKind = "Stream"
)

// Definition is what a stream is. The package comment shows the file format;
// each field here is the key of the same name, first letter small. Values of a
// decoded definition are checked; one made by hand is checked by
// [Definition.Validate].
type Definition struct {
	APIVersion    string         `yaml:"apiVersion"` // [APIVersion]
	Kind          string         `yaml:"kind"`       // [ResourceKind]
	Identity      Identity       `yaml:"identity"`
	Version       Minor          `yaml:"version"` // the X.Y that is built now
	Naming        Naming         `yaml:"naming"`
	Architectures []Arch         `yaml:"architectures"` // at least one, each once
	OS            OS             `yaml:"os"`
	Profiles      []Profile      `yaml:"profiles"` // by version, ascending, not overlapping; may be empty
	Artifacts     []Artifact     `yaml:"artifacts"`
	Extensions    Extensions     `yaml:"extensions"`
	Gates         []Gate         `yaml:"gates"` // names are unique; run in this order
	Store         Store          `yaml:"store"`
	Registry      Registry       `yaml:"registry"`
	Imports       []Import       `yaml:"imports"`
	Payload       Payload        `yaml:"payload"`
	Cadences      Cadences       `yaml:"cadences"`
	Graph         Graph          `yaml:"graph"`
	GitHub        *GitHub        `yaml:"github"`
	Trust         Trust          `yaml:"trust"`
	Retention     Retention      `yaml:"retention"`
	Notifications []Notification `yaml:"notifications"`
}

// Identity says who the stream is.
type Identity struct {
	Name         string       `yaml:"name"`  // lower-case letters, digits and "-", at most 63; in object keys and tags
	Title        string       `yaml:"title"` // for people
	Description  string       `yaml:"description"`
	Distribution Distribution `yaml:"distribution"`
	OSName       string       `yaml:"osName"` // of the operating system in file names and metadata: scos, fedora-coreos
	EndOfLife    *EndOfLife   `yaml:"endOfLife"`
}

// EndOfLife says that a stream ends, with which version and why.
type EndOfLife struct {
	Version Minor  `yaml:"version"` // the last one
	Message string `yaml:"message"` // for people, required
}

// Distribution is the family of a stream.
type Distribution string

// The distributions. Sample streams are made to try the tools and are
// published only to a folder or to loopback.
const (
	SCOS   Distribution = "scos"
	FCOS   Distribution = "fcos"
	Sample Distribution = "sample"
	Custom Distribution = "custom"
)

func distributions() []Distribution { return []Distribution{SCOS, FCOS, Sample, Custom} }

// UnmarshalText accepts a known distribution.
func (d *Distribution) UnmarshalText(text []byte) error {
	return enum(d, "distribution", text, distributions())
}

// Naming says how versions are written.
type Naming struct {
	Release   Scheme `yaml:"release"`   // of published releases
	Candidate Scheme `yaml:"candidate"` // of daily payloads before promotion; "": as Release
	Build     Scheme `yaml:"build"`     // of operating-system builds; a profile may say otherwise
}

// Kind is how the operating system comes to be.
type Kind string

// The kinds of OS build.
const (
	Compose Kind = "compose" // coreos-assembler or rpm-ostree makes the tree; base and node image are one
	Layer   Kind = "layer"   // the node image is built FROM a base image, extensions beside it
	Given   Kind = "given"   // a tree, commit or image is handed in
)

func kinds() []Kind { return []Kind{Compose, Layer, Given} }

// UnmarshalText accepts a known kind.
func (k *Kind) UnmarshalText(text []byte) error { return enum(k, "OS build kind", text, kinds()) }

// OS says how the operating system is built.
type OS struct {
	Kind          Kind              `yaml:"kind"` // may be left to the profiles
	Source        Source            `yaml:"source"`
	Builder       Builder           `yaml:"builder"`
	Repositories  []RPMRepository   `yaml:"repositories"`  // names are unique
	Containerfile string            `yaml:"containerfile"` // path in the source; kind layer
	BuildArgs     map[string]string `yaml:"buildArgs"`     // of the Containerfile; kind layer
	// Packages are what the node image has more than its base, names that may have a
	// version behind them, and Manager is what installs them. They take the place
	// of Containerfile.
	Manager  PackageManager `yaml:"manager"`  // kind layer; "": the tool's own choice
	Packages []string       `yaml:"packages"` // kind layer; each once
}

// PackageManager is the program that installs packages in a node image.
type PackageManager string

// The package managers.
const (
	RPMOSTree PackageManager = "rpm-ostree"
	DNF       PackageManager = "dnf"
	APT       PackageManager = "apt" // without Repositories, which are for RPM packages
)

// UnmarshalText accepts a known package manager.
func (m *PackageManager) UnmarshalText(text []byte) error {
	return enum(m, "package manager", text, []PackageManager{RPMOSTree, DNF, APT})
}

// Source is where the operating system comes from. Compose reads Git and
// Variant. Layer reads Image or Follow, and Git for the Containerfile. Given
// reads exactly one of Image, Tar, Dir and OSTree; none means that it is handed
// in with each run.
type Source struct {
	Git     string        `yaml:"git"`     // URL of the OS configuration
	Ref     Template      `yaml:"ref"`     // branch or tag of Git; only ${MINOR} has a value
	Commit  string        `yaml:"commit"`  // pins Git: 40 or 64 hexadecimal digits
	Variant string        `yaml:"variant"` // of coreos-assembler: c9s, okd-c9s
	Image   string        `yaml:"image"`   // pullspec by digest
	Follow  string        `yaml:"follow"`  // pullspec by tag; each build pins the digest it finds
	Tar     string        `yaml:"tar"`     // path of a tar file, may be compressed by gzip, xz or zstd
	SHA256  string        `yaml:"sha256"`  // of Tar, as it lies on disk, with which a build compares it; 64 hexadecimal digits
	Dir     string        `yaml:"dir"`     // path of a root filesystem
	OSTree  *OSTreeSource `yaml:"ostree"`
}

// OSTreeSource is a commit in a repository.
type OSTreeSource struct {
	Repository string `yaml:"repository"` // path
	Ref        string `yaml:"ref"`
	// Commit are 64 hexadecimal digits. Alone it names the commit; with Ref it is
	// what the ref has to be at, else a build ends with an error.
	Commit string `yaml:"commit"`
}

// Builder is the image that runs the build, and what it needs.
type Builder struct {
	Image   string        `yaml:"image"`   // pullspec by digest
	CPUs    int           `yaml:"cpus"`    // 0: as scheduled, at most 1024
	Memory  Size          `yaml:"memory"`  // 0: as scheduled
	Storage Size          `yaml:"storage"` // of the workspace; 0: as scheduled
	KVM     bool          `yaml:"kvm"`     // needs /dev/kvm
	Timeout time.Duration `yaml:"timeout"` // of the whole build; 0: none
}

// RPMRepository is a source of packages for compose and layer builds.
type RPMRepository struct {
	Name        string       `yaml:"name"`
	BaseURL     Template     `yaml:"baseURL"`
	GPGKey      string       `yaml:"gpgKey"` // URL or path
	Include     []string     `yaml:"include"`
	Exclude     []string     `yaml:"exclude"`
	Credentials *Credentials `yaml:"credentials"`
}

// Credentials name secrets; values are never in a definition. Roles are
// username, password, token, key, file and, for an address that is a secret, url.
type Credentials struct {
	Secret string            `yaml:"secret"` // name of a Kubernetes Secret
	Keys   map[string]string `yaml:"keys"`   // role to key in Secret
	Env    map[string]string `yaml:"env"`    // role to environment variable
}

// Profile says what differs for the versions From to To. Empty fields keep
// what the definition says at large. Those that [Definition.Profile] gives have
// all that applies filled in.
type Profile struct {
	From               Minor    `yaml:"from"`
	To                 *Minor   `yaml:"to"` // inclusive; nil: and later
	Kind               Kind     `yaml:"kind"`
	Ref                Template `yaml:"ref"` // of os.source.git
	Variant            string   `yaml:"variant"`
	Build              Scheme   `yaml:"build"`     // of operating-system builds
	NodeImage          string   `yaml:"nodeImage"` // name below registry.repository
	ExtensionsImage    string   `yaml:"extensionsImage"`
	NodeTags           []string `yaml:"nodeTags"` // component names in the payload; the first is the node image's own, others are copies
	ExtensionsTags     []string `yaml:"extensionsTags"`
	ExtensionsRequired *bool    `yaml:"extensionsRequired"`
}

// Artifact is a boot image to be made or handed in.
type Artifact struct {
	Platform      string `yaml:"platform"`      // qemu, metal, live, …
	Format        string `yaml:"format"`        // qcow2, raw.xz, iso, kernel, …
	Required      bool   `yaml:"required"`      // a build without it is refused
	Architectures []Arch `yaml:"architectures"` // none: all of the stream
}

// Extensions says whether the extensions image must be there, and what is in it.
type Extensions struct {
	Required bool        `yaml:"required"`
	Image    string      `yaml:"image"` // pullspec by digest, where it is handed in
	Sets     []Extension `yaml:"sets"`  // where it is built, by kind layer; names are unique
}

// Extension is a set of packages that nodes may install.
type Extension struct {
	Name          string   `yaml:"name"`
	Packages      []string `yaml:"packages"`      // at least one, each once
	Architectures []Arch   `yaml:"architectures"` // none: all of the stream
	// MatchVersion is an installed package whose version the packages must have, as
	// kernel for kernel-devel; "": any.
	MatchVersion string `yaml:"matchVersion"`
}

// Gate is a check before announcement. A gate without a result is pending and
// blocks.
type Gate struct {
	Name    string        `yaml:"name"`
	Kind    GateKind      `yaml:"kind"`
	Mode    GateMode      `yaml:"mode"`    // "": blocking
	Job     string        `yaml:"job"`     // name of the outside job that gives the result; Prow's for upgrade and install
	Timeout time.Duration `yaml:"timeout"` // 0: none
	Retries int           `yaml:"retries"` // after the first try, 0 to 10
}

// Blocking reports whether a failure stops the announcement.
func (g Gate) Blocking() bool { return g.Mode != Informing }

// GateKind is what a gate checks.
type GateKind string

// The kinds of gate.
const (
	GateLint         GateKind = "lint"          // the commit is an OS
	GatePayload      GateKind = "payload"       // the release reads back, everything verified
	GateRegression   GateKind = "regression"    // no package that matters is gone or older than in the last finished build
	GateKola         GateKind = "kola"          // coreos-assembler's tests
	GateInstall      GateKind = "install"       // a cluster installs
	GateUpgrade      GateKind = "upgrade"       // from the previous patch
	GateUpgradeMinor GateKind = "upgrade-minor" // from the previous minor
	GateExternal     GateKind = "external"      // someone hands the result in
)

// UnmarshalText accepts a known kind.
func (k *GateKind) UnmarshalText(text []byte) error {
	return enum(k, "gate kind", text, []GateKind{GateLint, GatePayload, GateRegression, GateKola, GateInstall, GateUpgrade, GateUpgradeMinor, GateExternal})
}

// GateMode says whether a failure matters.
type GateMode string

// The modes of a gate.
const (
	BlockingMode GateMode = "blocking"
	Informing    GateMode = "informing"
)

// UnmarshalText accepts blocking and informing.
func (m *GateMode) UnmarshalText(text []byte) error {
	return enum(m, "gate mode", text, []GateMode{BlockingMode, Informing})
}

// Store is where files go: the build catalogue, disks, metadata.
type Store struct {
	URL         string       `yaml:"url"`      // dir:PATH or s3://BUCKET[/PREFIX]
	Prefix      Template     `yaml:"prefix"`   // of all keys
	Endpoint    string       `yaml:"endpoint"` // URL of an S3 service; "": Amazon's
	Region      string       `yaml:"region"`
	PathStyle   bool         `yaml:"pathStyle"`
	ACL         string       `yaml:"acl"`       // canned ACL
	PublicURL   string       `yaml:"publicURL"` // where readers find URL
	Credentials *Credentials `yaml:"credentials"`
}

// Registry is where images go.
type Registry struct {
	Repository  string       `yaml:"repository"` // what image names are below: quay.io/okd, or dir:PATH
	Node        ImageTarget  `yaml:"node"`
	Extensions  ImageTarget  `yaml:"extensions"`
	Release     ImageTarget  `yaml:"release"`
	Content     string       `yaml:"content"` // name of the repository of all component images
	Credentials *Credentials `yaml:"credentials"`
}

// ImageTarget is a repository below [Registry.Repository] and its tags.
type ImageTarget struct {
	Name string     `yaml:"name"`
	Tags []Template `yaml:"tags"`
}

// Import is an OpenShift image stream that follows an image.
type Import struct {
	Image       ImageRole `yaml:"image"`
	Namespace   string    `yaml:"namespace"`
	ImageStream Template  `yaml:"imageStream"`
	Tag         Template  `yaml:"tag"`
}

// ImageRole names one of the images of a stream.
type ImageRole string

// The images of a stream.
const (
	NodeRole       ImageRole = "node"
	ExtensionsRole ImageRole = "extensions"
	ReleaseRole    ImageRole = "release"
)

// UnmarshalText accepts node, extensions and release.
func (r *ImageRole) UnmarshalText(text []byte) error {
	return enum(r, "image", text, []ImageRole{NodeRole, ExtensionsRole, ReleaseRole})
}

// Payload says what a release is assembled from.
type Payload struct {
	Base           string      `yaml:"base"` // release image by digest
	Pick           *Pick       `yaml:"pick"` // where daily runs find the base instead
	Overrides      []Component `yaml:"overrides"`
	Exclude        []string    `yaml:"exclude"`  // component names to drop from the base
	NodeTags       []string    `yaml:"nodeTags"` // as in [Profile]
	ExtensionsTags []string    `yaml:"extensionsTags"`
}

// Pick names a stream of a release controller whose newest accepted release is
// the base.
type Pick struct {
	Controller string   `yaml:"controller"` // URL
	Stream     Template `yaml:"stream"`
}

// Component replaces or adds an image of the payload.
type Component struct {
	Name  string `yaml:"name"`
	Image string `yaml:"image"` // pullspec by digest
}

// Cadences are the two rhythms of a stream.
type Cadences struct {
	Daily     Cadence `yaml:"daily"`
	Promotion Cadence `yaml:"promotion"`
}

// Cadence says when something happens.
type Cadence struct {
	Schedule    Cron          `yaml:"schedule"`    // "": by hand
	MinInterval time.Duration `yaml:"minInterval"` // since the last one, 0: none; sprintly promotion is a weekly schedule with 21d
	StaleAfter  time.Duration `yaml:"staleAfter"`  // without success, to be reported; 0: never
	Timeout     time.Duration `yaml:"timeout"`     // 0: none
}

// Graph says which updates clusters are offered.
type Graph struct {
	Channels []Template `yaml:"channels"`
	Edges    EdgeRule   `yaml:"edges"`   // "": tested
	Patches  int        `yaml:"patches"` // how many previous patch releases get an edge; 0: all
	Minors   int        `yaml:"minors"`  // how many previous minors get edges; at most 10
	Server   string     `yaml:"server"`  // URL
}

// EdgeRule says what makes an edge.
type EdgeRule string

// The edge rules.
const (
	Tested           EdgeRule = "tested"             // a passed upgrade gate
	Previous         EdgeRule = "previous"           // the release's list of previous releases
	TestedOrPrevious EdgeRule = "tested-or-previous" // either
)

// UnmarshalText accepts a known rule.
func (r *EdgeRule) UnmarshalText(text []byte) error {
	return enum(r, "edge rule", text, []EdgeRule{Tested, Previous, TestedOrPrevious})
}

// GitHub is where releases are announced for people.
type GitHub struct {
	Repository  string       `yaml:"repository"` // OWNER/NAME
	Latest      bool         `yaml:"latest"`     // mark as latest
	Prerelease  bool         `yaml:"prerelease"` // mark as pre-release; not with Latest
	Assets      Filter       `yaml:"assets"`
	Credentials *Credentials `yaml:"credentials"`
}

// Filter chooses names by glob: all that one of Include matches (none: all)
// and none of Exclude does. Patterns are those of [path.Match].
type Filter struct {
	Include []string `yaml:"include"`
	Exclude []string `yaml:"exclude"`
}

// Trust says whose signatures count.
type Trust struct {
	Keys            []Key    `yaml:"keys"` // ids are unique
	SignatureStores []string `yaml:"signatureStores"`
}

// Key is a signing key, named, never contained.
type Key struct {
	ID          string       `yaml:"id"`     // fingerprint or key id in hexadecimal (16, 40 or 64 digits), or mail address
	Source      string       `yaml:"source"` // where the public key is: URL or path
	Signs       bool         `yaml:"signs"`  // this stream signs with it, by Credentials
	Credentials *Credentials `yaml:"credentials"`
}

// Retention says what is kept. Without a rule nothing is deleted.
type Retention struct {
	Builds    *Keep `yaml:"builds"`
	Artifacts *Keep `yaml:"artifacts"`
	Images    *Keep `yaml:"images"`
	Releases  *Keep `yaml:"releases"`
	Pins      []Pin `yaml:"pins"` // kept whatever the rules say
}

// Keep keeps the newest Count, and all that are younger than Age.
type Keep struct {
	Count int           `yaml:"count"` // 0: none for their number
	Age   time.Duration `yaml:"age"`   // 0: none for their age
}

// Pin is a reason to keep something.
type Pin string

// The reasons.
const (
	PinReleased  Pin = "released"
	PinBarrier   Pin = "barrier"
	PinInUse     Pin = "in-use"
	PinAnnotated Pin = "annotated" // release.openshift.io/keep
)

// UnmarshalText accepts a known reason.
func (p *Pin) UnmarshalText(text []byte) error {
	return enum(p, "pin", text, []Pin{PinReleased, PinBarrier, PinInUse, PinAnnotated})
}

// Notification tells people.
type Notification struct {
	Kind        NotificationKind `yaml:"kind"`
	URL         string           `yaml:"url"`    // of the service
	Target      string           `yaml:"target"` // room, channel or address
	On          []Occasion       `yaml:"on"`     // none: all
	Credentials *Credentials     `yaml:"credentials"`
}

// NotificationKind is a service.
type NotificationKind string

// The services.
const (
	Matrix  NotificationKind = "matrix"
	Slack   NotificationKind = "slack"
	Mail    NotificationKind = "mail"
	Webhook NotificationKind = "webhook"
)

// UnmarshalText accepts a known service.
func (k *NotificationKind) UnmarshalText(text []byte) error {
	return enum(k, "notification kind", text, []NotificationKind{Matrix, Slack, Mail, Webhook})
}

// Occasion is when people are told.
type Occasion string

// The occasions.
const (
	OnSuccess   Occasion = "success"
	OnFailure   Occasion = "failure"
	OnPromotion Occasion = "promotion"
	OnStale     Occasion = "stale"
)

// UnmarshalText accepts a known occasion.
func (o *Occasion) UnmarshalText(text []byte) error {
	return enum(o, "occasion", text, []Occasion{OnSuccess, OnFailure, OnPromotion, OnStale})
}

// Size is a number of bytes, written with a suffix: Ki, Mi, Gi, Ti or k, M, G, T.
type Size int64

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"Ti", 1 << 40}, {"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10},
	{"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"k", 1e3}, {"", 1},
}

// String gives the shortest exact text.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if int64(s)%u.bytes == 0 && (s != 0 || u.bytes == 1) {
			return fmt.Sprintf("%d%s", int64(s)/u.bytes, u.suffix)
		}
	}
	return ""
}

// MarshalText gives the text of [Size.String].
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText accepts a whole number with a suffix.
func (s *Size) UnmarshalText(text []byte) error {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(string(text), u.suffix)
		if !ok {
			continue
		}
		n := 0
		if !parseInt(digits, &n) || int64(n) > 1<<62/u.bytes {
			break
		}
		*s = Size(int64(n) * u.bytes)
		return nil
	}
	return hinted(fmt.Errorf("%.40q is not a size", text), `write a whole number with Ki, Mi, Gi or Ti, as "16Gi"`)
}

// Profile gives what holds for a version: "X.Y", "X.Y.Z" or a release's name.
// Where the definition has no profile for it the error wraps
// [errors.ErrUnsupported] and gives the end-of-life message, if that is why.
// A definition without profiles has one answer for all versions.
func (d *Definition) Profile(version string) (Profile, error) {
	m, err := ParseMinor(version)
	if err != nil {
		return Profile{}, err
	}
	if end := d.Identity.EndOfLife; end != nil && m.Compare(end.Version) > 0 {
		return Profile{}, fmt.Errorf("stream: %s has no version %s, it ended with %s: %s: %w", d.Identity.Name, m, end.Version, end.Message, errors.ErrUnsupported)
	}
	if len(d.Profiles) == 0 {
		return d.fill(Profile{From: m, To: &m}, m), nil
	}
	for _, p := range d.Profiles {
		if p.covers(m) {
			return d.fill(p, m), nil
		}
	}
	return Profile{}, fmt.Errorf("stream: %s has no profile for version %s: %w", d.Identity.Name, m, errors.ErrUnsupported)
}

func (p Profile) covers(m Minor) bool {
	return p.From.Compare(m) <= 0 && (p.To == nil || m.Compare(*p.To) <= 0)
}

// fill puts the definition's own values where p has none, for version m.
func (d *Definition) fill(p Profile, m Minor) Profile {
	or(&p.Kind, d.OS.Kind)
	or(&p.Ref, d.OS.Source.Ref)
	if ref, err := p.Ref.expand(Vars{Minor: m.String()}); err == nil { // checked
		p.Ref = Template(ref)
	}
	or(&p.Variant, d.OS.Source.Variant)
	or(&p.Build, d.Naming.Build)
	or(&p.NodeImage, d.Registry.Node.Name)
	or(&p.ExtensionsImage, d.Registry.Extensions.Name)
	if p.NodeTags == nil {
		p.NodeTags = d.Payload.NodeTags
	}
	if p.ExtensionsTags == nil {
		p.ExtensionsTags = d.Payload.ExtensionsTags
	}
	if p.ExtensionsRequired == nil {
		p.ExtensionsRequired = &d.Extensions.Required
	}
	required := *p.ExtensionsRequired
	p.ExtensionsRequired = &required
	return p
}

func or[T comparable](to *T, value T) {
	var zero T
	if *to == zero {
		*to = value
	}
}

// ExtensionsRequired reports whether a release of this version needs an
// extensions image; a missing one must stop before assembly. It fails as
// [Definition.Profile] does.
func (d *Definition) ExtensionsRequired(version string) (bool, error) {
	p, err := d.Profile(version)
	return err == nil && *p.ExtensionsRequired, err
}

// Need is something a definition leaves open that a run must be given.
type Need struct {
	Path string // of the key that would say it
	What string // for people
}

// Needs lists what a run must be given besides the definition: root
// filesystem, base release, required extensions image. Sample streams need
// nothing. It fails as [Definition.Profile] does.
func (d *Definition) Needs(version string) ([]Need, error) {
	p, err := d.Profile(version)
	if err != nil || d.Identity.Distribution == Sample {
		return nil, err
	}
	var needs []Need
	if s := d.OS.Source; s.Image == "" && s.Tar == "" && s.Dir == "" && s.OSTree == nil {
		what := map[Kind]string{
			Compose: "root filesystem that coreos-assembler or rpm-ostree composed",
			Layer:   "root filesystem of the node image built from the base image",
			Given:   "root filesystem",
		}[p.Kind]
		needs = append(needs, Need{"os.source", what})
	}
	if d.Payload.Base == "" {
		needs = append(needs, Need{"payload.base", "release image to start from, by digest"})
	}
	if *p.ExtensionsRequired && d.Extensions.Image == "" {
		needs = append(needs, Need{"extensions.image", "extensions image, by digest"})
	}
	return needs, nil
}

// LocalOnly reports whether the stream may be published only to folders and
// loopback addresses, as samples.
func (d *Definition) LocalOnly() bool { return d.Identity.Distribution == Sample }

// Next gives the next release of version d.Version.0, or of the highest patch
// that existing has of it; see [Scheme.NextFor]. daily says which of the two
// schemes: the candidate's or the release's.
func (d *Definition) Next(existing []Version, daily bool, now time.Time) (Version, error) {
	scheme := d.Naming.Release
	if daily && d.Naming.Candidate != "" {
		scheme = d.Naming.Candidate
	}
	base := Version{Major: d.Version.Major, Minor: d.Version.Minor}
	for _, v := range existing {
		if !v.Scheme.OS() && v.Major == base.Major && v.Minor == base.Minor {
			base.Patch = max(base.Patch, v.Patch)
		}
	}
	return scheme.NextFor(base, existing, now)
}
