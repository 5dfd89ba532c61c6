package ostreecmd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
)

func (c *common) show() *cobra.Command {
	var f showFlags
	cmd := c.leaf("show OBJECT", "Print a commit or another object", 1, 1, func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			switch {
			case f.key != "" && f.detachedKey != "", f.list && f.listDetached:
				return ui.Usagef("either metadata or detached metadata, not both")
			case f.key != "" || f.detachedKey != "":
				return c.showKey(ctx, cmd, r, args[0], &f)
			case f.list || f.listDetached:
				return c.showKeys(ctx, cmd, r, args[0], &f)
			case f.related:
				_, err := resolve(ctx, r, args[0]) // related commits are none: nothing reads or writes them
				return err
			}
			return c.showObject(ctx, cmd, r, args[0], &f)
		})
	})
	flags := cmd.Flags()
	flags.StringVar(&f.key, "print-metadata-key", "", "print the value of `KEY` of the commit's metadata")
	flags.StringVar(&f.detachedKey, "print-detached-metadata-key", "", "print the value of `KEY` of the commit's detached metadata")
	flags.BoolVar(&f.list, "list-metadata-keys", false, "print the keys of the commit's metadata")
	flags.BoolVar(&f.listDetached, "list-detached-metadata-keys", false, "print the keys of the commit's detached metadata")
	flags.BoolVar(&f.related, "print-related", false, "print the related commits, of which there are none")
	flags.BoolVar(&f.raw, "raw", false, "print the object in the text format of GVariant")
	flags.BoolVar(&f.hex, "print-hex", false, "print the bytes of a value in hexadecimal")
	flags.BoolVarP(&f.noSwap, "no-byteswap", "B", false, "read numbers as little-endian: those of metadata, but for ostree's own, are")
	refuse(cmd, "okd-streams ostree show OBJECT finds out the type", "print-variant-type=")
	refuse(cmd, "sizes are neither written nor read", "print-sizes")
	refuse(cmd, "okd-streams ostree sign --verify --sign-type=gpg --keys-file=KEYRING checks signatures", "gpg-homedir=", "gpg-verify-remote=")
	return cmd
}

type showFlags struct {
	key, detachedKey          string
	list, listDetached        bool
	related, raw, hex, noSwap bool
}

// metadata gives the metadata of a commit, or the detached.
func metadata(ctx context.Context, r *ostree.Repo, rev string, detached bool) ([]ostree.MetadataItem, error) {
	sum, commit, err := readCommit(ctx, r, rev)
	if err != nil || !detached {
		if err != nil {
			return nil, err
		}
		return commit.Metadata, nil
	}
	items, err := r.ReadMetadata(ctx, sum)
	if errors.Is(err, fs.ErrNotExist) {
		err = ui.Next(fmt.Errorf("commit %s has no detached metadata: %w", sum, fs.ErrNotExist), "what is part of the commit is printed by --print-metadata-key")
	}
	return items, err
}

func (c *common) showKey(ctx context.Context, cmd *cobra.Command, r *ostree.Repo, rev string, f *showFlags) error {
	key := f.key + f.detachedKey
	items, err := metadata(ctx, r, rev, f.detachedKey != "")
	if err != nil {
		return err
	}
	i := slices.IndexFunc(items, func(item ostree.MetadataItem) bool { return item.Key == key })
	if i < 0 {
		flag := "--list-metadata-keys"
		if f.detachedKey != "" {
			flag = "--list-detached-metadata-keys"
		}
		return ui.Next(fmt.Errorf("no metadata key %s", quoted(key)), "okd-streams ostree show "+flag+" lists what there is")
	}
	value := items[i].Value
	text, err := variantText(value, !f.noSwap)
	if err != nil {
		return err
	}
	if data, err := value.AsBytes(); err == nil && f.hex {
		text = hex.EncodeToString(data)
	}
	return ui.Print(cmd, struct {
		Key   string `json:"key"`
		Type  string `json:"type"`
		Value string `json:"value"` // as printed
	}{key, value.Type, text}, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, text)
		return err
	})
}

func (c *common) showKeys(ctx context.Context, cmd *cobra.Command, r *ostree.Repo, rev string, f *showFlags) error {
	items, err := metadata(ctx, r, rev, f.listDetached)
	if err != nil {
		return err
	}
	keys := make([]string, len(items))
	for i := range items {
		keys[i] = items[i].Key
	}
	slices.Sort(keys)
	return ui.Print(cmd, keys, func(w io.Writer) error {
		for _, key := range keys {
			fmt.Fprintln(w, key)
		}
		return nil
	})
}

