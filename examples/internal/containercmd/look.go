package containercmd

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/ostree/container"
)

// inspected is what inspect prints.
type inspected struct {
	Image        string            `json:"image"`
	Digest       string            `json:"digest"`
	Kind         container.Kind    `json:"kind"`
	Version      string            `json:"version,omitempty"`
	MachineOS    string            `json:"machineOS,omitempty"`
	Commit       string            `json:"commit,omitempty"`
	Subject      string            `json:"subject,omitempty"`
	Bootable     bool              `json:"bootable"`
	Architecture string            `json:"architecture"`
	Created      time.Time         `json:"created"`
	Labels       map[string]string `json:"labels"`
	Layers       []layer           `json:"layers"`
	Packages     []string          `json:"packages,omitempty"`
}

type layer struct {
	Digest     string   `json:"digest"`
	DiffID     string   `json:"diffID"`
	Size       int64    `json:"size"`
	Derived    bool     `json:"derived,omitempty"` // not of the image's commit
	Components []string `json:"components,omitempty"`
	CreatedBy  string   `json:"createdBy,omitempty"`
}

func layerOf(l container.Layer) layer {
	return layer{l.Digest.String(), l.DiffID.String(), l.Size, l.Derived, l.Components, l.CreatedBy}
}

func layersOf(list []container.Layer) []layer {
	out := []layer{}
	for _, l := range list {
		out = append(out, layerOf(l))
	}
	return out
}

// content describes what a layer has in one line.
func (l layer) content() string {
	switch {
	case l.Derived:
		return "on top: " + l.CreatedBy
	case len(l.Components) > 4:
		return fmt.Sprintf("%s and %d more", strings.Join(l.Components[:3], ", "), len(l.Components)-3)
	case len(l.Components) > 0:
		return strings.Join(l.Components, ", ")
	}
	return l.CreatedBy
}

func (c *common) inspect() *cobra.Command {
	var packages, labels bool
	cmd := c.leaf("inspect [FLAGS] IMAGE", "Tell what an image is: its commit, version, layers and packages", images, 1, 1, func(cmd *cobra.Command, args []string) error {
		img, at, err := c.image(cmd, args[0])
		if err != nil {
			return err
		}
		i, err := container.Inspect(cmd.Context(), img)
		if err != nil {
			return err
		}
		digest, err := img.Digest()
		if err != nil {
			return err
		}
		out := &inspected{
			Image: at.String(), Digest: digest.String(), Kind: i.Kind, Version: i.Version, MachineOS: i.MachineOS, Bootable: i.Bootable,
			Architecture: i.Architecture, Created: i.Created, Labels: i.Labels, Layers: layersOf(i.Layers),
		}
		if i.Head != nil {
			out.Commit, out.Subject = i.Commit.String(), i.Head.Subject
		}
		if packages {
			list, err := container.Packages(cmd.Context(), img, nil)
			if err != nil {
				return err
			}
			for _, p := range list {
				out.Packages = append(out.Packages, p.String())
			}
		}
		return ui.Print(cmd, out, func(w io.Writer) error { return out.write(w, labels) })
	})
	cmd.Flags().BoolVar(&packages, "packages", false, "list packages, for which all layers may have to be read")
	cmd.Flags().BoolVar(&labels, "labels", false, "list labels")
	return cmd
}

func (i *inspected) write(w io.Writer, labels bool) error {
	kind := string(i.Kind)
	if kind == "" {
		kind = "no operating system"
	}
	rows := [][]string{
		{"Image:", i.Image}, {"Digest:", i.Digest}, {"Kind:", kind}, {"Version:", i.Version}, {"machine-os:", i.MachineOS},
		{"Commit:", i.Commit}, {"Subject:", i.Subject}, {"Bootable:", fmt.Sprint(i.Bootable)}, {"Architecture:", i.Architecture},
		{"Created:", i.Created.Format(time.RFC3339)},
	}
	rows = slices.DeleteFunc(rows, func(row []string) bool { return row[1] == "" })
	if err := ui.Table(w, rows); err != nil {
		return err
	}
	if labels {
		rows = nil
		for _, key := range slices.Sorted(maps.Keys(i.Labels)) {
			rows = append(rows, []string{"  " + key, i.Labels[key]})
		}
		fmt.Fprintln(w, "\nLabels:")
		if err := ui.Table(w, rows); err != nil {
			return err
		}
	}
	fmt.Fprintln(w, "\nLayers:")
	rows = nil
	for _, l := range i.Layers {
		rows = append(rows, []string{"  " + l.Digest, ui.Size(l.Size), l.content()})
	}
	if err := ui.Table(w, rows); err != nil || i.Packages == nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nPackages:\n  %s\n", strings.Join(i.Packages, "\n  "))
	return err
}

