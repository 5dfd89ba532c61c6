package daily

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"net/url"
	"reflect"
	"strings"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/atomicfile"
	"github.com/okd-project/okd-streams/internal/page"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/publish"
)

// reportFile is the page for people, beside the records.
const reportFile = "report.html"

// maxListed bounds each list of the report.
const maxListed = 5000

//go:embed report.html.tmpl
var reportText string

var reportPage = page.Parse("report", reportText, template.FuncMap{
	"width": func(part, all float64) float64 {
		if all <= 0 {
			return 0
		}
		return max(0.5, 100*part/all)
	},
	"percent": func(part, all int64) int64 {
		if all == 0 {
			return 0
		}
		return 100 * part / all
	},
	"seconds": func(s *Summary) (all float64) {
		for _, step := range s.Steps {
			all += step.Seconds
		}
		return all
	},
	"bars": bars,
	"versions": func(r *container.Regression) []versionGroup {
		return []versionGroup{{"Upgraded", r.Upgraded}, {"Downgraded", r.Downgraded}, {"Written otherwise", r.Changed}, {"Added", r.Added}, {"Removed", r.Removed}}
	},
	"origins": origins,
	"link": func(text string) bool {
		return strings.HasPrefix(text, "https://") || strings.HasPrefix(text, "http://")
	},
	"image": func(pullspec string) string {
		repo, _, _ := strings.Cut(pullspec, "@")
		return repo + "@" + page.Short(pullspec)
	},
	"first": first,
	"more":  func(list any) int { return max(0, reflect.ValueOf(list).Len()-maxListed) },
})

// first is the part of a list that is shown.
func first(list any) any {
	v := reflect.ValueOf(list)
	return v.Slice(0, min(v.Len(), maxListed)).Interface()
}

// versionGroup are packages to which the same happened.
type versionGroup struct {
	What  string
	Steps []container.VersionStep
}

// bar is a layer in the picture, in its units.
type bar struct {
	X, Y, Width, Height float64
	Layer               layerDetails
}

// The picture of layers is this wide and high; its width is stretched.
const (
	chartWidth  = 1000
	chartHeight = 140
)

// bars draws layers: one bar each, in the order of the image, as high as the
// layer is big.
func bars(layers []layerDetails) []bar {
	var most int64 = 1
	for _, l := range layers {
		most = max(most, l.Size)
	}
	pitch := chartWidth / float64(max(len(layers), 8))
	out := make([]bar, len(layers))
	for i, l := range layers {
		height := max(2, float64(l.Size)/float64(most)*(chartHeight-8))
		out[i] = bar{X: float64(i)*pitch + pitch*.1, Y: chartHeight - height, Width: pitch * .8, Height: height, Layer: l}
	}
	return out
}

// origins counts components by where they are from, in words.
func origins(list []componentDetails) string {
	n := map[origin]int{}
	for _, c := range list {
		n[c.Origin]++
	}
	var parts []string
	for _, o := range []struct {
		origin origin
		text   string
	}{
		{originBuild, "of this build"}, {originReplaced, "replaced"}, {originAdded, "added"}, {originGiven, "given"}, {originBase, "as in the base release"},
	} {
		if n[o.origin] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[o.origin], o.text))
		}
	}
	return strings.Join(parts, ", ")
}

// report is what the page is made of.
type report struct {
	*Summary
	Details *details
}

// Title names the build.
func (r report) Title() string { return r.Stream + " " + r.Version }

// Link is the address of a file in the store; "" where there is none.
func (r report) Link(key string) template.URL {
	if r.Details.store == "" {
		return ""
	}
	return template.URL(r.Details.store + (&url.URL{Path: key}).EscapedPath())
}

// publishReport writes the page into the store, with links that hold wherever the
// store is seen.
func (b *build) publishReport(ctx context.Context, s *Summary, d *details) error {
	if !b.env.PublishReport {
		return nil
	}
	key, err := b.key(b.file(bootimage.FileArtifact, reportFile))
	if err != nil {
		return err
	}
	there := *d
	there.store = strings.Repeat("../", strings.Count(key, "/"))
	var buf bytes.Buffer
	if err := reportPage().Execute(&buf, report{s, &there}); err != nil {
		return err
	}
	_, err = b.env.Store.Put(ctx, key, publish.BytesSource(buf.Bytes()), &publish.PutOptions{
		ContentType: "text/html; charset=utf-8", CacheControl: "max-age=300",
	})
	return err
}

func writeReport(path string, s *Summary, d *details) error {
	return atomicfile.Write(path, func(w io.Writer) error { return reportPage().Execute(w, report{s, cmp.Or(d, &details{})}) })
}
