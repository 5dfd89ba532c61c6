package publishtest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

// broken is a good store but for the methods that are set.
type broken struct {
	publish.Store
	open   func(ctx context.Context, key string) (io.ReadCloser, publish.Info, error)
	stat   func(ctx context.Context, key string) (publish.Info, error)
	put    func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error)
	remove func(ctx context.Context, key string) error
	list   func(ctx context.Context, prefix string) iter.Seq2[publish.Info, error]
}

func (b *broken) Open(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
	if b.open != nil {
		return b.open(ctx, key)
	}
	return b.Store.Open(ctx, key)
}

func (b *broken) Stat(ctx context.Context, key string) (publish.Info, error) {
	if b.stat != nil {
		return b.stat(ctx, key)
	}
	return b.Store.Stat(ctx, key)
}

func (b *broken) Put(ctx context.Context, key string, src publish.Source, opts *publish.PutOptions) (publish.Info, error) {
	if b.put != nil {
		var o publish.PutOptions
		if opts != nil {
			o = *opts
		}
		return b.put(ctx, key, src, o)
	}
	return b.Store.Put(ctx, key, src, opts)
}

func (b *broken) Delete(ctx context.Context, key string) error {
	if b.remove != nil {
		return b.remove(ctx, key)
	}
	return b.Store.Delete(ctx, key)
}

func (b *broken) List(ctx context.Context, prefix string) iter.Seq2[publish.Info, error] {
	if b.list != nil {
		return b.list(ctx, prefix)
	}
	return b.Store.List(ctx, prefix)
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func all(ctx context.Context, s publish.Store, prefix string) ([]publish.Info, error) {
	var infos []publish.Info
	for info, err := range s.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func sequence(infos []publish.Info, err error) iter.Seq2[publish.Info, error] {
	return func(yield func(publish.Info, error) bool) {
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
		if err != nil {
			yield(publish.Info{}, err)
		}
	}
}

// liveReader reads what is stored at the moment of each Read.
type liveReader struct {
	ctx context.Context
	s   publish.Store
	key string
	at  int
}

func (r *liveReader) Read(p []byte) (int, error) {
	data, _, err := publish.ReadDocument(r.ctx, r.s, r.key)
	if err != nil || r.at >= len(data) {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 64<<10)], data[r.at:])
	r.at += n
	return n, nil
}

func (r *liveReader) Close() error { return nil }

