package publish_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/layoutregistry"
	"github.com/okd-project/okd-streams/publish/memstore"
)

func ExampleCheckKey() {
	fmt.Println(publish.CheckKey("prod/streams/next/builds/builds.json"))
	fmt.Println(publish.CheckKey("prod/../../etc/passwd"))
	// Output:
	// <nil>
	// key "prod/../../etc/passwd": segment "..": invalid argument
}

// A backend's Put begins by checking its arguments and reads the source through
// a reader that keeps the promises.
func ExampleOpenSource() {
	ctx := context.Background()
	src := publish.BytesSource([]byte("content"))
	opts, err := publish.CheckPut("key", src, &publish.PutOptions{SHA256: strings.Repeat("0", 64)})
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := publish.OpenSource(ctx, src, &opts)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	fmt.Println(strings.HasSuffix(err.Error(), ": digest mismatch"))
	// Output: true
}

func ExampleFileSource() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "disk.raw")
	if err := os.WriteFile(path, []byte("a disk"), 0o644); err != nil {
		fmt.Println(err)
		return
	}
	src, err := publish.FileSource(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	info, err := memstore.New().Put(context.Background(), "disk.raw", src, nil)
	fmt.Println(info.Key, info.Size, err)
	// Output: disk.raw 6 <nil>
}

func ExampleDecodePlan() {
	_, err := publish.DecodePlan(strings.NewReader(`{"version": 1, "name": "sample", "steps": [
		{"stage": "content", "gate": {"name": "boots"}},
		{"stage": "catalogue", "document": {"key": "/builds.json", "transform": "add-build"}}
	]}`))
	fmt.Println(err)
	fmt.Println(publish.Stages())
	// Output:
	// publish: check plan "sample": steps[0].gate: not allowed in stage content: invalid argument
	// steps[1].document.key: key "/builds.json": empty segment: invalid argument
	// [content catalogue gates announcement pointers]
}

func ExampleStoreJournal() {
	ctx := context.Background()
	for _, j := range []publish.Journal{
		publish.StoreJournal(memstore.New(), "journal/"), // for several machines
		publish.FileJournal(filepath.Join(os.TempDir(), "no-such-folder", "journal.jsonl")),
	} {
		entries, err := j.Load(ctx, "digest of a plan")
		fmt.Println(len(entries), err)
	}
	// Output:
	// 0 <nil>
	// 0 <nil>
}

// A release in a folder of layouts is put into another one, looked at first.
func ExampleTransfer() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	from, err := layoutregistry.Open(ctx, filepath.Join(dir, "build"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	to, err := layoutregistry.Open(ctx, filepath.Join(dir, "mirror"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	desc, err := from.WriteImage(ctx, name.MustParseReference("localhost/build/release:1").Context(), empty.Image, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	copies := []publish.Copy{{From: "localhost/build/release@" + desc.Digest.String(), To: "localhost/okd/release", Tags: []string{"4.22"}}}
	plan, err := publish.Transfer(ctx, to, from, copies, &publish.TransferOptions{DryRun: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, step := range plan.Steps {
		target, _, _ := strings.Cut(step.Target, "@")
		fmt.Println(step.Action, target, step.Size, "bytes")
	}
	done, err := publish.Transfer(ctx, to, from, copies, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(done.Totals.Moved, "blob moved,", done.Totals.Tagged, "tag set")
	// Output:
	// move localhost/okd/release 115 bytes
	// write localhost/okd/release 264 bytes
	// tag localhost/okd/release:4.22 264 bytes
	// 1 blob moved, 1 tag set
}

func ExampleDecodeCopies() {
	copies, err := publish.DecodeCopies(strings.NewReader(`[
		{"from": "quay.io/okd/scos-release:4.20.0", "to": "mirror.example/okd/release", "tags": ["4.20.0"], "signatures": true}
	]`))
	fmt.Println(len(copies), copies[0].To, err)
	// Output: 1 mirror.example/okd/release <nil>
}

func ExampleCheckCopies() {
	fmt.Println(publish.CheckCopies([]publish.Copy{{From: "scos-release", To: "mirror.example/okd/release"}}))
	// Output: publish: check copies: copies[0].from: "scos-release" is no reference: invalid argument
}

func ExampleTakeLease() {
	ctx := context.Background()
	store := memstore.New()
	clock := func() time.Time { return time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC) }
	lease, err := publish.TakeLease(ctx, store, "okd-scos/lease.json", "run-1", clock, &publish.LeaseOptions{TTL: 5 * time.Hour})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(lease.Holder, lease.Turn, lease.Until.Format(time.TimeOnly))
	_, err = publish.TakeLease(ctx, store, "okd-scos/lease.json", "run-2", clock, nil)
	fmt.Println(err)
	if err := publish.GiveLease(ctx, store, "okd-scos/lease.json", "run-1", clock); err != nil {
		fmt.Println(err)
	}
	// Output:
	// run-1 1 17:00:00
	// publish: lease okd-scos/lease.json: run-1 holds it since 2026-11-26T12:00:00Z, until 2026-11-26T17:00:00Z at most
}
