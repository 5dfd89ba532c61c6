package ostreecmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

func (c *common) remote() *cobra.Command {
	cmd := c.group("remote", "Name the repositories that are pulled from", map[string]string{
		"gpg-list-keys": "gpg --show-keys lists the keys in REPOSITORY/NAME.trustedkeys.gpg", "refs": "okd-streams ostree pull --mirror takes all refs", "summary": "it is the file summary below the remote's URL",
		"add-cookie": "okd-streams ostree pull --http-header=Cookie=NAME=VALUE sends one", "delete-cookie": "cookies are not kept", "list-cookies": "cookies are not kept",
	})
	cmd.AddCommand(c.remoteAdd(), c.remoteDelete(), c.remoteList(), c.remoteShowURL(), c.remoteImport())
	return cmd
}

// group makes a command that only has commands below it; elsewhere are those of
// `ostree` that it has not, with what to do instead.
func (c *common) group(use, short string, elsewhere map[string]string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: short + "." + notHere(elsewhere), Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			if instead, ok := elsewhere[args[0]]; ok {
				return c.explain(cmd, ui.Next(ui.Usagef("ostree %s is not supported here", strings.TrimSpace(strings.TrimPrefix(use, "ostree")+" "+args[0])), instead))
			}
			return c.explain(cmd, ui.Usagef("unknown command %q for %q", args[0], cmd.CommandPath()))
		},
	}
}

// notHere lists the commands of `ostree` that are not supported.
func notHere(elsewhere map[string]string) string {
	if len(elsewhere) == 0 {
		return ""
	}
	text := "\n\nCommands of ostree that are not supported, with the exit code 2, and what to do instead:"
	for _, name := range slices.Sorted(maps.Keys(elsewhere)) {
		text += "\n  " + name + ": " + elsewhere[name]
	}
	return text
}

// remoteGroup is a remote's group in the config.
func remoteGroup(name string) string { return `remote "` + name + `"` }

// findRemote gives a remote of the repository.
func findRemote(r *ostree.Repo, name string) (ostree.Remote, error) {
	list := r.Remotes()
	i := slices.IndexFunc(list, func(remote ostree.Remote) bool { return remote.Name == name })
	if i < 0 {
		return ostree.Remote{}, ui.Next(fmt.Errorf("no remote %s", quoted(name)), "okd-streams ostree remote list lists what there is, remote add adds one")
	}
	return list[i], nil
}

type remoteFlags struct {
	set, signVerify                   []string
	noGPG, noSign, ifNotExists, force bool
	gpgImport, contentURL             string
}

func (c *common) remoteAdd() *cobra.Command {
	var f remoteFlags
	cmd := c.leaf("add NAME URL [BRANCH...]", "Add a remote", 2, -1, func(cmd *cobra.Command, args []string) error {
		if f.ifNotExists && f.force {
			return ui.Usagef("either --if-not-exists or --force, not both")
		}
		keys, err := f.keys(args[1], args[2:])
		if err != nil {
			return err
		}
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			name := args[0]
			switch _, err := findRemote(r, name); {
			case err == nil && f.ifNotExists:
				return nil
			case err == nil && !f.force:
				return ui.Next(fmt.Errorf("remote %s is there already", quoted(name)), "--force replaces it")
			case err == nil:
				if _, err := r.UnsetConfig(ctx, remoteGroup(name), ""); err != nil {
					return err
				}
			}
			if err := ostree.CheckRef(name + ":x"); err != nil {
				return ui.Usagef("%s can't be the name of a remote", quoted(name))
			}
			for _, kv := range keys {
				if err := r.SetConfig(ctx, remoteGroup(name), kv[0], kv[1]); err != nil {
					return err
				}
			}
			if f.gpgImport == "" {
				return nil
			}
			return c.importKeys(cmd, r, name, []string{f.gpgImport}, false)
		})
	})
	flags := cmd.Flags()
	flags.StringArrayVar(&f.set, "set", nil, "set `KEY=VALUE` in the remote's group of the config; may be repeated")
	flags.BoolVar(&f.noGPG, "no-gpg-verify", false, "take commits that are not signed by OpenPGP")
	flags.BoolVar(&f.noSign, "no-sign-verify", false, "take commits that are not signed at all")
	flags.StringArrayVar(&f.signVerify, "sign-verify", nil, "take commits signed by `ed25519=inline:KEY` or ed25519=file:PATH; may be repeated")
	flags.BoolVar(&f.ifNotExists, "if-not-exists", false, "do nothing if the remote is there")
	flags.BoolVar(&f.force, "force", false, "replace a remote that is there")
	flags.StringVar(&f.gpgImport, "gpg-import", "", "take the commits that the OpenPGP keys in `FILE` signed")
	flags.StringVar(&f.contentURL, "contenturl", "", "fetch content from `URL`")
	refuse(cmd, "remotes are HTTP servers", "custom-backend=")
	refuse(cmd, "collections are left to ostree", "collection-id=")
	refuse(cmd, "name the repository with --repo", "sysroot=")
	return cmd
}

