package payload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/ostree/container"
)

// OSChange is how the packages of a node image differ in two releases.
type OSChange struct {
	Component string `json:"name"` // X, where X-extensions is there too
	*container.Regression
}

// Err is nil if no package that holds a node together went back or is gone;
// else it wraps [container.ErrRegression]. It is the gate of a release.
func (c OSChange) Err() error {
	if err := c.Regression.Err(); err != nil {
		return &Error{Op: "compare", Target: "component " + c.Component, Err: err}
	}
	return nil
}

// CompareOSOptions say how [CompareOS] compares. Nil is the default.
type CompareOSOptions struct {
	// Regression says which packages must not go back, or go.
	Regression *container.RegressionOptions
	// Platform to choose from indexes. Default linux/amd64.
	Platform v1.Platform
	// TempDir is where layers are unpacked of images that have no list of their
	// packages. Default: the system's.
	TempDir string
}

// CompareOS compares the packages of the node images that both releases have,
// by name; those that are the same image are left out. It fails where packages
// cannot be read, for each image with an error of its own, and gives the rest.
// That a package went back is not such an error; [OSChange.Err] tells.
func CompareOS(ctx context.Context, src Images, from, to *Release, opts *CompareOSOptions) ([]OSChange, error) {
	if opts == nil {
		opts = &CompareOSOptions{}
	}
	before, _ := pairedOS(from.References.Tags)
	after, _ := pairedOS(to.References.Tags)
	var out []OSChange
	var errs []error
	for _, tag := range after {
		if !slices.Contains(before, tag) || digestText(from.References.Tag(tag).Pullspec) == digestText(to.References.Tag(tag).Pullspec) {
			continue
		}
		change, err := compareOS(ctx, src, tag, from, to, opts)
		if err != nil {
			if ctx.Err() != nil {
				return out, err
			}
			errs = append(errs, err)
			continue
		}
		out = append(out, change)
	}
	return out, errors.Join(errs...)
}

func compareOS(ctx context.Context, src Images, tag string, from, to *Release, opts *CompareOSOptions) (OSChange, error) {
	read := &container.PackagesOptions{TempDir: opts.TempDir}
	images := make([]verifiedImage, 2)
	for i, r := range []*Release{from, to} {
		got, err := r.fetchComponents(ctx, src, []string{tag}, opts.Platform, 1)
		if err != nil {
			return OSChange{}, err
		}
		images[i] = verifiedImage{got[tag].img, got[tag]}
	}
	fail := func(r *Release, err error) (OSChange, error) {
		return OSChange{}, &Error{Op: "packages", Target: "component " + tag + " of " + r.Version(), Err: err}
	}
	before, err := container.Packages(ctx, images[0], read)
	if err != nil {
		return fail(from, err)
	}
	after, err := container.Packages(ctx, images[1], read)
	if err != nil {
		return fail(to, err)
	}
	if n := max(len(before), len(after)); n > MaxPackages {
		return fail(to, fmt.Errorf("%d packages, limit %d", n, MaxPackages))
	}
	return OSChange{tag, container.CheckRegression(before, after, opts.Regression)}, nil
}

// markOS writes the node images' changes as Markdown.
func (l *ChangeLog) markOS(b *strings.Builder) error {
	for _, c := range l.OS {
		fmt.Fprintf(b, "## Packages of %s\n\n", mark(c.Component))
		if err := c.WriteMarkdown(b); err != nil {
			return err
		}
		b.WriteString("\n")
	}
	return nil
}

// htmlOS writes them as HTML.
func (l *ChangeLog) htmlOS(h *htmlWriter) {
	for _, c := range l.OS {
		h.element("h2", "Packages of "+c.Component)
		if len(c.Faults) > 0 {
			h.raw("<ul>\n")
			for _, f := range c.Faults {
				h.element("li", f.Name+": "+f.Reason)
			}
			h.raw("</ul>\n")
		}
		h.raw("<table>\n<tr><th>Package</th><th>From</th><th>To</th></tr>\n")
		for _, s := range slices.Concat(c.Downgraded, c.Upgraded, c.Changed, c.Removed, c.Added) {
			h.raw("<tr>")
			for _, text := range []string{s.Name, s.From, s.To} {
				h.raw("<td>")
				h.text(text)
				h.raw("</td>")
			}
			h.raw("</tr>\n")
		}
		h.raw("</table>\n")
		h.element("p", fmt.Sprintf("%d packages did not change.", c.Same))
	}
}
