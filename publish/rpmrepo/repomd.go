package rpmrepo

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"path"
	"strconv"
	"strings"

	"crypto/sha256"
	"crypto/sha512"
)

// MaxRepomdSize bounds repomd.xml, bytes; Fedora's has some 10 KiB.
const MaxRepomdSize = 4 << 20

// sum is a checksum as repositories write it.
type sum struct {
	kind string
	hex  string
}

var hashes = map[string]func() hash.Hash{"sha224": sha256.New224, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New}

// check says whether a checksum can be relied on.
func (s sum) check() error {
	make, ok := hashes[s.kind]
	if !ok {
		return fmt.Errorf("a checksum of kind %.20q; sha224, sha256, sha384 and sha512 are relied on: %w", s.kind, errors.ErrUnsupported)
	}
	if len(s.hex) != 2*make().Size() || strings.Trim(s.hex, "0123456789abcdef") != "" {
		return fmt.Errorf("checksum %.140q is no %s", s.hex, s.kind)
	}
	return nil
}

// primary is what repomd.xml says of primary.xml.
type primary struct {
	href           string // below the repository
	sum, open      sum    // of the file, of its content; open may be missing
	size, openSize int64  // the same in bytes; -1: not told
}

// decodeRepomd finds primary.xml.
func decodeRepomd(r io.Reader) (*primary, error) {
	s := newScanner(r)
	var found, p *primary // p: the one that is read
	var to *sum
	for {
		t, err := s.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		name := string(s.name)
		if t == startTag && s.depth == 1 && name != "repomd" {
			return nil, fmt.Errorf("<%.40s> is no repomd", name)
		}
		if t == endTag {
			switch {
			case p != nil && to != nil:
				to.hex = strings.TrimSpace(string(s.text))
			case p != nil && name == "size":
				p.size, err = size(s.text)
			case p != nil && name == "open-size":
				p.openSize, err = size(s.text)
			case name == "data" && s.depth == 1:
				if p != nil && found != nil {
					return nil, errors.New("primary occurs twice")
				}
				if p != nil {
					found, p = p, nil
				}
			}
			if err != nil {
				return nil, err
			}
			to, s.keep = nil, false
			continue
		}
		attrs, err := s.all()
		if err != nil {
			return nil, err
		}
		switch {
		case name == "data" && s.depth == 2 && attrs["type"] == "primary":
			p = &primary{size: -1, openSize: -1}
		case p == nil || s.depth != 3:
		case name == "checksum":
			to = &p.sum
		case name == "open-checksum":
			to = &p.open
		case name == "location":
			if attrs["base"] != "" {
				return nil, fmt.Errorf("primary is elsewhere, at %.200q: %w", attrs["base"], errors.ErrUnsupported)
			}
			p.href = attrs["href"]
		case name == "size" || name == "open-size":
			s.keep = true
		}
		if to != nil {
			to.kind, s.keep = attrs["type"], true
		}
	}
	if found == nil {
		return nil, errors.New("no primary")
	}
	return found, found.check()
}

func (p *primary) check() error {
	if err := p.sum.check(); err != nil {
		return err
	}
	if p.open != (sum{}) {
		if err := p.open.check(); err != nil {
			return err
		}
	}
	u, err := url.Parse(p.href)
	if err != nil || p.href == "" || u.Scheme != "" || u.Host != "" || strings.ContainsAny(p.href, "?#") || path.Clean("/"+u.Path) != "/"+u.Path {
		return fmt.Errorf("primary is at %.200q, not below the repository", p.href)
	}
	return nil
}

// all gives the attributes of the last start tag.
func (s *scanner) all() (map[string]string, error) {
	var all map[string]string
	for {
		name, value, err := s.attr()
		if err != nil || name == nil {
			return all, err
		}
		if all == nil {
			all = map[string]string{}
		}
		if _, ok := all[string(name)]; ok {
			return nil, fmt.Errorf("attribute %.40s occurs twice", name)
		}
		all[string(name)] = string(value)
	}
}

func size(text []byte) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("size %.40q", text)
	}
	return n, nil
}
