package stream

// Arch is a processor architecture as RPM spells it. Convert at the OCI edge
// by name, with [Arch.GOARCH] and [ArchOf], never by editing strings.
type Arch string

// The architectures of OpenShift.
const (
	X8664   Arch = "x86_64"
	AArch64 Arch = "aarch64"
	PPC64LE Arch = "ppc64le"
	S390X   Arch = "s390x"
)

// Arches are all known architectures.
func Arches() []Arch { return []Arch{X8664, AArch64, PPC64LE, S390X} }

// GOARCH is the architecture as Go and OCI spell it, "" if a is not known.
func (a Arch) GOARCH() string {
	switch a {
	case X8664:
		return "amd64"
	case AArch64:
		return "arm64"
	case PPC64LE:
		return "ppc64le"
	case S390X:
		return "s390x"
	}
	return ""
}

// ArchOf gives the architecture that Go and OCI call goarch, "" if unknown.
func ArchOf(goarch string) Arch {
	for _, a := range Arches() {
		if a.GOARCH() == goarch {
			return a
		}
	}
	return ""
}

// UnmarshalText accepts a known architecture in RPM spelling.
func (a *Arch) UnmarshalText(text []byte) error {
	if Arch(text).GOARCH() == "" {
		err := oneOf("architecture", string(text), names(Arches())...)
		if rpm := ArchOf(string(text)); rpm != "" {
			return hinted(err, "use the RPM spelling "+string(rpm))
		}
		return err
	}
	*a = Arch(text)
	return nil
}
