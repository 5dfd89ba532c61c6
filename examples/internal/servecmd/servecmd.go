// Package servecmd serves everything that a stream has on one port: its
// registry, its store, an OSTree repository, its update graph and its pages.
package servecmd

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/browsecmd"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/payload/graph"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/browse"
	"github.com/okd-project/okd-streams/publish/httpstore"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/registryserver"
	"github.com/okd-project/okd-streams/publish/s3store"
)

const long = `Serve what a stream has on one port, for a laptop, a lab and tests: images to
podman, skopeo and oc, boot images to coreos-installer, commits to ostree, the
update graph to clusters and pages to people. With --state it is all that a
daily build keeps there.

  /v2/      images of --registry, a folder of OCI layouts
  /store/   objects of --store, with ranges
  /ostree/  the archive repository --ostree
  /graph    the updates of --graph, as Cincinnati gives them (?channel=…)
  /browse/  pages of the streams, builds and artifacts in --store, with the
            updates of --graph, the readiness of --status and links to reports
  /pages/   the files of --pages: reports of builds, or what you like
  /healthz  200 while it serves

Nobody is asked who they are, and nothing is encrypted: the port is open to this
machine alone unless --public is given, and nothing can be changed through it
unless --push is, which lets images be pushed.`

// Command is "okd-streams serve".
func Command() *cobra.Command {
	s := &serve{}
	cmd := &cobra.Command{
		Use: "serve", Short: "Serve images, files, commits, updates and pages on one port", Long: long,
		Example: `  okd-streams serve --state ~/.cache/okd-streams/sample
  okd-streams serve --registry dir:images --push --listen 127.0.0.1:5000`,
		Args: cobra.NoArgs, DisableFlagsInUseLine: true, RunE: s.run,
	}
	flags := cmd.Flags()
	flags.StringVar(&s.state, "state", "", "`FOLDER` of a daily build: its registry, store and reports are served")
	flags.StringVar(&s.registry, "registry", "", "folder dir:PATH of OCI layouts")
	flags.StringVar(&s.store, "store", "", "dir:PATH, s3://BUCKET/PREFIX?endpoint=URL or https://HOST/PATH")
	flags.StringVar(&s.ostree, "ostree", "", "archive `REPOSITORY`")
	flags.StringVar(&s.graph, "graph", "", "update graph, a `FILE` as okd-streams graph prints")
	flags.StringVar(&s.pages, "pages", "", "`FOLDER` of files to look at")
	flags.StringVar(&s.status, "status", "", "readiness to show in /browse/, a `FILE` as okd-streams status -o json prints")
	flags.StringVar(&s.listen, "listen", "127.0.0.1:8080", "`ADDRESS` to listen on; port 0: any")
	flags.BoolVar(&s.public, "public", false, "listen on an address that others can reach")
	flags.BoolVar(&s.push, "push", false, "let images be pushed and tagged")
	ui.AddOutput(flags)
	ui.AddJSON(flags)
	flags.BoolVarP(&s.verbose, "verbose", "v", false, "log each request")
	return cmd
}

type serve struct {
	state, registry, store, ostree, graph, pages, status, listen string
	public, push, verbose                                        bool

	hidden  []string // below pages
	closers []io.Closer
}

// service is one of the things that are served.
type service struct {
	Name    string `json:"name"`
	URL     string `json:"url"`
	Serving string `json:"serving"` // what
	Use     string `json:"use"`     // how, for people

	path    string
	handler http.Handler
}

