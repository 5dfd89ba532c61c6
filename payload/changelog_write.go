package payload

import (
	"fmt"
	"html"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Where bugs and issues are.
const (
	bugURL   = "https://bugzilla.redhat.com/show_bug.cgi?id="
	issueURL = "https://issues.redhat.com/browse/"
)

const gitHub = "github.com"

// links of a logged repository; "" where the forge is not known.
func (r *LoggedRepository) treeURL() string { return gitHubURL(r.Location, "/tree/"+r.To) }
func (r *LoggedRepository) compareURL() string {
	return gitHubURL(r.Location, "/compare/"+r.From+"..."+r.To)
}

func (r *LoggedRepository) pullURL(pull int) string {
	return gitHubURL(r.Location, fmt.Sprintf("/pull/%d", pull))
}

func gitHubURL(location, suffix string) string {
	repo, ok := parseRepository(location)
	if !ok || repo.host != gitHub {
		return ""
	}
	return repo.url() + suffix
}

// webURL is a location as a link; "" if it is none.
func webURL(location string) string {
	if repo, ok := parseRepository(location); ok {
		return repo.url()
	}
	return ""
}

// escapeSubject is how oc escapes subjects, in JSON too.
func escapeSubject(text string) string {
	return strings.NewReplacer("<", "&lt;", ">", "&gt;").Replace(text)
}

// MarshalJSON writes the members that oc writes, in its order.
func (l *ChangeLog) MarshalJSON() ([]byte, error) {
	var o object
	o.put("from", l.From)
	o.put("to", l.To)
	putList(&o, "components", l.Components)
	putList(&o, "featureGates", l.FeatureGates)
	putList(&o, "newImages", l.NewImages)
	putList(&o, "removedImages", l.RemovedImages)
	putList(&o, "rebuiltImages", l.RebuiltImages)
	putList(&o, "updatedImages", l.Updated)
	putList(&o, "osImages", l.OS)
	return o.bytes()
}

func putList[T any](o *object, key string, list []T) {
	if len(list) > 0 {
		o.put(key, list)
	}
}

// MarshalJSON writes the members that oc writes of images that changed.
func (r LoggedRepository) MarshalJSON() ([]byte, error) {
	type change struct {
		Bugs       map[string]string `json:"bugs,omitempty"`
		Issues     map[string]string `json:"issues,omitempty"`
		Subject    string            `json:"subject"`
		PullID     int               `json:"pullID,omitempty"`
		PullURL    string            `json:"pullURL,omitempty"`
		CommitDate string            `json:"commitDate"`
	}
	var changes []change
	for _, c := range r.Changes {
		changes = append(changes, change{
			linked(c.Bugs, bugURL), linked(c.Issues, issueURL), escapeSubject(c.Subject), c.Pull, r.pullURL(c.Pull), c.Time.UTC().Format("2006-01-02T15:04:05Z"),
		})
	}
	path := r.treeURL()
	if path == "" {
		path = r.Location
	}
	var o object
	o.put("name", strings.Join(r.Images, ", "))
	o.put("path", path)
	if r.treeURL() == "" {
		o.putText("commit", r.To)
	}
	putList(&o, "commits", changes)
	if r.Elided > 0 {
		o.put("elidedCommits", r.Elided)
	}
	o.putText("fullChangeLog", r.compareURL())
	return o.bytes()
}

func linked(list []string, base string) map[string]string {
	if len(list) == 0 {
		return nil
	}
	out := make(map[string]string, len(list))
	for _, id := range list {
		out[id] = base + id
	}
	return out
}

// WriteMarkdown writes the log as `oc adm release info --changelog` does.
func (l *ChangeLog) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\nCreated: %s\n\nImage Digest: `%s`\n\n", mark(l.To.Name), l.To.Created.UTC().Format("2006-01-02 15:04:05 -0700 MST"), l.To.Digest)
	if l.To.PromotedFrom != "" {
		fmt.Fprintf(&b, "Promoted from %s\n\n", mark(l.To.PromotedFrom))
	}
	fmt.Fprintf(&b, "\n## Changes from %s\n\n", mark(l.From.Name))
	if len(l.Components) > 0 {
		b.WriteString("### Components\n\n")
		for _, c := range l.Components {
			b.WriteString("* " + mark(c.text()) + "\n")
		}
		b.WriteString("\n\n")
	}
	l.markGates(&b)
	markImages(&b, "New images", l.NewImages)
	markImages(&b, "Removed images", l.RemovedImages)
	markImages(&b, "Rebuilt images without code change", l.RebuiltImages)
	for i := range l.Updated {
		l.Updated[i].mark(&b)
	}
	if err := l.markOS(&b); err != nil {
		return err
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (v *LoggedVersion) text() string {
	if v.From == "" {
		return v.Name + " " + v.Version
	}
	return v.Name + " upgraded from " + v.From + " to " + v.Version
}

// mark makes text from elsewhere one line without HTML.
func mark(text string) string { return escapeSubject(oneLine(text)) }

// markLink is a link, or the text alone where there is nothing to link to.
func markLink(text, target string) string {
	if target == "" {
		return mark(text)
	}
	return "[" + mark(text) + "](" + strings.NewReplacer("(", "%28", ")", "%29", " ", "%20").Replace(target) + ")"
}

func markImages(b *strings.Builder, title string, list []LoggedImage) {
	if len(list) == 0 {
		return
	}
	b.WriteString("### " + title + "\n\n")
	for _, i := range list {
		b.WriteString("* " + markLink(i.Name, webURL(i.Path)))
		if i.Commit != "" {
			b.WriteString(" git " + markLink(i.ShortCommit, gitHubURL(i.Path, "/commit/"+i.Commit)))
		}
		if i.ImageRef != "" {
			b.WriteString(" `" + strings.ReplaceAll(oneLine(i.ImageRef), "`", "") + "`")
		}
		b.WriteString("\n")
	}
	b.WriteString("\n\n")
}

func (r *LoggedRepository) mark(b *strings.Builder) {
	b.WriteString("### " + markLink(strings.Join(r.Images, ", "), r.treeURL()) + "\n\n")
	for _, c := range r.Changes {
		var parts []string
		for i, id := range c.Bugs {
			name := id
			if i == 0 {
				name = "Bug " + id
			}
			parts = append(parts, markLink(name, bugURL+id))
		}
		for _, id := range c.Issues {
			parts = append(parts, markLink(id, issueURL+id))
		}
		line := mark(c.Subject)
		if len(parts) > 0 {
			line = strings.Join(parts, ", ") + ": " + line
		}
		fmt.Fprintf(b, "* %s %s\n", line, markLink(fmt.Sprintf("#%d", c.Pull), r.pullURL(c.Pull)))
	}
	if r.Elided > 0 {
		fmt.Fprintf(b, "* And %d elided commits (e.g. from squash or rebase merges)\n", r.Elided)
	}
	if link := r.compareURL(); link != "" {
		b.WriteString("* " + markLink("Full changelog", link) + "\n")
	} else {
		fmt.Fprintf(b, "* %s from %s to %s\n", mark(r.Location), mark(r.From), mark(r.To))
	}
	b.WriteString("\n\n")
}

// gateColumns are the profiles and sets of all gates, sorted.
func (l *ChangeLog) gateColumns() [][2]string {
	seen := map[[2]string]bool{}
	for _, g := range l.FeatureGates {
		for profile, sets := range g.Status {
			for set := range sets {
				seen[[2]string{profile, set}] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b [2]string) int {
		return strings.Compare(a[1]+"\x00"+a[0], b[1]+"\x00"+b[0])
	})
}

func (l *ChangeLog) markGates(b *strings.Builder) {
	if len(l.FeatureGates) == 0 {
		return
	}
	cell := func(text string) string { return strings.ReplaceAll(mark(text), "|", `\|`) }
	columns := l.gateColumns()
	b.WriteString("### Feature gates\n\n| FeatureGate |")
	for _, c := range columns {
		b.WriteString(" " + cell(c[1]+" on "+c[0]) + " |")
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(columns)) + "\n")
	for _, g := range l.FeatureGates {
		b.WriteString("| " + cell(g.Name) + " |")
		for _, c := range columns {
			b.WriteString(" " + cell(g.Status[c[0]][c[1]]) + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString("\n\n")
}

// WriteHTML writes the log as a piece of HTML, without a head, for a page.
// Everything that comes from releases and commits is escaped, and links only
// lead to http and https.
func (l *ChangeLog) WriteHTML(w io.Writer) error {
	h := &htmlWriter{}
	h.element("h1", l.To.Name)
	h.raw("<p>Created: ")
	h.text(l.To.Created.UTC().Format("2006-01-02 15:04:05 -0700 MST"))
	h.raw("<br>Image digest: <code>")
	h.text(l.To.Digest)
	h.raw("</code>")
	if l.To.PromotedFrom != "" {
		h.raw("<br>Promoted from ")
		h.text(l.To.PromotedFrom)
	}
	h.raw("</p>\n")
	h.element("h2", "Changes from "+l.From.Name)
	if len(l.Components) > 0 {
		h.element("h3", "Components")
		h.raw("<ul>\n")
		for _, c := range l.Components {
			h.element("li", c.text())
		}
		h.raw("</ul>\n")
	}
	l.htmlGates(h)
	h.images("New images", l.NewImages)
	h.images("Removed images", l.RemovedImages)
	h.images("Rebuilt images without code change", l.RebuiltImages)
	for i := range l.Updated {
		h.repository(&l.Updated[i])
	}
	l.htmlOS(h)
	_, err := io.WriteString(w, h.out.String())
	return err
}

func (l *ChangeLog) htmlGates(h *htmlWriter) {
	if len(l.FeatureGates) == 0 {
		return
	}
	columns := l.gateColumns()
	h.element("h3", "Feature gates")
	h.raw("<table>\n<tr><th>Feature gate</th>")
	for _, c := range columns {
		h.raw("<th>")
		h.text(c[1] + " on " + c[0])
		h.raw("</th>")
	}
	h.raw("</tr>\n")
	for _, g := range l.FeatureGates {
		h.raw("<tr><td>")
		h.text(g.Name)
		h.raw("</td>")
		for _, c := range columns {
			h.raw("<td>")
			h.text(g.Status[c[0]][c[1]])
			h.raw("</td>")
		}
		h.raw("</tr>\n")
	}
	h.raw("</table>\n")
}

// htmlWriter writes text that is escaped between tags that are not.
type htmlWriter struct{ out strings.Builder }

func (h *htmlWriter) raw(text string)  { h.out.WriteString(text) }
func (h *htmlWriter) text(text string) { h.out.WriteString(html.EscapeString(oneLine(text))) }

func (h *htmlWriter) element(tag, text string) {
	h.raw("<" + tag + ">")
	h.text(text)
	h.raw("</" + tag + ">\n")
}

func (h *htmlWriter) link(text, target string) {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		h.text(text)
		return
	}
	h.raw(`<a href="`)
	h.text(u.String())
	h.raw(`">`)
	h.text(text)
	h.raw("</a>")
}

func (h *htmlWriter) images(title string, list []LoggedImage) {
	if len(list) == 0 {
		return
	}
	h.element("h3", title)
	h.raw("<ul>\n")
	for _, i := range list {
		h.raw("<li>")
		h.link(i.Name, webURL(i.Path))
		if i.Commit != "" {
			h.raw(" git ")
			h.link(i.ShortCommit, gitHubURL(i.Path, "/commit/"+i.Commit))
		}
		if i.ImageRef != "" {
			h.raw(" <code>")
			h.text(i.ImageRef)
			h.raw("</code>")
		}
		h.raw("</li>\n")
	}
	h.raw("</ul>\n")
}

func (h *htmlWriter) repository(r *LoggedRepository) {
	h.raw("<h3>")
	h.link(strings.Join(r.Images, ", "), r.treeURL())
	h.raw("</h3>\n<ul>\n")
	for _, c := range r.Changes {
		h.raw("<li>")
		for _, id := range c.Bugs {
			h.link("Bug "+id, bugURL+id)
			h.raw(" ")
		}
		for _, id := range c.Issues {
			h.link(id, issueURL+id)
			h.raw(" ")
		}
		h.text(c.Subject)
		h.raw(" ")
		h.link(fmt.Sprintf("#%d", c.Pull), r.pullURL(c.Pull))
		h.raw("</li>\n")
	}
	if r.Elided > 0 {
		h.element("li", fmt.Sprintf("and %d commits without a pull request", r.Elided))
	}
	h.raw("<li>")
	if link := r.compareURL(); link != "" {
		h.link("Full changelog", link)
	} else {
		h.text(r.Location + " from " + r.From + " to " + r.To)
	}
	h.raw("</li>\n</ul>\n")
}
