package bootimagecmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/examples/internal/ui"
)

// got is a file that was downloaded.
type got struct {
	Path     string   `json:"path"`
	Size     int64    `json:"size"` // bytes
	SHA256   string   `json:"sha256"`
	SignedBy []string `json:"signedBy,omitempty"`
	Fetched  int64    `json:"fetched"` // bytes that were moved now
}

func printGot(w io.Writer, output string, all []got) error {
	if output != ui.Text {
		return ui.Write(w, output, all, nil)
	}
	var rows [][]string
	for _, g := range all {
		rows = append(rows, []string{g.Path, ui.Size(g.Size), "sha256:" + g.SHA256})
	}
	return ui.Table(w, rows)
}

// progress shows a download until done is called.
func progress(cmd *cobra.Command, name string, quiet bool) (show func(done, total int64), done func()) {
	p := ui.NewProgress(cmd.ErrOrStderr(), time.Now, quiet)
	return func(n, total int64) { p.Update(name, "", n, total, true) }, p.Done
}

func (c *common) download() *cobra.Command {
	var find bootimage.FindOptions
	var keys, mirrors []string
	var dir, cache string
	var decompress, offline, quiet, payloadISO bool
	cmd := c.leaf("download [FLAGS] DOCUMENT", "Download boot images, verified", `
What was stopped goes on. Nothing has a file's name before it is verified.
`, 1, func(cmd *cobra.Command, args []string) error {
		doc, err := c.open(cmd, args[0])
		if err != nil {
			return err
		}
		chosen, err := bootimage.Find(cmd.Context(), doc.Entries, &find)
		if err != nil {
			return err
		}
		if payloadISO {
			if doc.iso == nil {
				return ui.Usagef("--payload-iso: %s is no release payload with the component %s", args[0], bootimage.ISOComponent)
			}
			all, err := doc.iso.download(cmd, dir, chosen, quiet)
			if err != nil {
				return err
			}
			return printGot(cmd.OutOrStdout(), c.output, all)
		}
		o := bootimage.CacheOptions{Offline: offline, DownloadOptions: bootimage.DownloadOptions{Decompress: decompress, Now: time.Now()}}
		if o.Keys, err = readKeys(keys); err != nil {
			return err
		}
		var all []got
		for _, f := range chosen {
			if f.File == "" {
				continue
			}
			o.Mirrors = nil
			for _, base := range mirrors {
				o.Mirrors = append(o.Mirrors, strings.TrimSuffix(base, "/")+"/"+path.Base(f.URL))
			}
			name := path.Base(f.URL)
			if decompress {
				for _, ext := range []string{".gz", ".xz", ".zst"} {
					name = strings.TrimSuffix(name, ext)
				}
			}
			show, done := progress(cmd, name, quiet)
			o.Progress = show
			g, err := get(cmd.Context(), dir, cache, name, f.Entry, &o)
			done()
			if err != nil {
				return err
			}
			all = append(all, *g)
		}
		if len(all) == 0 {
			return ui.Next(ui.Usagef("what is chosen are images in clouds, no files"), "okd-streams bootimage find DOCUMENT lists all that a document names")
		}
		return printGot(cmd.OutOrStdout(), c.output, all)
	})
	choice(cmd, &find)
	flags := cmd.Flags()
	flags.StringVar(&dir, "dir", ".", "`FOLDER` that files go to")
	flags.StringVar(&cache, "cache", "", "`FOLDER` that keeps downloads by checksum")
	flags.StringArrayVar(&mirrors, "mirror", nil, "`URL` of a folder with copies of the files; may be repeated")
	flags.StringArrayVar(&keys, "key", nil, "`FILE` of OpenPGP public keys, one of which must have signed each file; may be repeated")
	flags.BoolVar(&decompress, "decompress", false, "write the content of compressed files")
	flags.BoolVar(&offline, "offline", false, "ask no server: take files from --cache")
	flags.BoolVar(&payloadISO, "payload-iso", false, "take live ISOs from inside the release payload, from nowhere but its registry")
	flags.BoolVarP(&quiet, "quiet", "q", false, "no progress")
	return cmd
}

