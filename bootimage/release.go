package bootimage

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	releasemd "github.com/coreos/stream-metadata-go/release"
	streammd "github.com/coreos/stream-metadata-go/stream"
)

// ReleaseOptions say how [ReleaseFor] writes.
type ReleaseOptions struct {
	// Stream is the stream's name; "": the label com.coreos.stream of an
	// imported image, else the branch of the configuration.
	Stream string
	// BaseURL is where readers find the folder of builds, without a slash at
	// its end: an artifact is at BaseURL/ID/ARCH/FILE. Required.
	BaseURL string
	// Signatures names a signature, location plus ".sig", with each artifact.
	// Say so only where they exist.
	Signatures bool
	// LastModified is when the document was last changed; zero: not said.
	LastModified time.Time
}

// elsewhere are artifacts that no platform of release.json holds.
var elsewhere = []string{"ostree", "oci-manifest", "extensions-container", "legacy-oscontainer", "ignition-gpg-key", "dasd"}

// inMetal are artifacts of platform metal with names of their own.
var inMetal = map[string]struct{ format, file string }{
	"live-iso":       {"iso", "disk"},
	"live-kernel":    {"pxe", "kernel"},
	"live-initramfs": {"pxe", "initramfs"},
	"live-rootfs":    {"pxe", "rootfs"},
	"iso":            {"installer.iso", "disk"},
	"kernel":         {"installer-pxe", "kernel"},
	"initramfs":      {"installer-pxe", "initramfs"},
}

// ReleaseFor writes the release.json of a build from its records, one an
// architecture, as coreos-assembler's generate-release-meta does: platforms by
// artifact, disks by file extension, live files under metal. A platform that
// stream-metadata-go does not know is in the document all the same.
func ReleaseFor(metas []Meta, opts *ReleaseOptions) (*Document[releasemd.Release], error) {
	fields, err := releaseFields(metas, opts)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(fields)
	if err != nil {
		return nil, &FieldError{Document: ReleaseFile, Err: err}
	}
	_, root, _, err := parseJSON(data)
	if err != nil {
		return nil, named[releasemd.Release](err)
	}
	d := Document[releasemd.Release]{root: own.fresh(root, "", true), tail: "\n"}
	return decode[releasemd.Release](d.Bytes())
}

// object is a JSON object under construction.
type object map[string]any

// at gives the object under key, made if need be.
func (o object) at(key string) object {
	if _, ok := o[key]; !ok {
		o[key] = object{}
	}
	return o[key].(object)
}

// orderedRelease keeps the order that people know.
type orderedRelease struct {
	Release       string `json:"release"`
	Stream        string `json:"stream"`
	Metadata      object `json:"metadata,omitempty"`
	Architectures object `json:"architectures"`
}

func releaseFields(metas []Meta, opts *ReleaseOptions) (*orderedRelease, error) {
	var o ReleaseOptions
	if opts != nil {
		o = *opts
	}
	fail := func(m Meta, err error) error {
		return fmt.Errorf("bootimage: release.json of build %s %s: %w", m.BuildID, m.Arch, err)
	}
	if len(metas) == 0 {
		return nil, errors.New("bootimage: release.json: no build")
	}
	if u, err := url.Parse(o.BaseURL); err != nil || u.Host == "" && u.Scheme != "file" || u.User != nil || strings.HasSuffix(o.BaseURL, "/") {
		return nil, errors.New("bootimage: release.json: base URL is not an address without slash at its end")
	}
	out := &orderedRelease{Architectures: object{}}
	if !o.LastModified.IsZero() {
		out.Metadata = object{"last-modified": o.LastModified.UTC().Format(time.RFC3339)}
	}
	for _, m := range metas {
		if err := errors.Join(m.check()...); err != nil {
			return nil, fail(m, err)
		}
		if m.Arch == "" {
			return nil, fail(m, errNoArch)
		}
		stream := o.Stream
		if stream == "" {
			stream = m.OCILabels["com.coreos.stream"]
		}
		if stream == "" && m.ConfigGit != nil {
			stream = m.ConfigGit.Branch
		}
		switch {
		case stream == "":
			return nil, fail(m, errors.New("no name of a stream"))
		case out.Release == "":
			out.Release, out.Stream = m.BuildID, stream
		case out.Release != m.BuildID:
			return nil, fail(m, fmt.Errorf("the release is %s", out.Release))
		case out.Stream != stream:
			return nil, fail(m, fmt.Errorf("stream %s, and the release is of %s", stream, out.Stream))
		}
		if _, ok := out.Architectures[m.Arch]; ok {
			return nil, fail(m, errors.New("architecture is there twice"))
		}
		arch, err := archFields(m, o)
		if err != nil {
			return nil, fail(m, err)
		}
		out.Architectures[m.Arch] = arch
	}
	return out, nil
}

