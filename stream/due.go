package stream

import (
	"strings"
	"time"
)

// Next gives the first time of the schedule that is after t, in UTC; false if
// there is none: of the empty schedule, or one that [Cron.UnmarshalText] would
// refuse. Where both the day of month and the day of week are restricted, either
// is enough, as cron(8) has it.
func (c Cron) Next(t time.Time) (time.Time, bool) {
	fields := strings.Fields(string(c))
	if len(fields) != len(cronFields) {
		return time.Time{}, false
	}
	var sets [5]uint64
	for i, f := range fields {
		set, err := cronField(i, f)
		if err != nil {
			return time.Time{}, false
		}
		sets[i] = set
	}
	has := func(field, value int) bool { return sets[field]>>value&1 == 1 }
	restricted := func(field int) bool { return !strings.HasPrefix(fields[field], "*") }
	onDay := func(day time.Time) bool {
		ofMonth := has(2, day.Day())
		ofWeek := has(4, int(day.Weekday())) || day.Weekday() == time.Sunday && has(4, 7)
		if restricted(2) && restricted(4) {
			return ofMonth || ofWeek
		}
		return ofMonth && ofWeek
	}
	t = t.UTC().Truncate(time.Minute).Add(time.Minute)
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	// The 29th of February comes once in eight years at the rarest.
	for last := day.AddDate(9, 0, 0); day.Before(last); day = day.AddDate(0, 0, 1) {
		if !has(3, int(day.Month())) || !onDay(day) {
			continue
		}
		for at := day; at.Day() == day.Day(); at = at.Add(time.Hour) {
			if !has(1, at.Hour()) {
				continue
			}
			for minute := range 60 {
				if next := at.Add(time.Duration(minute) * time.Minute); has(0, minute) && !next.Before(t) {
					return next, true
				}
			}
		}
	}
	return time.Time{}, false
}

// lateness is how late a run may begin, after its time in the schedule, without
// moving those that come after it.
const lateness = 24 * time.Hour

// Due says whether something is to happen that happened last at a time (zero:
// never, and then it is due at once), and for when it is or was scheduled: the
// first time of the schedule after last that keeps MinInterval. An interval
// counts as kept a day early, so that every third Monday stays a Monday although
// the last run began some minutes or hours late. Without a schedule nothing is
// ever due, and the time is zero.
func (c Cadence) Due(last, now time.Time) (due bool, at time.Time) {
	if c.Schedule == "" {
		return false, time.Time{}
	}
	if last.IsZero() {
		return true, now.UTC()
	}
	from := last
	if early := last.Add(c.MinInterval - lateness - time.Minute); early.After(from) {
		from = early
	}
	at, ok := c.Schedule.Next(from)
	return ok && !at.After(now), at
}
