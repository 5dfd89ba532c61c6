package graph

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/okd-project/okd-streams/internal/strictyaml"
)

// dataVersion is the schema of graph-data that is known here; what has the same
// major number is read.
var dataVersion = semver.MustParse("1.2.0")

// Data is the policy for a graph, as the graph-data repository keeps it.
type Data struct {
	// Version is the schema's, a semantic version.
	Version string
	// Channels by name of their file; Blocks likewise.
	Channels []Channel
	Blocks   []Block
	// Metadata is added to nodes: by version, of which an architecture does
	// not count, then by key. Where a node has the key, the value is appended
	// after a comma.
	Metadata map[string]map[string]string
	// Skipped are files that were not read, each with the reason:
	// of names that say nothing, and faulty ones if DataOptions.Lenient is set.
	Skipped []error
}

// Channel is what clusters follow.
type Channel struct {
	Name string `yaml:"name"`
	// Versions with "+ARCH" are of that architecture, others of all.
	Versions []string `yaml:"versions"`
}

// Block takes updates away from all clusters or, if it has risks, from those
// that match.
type Block struct {
	// To is the version it is about: with "+ARCH" of one architecture, else of
	// all (of conditional blocks always all).
	To string
	// From is a regular expression that is looked for in "X.Y.Z+ARCH". It need
	// not match all of it; ".*" matches every version. [MaxPattern] bounds it.
	From string
	// Risk is nil if the update is for nobody.
	Risk *Risk
}

// DataOptions are options of ReadData; the zero value is useful.
type DataOptions struct {
	// Lenient skips files with faults, as Cincinnati does: a typing error in a
	// block then lets clusters update. They are in Data.Skipped.
	Lenient bool
}

// ReadData reads a graph-data folder: version, channels/*.yaml,
// blocked-edges/*.yaml and raw/metadata.json. Every fault is reported, each
// with its file. Folders that are not there are empty; version must be there.
func ReadData(fsys fs.FS, opts *DataOptions) (*Data, error) {
	if opts == nil {
		opts = &DataOptions{}
	}
	d := &Data{}
	var faults []error
	fault := func(file string, err error) {
		err = &Error{Op: "read", Target: file, Err: err}
		if opts.Lenient {
			d.Skipped = append(d.Skipped, err)
			return
		}
		faults = append(faults, err)
	}
	text, err := readFile(fsys, "version")
	if err != nil {
		return nil, &Error{Op: "read", Target: "version", Err: err}
	}
	d.Version = strings.TrimSpace(string(text))
	v, err := semver.Parse(d.Version)
	switch {
	case err != nil:
		return nil, &Error{Op: "read", Target: "version", Err: fmt.Errorf("%.80q: %w", d.Version, err)}
	case v.Major != dataVersion.Major:
		return nil, &Error{Op: "read", Target: "version", Err: fmt.Errorf("schema %s, this knows %s: %w", v, dataVersion, errors.ErrUnsupported)}
	}
	err = errors.Join(
		d.each(fsys, "channels", fault, func(data []byte) error {
			var c Channel
			if err := strictyaml.UnmarshalKnown(data, &c); err != nil {
				return err
			}
			err := c.check()
			if err == nil {
				d.Channels = append(d.Channels, c)
			}
			return err
		}),
		d.each(fsys, "blocked-edges", fault, func(data []byte) error {
			b, err := decodeBlock(data)
			if err == nil {
				d.Blocks = append(d.Blocks, b)
			}
			return err
		}),
	)
	if err != nil {
		return nil, err
	}
	data, err := readFile(fsys, "raw/metadata.json")
	if err == nil {
		err = json.Unmarshal(data, &d.Metadata)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.Metadata = nil
		fault("raw/metadata.json", err)
	}
	for v := range d.Metadata {
		if _, err := semver.Parse(v); err != nil {
			fault("raw/metadata.json", fmt.Errorf("version %.80q: %w", v, err))
			delete(d.Metadata, v)
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return d, nil
}

// each reads the YAML files of a folder in the order of their names.
func (d *Data) each(fsys fs.FS, dir string, fault func(string, error), decode func([]byte) error) error {
	entries, err := fs.ReadDir(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &Error{Op: "read", Target: dir, Err: err}
	}
	if len(entries) > MaxDataFiles {
		return &Error{Op: "read", Target: dir, Err: fmt.Errorf("%d files, limit %d", len(entries), MaxDataFiles)}
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if path.Ext(name) != ".yaml" {
			err := &Error{Op: "read", Target: name, Err: errors.New("the name does not end in .yaml")}
			if known := strings.Trim(e.Name(), "_."); known == "OWNERS" || strings.HasPrefix(known, "README") {
				d.Skipped = append(d.Skipped, err)
			} else {
				fault(name, err.Err)
			}
			continue
		}
		data, err := readFile(fsys, name)
		if err == nil {
			err = decode(data)
		}
		if err != nil {
			fault(name, err)
		}
	}
	return nil
}

// readFile reads a regular file of at most MaxDataFile bytes.
func readFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxDataFile+1))
	if err == nil && len(data) > MaxDataFile {
		err = fmt.Errorf("more than %d bytes", MaxDataFile)
	}
	return data, err
}

