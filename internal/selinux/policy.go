package selinux

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
)

// Limits of what [Read] accepts. Fedora's policy has 7,000 lines, 600 KiB.
const (
	maxConfig    = 1 << 20
	maxFile      = 32 << 20
	maxSpecs     = 200_000
	maxSubs      = 10_000
	maxLine      = 16 << 10
	maxPattern   = 4095 // as libselinux
	maxFaults    = 20   // that are reported at once
	maxPathBytes = 1 << 20
)

// Policy is what an SELinux policy says of paths. It is safe for concurrent use.
type Policy struct {
	name     string
	subs     []sub // the last line first
	distSubs []sub

	mu sync.Mutex // of the automaton, which grows
	a  automaton
}

// sub replaces the beginning of a path.
type sub struct{ from, to string }

// Read reads the policy of a tree: that which etc/selinux/config names, or
// usr/etc/selinux/config where there is no etc/selinux. A tree without policy, or
// where SELinux is disabled, is an error that wraps [fs.ErrNotExist]; a policy that
// is damaged or too large is one that does not. All faults of the first file that
// has any, up to 20, are joined.
func Read(fsys fs.FS) (*Policy, error) {
	dir := "etc/selinux"
	if _, err := fs.Stat(fsys, dir); errors.Is(err, fs.ErrNotExist) {
		dir = "usr/etc/selinux"
	}
	config := path.Join(dir, "config")
	text, err := readFile(fsys, config, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("selinux: %w", err)
	}
	name, enabled := parseConfig(text)
	if !enabled {
		return nil, fmt.Errorf("selinux: %s does not enable SELinux: %w", config, fs.ErrNotExist)
	}
	if !fs.ValidPath(name) || name == "." || strings.ContainsRune(name, '/') {
		return nil, fmt.Errorf("selinux: %s: SELINUXTYPE=%.80q is not the name of a policy", config, name)
	}
	p, err := readContexts(fsys, path.Join(dir, name, "contexts/files/file_contexts"))
	if err != nil {
		return nil, err
	}
	p.name = name
	return p, nil
}

// parseConfig gives SELINUXTYPE and whether SELINUX is not disabled, as libostree
// reads them.
func parseConfig(text string) (name string, enabled bool) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "SELINUXTYPE="); ok {
			name = strings.TrimSpace(value)
		} else if value, ok := strings.CutPrefix(line, "SELINUX="); ok {
			value = strings.ToLower(value)
			enabled = enabled || strings.HasPrefix(value, "enforcing") || strings.HasPrefix(value, "permissive")
		}
	}
	return name, enabled
}

// readContexts reads file and what belongs to it.
func readContexts(fsys fs.FS, file string) (*Policy, error) {
	p := &Policy{}
	var specs []spec
	for _, suffix := range []string{"", ".homedirs", ".local"} {
		text, err := readFile(fsys, file+suffix, maxFile)
		if errors.Is(err, fs.ErrNotExist) {
			if suffix != "" {
				continue
			}
			if _, err := fs.Stat(fsys, file+".bin"); err == nil {
				return nil, fmt.Errorf("selinux: %s is there only as compiled .bin: %w", file, errors.ErrUnsupported)
			}
			return nil, fmt.Errorf("selinux: the policy has no %s: %w", file, fs.ErrInvalid)
		}
		if err == nil {
			specs, err = parseSpecs(specs, file+suffix, text)
		}
		if err != nil {
			return nil, fmt.Errorf("selinux: %w", err)
		}
	}
	for suffix, list := range map[string]*[]sub{".subs": &p.subs, ".subs_dist": &p.distSubs} {
		text, err := readFile(fsys, file+suffix, maxConfig)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			*list, err = parseSubs(file+suffix, text)
		}
		if err != nil {
			return nil, fmt.Errorf("selinux: %w", err)
		}
	}
	p.a.init(specs)
	return p, nil
}

// readFile reads a text file of at most limit bytes.
func readFile(fsys fs.FS, name string, limit int64) (string, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return "", err
	}
	if int64(len(data)) > limit {
		return "", fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return string(data), nil
}

// Name is the policy's name, as "targeted": SELINUXTYPE of the config.
func (p *Policy) Name() string { return p.name }

// Lookup gives the label of an absolute path. Of mode, as in st_mode, the file
// type counts; 0 is "any type". "" means that the policy gives no label.
func (p *Policy) Lookup(name string, mode uint32) (string, error) {
	if name == "" || len(name) > maxPathBytes || strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("selinux: no path: %.80q", name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s, err := p.a.match(p.substitute(clean(name)), kindOf(mode))
	if err != nil {
		return "", fmt.Errorf("selinux: %w", err)
	}
	if s == nil || s.label == none {
		return "", nil
	}
	return s.label, nil
}

// clean takes doubled slashes and a trailing one away.
func clean(name string) string {
	if strings.Contains(name, "//") {
		var b strings.Builder
		for i := range len(name) {
			if name[i] != '/' || i == 0 || name[i-1] != '/' {
				b.WriteByte(name[i])
			}
		}
		name = b.String()
	}
	if len(name) > 1 {
		name = strings.TrimSuffix(name, "/")
	}
	return name
}

func (p *Policy) substitute(name string) string {
	return substituteFirst(p.distSubs, substituteFirst(p.subs, name))
}

// substituteFirst replaces the beginning of name by the first of list that fits.
func substituteFirst(list []sub, name string) string {
	for i := range list {
		s := &list[i]
		rest, ok := strings.CutPrefix(name, s.from)
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		if rest != "" && s.to == "/" {
			return rest
		}
		return s.to + rest
	}
	return name
}
