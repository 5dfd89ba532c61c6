// Command realtree makes what tests and benchmarks of real size need, in the
// cache that package interop keeps, and says where it is.
//
//	realtree peers         build versitygw, ostree-ext, coreos-installer and the token server,
//	                       install Synapse, fetch GitHub's OpenAPI description and axe-core,
//	                       build actionlint
//	realtree debian [DIR]  a debootstrap'd Debian system
//	realtree rpm [DIR]     a system of 200 generated packages
//	realtree day2 TREE [DIR]  the system in the folder TREE (of the cache) a day later
//
// With DIR, a symbolic link of that name to the cached folder is made. Making
// trees needs root. Do not change what is in the cache.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/okd-project/okd-streams/internal/interop"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "realtree:", err)
		if errors.Is(err, errUsage) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: realtree peers | debian [DIR] | rpm [DIR] | day2 TREE [DIR]")

func run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	verb, args := args[0], args[1:]
	var (
		made string
		err  error
	)
	switch {
	case verb == "peers" && len(args) == 0:
		for _, build := range []func(context.Context) (string, error){interop.BuildVersitygw, interop.BuildOstreeExt, interop.BuildCoreosInstaller, interop.BuildTokenServer, interop.InstallSynapse, interop.FetchGitHubOpenAPI, interop.FetchAxe, interop.BuildActionlint} {
			path, err := build(ctx)
			if err != nil {
				return err
			}
			fmt.Fprintln(stdout, path)
		}
		return nil
	case verb == "debian" && len(args) <= 1:
		made, err = interop.MakeDebianTree(ctx)
	case verb == "rpm" && len(args) <= 1:
		made, err = interop.MakeRPMTree(ctx)
	case verb == "day2" && len(args) >= 1 && len(args) <= 2:
		made, err = interop.MakeSecondDay(ctx, args[0])
		args = args[1:]
	default:
		return errUsage
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, made)
	if len(args) == 1 {
		return os.Symlink(made, args[0])
	}
	return nil
}