// keys are what the remote's group of the config gets.
func (f *remoteFlags) keys(url string, branches []string) ([][2]string, error) {
	keys := [][2]string{{"url", url}}
	if strings.HasPrefix(url, "metalink=") || strings.HasPrefix(url, "mirrorlist=") {
		return nil, ui.Next(ui.Usagef("%s: metalinks and lists of mirrors are not supported here", url), "give the URL of one server")
	}
	add := func(key, value string) { keys = append(keys, [2]string{key, value}) }
	if len(branches) > 0 {
		add("branches", strings.Join(branches, ";")+";")
	}
	if f.contentURL != "" {
		add("contenturl", f.contentURL)
	}
	for _, text := range f.set {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, ui.Usagef("--set=%s is not KEY=VALUE", text)
		}
		add(key, value)
	}
	if f.noGPG || f.noSign {
		add("gpg-verify", "false")
	}
	if f.noSign {
		if len(f.signVerify) > 0 {
			return nil, ui.Usagef("either --sign-verify or --no-sign-verify, not both")
		}
		add("sign-verify", "false")
	}
	for _, text := range f.signVerify {
		inline, isInline := strings.CutPrefix(text, "ed25519=inline:")
		file, isFile := strings.CutPrefix(text, "ed25519=file:")
		switch {
		case isInline:
			add("verification-ed25519-key", inline)
		case isFile:
			add("verification-ed25519-file", file)
		default:
			return nil, ui.Next(ui.Usagef("--sign-verify=%s is not supported", text), "ed25519=inline:KEY and ed25519=file:PATH are")
		}
	}
	if len(f.signVerify) > 0 {
		add("sign-verify", "ed25519")
	}
	return keys, nil
}

func (c *common) remoteDelete() *cobra.Command {
	var ifExists bool
	cmd := c.leaf("delete NAME", "Delete a remote and its keys; its refs stay", 1, 1, func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, func(ctx context.Context, r *ostree.Repo) error {
			if _, err := findRemote(r, args[0]); err != nil {
				if ifExists {
					err = nil
				}
				return err
			}
			found, err := r.UnsetConfig(ctx, remoteGroup(args[0]), "")
			if err == nil && !found {
				err = ui.Next(fmt.Errorf("remote %s is not of this repository but of its parent", quoted(args[0])), "delete it there")
			}
			if err != nil {
				return err
			}
			if err := os.Remove(keyring(r, args[0])); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		})
	})
	cmd.Flags().BoolVar(&ifExists, "if-exists", false, "do nothing if there is no such remote")
	refuse(cmd, "name the repository with --repo", "sysroot=")
	return cmd
}

