package daily

import (
	"fmt"
	"io"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// ReadRecord reads the record of a step.
func ReadRecord(path string) (*Record, error) {
	var r Record
	_, err := readJSON(path, &r)
	return &r, err
}

// WriteSampleReport writes the report of a build such as real ones are, with
// what a hostile registry would put into it.
func WriteSampleReport(w io.Writer, s *Summary, packages *container.Regression, hostile string) error {
	d := &details{
		Previous: "9.0.20261124-0", PreviousVersion: "4.21.0-okd-scos.6", Changes: packages, BaseImage: s.Release.Reference,
		Gone: []string{"old-operator"}, Faults: []string{"layers of the node image: " + hostile}, store: "https://example.org/files/",
	}
	base := imageDetails{What: "Base image", Reference: s.Base.Reference, Compared: true}
	for i := range 65 {
		l := layerDetails{Name: fmt.Sprintf("package-%d and %d more", i, i%7), Digest: fmt.Sprintf("sha256:%064x", i+1), Size: int64(1+(i*37)%64) << 18, State: layerReused}
		switch {
		case i%9 == 0:
			l.State = layerNew
		case i == 1:
			l.Name, l.State = hostile, layerMounted
		}
		base.Layers = append(base.Layers, l)
	}
	d.Images = []imageDetails{base, {What: "Release image", Reference: s.Release.Reference, Layers: base.Layers[:1]}}
	d.Components = []componentDetails{
		{"stream-coreos", s.Node.Reference, originBuild, s.Release.Reference, "", "changed"},
		{"machine-config-operator", s.Node.Reference, originReplaced, s.Base.Reference, "https://github.com/okd-project/machine-config-operator", "changed"},
		{"extra", s.Node.Reference, originAdded, "", hostile, "new"},
		{hostile, s.Node.Reference, originBase, "", "javascript:alert(1)", "same"},
	}
	for _, p := range packages.Upgraded {
		d.Packages = append(d.Packages, ostree.Package{Name: p.Name, Version: p.To, Release: "1", Arch: "x86_64"})
	}
	return reportPage().Execute(w, report{s, d})
}
