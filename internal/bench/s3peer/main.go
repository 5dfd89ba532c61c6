package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/s3store"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if len(os.Args) == 4 && os.Args[1] == "plan" {
		err = plan(ctx, os.Args[2], os.Args[3], os.Stdout)
	} else if len(os.Args) == 6 && os.Args[1] == "child" {
		err = child(ctx, os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	} else {
		err = run(ctx, os.Args[1:], os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "s3peer:", err)
		os.Exit(1)
	}
}

// cases in the order of a round, ours before the peer's; each reads what its put
// wrote. A get hands the object on in the pieces of [io.Copy], a large get in
// pieces of 8 MiB: with small ones transfermanager's reader starts its workers for
// each piece and spins until it is handed out (concurrentReader.Read), which is
// where its time goes then. A download is to a file, as its DownloadObject does.
var cases = []string{"ours put", "peer put", "ours get", "peer get", "ours large get", "peer large get", "ours download", "peer download"}

// taken is what a case took.
type taken struct{ wall, cpu, server time.Duration }

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("s3peer", flag.ContinueOnError)
	size := flags.Int64("size", 1024, "MiB of the object")
	rounds := flags.Int("rounds", 3, "how often each side runs; medians are shown")
	objects := flags.Int("objects", 10_000, "of the plan that is applied twice; 0: none is")
	work := flags.String("work", "", "folder; default: a temporary one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(*work, "s3peer-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "content")
	sum, err := fill(file, *size<<20)
	if err != nil {
		return err
	}
	server, at, err := interop.StartS3(ctx, dir)
	if err != nil {
		return err
	}
	defer server.Stop()
	where, err := json.Marshal(at)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	all, peak := map[string][]taken{}, map[string]int64{}
	for round := range *rounds {
		order := slices.Clone(cases)
		if round%2 == 1 {
			for i := 0; i < len(order); i += 2 {
				order[i], order[i+1] = order[i+1], order[i]
			}
		}
		for _, name := range order {
			if strings.HasSuffix(name, "download") {
				if err := os.RemoveAll(file + ".down"); err != nil {
					return err
				}
			}
			syscall.Sync()
			before, err := server.CPU()
			if err != nil {
				return err
			}
			cmd := exec.CommandContext(ctx, self, "child", name, string(where), file, sum)
			var diag bytes.Buffer
			cmd.Stderr = &diag
			begin := time.Now()
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("%s: %w\n%s", name, err, diag.String())
			}
			took := taken{wall: time.Since(begin), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
			after, err := server.CPU()
			if err != nil {
				return err
			}
			took.server = after - before
			all[name] = append(all[name], took)
			usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			if !ok {
				return fmt.Errorf("resource usage of a process: %w", errors.ErrUnsupported)
			}
			peak[name] = max(peak[name], usage.Maxrss<<10)
		}
	}
	for _, name := range cases {
		median := func(of func(taken) time.Duration) float64 {
			list := make([]time.Duration, 0, *rounds)
			for _, t := range all[name] {
				list = append(list, of(t))
			}
			slices.Sort(list)
			return list[len(list)/2].Seconds()
		}
		wall := median(func(t taken) time.Duration { return t.wall })
		fmt.Fprintf(stdout, "%-14s\t%.2f s\t%.0f MB/s\tCPU %.2f s\tserver's %.2f s\tpeak %d MiB\n", name, wall, float64(*size<<20)/1e6/wall,
			median(func(t taken) time.Duration { return t.cpu }), median(func(t taken) time.Duration { return t.server }), peak[name]>>20)
	}
	for range min(*objects, 2) {
		cmd := exec.CommandContext(ctx, self, "plan", string(where), strconv.Itoa(*objects))
		cmd.Stdout, cmd.Stderr = stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("plan: %w", err)
		}
		usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		if !ok {
			return fmt.Errorf("resource usage of a process: %w", errors.ErrUnsupported)
		}
		fmt.Fprintf(stdout, ", peak %d MiB\n", usage.Maxrss>>10)
	}
	return nil
}

// counter counts the requests that it passes on.
type counter struct {
	http.RoundTripper
	n atomic.Int64
}

func (c *counter) RoundTrip(req *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.RoundTripper.RoundTrip(req)
}

