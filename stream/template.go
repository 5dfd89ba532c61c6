package stream

import (
	"fmt"
	"strings"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// Vars are the values of a [Template]. An empty value is not set: a template
// that needs it cannot be expanded.
type Vars struct {
	Version string // ${VERSION}: the release's name, or in OS tags what the caller publishes under
	Minor   string // ${MINOR}: X.Y
	Arch    string // ${ARCH}: RPM spelling
	Stream  string // ${STREAM}: name of the stream
	Build   string // ${BUILD}: id of the operating-system build
}

func (v Vars) get(name string) (value string, known bool) {
	switch name {
	case "VERSION":
		return v.Version, true
	case "MINOR":
		return v.Minor, true
	case "ARCH":
		return v.Arch, true
	case "STREAM":
		return v.Stream, true
	case "BUILD":
		return v.Build, true
	}
	return "", false
}

// Template is text with ${VERSION}, ${MINOR}, ${ARCH}, ${STREAM} and ${BUILD}.
// There is nothing else to it: a "$" without "{" stands for itself.
type Template string

// Expand puts values in. A variable that is unknown or empty is an error.
func (t Template) Expand(vars Vars) (string, error) {
	text, err := t.expand(vars)
	if err != nil {
		return "", fmt.Errorf("stream: %w", err)
	}
	return text, nil
}

func (t Template) expand(vars Vars) (string, error) {
	var b strings.Builder
	rest := string(t)
	for {
		before, after, found := strings.Cut(rest, "${")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed {
			return "", fmt.Errorf("template %q: \"${\" without \"}\"", string(t))
		}
		value, known := vars.get(name)
		if !known {
			return "", oneOf("variable", "${"+name+"}", variables...)
		}
		if value == "" {
			return "", fmt.Errorf("template %q: ${%s} has no value here", string(t), name)
		}
		b.WriteString(value)
		rest = tail
	}
}

var (
	variables = []string{"${VERSION}", "${MINOR}", "${ARCH}", "${STREAM}", "${BUILD}"}
	// sampleVars stand for real values when a template is checked.
	sampleVars = Vars{Version: "4.21.0-okd-scos.1", Minor: "4.21", Arch: "x86_64", Stream: "stream", Build: "9.0.20250222-0"}
)

// UnmarshalText accepts templates whose variables exist.
func (t *Template) UnmarshalText(text []byte) error {
	if _, err := Template(text).expand(sampleVars); err != nil {
		return err
	}
	*t = Template(text)
	return nil
}

var reTag = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// checkTag refuses templates that would not make registry tags.
func (t Template) checkTag() error {
	text, err := t.expand(sampleVars)
	if err != nil {
		return err
	}
	if !reTag.MatchString(text) {
		return hinted(fmt.Errorf("%q makes no registry tag: %.140q", string(t), text), "tags have letters, digits, '_', '.', '-', at most 128")
	}
	return nil
}
