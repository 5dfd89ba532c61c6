package payloadcmd

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

func (c *common) sign() *cobra.Command {
	var key, passphrase, to string
	cmd := c.leaf("sign RELEASE", "Sign a release with an OpenPGP key, and write its signature as clusters read it", `

Into the folder go the file for a signature store, sha256=HEX/signature-1, and the
ConfigMap for clusters without a way to one.`, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, _, err := c.release(cmd, args[0])
		if err != nil {
			return err
		}
		at, err := ui.BuildTime()
		if err != nil {
			return err
		}
		if key == "" {
			return ui.Usagef("--key is required")
		}
		secret, err := os.ReadFile(key)
		if err != nil {
			return err
		}
		opts := &pgpsigner.SignerOptions{Form: pgpsigner.Packed}
		if passphrase != "" {
			opts.Passphrase = func() ([]byte, error) {
				data, err := os.ReadFile(passphrase)
				return []byte(strings.TrimRight(string(data), "\r\n")), err
			}
		}
		signer, err := pgpsigner.ParseSigner(secret, func() time.Time { return at }, opts)
		if err != nil {
			return ui.Next(ui.Usagef("--key=%s: %w", key, err), "give a secret key, as gpg --export-secret-keys KEY-ID writes it")
		}
		message, err := r.Message("okd-streams", at)
		if err != nil {
			return err
		}
		sig, err := payload.Sign(cmd.Context(), message, signer)
		if err != nil {
			return err
		}
		file, configMap, err := payload.EncodeSignatureConfigMap(message.Digest, [][]byte{sig})
		if err != nil {
			return err
		}
		store := filepath.FromSlash(payload.SignatureKey(message.Digest, 1))
		if err := os.MkdirAll(filepath.Join(to, filepath.Dir(store)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, store), sig, 0o644); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, file), configMap, 0o644); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s signed by %s\n", message.Reference, signer.Fingerprint())
		return err
	})
	cmd.Flags().StringVar(&key, "key", "", "`FILE` with the secret key, as gpg --export-secret-keys writes it")
	cmd.Flags().StringVar(&passphrase, "passphrase-file", "", "`FILE` with the key's passphrase")
	cmd.Flags().StringVar(&to, "to", ".", "`FOLDER` to write to")
	return cmd
}

func (c *common) verify() *cobra.Command {
	var keys, stores, cosignKeys, identities, clusters []string
	var anyIdentity, forward bool
	cmd := c.leaf("verify RELEASE", "Check the signatures of a release", `

The keys to trust come from --key, --cosign-key, or from a release that is
trusted already (--trusted-by); never from the release itself.`, 1, 1, func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		r, src, err := c.release(cmd, args[0])
		if err != nil {
			return err
		}
		if r.Ref == nil {
			return ui.Usagef("an unpacked payload has no digest to verify")
		}
		setRelease(cmd, r)
		at, err := ui.BuildTime()
		if err != nil {
			return err
		}
		p := &payload.Policy{Keyrings: map[string]*payload.Keyring{}, Images: src, Identities: identities, AnyIdentity: anyIdentity}
		for _, path := range keys {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if p.Keyrings[path], err = pgpsigner.ParseKeyring(data); err != nil {
				return ui.Next(ui.Usagef("--key=%s: %w", path, err), "give public keys, as gpg --export KEY-ID writes them")
			}
		}
		for _, path := range cosignKeys {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			key, err := payload.ParseCosignKey(data)
			if err != nil {
				return ui.Next(ui.Usagef("--cosign-key=%s: %w", path, err), "give a public key, the file cosign.pub of cosign generate-key-pair")
			}
			p.CosignKeys = append(p.CosignKeys, key)
		}
		if err := c.signatureStores(p, stores); err != nil {
			return err
		}
		var trusted []*payload.Release
		for _, spec := range clusters {
			from, _, err := c.release(cmd, spec)
			if err != nil {
				return err
			}
			trusted = append(trusted, from)
		}
		if forward {
			if err := payload.CheckRotation(ctx, r.Pullspec(), trusted, p.Stores, at); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "clusters at all %d releases accept %s\n", len(trusted), r.Pullspec())
			return err
		}
		for i, from := range trusted {
			trust, err := from.Trust(ctx)
			if err != nil {
				return err
			}
			for name, ring := range trust.Keyrings {
				p.Keyrings[fmt.Sprintf("%s of %s", name, clusters[i])] = ring
			}
			if len(stores) == 0 {
				if err := c.signatureStores(p, trust.Stores); err != nil {
					return err
				}
			}
		}
		if len(p.Keyrings)+len(p.CosignKeys) == 0 {
			return ui.Usagef("whom to trust? --key, --cosign-key or --trusted-by")
		}
		v, err := p.Verify(ctx, r.Pullspec(), at)
		if err != nil {
			return err
		}
		signers := slices.Sorted(maps.Values(v.Signers))
		if v.CosignKey != "" {
			signers = append(signers, v.CosignKey)
		}
		ui.SetResult(ctx, "signers", signers)
		for ring, fingerprint := range v.Signers {
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: signed by %s (%s)\n", r.Pullspec(), fingerprint, ring); err != nil {
				return err
			}
		}
		if v.CosignKey != "" {
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: signed by cosign key %s\n", r.Pullspec(), v.CosignKey)
		}
		return err
	})
	flags := cmd.Flags()
	flags.StringArrayVar(&keys, "key", nil, "`FILE` of public OpenPGP keys, one of which must have signed; may be repeated")
	flags.StringArrayVar(&cosignKeys, "cosign-key", nil, "`FILE` of a public key of cosign's; may be repeated, one must have signed")
	flags.StringArrayVar(&stores, "store", nil, "signature store: `URL` of http or https, folder, or file with ConfigMaps; may be repeated")
	flags.StringArrayVar(&clusters, "trusted-by", nil, "`RELEASE` whose keys and stores count; may be repeated")
	flags.BoolVar(&forward, "rotation", false, "check instead that clusters at each --trusted-by would accept the release, whatever key they trust")
	flags.StringArrayVar(&identities, "identity", nil, "`REPOSITORY` that the signature may name; may be repeated (default: that of RELEASE)")
	flags.BoolVar(&anyIdentity, "any-identity", false, "whatever the signature says the image is called")
	return cmd
}

// signatureStores opens stores by what they look like.
func (c *common) signatureStores(p *payload.Policy, list []string) error {
	for _, text := range list {
		if strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://") {
			s, err := payload.HTTPSignatures(text, nil)
			if err != nil {
				return err
			}
			p.Stores = append(p.Stores, s)
			continue
		}
		path := strings.TrimPrefix(text, "file://")
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.IsDir() {
			root, err := os.OpenRoot(path)
			if err != nil {
				return err
			}
			c.closers = append(c.closers, root.Close)
			p.Stores = append(p.Stores, payload.FileSignatures(root.FS()))
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		s, err := payload.ConfigMapSignatures(data)
		if err != nil {
			return err
		}
		p.Stores = append(p.Stores, s)
	}
	return nil
}