// plan applies a plan of small objects and says how many requests that took. The
// second time nothing changes.
func plan(ctx context.Context, where, objects string, stdout io.Writer) error {
	var at interop.S3Server
	if err := json.Unmarshal([]byte(where), &at); err != nil {
		return err
	}
	n, err := strconv.Atoi(objects)
	if err != nil {
		return err
	}
	count := &counter{RoundTripper: &http.Transport{MaxIdleConnsPerHost: 16}}
	s, err := s3store.Open(ctx, s3store.Config{Bucket: at.Bucket, Prefix: "plan", Endpoint: at.Endpoint, Region: at.Region, PathStyle: true},
		&s3store.Options{AccessKey: at.AccessKey, SecretKey: at.SecretKey, Base: count})
	if err != nil {
		return err
	}
	defer s.Close()
	p := &publish.Plan{Version: publish.PlanVersion, Name: "small objects"}
	sources := make(map[string]publish.Source, n)
	for i := range n {
		data := fmt.Appendf(nil, "object %d", i)
		sum := sha256.Sum256(data)
		text := hex.EncodeToString(sum[:])
		sources[text] = publish.BytesSource(data)
		p.Steps = append(p.Steps, publish.Step{Stage: publish.StageContent, Object: &publish.ObjectStep{
			Key: fmt.Sprintf("builds/%d/%d", i/100, i), SHA256: text, Size: int64(len(data)),
		}})
	}
	count.n.Store(0)
	begin := time.Now()
	env := &publish.Env{Store: s, Object: func(_ context.Context, sum string) (publish.Source, error) { return sources[sum], nil }}
	if err := publish.Apply(ctx, p, env, nil); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "plan of %d objects\t%.2f s\t%d requests", n, time.Since(begin).Seconds(), count.n.Load())
	return err
}

// fill writes size bytes that do not compress, and gives their SHA-256.
func fill(path string, size int64) (string, error) {
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	_, err = io.CopyN(io.MultiWriter(file, hash), rand.NewChaCha8([32]byte{}), size)
	return hex.EncodeToString(hash.Sum(nil)), errors.Join(err, file.Close())
}

func child(ctx context.Context, name, where, file, sum string) error {
	var at interop.S3Server
	if err := json.Unmarshal([]byte(where), &at); err != nil {
		return err
	}
	side, what, _ := strings.Cut(name, " ")
	switch side {
	case "ours":
		return ours(ctx, what, at, file, sum)
	case "peer":
		return peer(ctx, what, at, file)
	}
	return fmt.Errorf("no case %q", name)
}

func ours(ctx context.Context, what string, at interop.S3Server, file, sum string) error {
	s, err := s3store.Open(ctx, s3store.Config{Bucket: at.Bucket, Endpoint: at.Endpoint, Region: at.Region, PathStyle: true},
		&s3store.Options{AccessKey: at.AccessKey, SecretKey: at.SecretKey})
	if err != nil {
		return err
	}
	defer s.Close()
	if what == "put" {
		src, err := publish.FileSource(file)
		if err != nil {
			return err
		}
		_, err = s.Put(ctx, "ours", src, &publish.PutOptions{SHA256: sum})
		return err
	}
	body, _, err := s.Open(ctx, "ours")
	if err != nil {
		return err
	}
	return errors.Join(read(what, body, file), body.Close())
}

func peer(ctx context.Context, what string, at interop.S3Server, file string) error {
	client := transfermanager.New(s3.New(s3.Options{
		Region: at.Region, BaseEndpoint: &at.Endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(at.AccessKey, at.SecretKey, ""),
	}))
	key := aws.String("peer")
	switch what {
	case "put":
		body, err := os.Open(file)
		if err != nil {
			return err
		}
		defer body.Close()
		_, err = client.UploadObject(ctx, &transfermanager.UploadObjectInput{Bucket: &at.Bucket, Key: key, Body: body})
		return err
	case "download":
		f, err := os.Create(file + ".down")
		if err != nil {
			return err
		}
		_, err = client.DownloadObject(ctx, &transfermanager.DownloadObjectInput{Bucket: &at.Bucket, Key: key, WriterAt: f})
		return errors.Join(err, f.Close())
	}
	out, err := client.GetObject(ctx, &transfermanager.GetObjectInput{Bucket: &at.Bucket, Key: key})
	if err != nil {
		return err
	}
	return read(what, out.Body, file)
}

// read reads what a get gave in the way of the case.
func read(what string, body io.Reader, file string) error {
	size := 32 << 10
	switch what {
	case "get":
	case "large get":
		size = 8 << 20
	case "download":
		f, err := os.Create(file + ".down")
		if err != nil {
			return err
		}
		_, err = io.Copy(f, body)
		return errors.Join(err, f.Close())
	default:
		return fmt.Errorf("no case %q", what)
	}
	// Neither end may choose another size.
	_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{body}, make([]byte, size))
	return err
}
