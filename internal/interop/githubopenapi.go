package interop

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// GitHubOpenAPIVersion is that of the npm package @octokit/openapi.
const GitHubOpenAPIVersion = "23.0.2"

// gitHubOpenAPISum is the SHA-256 of its generated/api.github.com.json.
const gitHubOpenAPISum = "829b4bebb19a53133289f7b0bc819f4f1118115821db2ca9f25e9ee995a7da2a"

// FetchGitHubOpenAPI gives the path of GitHub's OpenAPI description of its API,
// 13 MB of JSON, fetched from npm's registry the first time.
func FetchGitHubOpenAPI(ctx context.Context) (string, error) {
	const file = "api.github.com.json"
	dir, err := cached(ctx, "github-openapi-"+GitHubOpenAPIVersion, func(ctx context.Context, dir string) error {
		// Only the package's file: nothing of it is installed or run, and what
		// counts in it has a known checksum.
		packed := filepath.Join(dir, "openapi.tgz")
		if err := download(ctx, "https://registry.npmjs.org/@octokit/openapi/-/openapi-"+GitHubOpenAPIVersion+".tgz", packed); err != nil {
			return err
		}
		if err := extractFile(packed, "package/generated/"+file, filepath.Join(dir, file), gitHubOpenAPISum); err != nil {
			return err
		}
		return os.Remove(packed)
	})
	return filepath.Join(dir, file), err
}

// GitHubOpenAPI is [FetchGitHubOpenAPI] for a test that is gated like [Peer].
func GitHubOpenAPI(t testing.TB) string {
	t.Helper()
	Peer(t)
	path, err := FetchGitHubOpenAPI(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// download writes what is at an address to a file.
func download(ctx context.Context, address, to string) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", address, resp.Status)
	}
	file, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = io.Copy(file, resp.Body)
	return err
}

// extractFile writes one file of a compressed archive, whose SHA-256 must be the
// one given.
func extractFile(archive, name, to, sum string) (err error) {
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer in.Close()
	unzipped, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	files := tar.NewReader(unzipped)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s has no %s: %w", archive, name, os.ErrNotExist)
		}
		if err != nil {
			return err
		}
		if header.Name == name && header.Typeflag == tar.TypeReg {
			break
		}
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, hash), files)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sum {
		return fmt.Errorf("%s has SHA-256 %s, not %s", name, got, sum)
	}
	return nil
}
