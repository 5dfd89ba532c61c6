package payload

import (
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// relocate names the images of the payload in the mirror, and plans how they
// get there. What has no digest has been found before.
func (a *assembly) relocate() error {
	to := a.spec.Mirror
	if to == (name.Repository{}) {
		return nil
	}
	version := strings.ReplaceAll(a.metadata.Version, "+", "_")
	arch := rpmArch(a.platform.Architecture)
	if a.opts.ManifestList {
		arch = "multi"
	}
	for i := range a.stream.Tags {
		t := &a.stream.Tags[i]
		if t.Kind != dockerImage {
			continue
		}
		ref, err := name.NewDigest(t.Pullspec)
		if err != nil {
			if a.opts.Compatible {
				return &Error{Op: "assemble", Target: "component " + t.Name, Err: fmt.Errorf("without a digest it cannot be in the mirror: %w", err)}
			}
			continue
		}
		tag := version + "-" + arch + "-" + t.Name
		if !tagGrammar.MatchString(tag) {
			return &Error{Op: "assemble", Target: "component " + t.Name, Err: fmt.Errorf("%.200q cannot be a tag", tag)}
		}
		a.copies = append(a.copies, Copy{From: ref.Name(), To: to.Name(), Tags: []string{tag}, Referrers: true, Signatures: true})
		t.Pullspec, t.from = to.Name()+"@"+ref.DigestStr(), nil
	}
	return nil
}

// rpmArch is an architecture as RPM and tags of mirrors spell it.
func rpmArch(arch string) string {
	switch arch {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	default:
		return arch
	}
}
