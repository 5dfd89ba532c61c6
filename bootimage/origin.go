package bootimage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	releasemd "github.com/coreos/stream-metadata-go/release"
	streammd "github.com/coreos/stream-metadata-go/stream"
)

// OriginKind is what kind of document names boot images.
type OriginKind string

// The kinds of documents.
const (
	OriginStream    OriginKind = "stream"    // stream metadata, also an installer's pin
	OriginConfigMap OriginKind = "configmap" // of a cluster or a release payload
	OriginRelease   OriginKind = "release"   // release.json
	OriginMeta      OriginKind = "meta"      // meta.json of a catalogue
	OriginPin       OriginKind = "pin"       // the installer's rhcos.json before there were streams, 4.2 to 4.7

	// OriginDiskIndex is an index of disk images in a registry, of which
	// [DiskIndexEntries] gives the entries.
	OriginDiskIndex OriginKind = "disk-index"
)

// Origin is a document that names boot images, and what it names.
type Origin struct {
	Kind         OriginKind `json:"kind"`
	Stream       string     `json:"stream,omitempty"`  // as the document calls it, which is not always what people do
	Release      string     `json:"release,omitempty"` // of OKD or OpenShift, in a ConfigMap
	LastModified string     `json:"last-modified,omitempty"`
	Entries      []Entry    `json:"entries,omitempty"`
}

// OriginOptions are options of [ReadOrigin].
type OriginOptions struct {
	// Stream chooses one of a ConfigMap's streams by name; "": the default one.
	Stream string
	// BaseURL is where the folder of builds of a meta.json is, without slash at its
	// end; "": the record's own, else addresses are file names.
	BaseURL string
}

// ReadOrigin reads a document that names boot images, whichever it is: stream
// metadata, a release.json, a meta.json, the ConfigMap in YAML or JSON, an
// installer's pin of before there were streams. It has at most [MaxDocumentSize]
// bytes.
func ReadOrigin(r io.Reader, opts *OriginOptions) (*Origin, error) {
	var o OriginOptions
	if opts != nil {
		o = *opts
	}
	data, err := io.ReadAll(io.LimitReader(r, MaxDocumentSize+1))
	if err != nil {
		return nil, fmt.Errorf("bootimage: read document: %w", err)
	}
	if len(data) > MaxDocumentSize {
		return nil, &FieldError{Err: fmt.Errorf("more than %d bytes", MaxDocumentSize)}
	}
	keys := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &keys); err != nil {
		if text := bytes.TrimSpace(data); len(text) > 0 && (text[0] == '{' || text[0] == '[') {
			_, _, _, err := parseJSON(data)
			if err == nil {
				err = errors.New("not an object")
			}
			return nil, &FieldError{Err: err}
		}
		return originOfConfigMap(data, o)
	}
	has := func(names ...string) bool {
		return !slices.ContainsFunc(names, func(name string) bool { _, ok := keys[name]; return !ok })
	}
	switch {
	case has("kind", "data"):
		return originOfConfigMap(data, o)
	case has("baseURI", "buildid"):
		return originOfPin(data)
	case has("buildid"):
		return originOfMeta(data, o)
	case has("release", "architectures"):
		d, err := decode[releasemd.Release](data)
		if err != nil {
			return nil, err
		}
		s := d.Value()
		return &Origin{
			Kind: OriginRelease, Stream: s.Stream, LastModified: s.Metadata.LastModified,
			Entries: Entries(&streammd.Stream{Architectures: s.ToStreamArchitectures()}),
		}, nil
	case has("stream", "architectures"):
		d, err := DecodeStream(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		s := d.Value()
		return &Origin{Kind: OriginStream, Stream: s.Stream, LastModified: s.Metadata.LastModified, Entries: Entries(s)}, nil
	}
	return nil, &FieldError{Err: fmt.Errorf("none of stream metadata, %s, %s, %s: %w", ReleaseFile, MetaFile, ConfigMapName, errors.ErrUnsupported)}
}

