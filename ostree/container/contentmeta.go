package container

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/ostree"
)

// MaxContentMetaSize bounds what [DecodeContentMeta] reads, in bytes.
const MaxContentMetaSize = 256 << 20

// ContentMeta is the "contentmeta" document, version 1, that rpm-ostree and
// rechunk write and `ostree container encapsulate --contentmeta` reads: which
// content goes into which layer.
type ContentMeta struct {
	Version int       `json:"version"`
	Created time.Time `json:"created,omitzero"`
	// Labels go into the image, for [EncapsulateOptions.Labels].
	Labels map[string]string `json:"labels,omitempty"`
	// Layers are readable names by layer ID.
	Layers map[string]string `json:"layers"`
	// Mapping gives each content object's layer ID.
	Mapping map[ostree.Checksum]string `json:"mapping"`
	// Ordered says that the layers' IDs give their order. It changes nothing
	// here: they always do.
	Ordered bool `json:"ordered,omitempty"`
}

// DecodeContentMeta reads a document of at most [MaxContentMetaSize] bytes. All
// faults are joined; versions other than 1 wrap [errors.ErrUnsupported].
func DecodeContentMeta(r io.Reader) (*ContentMeta, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxContentMetaSize+1))
	if err != nil {
		return nil, &Error{"decode", "contentmeta", err}
	}
	if len(data) > MaxContentMetaSize {
		return nil, &Error{"decode", "contentmeta", fmt.Errorf("over %d bytes", MaxContentMetaSize)}
	}
	var m ContentMeta
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&m); err != nil {
		return nil, &Error{"decode", "contentmeta", err}
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, &Error{"decode", "contentmeta", errors.New("more after the document")}
	}
	var errs []error
	if m.Version != 1 {
		errs = append(errs, fmt.Errorf("version %d: %w", m.Version, errors.ErrUnsupported))
	}
	for _, id := range slices.Sorted(maps.Keys(m.Layers)) {
		switch name := m.Layers[id]; {
		case id == "":
			errs = append(errs, errors.New("layers: an ID is empty"))
		case name == "":
			errs = append(errs, fmt.Errorf("layers.%q: name is empty", id))
		case strings.ContainsAny(name, ",\n"):
			errs = append(errs, fmt.Errorf("layers.%q: name %q has a comma or newline, which annotations can't hold", id, name))
		}
	}
	unknown := map[string]ostree.Checksum{}
	for object, id := range m.Mapping {
		if object.IsZero() {
			errs = append(errs, fmt.Errorf("mapping: an object of layer %q has no checksum", id))
		}
		if _, ok := m.Layers[id]; !ok {
			if c, seen := unknown[id]; !seen || bytes.Compare(object[:], c[:]) < 0 {
				unknown[id] = object
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(unknown)) {
		errs = append(errs, fmt.Errorf("mapping.%s: layer %q is not among layers", unknown[id], id))
	}
	if len(errs) > 0 {
		return nil, &Error{"decode", "contentmeta", errors.Join(errs...)}
	}
	return &m, nil
}

// Encode writes the document as compact JSON with sorted keys.
func (m *ContentMeta) Encode(w io.Writer) error {
	data, err := canonicalJSON(m)
	if err == nil {
		_, err = w.Write(append(data, '\n'))
	}
	return err
}

// Components gives the layers as components, ascending by ID; with [Separate]
// each is a layer of the image.
func (m *ContentMeta) Components() []Component {
	out := make([]Component, 0, len(m.Layers))
	at := make(map[string]int, len(m.Layers))
	for _, id := range slices.Sorted(maps.Keys(m.Layers)) {
		at[id] = len(out)
		out = append(out, Component{ID: id, Name: m.Layers[id]})
	}
	for object, id := range m.Mapping {
		if i, ok := at[id]; ok {
			out[i].Objects = append(out[i].Objects, object)
		}
	}
	for i := range out {
		slices.SortFunc(out[i].Objects, func(a, b ostree.Checksum) int { return bytes.Compare(a[:], b[:]) })
	}
	return out
}
