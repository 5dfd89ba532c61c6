package publish_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/dirstore"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

// leaseClock is a clock that tests move.
type leaseClock struct{ now time.Time }

func (c *leaseClock) time() time.Time { return c.now }

func newLeaseClock() *leaseClock {
	return &leaseClock{now: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)}
}

func TestLease(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) publish.Store{
		"memory": func(*testing.T) publish.Store { return memstore.New() },
		"folder": func(t *testing.T) publish.Store {
			s, err := dirstore.Open(t.Context(), t.TempDir(), nil)
			require.NoError(t, err)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := open(t), newLeaseClock()
			const key = "prod/lease.json"
			take := func(holder string, ttl time.Duration) (*publish.Lease, error) {
				return publish.TakeLease(t.Context(), s, key, holder, c.time, &publish.LeaseOptions{TTL: ttl})
			}
			first, err := take("run-1", time.Hour)
			require.NoError(t, err)
			require.Equal(t, publish.Lease{Holder: "run-1", Since: c.now, Until: c.now.Add(time.Hour), Turn: 1}, *first)

			// Another is refused, and told who has it.
			_, err = take("run-2", time.Hour)
			require.ErrorIs(t, err, publish.ErrLeased)
			leased, ok := errors.AsType[*publish.LeasedError](err)
			require.True(t, ok)
			require.Equal(t, *first, leased.Lease)
			require.ErrorContains(t, err, "lease.json")
			require.ErrorContains(t, err, "run-1 holds it since 2026-11-26T12:00:00Z, until 2026-11-26T13:00:00Z at most")

			// The same goes on: its turn and begin stay.
			c.now = c.now.Add(30 * time.Minute)
			again, err := take("run-1", time.Hour)
			require.NoError(t, err)
			require.Equal(t, publish.Lease{Holder: "run-1", Since: first.Since, Until: c.now.Add(time.Hour), Turn: 1}, *again)

			// Only who has it gives it back.
			require.NoError(t, publish.GiveLease(t.Context(), s, key, "run-2", c.time))
			_, err = take("run-2", time.Hour)
			require.ErrorIs(t, err, publish.ErrLeased)
			require.NoError(t, publish.GiveLease(t.Context(), s, key, "run-1", c.time))
			require.NoError(t, publish.GiveLease(t.Context(), s, key, "run-1", c.time))
			second, err := take("run-2", time.Hour)
			require.NoError(t, err)
			require.Equal(t, int64(2), second.Turn)

			// What nobody gives back ends by itself, also for its holder.
			c.now = second.Until
			third, err := take("run-2", time.Hour)
			require.NoError(t, err)
			require.Equal(t, int64(3), third.Turn)
			c.now = third.Until.Add(-time.Second)
			_, err = take("run-3", time.Hour)
			require.ErrorIs(t, err, publish.ErrLeased)
			c.now = third.Until
			fourth, err := take("run-3", time.Hour)
			require.NoError(t, err)
			require.Equal(t, int64(4), fourth.Turn)
			require.NoError(t, publish.GiveLease(t.Context(), s, key, "run-2", c.time)) // too late, and harmless
			_, err = take("run-4", time.Hour)
			require.ErrorIs(t, err, publish.ErrLeased)
		})
	}
}

