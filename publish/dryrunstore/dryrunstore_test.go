package dryrunstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/dirstore"
	"github.com/okd-project/okd-streams/publish/dryrunstore"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

func TestConformance(t *testing.T) {
	publishtest.TestStore(t, func(t *testing.T) publish.Store {
		inner := memstore.New()
		t.Cleanup(func() {
			for info := range inner.List(context.WithoutCancel(t.Context()), "") {
				t.Errorf("%s was written", info.Key)
			}
		})
		return dryrunstore.New(inner, nil)
	})
}

func put(t *testing.T, s publish.Store, key, text string, opts *publish.PutOptions) publish.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, publish.BytesSource([]byte(text)), opts)
	require.NoError(t, err)
	return info
}

func text(t *testing.T, s publish.Store, key string) string {
	t.Helper()
	body, _, err := s.Open(t.Context(), key)
	require.NoError(t, err)
	data, err := io.ReadAll(body)
	require.NoError(t, errors.Join(err, body.Close()))
	return string(data)
}

func TestWhatWouldBe(t *testing.T) {
	inner, err := dirstore.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	for _, key := range []string{"a", "c", "e"} {
		put(t, inner, key, "old "+key, nil)
	}
	s := dryrunstore.New(inner, nil)
	require.Equal(t, inner, s.Unwrap())
	old, err := s.Stat(t.Context(), "c")
	require.NoError(t, err)

	put(t, s, "b", "new b", &publish.PutOptions{IfAbsent: true, ContentType: "text/plain"})
	_, err = s.Put(t.Context(), "a", publish.BytesSource(nil), &publish.PutOptions{IfAbsent: true})
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, "put a:")
	changed := put(t, s, "c", "new c", &publish.PutOptions{IfRevision: old.Revision})
	_, err = s.Put(t.Context(), "c", publish.BytesSource(nil), &publish.PutOptions{IfRevision: old.Revision})
	require.ErrorIs(t, err, publish.ErrConflict)
	require.NoError(t, s.Delete(t.Context(), "e"))
	put(t, s, "f", "new f", nil)
	require.NoError(t, s.Delete(t.Context(), "f"))

	list := func(s publish.Store) (keys []string) {
		for info, err := range s.List(t.Context(), "") {
			require.NoError(t, err)
			keys = append(keys, info.Key+": "+text(t, s, info.Key))
		}
		return keys
	}
	require.Equal(t, []string{"a: old a", "b: new b", "c: new c"}, list(s))
	require.Equal(t, []string{"a: old a", "c: old c", "e: old e"}, list(inner), "nothing is written")
	_, err = s.Stat(t.Context(), "e")
	require.ErrorIs(t, err, fs.ErrNotExist)

	var calls []string
	for _, c := range s.Calls() {
		calls = append(calls, fmt.Sprint(c.Op, " ", c.Info.Key, " ", c.Info.Size, " ", c.Replaced))
	}
	require.Equal(t, []string{"put b 5 false", "put c 5 true", "delete e 0 true", "put f 5 false", "delete f 0 true"}, calls)
	require.Equal(t, changed, s.Calls()[1].Info)
	require.NoError(t, inner.Close())
}

func TestUpdate(t *testing.T) {
	inner := memstore.New()
	put(t, inner, "n", "1", nil)
	s := dryrunstore.New(inner, nil)
	for range 3 {
		_, err := publish.Update(t.Context(), s, "n", func(old []byte) ([]byte, error) { return append(old, '1'), nil }, nil)
		require.NoError(t, err)
	}
	require.Equal(t, "1111", text(t, s, "n"))
	require.Equal(t, "1", text(t, inner, "n"))
}

// unreadable is a source that nobody may open.
type unreadable struct{}

func (unreadable) Size() int64 { return 1 << 40 }
func (unreadable) Open(context.Context) (io.ReadCloser, error) {
	return nil, errors.New("opened")
}

func TestTrustSources(t *testing.T) {
	const sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	var done int64
	opts := &publish.PutOptions{SHA256: sum, Progress: func(d, _ int64) { done = d }}
	s := dryrunstore.New(memstore.New(), &dryrunstore.Options{TrustSources: true})
	info, err := s.Put(t.Context(), "disk", unreadable{}, opts)
	require.NoError(t, err)
	require.Equal(t, sum, info.SHA256)
	require.EqualValues(t, 1<<40, info.Size)
	require.EqualValues(t, 1<<40, done)
	_, err = s.Put(t.Context(), "other", unreadable{}, nil)
	require.ErrorContains(t, err, "opened")
	_, err = dryrunstore.New(memstore.New(), nil).Put(t.Context(), "disk", unreadable{}, opts)
	require.ErrorContains(t, err, "opened")
	// What turns out to be other bytes is told to who reads them.
	_, err = s.Put(t.Context(), "lie", publish.BytesSource([]byte("x")), &publish.PutOptions{SHA256: sum})
	require.NoError(t, err)
	body, _, err := s.Open(t.Context(), "lie")
	require.NoError(t, err)
	_, err = io.ReadAll(body)
	require.ErrorIs(t, err, publish.ErrDigest)
	require.NoError(t, body.Close())
}

func ExampleStore_Calls() {
	ctx := context.Background()
	bucket := memstore.New()
	s := dryrunstore.New(bucket, nil)
	_, err := s.Put(ctx, "streams/next.json", publish.BytesSource([]byte("{}")), nil)
	fmt.Println(err)
	for _, c := range s.Calls() {
		fmt.Println(c.Op, c.Info.Key, c.Info.Size)
	}
	_, err = bucket.Stat(ctx, "streams/next.json")
	fmt.Println(err)
	// Output:
	// <nil>
	// put streams/next.json 2
	// publish: stat streams/next.json: file does not exist
}

func ExampleNew() {
	ctx := context.Background()
	bucket := memstore.New()
	if _, err := bucket.Put(ctx, "old.json", publish.BytesSource([]byte("[]")), nil); err != nil {
		fmt.Println(err)
		return
	}
	s := dryrunstore.New(bucket, nil)
	_, err := s.Put(ctx, "new.json", publish.BytesSource([]byte("{}")), nil)
	fmt.Println(err, s.Delete(ctx, "old.json"))
	for info, err := range s.List(ctx, "") {
		fmt.Println(info.Key, err)
	}
	body, info, err := s.Open(ctx, "new.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	fmt.Println(string(data), info.Size, err)
	_, err = s.Stat(ctx, "old.json")
	fmt.Println(err)
	// Output:
	// <nil> <nil>
	// new.json <nil>
	// {} 2 <nil>
	// publish: stat old.json: file does not exist
}
