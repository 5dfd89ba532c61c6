// Package bootimagecmd is the command `okd-streams bootimage`: where the boot
// image of a release, a stream, an installer or a cluster is, how far it is from
// what it should be, and whether the documents that say so are good.
package bootimagecmd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/examples/internal/ui"
)

// documents is how all commands name documents.
const documents = `
A DOCUMENT is stream metadata, an installer's pin, a release.json, a meta.json or the
ConfigMap coreos-bootimages, as one of
  PATH                file
  -                   standard input, as of: oc get -n openshift-machine-config-operator cm coreos-bootimages -o yaml
  https://HOST/PATH   address
  VERSION, PULLSPEC   the ConfigMap in a release payload, such as 4.21.0-okd-scos.2;
                      release:PULLSPEC where a file has that name
  builds:PATH         the newest build of a catalogue, by its folder with builds.json
  images:PULLSPEC     an index of disk images in a registry`

// common is what the commands share.
type common struct {
	source
	output string
}

// Command gives the command with all that is below it.
func Command() *cobra.Command {
	c := &common{}
	root := &cobra.Command{
		Use:   "bootimage",
		Short: "Find boot images, and check the documents that name them",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return explain(cmd, ui.Usagef("unknown command %q for %q", args[0], cmd.CommandPath()))
			}
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return explain(cmd, &ui.UsageError{Err: err}) })
	flags := root.PersistentFlags()
	ui.AddOutput(flags)
	flags.StringVar(&c.stream, "stream", "", "`NAME` of the stream in a ConfigMap that has several (default: its default stream)")
	flags.StringVar(&c.baseURL, "base-url", "", "`URL` of the folder of builds, for a meta.json")
	flags.StringVar(&c.registry, "registry", "docker://", "where release payloads are read from: docker:// or dir:`PATH`")
	c.remote.Add(flags)
	root.AddCommand(c.find(), c.download(), c.mirror(), c.convert(), c.compress(), c.uncompress(), c.drift(), c.compare(), c.check(), c.export())
	return root
}

// leaf makes a command of so many documents, or of more where its use ends with "...",
// whose errors say what to do next.
func (c *common) leaf(use, short, long string, args int, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: short + ".\n" + long + documents, DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, given []string) error {
			if len(given) < args || len(given) > args && !strings.HasSuffix(use, "...") {
				return explain(cmd, ui.WrongArguments(cmd, given))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c.output = ui.Format(cmd)
			return explain(cmd, run(cmd, args))
		},
	}
}

// explain gives every error an advice.
func explain(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*ui.AdviceError](err); ok {
		return err
	}
	switch _, usage := errors.AsType[*ui.UsageError](err); {
	case usage:
		return ui.Next(err, cmd.CommandPath()+" --help shows what there is")
	case errors.Is(err, bootimage.ErrVerification):
		return ui.Next(&ui.VerificationError{Err: err}, "nothing was left under the file's name; try another mirror, and tell who publishes the stream if it stays so")
	case ui.Advice(err) != "":
		return ui.Next(err, ui.Advice(err))
	case errors.Is(err, errors.ErrUnsupported):
		return ui.Next(err, "name stream metadata, a release.json, a meta.json, the ConfigMap or an installer's pin")
	case errors.Is(err, fs.ErrNotExist):
		return ui.Next(err, "okd-streams bootimage find DOCUMENT lists all that a document names")
	}
	return ui.Next(err, "okd-streams bootimage check DOCUMENT names every fault of a document")
}

// found is what find prints.
type found struct {
	Document *bootimage.Origin `json:"document"`
	Found    []bootimage.Found `json:"found"`
	// Node is the version of the node image; of a release payload alone.
	Node string           `json:"node,omitempty"`
	Skew []bootimage.Skew `json:"skew,omitempty"` // a version of boot images
	from string           // the document, as arguments
}

// file gives the one file that was found, also where it is in two places; nil: there are
// several, or none.
func (f *found) file() *bootimage.Entry {
	first := &f.Found[0].Entry
	for _, i := range f.Found {
		if i.SHA256 == "" || i.SHA256 != first.SHA256 {
			return nil
		}
	}
	return first
}

// kinds are what people call documents.
var kinds = map[bootimage.OriginKind]string{
	bootimage.OriginStream: "stream metadata", bootimage.OriginConfigMap: "ConfigMap", bootimage.OriginRelease: "release.json",
	bootimage.OriginMeta: "meta.json", bootimage.OriginPin: "installer's pin", bootimage.OriginDiskIndex: "index of disk images",
}

// origin tells people what the document is.
func (f *found) origin() string {
	text := kinds[f.Document.Kind]
	if f.Document.Release != "" {
		text += " of " + f.Document.Release
	}
	if f.Document.Stream != "" {
		text += ", stream " + f.Document.Stream
	}
	if f.Document.LastModified != "" {
		text += ", last modified " + f.Document.LastModified
	}
	return text
}

