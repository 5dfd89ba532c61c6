// Package prowcmd is where a build meets OpenShift CI: image streams that
// follow images, and the check that they did.
package prowcmd

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/okd-project/okd-streams/examples/internal/remote"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/prow"
)

const long = `Hand images over to OpenShift CI, and check that they arrived.

Image streams are named NAMESPACE/NAME. The API server is --api-server, or that
of the cluster in which this runs, whose service account is used then. Requests
are held to the published types of the API; they are not proven on OpenShift.`

// Command is "okd-streams prow".
func Command() *cobra.Command {
	p := &common{}
	root := &cobra.Command{
		Use: "prow", Short: "Hand images over to OpenShift CI", Long: long, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return ui.Usagef("unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	p.cluster.Add(root.PersistentFlags())
	ui.AddOutput(root.PersistentFlags())
	ui.AddJSON(root.PersistentFlags())
	root.AddCommand(p.importCommand(), p.tag(), p.handOver(), p.watch())
	return root
}

type common struct {
	cluster Cluster
	remote  remote.Flags
	from    string
}

// Cluster is how an API server is reached.
type Cluster struct {
	Server, TokenFile, CAFile string
}

// Add declares the flags.
func (c *Cluster) Add(set *pflag.FlagSet) {
	set.StringVar(&c.Server, "api-server", "", "`URL` of the cluster's API server (default: that of the cluster in which this runs)")
	set.StringVar(&c.TokenFile, "token-file", "", "`FILE` with the token for it (default: the service account's)")
	set.StringVar(&c.CAFile, "ca-file", "", "`FILE` with its certificate authority (default: the service account's)")
}

// account is where a pod finds who it is.
const account = "/var/run/secrets/kubernetes.io/serviceaccount"

// Reach gives the address of the API server that the flags name, or in whose cluster
// this runs, and how requests are sent there. token is nil without one.
func (c *Cluster) Reach() (server string, token func(context.Context) (string, error), transport http.RoundTripper, err error) {
	server, tokenFile, ca := c.Server, c.TokenFile, c.CAFile
	if server == "" {
		host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
		if host == "" || port == "" {
			return "", nil, nil, ui.Usagef("this runs in no cluster: give --api-server URL")
		}
		server = "https://" + net.JoinHostPort(host, port)
		if tokenFile == "" {
			tokenFile = filepath.Join(account, "token")
		}
		if ca == "" {
			ca = filepath.Join(account, "ca.crt")
		}
	}
	if tokenFile != "" {
		token = func(context.Context) (string, error) { // read each time: it is renewed there
			text, err := os.ReadFile(tokenFile)
			return strings.TrimSpace(string(text)), err
		}
	}
	opts := &open.TransportOptions{Getenv: os.Getenv}
	if ca != "" {
		if opts.CABundle, err = os.ReadFile(ca); err != nil {
			return "", nil, nil, err
		}
	}
	transport, err = open.Transport(opts)
	return server, token, transport, err
}

// Open gives the cluster that the flags name, or in which this runs.
func (c *Cluster) Open() (*prow.Cluster, error) {
	server, token, transport, err := c.Reach()
	if err != nil {
		return nil, err
	}
	cluster, err := prow.NewCluster(server, &prow.ClusterOptions{Token: token, Transport: transport})
	if err != nil {
		return nil, &ui.UsageError{Err: err}
	}
	return cluster, nil
}

// leaf makes a command with at least so many arguments, and at most.
func leaf(use, short, long string, least, most int, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: short + "." + long,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < least || most >= 0 && len(args) > most {
				return ui.WrongArguments(cmd, args)
			}
			return nil
		},
		RunE: run,
	}
}

func (p *common) importCommand() *cobra.Command {
	scheduled := false
	cmd := leaf("import NAMESPACE/STREAM TAG=PULLSPEC...", "Import images into an image stream, whose tags follow them then", "\n\nIt waits until they are there; an image that could not be imported is named.", 2, -1, func(cmd *cobra.Command, args []string) error {
		var images []prow.ImportImage
		for _, text := range args[1:] {
			tag, pullspec, ok := strings.Cut(text, "=")
			if _, err := name.ParseReference(pullspec); !ok || tag == "" || err != nil {
				return ui.Usagef("%q: want TAG=PULLSPEC", text)
			}
			images = append(images, prow.ImportImage{
				From: prow.ObjectReference{Kind: "DockerImage", Name: pullspec}, To: &prow.TagName{Name: tag},
				ImportPolicy: prow.ImportPolicy{Scheduled: scheduled}, ReferencePolicy: prow.ReferencePolicy{Type: "Source"},
			})
		}
		cluster, err := p.cluster.Open()
		if err != nil {
			return err
		}
		done, err := cluster.Import(cmd.Context(), args[0], images...)
		if err != nil {
			return err
		}
		var rows [][]string
		var arrived []string
		for i, s := range done.Status.Images {
			digest := ""
			if s.Image != nil {
				digest = s.Image.Metadata.Name
			}
			rows = append(rows, []string{images[i].To.Name, digest})
			arrived = append(arrived, images[i].To.Name+"="+digest)
		}
		ui.SetResult(cmd.Context(), "images", arrived)
		return ui.Print(cmd, done.Status, ui.Rows(rows))
	})
	cmd.Flags().BoolVar(&scheduled, "scheduled", false, "have the cluster look again from time to time")
	return cmd
}

