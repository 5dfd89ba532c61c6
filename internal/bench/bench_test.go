package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMeasureAddsUp(t *testing.T) {
	c, err := measure(t.Context(), exec.Command("sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"), exec.Command("sleep", "0.05"))
	require.NoError(t, err)
	require.Positive(t, c.cpu)
	require.GreaterOrEqual(t, c.wall, 50*time.Millisecond)
	require.Greater(t, c.peak, int64(100<<10))

	_, err = measure(t.Context(), exec.Command("sh", "-c", "echo no such thing >&2; exit 3"))
	require.ErrorContains(t, err, "exit status 3\nno such thing")
}

func TestMedian(t *testing.T) {
	got := median([]cost{{cpu: 3, wall: 1, peak: 9, size: 1}, {cpu: 1, wall: 2, peak: 7, size: 1}, {cpu: 2, wall: 9, peak: 8, size: 1}})
	require.Equal(t, cost{cpu: 2, wall: 2, peak: 8, size: 1}, got)
}

func TestTableJudges(t *testing.T) {
	fast := cost{cpu: 2 * time.Second, wall: time.Second, peak: 100 << 20, size: 105e6}
	slow := cost{cpu: 4 * time.Second, wall: 4 * time.Second, peak: 25 << 20, size: 100e6}
	large := fast
	large.peak = 301 << 20
	for _, tc := range []struct {
		name string
		row  row
		ok   bool
		want []string
	}{
		{"met", row{ours: fast, other: slow, limits: []limit{faster("wall", wall, 3), atMost("size", size, 1.06)}}, true, []string{"wall 4.00x (3x) met", "size 105% (106%) met"}},
		{"slow", row{ours: fast, other: slow, limits: []limit{faster("CPU", cpu, 2.5)}}, false, []string{"CPU 2.00x (2.5x) NOT MET"}},
		{"big", row{ours: fast, other: slow, limits: []limit{atMost("size", size, 1.01)}}, false, []string{"NOT MET"}},
		{"memory", row{ours: large, other: slow}, false, []string{"peak above 300 MiB NOT MET"}},
		{"nothing measured", row{other: slow, limits: []limit{faster("wall", wall, 1)}}, false, []string{"not measured"}},
		{"floor", row{what: "floor", otherName: "cp -a", other: slow}, true, []string{"floor", "cp -a", "4.00"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			require.Equal(t, tc.ok, print(&out, []row{tc.row}))
			for _, want := range tc.want {
				require.Contains(t, out.String(), want)
			}
		})
	}
}