func (s *serve) run(cmd *cobra.Command, _ []string) (err error) {
	ctx := cmd.Context()
	if s.state != "" {
		if _, err := os.Stat(s.state); err != nil {
			return err
		}
		s.fromState()
	}
	if s.status != "" && s.store == "" {
		return ui.Usagef("--status is shown in the pages of a store: give --store or --state")
	}
	if s.registry+s.store+s.ostree+s.graph+s.pages == "" {
		return ui.Usagef("nothing to serve: give --state, or --registry, --store, --ostree, --graph or --pages")
	}
	if err := s.checkAddress(); err != nil {
		return err
	}
	defer func() {
		for i := len(s.closers) - 1; i >= 0; i-- {
			err = errors.Join(err, s.closers[i].Close())
		}
	}()
	services, err := s.open(cmd)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.listen)
	if err != nil {
		return err
	}
	base := "http://" + listener.Addr().String()
	for i := range services {
		services[i].URL = base + services[i].path
		services[i].Use = strings.NewReplacer("URL", services[i].URL, "HOST", listener.Addr().String()).Replace(services[i].Use)
	}
	if err := s.announce(cmd, base, services); err != nil {
		return errors.Join(err, listener.Close())
	}
	return serveUntilDone(ctx, listener, s.log(cmd.ErrOrStderr(), mux(services)))
}

// fromState fills in what a daily build keeps in its state folder, where it is.
// What is there for the build alone is no page.
func (s *serve) fromState() {
	if s.pages == "" {
		s.hidden = []string{"cache", "repo", "registry", "store"}
	}
	for _, part := range []struct {
		to           *string
		prefix, path string
	}{
		{&s.registry, "dir:", filepath.Join(s.state, "registry")},
		{&s.store, "dir:", filepath.Join(s.state, "store")},
		{&s.pages, "", s.state},
	} {
		if info, err := os.Stat(part.path); *part.to == "" && err == nil && info.IsDir() {
			*part.to = part.prefix + part.path
		}
	}
}

// checkAddress refuses addresses that others can reach, unless they shall.
func (s *serve) checkAddress() error {
	host, port, err := net.SplitHostPort(s.listen)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return ui.Usagef("--listen %s: %w", s.listen, err)
	}
	ip, err := netip.ParseAddr(host)
	if local := host == "localhost" || err == nil && ip.IsLoopback(); !local && !s.public {
		return ui.Usagef("--listen %s is open to others, whom nobody asks who they are; give --public if it shall be", s.listen)
	}
	return nil
}

// open opens everything that is to be served.
func (s *serve) open(cmd *cobra.Command) ([]service, error) {
	ctx := cmd.Context()
	var services []service
	var updates *graph.Graph
	if s.graph != "" {
		var err error
		if updates, err = readGraph(s.graph); err != nil {
			return nil, err
		}
	}
	if s.registry != "" {
		dir, ok := strings.CutPrefix(s.registry, "dir:")
		if !ok || dir == "" {
			return nil, ui.Usagef("--registry %s: want dir:PATH", s.registry)
		}
		if err := ui.Exists(s.registry); err != nil && !s.push {
			return nil, ui.Next(fmt.Errorf("--registry: %w", err), "check the path; with --push a folder that is not there is made")
		}
		server, err := registryserver.Open(ctx, dir, &registryserver.Options{ReadOnly: !s.push})
		if err != nil {
			return nil, err
		}
		s.closers = append(s.closers, server)
		services = append(services, service{Name: "registry", Serving: s.registry, path: "/v2/", handler: server, Use: "skopeo list-tags --tls-verify=false docker://HOST/NAME"})
	}
	if s.store != "" {
		if err := ui.Exists(s.store); err != nil {
			return nil, fmt.Errorf("--store: %w", err)
		}
		store, err := open.Store(ctx, s.store, &open.StoreOptions{ReadOnly: true, S3: s3store.Options{Jitter: rand.Float64}, HTTP: httpstore.Options{Jitter: rand.Float64}})
		if err != nil {
			return nil, err
		}
		if closer, ok := store.(io.Closer); ok {
			s.closers = append(s.closers, closer)
		}
		services = append(services, service{Name: "store", Serving: s.store, path: "/store/", handler: http.StripPrefix("/store/", &objects{store}), Use: "curl URL"})
		site, err := s.site(store, updates)
		if err != nil {
			return nil, err
		}
		services = append(services, service{Name: "browse", Serving: "streams and builds", path: "/browse/", handler: http.StripPrefix("/browse", site), Use: "xdg-open URL"})
	}
	if s.ostree != "" {
		repo, err := ostree.Open(ctx, s.ostree, nil)
		if err != nil {
			return nil, err
		}
		s.closers = append(s.closers, repo)
		handler, err := ostree.Handler(repo)
		if err != nil {
			return nil, err
		}
		services = append(services, service{Name: "ostree", Serving: s.ostree, path: "/ostree/", handler: http.StripPrefix("/ostree", handler), Use: "ostree remote add --no-gpg-verify NAME URL"})
	}
	if updates != nil {
		services = append(services, service{Name: "graph", Serving: s.graph, path: "/graph", handler: graph.NewHandler(updates, nil), Use: "oc patch clusterversion version --type merge -p '{\"spec\":{\"upstream\":\"URL\"}}'"})
	}
	if s.pages != "" {
		root, err := os.OpenRoot(s.pages)
		if err != nil {
			return nil, err
		}
		s.closers = append(s.closers, root)
		services = append(services, service{Name: "pages", Serving: s.pages, path: "/pages/", handler: http.StripPrefix("/pages/", pages(root.FS(), s.hidden)), Use: "xdg-open URL"})
	}
	return services, nil
}

