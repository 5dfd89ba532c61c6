package ostreecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
)

type summaryFlags struct {
	update, view, raw, list bool
	key                     string
	metadata                []string
	signFlags
}

func (c *common) summary() *cobra.Command {
	var f summaryFlags
	cmd := c.leaf("summary", "Write or print the summary, from which others learn what a repository has", 0, 0, func(cmd *cobra.Command, _ []string) error {
		if !f.update && !f.view && !f.raw && !f.list && f.key == "" {
			return ui.Usagef("nothing to do: --update writes the summary, --view prints it")
		}
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			if f.update {
				return f.write(ctx, r)
			}
			return c.printSummary(ctx, cmd, r, &f)
		})
	})
	flags := cmd.Flags()
	flags.BoolVarP(&f.update, "update", "u", false, "write the summary of what there is now")
	flags.BoolVarP(&f.view, "view", "v", false, "print the summary")
	flags.BoolVar(&c.verbose, "verbose", false, "log what is done") // whose letter is --view's here
	flags.BoolVar(&f.raw, "raw", false, "print it in the text format of GVariant")
	flags.BoolVar(&f.list, "list-metadata-keys", false, "print the keys of its metadata")
	flags.StringVar(&f.key, "print-metadata-key", "", "print the value of `KEY` of its metadata")
	flags.StringArrayVarP(&f.metadata, "add-metadata", "m", nil, "add `KEY=VALUE`, a value in the text format of GVariant, to its metadata; may be repeated")
	f.register(cmd, "sign-type", "")
	flags.StringArrayVar(&f.keys, "sign", nil, "sign with the secret key `KEY`, base64; prefer --sign-from-file; may be repeated")
	flags.StringArrayVar(&f.files, "sign-from-file", nil, "sign with the secret keys in the file `PATH`; may be repeated")
	refuse(cmd, "export the key with gpg --export-secret-keys and give it with --sign-type=gpg --sign-from-file", "gpg-sign=", "gpg-homedir=")
	return cmd
}

func (f *summaryFlags) write(ctx context.Context, r *ostree.Repo) error {
	items, err := keyValues(f.metadata, true)
	if err != nil {
		return err
	}
	now, err := sourceDate()
	if err != nil {
		return err
	}
	signers, kind, err := f.signers()
	if err != nil {
		return err
	}
	opts := &ostree.SummaryOptions{Metadata: items, LastModified: now}
	for _, signer := range signers {
		opts.Sign = append(opts.Sign, ostree.SummarySigner{Kind: kind, Signer: signer})
	}
	return r.UpdateSummary(ctx, opts)
}

// summaryJSON is a summary for programs.
type summaryJSON struct {
	LastModified string            `json:"lastModified,omitempty"`
	Refs         []summaryRefJSON  `json:"refs"`
	Metadata     map[string]string `json:"metadata"` // in the text format of GVariant
	Signatures   []string          `json:"signatures"`
}

type summaryRefJSON struct {
	Ref       string            `json:"ref"`
	Commit    ostree.Checksum   `json:"commit"`
	Timestamp string            `json:"timestamp,omitempty"`
	Metadata  map[string]string `json:"metadata"`
}

func (c *common) printSummary(ctx context.Context, cmd *cobra.Command, r *ostree.Repo, f *summaryFlags) error {
	data, signature, err := r.ReadSummary(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		err = ui.Next(err, "okd-streams ostree summary --update writes it")
	}
	if err != nil {
		return err
	}
	s, err := ostree.DecodeSummary(data)
	if err != nil {
		return err
	}
	kinds, err := summarySignatures(signature)
	if err != nil {
		return err
	}
	if f.key != "" {
		value, ok := s.Lookup(f.key)
		if !ok {
			return ui.Next(fmt.Errorf("no metadata key %s", quoted(f.key)), "okd-streams ostree summary --list-metadata-keys lists what there is")
		}
		text, err := variantText(value, true)
		if err != nil {
			return err
		}
		return ui.Print(cmd, text, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, text)
			return err
		})
	}
	result := summaryJSON{Refs: []summaryRefJSON{}, Signatures: kinds, LastModified: jsonTime(s.LastModified())}
	if result.Metadata, err = metadataTexts(s.Metadata); err != nil {
		return err
	}
	for _, ref := range s.Refs {
		texts, err := metadataTexts(ref.Metadata)
		if err != nil {
			return err
		}
		result.Refs = append(result.Refs, summaryRefJSON{ref.Name, ref.Commit, jsonTime(ref.Timestamp()), texts})
	}
	return ui.Print(cmd, result, func(w io.Writer) error {
		switch {
		case f.list:
			keys := make([]string, len(s.Metadata))
			for i := range s.Metadata {
				keys[i] = s.Metadata[i].Key
			}
			slices.Sort(keys)
			_, err := io.WriteString(w, lines(append(keys, "")))
			return err
		case f.raw:
			text, err := variantText(ostree.Variant{Type: "(a(s(taya{sv}))a{sv})", Data: data}, true)
			fmt.Fprintln(w, text)
			return err
		}
		return writeSummary(w, s, signature != nil, kinds)
	})
}

