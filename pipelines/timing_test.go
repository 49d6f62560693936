package pipelines

import (
	"slices"
	"testing"
	"time"
)

func TestFrequency(t *testing.T) {
	for text, want := range map[string]Frequency{
		"100/s": {100, time.Second}, "10/m": {10, time.Minute}, "0.5/s": {0.5, time.Second}, "5/h": {5, time.Hour}, "1/d": {1, 24 * time.Hour},
		"1000000000/s": {1e9, time.Second},
		"0/s":          {}, "0.0/m": {}, "-1/s": {}, "1": {}, "1/": {}, "/s": {}, "1/w": {}, "1 / s": {}, "1e3/s": {}, "1000000001/s": {}, "0.0001/d": {},
		"NaN/s": {}, "1/s ": {}, "99999999999999999999999999999999/d": {},
	} {
		if got, err := parseFrequency(text); got != want || (err == nil) != (want != Frequency{}) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]int{"100/s": 10, "10000/s": 1000, "10/m": 1, "19/s": 1, "20/s": 2} {
		if f, _ := parseFrequency(text); f.burst() != want {
			t.Errorf("a burst of %s is %d, want %d", text, f.burst(), want)
		}
	}
}

// timed loads a file with one http sink that has these keys.
func timed(t *testing.T, keys string) *Sink {
	t.Helper()
	text := "pipelines: { p: { source: { webhook: { path: /x } }, sinks: { s: { http: { url: 'http://127.0.0.1:1/' }, " + keys + " } } } }"
	p, faults := Parse([]File{{Name: "x.yaml", Data: []byte(text)}}, Options{Types: testTypes(), Env: testEnv})
	if p == nil {
		t.Fatalf("%s: %s", keys, Format(faults))
	}
	return p.Pipelines[0].Sinks[0]
}

func TestScheduleSaysTheRest(t *testing.T) {
	r := timed(t, "retry: { schedule: [1s, 5m, 10s] }").Retry
	if r.Initial != time.Second || r.Max != 5*time.Minute || r.MaxAttempts != 4 || r.MaxAge != 72*time.Hour+5*time.Minute+11*time.Second {
		t.Errorf("%+v", r)
	}
	r = timed(t, "retry: { schedule: 1s, max_age: 1h, on: 422, never: [404, 410] }").Retry
	if r.MaxAttempts != 2 || r.MaxAge != time.Hour || !slices.Equal(r.On, []int{422}) || !slices.Equal(r.Never, []int{404, 410}) {
		t.Errorf("%+v", r)
	}
}

func TestRateAndDelay(t *testing.T) {
	s := timed(t, "rate: 50/s, delay: 1h, expire: 61m")
	if s.Rate.Burst != 5 || s.Rate.Key != nil || s.Delay.For != time.Hour || s.Delay.Until != nil || s.Expire != 61*time.Minute {
		t.Errorf("%+v %+v %v", s.Rate, s.Delay, s.Expire)
	}
	s = timed(t, "rate: { limit: 1/m, key: data.who }, delay: { until: data.at }, batch: { count: 50 }")
	if s.Rate.Burst != 1 || s.Rate.Key.String() != "data.who" || s.Delay.Until.String() != "data.at" {
		t.Errorf("%+v %+v", s.Rate, s.Delay)
	}
	if s = timed(t, "rate: 1/m, batch: { count: 50 }"); s.Rate.Burst != 50 {
		t.Errorf("a batch has %d, a burst %d", s.Batch.Count, s.Rate.Burst)
	}
	if s = timed(t, "timeout: 1s"); s.Rate != nil || s.Delay != nil || s.Expire != 0 {
		t.Errorf("%+v %+v %v", s.Rate, s.Delay, s.Expire)
	}
}
