package publish

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// referenceDigest is the annotation by which an entry of an index that is no
// image of a platform (an attestation, as BuildKit writes them) names the entry
// that it is about.
const referenceDigest = "vnd.docker.reference.digest"

// choose gives the entries of an index that are of one of the platforms, or
// about one that is.
func choose(idx *v1.IndexManifest, platforms []v1.Platform) ([]bool, error) {
	chosen := make([]bool, len(idx.Manifests))
	digests := map[string]bool{}
	for i, desc := range idx.Manifests {
		if desc.Platform == nil {
			continue
		}
		chosen[i] = slices.ContainsFunc(platforms, func(p v1.Platform) bool { return desc.Platform.Satisfies(p) })
		if chosen[i] {
			digests[desc.Digest.String()] = true
		}
	}
	if len(digests) == 0 {
		return nil, fmt.Errorf("index has no entry for %v: %w", platforms, fs.ErrNotExist)
	}
	for i, desc := range idx.Manifests {
		chosen[i] = chosen[i] || digests[desc.Annotations[referenceDigest]]
	}
	return chosen, nil
}

// filterIndex gives the index without the entries that were not chosen. Its
// other keys, also those that are not known here, and the entries' own bytes
// stay; keys are in ascending order.
func filterIndex(raw []byte, chosen []bool) ([]byte, error) {
	doc := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	var entries, kept []json.RawMessage
	if err := json.Unmarshal(doc["manifests"], &entries); err != nil {
		return nil, err
	}
	if len(entries) != len(chosen) {
		return nil, errors.New("index has the key manifests twice")
	}
	for i, entry := range entries {
		if chosen[i] {
			kept = append(kept, entry)
		}
	}
	manifests, err := json.Marshal(kept)
	if err != nil {
		return nil, err
	}
	doc["manifests"] = manifests
	return json.Marshal(doc)
}
