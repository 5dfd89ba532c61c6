package payload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"

	"sigs.k8s.io/yaml"
)

// Object is a Kubernetes object in a payload's manifests.
type Object struct {
	File string // name of the manifest
	Line int    // where its document starts, from 1

	APIVersion, Kind, Namespace, Name string
	Annotations                       map[string]string
	// Raw is its document as it stands in the file, JSON the same as JSON with
	// sorted keys. They are not to be changed.
	Raw, JSON []byte
}

// Group is the API group, "" for the core one.
func (o *Object) Group() string {
	group, _, ok := strings.Cut(o.APIVersion, "/")
	if !ok {
		return ""
	}
	return group
}

func (o *Object) String() string {
	name := o.Name
	if o.Namespace != "" {
		name = o.Namespace + "/" + o.Name
	}
	kind := o.Kind
	if g := o.Group(); g != "" {
		kind += "." + g
	}
	return kind + " " + name
}

// Objects gives the objects that the cluster-version operator loads from the
// payload: all documents of the files named .yaml, .yml and .json, in the
// order of file names and lines. What it refuses is an error that names file
// and line and ends the sequence: a document that is no object, an object
// without kind or name, an object that is there twice in one file, more than
// [MaxDocuments] documents in one.
//
// The manifests of the operator itself are not among them; they are templates
// in lower layers of the image.
func (r *Release) Objects(ctx context.Context) iter.Seq2[*Object, error] {
	return func(yield func(*Object, error) bool) {
		for _, f := range r.files {
			if !isManifestName(f.name) {
				continue
			}
			if !fileObjects(ctx, f, yield) {
				return
			}
		}
	}
}

// fileObjects yields the objects of one file; false ends the sequence.
func fileObjects(ctx context.Context, f file, yield func(*Object, error) bool) bool {
	docs := []document{{f.data, 1}}
	if !strings.HasSuffix(f.name, ".json") {
		docs = documents(f.data)
	}
	fail := func(line int, err error) bool {
		yield(nil, &Error{Op: "read", Target: fmt.Sprintf("manifest %s:%d", f.name, line), Err: err})
		return false
	}
	if len(docs) > MaxDocuments {
		return fail(1, fmt.Errorf("more than %d documents", MaxDocuments))
	}
	seen := map[objectID]int{}
	for _, doc := range docs {
		if err := ctx.Err(); err != nil {
			return fail(doc.line, err)
		}
		o, err := decodeObject(doc.data)
		if errors.Is(err, errEmpty) {
			continue
		}
		if err != nil {
			return fail(doc.line, err)
		}
		o.File, o.Line = f.name, doc.line
		id := objectID{o.Group(), o.Kind, o.Namespace, o.Name}
		if first, ok := seen[id]; ok {
			return fail(doc.line, fmt.Errorf("%s is in line %d already", o, first))
		}
		seen[id] = doc.line
		if !yield(o, nil) {
			return false
		}
	}
	return true
}

// decodeObject reads one document; an empty one gives errEmpty.
func decodeObject(data []byte) (*Object, error) {
	if err := checkYAML(data); err != nil {
		return nil, err
	}
	text, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, yamlError(err)
	}
	if string(text) == "null" {
		return nil, errEmpty
	}
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Namespace   string            `json:"namespace"`
			Name        string            `json:"name"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	if !bytes.HasPrefix(text, []byte("{")) {
		return nil, errors.New("not a mapping")
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, err
	}
	switch {
	case head.Kind == "":
		return nil, errNoKind
	case head.Metadata.Name == "":
		return nil, errors.New("object without a name")
	}
	return &Object{
		APIVersion: head.APIVersion, Kind: head.Kind, Namespace: head.Metadata.Namespace, Name: head.Metadata.Name,
		Annotations: head.Metadata.Annotations, Raw: data, JSON: text,
	}, nil
}

// yamlError drops what the parser says of itself.
func yamlError(err error) error {
	text := err.Error()
	for _, prefix := range []string{"error converting YAML to JSON: ", "error unmarshaling JSON: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return errors.New(text)
}