func (p *common) tag() *cobra.Command {
	return leaf("tag NAMESPACE/STREAM:TAG PULLSPEC@DIGEST", "Make a tag of an image stream follow an image", "\n\nA tag that follows another image already is left as it is, and it fails.", 2, 2, func(cmd *cobra.Command, args []string) error {
		stream, tag, ok := strings.Cut(args[0], ":")
		if !ok {
			return ui.Usagef("%q: want NAMESPACE/STREAM:TAG", args[0])
		}
		if _, err := name.NewDigest(args[1]); err != nil {
			return ui.Usagef("%q: want an image by digest", args[1])
		}
		cluster, err := p.cluster.Open()
		if err != nil {
			return err
		}
		return cluster.Tag(cmd.Context(), stream, tag, args[1])
	})
}

// handedOver is what hand-over prints.
type handedOver struct {
	Tag    string `json:"tag"`
	Digest string `json:"digest"`
}

func (p *common) handOver() *cobra.Command {
	opts, follows := &prow.HandOverOptions{}, ""
	cmd := leaf("hand-over PULLSPEC:TAG DIGEST", "Check that an image that was pushed arrived", `

The tag must have the digest that was pushed; another one is an error at once, for
somebody else pushed. With --image-stream the tag of an image stream that imports
it must have it, too, within --limit.`, 2, 2, func(cmd *cobra.Command, args []string) error {
		tag, err := name.NewTag(args[0], name.StrictValidation)
		if err != nil {
			return ui.Usagef("%q: %w", args[0], err)
		}
		digest, err := v1.NewHash(args[1])
		if err != nil {
			return ui.Usagef("%q: %w", args[1], err)
		}
		if follows != "" {
			stream, streamTag, ok := strings.Cut(follows, ":")
			if !ok {
				return ui.Usagef("--image-stream %q: want NAMESPACE/STREAM:TAG", follows)
			}
			cluster, err := p.cluster.Open()
			if err != nil {
				return err
			}
			opts.Stream = func(ctx context.Context) (*prow.ImageStream, error) { return cluster.ImageStream(ctx, stream) }
			opts.StreamTag = streamTag
		}
		registry, err := open.Registry(cmd.Context(), p.from, &open.RegistryOptions{Remote: p.remote.Options(nil)})
		if err != nil {
			return ui.Usagef("--from %s: %w", p.from, err)
		}
		if err := prow.HandOver(cmd.Context(), registry, tag, digest, opts); err != nil {
			return err
		}
		ui.SetResult(cmd.Context(), "image", tag.Context().Digest(digest.String()))
		ui.SetResult(cmd.Context(), "digest", digest)
		return ui.Print(cmd, handedOver{tag.Name(), digest.String()}, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%s is %s\n", tag, digest)
			return err
		})
	})
	p.registry(cmd)
	cmd.Flags().StringVar(&follows, "image-stream", "", "`NAMESPACE/STREAM:TAG` that follows it")
	cmd.Flags().DurationVar(&opts.Limit, "limit", prow.DefaultLimit, "`TIME` that it may take")
	cmd.Flags().DurationVar(&opts.Interval, "interval", prow.DefaultInterval, "`TIME` between looks")
	return cmd
}

func (p *common) watch() *cobra.Command {
	interval, count := time.Duration(0), 0
	cmd := leaf("watch PULLSPEC:TAG", "Print each digest that a tag of a registry gets", "\n\nIt goes on until it is stopped, or --count digests were seen.", 1, 1, func(cmd *cobra.Command, args []string) error {
		tag, err := name.NewTag(args[0], name.StrictValidation)
		if err != nil {
			return ui.Usagef("%q: %w", args[0], err)
		}
		registry, err := open.Registry(cmd.Context(), p.from, &open.RegistryOptions{Remote: p.remote.Options(nil)})
		if err != nil {
			return ui.Usagef("--from %s: %w", p.from, err)
		}
		seen := 0
		for digest, err := range prow.Watch(cmd.Context(), registry, tag, &prow.WatchOptions{Interval: interval}) {
			if err != nil {
				return err
			}
			ui.SetResult(cmd.Context(), "digest", digest)
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), digest); err != nil {
				return err
			}
			if seen++; seen == count {
				break
			}
		}
		return nil
	})
	p.registry(cmd)
	cmd.Flags().DurationVar(&interval, "interval", prow.DefaultInterval, "`TIME` between looks")
	cmd.Flags().IntVar(&count, "count", 0, "`NUMBER` of digests after which it ends (default: never)")
	return cmd
}

// registry declares where images are looked at.
func (p *common) registry(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.from, "from", "docker://", "where the tag is: docker:// or dir:PATH")
	p.remote.Add(cmd.Flags())
}
