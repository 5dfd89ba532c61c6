package prow

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ImageStream is an image.openshift.io/v1 ImageStream, of which the members are
// here that say what follows which image, and whether it was imported.
type ImageStream struct {
	Kind       string            `json:"kind,omitempty"`
	APIVersion string            `json:"apiVersion,omitempty"`
	Metadata   ObjectMeta        `json:"metadata"`
	Spec       ImageStreamSpec   `json:"spec"`
	Status     ImageStreamStatus `json:"status"`
}

// ObjectMeta names an object.
type ObjectMeta struct {
	Name            string            `json:"name"`
	Namespace       string            `json:"namespace,omitempty"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
}

// ImageStreamSpec is what is wanted.
type ImageStreamSpec struct {
	Tags []TagReference `json:"tags,omitempty"`
}

// TagReference is a tag and the image it follows.
type TagReference struct {
	Name            string            `json:"name"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	From            *ObjectReference  `json:"from,omitempty"`
	Reference       bool              `json:"reference,omitempty"` // is not imported
	Generation      *int64            `json:"generation,omitempty"`
	ImportPolicy    ImportPolicy      `json:"importPolicy,omitzero"`
	ReferencePolicy ReferencePolicy   `json:"referencePolicy,omitzero"`
}

// ObjectReference names what a tag follows: a DockerImage by pullspec, or
// another ImageStreamTag or ImageStreamImage.
type ObjectReference struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// ImportPolicy says how a tag follows.
type ImportPolicy struct {
	Insecure   bool   `json:"insecure,omitempty"`
	Scheduled  bool   `json:"scheduled,omitempty"`
	ImportMode string `json:"importMode,omitempty"` // Legacy, PreserveOriginal
}

// ReferencePolicy says by which name images are used: Source or Local.
type ReferencePolicy struct {
	Type string `json:"type"`
}

// ImageStreamStatus is what there is.
type ImageStreamStatus struct {
	DockerImageRepository string      `json:"dockerImageRepository,omitempty"`
	Tags                  []TagStatus `json:"tags,omitempty"`
}

// TagStatus are the images that a tag had, newest first.
type TagStatus struct {
	Tag        string         `json:"tag"`
	Items      []TagItem      `json:"items"`
	Conditions []TagCondition `json:"conditions,omitempty"`
}

// TagItem is an image that a tag had, or has.
type TagItem struct {
	Created              time.Time `json:"created"`
	DockerImageReference string    `json:"dockerImageReference"`
	Image                string    `json:"image"` // its digest
	Generation           int64     `json:"generation"`
}

// TagCondition says what went wrong: of type ImportSuccess, with status False.
type TagCondition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// errNotImported is wrapped while a tag has not the image that it should.
var errNotImported = errors.New("not imported yet")

// Imported is nil if the newest image of a tag has the digest. The error says
// what the tag has instead, and why its import failed if it did.
func (s *ImageStream) Imported(tag string, want v1.Hash) error {
	name := s.Metadata.Namespace + "/" + s.Metadata.Name + ":" + tag
	for _, t := range s.Status.Tags {
		if t.Tag != tag {
			continue
		}
		for _, c := range t.Conditions {
			if c.Type == "ImportSuccess" && c.Status == "False" {
				return fmt.Errorf("%s: import failed: %s: %w", name, strings.TrimSpace(c.Reason+" "+c.Message), errNotImported)
			}
		}
		if len(t.Items) == 0 {
			break
		}
		if t.Items[0].Image == want.String() {
			return nil
		}
		return fmt.Errorf("%s is at %s: %w", name, t.Items[0].Image, errNotImported)
	}
	return fmt.Errorf("%s has no image: %w", name, errNotImported)
}

// Producer says who writes a tag of an image stream: a stream that imports to
// it, a job that tags into it.
type Producer struct {
	Name        string // for people
	Namespace   string
	ImageStream string
	Tag         string
}

// CheckProducers fails where two producers write one tag, since then whoever is
// last wins and payloads change without a build: the error names both.
func CheckProducers(producers []Producer) error {
	by := map[Producer][]string{}
	var order []Producer
	for _, p := range producers {
		k := Producer{Namespace: p.Namespace, ImageStream: p.ImageStream, Tag: p.Tag}
		if by[k] == nil {
			order = append(order, k)
		}
		if !slices.Contains(by[k], p.Name) {
			by[k] = append(by[k], p.Name)
		}
	}
	var faults []error
	for _, k := range order {
		if names := by[k]; len(names) > 1 {
			faults = append(faults, &Error{Op: "check", Target: k.Namespace + "/" + k.ImageStream + ":" + k.Tag, Err: fmt.Errorf("written by %s", strings.Join(names, " and "))})
		}
	}
	return errors.Join(faults...)
}
