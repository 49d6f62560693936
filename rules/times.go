package rules

import "time"

// layouts are what date(text) understands, tried in this order.
var layouts = [...]string{
	time.RFC3339, "2006-01-02", "2006-01-02 15:04:05", "15:04:05", time.RFC822, time.RFC850, time.RFC1123, time.RFC1123Z,
}

// fnDate is date(text), date(text, layout) or date(text, layout, zone). Without a zone in text or argument a time is in UTC; the
// machine's own zone never counts.
func fnDate(r *run, a []any) (any, error) {
	text, ok := a[0].(string)
	if !ok {
		return nil, fault("date takes a string, not %s", kindOf(a[0]))
	}
	if err := r.chargeBytes(len(text)); err != nil {
		return nil, err
	}
	zone := time.UTC
	if len(a) == 3 {
		if zone, ok = a[2].(*time.Location); !ok {
			return nil, fault("the zone of date is the name of a time zone")
		}
	}
	if len(a) > 1 {
		layout, ok := a[1].(string)
		if !ok {
			return nil, fault("the layout of date is a string, not %s", kindOf(a[1]))
		}
		t, err := time.ParseInLocation(layout, text, zone)
		if err != nil {
			return nil, fault("date: the string does not have that layout")
		}
		return t, nil
	}
	for _, layout := range layouts {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	return nil, fault("date: the string is not a date")
}

// method is what can be called on a time or a duration.
type method struct {
	args int
	time func(t time.Time, a []any) (any, bool)
	span func(d time.Duration, a []any) (any, bool)
}

// methods are those of Go's time.Time and time.Duration that need neither a clock nor the machine's time zone. Month is a number
// and Weekday its English name, for comparing. False means that an argument has the wrong kind.
var methods = map[string]method{
	"Format":     {args: 1, time: withText(func(t time.Time, layout string) any { return t.Format(layout) })},
	"Year":       {time: number(time.Time.Year)},
	"Month":      {time: number(func(t time.Time) int { return int(t.Month()) })},
	"Day":        {time: number(time.Time.Day)},
	"YearDay":    {time: number(time.Time.YearDay)},
	"Hour":       {time: number(time.Time.Hour)},
	"Minute":     {time: number(time.Time.Minute)},
	"Second":     {time: number(time.Time.Second)},
	"Nanosecond": {time: number(time.Time.Nanosecond)},
	"Unix":       {time: number(time.Time.Unix)},
	"UnixMilli":  {time: number(time.Time.UnixMilli)},
	"UnixMicro":  {time: number(time.Time.UnixMicro)},
	"UnixNano":   {time: number(time.Time.UnixNano)},
	"Weekday":    {time: func(t time.Time, _ []any) (any, bool) { return t.Weekday().String(), true }},
	"UTC":        {time: func(t time.Time, _ []any) (any, bool) { return t.UTC(), true }},
	"In":         {args: 1, time: inZone},
	"Add":        {args: 1, time: withSpan(func(t time.Time, d time.Duration) any { return t.Add(d) })},
	"AddDate":    {args: 3, time: addDate},
	"Sub":        {args: 1, time: withTime(func(t, u time.Time) any { return t.Sub(u) })},
	"Before":     {args: 1, time: withTime(func(t, u time.Time) any { return t.Before(u) })},
	"After":      {args: 1, time: withTime(func(t, u time.Time) any { return t.After(u) })},
	"Equal":      {args: 1, time: withTime(func(t, u time.Time) any { return t.Equal(u) })},
	"Compare":    {args: 1, time: withTime(func(t, u time.Time) any { return int64(t.Compare(u)) })},
	"Truncate": {
		args: 1,
		time: withSpan(func(t time.Time, d time.Duration) any { return t.Truncate(d) }),
		span: betweenSpans(time.Duration.Truncate),
	},
	"Round": {
		args: 1,
		time: withSpan(func(t time.Time, d time.Duration) any { return t.Round(d) }),
		span: betweenSpans(time.Duration.Round),
	},
	"String": {
		time: func(t time.Time, _ []any) (any, bool) { return timeText(t), true },
		span: func(d time.Duration, _ []any) (any, bool) { return d.String(), true },
	},
	"Hours":        {span: func(d time.Duration, _ []any) (any, bool) { return d.Hours(), true }},
	"Minutes":      {span: func(d time.Duration, _ []any) (any, bool) { return d.Minutes(), true }},
	"Seconds":      {span: func(d time.Duration, _ []any) (any, bool) { return d.Seconds(), true }},
	"Milliseconds": {span: func(d time.Duration, _ []any) (any, bool) { return d.Milliseconds(), true }},
	"Microseconds": {span: func(d time.Duration, _ []any) (any, bool) { return d.Microseconds(), true }},
	"Nanoseconds":  {span: func(d time.Duration, _ []any) (any, bool) { return d.Nanoseconds(), true }},
	"Abs":          {span: func(d time.Duration, _ []any) (any, bool) { return d.Abs(), true }},
}

// opMethod calls a method: a[0] is its name, a[1] the time or duration, the rest are arguments.
func opMethod(r *run, a []any) (any, error) {
	name := a[0].(string)
	for i := 1; i < len(a); i++ {
		if a[i] = r.settle(a[i]); isNil(a[i]) {
			return missed(a[i]), nil
		}
		if s, ok := a[i].(string); ok {
			if err := r.chargeBytes(len(s)); err != nil {
				return nil, err
			}
		}
	}
	m := methods[name]
	var v any
	ok, found := false, false
	switch on := a[1].(type) {
	case time.Time:
		if found = m.time != nil; found {
			v, ok = m.time(on, a[2:])
		}
	case time.Duration:
		if found = m.span != nil; found {
			v, ok = m.span(on, a[2:])
		}
	}
	switch {
	case !found:
		return nil, fault("%s has no method %s", kindOf(a[1]), name)
	case !ok:
		return nil, fault("%s of %s does not take %s", name, kindOf(a[1]), kindOf(a[len(a)-1]))
	}
	return v, nil
}

func number[N int | int64](of func(time.Time) N) func(time.Time, []any) (any, bool) {
	return func(t time.Time, _ []any) (any, bool) { return int64(of(t)), true }
}

func withText(do func(t time.Time, s string) any) func(time.Time, []any) (any, bool) {
	return func(t time.Time, a []any) (any, bool) {
		s, ok := a[0].(string)
		if !ok {
			return nil, false
		}
		return do(t, s), true
	}
}

func withTime(do func(t, u time.Time) any) func(time.Time, []any) (any, bool) {
	return func(t time.Time, a []any) (any, bool) {
		u, ok := a[0].(time.Time)
		if !ok {
			return nil, false
		}
		return do(t, u), true
	}
}

func withSpan(do func(t time.Time, d time.Duration) any) func(time.Time, []any) (any, bool) {
	return func(t time.Time, a []any) (any, bool) {
		d, ok := a[0].(time.Duration)
		if !ok {
			return nil, false
		}
		return do(t, d), true
	}
}

func betweenSpans(do func(d, by time.Duration) time.Duration) func(time.Duration, []any) (any, bool) {
	return func(d time.Duration, a []any) (any, bool) {
		by, ok := a[0].(time.Duration)
		return do(d, by), ok
	}
}

func inZone(t time.Time, a []any) (any, bool) {
	zone, ok := a[0].(*time.Location)
	if !ok {
		return nil, false
	}
	return t.In(zone), true
}

func addDate(t time.Time, a []any) (any, bool) {
	var n [3]int
	for i, v := range a {
		x, ok := toIndex(v)
		if !ok || x > 1_000_000 || x < -1_000_000 {
			return nil, false
		}
		n[i] = int(x)
	}
	return t.AddDate(n[0], n[1], n[2]), true
}
