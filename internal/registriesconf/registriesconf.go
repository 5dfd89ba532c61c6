package registriesconf

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// Limits.
const (
	// MaxFileSize bounds one file, bytes.
	MaxFileSize = 1 << 20
	// MaxEntries bounds the tables of a configuration, the mirrors of one, and
	// the mirrors of all mirror sets together.
	MaxEntries = 5000
)

// File is a configuration file that was read: its name is for errors.
type File struct {
	Name string
	Data []byte
}

// Config says from where to pull. The nil Config says: from the place named.
// It may be used from any goroutine.
type Config struct {
	entries []entry // by prefix
	helpers []string
}

// entry is a [[registry]] table.
type entry struct {
	prefix, location  string
	insecure, blocked bool
	mirrors           []mirror
	place             string // where it is written
}

type mirror struct {
	location string
	insecure bool
	pulls    pulls
}

// pulls says for which references a mirror is.
type pulls int

const (
	all pulls = iota
	digestOnly
	tagOnly
)

// Candidate is a repository that may have what is asked for.
type Candidate struct {
	Repository name.Repository
	// Insecure allows plain HTTP and certificates that cannot be verified.
	Insecure bool
}

// CredentialHelpers lists the names under credential-helpers: programs, or
// "containers-auth.json" for the credentials files. None: the files alone.
func (c *Config) CredentialHelpers() []string {
	if c == nil {
		return nil
	}
	return slices.Clone(c.helpers)
}

// Candidates lists where to pull repo from, in the order to try: mirrors, then
// repo itself, or the place it stands for, unless that is blocked. byDigest
// says that the reference has a digest, which some mirrors want and others
// refuse. That nothing is left is an error that wraps [fs.ErrPermission].
func (c *Config) Candidates(repo name.Repository, byDigest bool) ([]Candidate, error) {
	at := canonical(repo)
	e, rest := c.find(at)
	if e == nil {
		return []Candidate{{Repository: repo}}, nil
	}
	var out []Candidate
	blocked := ""
	add := func(location string, insecure bool) error {
		place, to := at, repo
		if location != "" && location+rest != at {
			place = location + rest
			var err error
			// Without a slash it would be taken for one of docker.io.
			if to, err = name.NewRepository(place); err != nil || !strings.Contains(place, "/") {
				return fmt.Errorf("registriesconf: %s leads from %s to %.300q, which is no repository", e.place, at, place)
			}
			place = canonical(to) // docker.io/x is docker.io/library/x
		}
		if b, _ := c.find(place); b != nil && b.blocked {
			blocked = b.place
			return nil
		}
		if candidate := (Candidate{to, insecure}); !slices.Contains(out, candidate) {
			out = append(out, candidate)
		}
		return nil
	}
	for _, m := range e.mirrors {
		if m.pulls == digestOnly && !byDigest || m.pulls == tagOnly && byDigest {
			continue
		}
		if err := add(m.location, m.insecure); err != nil {
			return nil, err
		}
	}
	if err := add(e.location, e.insecure); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("registriesconf: pull from %s: blocked by %s: %w", at, blocked, fs.ErrPermission)
	}
	return out, nil
}

// Destination checks a repository that is to be written: mirrors and locations
// do not count then, insecure and blocked do. Blocked is an error that wraps
// [fs.ErrPermission].
func (c *Config) Destination(repo name.Repository) (Candidate, error) {
	e, _ := c.find(canonical(repo))
	if e == nil {
		return Candidate{Repository: repo}, nil
	}
	if e.blocked {
		return Candidate{}, fmt.Errorf("registriesconf: push to %s: blocked by %s: %w", canonical(repo), e.place, fs.ErrPermission)
	}
	return Candidate{repo, e.insecure}, nil
}

// canonical spells repo as the files do.
func canonical(repo name.Repository) string {
	registry := repo.RegistryStr()
	if registry == name.DefaultRegistry {
		registry = "docker.io"
	}
	return registry + "/" + repo.RepositoryStr()
}

