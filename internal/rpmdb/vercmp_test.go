package rpmdb_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/rpmdb"
)

func TestCompareVersions(t *testing.T) {
	// Each list ascends.
	for _, list := range [][]string{
		{"0", "1", "1.0~~", "1.0~rc1", "1.0~rc1^git1", "1.0~rc2", "1.0", "1.0^", "1.0^git1~pre", "1.0^git1", "1.0^git2", "1.0a.1", "1.0.1"},
		{"~", "", "^", "a", "b", "1"},
		{"a", "a1", "a10b2", "a11b1", "1.9", "1.10", "2.a", "2.0", "2.00.1", "10"},
		{"6.12.0", "6.12.0.1"},
		{"1.27.3", "1.28.0", "1.28.0.1"},
		{"553.el8", "553.el8_10", "1000.el8"},
	} {
		for i, a := range list {
			for j, b := range list {
				want := 0
				if i < j {
					want = -1
				} else if i > j {
					want = 1
				}
				require.Equal(t, want, rpmdb.CompareVersions(a, b), "%q %q", a, b)
			}
		}
	}
	for _, same := range [][2]string{{"1.0", "1_0"}, {"1.0", "1..0"}, {"1.0", "01.00"}, {"1.0.", "1.0"}, {"", "."}, {"1.0é", "1.0"}, {"1~", "1~."}} {
		require.Zero(t, rpmdb.CompareVersions(same[0], same[1]), same)
	}
}

func TestCompareEVR(t *testing.T) {
	require.Equal(t, -1, rpmdb.CompareEVR("", "9", "9", "1", "1", "1"))
	require.Equal(t, 0, rpmdb.CompareEVR("", "1", "1", "0", "1", "1"))
	require.Equal(t, 1, rpmdb.CompareEVR("2", "1.1", "1", "2", "1.0", "9"))
	require.Equal(t, -1, rpmdb.CompareEVR("", "1", "1.el9", "", "1", "2.el9"))
	require.Equal(t, -1, rpmdb.CompareEVR("9", "1", "1", "10", "1", "1"))
}

// drawVersions makes versions of few characters, so that many are nearly alike.
func drawVersions(n int) []string {
	state := uint64(1)
	next := func(n int) int {
		state = state*6364136223846793005 + 1442695040888963407
		return int(state >> 33 % uint64(n))
	}
	parts := []string{"0", "1", "2", "01", "10", "00", "a", "b", "rc", ".", ".", "_", "~", "^", "+", "el9", "Z"}
	out := make([]string, n)
	for i := range out {
		for range 1 + next(5) {
			out[i] += parts[next(len(parts))]
		}
	}
	return out
}

// RPM itself orders them the same.
func TestCompareVersionsLikeRPM(t *testing.T) {
	interop.Peer(t, "rpm")
	const pairs = 20000
	versions := drawVersions(2 * pairs)
	file := filepath.Join(t.TempDir(), "versions")
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(versions, "\n")+"\n"), 0o644))
	script := fmt.Sprintf(`%%{lua:
local a
for line in io.lines(%q) do
  if a then print(rpm.vercmp(a, line) .. "\n"); a = nil else a = line end
end}`, file)
	out, err := exec.CommandContext(t.Context(), "rpm", "--eval", script).Output()
	require.NoError(t, err)
	want := strings.Fields(string(out))
	require.Len(t, want, pairs)
	require.Greater(t, len(slices.Compact(slices.Sorted(slices.Values(want)))), 2)
	for i := range want {
		a, b := versions[2*i], versions[2*i+1]
		require.Equal(t, want[i], fmt.Sprint(rpmdb.CompareVersions(a, b)), "%q %q", a, b)
	}
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("1.0~rc1", "1.0", "1.0^git1")
	f.Add("", "~^", "a1")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		var x, y int
		fuzzbound.Linear(t, len(a)+len(b), 64, func() { x, y = rpmdb.CompareVersions(a, b), rpmdb.CompareVersions(b, a) })
		require.Equal(t, x, -y)
		require.Zero(t, rpmdb.CompareVersions(a, a))
		if x <= 0 && rpmdb.CompareVersions(b, c) <= 0 {
			require.LessOrEqual(t, rpmdb.CompareVersions(a, c), 0)
		}
	})
}
