// Command customrelease makes a release of a published one with another
// operating system or component in it, on one machine, without a cluster:
//
//	go run ./examples/customrelease -release registry.example.com/okd/release:4.20.0-okd-scos.1 \
//	    -version 4.20.0-mine.1 -into dir:mine stream-coreos=registry.example.com/me/scos@sha256:…
//
// The new release image goes into a folder of OCI layouts, or with
// -into docker:// to a registry. Its components stay where they are.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload"
	"github.com/okd-project/okd-streams/publish/open"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := ui.Exit(os.Stderr, "customrelease", run(ctx, os.Args[1:], os.Stdout, os.Stderr))
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("customrelease", flag.ContinueOnError)
	flags.SetOutput(stderr)
	from := flags.String("from", "docker://", "where the release is: docker:// or dir:PATH")
	release := flags.String("release", "", "pullspec of the release to start from")
	version := flags.String("version", "", "name of the new release, a semantic version")
	into := flags.String("into", "dir:customrelease", "where the new release goes: docker:// or dir:PATH")
	to := flags.String("to", "localhost/okd/release", "its repository")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return &ui.UsageError{Err: err}
	}
	if *release == "" || *version == "" || flags.NArg() == 0 {
		return ui.Usagef("want -release, -version and NAME=PULLSPEC of what is to be in it")
	}
	base, err := name.ParseReference(*release)
	if err != nil {
		return &ui.UsageError{Err: err}
	}
	images, err := payload.DecodeMapping([]byte(strings.Join(flags.Args(), "\n")))
	if err != nil {
		return &ui.UsageError{Err: err}
	}
	tag, err := name.NewTag(*to + ":" + strings.ReplaceAll(*version, "+", "_"))
	if err != nil {
		return &ui.UsageError{Err: err}
	}
	source, err := open.Registry(ctx, *from, nil)
	if err != nil {
		return err
	}
	target, err := open.Registry(ctx, *into, nil)
	if err != nil {
		return err
	}
	built, err := payload.Assemble(ctx, source, &payload.Spec{
		FromRelease: base, Overrides: images, Version: *version, Created: time.Now(), Previous: []string{},
	}, &payload.AssembleOptions{Platform: v1.Platform{OS: "linux", Architecture: "amd64"}})
	if err != nil {
		return err
	}
	for _, warning := range built.Warnings {
		fmt.Fprintln(stderr, "warning: "+warning)
	}
	if _, err := target.WriteImage(ctx, tag.Context(), built.Image, nil); err != nil {
		return err
	}
	if err := target.Tag(ctx, tag, built.Digest); err != nil {
		return err
	}
	made, err := payload.Open(ctx, target, tag, nil)
	if err != nil {
		return err
	}
	return made.WriteText(stdout, &payload.TextOptions{View: payload.ViewPullspecs})
}