func archFields(m Meta, o ReleaseOptions) (object, error) {
	media := object{}
	place := func(i Image) object {
		location := fmt.Sprintf("%s/%s/%s/%s", o.BaseURL, m.BuildID, m.Arch, i.Path)
		a := object{"location": location, "sha256": i.SHA256}
		if o.Signatures {
			a["signature"] = location + ".sig"
		}
		if i.UncompressedSHA256 != "" {
			a["uncompressed-sha256"] = i.UncompressedSHA256
		}
		return a
	}
	for _, name := range slices.Sorted(maps.Keys(m.Images)) {
		image := m.Images[name]
		if slices.Contains(elsewhere, name) {
			continue
		}
		if live, ok := inMetal[name]; ok {
			media.at("metal").at("artifacts").at(live.format)[live.file] = place(image)
			continue
		}
		_, ext, ok := strings.Cut(image.Path, name+"."+m.Arch+".")
		if !ok {
			return nil, fmt.Errorf("artifact %s: no %q in file name %s", name, name+"."+m.Arch+".", image.Path)
		}
		platform := name
		if name == "metal4k" {
			platform, ext = "metal", "4k."+ext
		}
		media.at(platform).at("artifacts").at(ext)["disk"] = place(image)
	}
	extensions := object{}
	for _, ami := range m.AMIs {
		media.at("aws").at("images")[ami.Region] = object{"image": ami.AMI}
	}
	for _, ami := range m.AWSWinLI {
		extensions.at("aws-winli").at("images")[ami.Region] = object{"image": ami.AMI}
	}
	for _, id := range m.Aliyun {
		media.at("aliyun").at("images")[id.Region] = object{"image": id.ID}
	}
	for platform, objects := range map[string][]CloudObject{"ibmcloud": m.IBMCloud, "powervs": m.PowerVS} {
		for _, c := range objects {
			media.at(platform).at("images")[c.Region] = object{"object": c.Object, "bucket": c.Bucket, "url": c.URL}
		}
	}
	if g := m.GCP; g != nil {
		image := object{"name": g.Image}
		if g.Project != "" {
			image["project"] = g.Project
		}
		if g.Family != "" {
			image["family"] = g.Family
		}
		media.at("gcp")["image"] = image
	}
	if m.Azure != nil {
		extensions["azure-disk"] = object{"url": m.Azure.URL}
	}
	if k := m.KubeVirt; k != nil {
		media.at("kubevirt")["image"] = object{"image": k.floating(m.BuildID), "digest-ref": k.digestRef()}
	}
	arch := object{"media": media}
	if !m.OCIImported {
		arch["commit"] = m.OSTreeCommit
	}
	if b := m.BaseImage; b != nil && b.Digest != "" {
		arch["oci-image"] = object{"image": b.floating(m.BuildID), "digest-ref": b.digestRef()}
	}
	if len(extensions) > 0 {
		arch["rhel-coreos-extensions"] = extensions
	}
	return arch, nil
}

// StreamOptions say how [StreamFor] writes.
type StreamOptions struct {
	LastModified time.Time // required
	Generator    string    // name and version of the program; "": not said
}

