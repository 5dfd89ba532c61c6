package interop

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// CoreosInstallerVersion is that of the crate.
const CoreosInstallerVersion = "0.27.0"

// BuildCoreosInstaller gives the path of coreos-installer, built with cargo from
// its crate the first time; that needs libssl-dev, libzstd-dev and pkg-config, and
// some minutes.
func BuildCoreosInstaller(ctx context.Context) (string, error) {
	dir, err := cached(ctx, "coreos-installer-"+CoreosInstallerVersion, func(ctx context.Context, dir string) error {
		target := filepath.Join(dir, "target")
		// Not optimised, which takes half as long to build and is fast enough for disks
		// of some megabytes.
		err := run(ctx, dir, []string{"CARGO_PROFILE_DEV_DEBUG=0", "CARGO_PROFILE_DEV_STRIP=symbols"},
			"cargo", "install", "--quiet", "--locked", "--debug", "--no-track", "--root", dir, "--target-dir", target, "coreos-installer@"+CoreosInstallerVersion)
		if err != nil {
			return err
		}
		return os.RemoveAll(target)
	})
	return filepath.Join(dir, "bin", "coreos-installer"), err
}

// CoreosInstaller is [BuildCoreosInstaller] for a test that is gated like [Peer].
func CoreosInstaller(t testing.TB) string {
	t.Helper()
	Peer(t, "gpg")
	path, err := BuildCoreosInstaller(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TrustingGPG gives a folder to be put first on the PATH of a program that makes
// gpg trust the keys that are compiled into it: its gpg is the real one, but
// imports the public keys in the file, too, whenever it is to import some. So a
// program's own way to check signatures can be seen with keys of a test.
func TrustingGPG(t testing.TB, keys string) string {
	t.Helper()
	Peer(t, "gpg", "sh")
	gpg, err := exec.LookPath("gpg")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	script := fmt.Sprintf("#!/bin/sh\ncase \" $* \" in\n*' --import '*) %[1]s \"$@\" && exec %[1]s \"$@\" <%[2]s ;;\n*) exec %[1]s \"$@\" ;;\nesac\n", quote(gpg), quote(keys))
	if err := os.WriteFile(filepath.Join(dir, "gpg"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
