package payload

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// View is what [Release.WriteText] shows of each component.
type View string

// The views, named as the options of `oc adm release info`.
const (
	ViewDigests    View = ""
	ViewPullspecs  View = "pullspecs"
	ViewCommits    View = "commits"
	ViewCommitURLs View = "commit-urls"
	ViewSize       View = "size"
)

// TextOptions say what [Release.WriteText] shows. Nil is the default.
type TextOptions struct {
	View View
	// Components are what ViewSize needs, from [Release.Components].
	Components []ComponentImage
	// Now is what ViewSize counts ages from. Zero: no ages.
	Now time.Time
}

// WriteText describes the release for people as `oc adm release info` does.
func (r *Release) WriteText(w io.Writer, opts *TextOptions) error {
	if opts == nil {
		opts = &TextOptions{}
	}
	info, err := r.Info()
	if err != nil {
		return err
	}
	t := &textWriter{}
	r.writeHead(t)
	r.writeMetadata(t)
	if len(info.Versions) > 0 {
		t.section("\nComponent Versions:\n")
		for _, key := range slices.Sorted(maps.Keys(info.Versions)) {
			t.row("  "+key, info.Versions[key].Version, info.Versions[key].DisplayName)
		}
	}
	switch opts.View {
	case ViewDigests, ViewPullspecs, ViewCommits, ViewCommitURLs:
		r.writeImages(t, opts.View)
	case ViewSize:
		writeSizes(t, opts)
	default:
		return &Error{Op: "write", Target: r.Version(), Err: fmt.Errorf("view %.100q is not known", opts.View)}
	}
	if warnings := slices.Concat(info.Warnings, r.Warnings); len(warnings) > 0 {
		t.section("\nWarnings:\n")
		for _, text := range warnings {
			t.row("* " + text)
		}
	}
	t.section("\n")
	return t.writeTo(w)
}

func (r *Release) writeHead(t *textWriter) {
	t.row("Name:", r.Version())
	unknown := 0
	for _, f := range r.files {
		if !isManifestName(f.name) {
			unknown++
		}
	}
	if r.image != nil {
		t.row("Digest:", r.Pullspec().DigestStr())
		t.row("Created:", r.image.config.Created.UTC().Format(time.RFC3339))
		t.row("OS/Arch:", r.Platform())
	}
	t.row("Manifests:", fmt.Sprint(len(r.files)-unknown))
	if unknown > 0 {
		t.row("Metadata files:", fmt.Sprint(unknown))
	}
	if r.image != nil {
		t.section("\nPull From: " + r.Pullspec().Name() + "\n")
	}
}

// Platform is the operating system and architecture of the image, within
// "multi ()" if it was chosen from an index, "" for a payload from a folder.
func (r *Release) Platform() string {
	if r.image == nil {
		return ""
	}
	p := r.image.config.OS + "/" + r.image.config.Architecture
	if r.ListDigest != (v1.Hash{}) {
		return "multi (" + p + ")"
	}
	return p
}

func (r *Release) writeMetadata(t *textWriter) {
	t.section("\nRelease Metadata:\n")
	t.row("  Version:", r.Metadata.Version)
	previous, err := orderVersions(r.Metadata.Previous, false)
	if err != nil { // they were read, and so can be ordered
		previous = r.Metadata.Previous
	}
	upgrades := strings.Join(previous, ", ")
	if upgrades == "" {
		upgrades = "<none>"
	}
	t.row("  Upgrades:", upgrades)
	t.section("")
	first := true
	for _, key := range slices.Sorted(maps.Keys(r.Metadata.Metadata)) {
		value := fmt.Sprint(r.Metadata.Metadata[key])
		if value == "" {
			continue
		}
		if first {
			t.section("  Metadata:\n")
			first = false
		}
		t.row("    "+key+":", value)
	}
}

