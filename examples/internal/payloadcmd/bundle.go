package payloadcmd

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/ocregistry"
)

// A bundle is a folder, or a tar archive of it:
//
//	v2/           the images, as oc has them in folders
//	config/       the release's signatures
//	tools/        client tools with sha256sum.txt
//	boot-images/  boot images, and the ConfigMap that names them
//	graph-data/   the data of the update graph
//	bundle.json   what the release is, and the checksums of all files but images,
//	              which are known by their digests; it comes last
const (
	bundleFile  = "bundle.json"
	bundleRepo  = "localhost/openshift/release"
	bundleGraph = "graph-data" // folder, and tag of an image
	maxBundle   = 16 << 20     // bytes of bundle.json
)

// bundleFolders are those whose files bundle.json lists.
var bundleFolders = []string{"boot-images", "config", bundleGraph, "tools"}

// bundleIndex is bundle.json.
type bundleIndex struct {
	Schema  int               `json:"schema"` // 1
	Version string            `json:"version"`
	Release string            `json:"release"`         // digest, of the index if there is one
	Source  string            `json:"source"`          // repository that the release was in
	Graph   string            `json:"graph,omitempty"` // digest of an image with graph data
	Files   []bundleIndexFile `json:"files"`           // by path
}

type bundleIndexFile struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// bundling is what goes into a bundle.
type bundling struct {
	dir, archive         string
	graphDir, graphImage string
	stores               []string
	tools                bool
	systems, commands    []string
	boot                 bool
	find                 bootimage.FindOptions
}

func (c *common) bundle() *cobra.Command {
	var b bundling
	cmd := c.leaf("bundle RELEASE", "Put all that a site without network needs into one folder or archive", `

That is the release with its components and signatures, and where asked for the
client tools, boot images and the data of the update graph. It can be stopped and
run again with the same folder: what is there is not fetched again. Take the
archive there, and the checksum that is printed, and use unbundle.`, 1, 1, func(cmd *cobra.Command, args []string) error {
		if b.dir == "" {
			return ui.Usagef("--to is required")
		}
		r, src, err := c.release(cmd, args[0])
		if err != nil {
			return err
		}
		if src == nil {
			return ui.Usagef("an unpacked payload has no images to read")
		}
		if err := os.MkdirAll(b.dir, 0o755); err != nil {
			return err
		}
		index := &bundleIndex{Schema: 1, Version: r.Version(), Release: r.Pullspec().DigestStr(), Source: r.Ref.Context().Name()}
		for _, step := range []func() error{
			func() error { return b.images(c, cmd, r, src, index) },
			func() error { return c.mirrorSignatures(cmd, r, b.stores, "mirror:"+b.dir) },
			func() error { return b.clients(c, cmd, r, src) },
			func() error { return b.bootImages(cmd, r) },
			b.graph,
		} {
			if err := step(); err != nil {
				return err
			}
		}
		sum, err := index.write(b.dir)
		if err == nil && b.archive != "" {
			err = packBundle(b.dir, b.archive)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s  %s\n", sum, bundleFile)
		return err
	})
	flags := cmd.Flags()
	flags.StringVar(&b.dir, "to", "", "`FOLDER` of the bundle")
	flags.StringVar(&b.archive, "archive", "", "also pack it into `FILE`, a tar archive")
	flags.StringArrayVar(&b.stores, "store", nil, "signature store, as of verify, to take the release's signatures from; may be repeated")
	flags.BoolVar(&b.tools, "tools", false, "with the client tools")
	flags.StringArrayVar(&b.systems, "os", nil, "tools for `SYSTEM[/ARCHITECTURE]`; may be repeated (default: all)")
	flags.StringArrayVar(&b.commands, "command", nil, "tool `NAME`; may be repeated (default: all)")
	flags.BoolVar(&b.boot, "boot-images", false, "with the boot images that the release names, those that the next three choose")
	flags.StringVar(&b.find.Arch, "boot-arch", "", "`ARCHITECTURE` of boot images (default: all)")
	flags.StringVar(&b.find.Platform, "platform", "", "`PLATFORM` of boot images, as metal or vsphere (default: all)")
	flags.StringVar(&b.find.Format, "format", "", "`FORMAT` of boot images, as iso or raw.xz (default: all)")
	flags.StringVar(&b.graphDir, "graph-data", "", "`FOLDER` with the data of the update graph")
	flags.StringVar(&b.graphImage, "graph-image", "", "`PULLSPEC` of an image with that data")
	return cmd
}

// images mirrors the release and its components.
func (b *bundling) images(c *common, cmd *cobra.Command, r *payload.Release, src payload.Images, index *bundleIndex) error {
	to, err := name.NewRepository(bundleRepo)
	if err != nil {
		return err
	}
	copies, err := payload.Mirror(r, to, nil)
	if err != nil {
		return err
	}
	moves := make([]publish.Copy, len(copies))
	for i, m := range copies {
		moves[i] = publish.Copy(m)
	}
	if b.graphImage != "" {
		ref, err := c.reference(b.graphImage)
		if err != nil {
			return err
		}
		moves = append(moves, publish.Copy{From: ref.Name(), To: bundleRepo, Tags: []string{bundleGraph}})
	}
	folder, err := ocregistry.Open(cmd.Context(), b.dir, nil)
	if err != nil {
		return err
	}
	done, err := move(cmd.Context(), cmd.ErrOrStderr(), folder, source(src), moves, false)
	if err == nil && b.graphImage != "" {
		index.Graph = done.Copies[len(moves)-1].Digest.String()
	}
	return err
}

// clients extracts the client tools, unless they are there.
func (b *bundling) clients(c *common, cmd *cobra.Command, r *payload.Release, src payload.Images) error {
	if !b.tools && len(b.systems)+len(b.commands) == 0 {
		return nil
	}
	dir := filepath.Join(b.dir, "tools")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	_, err := r.Tools(cmd.Context(), src, dir, &payload.ToolsOptions{OS: b.systems, Commands: b.commands, Platform: c.platform()})
	return err
}

// bootImages downloads the boot images that the release names.
func (b *bundling) bootImages(cmd *cobra.Command, r *payload.Release) error {
	if !b.boot {
		return nil
	}
	data, err := r.File(bootimage.ConfigMapManifest)
	if err != nil {
		return err
	}
	origin, err := bootimage.ReadOrigin(bytes.NewReader(data), nil)
	if err != nil {
		return err
	}
	found, err := bootimage.Find(cmd.Context(), origin.Entries, &b.find)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "boot-images")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	urls := map[string]string{}
	for _, f := range found {
		if f.File == "" {
			continue // an image in a cloud
		}
		file := path.Base(f.URL)
		if other, ok := urls[file]; ok && other != f.URL {
			return fmt.Errorf("%s and %s would be the same file", other, f.URL)
		}
		urls[file] = f.URL
		progress := ui.NewProgress(cmd.ErrOrStderr(), time.Now, false)
		_, err := bootimage.Download(cmd.Context(), root, file, f.Entry, &bootimage.DownloadOptions{
			Progress: func(n, total int64) { progress.Update(file, "", n, total, true) },
		})
		progress.Done()
		if err != nil {
			return err
		}
	}
	return root.WriteFile(bootimage.ConfigMapManifest, data, 0o644)
}

