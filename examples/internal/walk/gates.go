package walk

import (
	"context"
	"errors"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish"
)

// gatesSay leaves for a pipeline what the gates say that stopped a run, and adds
// what to do about it.
func gatesSay(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, publish.ErrPending):
		ui.SetResult(ctx, "gates", "pending")
		return ui.Next(err, "run this again when the gates have results: by okd-streams gate, or by --gate NAME=passed")
	case errors.Is(err, publish.ErrGate):
		ui.SetResult(ctx, "gates", "failed")
		return ui.Next(err, "mend it and build again; if a gate passed after all, record that with okd-streams gate record, and run this again")
	}
	return err
}
