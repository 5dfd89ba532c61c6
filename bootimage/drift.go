package bootimage

import (
	"slices"
	"strings"
)

// Drift is how far what a cluster has is from a stream, for one platform of one
// architecture.
type Drift struct {
	Arch     string `json:"arch"`
	Platform string `json:"platform"`
	// Have and Want are the releases, "" where there is nothing; of images whose
	// releases differ among themselves, all in one text.
	Have string `json:"have,omitempty"`
	Want string `json:"want,omitempty"`
	// Days is how many days the cluster's is behind, by the versions; 0 if they do
	// not tell. Negative: it is ahead.
	Days int `json:"days,omitempty"`
	// Changes are what differs in single images.
	Changes []Change `json:"changes"`
}

// DriftOf compares what a cluster has, its ConfigMap's entries or an installer's
// pin, with what a stream recommends: what differs, by architecture and platform.
// Nothing differs: nil.
func DriftOf(have, want []Entry) []Drift {
	type key struct{ arch, platform string }
	var order []key
	changes := map[key][]Change{}
	for _, c := range compare(have, want) {
		k := key{c.Entry.Arch, c.Entry.Platform}
		if changes[k] == nil {
			order = append(order, k)
		}
		changes[k] = append(changes[k], c)
	}
	slices.SortFunc(order, func(a, b key) int {
		return strings.Compare(a.arch+"\x00"+a.platform, b.arch+"\x00"+b.platform)
	})
	releases := func(entries []Entry, k key) string {
		var all []string
		for _, e := range entries {
			if e.Arch == k.arch && e.Platform == k.platform && e.Release != "" && !slices.Contains(all, e.Release) {
				all = append(all, e.Release)
			}
		}
		return strings.Join(all, " ")
	}
	var report []Drift
	for _, k := range order {
		d := Drift{Arch: k.arch, Platform: k.platform, Have: releases(have, k), Want: releases(want, k), Changes: changes[k]}
		from, errFrom := ParseOSVersion(d.Have)
		to, errTo := ParseOSVersion(d.Want)
		if errFrom == nil && errTo == nil {
			d.Days = int(to.Date.Sub(from.Date).Hours() / 24)
		}
		report = append(report, d)
	}
	return report
}
