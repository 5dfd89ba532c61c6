package limitstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/limitstore"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

func limited(t *testing.T, inner publish.Store, opts *limitstore.Options) *limitstore.Store {
	t.Helper()
	s, err := limitstore.New(inner, opts)
	require.NoError(t, err)
	require.Equal(t, inner, s.Unwrap())
	return s
}

func TestConformance(t *testing.T) {
	publishtest.TestStore(t, func(t *testing.T) publish.Store {
		return limited(t, memstore.New(), &limitstore.Options{Concurrency: 1, BytesPerSecond: 1 << 32})
	})
}

// slow takes a second for each call and remembers how many were under way.
func slow(inner publish.Store, most *int) publish.Store {
	var mu sync.Mutex
	busy := 0
	return publishtest.Faulty(inner, func(c publishtest.Call) error {
		mu.Lock()
		if !c.After {
			busy++
			*most = max(*most, busy)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
		}
		if c.After {
			busy--
		}
		mu.Unlock()
		return nil
	})
}

func TestConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		most := 0
		s := limited(t, slow(memstore.New(), &most), &limitstore.Options{Concurrency: 3})
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				_, err := s.Put(t.Context(), fmt.Sprint("key", i), publish.BytesSource(nil), nil)
				require.NoError(t, err)
			})
		}
		wg.Wait()
		require.Equal(t, 3, most)
		require.Equal(t, 4*time.Second, time.Since(start))
		// Who can't wait gives up.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		for range 3 {
			wg.Go(func() { require.NoError(t, s.Delete(t.Context(), "key1")) })
		}
		synctest.Wait()
		_, err := s.Stat(ctx, "key2")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, ok := errors.AsType[*publish.Error](err)
		require.True(t, ok)
		wg.Wait()
	})
}

// fromStore is an object of a store as a source.
type fromStore struct {
	s   publish.Store
	key string
}

func (f fromStore) Size() int64 { return 3 }
func (f fromStore) Open(ctx context.Context) (io.ReadCloser, error) {
	body, _, err := f.s.Open(ctx, f.key)
	return body, err
}

func TestNobodyWaitsForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := limited(t, memstore.New(), &limitstore.Options{Concurrency: 1})
		_, err := s.Put(t.Context(), "a", publish.BytesSource([]byte("xyz")), nil)
		require.NoError(t, err)
		_, err = s.Put(t.Context(), "b", fromStore{s: s, key: "a"}, nil)
		require.NoError(t, err)
		body, _, err := s.Open(t.Context(), "a")
		require.NoError(t, err)
		for info, err := range s.List(t.Context(), "") {
			require.NoError(t, err)
			require.NoError(t, s.Delete(t.Context(), info.Key))
		}
		require.NoError(t, body.Close())
	})
}

func TestSpeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := limited(t, memstore.New(), &limitstore.Options{BytesPerSecond: 1000})
		data := make([]byte, 10_000)
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				_, err := s.Put(t.Context(), fmt.Sprint(i), publish.BytesSource(data), nil)
				require.NoError(t, err)
			})
		}
		wg.Wait()
		// All but the last piece, a tenth of a second at most, which ends on the way.
		require.InDelta(t, 19950*time.Millisecond, time.Since(start), float64(50*time.Millisecond))
		time.Sleep(time.Second)
		start = time.Now()
		body, _, err := s.Open(t.Context(), "0")
		require.NoError(t, err)
		n, err := io.Copy(io.Discard, body)
		require.NoError(t, err)
		require.EqualValues(t, len(data), n)
		require.InDelta(t, 9950*time.Millisecond, time.Since(start), float64(50*time.Millisecond))
		require.NoError(t, body.Close())
		// The context ends a wait, and the line stays in order.
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		body, _, err = s.Open(ctx, "0")
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, body)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		body, _, err = s.Open(t.Context(), "1")
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, body)
		require.NoError(t, err)
	})
}

func TestBadOptions(t *testing.T) {
	for _, opts := range []*limitstore.Options{{Concurrency: -1}, {BytesPerSecond: -1}} {
		_, err := limitstore.New(memstore.New(), opts)
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
}

func ExampleNew() {
	s, err := limitstore.New(memstore.New(), &limitstore.Options{Concurrency: 4, BytesPerSecond: 50 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	info, err := s.Put(ctx, "builds.json", publish.BytesSource([]byte("{}")), nil)
	fmt.Println(info.Size, err)
	info, err = s.Stat(ctx, "builds.json")
	fmt.Println(info.Size, err)
	body, _, err := s.Open(ctx, "builds.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	fmt.Println(string(data), err)
	for info, err := range s.List(ctx, "") {
		fmt.Println(info.Key, err, s.Delete(ctx, info.Key))
	}
	// Output:
	// 2 <nil>
	// 2 <nil>
	// {} <nil>
	// builds.json <nil> <nil>
}