func (c *common) history() *cobra.Command {
	return c.leaf("history IMAGE", "List what the layers of an image were made by", images, 1, 1, func(cmd *cobra.Command, args []string) error {
		img, _, err := c.image(cmd, args[0])
		if err != nil {
			return err
		}
		list, err := container.History(img)
		if err != nil {
			return err
		}
		type entry struct {
			Created   time.Time `json:"created"`
			CreatedBy string    `json:"createdBy"`
			Comment   string    `json:"comment,omitempty"`
			Layer     *layer    `json:"layer,omitempty"`
		}
		out := []entry{}
		rows := [][]string{{"CREATED", "SIZE", "LAYER", "CREATED BY"}}
		for _, h := range list {
			e := entry{Created: h.Created, CreatedBy: h.CreatedBy, Comment: h.Comment}
			size, digest := "-", "-"
			if h.Layer != nil {
				l := layerOf(*h.Layer)
				e.Layer, size, digest = &l, ui.Size(l.Size), strings.TrimPrefix(l.Digest, "sha256:")[:12]
			}
			out = append(out, e)
			rows = append(rows, []string{h.Created.Format(time.RFC3339), size, digest, h.CreatedBy})
		}
		return ui.Print(cmd, out, ui.Rows(rows))
	})
}

// compared is what compare prints.
type compared struct {
	Pull         int64           `json:"pull"` // bytes to download for who has the first
	Size         int64           `json:"size"` // for who has nothing
	Kept         int             `json:"kept"` // layers
	Added        []layer         `json:"added"`
	Removed      []layer         `json:"removed"`
	Recompressed []layer         `json:"recompressed"`
	Packages     []packageChange `json:"packages,omitempty"`
	Files        []string        `json:"files,omitempty"` // "A /path", as of okd-streams ostree diff
}

