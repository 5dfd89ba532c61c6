package faultstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/faultstore"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

// TestConformance is with faults that strike nothing.
func TestConformance(t *testing.T) {
	publishtest.TestStore(t, func(*testing.T) publish.Store {
		return faultstore.New(memstore.New(), faultstore.Fault{Key: "never/*"}, faultstore.Fault{Op: "put", N: 1 << 30})
	})
}

// filled has "one", "two" and "three", each holding its name.
func filled(t *testing.T, faults ...faultstore.Fault) (*faultstore.Store, publish.Store) {
	t.Helper()
	inner := memstore.New()
	for _, key := range []string{"one", "two", "three"} {
		_, err := inner.Put(t.Context(), key, publish.BytesSource([]byte(key)), nil)
		require.NoError(t, err)
	}
	s := faultstore.New(inner, faults...)
	require.Equal(t, publish.Store(inner), s.Unwrap())
	return s, inner
}

func text(ctx context.Context, s publish.Store, key string) (string, error) {
	body, _, err := s.Open(ctx, key)
	if err != nil {
		return "", err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	return string(data), err
}

func list(ctx context.Context, s publish.Store) (string, error) {
	var keys []string
	for info, err := range s.List(ctx, "") {
		if err != nil {
			return strings.Join(keys, " "), err
		}
		keys = append(keys, info.Key)
	}
	return strings.Join(keys, " "), nil
}

func TestReads(t *testing.T) {
	mine := errors.New("mine")
	for _, test := range []struct {
		fault faultstore.Fault
		want  string
		err   error
	}{
		{faultstore.Fault{Op: "open"}, "", faultstore.ErrInjected},
		{faultstore.Fault{Op: "open", Err: mine}, "", mine},
		{faultstore.Fault{Op: "open", Kind: faultstore.After, Err: mine}, "", mine},
		{faultstore.Fault{Op: "open", Kind: faultstore.Cut, At: 3}, "thr", faultstore.ErrInjected},
		{faultstore.Fault{Op: "open", Kind: faultstore.Cut, At: 5}, "three", faultstore.ErrInjected},
		{faultstore.Fault{Op: "open", Kind: faultstore.Truncate, At: 3}, "thr", nil},
		{faultstore.Fault{Op: "open", Kind: faultstore.Corrupt, At: 1}, "t\x97ree", nil},
		{faultstore.Fault{Op: "open", Kind: faultstore.Corrupt, At: 99}, "three", nil},
		{faultstore.Fault{Op: "open", Kind: faultstore.Stall, At: 3}, "thr", context.DeadlineExceeded},
	} {
		t.Run(fmt.Sprint(test.fault.Kind, test.fault.At), func(t *testing.T) {
			s, _ := filled(t, test.fault)
			ctx := t.Context()
			if test.fault.Kind == faultstore.Stall {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 10*time.Millisecond)
				defer cancel()
			}
			got, err := text(ctx, s, "three")
			require.Equal(t, test.want, got)
			if test.err == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, test.err)
				_, ok := errors.AsType[*publish.Error](err)
				require.True(t, ok)
			}
			// Once.
			require.Empty(t, s.Left())
			got, err = text(t.Context(), s, "three")
			require.NoError(t, err)
			require.Equal(t, "three", got)
		})
	}
}

func TestWrites(t *testing.T) {
	for _, test := range []struct {
		fault faultstore.Fault
		there string // afterwards
		err   error
	}{
		{faultstore.Fault{Op: "put"}, "one", faultstore.ErrInjected},
		{faultstore.Fault{Op: "put", Kind: faultstore.After}, "new", faultstore.ErrInjected},
		{faultstore.Fault{Op: "put", Kind: faultstore.Cut, At: 1}, "one", faultstore.ErrInjected},
		{faultstore.Fault{Op: "put", Kind: faultstore.Truncate, At: 1}, "one", publish.ErrDigest},
		{faultstore.Fault{Op: "put", Kind: faultstore.Corrupt, At: 1}, "n\x9aw", nil},
		{faultstore.Fault{Op: "stat"}, "new", nil},
	} {
		s, inner := filled(t, test.fault)
		_, err := s.Put(t.Context(), "one", publish.BytesSource([]byte("new")), nil)
		if test.err == nil {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, test.err)
		}
		got, err := text(t.Context(), inner, "one")
		require.NoError(t, err)
		require.Equal(t, test.there, got)
	}
	s, inner := filled(t, faultstore.Fault{Op: "delete"}, faultstore.Fault{Op: "delete", Kind: faultstore.After})
	require.ErrorIs(t, s.Delete(t.Context(), "one"), faultstore.ErrInjected)
	_, err := inner.Stat(t.Context(), "one")
	require.NoError(t, err)
	require.ErrorIs(t, s.Delete(t.Context(), "one"), faultstore.ErrInjected)
	_, err = inner.Stat(t.Context(), "one")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, s.Delete(t.Context(), "two"))
}

