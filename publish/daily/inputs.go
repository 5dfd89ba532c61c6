package daily

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/atomicfile"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/stream"
)

// Inputs are what a build is made from, pinned: <state>/<build>/inputs.json.
type Inputs struct {
	Stream  string      `json:"stream"`
	Build   string      `json:"build"`   // id of the operating-system build
	Version string      `json:"version"` // name of the release
	Arch    stream.Arch `json:"arch"`
	Time    time.Time   `json:"time"`
	Source  string      `json:"source,omitempty"` // [Options.SourceName]
	// Content is a commit that has nothing but the tree; Parent the commit of
	// the last finished build.
	Content ostree.Checksum `json:"content"`
	Parent  ostree.Checksum `json:"parent"`
	// Previous is that build, and Split how its base image is split over layers.
	Previous string          `json:"previous,omitempty"`
	Split    container.Split `json:"split,omitempty"`
	Files    int64           `json:"files"` // of the tree, links too
	Bytes    int64           `json:"bytes"` // of the regular files
	Pinned   Pinned          `json:"pinned"`
	Digest   string          `json:"digest"` // of Pinned
}

// Pinned is what makes two builds the same.
type Pinned struct {
	Definition  string            `json:"definition"` // SHA-256 of its JSON
	Arch        stream.Arch       `json:"arch"`
	RootTree    ostree.Checksum   `json:"rootTree"` // of Source
	RootMeta    ostree.Checksum   `json:"rootMeta"`
	Metadata    string            `json:"metadata,omitempty"` // SHA-256 of Options.Metadata
	Node        string            `json:"node,omitempty"`     // pullspecs by digest
	Extensions  string            `json:"extensions,omitempty"`
	NodeBuilder string            `json:"nodeBuilder,omitempty"` // [Options.NodeBuilderID]
	FromRelease string            `json:"fromRelease,omitempty"` // pullspec by digest
	Components  map[string]string `json:"components,omitempty"`  // likewise, by name
	Disks       []PinnedDisk      `json:"disks,omitempty"`
	Repository  string            `json:"repository"`
	MaxLayers   int               `json:"maxLayers"`
}

// PinnedDisk is a disk and what was measured of it.
type PinnedDisk struct {
	Platform  string                `json:"platform"`
	Path      string                `json:"path"`
	Measured  bootimage.Measurement `json:"measured"`
	Unstamped bool                  `json:"unstamped,omitempty"`
}

// inputs pins everything, writes the content of the tree into the repository,
// and finds the build that these inputs belong to: the last finished one, one
// that was interrupted, or a new one.
func (b *build) inputs(ctx context.Context) error {
	b.env.event(Event{Step: StepInputs})
	started := b.env.now()
	if b.opts.Build != "" {
		return b.resume(ctx)
	}
	if err := b.missing(); err != nil {
		return err
	}
	pinned, err := b.pin(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", StepInputs, err)
	}
	if pinned.RootTree, pinned.RootMeta, err = b.content(ctx); err != nil {
		return fmt.Errorf("%s: %w", StepCommit, err)
	}
	digest, err := inputDigest(pinned)
	if err != nil {
		return err
	}
	if err := b.assign(ctx, pinned, digest); err != nil {
		return fmt.Errorf("%s: %w", StepInputs, err)
	}
	b.dir = filepath.Join(b.env.State, b.id)
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	if err := atomicfile.Clean(b.dir); err != nil {
		return err
	}
	if err := b.keepInputs(); err != nil {
		return err
	}
	outputs, err := json.Marshal(b.in.Pinned)
	if err != nil {
		return err
	}
	reuse := map[string]Reuse{"files": {Items: b.stats.Files - b.stats.ContentWritten, OfItems: b.stats.Files}}
	if b.opts.TrustFiles {
		reuse["unread"] = Reuse{Items: b.stats.CacheHits, OfItems: b.stats.Files}
	}
	b.records = append(b.records, Record{
		Step: StepInputs, Build: b.id, Input: digest, Outputs: outputs, Started: started.UTC(), Seconds: b.env.now().Sub(started).Seconds(), Reuse: reuse,
	})
	b.env.event(Event{Step: StepInputs, Phase: "done"})
	return nil
}

