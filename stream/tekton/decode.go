package tekton

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/okd-project/okd-streams/internal/strictyaml"
)

// Limits of [Decode].
const (
	MaxDocumentsSize = 8 << 20 // bytes
	MaxDocuments     = 1000
)

// Decode reads objects as [Encode] writes them: YAML documents, with anchors and tags
// refused, at most [MaxDocuments] and [MaxDocumentsSize] bytes. A kind or field that is
// not rendered here is an error, as is a document without any. Every fault is named,
// with the number of its document.
func Decode(r io.Reader) ([]Object, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxDocumentsSize+1))
	if err != nil {
		return nil, fmt.Errorf("tekton: read: %w", err)
	}
	if len(data) > MaxDocumentsSize {
		return nil, fmt.Errorf("tekton: more than %d bytes", MaxDocumentsSize)
	}
	docs := split(data)
	if len(docs) > MaxDocuments {
		return nil, fmt.Errorf("tekton: %d documents, at most %d are read", len(docs), MaxDocuments)
	}
	var objects []Object
	var faults []error
	for i, doc := range docs {
		o, err := decodeObject(doc)
		if err != nil {
			faults = append(faults, fmt.Errorf("tekton: document %d: %w", i+1, err))
			continue
		}
		if o != nil {
			objects = append(objects, o)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return objects, nil
}

// split cuts at lines that begin with three dashes, as YAML does.
func split(data []byte) [][]byte {
	var docs [][]byte
	begin := 0
	for at := 0; at < len(data); {
		end := at + bytes.IndexByte(data[at:], '\n') + 1
		if end == at {
			end = len(data)
		}
		if line := bytes.TrimRight(data[at:end], "\r\n"); bytes.Equal(line, []byte("---")) || bytes.HasPrefix(line, []byte("--- ")) {
			docs = append(docs, data[begin:at])
			begin = at
		}
		at = end
	}
	return append(docs, data[begin:])
}

// decodeObject gives nil for a document with nothing in it.
func decodeObject(doc []byte) (Object, error) {
	var value any
	if err := strictyaml.Unmarshal(doc, &value); err != nil {
		return nil, err
	}
	if value == nil {
		return nil, nil
	}
	data, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("not an object of Kubernetes: %w", err)
	}
	var head Header
	if _, ok := value.(map[string]any); !ok || json.Unmarshal(data, &head) != nil {
		return nil, errors.New("not an object of Kubernetes")
	}
	o := emptyObject(head.APIVersion, head.Kind)
	if o == nil {
		return nil, fmt.Errorf("apiVersion %.80q, kind %.80q: %w", head.APIVersion, head.Kind, errors.ErrUnsupported)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(o); err != nil {
		return nil, fmt.Errorf("%s %.80s: %w", head.Kind, head.Metadata.Name+head.Metadata.GenerateName, err)
	}
	return o, nil
}

// emptyObject gives nil for what is not rendered here.
func emptyObject(api, kind string) Object {
	switch api + " " + kind {
	case tektonAPI + " " + kindTask:
		return &Task{}
	case tektonAPI + " " + kindPipeline:
		return &Pipeline{}
	case tektonAPI + " " + kindPipelineRun:
		return &PipelineRun{}
	case batchAPI + " " + kindCronJob:
		return &CronJob{}
	case coreAPI + " ConfigMap":
		return &ConfigMap{}
	case coreAPI + " Namespace":
		return &Namespace{}
	case coreAPI + " ServiceAccount":
		return &ServiceAccount{}
	case coreAPI + " PersistentVolumeClaim":
		return &VolumeClaim{}
	case rbacAPI + " Role":
		return &Role{}
	case rbacAPI + " RoleBinding":
		return &RoleBinding{}
	}
	return nil
}