// StreamFor writes the stream metadata that recommends a release: what users
// and installers read.
func StreamFor(release *releasemd.Release, opts *StreamOptions) (*Document[streammd.Stream], error) {
	s, err := streamOf(release, opts)
	if err != nil {
		return nil, err
	}
	return NewDocument(s)
}

func streamOf(release *releasemd.Release, opts *StreamOptions) (streammd.Stream, error) {
	if opts == nil || opts.LastModified.IsZero() {
		return streammd.Stream{}, errors.New("bootimage: stream: no time of last modification")
	}
	if faults := checkRelease(release); len(faults) > 0 {
		return streammd.Stream{}, fmt.Errorf("bootimage: stream: %w", errors.Join(faults...))
	}
	return streammd.Stream{
		Stream:        release.Stream,
		Metadata:      streammd.Metadata{LastModified: opts.LastModified.UTC().Format(time.RFC3339), Generator: opts.Generator},
		Architectures: release.ToStreamArchitectures(),
	}, nil
}

// UpdateStream gives a change of stream metadata for publish.Update: the
// architectures of the release take the place of those that are there, others
// stay. Where nothing else differs the time of last modification stays, too,
// and so the document. Without an old document it is [StreamFor].
func UpdateStream(release *releasemd.Release, opts *StreamOptions) func(old []byte) ([]byte, error) {
	return update(func() (*Document[streammd.Stream], error) { return StreamFor(release, opts) }, func(d *Document[streammd.Stream]) error {
		next, err := streamOf(release, opts)
		if err != nil {
			return err
		}
		return d.Edit(func(s *streammd.Stream) error {
			if s.Stream != next.Stream {
				return fmt.Errorf("bootimage: stream is %s, not %s", s.Stream, next.Stream)
			}
			changed := false
			for arch, content := range next.Architectures {
				if was, ok := s.Architectures[arch]; !ok || !reflect.DeepEqual(was, content) {
					if s.Architectures == nil {
						s.Architectures = map[string]streammd.Arch{}
					}
					s.Architectures[arch], changed = content, true
				}
			}
			if changed {
				s.Metadata = next.Metadata
			}
			return nil
		})
	})
}

func checkRelease(r *releasemd.Release) (faults []error) {
	if err := checkID(r.Release); err != nil {
		faults = append(faults, &FieldError{Path: "release", Err: err})
	}
	if r.Stream == "" {
		faults = append(faults, &FieldError{Path: "stream", Err: errors.New("missing")})
	}
	for _, arch := range slices.Sorted(maps.Keys(r.Architectures)) {
		if err := checkArch(arch); err != nil {
			faults = append(faults, &FieldError{Path: join("architectures", arch), Err: err})
		}
	}
	return faults
}

func checkStream(s *streammd.Stream) (faults []error) {
	fail := func(path string, err error) { faults = append(faults, &FieldError{Path: path, Err: err}) }
	if s.Stream == "" {
		fail("stream", errors.New("missing"))
	}
	for _, arch := range slices.Sorted(maps.Keys(s.Architectures)) {
		at := join("architectures", arch)
		if err := checkArch(arch); err != nil {
			fail(at, err)
		}
		artifacts := s.Architectures[arch].Artifacts
		for _, platform := range slices.Sorted(maps.Keys(artifacts)) {
			formats := artifacts[platform].Formats
			for _, format := range slices.Sorted(maps.Keys(formats)) {
				f := formats[format]
				for _, file := range []struct {
					name string
					a    *streammd.Artifact
				}{{"disk", f.Disk}, {"kernel", f.Kernel}, {"initramfs", f.Initramfs}, {"rootfs", f.Rootfs}} {
					if file.a == nil {
						continue
					}
					in := join(join(join(join(join(at, "artifacts"), platform), "formats"), format), file.name)
					if file.a.Location == "" {
						fail(in+".location", errors.New("missing"))
					}
					if !reSHA256.MatchString(file.a.Sha256) {
						fail(in+".sha256", fmt.Errorf("%.80q is not a SHA-256", file.a.Sha256))
					}
				}
			}
		}
	}
	return faults
}