// keepInputs writes inputs.json, unless it is there.
func (b *build) keepInputs() error {
	path := filepath.Join(b.dir, inputsFile)
	data, err := encodeJSON(b.in)
	if err != nil {
		return err
	}
	if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, data) {
		return nil
	}
	return writeJSON(path, b.in)
}

// resume takes the inputs of a build in the state folder.
func (b *build) resume(ctx context.Context) error {
	builds, _, err := earlier(b.env.State)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(builds, func(in Inputs) bool { return in.Build == b.opts.Build })
	if at < 0 {
		return fmt.Errorf("daily: build %q in %s: %w", b.opts.Build, b.env.State, fs.ErrNotExist)
	}
	definition, err := inputDigest(b.def)
	if err != nil {
		return err
	}
	if definition != builds[at].Pinned.Definition {
		return fmt.Errorf("daily: the definition has changed since build %s began", b.opts.Build)
	}
	b.in, b.id = &builds[at], builds[at].Build
	b.dir = filepath.Join(b.env.State, b.id)
	b.contentCommit = b.in.Content
	return b.openRepo(ctx)
}

func (b *build) arch() stream.Arch {
	if b.opts.Arch != "" {
		return b.opts.Arch
	}
	return b.def.Architectures[0]
}

// profile is what the definition says for the version that is built.
func (b *build) profile() (stream.Profile, error) {
	version := b.opts.Version
	if b.in != nil {
		version = b.in.Version
	}
	if version == "" {
		version = b.def.Version.String()
	}
	return b.def.Profile(version)
}

// missing lists everything that is needed and not given, before any work.
func (b *build) missing() error {
	if !slices.Contains(b.def.Architectures, b.arch()) {
		return fmt.Errorf("daily: stream %s has no architecture %s", b.def.Identity.Name, b.arch())
	}
	profile, err := b.profile()
	if err != nil {
		return err
	}
	version := b.opts.Version
	if version == "" {
		version = b.def.Version.String()
	}
	needs, err := b.def.Needs(version)
	if err != nil {
		return err
	}
	var open []stream.Need
	for _, need := range needs {
		given := map[string]bool{
			"os.source":        b.sourced(),
			"payload.base":     b.opts.FromRelease != nil || b.opts.Components["cluster-version-operator"] != nil,
			"extensions.image": b.opts.Extensions != nil || b.opts.NodeBuilder != nil || givenAs(b.opts.Components, profile.ExtensionsTags),
		}
		if !given[need.Path] {
			open = append(open, need)
		}
	}
	if !b.sourced() && b.def.OS.Source.Image == "" && !slices.ContainsFunc(open, func(n stream.Need) bool { return n.Path == "os.source" }) {
		open = append(open, stream.Need{Path: "os.source", What: "root filesystem"})
	}
	for _, artifact := range b.def.Artifacts {
		if !artifact.Required || !appliesTo(artifact, b.arch()) || b.hasDisk(artifactName(artifact)) {
			continue
		}
		open = append(open, stream.Need{Path: "artifacts", What: artifactName(artifact) + " " + artifact.Format + " disk, which the definition requires"})
	}
	if open != nil {
		missing := &MissingError{Stream: b.def.Identity.Name, Needs: open}
		if end := b.def.Identity.EndOfLife; end != nil {
			missing.Ended = end.Message
		}
		return missing
	}
	return nil
}

// sourced reports whether there is a root filesystem; an outline only names it.
func (b *build) sourced() bool {
	return b.opts.Source != nil || b.opts.SourceImage != nil || b.outline && b.opts.SourceName != ""
}

func givenAs(components map[string]name.Reference, tags []string) bool {
	return slices.ContainsFunc(tags, func(tag string) bool { return components[tag] != nil })
}

func appliesTo(artifact stream.Artifact, arch stream.Arch) bool {
	return len(artifact.Architectures) == 0 || slices.Contains(artifact.Architectures, arch)
}

