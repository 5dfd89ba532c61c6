package ostreecmd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
)

// commitJSON is a commit for programs.
type commitJSON struct {
	Checksum  ostree.Checksum   `json:"commit"`
	Parent    string            `json:"parent,omitempty"`
	Content   ostree.Checksum   `json:"contentChecksum"`
	Timestamp string            `json:"timestamp"`
	Version   string            `json:"version,omitempty"`
	Subject   string            `json:"subject,omitempty"`
	Body      string            `json:"body,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"` // in the text format of GVariant
}

func newCommitJSON(sum ostree.Checksum, commit *ostree.Commit) (commitJSON, error) {
	j := commitJSON{Checksum: sum, Content: commit.ContentChecksum(), Timestamp: commit.Timestamp.UTC().Format(time.RFC3339),
		Version: version(commit), Subject: commit.Subject, Body: commit.Body, Metadata: make(map[string]string)}
	if !commit.Parent.IsZero() {
		j.Parent = commit.Parent.String()
	}
	for _, item := range commit.Metadata {
		text, err := item.Value.Text(true)
		if err != nil {
			return j, fmt.Errorf("metadata %s: %w", quoted(item.Key), err)
		}
		j.Metadata[item.Key] = text
	}
	return j, nil
}

// version is what the commit says it is, or "".
func version(commit *ostree.Commit) string {
	v, _ := commit.Lookup("version")
	text, err := v.AsString()
	if err != nil { // of another type, or not there: `ostree` prints none either
		return ""
	}
	return text
}

// printCommit prints a commit as `ostree log` does.
func printCommit(w io.Writer, sum ostree.Checksum, commit *ostree.Commit) error {
	var b strings.Builder
	fmt.Fprintf(&b, "commit %s\n", sum)
	if !commit.Parent.IsZero() {
		fmt.Fprintf(&b, "Parent:  %s\n", commit.Parent)
	}
	fmt.Fprintf(&b, "ContentChecksum:  %s\n", commit.ContentChecksum())
	fmt.Fprintf(&b, "Date:  %s\n", commit.Timestamp.UTC().Format("2006-01-02 15:04:05 +0000"))
	if v := version(commit); v != "" {
		fmt.Fprintf(&b, "Version: %s\n", v)
	}
	if commit.Subject == "" {
		b.WriteString("(no subject)\n")
	} else {
		b.WriteByte('\n')
		indent(&b, commit.Subject)
	}
	if commit.Body != "" {
		b.WriteByte('\n')
		indent(&b, commit.Body)
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}

func indent(b *strings.Builder, text string) {
	for line := range strings.Lines(text) {
		b.WriteString("    " + strings.TrimSuffix(line, "\n") + "\n")
	}
}

// printRaw prints a metadata object in the text format of GVariant.
func printRaw(ctx context.Context, w io.Writer, r *ostree.Repo, kind ostree.ObjectType, sum ostree.Checksum, swap bool) error {
	data, err := r.Object(ctx, kind, sum)
	if err != nil {
		return err
	}
	types := map[ostree.ObjectType]string{ostree.TypeCommit: "(a{sv}aya(say)sstayay)", ostree.TypeDirTree: "(a(say)a(sayay))", ostree.TypeDirMeta: "(uuua(ayay))"}
	text, err := variantText(ostree.Variant{Type: types[kind], Data: data}, swap)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s %s\n%s\n", kind, sum, text)
	return err
}

// variantText is a value in the text format of GVariant, numbers read as
// big-endian if swap is set.
func variantText(v ostree.Variant, swap bool) (string, error) {
	if swap {
		var err error
		if v, err = v.Swapped(); err != nil {
			return "", err
		}
	}
	return v.Text(true)
}

func (c *common) log() *cobra.Command {
	var raw bool
	cmd := c.leaf("log REV", "Print a commit and its ancestors", 1, 1, func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			commit, err := resolve(ctx, r, args[0])
			if err != nil {
				return err
			}
			if c.output != ui.Text {
				list := []commitJSON{}
				for entry, err := range r.Log(ctx, commit) {
					if err != nil {
						return err
					}
					j, err := newCommitJSON(entry.Checksum, entry.Commit)
					if err != nil {
						return err
					}
					list = append(list, j)
				}
				return ui.Print(cmd, list, nil)
			}
			w := bufio.NewWriter(cmd.OutOrStdout())
			defer w.Flush()
			var last ostree.LogEntry
			for entry, err := range r.Log(ctx, commit) {
				if err == nil {
					last = entry
					if raw {
						err = printRaw(ctx, w, r, ostree.TypeCommit, entry.Checksum, true)
					} else {
						err = printCommit(w, entry.Checksum, entry.Commit)
					}
				}
				if err != nil {
					return err
				}
			}
			if !last.Parent.IsZero() {
				fmt.Fprintln(w, "<< History beyond this commit not fetched >>")
			}
			return w.Flush()
		})
	})
	cmd.Flags().BoolVar(&raw, "raw", false, "print the commit objects in the text format of GVariant")
	return cmd
}