// jsonTime is a time for programs; zero: "".
func jsonTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// metadataTexts is metadata in the text format of GVariant.
func metadataTexts(items []ostree.MetadataItem) (map[string]string, error) {
	texts := make(map[string]string, len(items))
	for _, item := range items {
		text, err := item.Value.Text(true)
		if err != nil {
			return nil, fmt.Errorf("metadata %s: %w", quoted(item.Key), err)
		}
		texts[item.Key] = text
	}
	return texts, nil
}

// summarySignatures gives the kind of each signature in a summary.sig.
func summarySignatures(signature []byte) ([]string, error) {
	kinds := []string{}
	if signature == nil {
		return kinds, nil
	}
	items, err := ostree.DecodeMetadata(signature)
	if err != nil {
		return nil, fmt.Errorf("summary.sig: %w", err)
	}
	for _, item := range items {
		text, err := item.Value.Text(false)
		if err != nil {
			return nil, fmt.Errorf("summary.sig: %w", err)
		}
		if item.Value.Type == "aay" && text != "[]" {
			kinds = append(kinds, item.Key)
		}
	}
	return kinds, nil
}

// writeSummary prints a summary as `ostree summary --view` does.
func writeSummary(w io.Writer, s *ostree.Summary, signed bool, kinds []string) error {
	var b strings.Builder
	for _, ref := range s.Refs {
		fmt.Fprintf(&b, "* %s\n    Latest Commit (%s):\n      %s\n", ref.Name, size(int64(ref.Size)), ref.Commit)
		for _, item := range ref.Metadata {
			if err := writeSummaryItem(&b, "    ", item); err != nil {
				return err
			}
		}
		b.WriteByte('\n')
	}
	for _, item := range s.Metadata {
		if err := writeSummaryItem(&b, "", item); err != nil {
			return err
		}
	}
	if !signed {
		b.WriteString("Summary is unsigned\n")
	} else if len(kinds) > 0 {
		fmt.Fprintf(&b, "\nFound %s on the summary: %s\n", ui.Count(len(kinds), "signature"), strings.Join(kinds, ", "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// summaryNames are the names that `ostree` has for keys.
var summaryNames = map[string]string{
	"ostree.commit.timestamp": "Timestamp", "ostree.commit.version": "Version", "ostree.static-deltas": "Static Deltas",
	"ostree.summary.last-modified": "Last-Modified", "ostree.summary.expires": "Expires", "ostree.summary.collection-id": "Collection ID",
	"ostree.summary.mode": "Repository Mode", "ostree.summary.tombstone-commits": "Has Tombstone Commits",
}

func writeSummaryItem(b *strings.Builder, indent string, item ostree.MetadataItem) error {
	name, ok := summaryNames[item.Key]
	text, err := item.Value.Text(false)
	if err != nil {
		return fmt.Errorf("metadata %s: %w", quoted(item.Key), err)
	}
	if !ok {
		fmt.Fprintf(b, "%s%s: %s\n", indent, item.Key, text)
		return nil
	}
	// Values of another type than they should have are shown as they are.
	if s, err := item.Value.AsString(); err == nil {
		text = s
	} else if yes, err := item.Value.AsBool(); err == nil {
		text = map[bool]string{true: "Yes", false: "No"}[yes]
	} else if swapped, err := item.Value.Swapped(); err == nil {
		if seconds, err := swapped.AsUint64(); err == nil && seconds < 1<<40 {
			text = time.Unix(int64(seconds), 0).Format("2006-01-02T15:04:05-07:00")
			text = strings.TrimSuffix(text, ":00") // the zone is as short as it can be
		}
	}
	fmt.Fprintf(b, "%s%s (%s): %s\n", indent, name, item.Key, text)
	return nil
}
