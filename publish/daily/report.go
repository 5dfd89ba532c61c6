package daily

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/okd-project/okd-streams/internal/atomicfile"
)

// reportFile is the page for people, beside the records.
const reportFile = "report.html"

//go:embed report.html.tmpl
var reportText string

var reportPage = template.Must(template.New("report").Funcs(template.FuncMap{
	"size":  sizeText,
	"count": countText,
	"short": func(s any) string { t := strings.TrimPrefix(fmt.Sprint(s), "sha256:"); return t[:min(12, len(t))] },
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
}).Parse(reportText))

// countText is a number of things, with their name.
func countText(n any, what string) string {
	text := fmt.Sprint(n)
	if text != "1" {
		what += "s"
	}
	return text + " " + what
}

func sizeText(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), 0
	for value >= 1<<10 && unit < 5 {
		value /= 1 << 10
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", value, " KMGTP"[unit])
}

func writeReport(path string, s *Summary) error {
	return atomicfile.Write(path, func(w io.Writer) error { return reportPage.Execute(w, s) })
}
