package daily

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/stream"
)

// Summary is what a run ends with.
type Summary struct {
	Stream  string      `json:"stream"`
	Build   string      `json:"build"`
	Version string      `json:"version"`
	Arch    stream.Arch `json:"arch"`
	Time    time.Time   `json:"time"` // of the build, not of the run
	// Unchanged: the inputs are those of the last finished build, which is
	// still published; nothing was done, and this is that build's summary.
	Unchanged bool `json:"unchanged"`

	// What the steps made; nil where the run did not get there. Where the base
	// image is the node image, they are the same.
	Commit     *CommitOutputs    `json:"commit,omitempty"`
	Base       *ImageOutputs     `json:"base,omitempty"`
	Node       *ImageOutputs     `json:"node,omitempty"`
	Extensions *ImageOutputs     `json:"extensions,omitempty"`
	Boot       *BootimageOutputs `json:"boot,omitempty"`
	Release    *PayloadOutputs   `json:"release,omitempty"`
	Published  *PublishOutputs   `json:"published,omitempty"`
	// Steps are the records, in order.
	Steps []Record `json:"steps"`
	// Report is the path of the report for people, a static page; "" before the
	// last step.
	Report string `json:"report,omitempty"`
}

// CommitOutputs are what the commit step leaves.
type CommitOutputs struct {
	Commit  ostree.Checksum `json:"commit"`
	Content ostree.Checksum `json:"content"` // of the tree alone
	Ref     string          `json:"ref"`
	Kernel  string          `json:"kernel"` // its version
	Files   int64           `json:"files"`  // content objects written or found
	Bytes   int64           `json:"bytes"`  // of the files
}

// ImageOutputs describe an image.
type ImageOutputs struct {
	Reference string `json:"reference"` // pullspec by digest
	Digest    string `json:"digest"`    // of its manifest: sha256:…
	MediaType string `json:"mediaType"`
	Size      int64  `json:"size"` // bytes of its layers, compressed
	Layers    int    `json:"layers"`
}

func describe(reference string, img v1.Image) (*ImageOutputs, error) {
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	media, err := img.MediaType()
	if err != nil {
		return nil, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	out := &ImageOutputs{Reference: reference, Digest: digest.String(), MediaType: string(media), Layers: len(manifest.Layers)}
	for _, layer := range manifest.Layers {
		out.Size += layer.Size
	}
	return out, nil
}

// BootimageOutputs are what the build's catalogue entry holds.
type BootimageOutputs struct {
	Prefix    string            `json:"prefix"` // of the build's keys in the store
	Artifacts []ArtifactOutputs `json:"artifacts"`
}

// ArtifactOutputs describe one file in the store.
type ArtifactOutputs struct {
	Name   string `json:"name"` // as in meta.json
	Key    string `json:"key"`
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // lower-case hexadecimal
}

// PayloadOutputs describe the release image.
type PayloadOutputs struct {
	ImageOutputs
	DiffID     string `json:"diffID"`     // of the layer with the manifests
	Components int    `json:"components"` // how many
}

// PublishOutputs say what was published.
type PublishOutputs struct {
	Plan    string   `json:"plan"`    // SHA-256
	Objects int      `json:"objects"` // files and documents
	Images  int      `json:"images"`
	Tags    []string `json:"tags"`            // pullspecs, in the order in which they were moved
	Gates   []string `json:"gates,omitempty"` // that held the announcement
	// Verdict is on all gates, those too that inform.
	Verdict *gate.Verdict `json:"verdict,omitempty"`
}

// summary collects the outputs of the steps that ran.
func (b *build) summary(ctx context.Context, finished bool) (*Summary, error) {
	s := &Summary{Stream: b.in.Stream, Build: b.in.Build, Version: b.in.Version, Arch: b.in.Arch, Time: b.in.Time, Steps: b.records}
	for _, record := range b.records {
		if err := s.take(record); err != nil {
			return nil, err
		}
	}
	if !finished {
		return s, nil
	}
	return s, b.report(ctx, s)
}

// report writes the page of a finished build.
func (b *build) report(ctx context.Context, s *Summary) error {
	s.Report = filepath.Join(b.dir, reportFile)
	d, err := b.details(ctx, s)
	if err != nil {
		return err
	}
	if err := b.publishReport(ctx, s, d); err != nil {
		return err
	}
	return writeReport(s.Report, s, d) // last: where it is, all is done
}

func (s *Summary) take(record Record) error {
	var err error
	read := func(v any) { err = json.Unmarshal(record.Outputs, v) }
	switch record.Step {
	case StepCommit:
		read(&s.Commit)
	case StepEncapsulate:
		read(&s.Base)
	case StepNode:
		var out nodeOutputs
		read(&out)
		s.Node, s.Extensions = &out.Node, out.Extensions
	case StepBootimage:
		read(&s.Boot)
	case StepPayload:
		read(&s.Release)
	case StepPublish:
		read(&s.Published)
	}
	if err != nil {
		return fmt.Errorf("daily: record of step %s: %w", record.Step, err)
	}
	return nil
}

// unchanged reports whether the inputs are those of the last finished build
// and what it published is still there.
func (b *build) unchanged(ctx context.Context, upTo string) (bool, error) {
	if upTo != StepPublish {
		return false, nil
	}
	var end last
	if _, err := readJSON(filepath.Join(b.env.State, lastFile), &end); err != nil {
		return false, err
	}
	if end.Build != b.in.Build || end.Digest != b.in.Digest {
		return false, nil
	}
	return b.published(ctx)
}

// lastSummary reads the summary of a finished build from its records.
func (b *build) lastSummary(ctx context.Context) (*Summary, error) {
	s := &Summary{Stream: b.in.Stream, Build: b.in.Build, Version: b.in.Version, Arch: b.in.Arch, Time: b.in.Time, Unchanged: true}
	for _, step := range Steps()[1:] {
		var record Record
		ok, err := readJSON(filepath.Join(b.dir, step+".json"), &record)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("daily: build %s is finished but has no record of step %s", b.in.Build, step)
		}
		record.Reused = true
		s.Steps = append(s.Steps, record)
		if err := s.take(record); err != nil {
			return nil, err
		}
	}
	s.Report = filepath.Join(b.dir, reportFile)
	if _, err := os.Lstat(s.Report); errors.Is(err, fs.ErrNotExist) {
		// The run was killed after its last record.
		return s, b.report(ctx, s)
	}
	return s, nil
}