// hasDisk reports whether a platform's artifact will be there: handed in, or
// taken from the commit.
func (b *build) hasDisk(platform string) bool {
	if platform == liveKernel || platform == liveInitramfs {
		return true
	}
	if b.outline && strings.HasPrefix(b.opts.SourceName, "cosa:") {
		return true // it is known when the folder is opened
	}
	return slices.ContainsFunc(b.opts.Disks, func(d Disk) bool { return d.Platform == platform })
}

// pin resolves references to digests and measures disks.
func (b *build) pin(ctx context.Context) (*Pinned, error) {
	var err error
	p := &Pinned{
		Arch:        b.arch(),
		NodeBuilder: b.opts.NodeBuilderID,
		Repository:  b.env.Repository,
		MaxLayers:   b.opts.MaxLayers,
	}
	if p.Repository == "" {
		p.Repository = b.def.Registry.Repository
	}
	if p.MaxLayers == 0 {
		p.MaxLayers = DefaultMaxLayers
	}
	if p.Definition, err = inputDigest(b.def); err != nil {
		return nil, err
	}
	if len(b.opts.Metadata) > 0 {
		if p.Metadata, err = inputDigest(b.opts.Metadata); err != nil {
			return nil, err
		}
	}
	if p.Node, err = b.pinImage(ctx, b.opts.Node, ""); err != nil {
		return nil, err
	}
	if p.Extensions, err = b.pinImage(ctx, b.opts.Extensions, b.def.Extensions.Image); err != nil {
		return nil, err
	}
	if p.FromRelease, err = b.pinImage(ctx, b.opts.FromRelease, b.def.Payload.Base); err != nil {
		return nil, err
	}
	refs := map[string]name.Reference{}
	for _, override := range b.def.Payload.Overrides {
		ref, err := name.ParseReference(override.Image)
		if err != nil {
			return nil, err
		}
		refs[override.Name] = ref
	}
	maps.Copy(refs, b.opts.Components)
	for _, component := range slices.Sorted(maps.Keys(refs)) {
		pinned, err := b.pinImage(ctx, refs[component], "")
		if err != nil {
			return nil, fmt.Errorf("component %s: %w", component, err)
		}
		if p.Components == nil {
			p.Components = map[string]string{}
		}
		p.Components[component] = pinned
	}
	for _, disk := range b.opts.Disks {
		measured, err := measureFile(ctx, disk.Path)
		if err != nil {
			return nil, fmt.Errorf("disk %s: %w", disk.Path, err)
		}
		if disk.SHA256 != "" && measured.SHA256 != disk.SHA256 {
			return nil, fmt.Errorf("disk %s has SHA-256 %s, wanted is %s: %w", disk.Path, measured.SHA256, disk.SHA256, publish.ErrDigest)
		}
		p.Disks = append(p.Disks, PinnedDisk{disk.Platform, disk.Path, measured, disk.Unstamped})
	}
	return p, nil
}

func measureFile(ctx context.Context, path string) (bootimage.Measurement, error) {
	file, err := os.Open(path)
	if err != nil {
		return bootimage.Measurement{}, err
	}
	defer file.Close()
	return bootimage.Measure(ctx, file, nil)
}

// pinImage gives a reference by digest, "" if there is none.
func (b *build) pinImage(ctx context.Context, ref name.Reference, otherwise string) (string, error) {
	if ref == nil {
		if otherwise == "" {
			return "", nil
		}
		parsed, err := name.ParseReference(otherwise)
		if err != nil {
			return "", err
		}
		ref = parsed
	}
	if digest, ok := ref.(name.Digest); ok {
		return digest.Name(), nil
	}
	desc, err := b.env.images().Head(ctx, ref)
	if err != nil {
		return "", fmt.Errorf("image %s: %w", ref, err)
	}
	return ref.Context().Digest(desc.Digest.String()).Name(), nil
}

