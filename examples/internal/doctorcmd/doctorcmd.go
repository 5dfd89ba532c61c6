// Package doctorcmd looks at a machine and says what on it would go wrong with
// a stream, and what to do about it.
package doctorcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/remote"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/open"
	"github.com/okd-project/okd-streams/publish/prow"
	"github.com/okd-project/okd-streams/publish/s3store"
	"github.com/okd-project/okd-streams/stream"
)

const long = `Look at this machine and say what would go wrong with a stream, before it does:
the folder that work is done in, the programs that are asked for help, clock,
registry and store. With --stream it is that stream's; nothing is published, but
with --write an object is put into the store and removed again.

It fails if something would.`

// Command is "okd-streams doctor".
func Command() *cobra.Command {
	d := &doctor{}
	cmd := &cobra.Command{
		Use: "doctor", Short: "Find out what on this machine would go wrong", Long: long, Args: cobra.NoArgs, RunE: d.run,
	}
	flags := cmd.Flags()
	flags.StringVar(&d.stream, "stream", "", "built-in stream or `FILE` of a definition")
	flags.StringVar(&d.state, "state", "", "`FOLDER` that work is done in (default: the user's cache folder)")
	flags.StringVar(&d.store, "store", "", "`STORE` to look at (default: the stream's)")
	flags.StringVar(&d.registry, "registry", "", "`REGISTRY` to look at: docker://HOST/PATH or dir:PATH (default: the stream's)")
	flags.StringVar(&d.s3Credentials, "s3-credentials", "", "shared credentials `FILE` of the AWS tools, or the folder with it")
	flags.BoolVar(&d.write, "write", false, "also put an object into the store, and remove it")
	ui.AddOutput(flags)
	ui.AddJSON(flags)
	d.remote.Add(flags)
	return cmd
}

type doctor struct {
	stream, state, store, registry, s3Credentials string
	write                                         bool
	remote                                        remote.Flags

	def      *stream.Definition
	findings []finding
}

