package payloadcmd

import (
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

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

func (c *common) unbundle() *cobra.Command {
	var sum, to, into string
	var keys []string
	cmd := c.leaf("unbundle REPOSITORY", "Unpack a bundle at a site without network: images to a registry, the rest to a folder", `

The bundle is --from=archive:PATH or folder:PATH. Everything in it is checked first,
the release's signature by --key. Into the folder also go the objects for clusters,
cluster/*: what sends them to the mirror, and the signature. It can be stopped and
run again.`, 1, 1, func(cmd *cobra.Command, args []string) error {
		site, err := name.NewRepository(args[0])
		if err != nil {
			return ui.Usagef("repository %q: %w", args[0], err)
		}
		if to == "" {
			return ui.Usagef("--to is required")
		}
		fsys, err := c.files()
		if err != nil {
			return ui.Next(fmt.Errorf("--from=%s: %w", c.from, err), "name the archive that okd-streams payload bundle wrote, or carry it over again")
		}
		if fsys == nil {
			return ui.Usagef("--from=%s: a bundle is archive:PATH or folder:PATH", c.from)
		}
		index, err := readBundle(fsys, sum)
		if err != nil {
			return err
		}
		src, err := payload.Folder(fsys)
		if err != nil {
			return err
		}
		carrier, err := name.NewRepository(bundleRepo)
		if err != nil {
			return err
		}
		r, err := payload.Open(cmd.Context(), src, carrier.Digest(index.Release), &payload.OpenOptions{Platform: c.platform()})
		if err != nil {
			return err
		}
		if r.Version() != index.Version {
			return fmt.Errorf("the release is %s, %s says %s", r.Version(), bundleFile, index.Version)
		}
		if err := c.verifyBundle(cmd, fsys, r, keys); err != nil {
			return err
		}
		copies, err := payload.Mirror(r, site, &payload.MirrorOptions{From: carrier})
		if err != nil {
			return err
		}
		var moves []publish.Copy
		for _, m := range copies {
			moves = append(moves, publish.Copy(m))
		}
		if index.Graph != "" {
			moves = append(moves, publish.Copy{From: carrier.Digest(index.Graph).Name(), To: site.Name(), Tags: []string{bundleGraph}})
		}
		target, err := c.registry(cmd, into)
		if err != nil {
			return err
		}
		if _, err := move(cmd.Context(), cmd.ErrOrStderr(), target, publish.ReadOnly(src), moves, false); err != nil {
			return err
		}
		for _, f := range index.Files {
			if err := f.unpack(fsys, to); err != nil {
				return err
			}
		}
		if err := clusterObjects(r, index, site, to); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s, %d files of the bundle and objects for clusters in %s\n", site.Digest(index.Release), index.Version, len(index.Files), to)
		return err
	})
	flags := cmd.Flags()
	flags.StringVar(&sum, "sha256", "", "`CHECKSUM` of bundle.json, as bundle printed it")
	flags.StringArrayVar(&keys, "key", nil, "`FILE` of public OpenPGP keys, one of which must have signed the release; may be repeated")
	flags.StringVar(&into, "into", "docker://", "where REPOSITORY is: docker://, dir:`PATH` or mirror:PATH")
	flags.StringVar(&to, "to", "", "`FOLDER` for all that are not images")
	return cmd
}

// readBundle reads bundle.json and checks all files that it lists.
func readBundle(fsys fs.FS, sum string) (*bundleIndex, error) {
	file, err := fsys.Open(bundleFile)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxBundle+1))
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if len(data) > maxBundle {
		return nil, fmt.Errorf("%s of more than %d bytes", bundleFile, maxBundle)
	}
	if digest := sha256.Sum256(data); sum != "" && !strings.EqualFold(sum, hex.EncodeToString(digest[:])) {
		return nil, fmt.Errorf("%s has the checksum %x, want %s: %w", bundleFile, digest, sum, payload.ErrDigest)
	}
	index := &bundleIndex{}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(index); err != nil {
		return nil, fmt.Errorf("%s: %w", bundleFile, err)
	}
	if index.Schema != 1 {
		return nil, fmt.Errorf("%s has schema %d: %w", bundleFile, index.Schema, errors.ErrUnsupported)
	}
	if _, err := v1.NewHash(index.Release); err != nil {
		return nil, fmt.Errorf("%s: release: %w", bundleFile, err)
	}
	if _, err := v1.NewHash(index.Graph); err != nil && index.Graph != "" {
		return nil, fmt.Errorf("%s: graph: %w", bundleFile, err)
	}
	if _, err := name.NewRepository(index.Source); err != nil {
		return nil, fmt.Errorf("%s: source: %w", bundleFile, err)
	}
	for _, f := range index.Files {
		top, _, below := strings.Cut(f.Path, "/")
		if !below || !fs.ValidPath(f.Path) || strings.Contains(f.Path, `\`) || !slices.Contains(bundleFolders, top) {
			return nil, fmt.Errorf("%s: path %.300q: %w", bundleFile, f.Path, fs.ErrInvalid)
		}
		if err := f.copy(fsys, io.Discard); err != nil {
			return nil, err
		}
	}
	return index, nil
}

// copy reads the file, which must be as bundle.json says.
func (f bundleIndexFile) copy(fsys fs.FS, w io.Writer) error {
	file, err := fsys.Open(f.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != f.Size {
		return fmt.Errorf("%s is no file of %d bytes: %w", f.Path, f.Size, payload.ErrDigest)
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(file, f.Size+1))
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); n != f.Size || got != f.SHA256 {
		return fmt.Errorf("%s has the checksum %s, want %s: %w", f.Path, got, f.SHA256, payload.ErrDigest)
	}
	return nil
}

// unpack writes the file, whole or not at all.
func (f bundleIndexFile) unpack(fsys fs.FS, to string) (err error) {
	dir := filepath.Join(to, filepath.FromSlash(path.Dir(f.Path)))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	name := path.Base(f.Path)
	out, err := root.Create("." + name + ".part")
	if err != nil {
		return err
	}
	if err := errors.Join(f.copy(fsys, out), out.Close()); err != nil {
		return errors.Join(err, root.Remove("."+name+".part"))
	}
	return root.Rename("."+name+".part", name)
}

// verifyBundle checks the signature of the release, which lies in the bundle.
func (c *common) verifyBundle(cmd *cobra.Command, fsys fs.FS, r *payload.Release, keys []string) error {
	if len(keys) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning: without --key it is not checked who signed the release")
		return nil
	}
	store, err := payload.MirrorSignatures(fsys)
	if err != nil {
		return err
	}
	at, err := ui.BuildTime()
	if err != nil {
		return err
	}
	p := &payload.Policy{Keyrings: map[string]*payload.Keyring{}, Stores: []payload.SignatureStore{store}, AnyIdentity: true}
	for _, file := range keys {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if p.Keyrings[file], err = pgpsigner.ParseKeyring(data); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	_, err = p.Verify(cmd.Context(), r.Pullspec(), at)
	return err
}

// clusterObjects writes what an installer and clusters are given to find the
// mirror: for the repositories that the payload names, and the release's own.
func clusterObjects(r *payload.Release, index *bundleIndex, site name.Repository, to string) error {
	copies, err := payload.Mirror(r, site, &payload.MirrorOptions{SkipRelease: true})
	if err != nil {
		return err
	}
	copies = append(copies, payload.Copy{From: index.Source + "@" + index.Release, To: site.Name()})
	sets, err := payload.MirrorSets(copies, "okd-release")
	if err != nil {
		return err
	}
	dir := filepath.Join(to, "cluster")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for file, data := range map[string][]byte{"install-config.yaml": sets.InstallConfig, "digest-mirrors.yaml": sets.DigestMirrorSet, "tag-mirrors.yaml": sets.TagMirrorSet} {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