func readKeys(files []string) (keys [][]byte, err error) {
	for _, file := range files {
		key, err := os.ReadFile(file)
		if err != nil {
			return nil, ui.Next(err, "give a file of public keys, as gpg --export writes it")
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// get downloads one file, by the cache if there is one.
func get(ctx context.Context, dir, cache, name string, e bootimage.Entry, o *bootimage.CacheOptions) (g *got, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, ui.Next(err, "make the folder, or name another with --dir")
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	var done *bootimage.Downloaded
	switch {
	case cache == "" && o.Offline:
		return nil, ui.Usagef("--offline takes files from a --cache")
	case cache == "":
		done, err = bootimage.Download(ctx, root, name, e, &o.DownloadOptions)
	default:
		done, err = getCached(ctx, root, cache, name, e, o)
	}
	if err != nil {
		return nil, err
	}
	g = &got{Path: path.Join(dir, name), Size: done.Size, SHA256: done.SHA256, SignedBy: done.SignedBy, Fetched: done.Fetched}
	if o.Decompress {
		g.Size, g.SHA256 = done.ContentSize, done.ContentSHA256
	}
	return g, nil
}

func getCached(ctx context.Context, dst *os.Root, cache, name string, e bootimage.Entry, o *bootimage.CacheOptions) (done *bootimage.Downloaded, err error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(cache)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	file, done, err := bootimage.NewCache(root).Open(ctx, e, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	// Not under its name before all of it is there.
	temp := "." + name + ".copy"
	out, err := dst.Create(temp)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(out, file)
	if err := errors.Join(err, out.Close()); err != nil {
		return nil, err
	}
	return done, dst.Rename(temp, name)
}

func (c *common) mirror() *cobra.Command {
	var o bootimage.MirrorOptions
	var dir string
	var keyFiles []string
	var quiet bool
	cmd := c.leaf("mirror [FLAGS] STREAM", "Copy the files of a stream, with their signatures, and write metadata that names the copies", `
The metadata is written last, as NAME.json beside the files: coreos-installer finds it
with --stream-base-url. STREAM is stream metadata.

Files are verified by their checksums. With --key each must also have a good signature,
and without one nothing is copied; else signatures are copied as they are, unverified.
`, 1, func(cmd *cobra.Command, args []string) error {
		data, _, err := c.read(cmd, args[0])
		if err != nil {
			return err
		}
		d, err := bootimage.DecodeStream(bytes.NewReader(data))
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		if o.BaseURL == "" {
			return ui.Usagef("--url is not given: where readers will find the copies")
		}
		keys, err := readKeys(keyFiles)
		if err != nil {
			return err
		}
		m, err := bootimage.MirrorStream(d, &o)
		if err != nil {
			return err
		}
		signatures, err := signaturesOf(m.Copies, len(keys) > 0)
		if err != nil {
			return err
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			return ui.Next(err, "make the folder, or name another with --dir")
		}
		defer root.Close()
		if len(keys) == 0 && len(signatures) > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "signatures: %d, copied as they are; there is no --key to verify them by\n", len(signatures))
		}
		var all []got
		for _, file := range m.Copies {
			show, done := progress(cmd, path.Base(file.Key), quiet)
			dl := bootimage.DownloadOptions{Unverified: file.Signature, Progress: show}
			if !file.Signature {
				dl.Keys, dl.Now = keys, time.Now()
			}
			g, err := mirrorFile(cmd.Context(), root, file, signatures[file.Key], &dl)
			done()
			if err != nil {
				return err
			}
			g.Path = path.Join(dir, file.Key)
			all = append(all, *g)
		}
		name := m.Document.Value().Stream + ".json"
		if path.Base(name) != name {
			return fmt.Errorf("%q is not the name of a stream", m.Document.Value().Stream)
		}
		if err := root.WriteFile("."+name, m.Document.Bytes(), 0o644); err != nil {
			return err
		}
		if err := root.Rename("."+name, name); err != nil {
			return err
		}
		return printGot(cmd.OutOrStdout(), c.output, all)
	})
	flags := cmd.Flags()
	flags.StringVar(&o.BaseURL, "url", "", "`URL` where readers will find the copies")
	flags.StringVar(&dir, "dir", ".", "`FOLDER` that the copies go to")
	flags.StringArrayVar(&keyFiles, "key", nil, "`FILE` of OpenPGP public keys, one of which must have signed each file; may be repeated (default: signatures are not verified)")
	flags.BoolVar(&o.Flat, "flat", false, "all files side by side")
	flags.BoolVar(&o.DropImages, "drop-images", false, "leave out images in clouds")
	flags.StringArrayVar(&o.Arches, "arch", nil, "`ARCHITECTURE` to copy; may be repeated (default: all)")
	flags.StringArrayVar(&o.Platforms, "platform", nil, "`PLATFORM` to copy; may be repeated (default: all)")
	flags.StringArrayVar(&o.Formats, "format", nil, "`FORMAT` to copy; may be repeated (default: all)")
	flags.BoolVarP(&quiet, "quiet", "q", false, "no progress")
	return cmd
}

// signaturesOf are the addresses of signatures, by the files that they are of. Where all
// files must have one it is an error if one has none.
func signaturesOf(copies []bootimage.MirrorCopy, all bool) (map[string]string, error) {
	signatures := make(map[string]string)
	for _, file := range copies {
		if file.Signature {
			signatures[strings.TrimSuffix(file.Key, ".sig")] = file.From
		}
	}
	for _, file := range copies {
		if !file.Signature && signatures[file.Key] == "" && all {
			return nil, ui.Next(&ui.VerificationError{Err: fmt.Errorf("%s: the stream names no signature of it", file.Key)}, "leave --key out to copy it by its checksum alone")
		}
	}
	return signatures, nil
}

func mirrorFile(ctx context.Context, root *os.Root, file bootimage.MirrorCopy, signature string, o *bootimage.DownloadOptions) (g *got, err error) {
	folder := path.Dir(file.Key)
	if err := root.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	sub, err := root.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sub.Close()) }()
	done, err := bootimage.Download(ctx, sub, path.Base(file.Key), bootimage.Entry{URL: file.From, SHA256: file.SHA256, Signature: signature}, o)
	if err != nil {
		return nil, err
	}
	return &got{Size: done.Size, SHA256: done.SHA256, SignedBy: done.SignedBy, Fetched: done.Fetched}, nil
}
