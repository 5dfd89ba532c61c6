// Package graphcmd is the command `okd-streams graph`: update graphs looked at,
// checked for gaps, changed by policy, drawn and served.
package graphcmd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/payload/graph"
)

const sources = `

A GRAPH is a file, - for standard input, or the http(s) address of a server:
Cincinnati's, a release controller's /graph, or okd-streams graph serve.`

// common is what the commands share.
type common struct {
	channel, arch string
}

// Command gives the command with all that is below it.
func Command() *cobra.Command {
	c := &common{}
	root := &cobra.Command{
		Use: "graph", Short: "Look at update graphs, find what is missing in them, and serve them", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return ui.Usagef("unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&c.channel, "channel", "", "`CHANNEL` that is looked at; of files: all nodes, if it is left out")
	flags.StringVar(&c.arch, "arch", "", "`ARCHITECTURE` that is looked at (default amd64, if there is a channel)")
	ui.AddOutput(flags)
	ui.AddJSON(flags)
	root.AddCommand(c.show(), c.path(), c.plan(), c.gaps(), c.apply(), c.draw(), c.export(), c.serve())
	return root
}

// leaf makes a command with at least so many arguments, and at most.
func (c *common) leaf(use, short, long string, least, most int, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
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

// open reads the graph that a source names, and selects what the flags say.
func (c *common) open(ctx context.Context, cmd *cobra.Command, source string) (*graph.Graph, error) {
	if strings.HasPrefix(source, "http://") || strings.HasPrefix(source, "https://") {
		client, err := graph.NewClient(source, nil)
		if err != nil {
			return nil, &ui.UsageError{Err: err}
		}
		return client.Graph(ctx, graph.Query{Channel: c.channel, Arch: c.arch})
	}
	g, err := c.read(cmd, source)
	if err != nil || c.channel == "" && c.arch == "" {
		return g, err
	}
	g, err = g.Select(c.channel, c.arch)
	if err != nil {
		return nil, &ui.UsageError{Err: err}
	}
	return g, nil
}

// read reads a graph from a file or standard input.
func (c *common) read(cmd *cobra.Command, source string) (*graph.Graph, error) {
	in := cmd.InOrStdin()
	if source != "-" {
		file, err := os.Open(source)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	g, err := graph.Decode(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	return g, nil
}

// update is a line of show.
type update struct {
	Version string   `json:"version"`
	Payload string   `json:"payload"`
	Risks   []string `json:"risks,omitempty"`
}

func (c *common) show() *cobra.Command {
	cmd := c.leaf("show GRAPH [VERSION]", "List the versions of a graph, or the updates that a cluster of a version is offered", sources, 1, 2, func(cmd *cobra.Command, args []string) error {
		g, err := c.open(cmd.Context(), cmd, args[0])
		if err != nil {
			return err
		}
		list := []update{}
		if len(args) == 1 {
			for _, n := range g.Nodes {
				list = append(list, update{Version: n.Version, Payload: n.Payload})
			}
		} else {
			u, err := g.Updates(args[1])
			if err != nil {
				return fmt.Errorf("%w\n(okd-streams graph show %s lists the versions)", err, args[0])
			}
			for _, n := range u.Available {
				list = append(list, update{Version: n.Version, Payload: n.Payload})
			}
			for _, n := range u.Conditional {
				up := update{Version: n.Version, Payload: n.Payload}
				for _, r := range n.Risks {
					up.Risks = append(up.Risks, r.Name+": "+r.Message+" "+r.URL)
				}
				list = append(list, up)
			}
		}
		var rows [][]string
		for _, u := range list {
			rows = append(rows, []string{u.Version, u.Payload, strings.Join(u.Risks, "; ")})
		}
		if err := ui.Print(cmd, list, ui.Rows(rows)); err != nil || len(rows) > 0 {
			return err
		}
		_, err = fmt.Fprintln(cmd.ErrOrStderr(), "nothing there")
		return err
	})
	return cmd
}

func (c *common) path() *cobra.Command {
	opts := &graph.PathOptions{}
	cmd := c.leaf("path GRAPH FROM TO", "Show the shortest way of updates between two versions", sources, 3, 3, func(cmd *cobra.Command, args []string) error {
		g, err := c.open(cmd.Context(), cmd, args[0])
		if err != nil {
			return err
		}
		path, err := g.Path(args[1], args[2], opts)
		if errors.Is(err, fs.ErrNotExist) {
			return ui.Next(err, "okd-streams graph show lists the releases and updates that there are, graph gaps those that are missing")
		}
		if err != nil {
			return err
		}
		return ui.Print(cmd, path, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, strings.Join(path, "\n"))
			return err
		})
	})
	cmd.Flags().BoolVar(&opts.Conditional, "conditional", false, "take updates with known risks too")
	return cmd
}

// planFlags are the flags of those who plan upgrade jobs.
type planFlags struct {
	graph.PlanOptions
	published string
}

func (p *planFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.published, "published", "", "`FILE` with the published versions, one a line (- for standard input)")
	cmd.Flags().IntVar(&p.Previous, "previous", graph.DefaultPrevious, "`COUNT` of releases of the same minor version that must have an update")
	cmd.Flags().IntVar(&p.Minors, "minors", 1, "`COUNT` of minor versions back whose newest release must have one; -1: none")
}

// versions are those of the file and of the arguments.
func (p *planFlags) versions(cmd *cobra.Command, args []string) ([]string, error) {
	list := append([]string(nil), args...)
	if p.published != "" {
		in := cmd.InOrStdin()
		if p.published != "-" {
			file, err := os.Open(p.published)
			if err != nil {
				return nil, err
			}
			defer func() { _ = file.Close() }()
			in = file
		}
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
				list = append(list, line)
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", p.published, err)
		}
	}
	if len(list) == 0 {
		return nil, ui.Usagef("no published versions: give --published FILE or name them")
	}
	return list, nil
}

func (c *common) plan() *cobra.Command {
	p := &planFlags{}
	cmd := c.leaf("plan VERSION [PUBLISHED...]", "List the upgrade jobs that a new release needs", "", 1, -1, func(cmd *cobra.Command, args []string) error {
		published, err := p.versions(cmd, args[1:])
		if err != nil {
			return err
		}
		edges, err := graph.Plan(args[0], published, &p.PlanOptions)
		if err != nil {
			return &ui.UsageError{Err: err}
		}
		var rows [][]string
		for _, e := range edges {
			rows = append(rows, []string{e.From, e.To})
		}
		return ui.Print(cmd, append([]graph.Edge{}, edges...), ui.Rows(rows))
	})
	p.add(cmd)
	return cmd
}

func (c *common) gaps() *cobra.Command {
	p := &planFlags{}
	cmd := c.leaf("gaps GRAPH [PUBLISHED...]", "List the updates that published releases miss in a graph", sources+`

It fails if there is one.`, 1, -1, func(cmd *cobra.Command, args []string) error {
		if strings.HasPrefix(args[0], "http") {
			if err := graph.CheckChannel(c.channel); err != nil {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "note: %v\n", err)
			}
		}
		published, err := p.versions(cmd, args[1:])
		if err != nil {
			return err
		}
		g, err := c.open(cmd.Context(), cmd, args[0])
		if err != nil {
			return err
		}
		gaps := graph.Gaps(g, published, &p.PlanOptions)
		err = ui.Print(cmd, append([]graph.Gap{}, gaps...), func(w io.Writer) error {
			for _, gap := range gaps {
				if _, err := fmt.Fprintln(w, gap); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(gaps) > 0 {
			what := fmt.Sprintf("%d gaps", len(gaps))
			if len(gaps) == 1 {
				what = "1 gap"
			}
			return ui.Next(errors.New(what), "run the upgrade jobs that okd-streams graph plan names, or waive them")
		}
		return nil
	})
	p.add(cmd)
	return cmd
}

// policy is the part of commands that change a graph.
type policy struct {
	data, evidence string
	lenient        bool
	at             string
}

func (p *policy) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.data, "data", "", "`FOLDER` of graph-data: channels, blocked edges, metadata")
	cmd.Flags().BoolVar(&p.lenient, "lenient", false, "skip files of graph-data that have faults, as Cincinnati does")
	cmd.Flags().StringVar(&p.evidence, "evidence", "", "`FILE` of evidence, a JSON list of {from, to, arch, job or waiver}; without it all updates are published")
	cmd.Flags().StringVar(&p.at, "now", "", "`TIME` at which waivers are judged, as 2006-01-02T15:04:05Z (default: now)")
}

func (p *policy) change(cmd *cobra.Command, g *graph.Graph) (*graph.Graph, []graph.Candidate, error) {
	if p.data != "" {
		root, err := os.OpenRoot(p.data)
		if err != nil {
			return nil, nil, err
		}
		defer func() { _ = root.Close() }()
		data, err := graph.ReadData(root.FS(), &graph.DataOptions{Lenient: p.lenient})
		if err != nil {
			return nil, nil, err
		}
		for _, skipped := range data.Skipped {
			if p.lenient {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "skipped: %v\n", skipped)
			}
		}
		if g, err = data.Apply(g); err != nil {
			return nil, nil, err
		}
	}
	if p.evidence == "" {
		return g, nil, nil
	}
	now := time.Now()
	if p.at != "" {
		var err error
		if now, err = time.Parse(time.RFC3339, p.at); err != nil {
			return nil, nil, ui.Usagef("--now: %w", err)
		}
	}
	data, err := os.ReadFile(p.evidence)
	if err != nil {
		return nil, nil, err
	}
	var evidence []graph.Evidence
	if err := json.Unmarshal(data, &evidence); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", p.evidence, err)
	}
	g, candidates := g.Prove(evidence, now)
	for _, c := range candidates {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "not published: %s to %s: %s\n", c.From, c.To, c.Why)
	}
	return g, candidates, nil
}

