package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// FreePort gives a loopback TCP port that nothing listens on.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("interop: free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Server is a peer's server process on the loopback interface.
type Server struct {
	Host string // host:port

	process *os.Process
	ended   chan struct{}
	log     syncBuffer
}

// Stop ends the process and waits for it.
func (s *Server) Stop() error {
	if err := s.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.ended:
		return nil
	case <-time.After(5 * time.Second):
		return s.process.Kill()
	}
}

// Log gives the end of what the server printed.
func (s *Server) Log() string { return tail(s.log.String(), 50) }

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// start runs a server that prepare describes for a port, until it answers HTTP.
func start(ctx context.Context, prepare func(host string) (*exec.Cmd, error)) (*Server, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	s := &Server{Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), ended: make(chan struct{})}
	cmd, err := prepare(s.Host)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	// The server dies with us, even if we are killed. The kernel ties that to
	// the thread that started it, so one goroutine keeps the thread.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is not of interest: Stop ended it, or Log says why
			close(s.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("interop: %w", err)
	}
	s.process = cmd.Process
	if err := s.ready(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("interop: %s: %w\n%s", filepath.Base(cmd.Path), err, s.Log()), s.Stop())
	}
	return s, nil
}

// ready waits until the server answers, whatever it says.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Host+"/v2/", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			return resp.Body.Close()
		}
		select {
		case <-ctx.Done():
			return err
		case <-s.ended:
			return errors.New("ended before it answered")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// StartRegistry runs Debian's docker-registry over the folder dir, with
// deletion enabled and without authentication.
func StartRegistry(ctx context.Context, dir string) (*Server, error) {
	return start(ctx, func(host string) (*exec.Cmd, error) {
		config := filepath.Join(dir, "config.yml")
		text := fmt.Sprintf("version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\nstorage:\n  filesystem: {rootdirectory: %q}\n"+
			"  delete: {enabled: true}\n  cache: {blobdescriptor: inmemory}\nhttp: {addr: %q}\n", filepath.Join(dir, "registry"), host)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return nil, err
		}
		cmd := exec.Command("docker-registry", "serve", config)
		cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
		return cmd, nil
	})
}

// Registry runs an empty docker-registry until t ends and gives its host:port.
// It is gated like [Peer].
func Registry(t testing.TB) string {
	t.Helper()
	Peer(t, "docker-registry")
	return keep(t, func(ctx context.Context) (*Server, error) { return StartRegistry(ctx, t.TempDir()) }).Host
}

// S3Server says how to reach a bucket.
type S3Server struct {
	Endpoint, Bucket, Region string
	AccessKey, SecretKey     string
	Folder                   string // where the server keeps the bucket's objects, as files
}

// StartS3 runs versitygw over the folder dir, on the loopback interface alone,
// with one empty bucket. It builds versitygw if needed.
func StartS3(ctx context.Context, dir string) (*Server, S3Server, error) {
	bin, err := BuildVersitygw(ctx)
	if err != nil {
		return nil, S3Server{}, err
	}
	s3 := S3Server{Bucket: "sample", Region: "us-east-1", AccessKey: "sample-access", SecretKey: "sample-secret"}
	srv, err := start(ctx, func(host string) (*exec.Cmd, error) {
		data := filepath.Join(dir, "objects")
		if err := os.MkdirAll(filepath.Join(data, s3.Bucket), 0o755); err != nil {
			return nil, err
		}
		cmd := exec.Command(bin, "--port", host, "--region", s3.Region, "--quiet", "posix", data)
		cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s3.AccessKey, "ROOT_SECRET_KEY="+s3.SecretKey)
		cmd.Dir = dir
		return cmd, nil
	})
	if err != nil {
		return nil, S3Server{}, err
	}
	s3.Endpoint = "http://" + srv.Host
	s3.Folder = filepath.Join(dir, "objects", s3.Bucket)
	return srv, s3, nil
}

// S3 runs versitygw with an empty bucket until t ends. It is gated like [Peer].
func S3(t testing.TB) S3Server {
	t.Helper()
	Peer(t)
	var s3 S3Server
	keep(t, func(ctx context.Context) (*Server, error) {
		srv, at, err := StartS3(ctx, t.TempDir())
		s3 = at
		return srv, err
	})
	return s3
}

// keep stops a server when t ends, and shows its log if t failed.
func keep(t testing.TB, start func(context.Context) (*Server, error)) *Server {
	t.Helper()
	s, err := start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("interop: stop server: %v", err)
		}
		if t.Failed() {
			t.Logf("server's log:\n%s", s.Log())
		}
	})
	return s
}

// InsecureHome makes a HOME folder whose container tools talk plain HTTP to
// the registries at hosts and accept unsigned images: skopeo, and ostree-ext
// that starts it. Set HOME to it and leave XDG_CONFIG_HOME unset.
func InsecureHome(dir string, hosts ...string) error {
	config := filepath.Join(dir, ".config", "containers")
	if err := os.MkdirAll(config, 0o700); err != nil {
		return err
	}
	var text bytes.Buffer
	for _, host := range hosts {
		fmt.Fprintf(&text, "[[registry]]\nlocation = %q\ninsecure = true\n\n", host)
	}
	if err := os.WriteFile(filepath.Join(config, "registries.conf"), text.Bytes(), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(config, "policy.json"), []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o600)
}