// find gives the entry with the longest prefix of at, and what of at follows
// the prefix.
func (c *Config) find(at string) (*entry, string) {
	if c == nil {
		return nil, ""
	}
	var found *entry
	var rest string
	for i := range c.entries {
		e := &c.entries[i]
		if found != nil && len(e.prefix) <= len(found.prefix) {
			continue
		}
		if r, ok := after(at, e.prefix); ok {
			found, rest = e, r
		}
	}
	return found, rest
}

// after gives what follows prefix in at, if at is prefix or lies below it.
func after(at, prefix string) (string, bool) {
	if domain, ok := strings.CutPrefix(prefix, "*"); ok {
		host, path, _ := strings.Cut(at, "/")
		bare, port, hasPort := strings.Cut(host, ":")
		if !strings.HasSuffix(bare, domain) {
			return "", false
		}
		rest := ""
		if hasPort {
			rest = ":" + port // stays, as with podman
		}
		if path != "" {
			rest += "/" + path
		}
		return rest, true
	}
	rest, ok := strings.CutPrefix(at, prefix)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// New puts a configuration together: conf are registries.conf and its drop-ins,
// in order, sets are YAML files with mirror sets. The errors of all files are
// joined.
func New(conf, sets []File) (*Config, error) {
	c := &Config{}
	var errs []error
	for _, file := range conf {
		if err := c.addConf(file); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 { // insecure of a mirror depends on them
		errs = append(errs, c.addSets(sets))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("registriesconf: %w", err)
	}
	return c, nil
}

// search finds the entry of exactly this prefix, or where it belongs.
func (c *Config) search(prefix string) (int, bool) {
	return slices.BinarySearchFunc(c.entries, prefix, func(e entry, prefix string) int { return strings.Compare(e.prefix, prefix) })
}

// put adds e, or replaces the entry of its prefix.
func (c *Config) put(e entry) {
	i, ok := c.search(e.prefix)
	if ok {
		c.entries[i] = e
	} else {
		c.entries = slices.Insert(c.entries, i, e)
	}
}

// get gives the entry of exactly this prefix, until the next put.
func (c *Config) get(prefix string) *entry {
	if i, ok := c.search(prefix); ok {
		return &c.entries[i]
	}
	return nil
}

// What the distribution project understands by a host and by a repository.
var (
	hostPort       = lazyregexp.New(`^([a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(:[0-9]+)?$`)
	repositoryPath = lazyregexp.New(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
)

// checkLocation wants a host, or a repository or namespace on one.
func checkLocation(text string) (string, error) {
	trimmed := strings.TrimRight(text, "/")
	if trimmed == "" {
		return "", errors.New("is empty")
	}
	if strings.Contains(trimmed, "://") {
		return "", fmt.Errorf("%.100q: want no scheme", text)
	}
	host, path, hasPath := strings.Cut(trimmed, "/")
	if !strings.ContainsAny(host, ".:") && host != "localhost" {
		return "", fmt.Errorf("%.100q: the host needs a dot or a port", text)
	}
	if !hostPort.MatchString(host) {
		return "", fmt.Errorf("%.200q: not a host", text)
	}
	if hasPath && (len(path) > 255 || !repositoryPath.MatchString(path)) {
		return "", fmt.Errorf("%.200q: not a namespace or repository", text)
	}
	return trimmed, nil
}

// checkPrefix is checkLocation for what may also have a wildcard, tag or digest.
func checkPrefix(text string) (prefix string, matches bool, err error) {
	if domain, ok := strings.CutPrefix(text, "*."); ok {
		if domain == "" || strings.ContainsAny(domain, "/@:*") {
			return "", false, fmt.Errorf("%.100q: a wildcard is *.example.com and nothing else", text)
		}
		_, err := checkLocation("x." + domain)
		return text, err == nil, err
	}
	host, path, _ := strings.Cut(text, "/")
	if strings.ContainsAny(path, ":@") {
		repo := path[:strings.IndexAny(path, ":@")]
		_, err := checkLocation(host + "/" + repo)
		return text, false, err
	}
	prefix, err = checkLocation(text)
	return prefix, err == nil, err
}
