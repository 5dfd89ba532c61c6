package bootimage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"reflect"
	"slices"

	streammd "github.com/coreos/stream-metadata-go/stream"
	"github.com/coreos/stream-metadata-go/stream/rhcos"
	"sigs.k8s.io/yaml"

	"github.com/okd-project/okd-streams/internal/yamlsize"
)

// Names of the ConfigMap in which a cluster keeps the metadata of its boot
// images, and of the file with it in the release payload.
const (
	ConfigMapName      = "coreos-bootimages"
	ConfigMapNamespace = "openshift-machine-config-operator"
	ConfigMapManifest  = "0000_50_installer_coreos-bootimages.yaml"
)

// UnreleasedVersion is the release version of a ConfigMap in the installer's
// image; assembling a payload puts the real one in its place.
const UnreleasedVersion = "0.0.1-snapshot"

// ConfigMap is the ConfigMap [ConfigMapName]: what a cluster knows of its boot
// images. There are three shapes: with Stream alone; with Stream and Streams by
// name (from 4.22); and OKD's, where the one name in Streams is empty.
type ConfigMap struct {
	ReleaseVersion string
	// Stream is the default stream; nil: none.
	Stream *Document[streammd.Stream]
	// Streams are all streams by name, such as rhel-9 and rhel-10; nil: none.
	Streams *Document[map[string]streammd.Stream]
	// MCOVersionHash and MCOReleaseImageVersion are what the machine config
	// operator writes once a control plane runs the new configuration; "" in
	// payloads.
	MCOVersionHash, MCOReleaseImageVersion string
	// Annotations are those of the object, in payloads which clusters it is for.
	Annotations map[string]string
	// Other are further keys of the data, which are kept.
	Other map[string]string

	// What was read: what of it is not in a field is kept.
	source []byte
	was    manifest
}

// configMapAnnotations put the ConfigMap into every kind of cluster.
var configMapAnnotations = []string{
	"include.release.openshift.io/ibm-cloud-managed",
	"include.release.openshift.io/self-managed-high-availability",
	"include.release.openshift.io/single-node-developer",
}

// manifest is the object in YAML.
type manifest struct {
	APIVersion string            `json:"apiVersion"`
	Data       map[string]string `json:"data"`
	Kind       string            `json:"kind"`
	Metadata   manifestMeta      `json:"metadata"`
}

type manifestMeta struct {
	Annotations map[string]string `json:"annotations,omitempty"`
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
}

// DecodeConfigMap reads the ConfigMap as YAML or JSON, from a payload or a
// cluster. It has at most [MaxDocumentSize] bytes; faults are joined *[FieldError]
// values, those within a stream with the path data.stream or data.streams before
// theirs. The object keeps all else that it has ([ConfigMap.Encode]).
func DecodeConfigMap(r io.Reader) (*ConfigMap, error) {
	fail := func(path string, err error) error {
		return &FieldError{Document: ConfigMapName, Path: path, Err: err}
	}
	data, err := io.ReadAll(io.LimitReader(r, MaxDocumentSize+1))
	if err != nil {
		return nil, fmt.Errorf("bootimage: read %s: %w", ConfigMapName, err)
	}
	if len(data) > MaxDocumentSize {
		return nil, fail("", fmt.Errorf("more than %d bytes", MaxDocumentSize))
	}
	if err := yamlsize.Check(data); err != nil {
		return nil, fail("", err)
	}
	// Strict, so that no key is there twice; unknown keys of an object are fine.
	text, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, fail("", err)
	}
	if !bytes.HasPrefix(text, []byte("{")) {
		return nil, fail("", errors.New("not an object"))
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		err = decodeError[manifest](err)
		err.(*FieldError).Document = ConfigMapName
		return nil, err
	}
	if m.Kind != "ConfigMap" || m.APIVersion != "v1" {
		return nil, fail("kind", fmt.Errorf("%.40q of %.40q is not a ConfigMap of v1", m.Kind, m.APIVersion))
	}
	c := &ConfigMap{
		ReleaseVersion: m.Data["releaseVersion"],
		MCOVersionHash: m.Data["MCOVersionHash"], MCOReleaseImageVersion: m.Data["MCOReleaseImageVersion"],
		Annotations: maps.Clone(m.Metadata.Annotations), source: data, was: m,
	}
	var faults []error
	if m.Metadata.Name != ConfigMapName {
		faults = append(faults, fail("metadata.name", fmt.Errorf("%.80q is not %s", m.Metadata.Name, ConfigMapName)))
	}
	for _, key := range slices.Sorted(maps.Keys(m.Data)) {
		switch key {
		case "releaseVersion", "MCOVersionHash", "MCOReleaseImageVersion":
		case "stream":
			c.Stream, err = decode[streammd.Stream]([]byte(m.Data[key]))
			faults = append(faults, within("data.stream", err))
		case "streams":
			c.Streams, err = decode[map[string]streammd.Stream]([]byte(m.Data[key]))
			faults = append(faults, within("data.streams", err))
		default:
			if c.Other == nil {
				c.Other = map[string]string{}
			}
			c.Other[key] = m.Data[key]
		}
	}
	if _, ok := m.Data["stream"]; !ok && m.Data["streams"] == "" {
		faults = append(faults, fail("data", errors.New("neither stream nor streams")))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return c, nil
}

