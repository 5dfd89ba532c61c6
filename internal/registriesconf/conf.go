package registriesconf

import (
	"errors"
	"fmt"
	"slices"
)

// addConf adds a registries.conf.
func (c *Config) addConf(file File) error {
	if len(file.Data) > MaxFileSize {
		return fmt.Errorf("%s: more than %d bytes: %w", file.Name, MaxFileSize, errors.ErrUnsupported)
	}
	root, err := parseTOML(file.Data)
	if err != nil {
		return fmt.Errorf("%s: %w", file.Name, err)
	}
	d := &confReader{name: file.Name}
	if v := root.m["registries"]; v != nil {
		d.fail(v.line, "[registries] is version 1 of the format: %w", errors.ErrUnsupported)
	}
	if v := root.m["credential-helpers"]; v != nil {
		c.helpers = d.strings("credential-helpers", v)
	}
	var entries []entry
	for _, t := range d.tables("registry", root.m["registry"]) {
		if e, ok := d.registry(t); ok {
			entries = append(entries, e)
		}
	}
	d.conflicts(entries)
	if err := d.err(); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, e := range entries {
		if seen[e.prefix] { // within a file the first counts
			continue
		}
		seen[e.prefix] = true
		c.put(e)
		if len(c.entries) > MaxEntries {
			return fmt.Errorf("%s: more than %d registries: %w", file.Name, MaxEntries, errors.ErrUnsupported)
		}
	}
	return nil
}

// confReader turns tables into entries and collects what is wrong with them.
type confReader struct {
	faults
	name string
}

func (d *confReader) fail(line int, format string, args ...any) {
	d.add(fmt.Errorf("%s:%d: %w", d.name, line, fmt.Errorf(format, args...)))
}

func (d *confReader) tables(key string, v *value) []*table {
	if v == nil {
		return nil
	}
	switch list := v.v.(type) {
	case *tables:
		return *list
	case []*value:
		var out []*table
		for _, item := range list {
			t, ok := item.v.(*table)
			if !ok {
				d.fail(item.line, "%s: want tables", key)
				return nil
			}
			out = append(out, t)
		}
		return out
	}
	d.fail(v.line, "%s: want an array of tables, [[%s]]", key, key)
	return nil
}

func (d *confReader) strings(key string, v *value) []string {
	list, ok := v.v.([]*value)
	out := make([]string, 0, len(list))
	for _, item := range list {
		var s string
		if s, ok = item.v.(string); !ok {
			break
		}
		out = append(out, s)
	}
	if !ok {
		d.fail(v.line, "%s: want an array of strings", key)
	}
	return out
}

func (d *confReader) string(t *table, key string) string {
	v := t.m[key]
	if v == nil {
		return ""
	}
	s, ok := v.v.(string)
	if !ok {
		d.fail(v.line, "%s: want a string", key)
	}
	return s
}

func (d *confReader) bool(t *table, key string) bool {
	v := t.m[key]
	if v == nil {
		return false
	}
	b, ok := v.v.(bool)
	if !ok {
		d.fail(v.line, "%s: want true or false", key)
	}
	return b
}

// known refuses keys that might matter.
func (d *confReader) known(t *table, keys ...string) {
	for _, key := range t.keys {
		if !slices.Contains(keys, key) {
			d.fail(t.m[key].line, "%.60q is not known here: %w", key, errors.ErrUnsupported)
		}
	}
}

// registry reads a [[registry]] table; false: it is wrong or matches nothing.
func (d *confReader) registry(t *table) (entry, bool) {
	before := d.count
	d.known(t, "prefix", "location", "insecure", "blocked", "mirror-by-digest-only", "mirror")
	e := entry{
		prefix: d.string(t, "prefix"), location: d.string(t, "location"), insecure: d.bool(t, "insecure"), blocked: d.bool(t, "blocked"),
		place: fmt.Sprintf("%s:%d", d.name, t.line),
	}
	matches := true
	var err error
	switch {
	case e.prefix == "" && e.location == "":
		d.fail(t.line, "a [[registry]] without location and prefix")
	case e.prefix == "":
		if e.prefix, matches, err = checkPrefix(e.location); err == nil && e.prefix[0] == '*' {
			err = errors.New("a wildcard is for prefixes alone")
		}
		if err != nil {
			d.fail(t.line, "location: %w", err)
		}
		e.location = e.prefix
	default:
		if e.prefix, matches, err = checkPrefix(e.prefix); err != nil {
			d.fail(t.line, "prefix: %w", err)
		} else if e.location == "" && e.prefix[0] != '*' {
			d.fail(t.line, "prefix %q without a location", e.prefix)
		} else if e.location != "" && matches {
			if e.location, err = checkLocation(e.location); err != nil {
				d.fail(t.line, "location: %w", err)
			}
		}
	}
	byDigest := d.bool(t, "mirror-by-digest-only")
	for _, m := range d.tables("mirror", t.m["mirror"]) {
		e.mirrors = append(e.mirrors, d.mirror(m, byDigest))
	}
	if len(e.mirrors) > MaxEntries {
		d.fail(t.line, "more than %d mirrors: %w", MaxEntries, errors.ErrUnsupported)
	}
	return e, matches && d.count == before
}

func (d *confReader) mirror(t *table, byDigest bool) mirror {
	d.known(t, "location", "insecure", "pull-from-mirror")
	m := mirror{insecure: d.bool(t, "insecure")}
	if byDigest {
		m.pulls = digestOnly
	}
	location, err := checkLocation(d.string(t, "location"))
	if err != nil {
		d.fail(t.line, "mirror: location: %w", err)
	}
	m.location = location
	pulls := d.string(t, "pull-from-mirror")
	if pulls != "" && byDigest {
		d.fail(t.line, "mirror: pull-from-mirror together with mirror-by-digest-only")
	}
	switch pulls {
	case "", "all":
	case "digest-only":
		m.pulls = digestOnly
	case "tag-only":
		m.pulls = tagOnly
	default:
		d.fail(t.line, "mirror: pull-from-mirror: %.40q, want all, digest-only or tag-only", pulls)
	}
	return m
}

// conflicts refuses one location with two opinions about it.
func (d *confReader) conflicts(entries []entry) {
	first := map[string]entry{}
	for _, e := range entries {
		location := e.location
		if location == "" {
			location = e.prefix
		}
		old, ok := first[location]
		if !ok {
			first[location] = e
		} else if old.insecure != e.insecure || old.blocked != e.blocked {
			d.add(fmt.Errorf("%s: location %q differs in insecure or blocked from %s", e.place, location, old.place))
		}
	}
}
