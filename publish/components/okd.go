package components

import (
	"bytes"
	_ "embed"
)

//go:embed okd.yaml
var okdYAML []byte

// OKD is the list of the components that make an OKD on CentOS Stream CoreOS of an
// OpenShift release: those that are built with other tags or have other content. It
// is for [Replace], and has no operating system: that is added by its pullspec.
func OKD() (*List, error) { return DecodeList(bytes.NewReader(okdYAML)) }
