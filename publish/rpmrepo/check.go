package rpmrepo

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/pgp"
	"github.com/okd-project/okd-streams/stream"
)

// Options are options of [Check]; nil and the zero value are useful.
type Options struct {
	// Version is the X.Y that is built; zero: the definition's.
	Version stream.Minor
	// ReleaseVer is what $releasever in addresses stands for, which otherwise the
	// base image knows alone: such a repository is [Failed] without.
	ReleaseVer string
	// Secret gives the value of a role of credentials, and an error that wraps
	// [fs.ErrNotExist] where there is none here; nil: there are none.
	Secret func(ctx context.Context, c *stream.Credentials, role string) (string, error)
	// ReadFile reads a key that the definition names by path; nil: such keys are
	// not looked at, which the report says.
	ReadFile func(path string) ([]byte, error)
	// Now is when signatures must be good; zero: they are not checked, though
	// there are keys.
	Now time.Time
	// Transport sends requests, and those that failed again where that is safe;
	// nil: one with time limits and the environment's proxies.
	Transport http.RoundTripper
	// Jitter gives values in [0,1) by which waits differ; nil: the longest.
	Jitter func() float64
	// Logger gets each request at debug level; nil: silent.
	Logger *slog.Logger
}

// check is a run of [Check].
type check struct {
	def     *stream.Definition
	o       Options
	client  *http.Client
	wants   []*want
	exact   map[string][]*want // by what they are called as a whole
	byName  map[string][]*want // by every name that they may mean
	known   map[string]bool    // names of packages
	letters int                // in known
	report  *Report
}

// maxKnown bounds the names that are kept for suggestions, bytes.
const maxKnown = 32 << 20

// want is a package that is asked for on an architecture.
type want struct {
	request *Request
	arches  []string
	// Reasons why it is missing, each said once.
	reasons []string
}

// Check reads the repositories of a definition, and looks for the packages that
// it asks for. That packages are missing, or repositories cannot be read, is in
// the report, not an error: see [Report.Err].
func Check(ctx context.Context, def *stream.Definition, opts *Options) (*Report, error) {
	c := &check{def: def, exact: map[string][]*want{}, byName: map[string][]*want{}, known: map[string]bool{}}
	if opts != nil {
		c.o = *opts
	}
	if c.o.Version == (stream.Minor{}) {
		c.o.Version = def.Version
	}
	transport := httpx.NewTransport(c.o.Transport, &httpx.Options{Attempts: 3, Jitter: c.o.Jitter, Logger: c.o.Logger})
	if c.o.Transport == nil {
		defer transport.CloseIdleConnections()
	}
	c.client = httpx.NewClient(transport)
	c.report = &Report{Stream: def.Identity.Name, Version: c.o.Version.String(), Repositories: []Repository{}, Requests: []Request{}}
	c.ask()
	for i := range def.OS.Repositories {
		if err := c.repository(ctx, i); err != nil {
			return nil, &Error{Op: "check", Target: def.Identity.Name, Err: err}
		}
	}
	c.conclude()
	return c.report, nil
}

// ask collects what is asked for.
func (c *check) ask() {
	if c.def.OS.Manager == stream.APT {
		return
	}
	add := func(path, name string, arches []stream.Arch) {
		if len(arches) == 0 {
			arches = c.def.Architectures
		}
		for _, arch := range arches {
			w := &want{request: &Request{Path: path, Package: name, Arch: arch}, arches: compatible(arch)}
			c.wants = append(c.wants, w)
			c.exact[name] = append(c.exact[name], w)
			for _, n := range names(name) {
				c.byName[n] = append(c.byName[n], w)
			}
		}
	}
	for i, name := range c.def.OS.Packages {
		add(fmt.Sprintf("os.packages[%d]", i), name, nil)
	}
	for i, set := range c.def.Extensions.Sets {
		for j, name := range set.Packages {
			add(fmt.Sprintf("extensions.sets[%d].packages[%d]", i, j), name, set.Architectures)
		}
	}
}

