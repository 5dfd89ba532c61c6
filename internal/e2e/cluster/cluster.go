package cluster

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/okd-project/okd-streams/internal/interop"
)

// logsVariable names a folder for the logs of the cluster's programs, for people
// who look for a fault; empty: they are gone with the cluster.
const logsVariable = "OKD_STREAMS_CLUSTER_LOGS"

// Cluster is one node with Tekton Pipelines, on its own in its namespaces.
type Cluster struct {
	Program    string // okd-streams of this tree, static
	TaskImage  string // its image as `okd-streams image build` made it, by digest, in Registry
	Registry   string // HOST:PORT of a docker-registry on loopback, for the node, for pods in its network, and for tests
	Kubernetes kubernetes.Interface
	Dynamic    dynamic.Interface
	Config     *rest.Config

	peers  string
	mapper *restmapper.DeferredDiscoveryRESTMapper

	mu        sync.Mutex
	processes map[string]*process
}

// process is a program of the cluster.
type process struct {
	program   string
	args, env []string
	log       string
	pid       int
	ended     chan struct{}
	err       error
}

var (
	once   sync.Once
	shared *Cluster
	failed error
)

// Get gives the cluster of this test binary, and starts it for the first test
// that wants it. A test without what the cluster needs skips, or fails if
// interop tests are on.
func Get(t testing.TB) *Cluster {
	t.Helper()
	interop.Peer(t)
	if os.Getenv(stageVariable) != "tests" {
		t.Fatal("cluster: TestMain of this package does not call cluster.Main")
	}
	once.Do(func() {
		begin := time.Now()
		shared, failed = start(context.Background())
		t.Logf("cluster: up after %.1f s", time.Since(begin).Seconds())
	})
	if failed != nil {
		t.Fatal("cluster: ", failed)
	}
	return shared
}

// users have tokens in place of certificates.
var users = map[string]struct{ user, groups string }{
	"admin":      {"admin", "system:masters"},
	"manager":    {"system:kube-controller-manager", ""},
	"scheduler":  {"system:kube-scheduler", ""},
	"kubelet":    {"system:node:" + nodeName, "system:nodes"},
	"controller": {"system:serviceaccount:tekton-pipelines:tekton-pipelines-controller", "system:serviceaccounts,system:serviceaccounts:tekton-pipelines"},
	"webhook":    {"system:serviceaccount:tekton-pipelines:tekton-pipelines-webhook", "system:serviceaccounts,system:serviceaccounts:tekton-pipelines"},
}

const (
	nodeName   = "node"
	apiURL     = "https://" + Address // port 443, as the Service kubernetes says: no kube-proxy is needed
	certFile   = runFolder + "/api.crt"
	keyFile    = runFolder + "/api.key"
	tokenFile  = runFolder + "/tokens.csv"
	kubeletDir = runFolder + "/kubelet"
	socket     = runFolder + "/containerd.sock"
)

func start(ctx context.Context) (_ *Cluster, err error) {
	c := &Cluster{
		Program: os.Getenv(programVariable), peers: os.Getenv(peersVariable),
		processes: map[string]*process{},
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, c.Logs())
		}
	}()
	if err := c.writeFiles(); err != nil {
		return nil, err
	}
	if err := makeCgroups(); err != nil {
		return nil, err
	}
	// In no order: each waits for what it needs.
	for _, p := range []struct {
		name string
		args []string
	}{
		{"containerd", []string{"--config", runFolder + "/containerd.toml"}},
		{"etcd", []string{"--data-dir", runFolder + "/etcd", "--unsafe-no-fsync", "--log-level", "warn"}},
		{"kube-apiserver", apiServerArgs("443")},
	} {
		if err := c.run(p.name, p.name, p.args, nil); err != nil {
			return nil, err
		}
	}
	c.Config = &rest.Config{Host: apiURL, BearerToken: token("admin"), TLSClientConfig: rest.TLSClientConfig{CAFile: certFile}, QPS: -1}
	if err := c.connect(); err != nil {
		return nil, err
	}

	images := make(chan error, 1)
	go func() { images <- c.pushImages(ctx) }()
	if err := c.await(ctx, "the API server", ready(c.Kubernetes)); err != nil {
		return nil, errors.Join(err, <-images)
	}
	for _, p := range []struct {
		name string
		args []string
	}{
		{"kube-controller-manager", []string{
			"--kubeconfig=" + kubeconfig("manager"), "--leader-elect=false", "--root-ca-file=" + certFile, "--service-account-private-key-file=" + keyFile,
			"--use-service-account-credentials=true", "--secure-port=0", "--profiling=false", "--kube-api-qps=500", "--kube-api-burst=1000",
			"--pvclaimbinder-sync-period=1s", // a claim that comes before its volume waits for it
		}},
		{"kube-scheduler", []string{"--kubeconfig=" + kubeconfig("scheduler"), "--leader-elect=false", "--secure-port=0", "--profiling=false", "--kube-api-qps=500", "--kube-api-burst=1000"}},
		{"kubelet", []string{"--kubeconfig=" + kubeconfig("kubelet"), "--config=" + runFolder + "/kubelet.yaml", "--root-dir=" + kubeletDir, "--hostname-override=" + nodeName, "--node-ip=" + Address}},
	} {
		if err := c.run(p.name, p.name, p.args, nil); err != nil {
			return nil, errors.Join(err, <-images)
		}
	}
	if err := errors.Join(c.installTekton(ctx), <-images); err != nil {
		return nil, err
	}
	return c, c.awaitNode(ctx)
}