func TestLists(t *testing.T) {
	for _, test := range []struct {
		fault faultstore.Fault
		want  string
		fails bool
	}{
		{faultstore.Fault{}, "", true},
		{faultstore.Fault{Kind: faultstore.After}, "one three two", true},
		{faultstore.Fault{Kind: faultstore.Cut, At: 2}, "one three", true},
		{faultstore.Fault{Kind: faultstore.Truncate, At: 2}, "one three", false},
		{faultstore.Fault{Kind: faultstore.Corrupt, At: 2}, "", true},
	} {
		s, _ := filled(t, test.fault)
		got, err := list(t.Context(), s)
		require.Equal(t, test.want, got)
		require.Equal(t, test.fails, err != nil)
	}
	s, _ := filled(t, faultstore.Fault{Kind: faultstore.Stall, At: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	got, err := list(ctx, s)
	require.Equal(t, "one", got)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	s, _ = filled(t, faultstore.Fault{Op: "stat", Kind: faultstore.Stall})
	_, err = s.Stat(ctx, "one")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestWhichCall(t *testing.T) {
	s, _ := filled(t, faultstore.Fault{Op: "stat", Key: "t*", N: 2}, faultstore.Fault{N: 6})
	var failed []string
	for range 2 {
		for _, key := range []string{"one", "two", "three"} {
			if _, err := s.Stat(t.Context(), key); err != nil {
				failed = append(failed, fmt.Sprint(len(s.Calls()), " ", key))
			}
		}
	}
	require.Equal(t, []string{"3 three", "6 three"}, failed)
	require.Equal(t, []string{"stat one", "stat two", "stat three", "stat one", "stat two", "stat three"}, s.Calls())
}

// TestUpdateSurvives is what the faults are for: each call of an update fails in turn.
func TestUpdateSurvives(t *testing.T) {
	for n := 1; ; n++ {
		s, inner := filled(t, faultstore.Fault{N: n, Kind: faultstore.After})
		_, err := publish.Update(t.Context(), s, "one", func([]byte) ([]byte, error) { return []byte("one!"), nil }, nil)
		if len(s.Left()) > 0 {
			require.Greater(t, n, 2, "no call was struck")
			return
		}
		got, readErr := text(t.Context(), inner, "one")
		require.NoError(t, readErr)
		require.Contains(t, []string{"one", "one!"}, got, "call %d, %v", n, err)
	}
}

func ExampleNew() {
	ctx := context.Background()
	s := faultstore.New(memstore.New(), faultstore.Fault{Op: "put", Key: "*.json", N: 2, Kind: faultstore.After})
	for range 3 {
		_, err := s.Put(ctx, "builds.json", publish.BytesSource([]byte("{}")), nil)
		fmt.Println(err)
	}
	// Output:
	// <nil>
	// publish: put builds.json: injected fault
	// <nil>
}

func ExampleStore_Open() {
	ctx := context.Background()
	s := faultstore.New(memstore.New(),
		faultstore.Fault{Op: "open", Kind: faultstore.Cut, At: 3},
		faultstore.Fault{Op: "stat"}, faultstore.Fault{Op: "delete"}, faultstore.Fault{Op: "list", Kind: faultstore.Truncate})
	if _, err := s.Put(ctx, "key", publish.BytesSource([]byte("content")), nil); err != nil {
		fmt.Println(err)
		return
	}
	body, _, err := s.Open(ctx, "key")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	fmt.Println(string(data), err)
	_, err = s.Stat(ctx, "key")
	fmt.Println(err)
	fmt.Println(s.Delete(ctx, "key"))
	for info, err := range s.List(ctx, "") {
		fmt.Println(info.Key, err)
	}
	fmt.Println(len(s.Left()), len(s.Calls()))
	// Output:
	// con publish: read key: injected fault
	// publish: stat key: injected fault
	// publish: delete key: injected fault
	// 0 5
}