func (c *common) find() *cobra.Command {
	var o bootimage.FindOptions
	var node, print string
	var probe, private bool
	cmd := c.leaf("find [FLAGS] DOCUMENT", "Find the boot image of an architecture, platform, format and region, and say why it is that one", `
Platforms are those of the document, or the installer's: baremetal, agent, none,
external, vsphere, azure. Of a release payload, the live ISO inside it is found, too.
`, 1, func(cmd *cobra.Command, args []string) error {
		doc, err := c.open(cmd, args[0])
		if err != nil {
			return err
		}
		if probe {
			o.Probe = prober(private)
		}
		result := found{Node: doc.node}
		if node != "" {
			if _, err := bootimage.ParseOSVersion(node); err != nil {
				return &ui.UsageError{Err: fmt.Errorf("--node: %w", err)}
			}
			result.Node = node
		}
		if result.Found, err = bootimage.Find(cmd.Context(), doc.Entries, &o); err != nil {
			isFormat := func(e bootimage.Entry) bool { return e.Format == o.Platform }
			if at := slices.IndexFunc(doc.Entries, isFormat); o.Platform != "" && at >= 0 {
				return ui.Next(err, fmt.Sprintf("%s is a format: --platform %s --format %s", o.Platform, doc.Entries[at].Platform, o.Platform))
			}
			return err
		}
		if doc.iso != nil {
			if result.Found, err = doc.iso.add(cmd.Context(), result.Found); err != nil {
				return err
			}
		}
		summary := *doc.Origin
		summary.Entries = nil
		result.Document = &summary
		result.Skew = skews(result.Found, result.Node)
		if args[0] != "-" {
			result.from = args[0]
			if f := cmd.Flag("registry"); f.Changed {
				result.from = "--registry " + f.Value.String() + " " + args[0]
			}
		}
		if err := result.print(cmd.OutOrStdout(), c.output, print); err != nil {
			return err
		}
		return result.verdict()
	})
	choice(cmd, &o)
	flags := cmd.Flags()
	flags.StringVar(&o.Region, "region", "", "`REGION` of a cloud (default: all)")
	flags.StringVar(&node, "node", "", "`VERSION` of the node image to compare with (default: the payload's)")
	flags.StringVar(&print, "print", "", "print one `FIELD` a line, for scripts: url, image, sha256")
	flags.BoolVar(&probe, "probe", false, "look the addresses up")
	flags.BoolVar(&private, "allow-private", false, "with --probe: also addresses within this machine and its network")
	return cmd
}

// choice declares the flags that choose images.
func choice(cmd *cobra.Command, o *bootimage.FindOptions) {
	flags := cmd.Flags()
	flags.StringVar(&o.Arch, "arch", "", "`ARCHITECTURE`, such as x86_64 or amd64 (default: all)")
	flags.StringVar(&o.Platform, "platform", "", "`PLATFORM`, such as metal, aws, vsphere (default: all)")
	flags.StringVar(&o.Format, "format", "", "`FORMAT`, such as iso, raw.xz, ova (default: all)")
	flags.StringVar(&o.File, "file", "", "disk, kernel, initramfs or rootfs (default: all)")
}

// skews compares each version of boot images with that of the node image; versions
// that say nothing are passed over.
func skews(found []bootimage.Found, node string) (all []bootimage.Skew) {
	seen := map[string]bool{}
	for _, f := range found {
		if seen[f.Release] || f.Platform == "azure-marketplace" {
			continue
		}
		seen[f.Release] = true
		if s, err := bootimage.SkewOf(f.Release, node, nil); err == nil {
			all = append(all, *s)
		}
	}
	return all
}