func originOfConfigMap(data []byte, o OriginOptions) (*Origin, error) {
	c, err := DecodeConfigMap(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	s, err := c.Pick(o.Stream)
	if err != nil {
		return nil, err
	}
	return &Origin{
		Kind: OriginConfigMap, Stream: s.Stream, Release: c.ReleaseVersion, LastModified: s.Metadata.LastModified, Entries: Entries(s),
	}, nil
}

func originOfMeta(data []byte, o OriginOptions) (*Origin, error) {
	d, err := decode[Meta](data)
	if err != nil {
		return nil, err
	}
	entries, err := MetaEntries(d.Value(), o.BaseURL)
	if err != nil {
		return nil, err
	}
	return &Origin{
		Kind: OriginMeta, Stream: d.Value().OCILabels["com.coreos.stream"], LastModified: stampOr(d.Value()), Entries: entries,
	}, nil
}

func stampOr(m *Meta) string {
	if m.BuildTimestamp.IsZero() {
		return stamp(m.OSTreeTimestamp)
	}
	return stamp(m.BuildTimestamp)
}

// MetaEntries lists the boot images of one build's record, with the sizes that
// stream metadata lacks. baseURL is where the folder of builds is, without slash
// at its end; "": what the record says of its upload, else addresses are file
// names.
func MetaEntries(m *Meta, baseURL string) ([]Entry, error) {
	folder := ""
	switch {
	case baseURL != "":
		if err := checkBase(baseURL); err != nil {
			return nil, err
		}
		folder = baseURL + "/" + m.BuildID + "/" + m.Arch + "/"
	case m.S3 != nil && m.S3.PublicURL != "":
		folder = strings.TrimSuffix(m.S3.PublicURL, "/") + "/"
	}
	var all []Entry
	for _, name := range slices.Sorted(maps.Keys(m.Images)) {
		if slices.Contains(elsewhere, name) {
			continue
		}
		all = append(all, imageEntry(m, name, folder))
	}
	return append(all, metaClouds(m)...), nil
}

// imageEntry is one artifact of a record, whose file is in folder.
func imageEntry(m *Meta, name, folder string) Entry {
	image := m.Images[name]
	e := Entry{
		Arch: m.Arch, Platform: name, File: "disk", Release: m.BuildID, URL: folder + image.Path,
		SHA256: image.SHA256, UncompressedSHA256: image.UncompressedSHA256, Size: image.Size, UncompressedSize: image.UncompressedSize,
		Path: join("images", name),
	}
	if live, ok := inMetal[name]; ok {
		e.Platform, e.Format, e.File = "metal", live.format, live.file
		return e
	}
	e.Format = formatOf(name, m.Arch, image.Path)
	if name == "metal4k" {
		e.Platform, e.Format = "metal", "4k."+e.Format
	}
	return e
}

// formatOf is what a file name has after platform and architecture; of names that
// are older than the convention, what comes after the platform.
func formatOf(platform, arch, file string) string {
	if _, ext, ok := strings.Cut(file, platform+"."+arch+"."); ok {
		return ext
	}
	if _, ext, ok := strings.Cut(file, platform+"."); ok {
		return ext
	}
	_, ext, _ := strings.Cut(file[strings.LastIndexByte(file, '-')+1:], ".")
	return ext
}

func metaClouds(m *Meta) (all []Entry) {
	add := func(path string, e Entry) {
		e.Arch, e.Release, e.Path = m.Arch, m.BuildID, path
		all = append(all, e)
	}
	item := func(key string, i int) string { return fmt.Sprintf("%s[%d]", key, i) }
	for i, a := range m.Aliyun {
		add(item("aliyun", i), Entry{Platform: "aliyun", Region: a.Region, Image: a.ID})
	}
	for i, a := range m.AMIs {
		add(item("amis", i), Entry{Platform: "aws", Region: a.Region, Image: a.AMI})
	}
	for i, a := range m.AWSWinLI {
		add(item("aws-winli", i), Entry{Platform: "aws-winli", Region: a.Region, Image: a.AMI})
	}
	if m.Azure != nil {
		add("azure", Entry{Platform: "azure-disk", URL: m.Azure.URL})
	}
	if g := m.GCP; g != nil {
		image := g.Image
		if g.Project != "" {
			image = "projects/" + g.Project + "/global/images/" + g.Image
		}
		add("gcp", Entry{Platform: "gcp", Image: image, URL: g.URL})
	}
	for i, c := range m.IBMCloud {
		add(item("ibmcloud", i), Entry{Platform: "ibmcloud", Region: c.Region, Image: c.Bucket + "/" + c.Object, URL: c.URL})
	}
	if k := m.KubeVirt; k != nil {
		add("kubevirt", Entry{Platform: "kubevirt", Image: k.digestRef()})
	}
	for i, c := range m.PowerVS {
		add(item("powervs", i), Entry{Platform: "powervs", Region: c.Region, Image: c.Bucket + "/" + c.Object, URL: c.URL})
	}
	return all
}

// pin is rhcos.json of the installer: a meta.json in which AMIs are by region.
type pin struct {
	BuildID string           `json:"buildid"`
	BaseURI string           `json:"baseURI"`
	Images  map[string]Image `json:"images"`
	AMIs    map[string]struct {
		HVM string `json:"hvm"`
	} `json:"amis"`
	Azure *CloudObject `json:"azure"`
	GCP   *GCPImage    `json:"gcp"`
}

func (p *pin) check() (faults []error) {
	if err := checkID(p.BuildID); err != nil {
		faults = append(faults, &FieldError{Path: "buildid", Err: err})
	}
	if u, err := url.Parse(p.BaseURI); err != nil || u.Host == "" || u.User != nil {
		faults = append(faults, &FieldError{Path: "baseURI", Err: errors.New("not an address")})
	}
	return append(faults, checkImages(p.Images)...)
}

func originOfPin(data []byte) (*Origin, error) {
	d, err := decode[pin](data)
	if err != nil {
		return nil, err
	}
	p := d.Value()
	m := &Meta{BuildID: p.BuildID, Arch: "x86_64", Images: p.Images, Azure: p.Azure, GCP: p.GCP, S3: &S3Location{PublicURL: p.BaseURI}}
	// The first of them say nowhere what they are for: it was the one there was.
	for _, arch := range knownArches {
		if strings.HasSuffix(strings.TrimSuffix(p.BaseURI, "/"), "/"+arch) {
			m.Arch = arch
		}
	}
	for _, region := range slices.Sorted(maps.Keys(p.AMIs)) {
		m.AMIs = append(m.AMIs, AMI{Region: region, AMI: p.AMIs[region].HVM})
	}
	entries, err := MetaEntries(m, "")
	if err != nil {
		return nil, err
	}
	return &Origin{Kind: OriginPin, Entries: entries}, nil
}

// BuildOrigin reads what one build of a catalogue has, all architectures: from the
// folder with builds.json, the build of that id, with "" the newest. Files that
// were cleaned up are not in it. Where there is a release.json ([ReadRelease]), the
// stream and signatures are from it, and addresses where records have none. Give a
// folder as the FS of an [os.Root].
func BuildOrigin(fsys fs.FS, build string, opts *OriginOptions) (*Origin, error) {
	var o OriginOptions
	if opts != nil {
		o = *opts
	}
	builds, err := readFile(fsys, BuildsFile, DecodeBuilds)
	if err != nil {
		return nil, fmt.Errorf("bootimage: catalogue: %w", err)
	}
	entry, ok := builds.Value().Latest("")
	if build != "" {
		at, err := builds.Value().find(build)
		if err != nil {
			return nil, fmt.Errorf("bootimage: catalogue: %w", err)
		}
		entry, ok = builds.Value().Builds[at], true
	}
	if !ok {
		return nil, fmt.Errorf("bootimage: catalogue: no build: %w", fs.ErrNotExist)
	}
	removed, err := entry.cleanup()
	if err != nil {
		return nil, err
	}
	all := &Origin{Kind: OriginMeta}
	for _, arch := range entry.Arches {
		d, err := readFile(fsys, path.Join(entry.ID, arch, MetaFile), DecodeMeta)
		if err != nil {
			return nil, fmt.Errorf("bootimage: catalogue: %w", err)
		}
		m := d.Value()
		for name := range m.Images {
			if removed.Images && !slices.Contains(removed.ImagesKept, name) {
				delete(m.Images, name)
			}
		}
		if removed.CloudUploads {
			m.AMIs, m.AWSWinLI, m.Aliyun, m.GCP, m.Azure, m.IBMCloud, m.PowerVS = nil, nil, nil, nil, nil, nil, nil
		}
		entries, err := MetaEntries(m, o.BaseURL)
		if err != nil {
			return nil, err
		}
		all.Stream, all.LastModified = m.OCILabels["com.coreos.stream"], stampOr(m)
		release, err := ReadRelease(fsys, entry.ID, arch)
		switch {
		case err == nil:
			all.Stream = release.view.Stream
			publishedEntries(entries, &release.view, arch)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
		all.Entries = append(all.Entries, entries...)
	}
	return all, nil
}

// publishedEntries gives files of a record the addresses that a release.json says of
// them.
func publishedEntries(entries []Entry, release *releasemd.Release, arch string) {
	published := map[string]Entry{}
	for _, e := range Entries(&streammd.Stream{Architectures: release.ToStreamArchitectures()}) {
		if e.Arch == arch && e.SHA256 != "" {
			published[e.SHA256] = e
		}
	}
	for i, e := range entries {
		p, ok := published[e.SHA256]
		if !ok || e.SHA256 == "" || path.Base(p.URL) != path.Base(e.URL) {
			continue
		}
		if !strings.Contains(e.URL, "/") {
			entries[i].URL = p.URL
		}
		if entries[i].URL == p.URL {
			entries[i].Signature = p.Signature
		}
	}
}