func (c *common) remoteList() *cobra.Command {
	var urls bool
	cmd := c.leaf("list", "List remotes", 0, 0, func(cmd *cobra.Command, _ []string) error {
		return c.with(cmd, func(_ context.Context, r *ostree.Repo) error {
			type remoteJSON struct {
				Name string            `json:"name"`
				Keys map[string]string `json:"config"`
			}
			list := []remoteJSON{}
			width := 0
			for _, remote := range r.Remotes() {
				list = append(list, remoteJSON{remote.Name, remote.Keys})
				width = max(width, len(remote.Name))
			}
			return ui.Print(cmd, list, func(w io.Writer) error {
				for _, remote := range r.Remotes() {
					if urls {
						fmt.Fprintf(w, "%-*s  %s\n", width, remote.Name, remote.URL())
					} else {
						fmt.Fprintln(w, remote.Name)
					}
				}
				return nil
			})
		})
	})
	cmd.Flags().BoolVarP(&urls, "show-urls", "u", false, "print their URLs, too")
	return cmd
}

func (c *common) remoteShowURL() *cobra.Command {
	return c.leaf("show-url NAME", "Print the URL of a remote", 1, 1, func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, func(_ context.Context, r *ostree.Repo) error {
			remote, err := findRemote(r, args[0])
			if err != nil {
				return err
			}
			return ui.Print(cmd, remote.URL(), func(w io.Writer) error {
				_, err := fmt.Fprintln(w, remote.URL())
				return err
			})
		})
	})
}

func (c *common) remoteImport() *cobra.Command {
	var files []string
	var stdin bool
	cmd := c.leaf("gpg-import NAME", "Take the commits of a remote that these OpenPGP keys signed", 1, 1, func(cmd *cobra.Command, args []string) error {
		if (len(files) == 0) == !stdin {
			return ui.Usagef("either --keyring or --stdin")
		}
		return c.with(cmd, func(_ context.Context, r *ostree.Repo) error {
			if _, err := findRemote(r, args[0]); err != nil {
				return err
			}
			return c.importKeys(cmd, r, args[0], files, stdin)
		})
	})
	cmd.Flags().StringArrayVarP(&files, "keyring", "k", nil, "take the keys in `FILE`, as gpg --export writes it; may be repeated")
	cmd.Flags().BoolVar(&stdin, "stdin", false, "take the keys on standard input")
	return cmd
}

// keyring is where a repository keeps the OpenPGP keys of a remote.
func keyring(r *ostree.Repo, remote string) string {
	return filepath.Join(r.Path(), remote+".trustedkeys.gpg")
}

// importKeys adds keys to a remote's keyring.
func (c *common) importKeys(cmd *cobra.Command, r *ostree.Repo, remote string, files []string, stdin bool) error {
	var keys []byte
	add := func(name string, data []byte) error {
		if bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN")) {
			return ui.Next(fmt.Errorf("%s is armoured text", name), "gpg --dearmor makes a binary keyring of it")
		}
		keys = append(keys, data...)
		return nil
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err == nil {
			err = add(name, data)
		}
		if err != nil {
			return err
		}
	}
	if stdin {
		data, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), pgpsigner.MaxKeyringSize+1))
		if err == nil {
			err = add("standard input", data)
		}
		if err != nil {
			return err
		}
	}
	parsed, err := pgpsigner.ParseKeyring(keys)
	if err != nil {
		return ui.Next(&ui.UsageError{Err: err}, "gpg --export KEY-ID writes what is wanted here")
	}
	before, err := os.ReadFile(keyring(r, remote))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = writeWhole(keyring(r, remote), func(w io.Writer) error {
		_, err := w.Write(append(before, keys...))
		return err
	})
	if err != nil {
		return err
	}
	n := len(parsed.Fingerprints())
	return ui.Print(cmd, struct {
		Imported int `json:"imported"`
	}{n}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "Imported %s to remote \"%s\"\n", ui.Count(n, "GPG key"), remote)
		return err
	})
}
