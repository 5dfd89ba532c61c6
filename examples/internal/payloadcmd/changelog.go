package payloadcmd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree/container"
	"github.com/okd-project/okd-streams/payload"
)

// clones is a folder of clones, bare or not, each at HOST/PATH of its URL or
// under the last part of it.
type clones string

func (c clones) Log(ctx context.Context, location, from, to string) ([]payload.Commit, error) {
	args, err := payload.GitLogArguments(from, to)
	if err != nil {
		return nil, err
	}
	dir, err := c.find(location)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if exit, ok := err.(*exec.ExitError); ok {
		return nil, fmt.Errorf("git log in %s: %s", dir, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return nil, err
	}
	return payload.DecodeGitLog(out)
}

func (c clones) find(location string) (string, error) {
	u, err := url.Parse(location)
	if err != nil {
		return "", err
	}
	whole := filepath.FromSlash(u.Hostname() + "/" + strings.Trim(strings.TrimSuffix(u.Path, ".git"), "/"))
	for _, rel := range []string{whole, whole + ".git", filepath.Base(whole), filepath.Base(whole) + ".git"} {
		if !filepath.IsLocal(rel) {
			continue
		}
		if info, err := os.Stat(filepath.Join(string(c), rel)); err == nil && info.IsDir() {
			return filepath.Join(string(c), rel), nil
		}
	}
	return "", fmt.Errorf("no clone of %s in %s; make one by: git clone --bare --filter=blob:none %s %s", location, c, location, filepath.Join(string(c), whole))
}

func (c *common) changelog() *cobra.Command {
	var dir string
	var packages bool
	var allowed []string
	cmd := c.leaf("changelog FROM TO", "Say what changed from one RELEASE to another", `

The log is that of oc adm release info --changelog. Repositories that cannot be
read are named at the end, and the command fails; the rest is there. With
--packages it fails too where a package that holds a node together is gone or
went back. Its text is Markdown.`, 2, 2, func(cmd *cobra.Command, args []string) error {
		from, src, err := c.release(cmd, args[0])
		if err != nil {
			return err
		}
		to, _, err := c.release(cmd, args[1])
		if err != nil {
			return err
		}
		opts := &payload.ChangeLogOptions{}
		if dir != "" {
			opts.History = clones(dir)
		}
		log, failed := payload.NewChangeLog(cmd.Context(), from, to, opts)
		if log == nil {
			return failed
		}
		if packages {
			if src == nil {
				return ui.Usagef("an unpacked payload has no images to read")
			}
			// Of a name that is allowed to go back it is only reported.
			list, err := payload.CompareOS(cmd.Context(), src, from, to, &payload.CompareOSOptions{Platform: c.platform(), Regression: &container.RegressionOptions{Allowed: allowed}})
			log.OS, failed = list, errors.Join(failed, err)
			for _, change := range list {
				failed = errors.Join(failed, change.Err())
			}
		}
		write := log.WriteMarkdown
		if ui.Format(cmd) == "html" {
			write = log.WriteHTML
		}
		if err := ui.Print(cmd, log, write); err != nil {
			return err
		}
		return failed
	})
	ui.AddOutput(cmd.Flags(), "markdown", "html")
	cmd.Flags().BoolVar(&packages, "packages", false, "also compare the packages of node images")
	cmd.Flags().StringArrayVar(&allowed, "allow-package", nil, "`NAME` of a package that may go back; may be repeated")
	cmd.Flags().StringVar(&dir, "clones", "", "`FOLDER` with clones of the components' repositories (default: no pull requests)")
	return cmd
}