// repository looks into one of the definition's, for each architecture. An error
// is the context's.
func (c *check) repository(ctx context.Context, i int) error {
	of := c.def.OS.Repositories[i]
	byURL := map[string]*Repository{}
	for _, arch := range c.def.Architectures {
		text, err := c.address(of, arch)
		r := byURL[text]
		if r != nil && err == nil {
			r.Arches = append(r.Arches, arch)
			continue
		}
		r = &Repository{Path: fmt.Sprintf("os.repositories[%d]", i), Name: of.Name, Arches: []stream.Arch{arch}}
		byURL[text] = r
		if err != nil {
			r.State, r.Cause, r.Err = Failed, err.Error(), err
		} else if u, err := url.Parse(text); err != nil {
			r.State, r.Cause, r.Err = Failed, "not an address", err
		} else {
			r.URL = httpx.RedactURL(u)
			c.look(ctx, of, u, r)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	for _, arch := range c.def.Architectures { // in their order
		for _, r := range byURL {
			if r.Arches[0] == arch {
				c.report.Repositories = append(c.report.Repositories, *r)
			}
		}
	}
	return nil
}

// address is where a repository is.
func (c *check) address(of stream.RPMRepository, arch stream.Arch) (string, error) {
	text, err := of.BaseURL.Expand(stream.Vars{Minor: c.o.Version.String(), Arch: string(arch), Stream: c.def.Identity.Name})
	if err != nil {
		return "", err
	}
	if strings.Contains(text, "$releasever") && c.o.ReleaseVer == "" {
		return "", errors.New("its address has $releasever, which the base image knows alone, and none was given")
	}
	return strings.NewReplacer("$releasever", c.o.ReleaseVer, "$basearch", string(arch), "$arch", string(arch)).Replace(text), nil
}

// seen is what a repository has, until all of it was verified.
type seen struct {
	best    map[*want]pkg
	reasons map[*want]string
	names   map[string]bool
}

// look reads a repository and says in r how that went.
func (c *check) look(ctx context.Context, of stream.RPMRepository, u *url.URL, r *Repository) {
	at := &remote{client: c.client, base: u}
	missing := c.credentials(ctx, of, at)
	keys, unchecked := c.keys(ctx, of)
	p, signer, err := at.open(ctx, keys, c.o.Now)
	if errors.Is(err, errUnsigned) {
		unchecked, err = "the key of the definition was not needed: "+errUnsigned.Error(), nil
	}
	found := &seen{map[*want]pkg{}, map[*want]string{}, map[string]bool{}}
	if err == nil {
		r.Packages, err = at.packages(ctx, p, func(name []byte) bool { return c.exact[string(name)] != nil }, func(p *pkg) { c.see(of, p, found) })
	}
	if err != nil {
		r.fail(err, of, missing)
		return
	}
	r.State, r.Signer, r.Note = Read, signer, unchecked
	for w, p := range found.best {
		w.request.Found = append(w.request.Found, Candidate{Repository: of.Name, Package: p.nevra()})
	}
	for w, reason := range found.reasons {
		w.reasons = append(w.reasons, of.Name+reason)
	}
	for name := range found.names {
		if c.letters+len(name) <= maxKnown && !c.known[name] {
			c.known[name] = true
			c.letters += len(name)
		}
	}
}

// see looks at a package of a repository.
func (c *check) see(of stream.RPMRepository, p *pkg, found *seen) {
	hidden := hides(of.Include, of.Exclude, p)
	if !hidden && len(found.names) < maxKnown/64 {
		found.names[p.name] = true
	}
	asked := c.byName[p.name]
	var forms []string
	if len(asked) > 0 {
		forms = p.forms()
	}
	for _, w := range asked {
		if slices.Contains(forms, w.request.Package) {
			w.take(p, hidden, found, true)
		} else if w.request.Package != p.name && !hidden && slices.Contains(w.arches, p.arch) && strings.HasPrefix(w.request.Package, p.name+"-") && isVersion(w.request.Package[len(p.name)+1:]) {
			found.reasons[w] = " has " + p.nevra() + " instead"
		}
	}
	for _, name := range p.provides {
		for _, w := range c.exact[name] {
			if name != p.name {
				w.take(p, hidden, found, false)
			}
		}
	}
}

// isVersion tells foo-1.0, another version of foo, from foo-libs, another package.
func isVersion(text string) bool { return text != "" && '0' <= text[0] && text[0] <= '9' }

// take notes a package that is what is asked for, if it may be used. What is
// called so counts more than what provides it, and the newest of these.
func (w *want) take(p *pkg, hidden bool, found *seen, called bool) {
	switch {
	case !slices.Contains(w.arches, p.arch):
		if found.reasons[w] == "" {
			found.reasons[w] = " has it only for " + p.arch
		}
		return
	case hidden:
		found.reasons[w] = " has " + p.nevra() + ", which include or exclude of the definition hides"
		return
	}
	have, ok := found.best[w]
	switch {
	case ok && !called:
		return
	case ok && have.name == p.name && !older(&have, p):
		return
	}
	one := *p
	one.provides = nil
	found.best[w] = one
}

// credentials puts those of the definition into requests, and says which it
// names that are not here.
func (c *check) credentials(ctx context.Context, of stream.RPMRepository, at *remote) (missing error) {
	if of.Credentials == nil {
		return nil
	}
	get := func(role string) string {
		if of.Credentials.Keys[role] == "" && of.Credentials.Env[role] == "" {
			return ""
		}
		if c.o.Secret == nil {
			missing = errors.Join(missing, fmt.Errorf("%s: %w", role, fs.ErrNotExist))
			return ""
		}
		value, err := c.o.Secret(ctx, of.Credentials, role)
		if err != nil {
			missing = errors.Join(missing, fmt.Errorf("%s: %w", role, err))
		}
		return value
	}
	user, password, token := get("username"), get("password"), get("token")
	switch {
	case missing != nil:
	case token != "":
		at.auth, at.secret = "Bearer "+token, []string{token}
	case user != "" || password != "":
		at.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
		at.secret = []string{password}
	}
	return missing
}

// keys reads the key of a repository; note says why its metadata are not checked
// by it.
func (c *check) keys(ctx context.Context, of stream.RPMRepository) (keys *pgp.Keyring, note string) {
	if of.GPGKey == "" || c.o.Now.IsZero() {
		return nil, ""
	}
	var data []byte
	u, err := url.Parse(of.GPGKey)
	switch {
	case err == nil && (u.Scheme == "http" || u.Scheme == "https"):
		data, err = (&remote{client: c.client, base: u}).document(ctx, "", pgp.MaxKeyringSize)
	case c.o.ReadFile == nil:
		return nil, "its signature was not checked: the key is a file of the build"
	default:
		data, err = c.o.ReadFile(strings.TrimPrefix(of.GPGKey, "file://"))
	}
	if err == nil {
		keys, err = pgp.ParseKeyring(data)
	}
	if err != nil {
		return nil, "its signature was not checked: key " + httpx.Printable(httpx.RedactText(of.GPGKey)) + ": " + httpx.Printable(err.Error())
	}
	return keys, ""
}

// conclude says of each request what became of it.
func (c *check) conclude() {
	for _, w := range c.wants {
		r := w.request
		var unread []string
		for _, repo := range c.report.Repositories {
			if repo.State != Read && slices.Contains(repo.Arches, r.Arch) {
				unread = append(unread, repo.Name)
			}
		}
		switch {
		case len(r.Found) > 0:
			r.State = Found
		case len(c.def.OS.Repositories) == 0:
			r.State, r.Cause = Unknown, "the definition has no repositories, and those of the base image are not looked at"
		case len(unread) > 0:
			r.State, r.Cause = Unknown, "it may be in "+strings.Join(unread, ", ")+", which could not be read"
		default:
			r.State, r.Cause = Missing, "no repository of the definition has it"
		}
		if r.State != Found {
			slices.Sort(w.reasons)
			if len(w.reasons) > 0 {
				r.Cause += "; " + strings.Join(w.reasons, "; ")
			} else {
				r.Near = near(r.Package, c.known)
			}
		}
		c.report.Requests = append(c.report.Requests, *r)
	}
}
