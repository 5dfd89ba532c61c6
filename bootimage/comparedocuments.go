package bootimage

import "slices"

// FieldChange is what is different at a place of two documents.
type FieldChange struct {
	// Path is of the value: releases["43.20261101.3.0"].metadata.rollout.start_epoch.
	// Items that have a name are named by it, wherever in their list they are.
	Path string `json:"path"`
	// Kind is added, removed or changed.
	Kind string `json:"kind"`
	// From and To are values as JSON; "" of those that are not there.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// String is the change for people, who need not read all that was added or removed.
func (c FieldChange) String() string {
	if c.Kind != "changed" {
		return c.Path + ": " + c.Kind
	}
	return c.Path + ": " + c.From + " -> " + c.To
}

// CompareDocuments says what is different in the newer of two documents of a kind:
// releases.json, updates, release.json, builds.json, meta.json. Keys that no view
// knows count, too; layout, the order of keys and of items with names, times of
// change and generators do not. It is in the order of the newer document; what is
// gone comes last of what holds it. For stream metadata [CompareStreams] says the
// same by image.
func CompareDocuments[T any](older, newer *Document[T]) []FieldChange {
	return compareValues(nil, older.root, newer.root, "")
}

// itemNames are the keys by which documents name the items of their lists, and whenWritten
// those that say when and by what a document was written.
var (
	itemNames   = []string{"version", "architecture", "id", "name", "region", "image"}
	whenWritten = []string{"metadata.last-modified", "metadata.generator", "timestamp"}
)

func compareValues(changes []FieldChange, a, b *value, path string) []FieldChange {
	as, bs := namedMembers(a), namedMembers(b)
	if a.kind != b.kind || as == nil || bs == nil {
		if from, to := plain(a), plain(b); from != to {
			changes = append(changes, FieldChange{Path: path, Kind: "changed", From: from, To: to})
		}
		return changes
	}
	was := map[string]*value{}
	for _, m := range as {
		was[m.key] = m.value
	}
	for _, m := range bs {
		at := join(path, m.key)
		if slices.Contains(whenWritten, at) {
			continue
		}
		if old, ok := was[m.key]; ok {
			changes = compareValues(changes, old, m.value, at)
		} else {
			changes = append(changes, FieldChange{Path: at, Kind: "added", To: plain(m.value)})
		}
		delete(was, m.key)
	}
	for _, m := range as {
		if at := join(path, m.key); was[m.key] != nil && !slices.Contains(whenWritten, at) {
			changes = append(changes, FieldChange{Path: at, Kind: "removed", From: plain(m.value)})
		}
	}
	return changes
}

// namedMembers are the members of an object, or the items of a list by their names, if
// each has one of its own; else nil.
func namedMembers(v *value) []member {
	if v.kind == '{' {
		return append([]member{}, v.members...)
	}
	if v.kind != '[' {
		return nil
	}
	out := []member{}
	seen := map[string]bool{}
	for _, m := range v.members {
		for _, key := range itemNames {
			if m.key = m.value.get(key).text(); m.key != "" {
				break
			}
		}
		if m.key == "" || seen[m.key] {
			return nil
		}
		seen[m.key] = true
		out = append(out, m)
	}
	return out
}
