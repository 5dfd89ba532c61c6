package tektoncmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/s3store"
	"github.com/okd-project/okd-streams/stream"
	"github.com/okd-project/okd-streams/stream/tekton"
)

// leaseFile is beside the folder of a stream's builds.
const leaseFile = "lease.json"

// leasePoll is the wait between two looks: a run takes minutes at least, and a look
// costs two small requests.
const leasePoll = 5 * time.Second

// lease is which lease is meant, and for whom.
type lease struct {
	stream, state, arch, store, credentials, authfile, holder string
}

func (l *lease) add(set *pflag.FlagSet) {
	set.StringVar(&l.stream, "stream", "", "`STREAM`: the name of a built-in one, or a definition's file (required)")
	set.StringVar(&l.holder, "holder", "", "`NAME` of who holds the lease, a run for instance (required)")
	set.StringVar(&l.store, "store", "", "`STORE` with the stream's index: dir:PATH or s3://BUCKET/PREFIX?endpoint=URL (default: the definition's)")
	set.StringVar(&l.state, "state", ".", "`FOLDER` that a relative folder of the definition is in")
	set.StringVar(&l.arch, "arch", "", "`ARCHITECTURE`, where the definition's prefix has one (default: the definition's first)")
	set.StringVar(&l.credentials, "s3-credentials", "", "shared credentials `FILE` of the AWS tools, or the folder with it (default: as the AWS SDK finds them)")
}

// do opens the store and does something with the lease.
func (l *lease) do(cmd *cobra.Command, fn func(s publish.Store, key string) error) (err error) {
	if l.holder == "" {
		return ui.Usagef("give --holder NAME")
	}
	def, err := definition(l.stream)
	if err != nil {
		return err
	}
	for _, needed := range []struct{ of, file string }{{"store", l.credentials}, {"registry", l.authfile}} {
		if needed.file == "" {
			continue
		}
		if _, err := os.Stat(needed.file); err != nil {
			err = fmt.Errorf("credentials of the %s: %w", needed.of, err)
			return ui.Next(err, "in a run, create the Secret that it binds to the workspace of this path, with a key named as the file, and start the next; else name a file that is there")
		}
	}
	if l.arch == "" {
		l.arch = string(def.Architectures[0])
	}
	prefix, err := def.Store.Prefix.Expand(stream.Vars{Stream: def.Identity.Name, Arch: l.arch, Minor: def.Version.String()})
	if err != nil {
		return err
	}
	url := l.store
	if url == "" {
		url = walk.StoreURL(def)
		if dir, ok := strings.CutPrefix(url, "dir:"); ok && !filepath.IsAbs(dir) {
			url = "dir:" + filepath.Join(l.state, dir)
		}
	}
	if url == "" {
		return ui.Usagef("the definition of %s has no store: give --store STORE", def.Identity.Name)
	}
	s, err := open.Store(cmd.Context(), url, &open.StoreOptions{S3: s3store.Options{CredentialsFile: l.credentials, Jitter: rand.Float64}})
	if err != nil {
		return err
	}
	if closer, ok := s.(io.Closer); ok {
		defer func() { err = errors.Join(err, closer.Close()) }()
	}
	return fn(s, path.Join(prefix, leaseFile))
}

func lock() *cobra.Command {
	l, opts := &lease{}, &publish.LeaseOptions{Jitter: rand.Float64, Poll: leasePoll}
	c, namespace := &cluster{}, ""
	cmd := &cobra.Command{
		Use: "lock --stream STREAM --holder NAME", Short: "Take the lease of a stream's index, so that one run at a time writes it", DisableFlagsInUseLine: true,
		Long: `Take the lease of a stream's index, so that one run at a time writes it.

The lease is an object in the store. Who holds it may take it again; another waits
for --wait. It ends with unlock, or after --ttl, judged by the clocks of those who
want it.

With --namespace a holder is a run of a pipeline there, "NAME UID": when the cluster says
that it has ended, cancelled perhaps, or is gone, its lease is taken.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return l.do(cmd, func(s publish.Store, key string) error {
				said := ""
				opts.Waiting = func(other publish.Lease) {
					if said != other.Holder {
						said = other.Holder
						_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "waiting: %s holds the lease until %s at most\n", other.Holder, other.Until.Format(time.RFC3339))
					}
				}
				if namespace != "" {
					opts.Over = l.over(cmd, c, namespace)
				}
				got, err := publish.TakeLease(cmd.Context(), s, key, l.holder, time.Now, opts)
				if errors.Is(err, publish.ErrLeased) {
					return ui.Next(err, "run this again when that run has ended; if it has, and left the lease behind: okd-streams tekton unlock with its --holder")
				}
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s holds it until %s, turn %d\n", key, got.Holder, got.Until.Format(time.RFC3339), got.Turn)
				return err
			})
		},
	}
	l.add(cmd.Flags())
	c.Add(cmd.Flags())
	cmd.Flags().StringVar(&l.authfile, "authfile", "", "registry credentials `FILE` that the run needs later; if it is not there, the run does not begin")
	cmd.Flags().StringVar(&namespace, "namespace", "", "`NAMESPACE` of the runs that hold the lease (default: nobody is asked about them)")
	cmd.Flags().DurationVar(&opts.TTL, "ttl", publish.DefaultLeaseTTL, "`TIME` that the lease lasts")
	cmd.Flags().DurationVar(&opts.Wait, "wait", 0, "`TIME` to wait for another holder")
	return cmd
}

// over asks the cluster whether the run that holds a lease has ended. That it cannot
// be asked is said once: then time ends the lease.
func (l *lease) over(cmd *cobra.Command, c *cluster, namespace string) func(context.Context, publish.Lease) (bool, error) {
	said := false
	return func(ctx context.Context, other publish.Lease) (bool, error) {
		name, uid, ok := strings.Cut(other.Holder, " ")
		if !ok {
			return false, nil // no run
		}
		api, err := c.open()
		var run *tekton.RunStatus
		if err == nil {
			run, err = api.Run(ctx, namespace, name)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil && ctx.Err() != nil:
			return false, err
		case err != nil:
			if !said {
				said = true
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "warning: whether %s goes on is not known: %v\n", name, err)
			}
			return false, nil
		case run.UID == uid && run.Ended.IsZero():
			return false, nil
		}
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s has ended and left the lease behind\n", name)
		return true, nil
	}
}

func unlock() *cobra.Command {
	l := &lease{}
	cmd := &cobra.Command{
		Use: "unlock --stream STREAM --holder NAME", Short: "Give back the lease of a stream's index", DisableFlagsInUseLine: true,
		Long: "Give back the lease of a stream's index. If NAME does not hold it, nothing happens.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return l.do(cmd, func(s publish.Store, key string) error {
				if err := publish.GiveLease(cmd.Context(), s, key, l.holder, time.Now); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: the next may take it\n", key)
				return err
			})
		},
	}
	l.add(cmd.Flags())
	return cmd
}
