package ostreecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
)

func (c *common) staticDelta() *cobra.Command {
	cmd := c.group("static-delta", "List, print and apply static deltas", map[string]string{
		"generate": "ostree makes deltas; what it makes is applied here", "delete": "remove the delta's folder in deltas/, then write the summary again with okd-streams ostree summary --update",
		"verify": "okd-streams ostree static-delta apply-offline verifies, with the keys that it is given", "indexes": "okd-streams ostree static-delta list lists all deltas",
		"reindex": "okd-streams ostree summary --update writes the indexes, too",
	})
	list := c.leaf("list", "List static deltas", 0, 0, func(cmd *cobra.Command, _ []string) error {
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			names := []string{}
			for name, err := range r.Deltas(ctx) {
				if err != nil {
					return err
				}
				names = append(names, name.String())
			}
			return ui.Print(cmd, names, func(w io.Writer) error {
				if len(names) == 0 {
					names = append(names, "(No static deltas)")
				}
				_, err := io.WriteString(w, lines(append(names, "")))
				return err
			})
		})
	})
	show := c.leaf("show DELTA", "Print what is in a static delta", 1, 1, func(cmd *cobra.Command, args []string) error {
		name, err := ostree.ParseDeltaName(args[0])
		if err != nil {
			return ui.Next(&ui.UsageError{Err: err}, "name it as okd-streams ostree static-delta list does")
		}
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			delta, err := r.ReadDelta(ctx, name)
			if errors.Is(err, fs.ErrNotExist) {
				err = ui.Next(err, "okd-streams ostree static-delta list lists what there is")
			}
			if err != nil {
				return err
			}
			return ui.Print(cmd, delta, func(w io.Writer) error { return printDelta(w, args[0], delta) })
		})
	})
	cmd.AddCommand(list, show, c.applyOffline())
	return cmd
}

func (c *common) applyOffline() *cobra.Command {
	var f signFlags
	cmd := c.leaf("apply-offline PATH [KEY...]", "Make the commit of a static delta in a file or folder; no ref is set", 1, -1, func(cmd *cobra.Command, args []string) error {
		f.keys = args[1:]
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			opts := &ostree.ApplyDeltaOptions{Now: time.Now()}
			if len(f.keys)+len(f.files) > 0 {
				var err error
				if opts.Verifier, err = f.verifier(); err != nil {
					return err
				}
			}
			commit, err := r.ApplyDelta(ctx, args[0], opts)
			switch {
			case errors.Is(err, ostree.ErrSignature):
				return ui.Next(err, "give the public key of its signer as an argument or with --keys-file")
			case errors.Is(err, fs.ErrNotExist):
				return ui.Next(err, "name a folder with the file superblock, or that file, and pull the commit first that the delta leads from")
			case errors.Is(err, ostree.ErrCorrupt):
				return ui.Next(&ui.VerificationError{Err: err}, "get the delta again; ostree static-delta generate --inline --filename makes one")
			case err != nil || c.output == ui.Text: // `ostree` says nothing
				return err
			}
			return ui.Print(cmd, struct {
				Commit ostree.Checksum `json:"commit"`
			}{commit}, nil)
		})
	})
	f.register(cmd, "sign-type", "")
	cmd.Flags().StringArrayVar(&f.files, "keys-file", nil, "`FILE` of public keys, one a line; may be repeated")
	refuse(cmd, "name the files in it with --keys-file", "keys-dir=")
	return cmd
}

// printDelta prints what `ostree static-delta show` does.
func printDelta(w io.Writer, name string, d *ostree.Delta) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Delta: %s\nSigned: %s\n", name, map[bool]string{true: "yes", false: "no"}[d.Signed])
	if d.From.IsZero() {
		b.WriteString("From <scratch>\n")
	} else {
		fmt.Fprintf(&b, "From: %s\n", d.From)
	}
	order := map[bool]string{true: "big", false: "little"}[d.BigEndian]
	if d.Guessed {
		order += " (heuristic)"
	}
	fmt.Fprintf(&b, "To: %s\nEndianness: %s\nTimestamp: %d\nNumber of parents: 0\nNumber of fallback entries: %d\n", d.To, order, d.Timestamp.Unix(), len(d.Fallbacks))
	var fallback, fallbackPlain, parts, partsPlain uint64
	for _, f := range d.Fallbacks {
		fmt.Fprintf(&b, "  %s\n", f.Checksum)
		fallback += f.Size
		fallbackPlain += f.UncompressedSize
	}
	total := func(what string, n uint64) { fmt.Fprintf(&b, "Total %s: %d (%s)\n", what, n, size(int64(n))) }
	total("Fallback Size", fallback)
	total("Fallback Uncompressed Size", fallbackPlain)
	fmt.Fprintf(&b, "Number of parts: %d\n", len(d.Parts))
	for i, p := range d.Parts {
		o := p.Operations
		fmt.Fprintf(&b, "PartMeta%d: nobjects=%d size=%d usize=%d\nPartPayload%d: nmodes=%d nxattrs=%d blobsize=%d opsize=%d\n", i, p.Objects, p.Size, p.UncompressedSize,
			i, p.Modes, p.Xattrs, p.Content, p.Program)
		fmt.Fprintf(&b, "PartPayloadOps%d: openspliceclose=%d open=%d write=%d setread=%d unsetread=%d close=%d bspatch=%d\n", i, o["open-splice-and-close"], o["open"], o["write"],
			o["set-read-source"], o["unset-read-source"], o["close"], o["bspatch"])
		parts += p.Size
		partsPlain += p.UncompressedSize
	}
	total("Part Size", parts)
	total("Part Uncompressed Size", partsPlain)
	total("Size", parts+fallback)
	total("Uncompressed Size", partsPlain+fallbackPlain)
	_, err := io.WriteString(w, b.String())
	return err
}
