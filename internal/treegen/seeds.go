package treegen

import (
	_ "embed"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

//go:embed testdata/seeds.txt
var failed string

// Seeds are what a test that compares implementations makes trees from: the numbers below n,
// those in testdata/seeds.txt, which once made a test fail, and the one in the environment
// variable OKD_STREAMS_SEED, which CI sets to another number each time. Subtests are to have
// the seed in their names: one that fails belongs into that file.
func Seeds(t testing.TB, n uint64) (seeds []uint64) {
	t.Helper()
	for i := range n {
		seeds = append(seeds, i)
	}
	lines := strings.Split(failed, "\n")
	for _, line := range append(lines, os.Getenv("OKD_STREAMS_SEED")) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		seed, err := strconv.ParseUint(line, 10, 64)
		if err != nil {
			t.Fatalf("treegen: %q is no seed: %v", line, err)
		}
		if !slices.Contains(seeds, seed) {
			seeds = append(seeds, seed)
		}
	}
	return seeds
}
