package ostreecmd

import (
	"strconv"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/examples/internal/ui"
)

// dateLayouts are the absolute times that are read, those without a zone in the
// local one.
var dateLayouts = []string{
	time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05",
	"2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 Z0700", "2006-01-02 15:04:05 Z07:00", "2006-01-02 15:04:05 MST",
	"2006-01-02 15:04:05", "2006-01-02 15:04 Z0700", "2006-01-02 15:04", "2006-01-02",
	time.RFC1123Z, time.RFC1123, "2 Jan 2006 15:04:05 -0700", "2 Jan 2006", time.UnixDate, time.ANSIC,
}

// parseDate reads the times that people give `ostree`, which reads what date -d
// does: @SECONDS, dates with or without time and zone, and times before and after
// now, such as "30 days ago", "yesterday" or "-1 week".
func parseDate(text string, now time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	if seconds, ok := strings.CutPrefix(text, "@"); ok {
		n, err := strconv.ParseInt(seconds, 10, 64)
		if err == nil && n >= 0 && n < 1<<40 {
			return time.Unix(n, 0).UTC(), nil
		}
	}
	for _, layout := range dateLayouts {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	if t, ok := relativeDate(strings.Fields(strings.ToLower(text)), now); ok {
		return t, nil
	}
	return time.Time{}, ui.Next(ui.Usagef("%s is no time", quoted(text)), `give it as "2026-01-31 12:00:00 +0000", @SECONDS or "30 days ago"`)
}

// relativeDate reads a word for a day and steps from it.
func relativeDate(words []string, now time.Time) (time.Time, bool) {
	t := now
	if len(words) == 0 {
		return t, false
	}
	days := map[string]int{"now": 0, "today": 0, "yesterday": -1, "tomorrow": 1}
	if n, ok := days[words[0]]; ok {
		t, words = t.AddDate(0, 0, n), words[1:]
	}
	numbers := map[string]int{"a": 1, "an": 1, "last": -1, "this": 0, "next": 1}
	for len(words) > 0 {
		n, ok := numbers[words[0]]
		if ok {
			words = words[1:]
		} else if v, err := strconv.Atoi(words[0]); err == nil && v > -1e6 && v < 1e6 {
			n, words = v, words[1:]
		} else {
			n = 1
		}
		if len(words) == 0 {
			return t, false
		}
		unit := strings.TrimSuffix(words[0], "s")
		words = words[1:]
		if len(words) > 0 && words[0] == "ago" {
			n, words = -n, words[1:]
		}
		switch unit {
		case "sec", "second":
			t = t.Add(time.Duration(n) * time.Second)
		case "min", "minute":
			t = t.Add(time.Duration(n) * time.Minute)
		case "hour":
			t = t.Add(time.Duration(n) * time.Hour)
		case "day":
			t = t.AddDate(0, 0, n)
		case "week":
			t = t.AddDate(0, 0, 7*n)
		case "fortnight":
			t = t.AddDate(0, 0, 14*n)
		case "month":
			t = t.AddDate(0, n, 0)
		case "year":
			t = t.AddDate(n, 0, 0)
		default:
			return t, false
		}
	}
	return t, true
}
