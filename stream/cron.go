package stream

import (
	"fmt"
	"strings"
)

// Cron is a schedule of five fields in UTC: minute, hour, day of month, month,
// day of week (0 and 7 are Sunday); lists, ranges, steps and English names of
// months and days, as cron(5) and Kubernetes CronJobs read it.
type Cron string

var cronFields = []struct {
	name     string
	min, max int
	names    string // of min, min+1, …
}{
	{"minute", 0, 59, ""},
	{"hour", 0, 23, ""},
	{"day of month", 1, 31, ""},
	{"month", 1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"},
	{"day of week", 0, 7, "sun mon tue wed thu fri sat"},
}

// UnmarshalText accepts schedules that can come true.
func (c *Cron) UnmarshalText(text []byte) error {
	fail := func(err error) error {
		return hinted(err, `five fields in UTC: minute hour day month weekday, as "30 10 * * *"`)
	}
	fields := strings.Fields(string(text))
	if len(fields) != len(cronFields) {
		return fail(fmt.Errorf("schedule %.80q has %d fields, want %d", text, len(fields), len(cronFields)))
	}
	sets := make([]uint64, len(fields))
	for i, f := range fields {
		set, err := cronField(i, f)
		if err != nil {
			return fail(fmt.Errorf("schedule %.80q: %w", text, err))
		}
		sets[i] = set
	}
	// Days that no chosen month has; a day of week gives other days as well.
	days := [13]int{1: 31, 2: 29, 3: 31, 4: 30, 5: 31, 6: 30, 7: 31, 8: 31, 9: 30, 10: 31, 11: 30, 12: 31}
	possible := fields[4] != "*"
	for month := 1; month <= 12; month++ {
		if sets[3]>>month&1 == 1 && sets[2]&(1<<(days[month]+1)-1) != 0 {
			possible = true
		}
	}
	if !possible {
		return fail(fmt.Errorf("schedule %.80q never comes: no such day in these months", text))
	}
	*c = Cron(text)
	return nil
}

// cronField gives the chosen values of field i as bits.
func cronField(i int, text string) (uint64, error) {
	f := cronFields[i]
	var set uint64
	for part := range strings.SplitSeq(text, ",") {
		span, stepText, stepped := strings.Cut(part, "/")
		step := 1
		if stepped && (!parseInt(stepText, &step) || step < 1 || step > f.max) {
			return 0, fmt.Errorf("%s %q: step %q is not between 1 and %d", f.name, part, stepText, f.max)
		}
		low, high := f.min, f.max
		if span != "*" {
			from, to, ranged := strings.Cut(span, "-")
			ok := cronValue(i, from, &low)
			high = low
			if ranged {
				ok = ok && cronValue(i, to, &high)
			} else if stepped {
				high = f.max
			}
			if !ok || low > high {
				return 0, fmt.Errorf("%s %q is not between %d and %d", f.name, part, f.min, f.max)
			}
		}
		for v := low; v <= high; v += step {
			set |= 1 << v
		}
	}
	return set, nil
}

func cronValue(i int, text string, to *int) bool {
	f := cronFields[i]
	for n, name := range strings.Fields(f.names) {
		if strings.EqualFold(name, text) {
			*to = f.min + n
			return true
		}
	}
	return len(text) <= 2 && parseInt(text, to) && *to >= f.min && *to <= f.max
}
