// Package githubcmd is the command `okd-streams github`: releases are drafted,
// checked, published and listed on GitHub.
package githubcmd

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
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/secrets"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/examples/internal/walk"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/github"
	"github.com/okd-project/okd-streams/stream"
)

// access are the flags that say where releases are, and who asks.
type access struct {
	stream, repository, api, tokenFile, app, appKey, secrets string
	installation                                             int64
	maxWait                                                  time.Duration

	def *stream.GitHub // of the definition; nil: none
}

// Command gives the command with those below it.
func Command() *cobra.Command {
	a := &access{}
	cmd := &cobra.Command{
		Use:   "github",
		Short: "Releases on GitHub",
		Long: `Releases on GitHub: as drafts whose assets are checked before anybody sees them.

Who asks is said by a token (--token-file, or GITHUB_TOKEN or GH_TOKEN in the
environment), by a GitHub App (--app and --app-key), or by the credentials of a
stream's definition (--stream; its secrets are looked for in --secrets FOLDER):
the role "token", or "key" for the App's key and "username" for its id.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return ui.Usagef("unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	set := cmd.PersistentFlags()
	set.StringVar(&a.stream, "stream", "", "`STREAM`: the name of a built-in one, or a definition's file")
	set.StringVar(&a.repository, "repository", "", "`OWNER/NAME` (default: that of the stream)")
	set.StringVar(&a.api, "api", github.DefaultAPI, "`URL` of the API; of an Enterprise server https://HOST/api/v3")
	set.StringVar(&a.tokenFile, "token-file", "", "`FILE` with a token")
	set.StringVar(&a.app, "app", "", "`ID` of a GitHub App")
	set.StringVar(&a.appKey, "app-key", "", "`FILE` with a private key of the App")
	set.Int64Var(&a.installation, "installation", 0, "`NUMBER` of the App's installation (default: asked for)")
	set.StringVar(&a.secrets, "secrets", "", "`FOLDER` with the definition's secrets, a folder each")
	set.DurationVar(&a.maxWait, "max-wait", 0, "longest `TIME` to wait for GitHub's limits (default: 5m)")
	ui.AddOutput(set)
	ui.AddJSON(set)
	cmd.AddCommand(prepareCommand(a), publishCommand(a), discardCommand(a), listCommand(a), viewCommand(a))
	return cmd
}

// client makes a client of what the flags say. progress may be nil.
func (a *access) client(ctx context.Context, progress func(asset string, done, total int64)) (*github.Client, error) {
	if a.stream != "" {
		def, err := walk.Definition(a.stream)
		if err != nil {
			return nil, err
		}
		if a.def = def.GitHub; a.def == nil && a.repository == "" {
			return nil, ui.Usagef("stream %s has no releases on GitHub: give --repository OWNER/NAME", a.stream)
		}
	}
	repository := a.repository
	if repository == "" && a.def != nil {
		repository = a.def.Repository
	}
	if repository == "" {
		return nil, ui.Usagef("no repository: give --repository OWNER/NAME or --stream STREAM")
	}
	opts := &github.ClientOptions{API: a.api, MaxWait: a.maxWait, Jitter: rand.Float64, Now: time.Now, Progress: progress}
	if err := a.credentials(ctx, opts); err != nil {
		return nil, err
	}
	client, err := github.NewClient(repository, opts)
	if err != nil {
		return nil, &ui.UsageError{Err: err}
	}
	return client, nil
}

// credentials fills in who asks: what flags say, else the definition, else the
// environment.
func (a *access) credentials(ctx context.Context, opts *github.ClientOptions) error {
	if a.appKey != "" && a.app == "" || a.app != "" && a.appKey == "" && a.def == nil {
		return ui.Usagef("an App needs --app ID and --app-key FILE")
	}
	var err error
	switch {
	case a.tokenFile != "":
		opts.Token, err = secrets.File(a.tokenFile)
		return err
	case a.appKey != "":
		key, err := secrets.File(a.appKey)
		opts.App = &github.App{ID: a.app, Installation: a.installation, Key: []byte(key)}
		return err
	}
	if opts.Token, err = a.defined(ctx, "token"); opts.Token != "" || err != nil {
		return err
	}
	key, err := a.defined(ctx, "key")
	if err != nil {
		return err
	}
	if key != "" {
		id := a.app
		if id == "" {
			if id, err = a.defined(ctx, "username"); err == nil && id == "" {
				err = ui.Next(ui.Usagef("the definition has the key of a GitHub App, but not of which"), "give --app ID")
			}
		}
		opts.App = &github.App{ID: id, Installation: a.installation, Key: []byte(key)}
		return err
	}
	for _, name := range []string{"GITHUB_TOKEN", "GH_TOKEN"} {
		if opts.Token = os.Getenv(name); opts.Token != "" {
			return nil
		}
	}
	return nil
}

// defined gives what the definition's credentials have for a role, "" for
// nothing. Without --secrets, keys of secrets do not count.
func (a *access) defined(ctx context.Context, role string) (string, error) {
	if a.def == nil || !secrets.Has(a.def.Credentials, role) {
		return "", nil
	}
	value, err := secrets.From(os.Getenv, a.secrets)(ctx, a.def.Credentials, role)
	if a.secrets == "" && errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return value, err
}

// advised adds what GitHub means by an answer.
func advised(err error) error {
	switch {
	case errors.Is(err, fs.ErrExist):
		return ui.Next(err, "what is published stays as it is: release the change under another tag")
	case errors.Is(err, fs.ErrPermission):
		return ui.Next(err, "give a token, or an App, that has the permission \"contents: write\" for the repository: --token-file, GITHUB_TOKEN, or --app")
	case errors.Is(err, fs.ErrNotExist):
		return ui.Next(err, "check the names; GitHub also says so of what a token may not see or change")
	}
	return err
}

// release are the flags that say what a release shall be.
type release struct {
	title, notes, target, latest string
	prerelease                   bool
}

func (r *release) register(cmd *cobra.Command) {
	set := cmd.Flags()
	set.StringVar(&r.title, "title", "", "`TITLE` (default: the tag)")
	set.StringVar(&r.notes, "notes", "", "`FILE` with the text, Markdown")
	set.StringVar(&r.target, "target", "", "`BRANCH` or commit that the tag is made of (default: the default branch)")
	set.StringVar(&r.latest, "latest", "", "`YES-OR-NO`: whether it becomes the latest: true, false, auto (by date and version; default: as the stream says, else auto)")
	set.BoolVar(&r.prerelease, "prerelease", false, "mark it as a pre-release (default: as the stream says)")
}

// spec puts together what the flags and files say.
func (r *release) spec(cmd *cobra.Command, a *access, args []string) (*github.Spec, error) {
	s := &github.Spec{Tag: args[0], Name: r.title, Target: r.target, Prerelease: r.prerelease}
	filter := stream.Filter{}
	if a.def != nil {
		filter = a.def.Assets
		if !cmd.Flags().Changed("prerelease") {
			s.Prerelease = a.def.Prerelease
		}
		if a.def.Latest && !s.Prerelease {
			s.Latest = github.IsLatest
		} else {
			s.Latest = github.NotLatest
		}
	}
	switch r.latest {
	case "":
	case "true":
		s.Latest = github.IsLatest
	case "false":
		s.Latest = github.NotLatest
	case "auto":
		s.Latest = github.LatestByVersion
	default:
		return nil, ui.Usagef("--latest %s: it is true, false or auto", r.latest)
	}
	if r.notes != "" {
		text, err := readText(r.notes)
		if err != nil {
			return nil, err
		}
		s.Body = text
	}
	var err error
	s.Assets, err = uploads(args[1:], filter)
	return s, err
}

// readText reads the text of a release.
func readText(path string) (string, error) {
	const limit = github.MaxBodySize * utf8.UTFMax
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err = errors.Join(err, file.Close()); err == nil && len(data) > limit {
		err = fmt.Errorf("%s has more than %d bytes: GitHub takes %d characters", path, limit, github.MaxBodySize)
	}
	return string(data), err
}

// uploads are the files named, and those in the folders named, by name, that the
// filter lets through.
func uploads(paths []string, filter stream.Filter) ([]github.Upload, error) {
	var out []github.Upload
	add := func(path string) error {
		src, err := publish.FileSource(path)
		if err == nil {
			out = append(out, github.Upload{Name: filepath.Base(path), Source: src})
		}
		return err
	}
	for _, p := range paths {
		info, err := os.Stat(p)
		if err == nil && !info.IsDir() {
			err = add(p)
		} else if err == nil {
			var entries []os.DirEntry
			entries, err = os.ReadDir(p)
			for _, e := range entries {
				if err == nil && e.Type().IsRegular() && chosen(filter, e.Name()) {
					err = add(filepath.Join(p, e.Name()))
				}
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// chosen applies a filter, whose patterns the definition's parser checked.
func chosen(filter stream.Filter, name string) bool {
	matches := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(pattern string) bool {
			ok, err := path.Match(pattern, name)
			return ok && err == nil
		})
	}
	return (len(filter.Include) == 0 || matches(filter.Include)) && !matches(filter.Exclude)
}

func prepareCommand(a *access) *cobra.Command {
	return releaseCommand(a, "prepare", "Make the draft of a release, with its assets, for nobody to see yet", (*github.Client).Prepare)
}

func publishCommand(a *access) *cobra.Command {
	return releaseCommand(a, "publish", "Prepare a release, and show it to the world", (*github.Client).Publish)
}

func releaseCommand(a *access, verb, short string, do func(*github.Client, context.Context, *github.Spec) (*github.Release, error)) *cobra.Command {
	r := &release{}
	cmd := &cobra.Command{
		Use:   verb + " TAG [FILE-OR-FOLDER...]",
		Short: short,
		Long: short + `.

Run again it goes on where it was, and over a finished release it changes nothing.
Files are assets; of a folder those that the stream's definition lets through.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			progress := ui.NewProgress(cmd.ErrOrStderr(), time.Now, false)
			defer progress.Done()
			client, err := a.client(cmd.Context(), func(asset string, done, total int64) { progress.Update("upload", asset, done, total, true) })
			if err != nil {
				return err
			}
			spec, err := r.spec(cmd, a, args)
			if err != nil {
				return err
			}
			made, err := do(client, cmd.Context(), spec)
			progress.Done()
			if errors.Is(err, publish.ErrDigest) {
				err = &ui.VerificationError{Err: err}
			}
			if err != nil {
				return advised(err)
			}
			return a.print(cmd, made)
		},
	}
	r.register(cmd)
	return cmd
}