// brokenStores are broken in one way each, and name the case that must tell.
var brokenStores = []struct {
	name  string
	fails string // the case
	make  func(good publish.Store) *broken
}{
	{"ignores IfRevision", "stale revision", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			o.IfRevision = ""
			return s.Put(ctx, key, src, &o)
		}}
	}},
	{"creates what IfRevision misses", "revision of a missing key", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			if _, err := s.Stat(ctx, key); errors.Is(err, fs.ErrNotExist) {
				o.IfRevision = ""
			}
			return s.Put(ctx, key, src, &o)
		}}
	}},
	{"ignores IfAbsent", "if absent", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			o.IfAbsent = false
			return s.Put(ctx, key, src, &o)
		}}
	}},
	{"writes and says unsupported", "if absent", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			conditional := o.IfAbsent
			o.IfAbsent = false
			info, err := s.Put(ctx, key, src, &o)
			if conditional && err == nil {
				return publish.Info{}, &publish.Error{Op: "put", Target: key, Err: errors.ErrUnsupported}
			}
			return info, err
		}}
	}},
	{"checks IfAbsent before it writes", "concurrent if absent", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			if o.IfAbsent {
				if _, err := s.Stat(ctx, key); err == nil {
					return publish.Info{}, &publish.Error{Op: "put", Target: key, Err: fs.ErrExist}
				}
				time.Sleep(20 * time.Millisecond)
				o.IfAbsent = false
			}
			return s.Put(ctx, key, src, &o)
		}}
	}},
	{"keeps part of a failed object", "source that fails", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			info, err := s.Put(ctx, key, src, &o)
			if err != nil && publish.CheckKey(key) == nil && src != nil && !o.IfAbsent && o.IfRevision == "" {
				if body, openErr := src.Open(ctx); openErr == nil {
					data, _ := io.ReadAll(body)
					body.Close()
					_, _ = s.Put(ctx, key, publish.BytesSource(data), nil)
				}
			}
			return info, err
		}}
	}},
	{"accepts any digest", "wrong digest", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			o.SHA256 = ""
			return s.Put(ctx, key, src, &o)
		}}
	}},
	{"accepts a short source", "wrong size", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			info, err := s.Put(ctx, key, src, &o)
			if errors.Is(err, publish.ErrDigest) {
				body, openErr := src.Open(ctx)
				if openErr != nil {
					return info, err
				}
				defer body.Close()
				if data, _ := io.ReadAll(body); int64(len(data)) < src.Size() {
					return s.Put(ctx, key, publish.BytesSource(data), &o)
				}
			}
			return info, err
		}}
	}},
	{"lists backwards", "list", func(s publish.Store) *broken {
		return &broken{list: func(ctx context.Context, prefix string) iter.Seq2[publish.Info, error] {
			infos, err := all(ctx, s, prefix)
			slices.Reverse(infos)
			return sequence(infos, err)
		}}
	}},
	{"lists by folder", "list", func(s publish.Store) *broken {
		return &broken{list: func(ctx context.Context, prefix string) iter.Seq2[publish.Info, error] {
			infos, err := all(ctx, s, prefix)
			slices.SortFunc(infos, func(a, b publish.Info) int {
				return slices.Compare(strings.Split(a.Key, "/"), strings.Split(b.Key, "/"))
			})
			return sequence(infos, err)
		}}
	}},
	{"takes a prefix for a folder", "list", func(s publish.Store) *broken {
		return &broken{list: func(ctx context.Context, prefix string) iter.Seq2[publish.Info, error] {
			if prefix != "" && !strings.HasSuffix(prefix, "/") {
				if _, err := s.Stat(ctx, prefix); err != nil {
					prefix += "/"
				}
			}
			return s.List(ctx, prefix)
		}}
	}},
	{"lists one page", "list of 1001 keys", func(s publish.Store) *broken {
		return &broken{list: func(ctx context.Context, prefix string) iter.Seq2[publish.Info, error] {
			infos, err := all(ctx, s, prefix)
			return sequence(infos[:min(len(infos), 1000)], err)
		}}
	}},
	{"goes on listing", "list left early", func(s publish.Store) *broken {
		return &broken{list: func(ctx context.Context, prefix string) iter.Seq2[publish.Info, error] {
			used := false
			return func(yield func(publish.Info, error) bool) {
				if used {
					return // of one use only
				}
				used = true
				s.List(ctx, prefix)(yield)
			}
		}}
	}},
	{"cleans keys", "bad keys", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			return s.Put(ctx, strings.TrimPrefix(path.Clean("/"+key), "/"), src, &o)
		}}
	}},
	{"folds case", "weird keys", func(s publish.Store) *broken {
		fold := func(key string) string {
			if len(key) == 1 {
				return strings.ToLower(key)
			}
			return key
		}
		return &broken{
			put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
				return s.Put(ctx, fold(key), src, &o)
			},
		}
	}},
	{"decodes keys", "weird keys", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			return s.Put(ctx, strings.ReplaceAll(key, "%2F", "/"), src, &o)
		}}
	}},
	{"has no room for x beside x/y", "key that begins another", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			for dir := path.Dir(key); dir != "."; dir = path.Dir(dir) {
				if err := s.Delete(ctx, dir); err != nil {
					break
				}
			}
			return s.Put(ctx, key, src, &o)
		}}
	}},
	{"gives empty objects for missing ones", "missing key", func(s publish.Store) *broken {
		return &broken{open: func(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
			body, info, err := s.Open(ctx, key)
			if errors.Is(err, fs.ErrNotExist) {
				return io.NopCloser(bytes.NewReader(nil)), publish.Info{Key: key, Revision: "0"}, nil
			}
			return body, info, err
		}}
	}},
	{"fails to delete what is gone", "missing key", func(s publish.Store) *broken {
		return &broken{remove: func(ctx context.Context, key string) error {
			if _, err := s.Stat(ctx, key); err != nil {
				return err
			}
			return s.Delete(ctx, key)
		}}
	}},
	{"gives errors without a place", "missing key", func(s publish.Store) *broken {
		return &broken{stat: func(ctx context.Context, key string) (publish.Info, error) {
			info, err := s.Stat(ctx, key)
			return info, errors.Unwrap(err)
		}}
	}},
	{"deletes whole folders", "delete", func(s publish.Store) *broken {
		return &broken{remove: func(ctx context.Context, key string) error {
			infos, err := all(ctx, s, key+"/")
			if err != nil {
				return err
			}
			for _, info := range infos {
				if err := s.Delete(ctx, info.Key); err != nil {
					return err
				}
			}
			return s.Delete(ctx, key)
		}}
	}},
	{"has one revision", "replace", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			info, err := s.Put(ctx, key, src, &o)
			info.Revision = "1"
			return info, err
		}}
	}},
	{"forgets the content type", "put and read back", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			o.ContentType = ""
			return s.Put(ctx, key, src, &o)
		}}
	}},
	{"leaves sources open", "put and read back", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			if src != nil && publish.CheckKey(key) == nil {
				_, _ = src.Open(ctx)
			}
			return s.Put(ctx, key, src, &o)
		}}
	}},
	{"ignores the context", "context done before", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			return s.Put(context.WithoutCancel(ctx), key, src, &o)
		}}
	}},
	{"writes although it was cancelled", "context done during put", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			if err := ctx.Err(); err != nil {
				return s.Put(ctx, key, src, &o)
			}
			info, err := s.Put(context.WithoutCancel(ctx), key, src, &o)
			if ctx.Err() != nil {
				return publish.Info{}, &publish.Error{Op: "put", Target: key, Err: ctx.Err()}
			}
			return info, err
		}}
	}},
	{"reads on when cancelled", "context done during read", func(s publish.Store) *broken {
		return &broken{open: func(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
			if err := ctx.Err(); err != nil {
				return s.Open(ctx, key)
			}
			return s.Open(context.WithoutCancel(ctx), key)
		}}
	}},
	{"shows a reader another version", "reader across a replacement", func(s publish.Store) *broken {
		return &broken{open: func(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
			body, info, err := s.Open(ctx, key)
			if err != nil {
				return nil, info, err
			}
			body.Close()
			return &liveReader{ctx: ctx, s: s, key: key}, info, nil
		}}
	}},
	{"removes before it replaces", "concurrent put and read", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			if publish.CheckKey(key) == nil && !o.IfAbsent && o.IfRevision == "" && ctx.Err() == nil {
				_ = s.Delete(ctx, key)
				time.Sleep(5 * time.Millisecond)
			}
			return s.Put(ctx, key, src, &o)
		}}
	}},
	{"loses concurrent updates", "concurrent update", func(s publish.Store) *broken {
		var mu sync.Mutex
		good := map[string]bool{} // revisions that were current once
		waiting := map[string]chan struct{}{}
		// Two writers meet at each revision: the first waits for a second, who
		// may never come once the others are done.
		meet := func(revision string) {
			mu.Lock()
			first, ok := waiting[revision]
			if !ok {
				first = make(chan struct{})
				waiting[revision] = first
				mu.Unlock()
				select {
				case <-first:
				case <-time.After(200 * time.Millisecond):
				}
				return
			}
			select {
			case <-first:
			default:
				close(first)
			}
			mu.Unlock()
		}
		return &broken{open: func(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
			body, info, err := s.Open(ctx, key)
			if key == "counter" && err == nil {
				meet(info.Revision)
			}
			return body, info, err
		}, put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			mu.Lock()
			stale := good[key+o.IfRevision]
			mu.Unlock()
			if key == "counter" && stale {
				o.IfRevision = "" // it was right a moment ago
			}
			info, err := s.Put(ctx, key, src, &o)
			mu.Lock()
			good[key+info.Revision] = err == nil
			mu.Unlock()
			return info, err
		}}
	}},
	{"says nothing of progress", "progress", func(s publish.Store) *broken {
		return &broken{put: func(ctx context.Context, key string, src publish.Source, o publish.PutOptions) (publish.Info, error) {
			o.Progress = nil
			return s.Put(ctx, key, src, &o)
		}}
	}},
	{"leaks goroutines", "goroutines", func(s publish.Store) *broken {
		return &broken{open: func(ctx context.Context, key string) (io.ReadCloser, publish.Info, error) {
			go func() { select {} }()
			return s.Open(ctx, key)
		}}
	}},
}