func (c *common) apply() *cobra.Command {
	p, out := &policy{}, ""
	cmd := c.leaf("apply GRAPH", "Change a graph by graph-data and evidence, and print it", sources, 1, 1, func(cmd *cobra.Command, args []string) error {
		g, err := c.read(cmd, args[0])
		if err != nil {
			return err
		}
		if g, _, err = p.change(cmd, g); err != nil {
			return err
		}
		if c.channel != "" || c.arch != "" {
			if g, err = g.Select(c.channel, c.arch); err != nil {
				return &ui.UsageError{Err: err}
			}
		}
		return ui.Output(cmd.OutOrStdout(), out, func(w io.Writer) error {
			if err := g.Encode(w); err != nil {
				return err
			}
			_, err := io.WriteString(w, "\n")
			return err
		})
	})
	p.add(cmd)
	cmd.Flags().StringVar(&out, "to", "", "`FILE` that is written (default: standard output)")
	return cmd
}

func (c *common) draw() *cobra.Command {
	p, out, title := &policy{}, "", ""
	cmd := c.leaf("draw GRAPH", "Draw a graph as an SVG picture", sources, 1, 1, func(cmd *cobra.Command, args []string) error {
		g, err := c.open(cmd.Context(), cmd, args[0])
		if err != nil {
			return err
		}
		g, candidates, err := p.change(cmd, g)
		if err != nil {
			return err
		}
		return ui.Output(cmd.OutOrStdout(), out, func(w io.Writer) error {
			return g.WriteSVG(w, &graph.SVGOptions{Title: title, Candidates: candidates})
		})
	})
	p.add(cmd)
	cmd.Flags().StringVar(&out, "to", "", "`FILE` that is written (default: standard output)")
	cmd.Flags().StringVar(&title, "title", "", "`TITLE` of the picture")
	return cmd
}

