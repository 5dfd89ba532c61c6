// Package remote is how the example programs speak to registries: as podman,
// skopeo and oc would on this machine, unless a flag says otherwise.
package remote

import (
	"log/slog"
	"math/rand/v2"
	"os"

	"github.com/spf13/pflag"

	"github.com/okd-project/okd-streams/examples/internal/credhelper"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

// Flags are what people say about registries.
type Flags struct {
	AuthFile       string
	CertDir        string
	RegistriesConf string
	MirrorSets     []string
	Insecure       []string
}

// Add declares the flags.
func (f *Flags) Add(set *pflag.FlagSet) {
	set.StringVar(&f.AuthFile, "authfile", "", "`FILE` of registry credentials (default: as podman finds them)")
	set.StringVar(&f.CertDir, "cert-dir", "", "`FOLDER` with a folder HOST[:PORT] of certificates for each registry (default: as podman finds it)")
	set.StringVar(&f.RegistriesConf, "registries-conf", "", "registries.conf `FILE` that says from where to pull instead (default: as podman finds it)")
	set.StringArrayVar(&f.MirrorSets, "mirror-set", nil, "`FILE` with ImageDigestMirrorSet, ImageTagMirrorSet or ImageContentSourcePolicy objects; may be repeated")
	set.StringArrayVar(&f.Insecure, "insecure", nil, "registry `HOST[:PORT]` that may be spoken to over plain HTTP; may be repeated (loopback always may)")
}

// Options gives what the flags, the environment and this machine's files say.
// logger may be nil.
func (f *Flags) Options(logger *slog.Logger) remoteregistry.Options {
	o := remoteregistry.Options{
		AuthFile: f.AuthFile, AuthFiles: remoteregistry.AuthFiles(os.Getenv), CredentialHelper: credhelper.Get,
		CertDirs: remoteregistry.CertDirs(os.Getenv), Mirrors: remoteregistry.MirrorFiles(os.Getenv),
		Insecure: f.Insecure, Jitter: rand.Float64, Logger: logger,
	}
	if f.CertDir != "" {
		o.CertDirs = []string{f.CertDir}
	}
	if f.RegistriesConf != "" {
		o.Mirrors = &remoteregistry.Mirrors{File: f.RegistriesConf}
	}
	o.Mirrors.Sets = append(o.Mirrors.Sets, f.MirrorSets...)
	return o
}
