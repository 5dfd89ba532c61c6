package interop

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	_ "embed" // the list of packages
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// SynapseVersion is that of Matrix' reference home server, as synapse.txt has it.
const SynapseVersion = "1.163.2"

// synapseName is the home server's name, after which users and rooms are called.
const synapseName = "example.com"

// synapsePackages are Synapse and all that it needs, as pip freeze prints them.
//
//go:embed synapse.txt
var synapsePackages []byte

// InstallSynapse gives a folder of Python packages with Synapse, installed with
// pip the first time.
func InstallSynapse(ctx context.Context) (string, error) {
	return cached(ctx, "synapse-"+SynapseVersion, func(ctx context.Context, dir string) error {
		list := filepath.Join(dir, "packages.txt")
		if err := os.WriteFile(list, synapsePackages, 0o644); err != nil {
			return err
		}
		return run(ctx, dir, []string{"PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_ROOT_USER_ACTION=ignore"},
			"python3", "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--target", dir, "-r", list)
	})
}

// MatrixUser is somebody at a home server.
type MatrixUser struct {
	URL   string // of the home server
	Token string
}

// Synapse runs an empty home server until t ends, and gives a user of it. It is
// gated like [Peer].
func Synapse(t testing.TB) *MatrixUser {
	t.Helper()
	Peer(t, "python3")
	packages, err := InstallSynapse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	const secret = "registration"
	server := keep(t, func(ctx context.Context) (*Server, error) {
		return start(ctx, func(host string) (*exec.Cmd, error) {
			_, port, err := net.SplitHostPort(host)
			if err != nil {
				return nil, err
			}
			key := "ed25519 a_test " + base64.RawStdEncoding.EncodeToString(make([]byte, 32)) + "\n"
			config := fmt.Sprintf(`server_name: %s
listeners: [{port: %s, bind_addresses: [127.0.0.1], type: http, resources: [{names: [client]}]}]
database: {name: sqlite3, args: {database: %q}}
registration_shared_secret: %s
media_store_path: %q
signing_key_path: %q
report_stats: false
trusted_key_servers: []
suppress_key_server_warning: true
`, synapseName, port, filepath.Join(dir, "db"), secret, filepath.Join(dir, "media"), filepath.Join(dir, "key"))
			for name, text := range map[string]string{"key": key, "homeserver.yaml": config} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					return nil, err
				}
			}
			cmd := exec.Command("python3", "-m", "synapse.app.homeserver", "-c", filepath.Join(dir, "homeserver.yaml"))
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "PYTHONPATH="+packages)
			return cmd, nil
		})
	})
	u := &MatrixUser{URL: "http://" + server.Host}
	var nonce struct{ Nonce string }
	if err := u.Call(t.Context(), http.MethodGet, "/_synapse/admin/v1/register", nil, &nonce); err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(nonce.Nonce + "\x00bot\x00password\x00notadmin"))
	var made struct {
		Token string `json:"access_token"`
	}
	if err := u.Call(t.Context(), http.MethodPost, "/_synapse/admin/v1/register", map[string]any{
		"nonce": nonce.Nonce, "username": "bot", "password": "password", "admin": false, "mac": hex.EncodeToString(mac.Sum(nil)),
	}, &made); err != nil {
		t.Fatal(err)
	}
	u.Token = made.Token
	return u
}

// Call asks the home server; nil in and out: no body.
func (u *MatrixUser) Call(ctx context.Context, method, path string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, u.URL+path, &body)
	if err != nil {
		return err
	}
	if u.Token != "" {
		req.Header.Set("Authorization", "Bearer "+u.Token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("interop: %s %s: %s: %s", method, path, resp.Status, data)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}