// packageChange is a package before and after; "": it is not there.
type packageChange struct {
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

func (p packageChange) String() string {
	switch {
	case p.From == "":
		return "+ " + p.To
	case p.To == "":
		return "- " + p.From
	}
	return p.From + " -> " + p.To
}

func (c *common) compare() *cobra.Command {
	var o container.CompareOptions
	cmd := c.leaf("compare [FLAGS] FROM TO", "Say how two images differ, and how many bytes it takes to get from one to the other", images, 2, 2, func(cmd *cobra.Command, args []string) error {
		from, _, err := c.image(cmd, args[0])
		if err != nil {
			return err
		}
		to, _, err := c.image(cmd, args[1])
		if err != nil {
			return err
		}
		d, err := container.Compare(cmd.Context(), from, to, &o)
		if err != nil {
			return err
		}
		out := &compared{
			Pull: d.Pull, Size: d.Size, Kept: len(d.Kept), Added: layersOf(d.Added), Removed: layersOf(d.Removed),
			Recompressed: layersOf(d.Recompressed),
		}
		for _, p := range d.Packages {
			change := packageChange{}
			if p.From != nil {
				change.From = p.From.String()
			}
			if p.To != nil {
				change.To = p.To.String()
			}
			out.Packages = append(out.Packages, change)
		}
		for _, f := range d.Files {
			out.Files = append(out.Files, fmt.Sprintf("%c /%s", f.Kind(), f.Path))
		}
		return ui.Print(cmd, out, out.write)
	})
	cmd.Flags().BoolVar(&o.Packages, "packages", false, "compare packages, for which all layers may have to be read")
	cmd.Flags().BoolVar(&o.Files, "files", false, "compare files, for which all layers are read")
	return cmd
}

func (d *compared) write(w io.Writer) error {
	fmt.Fprintf(w, "To pull: %s of %s in %s; %d kept, %d removed, %d recompressed\n",
		ui.Size(d.Pull), ui.Size(d.Size), ui.Count(len(d.Added), "layer"), d.Kept, len(d.Removed), len(d.Recompressed))
	var rows [][]string
	for _, part := range []struct {
		sign   string
		layers []layer
	}{{"-", d.Removed}, {"+", d.Added}} {
		for _, l := range part.layers {
			rows = append(rows, []string{part.sign + " " + l.Digest, ui.Size(l.Size), l.content()})
		}
	}
	if err := ui.Table(w, rows); err != nil {
		return err
	}
	if d.Packages != nil {
		fmt.Fprintln(w, "\nPackages:")
		for _, p := range d.Packages {
			fmt.Fprintf(w, "  %s\n", p)
		}
	}
	if d.Files != nil {
		fmt.Fprintf(w, "\nFiles:\n  %s\n", strings.Join(d.Files, "\n  "))
	}
	return nil
}

// fault is a line of lint and of node check, for programs.
type fault struct {
	Target string `json:"target"`
	Fault  string `json:"fault"`
}

// faults prints the parts of a joined error and fails if there are any.
func (c *common) faults(cmd *cobra.Command, err error, what, good, advice string) error {
	out := []fault{}
	var lines []string
	parts := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		parts = joined.Unwrap()
	}
	for _, e := range parts {
		if e == nil {
			continue
		}
		f := fault{Fault: e.Error()}
		if own, ok := errors.AsType[*container.Error](e); ok && own.Error() == e.Error() {
			f = fault{own.Target, own.Err.Error()}
			lines = append(lines, f.Target+": "+f.Fault)
		} else {
			lines = append(lines, f.Fault)
		}
		out = append(out, f)
	}
	if err := ui.Print(cmd, out, func(w io.Writer) error {
		if len(lines) == 0 {
			lines = append(lines, good)
		}
		_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
		return err
	}); err != nil || len(out) == 0 {
		return err
	}
	return ui.Next(fmt.Errorf("%s: %s", what, ui.Count(len(out), "fault")), advice)
}

func (c *common) lint() *cobra.Command {
	var o container.LintOptions
	cmd := c.leaf("lint [FLAGS] IMAGE", "Look for what keeps an image from being deployed, or from being read by OpenShift", images, 1, 1, func(cmd *cobra.Command, args []string) error {
		img, at, err := c.image(cmd, args[0])
		if err != nil {
			return err
		}
		return c.faults(cmd, container.Lint(cmd.Context(), img, &o), at.String(), at.String()+": no faults", "okd-streams container inspect --labels shows what the image says")
	})
	cmd.Flags().BoolVar(&o.Documents, "documents", false, "look at manifest, configuration and commit only, not into the layers")
	return cmd
}

func (c *common) checkRegression() *cobra.Command {
	var o container.RegressionOptions
	var markdown bool
	cmd := c.leaf("check-regression [FLAGS] OLD NEW", "Fail if a package that matters is gone or older", images, 2, 2, func(cmd *cobra.Command, args []string) error {
		var lists [2][]ostree.Package
		for i, text := range args {
			img, _, err := c.image(cmd, text)
			if err != nil {
				return err
			}
			if lists[i], err = container.Packages(cmd.Context(), img, nil); err != nil {
				return fmt.Errorf("%s: %w", text, err)
			}
		}
		r := container.CheckRegression(lists[0], lists[1], &o)
		write := r.WriteText
		if markdown {
			write = r.WriteMarkdown
		}
		return errors.Join(ui.Print(cmd, r, write), r.Err())
	})
	flags := cmd.Flags()
	flags.StringSliceVar(&o.Forward, "forward", nil, "`NAMES` of packages that must not go back (default: cri-o, kernel, kubelet, runc, systemd)")
	flags.StringSliceVar(&o.Required, "required", nil, "`NAMES` of packages that must not go (default: those of --forward)")
	flags.StringSliceVar(&o.Allowed, "allow", nil, "`NAMES` of packages for which either is accepted")
	flags.BoolVar(&markdown, "markdown", false, "print Markdown")
	return cmd
}
