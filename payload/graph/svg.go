package graph

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
)

// SVGOptions are options of WriteSVG; the zero value is useful.
type SVGOptions struct {
	// Candidates are drawn dotted, with why they are not published.
	Candidates []Candidate
	// Title is the picture's name, for those who cannot see it.
	Title string
}

// Measures of the picture, pixels.
const (
	svgMargin = 24
	svgRow    = 28
	svgColumn = 300
	svgBox    = 210
	svgHeight = 20
)

// What is said of a curve's risks: characters of a name and of a message, and
// bytes of all, after which no more risks are named.
const (
	maxRiskText  = 1000
	maxRisksText = 4096
)

// WriteSVG draws the graph: a column for each minor version, oldest first, in
// it the versions, newest on top, and a curve for each update, dashed if it is
// conditional. Each version and curve says what it is when pointed at. The
// picture fits light and dark pages, has no script, and the same graph gives
// the same bytes.
func (g *Graph) WriteSVG(w io.Writer, opts *SVGOptions) error {
	if err := g.check(); err != nil {
		return &Error{Op: "draw", Err: err}
	}
	if opts == nil {
		opts = &SVGOptions{}
	}
	title := opts.Title
	if title == "" {
		title = "Update graph"
	}
	drawn := g.clone()
	drawn.sort()
	type point struct{ x, y int }
	places := map[string]point{}
	columns, rows := 0, map[int]int{}
	last := ""
	order := make([]int, len(drawn.Nodes))
	for i, n := range drawn.Nodes {
		k := newKey(n.Version)
		minor := "other"
		if k.isSem {
			minor = fmt.Sprintf("%d.%d", k.sem.Major, k.sem.Minor)
		}
		if minor != last {
			columns, last = columns+1, minor
		}
		order[i] = columns - 1
		rows[columns-1]++
	}
	tallest := 0
	for _, n := range rows {
		tallest = max(tallest, n)
	}
	used := map[int]int{}
	for i, n := range drawn.Nodes {
		c := order[i]
		used[c]++
		places[n.Version] = point{svgMargin + c*svgColumn, svgMargin + (rows[c]-used[c])*svgRow}
	}
	b := bufio.NewWriter(w)
	width, height := 2*svgMargin+max(columns, 1)*svgColumn, 2*svgMargin+max(tallest, 1)*svgRow
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-labelledby="t">`+"\n", width, height, width, height)
	fmt.Fprintf(b, "<title id=\"t\">%s: %d versions, %d updates</title>\n", escape(title), len(drawn.Nodes), len(drawn.Edges))
	fmt.Fprint(b, `<style>
text{font:12px ui-monospace,monospace;fill:#1b1f24}
rect{fill:#eef2f7;stroke:#5b6b7f}
path{fill:none;stroke:#3b6fb6;stroke-width:1.2;opacity:`+opacity(len(drawn.Edges))+`}
path.risk{stroke:#a35a00;stroke-dasharray:6 3;opacity:1}
path.candidate{stroke:#777;stroke-dasharray:1 4}
path:hover{stroke-width:3;opacity:1}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}rect{fill:#222b36;stroke:#8b9bb0}path{stroke:#79aef2}path.risk{stroke:#f0a848}path.candidate{stroke:#999}}
</style>
`)
	curve := func(e Edge, class, why string) {
		from, ok1 := places[e.From]
		to, ok2 := places[e.To]
		if !ok1 || !ok2 {
			return
		}
		y1, y2 := from.y+svgHeight/2, to.y+svgHeight/2
		x1, x2 := from.x+svgBox, to.x
		bend := (svgColumn - svgBox) / 2
		c1, c2 := x1+bend, x2-bend
		if from.x >= to.x { // within a column the curve stays on the right
			x2 = to.x + svgBox
			bend += min(40, max(y1-y2, y2-y1)/8)
			c1, c2 = x1+bend, x2+bend
		}
		if class != "" {
			class = ` class="` + class + `"`
		}
		fmt.Fprintf(b, `<path%s d="M%d %dC%d %d %d %d %d %d"><title>%s to %s%s</title></path>`+"\n", class, x1, y1, c1, y1, c2, y2, x2, y2,
			escape(e.From), escape(e.To), escape(why))
	}
	// Few groups of edges and risks make many pairs.
	risky := map[Edge]*strings.Builder{}
	for _, c := range drawn.Conditional {
		for _, e := range c.Edges {
			for _, r := range c.Risks {
				why := risky[e]
				if why == nil {
					why = &strings.Builder{}
					risky[e] = why
				}
				if why.Len() > maxRisksText {
					break
				}
				if fmt.Fprintf(why, "\n%.*s: %.*s", maxRiskText, r.Name, maxRiskText, r.Message); why.Len() > maxRisksText {
					why.WriteString("\n…")
				}
			}
		}
	}
	for _, p := range drawn.Edges {
		e := Edge{drawn.Nodes[p[0]].Version, drawn.Nodes[p[1]].Version}
		if _, ok := risky[e]; !ok {
			curve(e, "", "")
		}
	}
	conditional := make([]Edge, 0, len(risky))
	for e := range risky {
		conditional = append(conditional, e)
	}
	slices.SortFunc(conditional, func(x, y Edge) int {
		if c := Compare(x.From, y.From); c != 0 {
			return c
		}
		return Compare(x.To, y.To)
	})
	for _, e := range conditional {
		curve(e, "risk", risky[e].String())
	}
	for _, c := range opts.Candidates {
		curve(c.Edge, "candidate", "\nnot published: "+c.Why)
	}
	for _, n := range drawn.Nodes {
		p := places[n.Version]
		fmt.Fprintf(b, `<g><title>%s</title><rect x="%d" y="%d" width="%d" height="%d" rx="4"/><text x="%d" y="%d">%s</text></g>`+"\n",
			escape(n.Version+"\n"+n.Payload), p.x, p.y, svgBox, svgHeight, p.x+6, p.y+14, escape(short(n.Version)))
	}
	fmt.Fprint(b, "</svg>\n")
	return b.Flush()
}

// opacity of curves: where there are many they lie over each other.
func opacity(edges int) string {
	switch {
	case edges > 1000:
		return ".25"
	case edges > 200:
		return ".45"
	}
	return ".8"
}

// short is a version as far as its box holds it.
func short(version string) string {
	const most = 28
	if runes := []rune(version); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return version
}

// escape makes text of the content of an element; what XML cannot hold becomes
// U+FFFD.
func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
