package main

import (
	"cmp"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// maxPeak is how much memory we may use, whatever the input's size.
const maxPeak = 300 << 20

// row is a line of the table: two sides and what is asked of ours.
type row struct {
	what        string
	ours, other cost
	otherName   string // "ostree", "first day", …
	limits      []limit
	peak        int64 // bytes of memory that ours may use; 0: maxPeak
}

// limit is a bound on a ratio: other/ours of time must be at least min, or
// ours/other of anything at most max; the one that is not zero counts. With
// neither, the first is shown.
type limit struct {
	name     string
	of       func(cost) float64
	min, max float64
}

func wall(c cost) float64 { return c.wall.Seconds() }
func cpu(c cost) float64  { return c.cpu.Seconds() }
func size(c cost) float64 { return float64(c.size) }

// both is what a run cost on both ends.
func both(c cost) float64 { return (c.cpu + c.server).Seconds() }

// faster wants other's time to be at least n times ours.
func faster(name string, of func(cost) float64, n float64) limit { return limit{name, of, n, 0} }

// atMost wants ours to be at most n times other's.
func atMost(name string, of func(cost) float64, n float64) limit { return limit{name, of, 0, n} }

// shown asks for nothing.
func shown(name string, of func(cost) float64) limit { return limit{name, of, 0, 0} }

// judge says how the limit is met.
func (l limit) judge(r row) (string, bool) {
	ours, other := l.of(r.ours), l.of(r.other)
	if ours == 0 || other == 0 {
		return l.name + " not measured", false
	}
	if l.min > 0 {
		got := other / ours
		return fmt.Sprintf("%s %.2fx (%.2gx) %s", l.name, got, l.min, verdict(got >= l.min)), got >= l.min
	}
	if l.max == 0 {
		return fmt.Sprintf("%s %.2fx", l.name, other/ours), true
	}
	got := ours / other
	return fmt.Sprintf("%s %.0f%% (%.0f%%) %s", l.name, 100*got, 100*l.max, verdict(got <= l.max)), got <= l.max
}

func verdict(ok bool) string {
	if ok {
		return "met"
	}
	return "NOT MET"
}

// print writes the table and reports whether every limit is met.
func print(w io.Writer, rows []row) bool {
	ok := true
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "what\tours: CPU s\twall s\tpeak MiB\tMB\tbeside\tCPU s\twall s\tpeak MiB\tMB\tratios (limits)")
	for _, r := range rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s", r.what, columns(r.ours), r.otherName, columns(r.other))
		separator := "\t"
		for _, l := range r.limits {
			text, met := l.judge(r)
			ok = ok && met
			fmt.Fprint(tw, separator, text)
			separator = ", "
		}
		if most := cmp.Or(r.peak, maxPeak); r.ours.peak > most {
			ok = false
			fmt.Fprintf(tw, "%speak above %d MiB NOT MET", separator, most>>20)
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return false
	}
	return ok
}

// columns are the four figures of one side; "-" where there is none.
func columns(c cost) string {
	if c == (cost{}) {
		return "-\t-\t-\t-"
	}
	megabytes := "-"
	if c.size > 0 {
		megabytes = fmt.Sprintf("%.1f", float64(c.size)/1e6)
	}
	return fmt.Sprintf("%s\t%s\t%d\t%s", seconds(c.cpu), seconds(c.wall), c.peak>>20, megabytes)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) }
