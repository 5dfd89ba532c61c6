package controller

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/stream"
)

// MaxConfigSize bounds a configuration, bytes: controllers refuse larger ones.
const MaxConfigSize = 16 << 10

// Stable is [Config.As] of a stream whose releases are tagged into it.
const Stable = "Stable"

// Config is how a stream of releases is configured: the JSON of the annotation
// release.openshift.io/config, which makes an image stream a stream of releases.
// Members that it does not know are kept.
type Config struct {
	Name    string `json:"name"` // prefix of versions (4.20.0-0.okd-scos), or of a stable stream its name (4-scos-stable)
	Message string `json:"message,omitempty"`
	Hide    bool   `json:"hide,omitempty"`

	EndOfLife bool `json:"endOfLife,omitempty"`
	// As is [Stable], or empty: payloads are made of the image stream.
	As string `json:"as,omitempty"`
	// To is the image stream where releases are tagged; not in stable streams.
	To           string `json:"to,omitempty"`
	MirrorPrefix string `json:"mirrorPrefix,omitempty"`

	MaxUnready int `json:"maxUnreadyReleases,omitempty"` // 0: no limit
	// MinInterval is between two releases, seconds.
	MinInterval int `json:"minCreationIntervalSeconds,omitempty"`
	// Expires is the age at which accepted releases go, a Go duration; empty:
	// never. Stable streams keep theirs.
	Expires string `json:"expires,omitempty"`

	ReferenceMode  string `json:"referenceMode,omitempty"`
	PullSecretName string `json:"pullSecretName,omitempty"`
	// OverrideCLIImage is the image whose oc makes payloads.
	OverrideCLIImage string `json:"overrideCLIImage,omitempty"`

	Verify   map[string]Verify          `json:"verify,omitempty"`
	Publish  map[string]Publish         `json:"publish,omitempty"`
	Periodic map[string]json.RawMessage `json:"periodic,omitempty"`
	Check    map[string]json.RawMessage `json:"check,omitempty"`

	other map[string]json.RawMessage
}

// Verify is a job that tests each release.
type Verify struct {
	Disabled bool `json:"disabled,omitempty"`
	Optional bool `json:"optional,omitempty"` // informing: its failure rejects nothing
	Async    bool `json:"async,omitempty"`    // with Optional: not waited for
	Upgrade  bool `json:"upgrade,omitempty"`
	// UpgradeFrom is the release that an upgrade job begins with: Previous,
	// PreviousMinus1, PreviousPatch or PreviousMinor; empty: Previous, in
	// stable streams PreviousPatch.
	UpgradeFrom        string          `json:"upgradeFrom,omitempty"`
	UpgradeFromRelease json.RawMessage `json:"upgradeFromRelease,omitempty"`
	ProwJob            *ProwJob        `json:"prowJob,omitempty"`
	MaxRetries         int             `json:"maxRetries,omitempty"` // after the first attempt
	AggregatedProwJob  json.RawMessage `json:"aggregatedProwJob,omitempty"`
	MultiJobAnalysis   bool            `json:"multiJobAnalysis,omitempty"`
	Qualifiers         json.RawMessage `json:"qualifiers,omitempty"`
}

// ProwJob names a job.
type ProwJob struct {
	Name string `json:"name"`
}

// Publish is what is done with an accepted release.
type Publish struct {
	Disabled bool `json:"disabled,omitempty"`
	// TagRef names the tag that follows the newest accepted release.
	TagRef *TagRef `json:"tagRef,omitempty"`
	// ImageStreamRef names the image stream that gets the component images.
	ImageStreamRef json.RawMessage `json:"imageStreamRef,omitempty"`
	VerifyIssues   json.RawMessage `json:"verifyIssues,omitempty"`
}

// TagRef names a tag of the release image stream.
type TagRef struct {
	Name string `json:"name"`
}

// DecodeConfig reads a configuration, JSON of at most [MaxConfigSize] bytes, or
// as the API gives it, with empty members, of four times as many.
func DecodeConfig(data []byte) (*Config, error) {
	c, err := decodeConfig(data)
	if err != nil {
		return nil, &Error{Op: "decode", Target: "configuration", Err: err}
	}
	return c, nil
}

func decodeConfig(data []byte) (*Config, error) {
	if len(data) > 4*MaxConfigSize {
		return nil, fmt.Errorf("%d bytes, limit %d", len(data), 4*MaxConfigSize)
	}
	c := &Config{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, err
	}
	return c, c.check()
}

// UnmarshalJSON keeps the members that are not known.
func (c *Config) UnmarshalJSON(data []byte) error {
	type plain Config
	var p plain
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	var all, known map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	// Those that a full Config would write are known.
	full, err := json.Marshal(plain(fullConfig()))
	if err == nil {
		err = json.Unmarshal(full, &known)
	}
	if err != nil {
		return err
	}
	maps.DeleteFunc(all, func(name string, _ json.RawMessage) bool {
		for k := range known {
			if strings.EqualFold(k, name) { // as the decoder compares
				return true
			}
		}
		return false
	})
	*c = Config(p)
	if len(all) > 0 {
		c.other = all
	}
	return nil
}