const brokenVariable = "PUBLISHTEST_BROKEN_STORE"

// TestBrokenStore runs the suite on one broken store, in a child of
// TestStoreSuiteTells.
func TestBrokenStore(t *testing.T) {
	name := os.Getenv(brokenVariable)
	if name == "" {
		t.Skip("child of TestStoreSuiteTells")
	}
	for _, b := range brokenStores {
		if b.name == name {
			publishtest.TestStore(t, func(*testing.T) publish.Store {
				good := memstore.New()
				s := b.make(good)
				s.Store = good
				return s
			})
			return
		}
	}
	t.Fatalf("no broken store %q", name)
}

// TestStoreSuiteTells runs the suite on each broken store: it must fail, in the
// case that is about the fault.
func TestStoreSuiteTells(t *testing.T) {
	for _, b := range brokenStores {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBrokenStore$", "-test.short", "-test.timeout=60s")
			child.Env = append(os.Environ(), brokenVariable+"="+b.name)
			out, err := child.CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit, "the suite accepts a store that %s:\n%s", b.name, out)
			want := "--- FAIL: TestBrokenStore/cases/" + strings.ReplaceAll(b.fails, " ", "_") + " "
			if b.fails == "goroutines" {
				want = "--- FAIL: TestBrokenStore/goroutines "
			}
			require.Contains(t, string(out), want)
		})
	}
}

