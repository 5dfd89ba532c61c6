// Package secrets gets at what a definition's credentials name.
package secrets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/okd-project/okd-streams/stream"
)

// MaxSize bounds a secret, bytes, as Kubernetes does.
const MaxSize = 1 << 20

// From gives the value of a role: of the environment variable that the
// credentials name for it, else of the file DIR/SECRET/KEY, which is how secrets
// are mounted into the containers of a task. What is not there wraps
// [fs.ErrNotExist].
func From(getenv func(string) string, dir string) func(context.Context, *stream.Credentials, string) (string, error) {
	return func(_ context.Context, c *stream.Credentials, role string) (string, error) {
		if name := c.Env[role]; name != "" {
			if value := getenv(name); value != "" {
				return value, nil
			}
		}
		switch name := c.Keys[role]; {
		case name == "" && c.Env[role] == "":
			return "", fmt.Errorf("the definition names no %s: %w", role, fs.ErrNotExist)
		case name == "":
			return "", fmt.Errorf("the environment variable %s is not set: %w", c.Env[role], fs.ErrNotExist)
		case dir == "":
			return "", fmt.Errorf("no folder with the key %s of secret %s: %w", name, c.Secret, fs.ErrNotExist)
		default:
			return File(filepath.Join(dir, c.Secret, name))
		}
	}
}

// Has reports whether credentials, which may be nil, name a role.
func Has(c *stream.Credentials, role string) bool {
	return c != nil && (c.Keys[role] != "" || c.Env[role] != "")
}

// File reads a secret, without the white space around it.
func File(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(io.LimitReader(file, MaxSize+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return "", err
	}
	if len(data) > MaxSize {
		return "", fmt.Errorf("%s is larger than %d bytes: no secret", path, MaxSize)
	}
	return strings.TrimSpace(string(data)), nil
}
