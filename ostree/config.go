package ostree

import (
	"fmt"
	"strconv"
	"strings"
)

// keyFile is a GKeyFile, the format of a repository's config: groups in square
// brackets, keys, comments. Lines that nobody changes stay as they are. The
// source is GLib's documentation of GKeyFile.
type keyFile struct {
	lines []keyLine
}

type keyLine struct {
	group, key, value string // key is empty for all other lines
	text              string
}

// maxConfigSize bounds a repository's config.
const maxConfigSize = 1 << 20

func parseKeyFile(data []byte) (*keyFile, error) {
	k := &keyFile{}
	group, started := "", false
	text := strings.TrimSuffix(string(data), "\n")
	if text == "" {
		return k, nil
	}
	k.lines = make([]keyLine, 0, 1+strings.Count(text, "\n"))
	i := 0
	for line := range strings.SplitSeq(text, "\n") {
		i++
		l := keyLine{text: line}
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || trimmed[0] == '#':
		case trimmed[0] == '[':
			name, ok := strings.CutSuffix(trimmed[1:], "]")
			if !ok || name == "" || strings.ContainsAny(name, "[]") {
				return nil, fmt.Errorf("line %d: %.80q is no group", i, line)
			}
			group, started = name, true
		default:
			key, value, ok := strings.Cut(trimmed, "=")
			key = strings.TrimSpace(key)
			if !ok || key == "" || !started {
				return nil, fmt.Errorf("line %d: %.80q is neither group, key nor comment", i, line)
			}
			l.key, l.value = key, strings.TrimSpace(value)
		}
		l.group = group
		k.lines = append(k.lines, l)
	}
	return k, nil
}

// get gives the value of a key, as written; the last one counts.
func (k *keyFile) get(group, key string) (string, bool) {
	for i := len(k.lines) - 1; i >= 0; i-- {
		if l := &k.lines[i]; l.group == group && l.key == key && key != "" {
			return l.value, true
		}
	}
	return "", false
}

// set changes a key in place or adds it at the end of its group.
func (k *keyFile) set(group, key, value string) {
	line := keyLine{group: group, key: key, value: value, text: key + "=" + value}
	last := -1
	for i := range k.lines {
		if k.lines[i].group != group {
			continue
		}
		if k.lines[i].key == key {
			k.lines[i] = line
			return
		}
		if k.lines[i].text != "" {
			last = i
		}
	}
	if last < 0 {
		if len(k.lines) > 0 {
			k.lines = append(k.lines, keyLine{group: k.lines[len(k.lines)-1].group})
		}
		k.lines = append(k.lines, keyLine{group: group, text: "[" + group + "]"}, line)
		return
	}
	k.lines = append(k.lines[:last+1], append([]keyLine{line}, k.lines[last+1:]...)...)
}

func (k *keyFile) bytes() []byte {
	var b strings.Builder
	for _, l := range k.lines {
		b.WriteString(l.text)
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

// boolean gives a boolean key, or def if it is not there.
func (k *keyFile) boolean(group, key string, def bool) (bool, error) {
	text, ok := k.get(group, key)
	if !ok {
		return def, nil
	}
	switch text {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, fmt.Errorf("%s.%s: %.80q is neither true nor false", group, key, text)
}

// settings are the keys of the group core that this package obeys.
type settings struct {
	mode           Mode
	parent         string // core.parent
	tombstones     bool   // core.tombstone-commits
	fsync          bool   // core.fsync
	perObjectFsync bool   // core.per-object-fsync
	noXattrs       bool   // core.disable-xattrs
	locking        bool   // core.locking
	lockTimeout    int64  // core.lock-timeout-secs; negative: no limit
	freePercent    int64  // core.min-free-space-percent
	freeBytes      int64  // core.min-free-space-size; 0: freePercent counts
	zlibLevel      int    // archive.zlib-level
}

func parseSettings(k *keyFile) (s settings, err error) {
	if version, _ := k.get("core", "repo_version"); version != "1" {
		return s, fmt.Errorf("core.repo_version %.80q: %w", version, errUnsupported)
	}
	mode, _ := k.get("core", "mode")
	var known bool
	if s.mode, known = parseMode(mode); !known {
		return s, fmt.Errorf("core.mode %.80q: %w", mode, errUnsupported)
	}
	s.parent, _ = k.get("core", "parent")
	if s.tombstones, err = k.boolean("core", "tombstone-commits", false); err != nil {
		return s, err
	}
	if s.fsync, err = k.boolean("core", "fsync", true); err != nil {
		return s, err
	}
	if s.perObjectFsync, err = k.boolean("core", "per-object-fsync", false); err != nil {
		return s, err
	}
	if s.noXattrs, err = k.boolean("core", "disable-xattrs", false); err != nil {
		return s, err
	}
	if s.locking, err = k.boolean("core", "locking", true); err != nil {
		return s, err
	}
	s.lockTimeout = 300
	if text, ok := k.get("core", "lock-timeout-secs"); ok {
		if s.lockTimeout, err = strconv.ParseInt(text, 10, 32); err != nil || s.lockTimeout < -1 {
			return s, fmt.Errorf("core.lock-timeout-secs: %.80q is no number of seconds", text)
		}
	}
	s.freePercent = 3
	if text, ok := k.get("core", "min-free-space-size"); ok {
		if s.freeBytes, err = parseFreeSize(text); err != nil {
			return s, err
		}
		if s.freeBytes == 0 {
			s.freePercent = 0
		}
	} else if text, ok := k.get("core", "min-free-space-percent"); ok {
		if s.freePercent, err = strconv.ParseInt(text, 10, 32); err != nil || s.freePercent < 0 || s.freePercent > 99 {
			return s, fmt.Errorf("core.min-free-space-percent: %.80q is not from 0 to 99", text)
		}
	}
	s.zlibLevel = defaultLevel
	if text, ok := k.get("archive", "zlib-level"); ok {
		level, err := strconv.Atoi(text)
		if err != nil {
			return s, fmt.Errorf("archive.zlib-level: %.80q is no number", text)
		}
		s.zlibLevel = min(max(level, 1), 9)
	}
	return s, nil
}

// defaultLevel is libostree's.
const defaultLevel = 6

// parseFreeSize reads a number with the unit MB, GB or TB, powers of 1024.
func parseFreeSize(text string) (int64, error) {
	for i, unit := range []string{"MB", "GB", "TB"} {
		if number, ok := strings.CutSuffix(text, unit); ok {
			n, err := strconv.ParseInt(number, 10, 64)
			if shift := 20 + 10*i; err == nil && n >= 0 && n < 1<<(62-shift) {
				return n << shift, nil
			}
		}
	}
	return 0, fmt.Errorf("core.min-free-space-size: %.80q is no number with MB, GB or TB", text)
}