func TestLeaseGoesToOne(t *testing.T) {
	s, c := memstore.New(), newLeaseClock()
	const runs = 20
	var wg sync.WaitGroup
	won := make(chan string, runs)
	for i := range runs {
		wg.Go(func() {
			holder := fmt.Sprint("run-", i)
			lease, err := publish.TakeLease(t.Context(), s, "lease.json", holder, c.time, nil)
			if err == nil {
				won <- lease.Holder
			} else if !errors.Is(err, publish.ErrLeased) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Len(t, won, 1)
}

func TestLeaseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		_, err := publish.TakeLease(t.Context(), s, "lease.json", "run-1", time.Now, &publish.LeaseOptions{TTL: 10 * time.Minute})
		require.NoError(t, err)
		var looks int
		opts := &publish.LeaseOptions{Wait: 5 * time.Minute, Waiting: func(l publish.Lease) {
			require.Equal(t, "run-1", l.Holder)
			looks++
		}}
		begin := time.Now()
		_, err = publish.TakeLease(t.Context(), s, "lease.json", "run-2", time.Now, opts)
		require.ErrorIs(t, err, publish.ErrLeased)
		require.Equal(t, 5*time.Minute, time.Since(begin))
		require.Equal(t, 20, looks) // each 15 seconds

		opts.Wait = time.Hour // run-1 never gives it back
		lease, err := publish.TakeLease(t.Context(), s, "lease.json", "run-2", time.Now, opts)
		require.NoError(t, err)
		require.Equal(t, int64(2), lease.Turn)
		require.Equal(t, 10*time.Minute, time.Since(begin))

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		opts.Waiting = nil
		_, err = publish.TakeLease(ctx, s, "lease.json", "run-3", time.Now, opts)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestLeaseOfOneThatEnded(t *testing.T) {
	s, c := memstore.New(), newLeaseClock()
	_, err := publish.TakeLease(t.Context(), s, "lease.json", "run-1", c.time, nil)
	require.NoError(t, err)
	asked := 0
	opts := &publish.LeaseOptions{Over: func(_ context.Context, l publish.Lease) (bool, error) {
		require.Equal(t, "run-1", l.Holder)
		asked++
		return asked > 1, nil
	}}
	_, err = publish.TakeLease(t.Context(), s, "lease.json", "run-2", c.time, opts)
	require.ErrorIs(t, err, publish.ErrLeased, "run-1 goes on")
	lease, err := publish.TakeLease(t.Context(), s, "lease.json", "run-2", c.time, opts)
	require.NoError(t, err)
	require.Equal(t, "run-2", lease.Holder)
	require.Equal(t, int64(2), lease.Turn)

	// Between the answer and the writing a third takes it: that one is asked about.
	_, err = publish.TakeLease(t.Context(), s, "lease.json", "run-4", c.time, &publish.LeaseOptions{Over: func(ctx context.Context, l publish.Lease) (bool, error) {
		if l.Holder == "run-2" {
			require.NoError(t, publish.GiveLease(ctx, s, "lease.json", "run-2", c.time))
			_, err := publish.TakeLease(ctx, s, "lease.json", "run-3", c.time, nil)
			require.NoError(t, err)
			return true, nil
		}
		return false, nil
	}})
	require.ErrorIs(t, err, publish.ErrLeased)
	require.ErrorContains(t, err, "run-3 holds it")

	_, err = publish.TakeLease(t.Context(), s, "lease.json", "run-4", c.time, &publish.LeaseOptions{Over: func(context.Context, publish.Lease) (bool, error) {
		return false, errors.New("nobody knows")
	}})
	require.ErrorContains(t, err, "nobody knows")
}

func TestLeaseRefuses(t *testing.T) {
	c := newLeaseClock()
	put := func(text string) publish.Store {
		s := memstore.New()
		_, err := s.Put(t.Context(), "lease.json", publish.BytesSource([]byte(text)), nil)
		require.NoError(t, err)
		return s
	}
	for name, tc := range map[string]struct {
		store  publish.Store
		holder string
		ttl    time.Duration
		want   string
	}{
		"no holder":    {memstore.New(), "", 0, "a holder has a name"},
		"long holder":  {memstore.New(), strings.Repeat("x", 257), 0, "at most 256 bytes"},
		"short":        {memstore.New(), "run", time.Second, "at least 1m0s"},
		"not JSON":     {put("<html>"), "run", 0, "not a lease"},
		"large":        {put(strings.Repeat(" ", 5000)), "run", 0, "5000 bytes"},
		"turn below 0": {put(`{"turn":-1}`), "run", 0, "not a lease"},
		"last turn":    {put(`{"turn":9223372036854775807}`), "run", 0, "no turn follows"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := publish.TakeLease(t.Context(), tc.store, "lease.json", tc.holder, c.time, &publish.LeaseOptions{TTL: tc.ttl})
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, "lease.json")
		})
	}
	// A store on which two would both get it.
	_, err := publish.TakeLease(t.Context(), unconditional{memstore.New()}, "lease.json", "run", c.time, nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	// One that is away is not one that is taken.
	away := publishtest.Faulty(memstore.New(), func(publishtest.Call) error { return errors.New("away") })
	_, err = publish.TakeLease(t.Context(), away, "lease.json", "run", c.time, &publish.LeaseOptions{Wait: time.Hour})
	require.ErrorContains(t, err, "away")
	require.ErrorContains(t, publish.GiveLease(t.Context(), away, "lease.json", "run", c.time), "away")
}

func FuzzLease(f *testing.F) {
	mutants.Add(f,
		`{"holder":"run-1","since":"2026-11-26T12:00:00Z","until":"2026-11-26T13:00:00Z","turn":1}`,
		`{"turn":9223372036854775807}`,
		`{"turn":9223372036854775806}`,
		"null",
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, c := memstore.New(), newLeaseClock()
		_, err := s.Put(t.Context(), "lease.json", publish.BytesSource(data), nil)
		require.NoError(t, err)
		var lease *publish.Lease
		fuzzbound.Linear(t, len(data), 64, func() { lease, err = publish.TakeLease(t.Context(), s, "lease.json", "me", c.time, nil) })
		if err != nil {
			return
		}
		require.Equal(t, "me", lease.Holder)
		_, err = publish.TakeLease(t.Context(), s, "lease.json", "other", c.time, nil)
		require.ErrorIs(t, err, publish.ErrLeased)
	})
}
