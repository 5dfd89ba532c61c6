package promotion_test

import (
	"errors"
	"flag"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish/promotion"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

var (
	errKilled = errors.New("killed")
	every     = flag.Bool("every", false, "kill promotions at every call of a backend, and not at some")
)

// small is a world with one release before and a payload to promote.
func small(t testing.TB) *world {
	w := newWorld(t)
	w.published("4.21.0-okd-scos.0")
	w.payload("4.21.0-0.okd-scos-nightly-2026-11-20-080000", "one")
	return w
}

// outcome is all that a promotion leaves.
type outcome struct {
	objects, tags, content, public, streams, drafts map[string]string
	latest                                          string
}

func (w *world) outcome() outcome {
	return outcome{w.objects(), w.tags(releases), w.tags(content), w.public, w.streams, w.drafts, w.latest}
}

// changes are the calls that change something.
func changes(op string) bool {
	switch op {
	case "put", "delete", "write", "tag", "write manifest", "publish", "stream tag", "stream untag":
		return true
	}
	return false
}

// TestKilledAnywhere kills a promotion before or after a call of a backend (with
// -every: of each in turn), goes on elsewhere, and wants the same end each time; a reader that follows
// every pointer looks after each change.
func TestKilledAnywhere(t *testing.T) {
	template := small(t)
	w := template.clone(t)
	before := w.tags(releases)
	var mu sync.Mutex
	calls := 0
	w.fault = func(c publishtest.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if calls++; c.After && changes(c.Op) {
			require.NoError(t, w.read(before), "after %s %s", c.Op, c.Target)
		}
		return nil
	}
	_, err := promotion.Promote(t.Context(), w.env(), settings(), nil)
	require.NoError(t, err)
	want := w.outcome()
	require.Equal(t, "4.21.0-okd-scos.1", w.latest)

	// Not a multiple of two, which would leave out what is before each call, or
	// what is after it.
	stride := 7
	switch {
	case *every:
		stride = 1
	case interop.Enabled():
		stride = 3
	}
	for kill := 1; kill <= calls; kill += stride {
		t.Run(fmt.Sprint(kill), func(t *testing.T) {
			t.Parallel()
			w := template.clone(t)
			var mu sync.Mutex
			n, where := 0, ""
			w.fault = func(c publishtest.Call) error {
				mu.Lock()
				defer mu.Unlock()
				if n++; n >= kill { // and nothing works any more
					if where == "" {
						where = fmt.Sprintf("%s %s, after=%v", c.Op, c.Target, c.After)
						if err := w.read(before); err != nil {
							t.Errorf("%s: %v", where, err)
						}
					}
					return errKilled
				}
				return nil
			}
			_, err := promotion.Promote(t.Context(), w.env(), settings(), nil)
			if n >= kill { // transfers ask a little more or less each time
				require.ErrorIs(t, err, errKilled, where)
			}
			w.fault = nil
			_, err = promotion.Promote(t.Context(), w.env(), settings(), nil)
			require.NoError(t, err, where)
			require.Equal(t, want, w.outcome(), where)
			require.NotEmpty(t, w.notified, where)
		})
	}
	t.Logf("killed at %d calls", calls)
}
