package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/daily"
)

// The results that several commands have. Names are those of okd-coreos-pipeline
// and okd-release-pipeline where they have the same.
var (
	releaseName     = ui.Result{Name: "release-name", Means: "version of the release"}
	releasePullspec = ui.Result{Name: "release-pullspec", Means: "its image, by digest"}
	releaseDigest   = ui.Result{Name: "release-digest", Means: "digest of its image"}
	mirrored        = ui.Result{Name: "mirrored-pullspec", Means: "image of the release where it was put, by digest"}
	target          = ui.Result{Name: "target-release-name", Means: "version that the payload is released as"}
	changed         = ui.Result{Name: "changed", Means: "false if there was nothing to do, else true"}
	image           = ui.Result{Name: "image", Means: "the image, by digest where it is in a registry"}
	imageDigest     = ui.Result{Name: "digest", Means: "digest of the image"}
	imageSet        = []ui.Result{image, imageDigest}
	commit          = ui.Result{Name: "commit", Means: "checksum of the commit"}
)

var building = []ui.Result{
	{Name: "output", Means: "OK when it is done, as of okd-coreos-pipeline"}, changed,
	{Name: "stream", Means: "name of the stream"}, {Name: "build", Means: "version of the build"}, {Name: "arch", Means: "architecture, as x86_64"},
	commit, {Name: "ref", Means: "OSTree ref of the commit"},
	{Name: "base-image", Means: "base image, by digest"}, {Name: "base-digest", Means: "its digest"},
	{Name: "node-image", Means: "node image, by digest"}, {Name: "node-digest", Means: "its digest"},
	{Name: "extensions-image", Means: "extensions image, by digest"}, {Name: "extensions-digest", Means: "its digest"},
	releaseName, releasePullspec, releaseDigest,
	{Name: "published", Means: "true when it is published, else false"},
	{Name: "gates", Means: "what the gates say together: passed, pending or failed"},
	{Name: "tags", Means: "tags that were moved", Text: true},
}

var promoting = []ui.Result{
	changed, {Name: "state", Means: "how far the promotion is"},
	{Name: "release-name", Means: "version of the payload that was picked"}, {Name: "release-pullspec", Means: "its image, by digest"}, {Name: "release-digest", Means: "digest of its image"},
	target, mirrored, {Name: "mirrored-digest", Means: "digest of that image"},
	{Name: "previous", Means: "versions that lead to the release", Text: true},
}

// resultsOf are the results of each command.
var resultsOf = func() map[string][]ui.Result {
	all := map[string][]ui.Result{
		"build":                 building,
		"release promote":       promoting,
		"release resume":        promoting,
		"release due":           {{Name: "due", Means: "true or false"}, {Name: "at", Means: "when it is due, or was"}, target},
		"stream status":         {{Name: "level", Means: "how ready it is: ok, warning or failing"}, {Name: "build", Means: "newest build"}, releaseName, {Name: "due", Means: "true if the next build is due"}},
		"payload new":           {releaseName, releasePullspec, releaseDigest},
		"payload swap":          {releaseName, releasePullspec, releaseDigest},
		"payload build":         {releaseName, releasePullspec, releaseDigest, {Name: "images", Means: "NAME=PULLSPEC of each component", Text: true}},
		"payload info":          {releaseName, releasePullspec, releaseDigest, {Name: "image", Means: "pullspec of the component of --image-for"}},
		"payload verify":        {releaseName, releasePullspec, releaseDigest, {Name: "signers", Means: "fingerprints of the keys that signed it", Text: true}},
		"payload mirror":        {releaseName, releaseDigest, mirrored},
		"gate run":              {{Name: "gate", Means: "name of the gate"}, {Name: "state", Means: "passed, failed or pending"}, {Name: "reason", Means: "why", Text: true}},
		"gate show":             {{Name: "state", Means: "of the gates together: passed, pending or failed"}, {Name: "pending", Means: "gates that have no result", Text: true}, {Name: "failed", Means: "gates that failed", Text: true}},
		"prow import":           {{Name: "images", Means: "TAG=DIGEST of each image", Text: true}},
		"prow hand-over":        imageSet,
		"prow watch":            {{Name: "digest", Means: "digest that was seen last"}},
		"container encapsulate": imageSet,
		"container rechunk":     imageSet,
		"container reexport":    imageSet,
		"image build":           imageSet,
		"tekton pick":           {releaseName, releasePullspec, releaseDigest},
		"ostree commit":         {commit, {Name: "ref", Means: "branch that names it"}},
	}
	for _, step := range daily.Steps() {
		all["build "+step] = building
	}
	return all
}()

// giveResults has the commands write their results as files into the folder of
// --results-dir, where they have any.
func giveResults(root *cobra.Command) {
	var give func(cmd *cobra.Command)
	give = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			give(c)
		}
		declared := resultsOf[strings.TrimPrefix(cmd.CommandPath(), root.Name()+" ")]
		if declared == nil {
			return
		}
		folder := ""
		cmd.Flags().StringVar(&folder, "results-dir", "", "`FOLDER` that gets the results as files, for tasks of pipelines")
		var text strings.Builder
		for i, r := range declared {
			fmt.Fprintf(&text, "\n  %-*s  %s", longest(declared), r.Name, r.Means)
			if i == len(declared)-1 {
				text.WriteString("\nEach is there, empty if there is none, also when it fails.")
			}
		}
		if cmd.Long == "" {
			cmd.Long = cmd.Short + "."
		}
		cmd.Long = strings.TrimRight(cmd.Long, "\n") + "\n\nResults in --results-dir:" + text.String()
		run := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if folder == "" {
				return run(cmd, args)
			}
			if info, err := os.Stat(folder); err != nil || !info.IsDir() {
				return ui.Usagef("--results-dir %s: want a folder that is there: %w", folder, errors.Join(err, fs.ErrInvalid))
			}
			results := &ui.Results{}
			cmd.SetContext(ui.WithResults(cmd.Context(), results))
			return errors.Join(run(cmd, args), results.Write(folder, declared))
		}
	}
	give(root)
}

func longest(list []ui.Result) int {
	return len(slices.MaxFunc(list, func(a, b ui.Result) int { return len(a.Name) - len(b.Name) }).Name)
}