// site makes the pages of the store.
func (s *serve) site(store publish.Store, updates *graph.Graph) (*browse.Site, error) {
	opts := &browse.Options{Files: "/store/", Graph: updates}
	if s.status != "" {
		var err error
		if opts.Status, err = browsecmd.Status(s.status); err != nil {
			return nil, err
		}
	}
	if s.pages == s.state && s.state != "" {
		opts.Reports = browsecmd.Reports(s.state, "/pages/")
	}
	return browse.New(store, opts)
}

func readGraph(path string) (*graph.Graph, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	g, err := graph.Decode(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return g, nil
}

func (s *serve) announce(cmd *cobra.Command, base string, services []service) error {
	rows := [][]string{{base}}
	for _, v := range services {
		rows = append(rows, []string{"  " + v.URL, v.Serving, v.Use})
	}
	return ui.Print(cmd, struct {
		URL      string    `json:"url"`
		Services []service `json:"services"`
	}{base, services}, ui.Rows(rows))
}

var indexPage = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("index").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>okd-streams</title>
<style>
` + colours + `body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
dt { font-weight: 600; margin-top: 1rem; } dd { margin: 0; } code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
</style>
</head>
<body>
<main>
<h1>okd-streams</h1>
<dl>{{range .}}
<dt><a href="{{.Path}}">{{.Name}}</a></dt><dd><code>{{.Use}}</code></dd>{{end}}
</dl>
</main>
</body>
</html>
`))
})

// Path is the service's on this host, for links that hold behind any name.
func (v service) Path() string { return v.path }

func mux(services []service) http.Handler {
	mux := http.NewServeMux()
	for _, v := range services {
		mux.Handle(v.path, v.handler)
		if v.Name == "graph" { // where clusters ask by default
			mux.Handle("/api/upgrades_info/graph", v.handler)
			mux.Handle("/api/upgrades_info/v1/graph", v.handler)
		}
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = indexPage().Execute(w, services) // the reader went away
	})
	return mux
}

// log writes a line for each request.
func (s *serve) log(w io.Writer, next http.Handler) http.Handler {
	if !s.verbose {
		return next
	}
	logger := slog.New(slog.NewTextHandler(w, nil))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		next.ServeHTTP(w, r)
		logger.LogAttrs(r.Context(), slog.LevelInfo, "request", slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Duration("took", time.Since(started)))
	})
}

// shutdownTimeout is how long transfers that are under way may take to end.
const shutdownTimeout = 30 * time.Second

func serveUntilDone(ctx context.Context, listener net.Listener, handler http.Handler) error {
	// No limit on a whole transfer: a healthy slow one may take hours.
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		stopped <- server.Shutdown(ctx)
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return err
	}
	return <-stopped
}
