package payload

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// DecodeMapping reads images by component, one a line, as oc's --mapping-file
// has them ("TAG PULLSPEC") or its arguments ("TAG=PULLSPEC"). Empty lines and
// those that begin with # do not count. A component that is there twice, which
// oc takes without a word, is an error that names the line, as is more than
// [MaxReferencesSize] bytes or [MaxTags] lines.
func DecodeMapping(data []byte) (map[string]name.Reference, error) {
	if len(data) > MaxReferencesSize {
		return nil, fmt.Errorf("payload: mapping: %d bytes, limit %d", len(data), MaxReferencesSize)
	}
	out := map[string]name.Reference{}
	scanner := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; scanner.Scan(); n++ {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		tag, ref, err := mappingLine(line)
		if _, twice := out[tag]; twice {
			err = fmt.Errorf("component %s is there twice", tag)
		}
		if err == nil && len(out) == MaxTags {
			err = fmt.Errorf("more than %d components", MaxTags)
		}
		if err != nil {
			return nil, fmt.Errorf("payload: mapping: line %d: %w", n, err)
		}
		out[tag] = ref
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("payload: mapping: %w", err)
	}
	return out, nil
}

func mappingLine(line string) (string, name.Reference, error) {
	tag, spec, ok := strings.Cut(line, "=")
	if i := strings.IndexAny(line, " \t"); i >= 0 && (!ok || i < len(tag)) {
		tag, spec, ok = line[:i], strings.TrimSpace(line[i:]), true
	}
	if !ok {
		return "", nil, errors.New("neither TAG PULLSPEC nor TAG=PULLSPEC")
	}
	if err := checkTagName(tag); err != nil {
		return "", nil, err
	}
	ref, err := name.ParseReference(spec)
	return tag, ref, err
}