// graph copies the data of the update graph, after it was read.
func (b *bundling) graph() error {
	if b.graphDir == "" {
		return nil
	}
	from, err := os.OpenRoot(b.graphDir)
	if err != nil {
		return err
	}
	defer from.Close()
	if _, err := graph.ReadData(from.FS(), nil); err != nil {
		return err
	}
	return fs.WalkDir(from.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == ".git":
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(b.dir, bundleGraph, filepath.FromSlash(p)), 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		data, err := from.ReadFile(p)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(b.dir, bundleGraph, filepath.FromSlash(p)), data, 0o644)
	})
}

// write sums up the files and writes bundle.json, whose checksum it gives.
func (x *bundleIndex) write(dir string) (sum string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	x.Files = []bundleIndexFile{}
	for _, folder := range bundleFolders {
		err := fs.WalkDir(root.FS(), folder, func(p string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && p == folder {
				return nil
			}
			if err != nil || !d.Type().IsRegular() || strings.HasPrefix(d.Name(), ".") {
				return err
			}
			file, err := root.Open(p)
			if err != nil {
				return err
			}
			defer file.Close()
			h := sha256.New()
			n, err := io.Copy(h, file)
			x.Files = append(x.Files, bundleIndexFile{Path: p, Size: n, SHA256: hex.EncodeToString(h.Sum(nil))})
			return err
		})
		if err != nil {
			return "", err
		}
	}
	slices.SortFunc(x.Files, func(a, b bundleIndexFile) int { return strings.Compare(a.Path, b.Path) })
	data, err := json.MarshalIndent(x, "", "  ")
	if err != nil {
		return "", err
	}
	data = append(data, '\n')
	if len(data) > maxBundle {
		return "", fmt.Errorf("%s of %d bytes, limit %d", bundleFile, len(data), maxBundle)
	}
	if err := root.WriteFile("."+bundleFile, data, 0o644); err != nil {
		return "", err
	}
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:]), root.Rename("."+bundleFile, bundleFile)
}

// packBundle writes a folder to a tar archive, whole or not at all: bundle.json
// first, without times and owners, so that the same bundle is the same archive.
func packBundle(dir, archive string) error {
	file, err := os.Create(archive + ".part")
	if err != nil {
		return err
	}
	err = packFolder(dir, file)
	if err := errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(archive+".part"))
	}
	return os.Rename(archive+".part", archive)
}

func packFolder(dir string, w io.Writer) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	tw := tar.NewWriter(w)
	for _, top := range append([]string{bundleFile, "v2"}, bundleFolders...) {
		err := fs.WalkDir(root.FS(), top, func(p string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && p == top {
				return nil
			}
			if err != nil || strings.HasPrefix(d.Name(), ".") || strings.Contains(d.Name(), ".download-") {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			hdr := &tar.Header{Name: p, Mode: 0o644}
			switch {
			case d.IsDir():
				hdr.Typeflag, hdr.Name, hdr.Mode = tar.TypeDir, p+"/", 0o755
			case d.Type() == fs.ModeSymlink:
				hdr.Typeflag = tar.TypeSymlink
				if hdr.Linkname, err = root.Readlink(p); err != nil {
					return err
				}
			case d.Type().IsRegular():
				hdr.Typeflag, hdr.Size = tar.TypeReg, info.Size()
			default:
				return fmt.Errorf("%s: not a file: %w", p, errors.ErrUnsupported)
			}
			if err := tw.WriteHeader(hdr); err != nil || hdr.Typeflag != tar.TypeReg {
				return err
			}
			file, err := root.Open(p)
			if err != nil {
				return err
			}
			_, err = io.Copy(tw, file)
			return errors.Join(err, file.Close())
		})
		if err != nil {
			return err
		}
	}
	return tw.Close()
}
