package payload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/semaphore"
	"sigs.k8s.io/yaml"
)

// isManifestName tells the files that hold objects from others that an
// operator may bring; the cluster-version operator has the same rule.
func isManifestName(name string) bool {
	return strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".yml") || strings.HasSuffix(name, ".yaml")
}

// document is one YAML document of a file.
type document struct {
	data []byte
	line int // of its first byte, from 1
}

// documents splits a file at the markers that YAML allows at the start of a
// line only; of more than [MaxDocuments] it gives the first.
func documents(data []byte) []document {
	var out []document
	start, startLine, line := 0, 1, 1
	for pos := 0; pos < len(data); line++ {
		next := len(data)
		if i := bytes.IndexByte(data[pos:], '\n'); i >= 0 {
			next = pos + i + 1
		}
		if l := data[pos:next]; bytes.HasPrefix(l, []byte("---")) && (len(l) == 3 || strings.IndexByte(" \t\r\n", l[3]) >= 0) {
			if pos > start {
				out = append(out, document{data[start:pos], startLine})
			}
			if len(out) > MaxDocuments {
				return out // the caller refuses them
			}
			start, startLine = pos, line
		}
		pos = next
	}
	return append(out, document{data[start:], startLine})
}

// checker parses manifests, a bounded number of bytes at a time.
type checker struct {
	budget *semaphore.Weighted
}

func newChecker() *checker { return &checker{semaphore.NewWeighted(MaxYAMLNodes)} }

// reserve waits until data can be parsed beside what others parse.
func (c *checker) reserve(ctx context.Context, data []byte) (release func(), err error) {
	n := min(int64(yamlNodes(data)), MaxYAMLNodes)
	if err := c.budget.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return func() { c.budget.Release(n) }, nil
}

type objectID struct{ group, kind, namespace, name string }

// compatible looks at the first document, as oc does.
func (c *checker) compatible(ctx context.Context, data []byte) error {
	_, err := c.parse(ctx, data)
	return err
}

// strict looks at every document and for objects that are there twice, which
// the cluster-version operator refuses.
func (c *checker) strict(ctx context.Context, name string, data []byte) (Findings, error) {
	docs := []document{{data, 1}}
	if !strings.HasSuffix(name, ".json") {
		docs = documents(data)
	}
	if len(docs) > MaxDocuments {
		return nil, fmt.Errorf("more than %d documents", MaxDocuments)
	}
	var out Findings
	seen := map[objectID]int{}
	some := false
	for _, doc := range docs {
		id, err := c.parse(ctx, doc.data)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, errEmpty) && len(docs) > 1:
			continue
		case err != nil:
			out = append(out, Finding{Check: CheckManifest, File: name, Line: doc.line, Detail: err.Error()})
		default:
			if first, ok := seen[id]; ok {
				out = append(out, Finding{Check: CheckDuplicate, File: name, Line: doc.line,
					Detail: fmt.Sprintf("%s %s is in line %d already", id.kind, strings.TrimPrefix(id.namespace+"/"+id.name, "/"), first)})
			} else {
				seen[id] = doc.line
			}
		}
		some = true
	}
	if !some {
		out = append(out, Finding{Check: CheckManifest, File: name, Line: 1, Detail: errEmpty.Error()})
	}
	return out, nil
}

var (
	errEmpty  = errors.New("no object")
	errNoKind = errors.New("object without kind or apiVersion")
)

// parse decodes the first document of data and finds what identifies it.
func (c *checker) parse(ctx context.Context, data []byte) (objectID, error) {
	if err := checkYAML(data); err != nil {
		return objectID{}, err
	}
	release, err := c.reserve(ctx, data)
	if err != nil {
		return objectID{}, err
	}
	defer release()
	var value any
	if err := yaml.Unmarshal(data, &value); err != nil {
		return objectID{}, yamlError(err)
	}
	if value == nil {
		return objectID{}, errEmpty
	}
	m, ok := value.(map[string]any)
	if !ok {
		return objectID{}, errors.New("not a mapping")
	}
	kind, _ := m["kind"].(string)
	apiVersion, _ := m["apiVersion"].(string)
	if kind == "" || apiVersion == "" {
		return objectID{}, errNoKind
	}
	id := objectID{kind: kind}
	if group, _, ok := strings.Cut(apiVersion, "/"); ok {
		id.group = group
	}
	if meta, ok := m["metadata"].(map[string]any); ok {
		id.namespace, _ = meta["namespace"].(string)
		id.name, _ = meta["name"].(string)
	}
	return id, nil
}
