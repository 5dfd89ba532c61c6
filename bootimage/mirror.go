package bootimage

import (
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"

	streammd "github.com/coreos/stream-metadata-go/stream"
)

// MirrorOptions are options of [MirrorStream].
type MirrorOptions struct {
	// BaseURL is where readers will find the copies, without slash at its end.
	// Required.
	BaseURL string
	// Flat puts all files side by side, as plume's stream-mirror does; else they
	// keep the path that they have at their host.
	Flat bool
	// Arches, Platforms and Formats choose files; empty: all. What is not chosen
	// is not in the document either.
	Arches, Platforms, Formats []string
	// DropImages leaves out images in clouds, which cannot be copied as files.
	DropImages bool
	// Signatures gives every file the address of a signature, location plus .sig,
	// and copies it: where the document does not say that there are any. Files
	// that have one keep it in any case.
	Signatures bool
}

// MirrorCopy is one file to be copied.
type MirrorCopy struct {
	From   string `json:"from"` // address
	Key    string `json:"key"`  // below BaseURL, not escaped
	SHA256 string `json:"sha256,omitempty"`
	// Signature says that it is one: OpenPGP, of unknown content.
	Signature bool `json:"signature,omitempty"`
}

// StreamMirror is a copy of a stream.
type StreamMirror struct {
	// Document is the stream metadata that names the copies.
	Document *Document[streammd.Stream]
	// Copies are the files, each before its signature; publish them before the
	// document.
	Copies []MirrorCopy
}

// MirrorStream plans a copy of a stream's files: what to copy where, and the
// metadata that names the copies, which differs from d in nothing else. It copies
// nothing. Two files of other content under one name are refused with an error
// that wraps [io/fs.ErrExist], addresses that give no safe name with one that
// wraps [io/fs.ErrInvalid].
//
// coreos-installer finds the copy with --stream-base-url where the document lies
// at NAME.json; it wants signatures.
func MirrorStream(d *Document[streammd.Stream], opts *MirrorOptions) (*StreamMirror, error) {
	if opts == nil || checkBase(opts.BaseURL) != nil {
		return nil, fmt.Errorf("bootimage: mirror: base URL is not an address without slash at its end: %w", fs.ErrInvalid)
	}
	next, err := decode[streammd.Stream](d.Bytes())
	if err != nil {
		return nil, err
	}
	m := &mirror{opts: *opts, keys: map[string]string{}}
	err = next.Edit(func(s *streammd.Stream) error {
		for name, arch := range s.Architectures {
			if !chosen(opts.Arches, name) {
				delete(s.Architectures, name)
				continue
			}
			m.filter(arch.Artifacts)
			if opts.DropImages {
				arch.Images, arch.RHELCoreOSExtensions = streammd.Images{}, nil
				s.Architectures[name] = arch
			}
		}
		for _, e := range Entries(s) {
			if e.File == "" {
				continue
			}
			f := s.Architectures[e.Arch].Artifacts[e.Platform].Formats[e.Format]
			a := map[string]*streammd.Artifact{"disk": f.Disk, "kernel": f.Kernel, "initramfs": f.Initramfs, "rootfs": f.Rootfs}[e.File]
			if err := m.place(a); err != nil {
				return &FieldError{Document: documentName[streammd.Stream](), Path: e.Path, Err: err}
			}
		}
		if len(m.copies) == 0 {
			return fmt.Errorf("bootimage: mirror: no file of stream %s is chosen: %w", s.Stream, fs.ErrNotExist)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &StreamMirror{Document: next, Copies: m.copies}, nil
}

func chosen(list []string, name string) bool { return len(list) == 0 || slices.Contains(list, name) }

type mirror struct {
	opts   MirrorOptions
	keys   map[string]string // checksum of what is to lie there
	copies []MirrorCopy
}

func (m *mirror) filter(platforms map[string]streammd.PlatformArtifacts) {
	for name, p := range platforms {
		for format := range p.Formats {
			if !chosen(m.opts.Platforms, name) || !chosen(m.opts.Formats, format) {
				delete(p.Formats, format)
			}
		}
		if len(p.Formats) == 0 {
			delete(platforms, name)
		}
	}
}

// place changes an artifact to its copy.
func (m *mirror) place(a *streammd.Artifact) error {
	u, err := url.Parse(a.Location)
	if err != nil || u.Host == "" {
		return fmt.Errorf("%.200q is not an address: %w", a.Location, fs.ErrInvalid)
	}
	key := strings.TrimPrefix(u.Path, "/")
	if m.opts.Flat {
		key = path.Base(u.Path)
	}
	if key == "" || key == "." || !fs.ValidPath(key) || strings.ContainsFunc(key, isControl) {
		return fmt.Errorf("%.200q gives no file name: %w", a.Location, fs.ErrInvalid)
	}
	from := a.Location
	signature := a.Signature
	if signature == "" && m.opts.Signatures {
		signature = from + ".sig"
	}
	if a.Location, err = address(m.opts.BaseURL, key); err != nil {
		return err
	}
	if signature != "" {
		a.Signature = a.Location + ".sig"
	}
	if was, ok := m.keys[key]; ok {
		if was != a.Sha256 {
			return fmt.Errorf("%s is there with other content: %w", key, fs.ErrExist)
		}
		return nil
	}
	m.keys[key] = a.Sha256
	m.copies = append(m.copies, MirrorCopy{From: from, Key: key, SHA256: a.Sha256})
	if signature == "" {
		return nil
	}
	if _, ok := m.keys[key+".sig"]; ok {
		return fmt.Errorf("%s.sig is there with other content: %w", key, fs.ErrExist)
	}
	m.keys[key+".sig"] = "signature"
	m.copies = append(m.copies, MirrorCopy{From: signature, Key: key + ".sig", Signature: true})
	return nil
}
