package bootimage

import (
	"fmt"
	"slices"
	"strings"

	streammd "github.com/coreos/stream-metadata-go/stream"
)

// Change is what is different of one boot image between two documents.
type Change struct {
	// Entry is the image in the newer document, in the older one if it is gone.
	Entry Entry `json:"entry"`
	// Kind is added, removed or changed.
	Kind string `json:"kind"`
	// Field is what changed: release, url, image, sha256, uncompressed-sha256,
	// signature; "" of images that were added or removed.
	Field string `json:"field,omitempty"`
	From  string `json:"from,omitempty"`
	To    string `json:"to,omitempty"`
}

// String is the change for people.
func (c Change) String() string {
	what := strings.Join(slices.DeleteFunc(
		[]string{c.Entry.Arch, c.Entry.Platform, c.Entry.Format, c.Entry.File, c.Entry.Region},
		func(s string) bool { return s == "" },
	), " ")
	if c.Field == "" {
		return what + ": " + c.Kind
	}
	return fmt.Sprintf("%s: %s: %s -> %s", what, c.Field, c.From, c.To)
}

// CompareStreams says what is different in the newer stream metadata, by image in
// the order of [Entries], those that are gone last. Times and generators do not
// count.
func CompareStreams(older, newer *streammd.Stream) []Change {
	return compare(Entries(older), Entries(newer))
}

// compare pairs the first image of a key with the first, the second with the
// second: lists of regions can name one twice.
func compare(older, newer []Entry) (changes []Change) {
	was := map[string][]Entry{}
	for _, e := range older {
		was[e.key()] = append(was[e.key()], e)
	}
	paired := map[string]int{}
	for _, e := range newer {
		key := e.key()
		if paired[key] == len(was[key]) {
			changes = append(changes, Change{Entry: e, Kind: "added"})
			continue
		}
		o := was[key][paired[key]]
		paired[key]++
		for _, f := range []struct{ name, from, to string }{
			{"release", o.Release, e.Release},
			{"url", o.URL, e.URL},
			{"image", o.Image, e.Image},
			{"sha256", o.SHA256, e.SHA256},
			{"uncompressed-sha256", o.UncompressedSHA256, e.UncompressedSHA256},
			{"signature", o.Signature, e.Signature},
		} {
			if f.from != f.to {
				changes = append(changes, Change{Entry: e, Kind: "changed", Field: f.name, From: f.from, To: f.to})
			}
		}
	}
	for _, e := range older {
		if key := e.key(); paired[key] > 0 {
			paired[key]--
		} else {
			changes = append(changes, Change{Entry: e, Kind: "removed"})
		}
	}
	return changes
}