func (c *common) showObject(ctx context.Context, cmd *cobra.Command, r *ostree.Repo, name string, f *showFlags) error {
	sum, err := ostree.ParseChecksum(name)
	if err != nil { // no checksum: something that leads to a commit
		if sum, err = resolve(ctx, r, name); err != nil {
			return err
		}
		return c.showMetadata(ctx, cmd, r, ostree.TypeCommit, sum, f)
	}
	for _, kind := range []ostree.ObjectType{ostree.TypeCommit, ostree.TypeDirMeta, ostree.TypeDirTree} {
		ok, err := r.Has(ctx, kind, sum)
		if err != nil {
			return err
		}
		if ok {
			return c.showMetadata(ctx, cmd, r, kind, sum, f)
		}
	}
	n, err := (&lister{ctx: ctx, repo: r}).file("", sum)
	if errors.Is(err, fs.ErrNotExist) {
		return ui.Next(fmt.Errorf("the repository has no object %s: %w", sum, fs.ErrNotExist), "okd-streams ostree ls --checksum lists the objects of a commit")
	}
	if err != nil {
		return err
	}
	return ui.Print(cmd, struct {
		Type string `json:"object"`
		nodeJSON
	}{"file", n.json()}, func(w io.Writer) error {
		var b strings.Builder
		fmt.Fprintf(&b, "Object: %s\nType: file\nFile Type: %s\n", sum, typeName(n.Mode))
		if n.Mode&ostree.ModeType == ostree.ModeSymlink {
			fmt.Fprintf(&b, "Target: %s\n", n.Target)
		} else {
			fmt.Fprintf(&b, "Size: %d\n", n.Size)
		}
		text, err := xattrText(n.Xattrs)
		fmt.Fprintf(&b, "Mode: 0%04o\nUid: %d\nGid: %d\nExtended Attributes: %s\n", n.Mode, n.UID, n.GID, text)
		if err == nil {
			_, err = io.WriteString(w, b.String())
		}
		return err
	})
}

// showMetadata prints a metadata object, a commit with its signatures.
func (c *common) showMetadata(ctx context.Context, cmd *cobra.Command, r *ostree.Repo, kind ostree.ObjectType, sum ostree.Checksum, f *showFlags) error {
	result := struct {
		Type       string          `json:"object"`
		Checksum   ostree.Checksum `json:"checksum"`
		Commit     *commitJSON     `json:"commit,omitempty"`
		Signatures []signatureJSON `json:"signatures,omitempty"`
	}{Type: kind.String(), Checksum: sum}
	var commit *ostree.Commit
	if kind == ostree.TypeCommit {
		var err error
		if commit, err = r.ReadCommit(ctx, sum); err != nil {
			return err
		}
		if result.Signatures, err = signatures(ctx, r, sum); err != nil {
			return err
		}
		if c.output != ui.Text {
			j, err := newCommitJSON(sum, commit)
			if err != nil {
				return err
			}
			result.Commit = &j
		}
	}
	return ui.Print(cmd, result, func(w io.Writer) error {
		var err error
		switch {
		case f.raw || f.noSwap:
			err = printRaw(ctx, w, r, kind, sum, !f.noSwap)
			if err == nil && f.noSwap && commit != nil { // `ostree` goes on with the commit's text
				var text strings.Builder
				err = printCommit(&text, sum, commit)
				_, rest, _ := strings.Cut(text.String(), "\n")
				fmt.Fprint(w, rest)
			}
		case commit != nil:
			err = printCommit(w, sum, commit)
		default:
			_, err = fmt.Fprintf(w, "%s %s\n", kind, sum)
		}
		if err == nil && len(result.Signatures) > 0 {
			err = printSignatures(w, result.Signatures)
		}
		return err
	})
}

// signatureJSON is a signature for programs; what it says of itself is not
// checked.
type signatureJSON struct {
	Kind    string `json:"kind"`
	KeyID   string `json:"keyID,omitempty"`
	Created string `json:"created,omitempty"`
	Expires string `json:"expires,omitempty"`
}

func signatures(ctx context.Context, r *ostree.Repo, sum ostree.Checksum) ([]signatureJSON, error) {
	list, err := r.Signatures(ctx, sum)
	var out []signatureJSON
	for _, s := range list {
		out = append(out, signatureJSON{string(s.Kind), s.KeyID, jsonTime(s.Created), jsonTime(s.Expires)})
	}
	return out, err
}

// printSignatures prints what signatures say of themselves. `ostree` looks for
// the keys of this machine to check OpenPGP's; that is sign --verify here.
func printSignatures(w io.Writer, list []signatureJSON) error {
	if _, err := fmt.Fprintf(w, "Found %s:\n", ui.Count(len(list), "signature")); err != nil {
		return err
	}
	for _, s := range list {
		text := "\n  " + s.Kind
		if s.KeyID != "" {
			text += ", key ID " + s.KeyID
		}
		if s.Created != "" {
			text += ", made " + s.Created
		}
		if s.Expires != "" {
			text += ", expires " + s.Expires
		}
		if _, err := fmt.Fprintln(w, text+"\n  Not checked: see sign --verify"); err != nil {
			return err
		}
	}
	return nil
}