// connect makes the clients.
func (c *Cluster) connect() (err error) {
	if c.Kubernetes, err = kubernetes.NewForConfig(c.Config); err != nil {
		return err
	}
	if c.Dynamic, err = dynamic.NewForConfig(c.Config); err != nil {
		return err
	}
	discoverer, err := discovery.NewDiscoveryClientForConfig(c.Config)
	if err != nil {
		return err
	}
	c.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(discoverer))
	return nil
}

// apiServerArgs are what an API server at a port is started with.
func apiServerArgs(port string, more ...string) []string {
	return append([]string{
		"--etcd-servers=http://127.0.0.1:2379", "--secure-port=" + port, "--advertise-address=" + Address, "--service-cluster-ip-range=" + serviceCIDR,
		"--tls-cert-file=" + certFile, "--tls-private-key-file=" + keyFile, "--cert-dir=" + runFolder + "/api", "--token-auth-file=" + tokenFile,
		"--authorization-mode=Node,RBAC", "--allow-privileged=true", "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + keyFile, "--service-account-signing-key-file=" + keyFile,
		"--kubelet-preferred-address-types=InternalIP", "--profiling=false",
	}, more...)
}

// run starts a program of the peers' folder, or else of PATH.
func (c *Cluster) run(name, program string, args, env []string) error {
	path := filepath.Join(c.peers, "bin", program)
	if _, err := os.Stat(path); err != nil {
		path = program
	}
	logs := os.Getenv(logsVariable)
	if logs == "" {
		logs = filepath.Join(runFolder, "logs")
	}
	p := &process{program: program, args: args, env: env, log: filepath.Join(logs, name+".log"), ended: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(append(os.Environ(), "GOGC=400"), env...) // time is shorter than memory
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}      // a ^C is not for them
	if err := cmd.Start(); err != nil {
		return err
	}
	p.pid = cmd.Process.Pid
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.processes[name] = p
	return nil
}

// Logs gives the ends of what the cluster's programs printed.
func (c *Cluster) Logs() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out bytes.Buffer
	for _, name := range []string{"containerd", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "webhook", "controller"} {
		p := c.processes[name]
		if p == nil {
			continue
		}
		text, err := os.ReadFile(p.log)
		if err != nil {
			text = []byte(err.Error())
		}
		fmt.Fprintf(&out, "--- %s\n%s\n", name, tail(string(text), 12))
	}
	return out.String()
}

// patience is how long anything may take that does take seconds.
const patience = 3 * time.Minute

// await tries until it works. It gives up early when a program of the cluster
// has ended.
func (c *Cluster) await(ctx context.Context, what string, try func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if dead := c.dead(); dead != nil {
			return errors.Join(dead, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s: %w", patience, what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// dead names programs of the cluster that have ended.
func (c *Cluster) dead() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for name, p := range c.processes {
		select {
		case <-p.ended:
			errs = append(errs, fmt.Errorf("%s ended: %v", name, p.err))
		default:
		}
	}
	return errors.Join(errs...)
}

func token(name string) string      { return "token-of-" + name }
func kubeconfig(name string) string { return filepath.Join(runFolder, name+".kubeconfig") }

// writeFiles makes keys, users and what the programs are configured by.
func (c *Cluster) writeFiles() error {
	for _, dir := range []string{"logs", "cni", "registry"} {
		if err := os.MkdirAll(filepath.Join(runFolder, dir), 0o755); err != nil {
			return err
		}
	}
	cert, key, err := certificate()
	if err != nil {
		return err
	}
	var tokens bytes.Buffer
	files := map[string][]byte{certFile: cert, keyFile: key}
	for name, u := range users {
		fmt.Fprintf(&tokens, "%s,%s,%s,%q\n", token(name), u.user, u.user, u.groups)
		files[kubeconfig(name)] = fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: e2e, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: e2e, user: {token: %q}}]
contexts: [{name: e2e, context: {cluster: e2e, user: e2e}}]
current-context: e2e
`, apiURL, certFile, token(name))
	}
	files[tokenFile] = tokens.Bytes()
	files[runFolder+"/cni/pods.conflist"] = []byte(cniConfig)
	files[runFolder+"/kubelet.yaml"] = []byte(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /` + cgroupName + `
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
containerRuntimeEndpoint: unix://` + socket + `
podLogsDir: ` + runFolder + `/pods
resolvConf: ""
registryPullQPS: 0
kubeAPIQPS: 500
kubeAPIBurst: 1000
serializeImagePulls: false
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 0%, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%, imagefs.inodesFree: 0%}
`)
	// Without CAP_SYS_RESOURCE nobody may be better off than the others when
	// memory is short.
	files[runFolder+"/containerd.toml"] = []byte(`version = 2
root = "` + runFolder + `/containerd"
state = "` + runFolder + `/containerd-state"
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "` + socket + `"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "` + cniPlugins + `"
    conf_dir = "` + runFolder + `/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "` + runFolder + `/registry"
`)
	for name, data := range files {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// certificate makes a certificate of the API server that is its own authority.
func certificate() (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames:    []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"},
		IPAddresses: []net.IP{net.ParseIP(Address), net.ParseIP("127.0.0.1")},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), nil
}
