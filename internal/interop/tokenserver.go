package interop

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TokenServerVersion is that of the distribution project's token server.
const TokenServerVersion = "v2.8.3"

// The module that builds the token server: its own has no go.mod.
const (
	tokenServerMod = `module tokenserver

go 1.26.0

require (
	github.com/docker/distribution ` + TokenServerVersion + `+incompatible
	github.com/docker/libtrust v0.0.0-20160708172513-aabc10ec26b7
	github.com/gorilla/mux v1.8.1
	github.com/sirupsen/logrus v1.9.4
	golang.org/x/crypto v0.53.0
	golang.org/x/sys v0.49.0
)
`
	tokenServerSum = `github.com/docker/distribution ` + TokenServerVersion + `+incompatible h1:AtKxIZ36LoNK51+Z6RpzLpddBirtxJnzDrHLEKxTAYk=
github.com/docker/distribution ` + TokenServerVersion + `+incompatible/go.mod h1:J2gT2udsDAN96Uj4KfcMRqY0/ypR+oyYUYmja8H+y+w=
github.com/docker/libtrust v0.0.0-20160708172513-aabc10ec26b7 h1:UhxFibDNY/bfvqU5CAUmr9zpesgbU6SWc8/B4mflAE4=
github.com/docker/libtrust v0.0.0-20160708172513-aabc10ec26b7/go.mod h1:cyGadeNEkKy96OOhEzfZl+yxihPEzKnqJwvfuSUqbZE=
github.com/gorilla/mux v1.8.1 h1:TuBL49tXwgrFYWhqrNgrUNEY92u81SPhu7sTdzQEiWY=
github.com/gorilla/mux v1.8.1/go.mod h1:AKf9I4AEqPTmMytcMc0KkNouC66V3BtZ4qD5fmWSiMQ=
github.com/sirupsen/logrus v1.9.4 h1:TsZE7l11zFCLZnZ+teH4Umoq5BhEIfIzfRDZ1Uzql2w=
github.com/sirupsen/logrus v1.9.4/go.mod h1:ftWc9WdOfJ0a92nsE2jF5u5ZwH8Bv2zdeOC42RjbV2g=
golang.org/x/crypto v0.53.0 h1:QZ4Muo8THX6CizN2vPPd5fBGHyogrdK9fG4wLPFUsto=
golang.org/x/crypto v0.53.0/go.mod h1:DNLU434OwVakk9PzuwV8w62mAJpRJL3vsgcfp4Qnsio=
golang.org/x/sys v0.49.0 h1:XbzkgYJHdqh/8m2Uu0W/dQv8nktxx4BFHp1M0gROTXA=
golang.org/x/sys v0.49.0/go.mod h1:hNLxWAXmnKAxqDtdwIYC4bM9oQPEecfsnNMuSxOs3og=
`
)

// BuildTokenServer gives the path of the distribution project's token server,
// built from its Go module the first time, which takes some seconds.
func BuildTokenServer(ctx context.Context) (string, error) {
	dir, err := cached(ctx, "token-server-"+TokenServerVersion, func(ctx context.Context, dir string) error {
		for name, text := range map[string]string{"go.mod": tokenServerMod, "go.sum": tokenServerSum} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				return err
			}
		}
		return run(ctx, dir, []string{"GOFLAGS=-mod=readonly -trimpath", "GOWORK=off"},
			"go", "build", "-o", filepath.Join(dir, "token-server"), "github.com/docker/distribution/contrib/token-server")
	})
	return filepath.Join(dir, "token-server"), err
}

// TokenServerRegistry runs an empty docker-registry that wants tokens of the
// distribution project's token server, until t ends, and gives the addresses of
// both. Each account may do everything in repositories below its own name, and
// nothing else. It is gated like [Peer].
func TokenServerRegistry(t testing.TB) (host, realm string) {
	t.Helper()
	Peer(t, "docker-registry")
	bin, err := BuildTokenServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := newIssuer()
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalECPrivateKey(pair.key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"htpasswd":   []byte(htpasswd),
		"key.pem":    pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}),
		"bundle.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.cert}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := keep(t, func(ctx context.Context) (*Server, error) {
		return start(ctx, func(host string) (*exec.Cmd, error) {
			return exec.Command(bin, "-addr", host, "-issuer", issuerName, "-realm", issuerService,
				"-passwd", filepath.Join(dir, "htpasswd"), "-key", filepath.Join(dir, "key.pem")), nil
		})
	})
	realm = "http://" + strings.Replace(server.Host, "127.0.0.1", "localhost", 1) + "/token/"
	auth := fmt.Sprintf("{token: {realm: %q, service: %s, issuer: %s, rootcertbundle: %q}}", realm, issuerService, issuerName, filepath.Join(dir, "bundle.pem"))
	return keep(t, func(ctx context.Context) (*Server, error) { return startAuthRegistry(ctx, t.TempDir(), auth) }).Host, realm
}
