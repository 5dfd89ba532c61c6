package bootimage

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// FindOptions say which boot image is looked for; nil and "": any.
type FindOptions struct {
	// Arch is an architecture, also in Go's spelling (amd64).
	Arch string
	// Platform is that of the document, or one of the installer's names:
	// baremetal, agent, none, external, vsphere, azure.
	Platform string
	// Format is how a file is packed, such as raw.xz; also iso or ova.
	Format string
	// File is disk, kernel, initramfs or rootfs.
	File string
	// Region is that of a cloud. Where a cloud has no image in it, the one is
	// given that installers copy from.
	Region string
	// Probe looks an address up and tells its size in bytes, -1 if the answer does
	// not say; nil: nothing is looked up. An error that wraps [io/fs.ErrNotExist]
	// says that nothing is there.
	Probe func(ctx context.Context, url string) (size int64, err error)
}

// States of a [Found] boot image, by what [FindOptions].Probe said.
const (
	StateAlive   = "alive"   // its address answers, with the size that is known
	StateDead    = "dead"    // nothing is there
	StateWrong   = "wrong"   // something of another size is there
	StateUnknown = "unknown" // it could not be found out
)

// Found is a boot image and why it was chosen.
type Found struct {
	Entry
	// Reason is why it was chosen, for people.
	Reason string `json:"reason"`
	// State is one of the states, "" where nothing was looked up; Fault says why
	// it is not [StateAlive].
	State string `json:"state,omitempty"`
	Fault string `json:"fault,omitempty"`
}

// wanted is what a platform stands for.
type wanted struct{ platform, format, reason string }

// installed are the platforms of the installer that documents call otherwise, and
// what it takes for them, the first that there is.
var installed = map[string][]wanted{
	"baremetal": {{"metal", "iso", "installs on bare metal boot the live ISO"}},
	"agent":     {{"metal", "iso", "the agent-based installer boots the live ISO"}},
	"none":      {{"metal", "iso", "machines that are made by hand boot the live ISO"}, {"metal", "", "machines that are made by hand boot a metal image"}},
	"external":  {{"metal", "iso", "machines that are made by hand boot the live ISO"}, {"metal", "", "machines that are made by hand boot a metal image"}},
	"vsphere":   {{"vmware", "ova", "vSphere imports the OVA as a template"}},
	"azure": {
		{"azure-marketplace", "no-purchase-plan/hyperVGen2", "Azure takes the marketplace's image without a plan"},
		{"azure-marketplace", "no-purchase-plan/hyperVGen1", "Azure takes the marketplace's image without a plan"},
		{"azure-disk", "", "Azure copies the disk into a gallery: the marketplace has no image"},
	},
}

// fallbackRegion is the one that installers copy AMIs from.
const fallbackRegion = "us-east-1"

