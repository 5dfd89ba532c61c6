// Package browsecmd is the command `okd-streams browse`: pages of what a store
// holds.
package browsecmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish/browse"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/status"
	"github.com/okd-project/okd-streams/stream"
)

type flags struct {
	store, out, files, state, graph, status, results, title string
	perPage                                                 int
}

// Command gives the command.
func Command() *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "browse {--state FOLDER | --store STORE} --out STORE [STREAM...]",
		Short: "Write pages of streams, builds and artifacts",
		Long: `Write pages of the streams, builds and artifacts in a store: an index, a list of
builds for each stream, and a page for each build with its images and files, their
checksums and signatures, and the results of its gates. They are static: any web
server shows them, and a browser from the folder. What is written already as it is
stays; run it after each build.

Each STREAM is a built-in stream or the path of a definition; without one, those
that the store has metadata of in streams/. okd-streams serve shows the same pages
without writing them.`,
		Example: `  okd-streams browse --state ~/.cache/okd-streams/sample --out dir:pages
  okd-streams browse --store s3://okd-scos --out s3://okd-scos/pages --results s3://okd-scos okd-scos-next`,
		DisableFlagsInUseLine: true,
		RunE:                  f.run,
	}
	set := cmd.Flags()
	set.StringVar(&f.state, "state", "", "`FOLDER` of a daily build: its store, and its reports are linked")
	set.StringVar(&f.store, "store", "", "`STORE` with the builds: dir:PATH, s3://BUCKET/PREFIX?endpoint=URL or https://HOST/PATH")
	set.StringVar(&f.out, "out", "", "`STORE` that the pages are written to: dir:PATH or s3://BUCKET/PREFIX?endpoint=URL")
	set.StringVar(&f.files, "files", "", "`ADDRESS` of the store in links, absolute or relative to the pages (default: the definition's, or the path between two folders)")
	set.StringVar(&f.graph, "graph", "", "update graph to show, a `FILE` as okd-streams graph prints")
	set.StringVar(&f.status, "status", "", "readiness to show, a `FILE` as okd-streams status -o json prints")
	set.StringVar(&f.results, "results", "", "`STORE` with the recorded results of gates: dir:PATH or s3://BUCKET")
	set.StringVar(&f.title, "title", "", "`TEXT` that heads the pages")
	set.IntVar(&f.perPage, "per-page", browse.DefaultPerPage, "builds a page")
	ui.AddOutput(set)
	ui.AddJSON(set)
	return cmd
}

func (f *flags) run(cmd *cobra.Command, args []string) (err error) {
	ctx := cmd.Context()
	if f.store == "" && f.state != "" {
		f.store = "dir:" + filepath.Join(f.state, "store")
	}
	if f.store == "" {
		return ui.Usagef("no store: give --state FOLDER, or --store dir:PATH or s3://BUCKET")
	}
	if f.out == "" {
		return ui.Usagef("nowhere to write: give --out dir:PATH or s3://BUCKET/PREFIX")
	}
	if f.perPage < 1 || f.perPage > browse.MaxPerPage {
		return ui.Usagef("--per-page %d: it is 1 to %d", f.perPage, browse.MaxPerPage)
	}
	if err := ui.Exists(f.store); err != nil {
		return fmt.Errorf("--store: %w", err)
	}
	store, err := open.Store(ctx, f.store, &open.StoreOptions{ReadOnly: true})
	if err != nil {
		return ui.Usagef("--store: %w", err)
	}
	defer closeStore(store, &err)
	out, err := open.Store(ctx, f.out, nil)
	if err != nil {
		return ui.Usagef("--out: %w", err)
	}
	defer closeStore(out, &err)
	opts := &browse.Options{Title: f.title, PerPage: f.perPage, Files: f.files}
	if opts.Files == "" {
		opts.Files = between(f.out, f.store)
	} else if !strings.HasSuffix(opts.Files, "/") {
		opts.Files += "/"
	}
	for _, arg := range args {
		def, err := walk.Definition(arg)
		if err != nil {
			return err
		}
		s, err := streamOf(def)
		if err != nil {
			return err
		}
		opts.Streams = append(opts.Streams, s)
	}
	if to := between(f.out, "dir:"+f.state); f.state != "" && to != "" {
		opts.Reports = Reports(f.state, to)
	}
	if f.results != "" {
		if opts.Book.Store, err = open.Store(ctx, f.results, &open.StoreOptions{ReadOnly: true}); err != nil {
			return ui.Usagef("--results: %w", err)
		}
		defer closeStore(opts.Book.Store, &err)
	}
	if f.graph != "" {
		if opts.Graph, err = read(f.graph, graph.Decode); err != nil {
			return err
		}
	}
	if f.status != "" {
		if opts.Status, err = Status(f.status); err != nil {
			return err
		}
	}
	site, err := browse.New(store, opts)
	if err != nil {
		return err
	}
	done, err := site.Write(ctx, out, nil)
	if err != nil {
		return err
	}
	return ui.Print(cmd, done, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%d pages, %d written\n", done.Pages, done.New)
		return err
	})
}

func closeStore(store any, err *error) {
	if closer, ok := store.(io.Closer); ok {
		*err = errors.Join(*err, closer.Close())
	}
}

// streamOf is where a definition's stream lies in its store.
func streamOf(def *stream.Definition) (browse.Stream, error) {
	prefix, err := def.Store.Prefix.Expand(stream.Vars{Stream: def.Identity.Name, Minor: def.Version.String()})
	if err != nil {
		return browse.Stream{}, err
	}
	bucket := bootimage.Bucket{Stream: def.Identity.Name, Prefix: prefix}
	if def.Store.PublicURL != "" {
		bucket.Bases = []string{strings.TrimSuffix(def.Store.PublicURL, "/")}
	}
	return browse.Stream{Bucket: bucket, Title: def.Identity.Title}, nil
}

// between is the way from one folder to another, with a slash at its end; "" if
// one of the stores is none.
func between(from, to string) string {
	a, ok := strings.CutPrefix(from, "dir:")
	b, ok2 := strings.CutPrefix(to, "dir:")
	if !ok || !ok2 {
		return ""
	}
	a, err := filepath.Abs(a)
	b, err2 := filepath.Abs(b)
	if errors.Join(err, err2) != nil {
		return ""
	}
	way, err := filepath.Rel(a, b)
	if err != nil {
		return ""
	}
	return filepath.ToSlash(way) + "/"
}

// Reports gives the addresses of the reports in a state folder, which has the
// address to, with its slash at the end.
func Reports(state, to string) func(stream, build, arch string) string {
	return func(_, build, arch string) string {
		var in struct{ Arch string }
		data, err := os.ReadFile(filepath.Join(state, build, "inputs.json"))
		if err != nil || json.Unmarshal(data, &in) != nil || in.Arch != arch {
			return ""
		}
		if _, err := os.Stat(filepath.Join(state, build, "report.html")); err != nil {
			return ""
		}
		return to + build + "/report.html"
	}
}

// Status reads a report of okd-streams status -o json.
func Status(path string) (*status.Report, error) {
	return read(path, func(r io.Reader) (*status.Report, error) {
		report := &status.Report{}
		err := json.NewDecoder(io.LimitReader(r, maxStatus)).Decode(report)
		return report, err
	})
}

// maxStatus bounds a file with a report, bytes.
const maxStatus = 64 << 20

func read[T any](path string, decode func(io.Reader) (*T, error)) (*T, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	v, err := decode(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}
