package graph

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// DefaultArch is the architecture of clients that do not name one.
const DefaultArch = "amd64"

// Select gives the nodes of one channel and architecture, and the edges between
// them, as a cluster sees them: without architecture in versions and metadata.
// An empty arch is [DefaultArch]. A channel or architecture that cannot be one
// is an error that wraps [fs.ErrInvalid]; one without releases gives an empty
// graph, as Cincinnati does.
func (g *Graph) Select(channel, arch string) (*Graph, error) {
	if arch == "" {
		arch = DefaultArch
	}
	if !only(channel, "-.") {
		return nil, &Error{Op: "select", Err: fmt.Errorf("channel %.80q: small letters, digits, - and . alone are allowed: %w", channel, fs.ErrInvalid)}
	}
	if !only(arch, "") {
		return nil, &Error{Op: "select", Err: fmt.Errorf("architecture %.80q: small letters and digits alone are allowed: %w", arch, fs.ErrInvalid)}
	}
	return g.selected(channel, arch), nil
}

func (g *Graph) selected(channel, arch string) *Graph {
	out := g.clone()
	out.keep(func(n *Node) bool {
		return slices.Contains(n.Channels(), channel) && slices.ContainsFunc(strings.Split(n.Metadata[KeyArch], ","), func(a string) bool {
			return strings.TrimSpace(a) == arch
		})
	})
	plain := func(version string) string {
		if v, a := splitArch(version); a == arch {
			return v
		}
		return version
	}
	for i := range out.Nodes {
		n := &out.Nodes[i]
		n.Version = plain(n.Version)
		delete(n.Metadata, KeyArch)
	}
	for _, c := range out.Conditional {
		for i, e := range c.Edges {
			c.Edges[i] = Edge{plain(e.From), plain(e.To)}
		}
	}
	return out
}

// only says that text is made of small ASCII letters, digits and the bytes of
// more, and is not empty.
func only(text, more string) bool {
	for _, c := range []byte(text) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte(more, c) >= 0) {
			return false
		}
	}
	return text != "" && len(text) <= MaxVersionLength
}

// CheckChannel says what is wrong with a channel's name for a release
// controller's /graph, nil if nothing is: "", stable, stable-scos, next,
// next-scos (each also with -X.Y), prerelease and nightly (with -ANYTHING). The
// controller takes what follows the first "-" as the beginning of versions, so
// that other names give all releases and no way between them
// (stable-4-scos in place of stable-scos-4).
func CheckChannel(name string) error {
	if name == "" {
		return nil
	}
	if !only(name, "-.") {
		return &Error{Op: "channel", Target: fmt.Sprintf("%.80q", name), Err: fs.ErrInvalid}
	}
	for _, kind := range []string{"stable-scos", "next-scos", "stable", "next", "prerelease", "nightly"} {
		rest, ok := strings.CutPrefix(name, kind)
		if !ok || rest != "" && rest[0] != '-' {
			continue
		}
		if rest = strings.TrimPrefix(rest, "-"); rest == "" || kind == "prerelease" || kind == "nightly" || isMinor(rest) {
			return nil
		}
		hint := ""
		if before, found := strings.CutSuffix(rest, "-scos"); found && isMinor(before) {
			hint = "; say " + kind + "-scos-" + before
		}
		return &Error{Op: "channel", Target: name, Err: fmt.Errorf("%q is not the beginning of a version%s: %w", rest, hint, fs.ErrInvalid)}
	}
	return &Error{Op: "channel", Target: name, Err: fmt.Errorf("a release controller knows stable, stable-scos, next, next-scos, prerelease and nightly: %w", fs.ErrNotExist)}
}

// isMinor says that text is X or X.Y.
func isMinor(text string) bool {
	major, minor, dotted := strings.Cut(text, ".")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	return digits(major) && (!dotted || digits(minor))
}
