package payloadcmd

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish"
)

func (c *common) mirror() *cobra.Command {
	var o payload.MirrorOptions
	var into, release, components string
	var stores []string
	var plan bool
	cmd := c.leaf("mirror RELEASE REPOSITORY", "Copy a release and its components, with cosign's signatures, and print what sends clusters there", `

Images keep their digests. It can be stopped and run again: what has arrived is
not moved again. With --into=mirror:PATH they go into the folder that oc adm
release mirror --to-dir writes; packed by tar it is an archive: to read from.
There --components says which repository of the folder has the components.`, 2, 2, func(cmd *cobra.Command, args []string) error {
		r, src, err := c.release(cmd, args[0])
		if err != nil {
			return err
		}
		to, err := name.NewRepository(args[1])
		if err != nil {
			return ui.Usagef("repository %q: %w", args[1], err)
		}
		if release != "" {
			if o.Release, err = name.NewRepository(release); err != nil {
				return ui.Usagef("--release-to: %w", err)
			}
		}
		if components != "" {
			if o.From, err = name.NewRepository(components); err != nil {
				return ui.Usagef("--components: %w", err)
			}
		}
		copies, err := payload.Mirror(r, to, &o)
		if err != nil {
			return err
		}
		moves := make([]publish.Copy, len(copies))
		for i, m := range copies {
			moves[i] = publish.Copy(m)
		}
		if plan {
			format := ui.Format(cmd)
			if format == ui.Text { // it never was another
				format = ui.JSONFormat
			}
			return ui.Write(cmd.OutOrStdout(), format, moves, nil)
		}
		if src == nil {
			return ui.Usagef("an unpacked payload has no images to read")
		}
		target, err := c.registry(cmd, into)
		if err != nil {
			return err
		}
		if _, err := move(cmd.Context(), cmd.ErrOrStderr(), target, source(src), moves, false); err != nil {
			return err
		}
		setMirrored(cmd, r, to, &o)
		sets, err := payload.MirrorSets(copies, "")
		if err != nil {
			return err
		}
		if err := c.mirrorSignatures(cmd, r, stores, into); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "# in install-config.yaml:\n%s---\n%s", sets.InstallConfig, sets.DigestMirrorSet)
		return err
	})
	flags := cmd.Flags()
	flags.StringVar(&into, "into", "docker://", "where REPOSITORY is: docker://, dir:`PATH` or mirror:PATH")
	flags.StringVar(&release, "release-to", "", "another `REPOSITORY` for the release image")
	flags.StringVar(&components, "components", "", "`REPOSITORY` to read the components from (default: as the release names them)")
	flags.StringArrayVar(&stores, "store", nil, "signature store, as of verify, to take the release's signatures from; may be repeated (default: those in --from=folder: and archive:)")
	flags.BoolVar(&o.SkipRelease, "skip-release", false, "only the components")
	flags.BoolVar(&o.NoSignatures, "no-signatures", false, "leave cosign's signatures where they are")
	flags.BoolVar(&o.NoReferrers, "no-referrers", false, "leave what refers to images where it is")
	flags.BoolVar(&plan, "plan", false, "print the copies as JSON, and make none")
	return cmd
}

// setMirrored leaves where the release is now for a pipeline.
func setMirrored(cmd *cobra.Command, r *payload.Release, to name.Repository, o *payload.MirrorOptions) {
	ctx := cmd.Context()
	digest := r.Digest
	if r.ListDigest.Hex != "" {
		digest = r.ListDigest
	}
	ui.SetResult(ctx, "release-name", r.Version())
	ui.SetResult(ctx, "release-digest", digest)
	if o.SkipRelease {
		return
	}
	if o.Release.RepositoryStr() != "" {
		to = o.Release
	}
	ui.SetResult(ctx, "mirrored-pullspec", to.Digest(digest.String()))
}

// mirrorSignatures carries a release's signatures to where a mirror in a folder
// has them, or prints the ConfigMap for clusters. They are not verified here:
// the cluster that gets them does it, and so does verify.
func (c *common) mirrorSignatures(cmd *cobra.Command, r *payload.Release, stores []string, into string) error {
	p := &payload.Policy{}
	if err := c.signatureStores(p, stores); err != nil {
		return err
	}
	fsys, err := c.files()
	if err != nil {
		return err
	}
	if fsys != nil {
		s, err := payload.MirrorSignatures(fsys)
		if err != nil {
			return err
		}
		p.Stores = append(p.Stores, s)
	}
	digest, err := v1.NewHash(r.Pullspec().DigestStr())
	if err != nil {
		return err
	}
	var found [][]byte
	for _, s := range p.Stores {
		for sig, err := range s.Signatures(cmd.Context(), digest) {
			if err != nil {
				return err
			}
			if len(found) < payload.MaxSignatures && !slices.ContainsFunc(found, func(have []byte) bool { return bytes.Equal(have, sig) }) {
				found = append(found, sig)
			}
		}
	}
	if len(found) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning: no signatures of the release; clusters will ask for them")
		return nil
	}
	file, configMap, err := payload.EncodeSignatureConfigMap(digest, found)
	if err != nil {
		return err
	}
	dir, ok := strings.CutPrefix(into, "mirror:")
	if !ok {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "# oc apply -f:\n%s\n---\n", configMap)
		return err
	}
	dir = filepath.Join(dir, "config")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, file), configMap, 0o644)
}