// assign finds the build that the inputs belong to.
func (b *build) assign(ctx context.Context, pinned *Pinned, digest string) error {
	builds, done, err := earlier(b.env.State)
	if err != nil {
		return err
	}
	var end last
	if _, err := readJSON(filepath.Join(b.env.State, lastFile), &end); err != nil {
		return err
	}
	for _, old := range slices.Backward(builds) {
		same := old.Digest == digest && (b.opts.Version == "" || b.opts.Version == old.Version)
		if same && (!done[old.Build] || old.Build == end.Build) {
			b.in, b.id = &old, old.Build
			return nil
		}
	}
	in := &Inputs{
		Stream:  b.def.Identity.Name,
		Arch:    pinned.Arch,
		Time:    b.opts.Time.UTC().Truncate(time.Second),
		Source:  b.opts.SourceName,
		Pinned:  *pinned,
		Digest:  digest,
		Content: b.contentCommit,
		Files:   b.stats.Files,
		Bytes:   b.stats.Bytes,
	}
	if end.Build != "" {
		var record Record
		var out CommitOutputs
		ok, err := readJSON(filepath.Join(b.env.State, end.Build, StepCommit+".json"), &record)
		if err != nil {
			return err
		}
		if ok && json.Unmarshal(record.Outputs, &out) == nil {
			in.Parent = out.Commit
		}
		in.Previous = end.Build
		if in.Split, err = b.priorSplit(ctx, end.Build); err != nil {
			return err
		}
	}
	known := slices.Clone(builds)
	for range maxTaken {
		if in.Version, err = b.nextRelease(ctx, known); err != nil {
			return err
		}
		if in.Build, err = b.nextBuild(ctx, known, in); err != nil {
			return err
		}
		if slices.ContainsFunc(builds, func(old Inputs) bool { return old.Build == in.Build }) {
			return fmt.Errorf("build %s exists already, with other inputs; choose another version", in.Build)
		}
		err := b.take(ctx, in)
		if err == nil {
			b.in, b.id = in, in.Build
			return nil
		}
		if !errors.Is(err, errTaken) {
			return err
		}
		if b.opts.Version != "" {
			return fmt.Errorf("version %s: another build has it: %w; choose another version", in.Version, err)
		}
		known = append(known, Inputs{Version: in.Version, Build: in.Build})
	}
	return fmt.Errorf("%d names were taken by others", maxTaken)
}

// nextRelease names the release: as asked for, else the next that neither the
// registry nor the state folder has.
func (b *build) nextRelease(ctx context.Context, builds []Inputs) (string, error) {
	if b.opts.Version != "" {
		return b.opts.Version, nil
	}
	var existing []stream.Version
	add := func(text string) {
		if v, err := stream.ParseVersion(text); err == nil {
			existing = append(existing, v)
		}
	}
	for _, old := range builds {
		add(old.Version)
	}
	repo, err := b.repository(b.def.Registry.Release.Name)
	if err != nil {
		return "", err
	}
	for tag, err := range b.env.Registry.Tags(ctx, repo) {
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return "", err
		}
		add(tag)
	}
	next, err := b.def.Next(existing, true, b.opts.Time)
	return next.String(), err
}

// nextBuild names the operating-system build by the profile's scheme.
func (b *build) nextBuild(ctx context.Context, builds []Inputs, in *Inputs) (string, error) {
	profile, err := b.def.Profile(in.Version)
	if err != nil {
		return "", err
	}
	if profile.Build == "" || !profile.Build.OS() {
		return in.Version, nil
	}
	var existing []stream.Version
	add := func(id string) {
		if v, err := profile.Build.Parse(id); err == nil {
			existing = append(existing, v)
		}
	}
	for _, old := range builds {
		add(old.Build)
	}
	catalogue, err := b.catalogue(ctx)
	if err != nil {
		return "", err
	}
	for _, entry := range catalogue.Builds {
		add(entry.ID)
	}
	base, err := b.buildBase(ctx, profile, in)
	if err != nil {
		return "", err
	}
	next, err := profile.Build.NextFor(base, existing, in.Time)
	return next.String(), err
}

