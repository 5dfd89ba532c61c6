package treegen_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/treegen"
)

func TestSeeds(t *testing.T) {
	t.Setenv("OKD_STREAMS_SEED", "")
	usual := treegen.Seeds(t, 2)
	require.Subset(t, usual, []uint64{0, 1})
	t.Setenv("OKD_STREAMS_SEED", "1795749600")
	require.Equal(t, append(usual, 1795749600), treegen.Seeds(t, 2))
	t.Setenv("OKD_STREAMS_SEED", "1")
	require.Equal(t, usual, treegen.Seeds(t, 2), "one that is there")
}
