package tektoncmd

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/prowcmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/stream/tekton"
)

// running is what run does.
type running struct {
	cluster     cluster
	namespace   string
	minInterval time.Duration
	keep        int
	always      bool
}

func runCommand() *cobra.Command {
	r := &running{}
	cmd := &cobra.Command{
		Use: "run FILE...", Short: "Create runs of pipelines, if they are due", DisableFlagsInUseLine: true,
		Long: `Create runs of pipelines, if they are due.

A FILE has PipelineRuns, as tekton render writes them. One is created unless an
earlier run with its labels goes on, or began less than --min-interval ago. Old runs
with its labels that have ended are removed, but for --keep.

In a pod, the service account is used; it may create, list and delete
pipelineruns.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return ui.Usagef("no file, but it is %s", cmd.UseLine())
			}
			return nil
		},
		RunE: r.run,
	}
	set := cmd.Flags()
	r.cluster.Add(set)
	set.StringVar(&r.namespace, "namespace", "", "`NAMESPACE` of the runs (default: the files')")
	set.DurationVar(&r.minInterval, "min-interval", 0, "`TIME` since the last run at least; a day less counts as kept")
	set.IntVar(&r.keep, "keep", 0, "`NUMBER` of runs that are kept (default: all)")
	set.BoolVar(&r.always, "always", false, "create runs whether they are due or not")
	return cmd
}

func (r *running) run(cmd *cobra.Command, paths []string) error {
	var runs []*tekton.PipelineRun
	for _, path := range paths {
		objects, err := read(cmd.InOrStdin(), path)
		if err != nil {
			return err
		}
		for _, o := range objects {
			run, ok := o.(*tekton.PipelineRun)
			if !ok {
				return ui.Usagef("%s: there is a %s, not only PipelineRuns", path, o.Head().Kind)
			}
			if r.namespace != "" {
				run.Metadata.Namespace = r.namespace
			}
			runs = append(runs, run)
		}
	}
	api, err := r.cluster.open()
	if err != nil {
		return err
	}
	for _, run := range runs {
		if err := r.one(cmd, api, run); err != nil {
			return advised(err)
		}
	}
	return nil
}

// advised says what to do about what a cluster refuses.
func advised(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return ui.Next(err, "give the account a Role with create, delete and list of pipelineruns.tekton.dev in the namespace, as tekton render writes it; with --token-file check the token")
	case errors.Is(err, errors.ErrUnsupported):
		return ui.Next(err, "install Tekton Pipelines, on OpenShift the operator OpenShift Pipelines, and run it again")
	case errors.Is(err, fs.ErrInvalid):
		return ui.Next(err, "mend the file; okd-streams tekton check finds more than a cluster does")
	case errors.Is(err, fs.ErrNotExist):
		return ui.Next(err, "check that the namespace is there")
	}
	return err
}

func (r *running) one(cmd *cobra.Command, api *tekton.Cluster, run *tekton.PipelineRun) error {
	ctx, namespace := cmd.Context(), run.Metadata.Namespace
	what := run.Metadata.Name + run.Metadata.GenerateName
	earlier, err := api.Runs(ctx, namespace, run.Metadata.Labels)
	if err != nil {
		return err
	}
	reason := r.notDue(earlier, time.Now())
	if reason != "" && !r.always {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: not now, %s\n", what, reason)
	} else {
		var name string
		if name, err = api.Create(ctx, run); err == nil {
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s/%s\n", namespace, name)
		}
	}
	if err != nil {
		return err
	}
	ended := 0
	for _, old := range earlier {
		if old.Ended.IsZero() {
			continue
		}
		if ended++; r.keep == 0 || ended <= r.keep {
			continue
		}
		if err := api.Delete(ctx, namespace, old.Name); err != nil {
			return err
		}
	}
	return nil
}

// notDue says why a run is not to be created, "" if it is; runs are newest first.
func (r *running) notDue(earlier []tekton.RunStatus, now time.Time) string {
	for _, run := range earlier {
		if run.Ended.IsZero() {
			return run.Name + " goes on since " + run.Created.Format(time.RFC3339)
		}
	}
	if r.minInterval == 0 || len(earlier) == 0 {
		return ""
	}
	// A day early, as [stream.Cadence.Due] has it.
	last := earlier[0]
	if next := last.Created.Add(r.minInterval - 24*time.Hour); now.Before(next) {
		return last.Name + " began at " + last.Created.Format(time.RFC3339) + ", the next is due " + next.Format(time.RFC3339)
	}
	return ""
}

// cluster is how an API server is reached.
type cluster struct{ prowcmd.Cluster }

// open gives the cluster that the flags name, or in which this runs.
func (c *cluster) open() (*tekton.Cluster, error) {
	server, token, transport, err := c.Reach()
	if err != nil {
		return nil, err
	}
	api, err := tekton.NewCluster(server, &tekton.ClusterOptions{Token: token, Transport: transport})
	if err != nil {
		return nil, &ui.UsageError{Err: err}
	}
	return api, nil
}