// within puts a path before those of faults.
func within(path string, err error) error {
	if err == nil {
		return nil
	}
	var all []error
	for _, f := range leaves(err) {
		if field, ok := errors.AsType[*FieldError](f); ok {
			in := path
			switch {
			case field.Path == "":
			case field.Path[0] == '[':
				in += field.Path
			default:
				in += "." + field.Path
			}
			f = &FieldError{Document: ConfigMapName, Path: in, Err: field.Err}
		}
		all = append(all, f)
	}
	return errors.Join(all...)
}

// leaves takes joined errors apart.
func leaves(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

func checkStreams(all map[string]streammd.Stream) (faults []error) {
	if len(all) == 0 {
		faults = append(faults, &FieldError{Err: errors.New("no stream")})
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if name != "" && !reFile.MatchString(name) {
			faults = append(faults, &FieldError{Path: join("", name), Err: errors.New("not the name of a stream")})
		}
		s := all[name]
		for _, f := range checkStream(&s) {
			if field, ok := f.(*FieldError); ok {
				field.Path = join("", name) + "." + field.Path
			}
			faults = append(faults, f)
		}
	}
	return faults
}

// NewConfigMap is the ConfigMap of a release, as the installer's build makes it:
// with opts.Streams of both shapes, so that all consumers find what they look for.
// version is the release's or [UnreleasedVersion].
func NewConfigMap(version string, stream *Document[streammd.Stream], opts *ConfigMapOptions) (*ConfigMap, error) {
	if version == "" || stream == nil {
		return nil, &FieldError{Document: ConfigMapName, Err: errors.New("no version or no stream")}
	}
	c := &ConfigMap{ReleaseVersion: version, Stream: stream, Annotations: map[string]string{}}
	for _, a := range configMapAnnotations {
		c.Annotations[a] = "true"
	}
	if opts == nil || len(opts.Streams) == 0 {
		return c, nil
	}
	root := &value{kind: '{'}
	for _, name := range slices.Sorted(maps.Keys(opts.Streams)) {
		root.members = append(root.members, member{key: name, value: opts.Streams[name].root})
	}
	all := Document[map[string]streammd.Stream]{root: styleOf(stream.root).fresh(root, "", true)}
	done, err := decode[map[string]streammd.Stream](all.Bytes())
	if err != nil {
		return nil, within("data.streams", err)
	}
	c.Streams = done
	return c, nil
}

// ConfigMapOptions are options of [NewConfigMap].
type ConfigMapOptions struct {
	// Streams are all streams by name, the default one too; empty: the ConfigMap
	// has the older shape. OKD's have the empty name.
	Streams map[string]*Document[streammd.Stream]
}

// Encode writes the ConfigMap. One that was read is written as it was, byte for byte,
// but for the texts that were changed: other keys, namespace, labels, layout and
// comments stay. In YAML of flow style the layout does not. One that was made here is
// the YAML that payloads have: keys in alphabetical order, streams as they are.
func (c *ConfigMap) Encode(w io.Writer) error {
	write := c.edited
	if c.source == nil {
		write = c.fresh
	}
	data, err := write()
	if err != nil {
		return &FieldError{Document: ConfigMapName, Err: err}
	}
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("bootimage: write %s: %w", ConfigMapName, err)
	}
	return nil
}

// fresh is the object as payloads have it.
func (c *ConfigMap) fresh() ([]byte, error) {
	return yaml.Marshal(manifest{
		APIVersion: "v1", Kind: "ConfigMap", Data: c.data(),
		Metadata: manifestMeta{Annotations: c.Annotations, Name: ConfigMapName, Namespace: ConfigMapNamespace},
	})
}

// data are the texts of the object.
func (c *ConfigMap) data() map[string]string {
	data := map[string]string{}
	maps.Copy(data, c.Other)
	for key, text := range map[string]string{
		"releaseVersion": c.ReleaseVersion, "MCOVersionHash": c.MCOVersionHash, "MCOReleaseImageVersion": c.MCOReleaseImageVersion,
	} {
		if text != "" {
			data[key] = text
		}
	}
	if c.Stream != nil {
		data["stream"] = string(c.Stream.Bytes())
	}
	if c.Streams != nil {
		data["streams"] = string(c.Streams.Bytes())
	}
	return data
}

// Names are those of the streams; nil where there is the default stream alone.
func (c *ConfigMap) Names() []string {
	if c.Streams == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(*c.Streams.Value()))
}

