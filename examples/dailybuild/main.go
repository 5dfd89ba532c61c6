// Command dailybuild is the daily build of an OKD stream, from a root
// filesystem to a release: it commits the tree, encapsulates the commit as a
// container image, takes the boot artifacts, assembles the release image, and
// publishes all of it. It needs no root and no daemon.
//
// Without flags it builds the stream "sample", made on the spot and published
// to a folder. See -help for building a real one.
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/publish/daily"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := ui.Exit(os.Stderr, "dailybuild", run(ctx, os.Args[1:], os.Stdout, os.Stderr))
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var flags walk.Flags
	set := flag.NewFlagSet("dailybuild", flag.ContinueOnError)
	set.SetOutput(stderr)
	flags.Register(set)
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return &ui.UsageError{Err: err}
	}
	if set.NArg() > 0 {
		return ui.Usagef("unexpected argument %q", set.Arg(0))
	}
	r, err := walk.Setup(ctx, &flags, stderr)
	if err != nil {
		return err
	}
	return errors.Join(r.Do(ctx, &flags, daily.StepPublish, stdout), r.Close())
}
