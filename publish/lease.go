package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

// Limits and defaults of leases.
const (
	// DefaultLeaseTTL is how long a lease lasts that is neither renewed nor given back.
	DefaultLeaseTTL = 4 * time.Hour
	// MinLeaseTTL bounds the effect of clocks that differ.
	MinLeaseTTL = time.Minute
	// DefaultLeasePoll is the wait between looks at a lease that another holds.
	DefaultLeasePoll = 15 * time.Second
	maxHolder        = 256 // bytes
)

// ErrLeased says that another holds a lease. The error is a [*LeasedError].
var ErrLeased = errors.New("another holds the lease")

// LeasedError names who holds a lease, and until when.
type LeasedError struct{ Lease Lease }

func (e *LeasedError) Error() string {
	return fmt.Sprintf("%s holds it since %s, until %s at most", e.Lease.Holder, e.Lease.Since.Format(time.RFC3339), e.Lease.Until.Format(time.RFC3339))
}

// Unwrap gives [ErrLeased].
func (e *LeasedError) Unwrap() error { return ErrLeased }

// Lease is what an object in a store says about who may write what it stands for,
// an index and all that it names. It binds those who ask for it: for the
// others there is [Update], which loses nothing either, but may have to be
// repeated.
type Lease struct {
	Holder string    `json:"holder"` // "": nobody
	Since  time.Time `json:"since"`  // when Holder took it
	Until  time.Time `json:"until"`  // from then on anybody may take it
	// Turn grows by one with each new holder.
	Turn int64 `json:"turn"`
}

// held reports whether somebody has the lease at a time.
func (l *Lease) held(now time.Time) bool { return l.Holder != "" && now.Before(l.Until) }

// LeaseOptions of [TakeLease]; nil is the zero value.
type LeaseOptions struct {
	// TTL is how long the lease lasts; 0: [DefaultLeaseTTL], at least
	// [MinLeaseTTL]. It is to be longer than the work, or the work is to take the
	// lease again in between, and much longer than what clocks differ by.
	TTL time.Duration
	// Wait is how long to wait for another holder; 0: not at all.
	Wait time.Duration
	// Poll is the wait between two looks; 0: [DefaultLeasePoll].
	Poll time.Duration
	// Jitter gives values in [0,1) that shorten waits by up to a half; nil: whole
	// waits.
	Jitter func() float64
	// Waiting is told of each look that found another holder; nil: nobody.
	Waiting func(Lease)
	// Over is asked whether another holder has ended without giving the lease back,
	// a run that was cancelled for instance: then it is taken. Nil: only time ends a lease.
	Over func(ctx context.Context, lease Lease) (bool, error)
}

// TakeLease takes the lease at key for holder, or renews it: the same holder may
// take it again at any time, so that work that was stopped can go on. clock gives
// the time. It waits up to the option's time while another holds it; then, and if
// there is no waiting, the error wraps [ErrLeased]. A store without conditional
// writes is refused with [errors.ErrUnsupported].
func TakeLease(ctx context.Context, s Store, key, holder string, clock func() time.Time, opts *LeaseOptions) (*Lease, error) {
	var o LeaseOptions
	if opts != nil {
		o = *opts
	}
	if o.TTL == 0 {
		o.TTL = DefaultLeaseTTL
	}
	if o.Poll <= 0 {
		o.Poll = DefaultLeasePoll
	}
	fail := func(err error) (*Lease, error) { return nil, &Error{Op: "lease", Target: key, Err: err} }
	if holder == "" || len(holder) > maxHolder {
		return fail(fmt.Errorf("a holder has a name of at most %d bytes", maxHolder))
	}
	if o.TTL < MinLeaseTTL {
		return fail(fmt.Errorf("a lease of %s is too short, it is at least %s", o.TTL, MinLeaseTTL))
	}
	last := clock().Add(o.Wait)
	var over Lease // ended without giving it back
	for {
		var lease Lease
		_, err := Update(ctx, s, key, func(old []byte) ([]byte, error) {
			now := clock().UTC().Truncate(time.Second)
			var err error
			if lease, err = decodeLease(old); err != nil {
				return nil, err
			}
			switch {
			case lease.held(now) && lease.Holder != holder && (lease.Turn != over.Turn || lease.Holder != over.Holder):
				return nil, &LeasedError{Lease: lease}
			case lease.Holder != holder || !lease.held(now):
				if lease.Turn == math.MaxInt64 {
					return nil, errors.New("not a lease: no turn follows its own")
				}
				lease = Lease{Holder: holder, Since: now, Turn: lease.Turn + 1}
			}
			lease.Until = now.Add(o.TTL)
			return encodeLease(&lease)
		}, &UpdateOptions{ContentType: "application/json", CacheControl: "no-store", Jitter: o.Jitter})
		if err == nil {
			return &lease, nil
		}
		leased, ok := errors.AsType[*LeasedError](err)
		if !ok {
			return nil, err
		}
		if o.Over != nil {
			ended, err := o.Over(ctx, leased.Lease)
			if err != nil {
				return fail(err)
			}
			if ended {
				over = leased.Lease
				continue
			}
		}
		if !clock().Before(last) {
			return fail(leased)
		}
		if o.Waiting != nil {
			o.Waiting(leased.Lease)
		}
		if err := wait(ctx, backoff(o.Poll, o.Poll, 1, o.Jitter)); err != nil {
			return fail(err)
		}
	}
}

// GiveLease gives back the lease at key, so that the next need not wait for its
// end. If holder has it no longer, nothing happens.
func GiveLease(ctx context.Context, s Store, key, holder string, clock func() time.Time) error {
	_, err := Update(ctx, s, key, func(old []byte) ([]byte, error) {
		lease, err := decodeLease(old)
		if err != nil || lease.Holder != holder || holder == "" {
			return old, err
		}
		lease.Holder, lease.Until = "", clock().UTC().Truncate(time.Second)
		return encodeLease(&lease)
	}, &UpdateOptions{ContentType: "application/json", CacheControl: "no-store"})
	return err
}

// maxLease bounds the object, bytes.
const maxLease = 4096

func decodeLease(data []byte) (Lease, error) {
	var l Lease
	if len(data) == 0 {
		return l, nil
	}
	if len(data) > maxLease {
		return l, fmt.Errorf("it has %d bytes, which is no lease", len(data))
	}
	if err := json.Unmarshal(data, &l); err != nil {
		return l, fmt.Errorf("not a lease: %w", err)
	}
	if len(l.Holder) > maxHolder || l.Turn < 0 {
		return l, errors.New("not a lease")
	}
	return l, nil
}

func encodeLease(l *Lease) ([]byte, error) {
	data, err := json.Marshal(l)
	return append(data, '\n'), err
}
