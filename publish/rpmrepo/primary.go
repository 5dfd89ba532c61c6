package rpmrepo

import (
	"errors"
	"fmt"
	"io"
	"iter"
)

// Limits of one package, the first in bytes.
const (
	maxPackage  = 8 << 20 // of all that is kept of it
	maxProvides = 200_000
)

// pkg is a package as primary.xml has it. It is overwritten by the next one.
type pkg struct {
	name, arch, epoch, version, release string
	provides                            []string // names
}

func (p *pkg) evr() string {
	text := p.version + "-" + p.release
	if p.epoch != "" && p.epoch != "0" {
		text = p.epoch + ":" + text
	}
	return text
}

func (p *pkg) nevra() string { return p.name + "-" + p.evr() + "." + p.arch }

// decodePrimary gives the packages of primary.xml. The sequence ends after an
// error.
func decodePrimary(r io.Reader, provides func(name []byte) bool) iter.Seq2[*pkg, error] {
	return func(yield func(*pkg, error) bool) {
		d := &primaryDecoder{s: newScanner(r), wanted: provides}
		for {
			p, err := d.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

type primaryDecoder struct {
	s      *scanner
	wanted func(name []byte) bool // provides that are kept
	p      pkg
	kept   int
	count  int
}

// next gives the next package.
func (d *primaryDecoder) next() (*pkg, error) {
	s := d.s
	for {
		t, err := s.next()
		if err != nil {
			return nil, err
		}
		if t == endTag {
			continue
		}
		switch {
		case s.depth == 1 && string(s.name) != "metadata":
			return nil, fmt.Errorf("<%.40s> is no metadata of packages", s.name)
		case s.depth == 2 && string(s.name) == "package":
			return d.pkg()
		}
	}
}

// pkg reads a package to its end.
func (d *primaryDecoder) pkg() (*pkg, error) {
	s := d.s
	d.p, d.kept = pkg{provides: d.p.provides[:0]}, 0
	d.count++
	provided := false // within <provides>
	for {
		t, err := s.next()
		if err != nil {
			return nil, d.at(unexpected(err))
		}
		if t == endTag {
			switch {
			case s.depth == 1:
				return &d.p, d.at(d.check())
			case s.depth == 2 && string(s.name) == "name":
				err = d.set(&d.p.name, s.text)
			case s.depth == 2 && string(s.name) == "arch":
				err = d.set(&d.p.arch, s.text)
			case s.depth == 3 && string(s.name) == "provides":
				provided = false
			}
			s.keep = false
			if err != nil {
				return nil, d.at(err)
			}
			continue
		}
		switch {
		case s.depth == 3 && (string(s.name) == "name" || string(s.name) == "arch"):
			s.keep = true
		case s.depth == 3 && string(s.name) == "version":
			err = d.version()
		case s.depth == 4 && string(s.name) == "provides":
			provided = true
		case s.depth == 5 && provided && string(s.name) == "entry":
			err = d.provide()
		}
		if err != nil {
			return nil, d.at(err)
		}
	}
}

func (d *primaryDecoder) at(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("package %d (%.80s): %w", d.count, d.p.name, err)
}

func (d *primaryDecoder) check() error {
	if d.p.name == "" || d.p.arch == "" || d.p.version == "" {
		return errors.New("name, arch or version is missing")
	}
	return nil
}

func (d *primaryDecoder) set(to *string, text []byte) error {
	if *to != "" {
		return errors.New("something occurs twice")
	}
	if d.kept += len(text); d.kept > maxPackage {
		return fmt.Errorf("more than %d bytes", maxPackage)
	}
	*to = string(text)
	return nil
}

func (d *primaryDecoder) version() error {
	for {
		name, value, err := d.s.attr()
		if err != nil || name == nil {
			return err
		}
		switch string(name) {
		case "epoch":
			err = d.set(&d.p.epoch, value)
		case "ver":
			err = d.set(&d.p.version, value)
		case "rel":
			err = d.set(&d.p.release, value)
		}
		if err != nil {
			return err
		}
	}
}

// provide keeps the name of what a package provides, if it is asked for.
func (d *primaryDecoder) provide() error {
	for {
		name, value, err := d.s.attr()
		if err != nil || name == nil {
			return err
		}
		if string(name) != "name" || !d.wanted(value) {
			continue
		}
		if d.kept += len(value); d.kept > maxPackage || len(d.p.provides) == maxProvides {
			return fmt.Errorf("it provides more than %d bytes or %d names", maxPackage, maxProvides)
		}
		d.p.provides = append(d.p.provides, string(value))
	}
}