func (r *Release) writeImages(t *textWriter, view View) {
	t.section("\nImages:\n")
	switch view {
	case ViewPullspecs:
		t.row("  NAME", "PULL SPEC")
	case ViewCommits:
		t.row("  NAME", "REPO", "COMMIT")
	case ViewCommitURLs:
		t.row("  NAME", "URL")
	default:
		t.row("  NAME", "DIGEST")
	}
	for _, tag := range r.References.Tags {
		if tag.Kind != dockerImage {
			continue
		}
		source, commit := tag.Annotations[annotationSource], tag.Annotations[annotationCommit]
		switch view {
		case ViewPullspecs:
			t.row("  "+tag.Name, tag.Pullspec)
		case ViewCommits:
			t.row("  "+tag.Name, source, commit)
		case ViewCommitURLs:
			url := commitURL(source, commit)
			if url == "" {
				url = strings.TrimSpace(source + " " + commit)
			}
			t.row("  "+tag.Name, url)
		default:
			t.row("  "+tag.Name, digestText(tag.Pullspec))
		}
	}
}

// commitURL is a link to a commit; "" where none can be made.
func commitURL(source, commit string) string {
	repo, ok := parseRepository(source)
	if !ok || repo.host != "github.com" || !isCommit(commit) {
		return ""
	}
	return repo.url() + "/commit/" + commit
}

func writeSizes(t *textWriter, opts *TextOptions) {
	sizes, total, layers := Sizes(opts.Components)
	bases := 0
	for _, s := range sizes {
		bases = max(bases, s.Base)
	}
	t.section("\nImages:\n")
	t.row("  NAME", "AGE", "LAYERS", "SIZE MB", "UNIQUE MB", "BASE")
	const mega = 1024 * 1024
	for i, s := range sizes {
		age := ""
		if created := opts.Components[i].config.Created; !opts.Now.IsZero() && !created.IsZero() {
			age = shortDuration(opts.Now.Sub(created))
		}
		t.row("  "+s.Tag, age, fmt.Sprint(s.Layers), fmt.Sprintf("%.1f", float64(s.Total)/mega), fmt.Sprintf("%.1f", float64(s.Unique)/mega), baseName(s.Base, bases))
	}
	t.section(fmt.Sprintf("\n%.1f MB across %d layers\n", float64(total)/mega, layers))
}

// shortDuration is a duration as oc prints it: its largest unit alone.
func shortDuration(d time.Duration) string {
	switch {
	case d < -time.Second:
		return "<invalid>"
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d < 365*24*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	return fmt.Sprintf("%dy", d/(365*24*time.Hour))
}

// WriteContents writes image-references, release-metadata and all manifests in
// the order of their names, each behind a line "# name", as
// `oc adm release info --contents` does.
func (r *Release) WriteContents(ctx context.Context, w io.Writer) error {
	documents := []file{{name: referencesFile, data: r.References.Raw}, {name: metadataFile, data: r.Metadata.Raw}}
	for _, f := range slices.Concat(documents, r.files) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "# %s\n%s\n", f.name, f.data); err != nil {
			return err
		}
	}
	return nil
}

// textWriter collects aligned sections.
type textWriter struct {
	out     strings.Builder
	rows    [][]string
	padding int // blanks between columns; 0: one
}

// row adds a row of cells to the section; the last cell is not padded.
func (t *textWriter) row(cells ...string) {
	for i, c := range cells {
		cells[i] = oneLine(c)
	}
	t.rows = append(t.rows, cells)
}

// section ends the section and writes text that is not aligned.
func (t *textWriter) section(text string) {
	w := tabwriter.NewWriter(&t.out, 0, 4, max(t.padding, 1), ' ', tabwriter.StripEscape)
	for _, cells := range t.rows {
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t")) // to memory
	}
	_ = w.Flush()
	t.rows = nil
	t.out.WriteString(text)
}

func (t *textWriter) writeTo(w io.Writer) error {
	t.section("")
	_, err := io.WriteString(w, t.out.String())
	return err
}

// oneLine keeps what others wrote from changing the table or the terminal.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0xff {
			return ' '
		}
		return r
	}, text)
}
