package rpmrepo

import "io"

// Primary is what a test sees of repomd.xml.
type Primary struct{ Href, Sum, Open string }

// DecodeRepomd is decodeRepomd.
func DecodeRepomd(r io.Reader) (*Primary, error) {
	p, err := decodeRepomd(r)
	if err != nil {
		return nil, err
	}
	return &Primary{p.href, p.sum.kind + ":" + p.sum.hex, p.open.kind + ":" + p.open.hex}, nil
}

// DecodePrimary gives each package and what it provides.
func DecodePrimary(r io.Reader, each func(nevra string, provides []string)) error {
	for p, err := range decodePrimary(r, func([]byte) bool { return true }) {
		if err != nil {
			return err
		}
		each(p.nevra(), p.provides)
	}
	return nil
}
