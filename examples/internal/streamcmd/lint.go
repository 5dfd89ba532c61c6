package streamcmd

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/secrets"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/rpmrepo"
	"github.com/okd-project/okd-streams/stream"
)

// linted is what lint prints.
type linted struct {
	File   string          `json:"file"`
	Stream string          `json:"stream"`
	Needs  []need          `json:"needs"` // what each run has to be given
	Online *rpmrepo.Report `json:"online,omitempty"`
}

type need struct {
	Path string `json:"path"`
	What string `json:"what"`
}

const lintLong = `

With --online the RPM repositories of the definition are read, and each package
of os.packages and extensions.sets is named that none of them has, or that may be
behind credentials, for each architecture; it fails then. Repositories of the base
image are not looked at. Credentials come as the definition says: from the
environment, or from the folder of --secrets.`

func lint() *cobra.Command {
	online, releaseVer, folder := false, "", ""
	cmd := leaf("lint FILE", "Check a definition and name every fault", lintLong, 1, func(cmd *cobra.Command, args []string) error {
		def, err := decode(args[0])
		if err != nil {
			return err
		}
		needs, err := def.Needs(def.Version.String())
		if err != nil {
			return err
		}
		out := &linted{File: args[0], Stream: def.Identity.Name, Needs: []need{}}
		for _, n := range needs {
			out.Needs = append(out.Needs, need(n))
		}
		var fault error
		if online {
			if out.Online, err = readRepositories(cmd.Context(), def, releaseVer, folder); err != nil {
				return err
			}
			fault = ui.Next(out.Online.Err(), "mend what is said above: take another name, repository or version, or give the credentials")
		}
		if err := ui.Print(cmd, out, out.write); err != nil {
			return err
		}
		return fault
	})
	flags := cmd.Flags()
	flags.BoolVar(&online, "online", false, "look for the packages in the definition's repositories")
	flags.StringVar(&releaseVer, "releasever", "", "`VERSION` that $releasever in their addresses stands for")
	flags.StringVar(&folder, "secrets", "", "`FOLDER` with the definition's secrets, a folder each")
	return cmd
}

func readRepositories(ctx context.Context, def *stream.Definition, releaseVer, folder string) (*rpmrepo.Report, error) {
	now, err := ui.BuildTime()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lintTimeout)
	defer cancel()
	return rpmrepo.Check(ctx, def, &rpmrepo.Options{
		ReleaseVer: releaseVer, Secret: secrets.From(os.Getenv, folder), ReadFile: os.ReadFile, Now: now, Jitter: rand.Float64,
	})
}

// lintTimeout bounds the reading of all repositories.
const lintTimeout = 30 * time.Minute

func (l *linted) write(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%s: stream %s, no faults\n", l.File, l.Stream); err != nil {
		return err
	}
	for _, n := range l.Needs {
		if _, err := fmt.Fprintf(w, "each run has to be given what %s does not say: %s\n", n.Path, n.What); err != nil {
			return err
		}
	}
	if l.Online == nil {
		return nil
	}
	if len(l.Online.Requests) == 0 {
		if _, err := fmt.Fprintln(w, "it names no packages to look for"); err != nil {
			return err
		}
	}
	return l.Online.WriteText(w)
}