func TestFaulty(t *testing.T) {
	fault := errors.New("fault")
	var calls []string
	s := publishtest.Faulty(memstore.New(), func(c publishtest.Call) error {
		calls = append(calls, fmt.Sprintf("%d %s %s %v", c.N, c.Op, c.Target, c.After))
		if c.N == 2 && c.After || c.N == 3 {
			return fault
		}
		return nil
	})
	_, err := s.Put(t.Context(), "a", publish.BytesSource([]byte("1")), &publish.PutOptions{SHA256: digestOf([]byte("1"))})
	require.NoError(t, err)
	_, err = s.Put(t.Context(), "b", publish.BytesSource(nil), nil)
	require.ErrorIs(t, err, fault)
	_, err = s.Stat(t.Context(), "b")
	require.ErrorIs(t, err, fault)
	_, err = s.Stat(t.Context(), "b")
	require.NoError(t, err, "it was written although the answer was lost")
	infos, err := all(t.Context(), s, "")
	require.NoError(t, err)
	require.Len(t, infos, 2)
	require.NoError(t, s.Delete(t.Context(), "b"))
	_, _, err = s.Open(t.Context(), "b")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, []string{"1 put a false", "1 put a true", "2 put b false", "2 put b true", "3 stat b false"}, calls[:5])
}

func ExampleTestStore() {
	// In the tests of a backend.
	_ = func(t *testing.T) {
		publishtest.TestStore(t, func(*testing.T) publish.Store { return memstore.New() })
	}
}

func ExampleFaulty() {
	ctx := context.Background()
	// The answer to the first write is lost.
	s := publishtest.Faulty(memstore.New(), func(c publishtest.Call) error {
		if c.N == 1 && c.After {
			return errors.New("cut")
		}
		return nil
	})
	_, err := s.Put(ctx, "key", publish.BytesSource([]byte("x")), nil)
	fmt.Println(err)
	info, err := s.Stat(ctx, "key")
	fmt.Println(info.Size, err)
	// Output:
	// cut
	// 1 <nil>
}

func ExampleFaultyRegistry() {
	ctx := context.Background()
	down := errors.New("registry is down")
	// No backend is asked while it is down.
	r := publishtest.FaultyRegistry(nil, func(publishtest.Call) error { return down })
	ref, err := name.ParseReference("registry.example/okd/release:latest")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = r.Head(ctx, ref)
	fmt.Println(err)
	// Output: registry is down
}