// buildBase gives the parts of a build's id that are not time and count, from
// the release's X.Y and the operating system's own VERSION_ID.
func (b *build) buildBase(ctx context.Context, profile stream.Profile, in *Inputs) (stream.Version, error) {
	release, err := b.osRelease(ctx, in.Pinned.RootTree)
	if err != nil {
		return stream.Version{}, err
	}
	text := release["VERSION_ID"]
	majorText, minorText, _ := strings.Cut(text, ".")
	major, err := strconv.Atoi(majorText)
	if err != nil {
		return stream.Version{}, fmt.Errorf("usr/lib/os-release: VERSION_ID %q does not begin with a number, which build ids of scheme %s need", text, profile.Build)
	}
	minor, err := strconv.Atoi(minorText)
	if err != nil {
		minor = 0
	}
	switch profile.Build {
	case stream.SchemeSCOSBuild:
		line, err := stream.ParseMinor(in.Version)
		if err != nil {
			return stream.Version{}, err
		}
		return stream.Version{Major: line.Major, Minor: line.Minor, EL: major}, nil
	case stream.SchemeFCOS:
		return stream.Version{Major: major, Patch: fcosStable}, nil
	}
	return stream.Version{Major: major, Minor: minor}, nil
}

// fcosStable is the stream number of Fedora CoreOS stable, which OKD follows.
const fcosStable = 3

// maxOSRelease is the largest usr/lib/os-release that is read, in bytes.
const maxOSRelease = 64 << 10

// osRelease reads usr/lib/os-release of a tree.
func (b *build) osRelease(ctx context.Context, root ostree.Checksum) (map[string]string, error) {
	const file = "usr/lib/os-release"
	checksum, err := b.lookup(ctx, root, file)
	if err != nil {
		return nil, err
	}
	object, err := b.repo.ReadFile(ctx, checksum)
	if err != nil {
		return nil, err
	}
	if object.Mode&ostree.ModeType != ostree.ModeRegular || object.Size > maxOSRelease {
		return nil, fmt.Errorf("%s: not a regular file of at most %d bytes", file, maxOSRelease)
	}
	r, err := object.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		key, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		fields[key] = value
	}
	return fields, nil
}

// lookup finds a file's checksum below a dirtree.
func (b *build) lookup(ctx context.Context, tree ostree.Checksum, file string) (ostree.Checksum, error) {
	dir, err := b.folder(ctx, tree, path.Dir(file))
	if err != nil {
		return ostree.Checksum{}, err
	}
	for _, f := range dir.Files {
		if f.Name == path.Base(file) {
			return f.Object, nil
		}
	}
	return ostree.Checksum{}, fmt.Errorf("%s: %w", file, fs.ErrNotExist)
}

// folder finds a directory below a dirtree.
func (b *build) folder(ctx context.Context, tree ostree.Checksum, name string) (*ostree.DirTree, error) {
	for part := range strings.SplitSeq(name, "/") {
		dir, err := b.repo.ReadDirTree(ctx, tree)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(dir.Dirs, func(d ostree.DirTreeDir) bool { return d.Name == part })
		if at < 0 {
			return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		tree = dir.Dirs[at].Tree
	}
	return b.repo.ReadDirTree(ctx, tree)
}

// modulesDir holds a folder for each kernel; a tree that passed the lint has
// one with a vmlinuz.
const modulesDir = "usr/lib/modules"

// kernel is the version of the tree's kernel.
func (b *build) kernel(ctx context.Context, tree ostree.Checksum) (string, error) {
	modules, err := b.folder(ctx, tree, modulesDir)
	if err != nil {
		return "", err
	}
	for _, version := range modules.Dirs {
		dir, err := b.repo.ReadDirTree(ctx, version.Tree)
		if err != nil {
			return "", err
		}
		if slices.ContainsFunc(dir.Files, func(f ostree.DirTreeFile) bool { return f.Name == "vmlinuz" }) {
			return version.Name, nil
		}
	}
	return "", fmt.Errorf("%s/*/vmlinuz: %w", modulesDir, fs.ErrNotExist)
}