func (f *found) print(w io.Writer, output, field string) error {
	if field != "" {
		for _, i := range f.Found {
			value, ok := map[string]string{"url": i.URL, "image": i.Image, "sha256": i.SHA256}[field]
			if !ok {
				return ui.Usagef("--print=%s: neither url nor image nor sha256", field)
			}
			if value == "" {
				continue
			}
			if _, err := fmt.Fprintln(w, value); err != nil {
				return err
			}
		}
		return nil
	}
	if output != ui.Text {
		return ui.Write(w, output, f, nil)
	}
	rows := [][]string{{"ARCH", "PLATFORM", "FORMAT", "REGION", "RELEASE", "SIZE", "STATE", "WHERE"}}
	var reasons, faults []string
	note := func(list *[]string, text string) {
		for _, have := range *list {
			if have == text {
				return
			}
		}
		*list = append(*list, text)
	}
	for _, i := range f.Found {
		format := i.Format
		if i.File != "" && i.File != "disk" {
			format += " " + i.File
		}
		size, where := "-", i.URL
		if i.Size > 0 {
			size = ui.Size(i.Size)
		}
		if i.Image != "" {
			where = i.Image
		}
		rows = append(rows, []string{i.Arch, i.Platform, dash(format), dash(i.Region), dash(i.Release), size, dash(i.State), where})
		note(&reasons, i.Reason)
		if i.Fault != "" {
			note(&faults, where+": "+i.State+": "+i.Fault)
		}
	}
	if err := ui.Table(w, rows); err != nil {
		return err
	}
	one := f.file()
	if one != nil {
		fmt.Fprintln(w, "sha256:", one.SHA256)
		signature := one.Signature
		if signature == "" {
			signature = "none, only the checksum tells whether it is the right file"
		}
		fmt.Fprintln(w, "signature:", signature)
	}
	for _, text := range reasons {
		fmt.Fprintln(w, "why:", text)
	}
	for _, s := range f.Skew {
		fmt.Fprintf(w, "skew: boots %s, runs %s: %d days older\n", s.Boot.Text, s.Node.Text, s.Days)
	}
	for _, text := range faults {
		fmt.Fprintln(w, "fault:", text)
	}
	fmt.Fprintln(w, "from:", f.origin())
	if one != nil && one.URL != "" && f.from != "" {
		fmt.Fprintf(w, "next: okd-streams bootimage download --arch %s --platform %s --format %s %s\n", one.Arch, one.Platform, one.Format, f.from)
	}
	return nil
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// verdict is an error where something found is not there, or too old.
func (f *found) verdict() error {
	var faults []error
	for _, i := range f.Found {
		if i.State == bootimage.StateDead || i.State == bootimage.StateWrong {
			faults = append(faults, fmt.Errorf("%s: %s", i.URL, i.Fault))
		}
	}
	advice := "report it to who publishes the stream, or take the image from a mirror"
	if len(faults) == 0 {
		advice = "take newer boot images into the cluster before machines are added: okd-streams bootimage drift shows what differs"
		for _, s := range f.Skew {
			for _, text := range s.Faults {
				faults = append(faults, fmt.Errorf("boot image %s: %s", s.Boot.Text, text))
			}
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return ui.Next(&ui.VerificationError{Err: errors.Join(faults...)}, advice)
}

// drifted is what drift prints.
type drifted struct {
	Have  *bootimage.Origin `json:"have"`
	Want  *bootimage.Origin `json:"want"`
	Drift []bootimage.Drift `json:"drift"`
	// BehindDays is by the times of the documents; 0 where one says none.
	BehindDays int `json:"behindDays"`
}

func (c *common) drift() *cobra.Command {
	var all bool
	cmd := c.leaf("drift [FLAGS] DOCUMENT WANTED", "Say how far what a cluster has, DOCUMENT, is from a stream, WANTED", `
Nothing differs: exit code 0. Something does: 3.
`, 2, func(cmd *cobra.Command, args []string) error {
		have, err := c.open(cmd, args[0])
		if err != nil {
			return err
		}
		want, err := c.open(cmd, args[1])
		if err != nil {
			return err
		}
		report := drifted{Drift: bootimage.DriftOf(have.Entries, want.Entries)}
		for _, side := range []struct {
			to   **bootimage.Origin
			from *bootimage.Origin
		}{{&report.Have, have.Origin}, {&report.Want, want.Origin}} {
			summary := *side.from
			summary.Entries = nil
			*side.to = &summary
		}
		from, errFrom := time.Parse(time.RFC3339, have.LastModified)
		to, errTo := time.Parse(time.RFC3339, want.LastModified)
		if errFrom == nil && errTo == nil {
			report.BehindDays = int(to.Sub(from).Hours() / 24)
		}
		if err := report.print(cmd.OutOrStdout(), c.output, all); err != nil {
			return err
		}
		if len(report.Drift) == 0 {
			return nil
		}
		return ui.Next(&ui.VerificationError{Err: fmt.Errorf("%d platforms differ", len(report.Drift))},
			"update the cluster to a release that has newer boot images, or enroll its machine sets in boot image management")
	})
	cmd.Flags().BoolVar(&all, "all", false, "print every image that differs")
	return cmd
}

func (d *drifted) print(w io.Writer, output string, all bool) error {
	if output == "json" {
		if d.Drift == nil {
			d.Drift = []bootimage.Drift{}
		}
		return ui.JSON(w, d)
	}
	if len(d.Drift) == 0 {
		_, err := fmt.Fprintln(w, "nothing differs")
		return err
	}
	rows := [][]string{{"ARCH", "PLATFORM", "HAS", "WANTED", "DAYS", "IMAGES"}}
	for _, p := range d.Drift {
		rows = append(rows, []string{p.Arch, p.Platform, dash(p.Have), dash(p.Want), fmt.Sprint(p.Days), fmt.Sprint(images(p.Changes))})
	}
	if err := ui.Table(w, rows); err != nil {
		return err
	}
	for _, p := range d.Drift {
		for _, change := range p.Changes {
			if !all {
				break
			}
			if _, err := fmt.Fprintln(w, change); err != nil {
				return err
			}
		}
	}
	return nil
}

// images counts those that changed, whatever changed of them.
func images(changes []bootimage.Change) int {
	seen := map[string]bool{}
	for _, c := range changes {
		seen[strings.Join([]string{c.Entry.Format, c.Entry.File, c.Entry.Region}, " ")] = true
	}
	return len(seen)
}