func (c *Channel) check() error {
	if !only(c.Name, "-.") {
		return fmt.Errorf("channel name %.80q: small letters, digits, - and . alone are allowed", c.Name)
	}
	for _, v := range c.Versions {
		if _, err := semver.Parse(v); err != nil {
			return fmt.Errorf("version %.80q: %w", v, err)
		}
	}
	return nil
}

// block is a file of blocked-edges. What cannot be known here (fixedIn,
// autoExtend) is for people and their tools.
type block struct {
	To         string  `yaml:"to"`
	From       string  `yaml:"from"`
	URL        *string `yaml:"url"`
	Name       *string `yaml:"name"`
	Message    *string `yaml:"message"`
	Rules      *[]rule `yaml:"matchingRules"`
	FixedIn    any     `yaml:"fixedIn"`
	AutoExtend any     `yaml:"autoExtend"`
}

type rule struct {
	Type   string `yaml:"type"`
	PromQL *struct {
		PromQL string `yaml:"promql"`
	} `yaml:"promql"`
}

func decodeBlock(data []byte) (Block, error) {
	var f block
	if err := strictyaml.Unmarshal(data, &f); err != nil {
		return Block{}, err
	}
	b := Block{To: f.To, From: f.From}
	if _, err := semver.Parse(b.To); err != nil {
		return Block{}, fmt.Errorf("to: version %.80q: %w", b.To, err)
	}
	if b.From == "" {
		return Block{}, errors.New("from is missing")
	}
	if _, err := compile(b.From, MaxPattern); err != nil {
		return Block{}, fmt.Errorf("from: %w", err)
	}
	if f.URL == nil && f.Name == nil && f.Message == nil && f.Rules == nil {
		return b, nil
	}
	if f.URL == nil || f.Name == nil || f.Message == nil || f.Rules == nil {
		return Block{}, errors.New("a conditional block has all of url, name, message and matchingRules, a plain one none of them")
	}
	b.Risk = &Risk{URL: *f.URL, Name: *f.Name, Message: *f.Message, Rules: []Rule{}}
	for _, r := range *f.Rules {
		to := Rule{Type: r.Type}
		if r.PromQL != nil && r.PromQL.PromQL != "" {
			to.PromQL = &PromQL{PromQL: r.PromQL.PromQL}
		}
		b.Risk.Rules = append(b.Risk.Rules, to)
	}
	if !slices.ContainsFunc(b.Risk.Rules, known) {
		return Block{}, errors.New("matchingRules: none of type Always or PromQL: no cluster could judge it")
	}
	return b, nil
}

// known says that a cluster-version operator can judge the rule.
func known(r Rule) bool { return r.Type == "Always" || r.Type == "PromQL" && r.PromQL != nil }