// Find chooses among entries. A platform of the installer's is given the image
// that the installer takes, and files beside; the order is that of entries. The
// error wraps [io/fs.ErrNotExist] and says what there is instead.
func Find(ctx context.Context, entries []Entry, opts *FindOptions) ([]Found, error) {
	var o FindOptions
	if opts != nil {
		o = *opts
	}
	arch := o.Arch
	for _, rpm := range knownArches {
		if goArch(rpm) == arch {
			arch = rpm
		}
	}
	left := entries
	for _, narrow := range []struct {
		what, value string
		of          func(Entry) string
	}{
		{"architecture", arch, func(e Entry) string { return e.Arch }},
		{"file", o.File, func(e Entry) string { return e.File }},
	} {
		was := left
		if left = only(left, narrow.value, narrow.of); len(left) == 0 {
			return nil, nothing(was, narrow.what, narrow.value, narrow.of)
		}
	}
	found, err := o.platform(left)
	if err != nil {
		return nil, err
	}
	if found, err = o.region(found); err != nil {
		return nil, err
	}
	for i := range found {
		if err := o.probe(ctx, &found[i]); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// goArch is Go's spelling.
func goArch(rpm string) string {
	switch rpm {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return rpm
}

func only(entries []Entry, value string, of func(Entry) string) []Entry {
	if value == "" {
		return entries
	}
	return slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return of(e) != value })
}

// nothing says that there is none, and what there is.
func nothing(entries []Entry, what, value string, of func(Entry) string) error {
	seen := map[string]bool{}
	var there []string
	for _, e := range entries {
		if v := of(e); v != "" && !seen[v] {
			seen[v] = true
			there = append(there, v)
		}
	}
	slices.Sort(there)
	if len(there) == 0 {
		return fmt.Errorf("bootimage: find: no %s %.80q: %w", what, value, fs.ErrNotExist)
	}
	return fmt.Errorf("bootimage: find: no %s %.80q: %w; there are %s", what, value, fs.ErrNotExist, strings.Join(there, ", "))
}

// platform chooses by platform and format.
func (o *FindOptions) platform(entries []Entry) ([]Found, error) {
	format := func(e Entry) string { return e.Format }
	for _, w := range installed[o.Platform] {
		chosen := only(entries, w.platform, func(e Entry) string { return e.Platform })
		want := w.format
		if o.Format != "" {
			want = o.Format
		}
		if chosen = only(chosen, want, format); len(chosen) > 0 {
			return reasoned(chosen, o.Platform+": "+w.reason), nil
		}
	}
	platform := func(e Entry) string { return e.Platform }
	was := entries
	if entries = only(entries, o.Platform, platform); len(entries) == 0 {
		return nil, nothing(was, "platform", o.Platform, platform)
	}
	was = entries
	if entries = only(entries, o.Format, format); len(entries) == 0 {
		return nil, nothing(was, "format", o.Format, format)
	}
	return reasoned(entries, "named by the document"), nil
}

func reasoned(entries []Entry, reason string) []Found {
	found := make([]Found, len(entries))
	for i, e := range entries {
		found[i] = Found{Entry: e, Reason: reason}
	}
	return found
}

// region keeps images of the region, and those that have none.
func (o *FindOptions) region(found []Found) ([]Found, error) {
	if o.Region == "" {
		return found, nil
	}
	in := func(region string) []Found {
		return slices.DeleteFunc(slices.Clone(found), func(f Found) bool { return f.Region != region })
	}
	if there := in(o.Region); len(there) > 0 {
		return there, nil
	}
	if there := slices.DeleteFunc(in(fallbackRegion), func(f Found) bool { return f.Platform != "aws" }); len(there) > 0 {
		for i := range there {
			there[i].Reason = fmt.Sprintf(
				"%s has none: installers copy the AMI of %s into it; machine sets of the region get no boot image updates", o.Region, fallbackRegion)
		}
		return there, nil
	}
	if there := in(""); len(there) > 0 {
		for i := range there {
			there[i].Reason += "; the same in every region"
		}
		return there, nil
	}
	var entries []Entry
	for _, f := range found {
		entries = append(entries, f.Entry)
	}
	return nil, nothing(entries, "region", o.Region, func(e Entry) string { return e.Region })
}

func (o *FindOptions) probe(ctx context.Context, f *Found) error {
	if o.Probe == nil || !strings.HasPrefix(f.URL, "http://") && !strings.HasPrefix(f.URL, "https://") && !strings.HasPrefix(f.URL, "file://") {
		return nil
	}
	size, err := o.Probe(ctx, f.URL)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("bootimage: find: %w", ctx.Err())
	case isMissing(err):
		f.State, f.Fault = StateDead, err.Error()
	case err != nil:
		f.State, f.Fault = StateUnknown, err.Error()
	case size >= 0 && f.Size > 0 && size != f.Size:
		f.State, f.Fault = StateWrong, fmt.Sprintf("has %d bytes, the document says %d", size, f.Size)
	default:
		f.State = StateAlive
		if size >= 0 {
			f.Size = size
		}
	}
	return nil
}