func discardCommand(a *access) *cobra.Command {
	return &cobra.Command{
		Use: "discard TAG", Short: "Delete the draft of a release; a published one stays", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client(cmd.Context(), nil)
			if err != nil {
				return err
			}
			return advised(client.Discard(cmd.Context(), args[0]))
		},
	}
}

func viewCommand(a *access) *cobra.Command {
	return &cobra.Command{
		Use: "view [TAG]", Short: "Show a release; without TAG the latest", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client(cmd.Context(), nil)
			if err != nil {
				return err
			}
			var r *github.Release
			if len(args) == 0 {
				r, err = client.Latest(cmd.Context())
			} else {
				r, err = client.Release(cmd.Context(), args[0])
			}
			if err != nil {
				return advised(err)
			}
			return a.print(cmd, r)
		},
	}
}

func listCommand(a *access) *cobra.Command {
	limit := 0
	cmd := &cobra.Command{
		Use: "list", Short: "List releases, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client(cmd.Context(), nil)
			if err != nil {
				return err
			}
			rows, all := [][]string{}, []*github.Release{}
			for r, err := range client.Releases(cmd.Context()) {
				if err != nil {
					return advised(err)
				}
				rows = append(rows, []string{r.Tag, state(r), fmt.Sprintf("%d assets", len(r.Assets))})
				if all = append(all, r); len(all) == limit {
					break
				}
			}
			return ui.Print(cmd, all, ui.Rows(rows))
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 30, "`NUMBER` of releases at most; 0: all")
	return cmd
}

func state(r *github.Release) string {
	switch {
	case r.Draft:
		return "draft"
	case r.Prerelease:
		return "pre-release"
	}
	return "release"
}

// print shows a release with its assets.
func (a *access) print(cmd *cobra.Command, r *github.Release) error {
	rows := [][]string{{r.Tag, state(r), r.URL}}
	for _, asset := range r.Assets {
		rows = append(rows, []string{"  " + asset.Name, ui.Size(asset.Size), strings.TrimPrefix(asset.Digest, "sha256:")})
	}
	return ui.Print(cmd, r, ui.Rows(rows))
}