// finding is what was found out about one thing.
type finding struct {
	What   string `json:"what"`
	State  string `json:"state"` // ok, warning or failed
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

func (d *doctor) add(what, state, found, advice string) {
	d.findings = append(d.findings, finding{what, state, found, advice})
}

func (d *doctor) ok(what, found string)              { d.add(what, "ok", found, "") }
func (d *doctor) warn(what, found, advice string)    { d.add(what, "warning", found, advice) }
func (d *doctor) failure(what, found, advice string) { d.add(what, "failed", found, advice) }

func (d *doctor) run(cmd *cobra.Command, _ []string) error {
	if d.stream != "" {
		def, err := walk.Definition(d.stream)
		if err != nil {
			return err
		}
		d.def = def
		if d.registry == "" {
			d.registry = def.Registry.Repository
			if !strings.HasPrefix(d.registry, "dir:") {
				d.registry = "docker://" + d.registry
			}
		}
		if d.store == "" {
			d.store = walk.StoreURL(def)
		}
	}
	ctx := cmd.Context()
	d.machine()
	d.folder()
	d.programs(ctx)
	if d.registry != "" {
		d.lookAtRegistry(ctx)
	}
	if d.store != "" {
		d.lookAtStore(ctx)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.print(cmd); err != nil {
		return err
	}
	failed := 0
	for _, f := range d.findings {
		c := prow.Case{Name: f.What}
		if f.State == "failed" {
			failed++
			c.Failure = f.Found + "\n" + f.Advice
		}
		ui.AddCases(ctx, c)
	}
	if failed > 0 {
		return ui.Next(fmt.Errorf("%d of %d checks failed", failed, len(d.findings)), "do what is written beside them, and run it again")
	}
	return nil
}

func (d *doctor) print(cmd *cobra.Command) error {
	return ui.Print(cmd, d.findings, func(w io.Writer) error {
		for _, f := range d.findings {
			if _, err := fmt.Fprintf(w, "%-8s %s: %s\n", f.State, f.What, f.Found); err != nil {
				return err
			}
			if f.Advice == "" {
				continue
			}
			if _, err := fmt.Fprintf(w, "         %s\n", f.Advice); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *doctor) machine() {
	d.ok("machine", fmt.Sprintf("%s/%s, %d processors, %s", runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), runtime.Version()))
	if _, err := os.UserHomeDir(); err != nil {
		d.warn("home", "there is none", "name --state, and --authfile where credentials are needed")
	}
}

// folder looks at where work is done.
func (d *doctor) folder() {
	dir := d.state
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			base = os.TempDir()
		}
		dir = filepath.Join(base, "okd-streams")
	}
	existing := dir
	for { // what would be made is judged by where
		if _, err := os.Stat(existing); !errors.Is(err, fs.ErrNotExist) || filepath.Dir(existing) == existing {
			break
		}
		existing = filepath.Dir(existing)
	}
	temp, err := os.MkdirTemp(existing, ".okd-streams-doctor-*")
	if err != nil {
		d.failure("folder", err.Error(), "name another with --state")
		return
	}
	defer func() { _ = os.RemoveAll(temp) }()
	d.ok("folder", dir)
	d.disk(temp)
}

// programs looks for what is asked for help where a stream needs it.
func (d *doctor) programs(ctx context.Context) {
	layered := d.def != nil && d.def.OS.Containerfile != ""
	path, err := exec.LookPath("buildah")
	switch {
	case err == nil:
		out, err := exec.CommandContext(ctx, path, "--version").Output()
		if err != nil {
			d.failure("buildah", err.Error(), "run buildah --version, and mend what it says")
			return
		}
		d.ok("buildah", strings.TrimSpace(string(out)))
	case layered:
		d.failure("buildah", "not found, and the stream's node image is built with it", "install it, or give a node image that was built elsewhere with --node")
	default:
		d.ok("buildah", "not found, and not needed")
	}
	if d.def == nil || !d.def.OS.Builder.KVM {
		return
	}
	file, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		d.warn("kvm", err.Error(), "disk images are made elsewhere, and given with --disk; commits, images and releases need none")
		return
	}
	_ = file.Close()
	d.ok("kvm", "/dev/kvm can be opened")
}

// clockSkew is how far clocks may be apart before signatures and tokens fail.
const clockSkew = 2 * time.Minute

func (d *doctor) lookAtRegistry(ctx context.Context) {
	what := "registry " + d.registry
	if strings.HasPrefix(d.registry, "dir:") {
		d.ok(what, "a folder")
		return
	}
	repo, err := open.Repository(d.registry, "okd-streams-doctor")
	if err != nil {
		d.failure(what, err.Error(), "write docker://HOST/PATH")
		return
	}
	registry, err := open.Registry(ctx, d.registry, &open.RegistryOptions{Remote: d.remote.Options(nil)})
	if err != nil {
		d.failure(what, err.Error(), "write docker://HOST/PATH")
		return
	}
	_, err = registry.Head(ctx, repo.Tag("none"))
	switch {
	case err == nil || errors.Is(err, fs.ErrNotExist):
		d.ok(what, "answers")
	case errors.Is(err, fs.ErrPermission):
		d.warn(what, err.Error(), "podman login, or --authfile, if it shall be read or written")
	default:
		d.failure(what, err.Error(), "check the address and the network; podman login "+repo.RegistryStr()+" tries the same")
	}
	d.clock(ctx, repo.Scheme()+"://"+repo.RegistryStr()+"/v2/")
}

// clock compares the clock with that of a server, if it answers.
func (d *doctor) clock(ctx context.Context, address string) {
	transport, err := open.Transport(nil)
	if err != nil {
		d.failure("proxy", err.Error(), "check the proxy's variables")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return // the registry was found to answer, or not, already
	}
	defer resp.Body.Close()
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return
	}
	if by := time.Since(theirs); by > clockSkew || by < -clockSkew {
		d.failure("clock", fmt.Sprintf("%s from the registry's", by.Round(time.Second)), "set the clock: tokens and signatures would not be accepted")
		return
	}
	d.ok("clock", "as the registry's")
}

func (d *doctor) lookAtStore(ctx context.Context) {
	what := "store " + d.store
	store, err := open.Store(ctx, d.store, &open.StoreOptions{
		ReadOnly: !d.write, S3: s3store.Options{CredentialsFile: d.s3Credentials, Jitter: rand.Float64},
	})
	if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(d.store, "dir:") {
		d.ok(what, "a folder that will be made")
		return
	}
	if err != nil {
		d.failure(what, err.Error(), "check --store")
		return
	}
	const key = "okd-streams-doctor"
	if _, err := store.Stat(ctx, key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.failure(what, err.Error(), "check address and credentials (--s3-credentials, or as the AWS tools find them)")
		return
	}
	if !d.write {
		d.ok(what, "can be read; --write shows whether it can be written")
		return
	}
	info, err := store.Put(ctx, key, publish.BytesSource([]byte("okd-streams doctor\n")), &publish.PutOptions{ContentType: "text/plain"})
	if err != nil {
		d.failure(what, err.Error(), "give the credentials the right to put objects")
		return
	}
	// The index of builds is safe only with conditions.
	_, conditional := store.Put(ctx, key, publish.BytesSource([]byte("other\n")), &publish.PutOptions{IfAbsent: true})
	if err := store.Delete(ctx, key); err != nil {
		d.warn(what, err.Error(), "it can be written, but nothing can be removed: prune will fail")
		return
	}
	switch {
	case errors.Is(conditional, fs.ErrExist):
		d.ok(what, fmt.Sprintf("can be written, and honours conditions (%d bytes)", info.Size))
	case conditional == nil:
		d.failure(what, "it ignores conditions, so two writers would lose builds", "use a store that honours If-None-Match, or one writer alone")
	default:
		d.failure(what, conditional.Error(), "use a store that honours If-None-Match, or one writer alone")
	}
}