func (c *common) export() *cobra.Command {
	p := &policy{}
	cmd := c.leaf("export GRAPH FOLDER", "Write a graph as files that a plain web server can give to clusters", sources+`

Clusters follow ADDRESS/CHANNEL/ARCHITECTURE/graph.`, 2, 2, func(cmd *cobra.Command, args []string) error {
		g, err := c.read(cmd, args[0])
		if err != nil {
			return err
		}
		if g, _, err = p.change(cmd, g); err != nil {
			return err
		}
		for f, err := range g.Files() {
			if err != nil {
				return err
			}
			path := filepath.Join(args[1], filepath.FromSlash(f.Path))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			err := ui.Output(cmd.OutOrStdout(), path, func(w io.Writer) error {
				_, err := w.Write(f.Data)
				return err
			})
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), f.Path); err != nil {
				return err
			}
		}
		return nil
	})
	p.add(cmd)
	return cmd
}

func (c *common) serve() *cobra.Command {
	p, address := &policy{}, ""
	cmd := c.leaf("serve GRAPH", "Serve a graph to clusters, as Cincinnati does", sources, 1, 1, func(cmd *cobra.Command, args []string) error {
		g, err := c.read(cmd, args[0])
		if err != nil {
			return err
		}
		if g, _, err = p.change(cmd, g); err != nil {
			return err
		}
		listener, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", address)
		if err != nil {
			return err
		}
		server := &http.Server{Handler: graph.NewHandler(g, nil), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
		stop := context.AfterFunc(cmd.Context(), func() {
			// Answers are small: those that are under way end at once.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), 5*time.Second)
			defer cancel()
			_ = server.Shutdown(ctx)
		})
		defer stop()
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "http://%s/graph\n", listener.Addr()); err != nil {
			return err
		}
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	p.add(cmd)
	cmd.Flags().StringVar(&address, "listen", "127.0.0.1:8080", "`ADDRESS` to listen on; port 0: any")
	return cmd
}