// fullConfig has every member.
func fullConfig() Config {
	return Config{
		Message: "x", Hide: true, EndOfLife: true, As: "x", To: "x", MirrorPrefix: "x", MaxUnready: 1, MinInterval: 1, Expires: "x",
		ReferenceMode: "x", PullSecretName: "x", OverrideCLIImage: "x",
		Verify: map[string]Verify{"x": {}}, Publish: map[string]Publish{"x": {}},
		Periodic: map[string]json.RawMessage{"x": []byte("1")}, Check: map[string]json.RawMessage{"x": []byte("1")},
	}
}

// MarshalJSON writes the members that are set, then those that were not known,
// by name.
func (c Config) MarshalJSON() ([]byte, error) {
	type plain Config
	data, err := json.Marshal(plain(c))
	if err != nil || len(c.other) == 0 {
		return data, err
	}
	out := bytes.TrimSuffix(data, []byte("}"))
	for _, name := range slices.Sorted(maps.Keys(c.other)) {
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		out = append(append(append(append(out, ','), key...), ':'), c.other[name]...)
	}
	return append(out, '}'), nil
}

// Encode writes the configuration for the annotation, in one line. A faulty one
// and one that a controller would refuse for its size are errors.
func (c *Config) Encode() ([]byte, error) {
	data, err := json.Marshal(c)
	if err == nil {
		err = c.check()
	}
	if err == nil && len(data) >= MaxConfigSize {
		err = fmt.Errorf("%d bytes, limit %d", len(data), MaxConfigSize)
	}
	if err != nil {
		return nil, &Error{Op: "encode", Target: c.Name, Err: err}
	}
	return data, nil
}

// check finds what a controller ignores or trips over.
func (c *Config) check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Name == "" {
		fault("name is missing")
	}
	switch c.As {
	case Stable:
	case "", "Integration":
		if c.To == "" {
			fault("to is missing: releases are tagged nowhere")
		}
	default:
		fault("as: %q is neither Integration nor Stable", c.As)
	}
	if c.Expires != "" {
		if d, err := time.ParseDuration(c.Expires); err != nil || d < 0 {
			fault("expires: %q is no duration", c.Expires)
		}
	}
	if c.MaxUnready < 0 || c.MinInterval < 0 {
		fault("maxUnreadyReleases and minCreationIntervalSeconds are not below 0")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Verify)) {
		v := c.Verify[name]
		if v.MaxRetries < 0 {
			fault("verify.%s: maxRetries is below 0", name)
		}
		if v.Async && !v.Optional {
			fault("verify.%s: async jobs are optional ones", name)
		}
		if !v.Disabled && v.AggregatedProwJob == nil && (v.ProwJob == nil || v.ProwJob.Name == "") {
			fault("verify.%s: prowJob.name is missing", name)
		}
		switch v.UpgradeFrom {
		case "", "Previous", "PreviousMinus1", "PreviousPatch", "PreviousMinor":
		default:
			fault("verify.%s: upgradeFrom %q is none of Previous, PreviousMinus1, PreviousPatch, PreviousMinor", name, v.UpgradeFrom)
		}
	}
	return errors.Join(faults...)
}

// GateNames gives the jobs by name that decide (blocking) or only tell.
func (c *Config) GateNames() (blocking, informing []string) {
	for _, name := range slices.Sorted(maps.Keys(c.Verify)) {
		switch v := c.Verify[name]; {
		case v.Disabled:
		case v.Optional:
			informing = append(informing, name)
		default:
			blocking = append(blocking, name)
		}
	}
	return blocking, informing
}

// FromDefinition gives the configuration of a stream's daily payloads, made of
// its image stream: its gates that a job outside decides, its cadence. The name
// is the prefix of its versions. What a definition does not say, such as who
// may pull, is for the caller to add.
//
// Gates without a job (lint, payload) are checked before the image gets there.
// Definitions whose candidates have no version that continues a prefix by a time
// are an error: controllers name releases so.
func FromDefinition(d *stream.Definition, to string) (*Config, error) {
	scheme := d.Naming.Candidate
	if scheme == "" {
		scheme = d.Naming.Release
	}
	suffix, ok := map[stream.Scheme]string{
		stream.SchemeOKD: "0.okd", stream.SchemeSCOSCI: "0.okd-scos", stream.SchemeSCOSNightly: "0.okd-scos-nightly",
	}[scheme]
	if !ok {
		return nil, &Error{Op: "generate", Target: d.Identity.Name, Err: fmt.Errorf("payloads are named by the scheme %s, a controller names them by time: %w", scheme, errors.ErrUnsupported)}
	}
	c := &Config{
		Name: fmt.Sprintf("%s.0-%s", d.Version, suffix), Message: d.Identity.Description, To: to,
		MaxUnready: 1, MinInterval: int(d.Cadences.Daily.MinInterval / time.Second),
		MirrorPrefix: fmt.Sprintf("%s-%s", d.Version, strings.TrimPrefix(suffix, "0.")),
		EndOfLife:    d.Identity.EndOfLife != nil && d.Identity.EndOfLife.Version.Compare(d.Version) < 0,
		Verify:       map[string]Verify{},
	}
	for _, g := range d.Gates {
		if g.Job == "" {
			continue
		}
		v := Verify{Optional: !g.Blocking(), MaxRetries: g.Retries, ProwJob: &ProwJob{Name: g.Job}}
		switch g.Kind {
		case stream.GateUpgrade:
			v.Upgrade = true
		case stream.GateUpgradeMinor:
			v.Upgrade, v.UpgradeFrom = true, "PreviousMinor"
		}
		c.Verify[g.Name] = v
	}
	return c, c.check()
}