// Pick is the stream of a name; with "" the default one, else the one there is.
// The error wraps [io/fs.ErrNotExist] and names those that there are.
func (c *ConfigMap) Pick(name string) (*streammd.Stream, error) {
	if name == "" && c.Stream != nil {
		return c.Stream.Value(), nil
	}
	if c.Streams != nil {
		all := *c.Streams.Value()
		if s, ok := all[name]; ok {
			return &s, nil
		}
		if len(all) == 1 && name == "" {
			for _, s := range all {
				return &s, nil
			}
		}
	}
	return nil, fmt.Errorf("bootimage: %s: stream %.80q: %w; there are %q", ConfigMapName, name, fs.ErrNotExist, c.Names())
}

// ConfigMapCheck are options of [ValidateConfigMap].
type ConfigMapCheck struct {
	// Release is the version that the ConfigMap should be of; "": any.
	Release string
	// Cluster says that it comes from a cluster, where the machine config operator
	// has to have put its marks, else from a payload, where annotations say which
	// clusters it is for.
	Cluster bool
}

// ValidateConfigMap checks the ConfigMap by what its readers want: the version,
// annotations, marks, the streams by [ValidateStream], and that the default
// stream is one of those with names. Faults are joined *[FieldError] values.
func ValidateConfigMap(c *ConfigMap, opts *ConfigMapCheck) error {
	var o ConfigMapCheck
	if opts != nil {
		o = *opts
	}
	v := &faults{document: ConfigMapName}
	switch {
	case c.ReleaseVersion == "":
		v.fail("data.releaseVersion", "missing")
	case o.Release != "" && c.ReleaseVersion != o.Release:
		v.fail("data.releaseVersion", "is %.80s, want %s", c.ReleaseVersion, o.Release)
	}
	switch {
	case c.Stream == nil:
		v.fail("data.stream", "missing; what is older than 4.22 reads nothing else")
	default:
		v.within("data.stream", ValidateStream(c.Stream.Value(), nil))
	}
	if c.Streams != nil {
		for _, name := range c.Names() {
			s := (*c.Streams.Value())[name]
			v.within(join("data.streams", name), ValidateStream(&s, nil))
		}
		if c.Stream != nil && !c.hasDefault() {
			v.fail("data.streams", "the default stream is none of %q", c.Names())
		}
	}
	if o.Cluster {
		switch {
		case c.MCOReleaseImageVersion == "" || c.MCOVersionHash == "":
			v.fail("data.MCOReleaseImageVersion", "missing: no control plane has rolled out the new configuration yet; boot images are not updated before")
		case c.MCOReleaseImageVersion != c.ReleaseVersion:
			v.fail("data.MCOReleaseImageVersion", "is %.80s while the release is %.80s: an update is under way; boot images are not updated before its end", c.MCOReleaseImageVersion, c.ReleaseVersion)
		}
		return v.err()
	}
	for _, a := range configMapAnnotations {
		if c.Annotations[a] != "true" {
			v.fail(join("metadata.annotations", a), "missing: not every cluster gets the ConfigMap")
		}
	}
	return v.err()
}

// within adds the faults of a document that is in this one.
func (v *faults) within(path string, err error) {
	if err == nil {
		return
	}
	v.all = append(v.all, leaves(within(path, err))...)
}

// hasDefault reports whether the default stream is one of those with names. The
// marketplace does not count: it is merged into some copies only.
func (c *ConfigMap) hasDefault() bool {
	plain := func(s *streammd.Stream) []Entry {
		return slices.DeleteFunc(Entries(s), func(e Entry) bool { return e.Platform == "azure-marketplace" })
	}
	want := plain(c.Stream.Value())
	for _, s := range *c.Streams.Value() {
		if reflect.DeepEqual(plain(&s), want) {
			return true
		}
	}
	return false
}

// AddMarketplace merges the images that clouds' marketplaces have into stream
// metadata, as the installer's build does before it writes the ConfigMap: data is
// a file of its marketplace folder, by architecture. An architecture that the
// stream lacks is an error that wraps [io/fs.ErrNotExist].
func AddMarketplace(d *Document[streammd.Stream], data []byte) error {
	var arches map[string]rhcos.Marketplace
	if err := json.Unmarshal(data, &arches); err != nil {
		err = decodeError[rhcos.Marketplace](err)
		err.(*FieldError).Document = "marketplace"
		return err
	}
	patch := object{}
	for _, arch := range slices.Sorted(maps.Keys(arches)) {
		if _, ok := d.Value().Architectures[arch]; !ok {
			return &FieldError{Document: "marketplace", Path: join("", arch), Err: fmt.Errorf("stream has no such architecture: %w", fs.ErrNotExist)}
		}
		patch.at("architectures").at(arch).at("rhel-coreos-extensions")["marketplace"] = arches[arch]
	}
	text, err := json.Marshal(patch)
	if err != nil {
		return &FieldError{Document: "marketplace", Err: err}
	}
	return d.Override(text)
}
