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
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
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
	if len(os.Args) == 6 && os.Args[1] == "child" {
		err = child(ctx, os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	} else {
		err = run(ctx, os.Args[1:], os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "s3peer:", err)
		os.Exit(1)
	}
}

// cases in the order of a round; each get reads what its put wrote.
var cases = []string{"ours put", "peer put", "ours get", "peer get"}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("s3peer", flag.ContinueOnError)
	size := flags.Int64("size", 1024, "MiB of the object")
	rounds := flags.Int("rounds", 3, "how often each side runs; medians are shown")
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
	wall, peak := map[string][]time.Duration{}, map[string]int64{}
	for round := range *rounds {
		order := slices.Clone(cases)
		if round%2 == 1 {
			order[0], order[1], order[2], order[3] = order[1], order[0], order[3], order[2]
		}
		for _, name := range order {
			syscall.Sync()
			cmd := exec.CommandContext(ctx, self, "child", name, string(where), file, sum)
			var diag bytes.Buffer
			cmd.Stderr = &diag
			begin := time.Now()
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("%s: %w\n%s", name, err, diag.String())
			}
			wall[name] = append(wall[name], time.Since(begin))
			usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			if !ok {
				return fmt.Errorf("resource usage of a process: %w", errors.ErrUnsupported)
			}
			peak[name] = max(peak[name], usage.Maxrss<<10)
		}
	}
	for _, name := range cases {
		slices.Sort(wall[name])
		middle := wall[name][len(wall[name])/2]
		fmt.Fprintf(stdout, "%s\t%.2f s\t%.0f MB/s\tpeak %d MiB\n", name, middle.Seconds(), float64(*size<<20)/1e6/middle.Seconds(), peak[name]>>20)
	}
	return nil
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
	switch name {
	case "ours put", "ours get":
		s, err := s3store.Open(ctx, s3store.Config{Bucket: at.Bucket, Endpoint: at.Endpoint, Region: at.Region, PathStyle: true},
			&s3store.Options{AccessKey: at.AccessKey, SecretKey: at.SecretKey})
		if err != nil {
			return err
		}
		defer s.Close()
		if name == "ours put" {
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
		_, err = io.Copy(io.Discard, body)
		return errors.Join(err, body.Close())
	case "peer put", "peer get":
		client := transfermanager.New(s3.New(s3.Options{
			Region: at.Region, BaseEndpoint: &at.Endpoint, UsePathStyle: true,
			Credentials: credentials.NewStaticCredentialsProvider(at.AccessKey, at.SecretKey, ""),
		}))
		if name == "peer put" {
			body, err := os.Open(file)
			if err != nil {
				return err
			}
			defer body.Close()
			_, err = client.UploadObject(ctx, &transfermanager.UploadObjectInput{Bucket: &at.Bucket, Key: aws.String("peer"), Body: body})
			return err
		}
		out, err := client.GetObject(ctx, &transfermanager.GetObjectInput{Bucket: &at.Bucket, Key: aws.String("peer")})
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, out.Body)
		return err
	}
	return fmt.Errorf("no case %q", name)
}
