package tests

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/app"
	"github.com/millrace-run/millrace/brokers/engine"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/router"
	"github.com/millrace-run/millrace/router/routertest"
)

// passing are tests that hold: each shows one thing that a test can ask for.
const passing = `
- name: a filter drops
  given: { data: { total: 0 } }
  expect: { payments: [], archive: [], attempts: { payments: 0, archive: 0 }, dead_letters: [] }
- name: a condition selects, stages shape
  given: [ { data: { id: a, total: 5 } }, { data: { id: b, total: 100 } } ]
  expect:
    payments: [ { id: test-2, data: { id: b, cents: 10000 } } ]
    archive: [ { id: test-1, data: { cents: 500, card: ~ } }, { id: test-2 } ]
- name: fails twice, then accepts
  given: { data: { total: 100 } }
  mock: { payments: { fail: 2 } }
  expect: { payments: [ { data: { total: 100 } } ], attempts: { payments: 3 }, dead_letters: [] }
- name: a list of statuses
  given: { data: { total: 100 } }
  mock: { payments: { status: [503, 429, 200] } }
  expect: { payments: [ {} ], attempts: { payments: 3 } }
- name: a status for as long as it fails
  given: { data: { total: 100 } }
  mock: { payments: { status: 418, fail: 2 } }
  expect: { payments: [ {} ], attempts: { payments: 3 }, dead_letters: [] }
- name: refused
  given: { data: { total: 100 } }
  mock: { payments: { status: 422 } }
  expect: { payments: [], archive: [ {} ], attempts: { payments: 1 },
    dead_letters: [ { event_id: test-1, sink: payments, reason: permanent, status: 422, attempts: 1, stage: "",
      last_error: "422" } ] }
- name: what counts is a dead letter after max_attempts
  given: { data: { total: 100 } }
  mock: { payments: { status: 418 } }
  expect: { dead_letters: [ { sink: payments, reason: attempts, status: 418, attempts: 3 } ] }
- name: an outage longer than max_age
  given: { data: { total: 100 } }
  mock: { payments: { status: 503 } }
  expect: { payments: [], dead_letters: [ { sink: payments, reason: age, status: 503 } ] }
- name: no answer in time
  given: { data: { total: 100 } }
  mock: { payments: { delay: 20s } }
  expect: { payments: [], dead_letters: [ { sink: payments, reason: age, status: 0, last_error: no answer within 15s } ] }
- name: slow is not late
  given: { data: { total: 100 } }
  mock: { payments: { delay: 14s } }
  expect: { payments: [ {} ], attempts: { payments: 1 } }
- name: a file that cannot be written for a while
  given: [ { data: { id: a, total: 1 } }, { data: { id: b, total: 2 } } ]
  mock: { archive: { fail: 3 } }
  expect: { archive: [ { data: { id: a } }, { data: { id: b } } ], dead_letters: [] }
- name: a stage that fails
  given: { data: { total: many } }
  expect: { payments: [], archive: [], dead_letters: [ { sink: "", stage: filter, reason: on_error } ] }
- name: a plain post gets what the webhook sets
  given: { headers: { X-Shop: north }, query: { page: "7" }, data: { total: 1 } }
  expect: { archive: [ { id: test-1, source: /orders, type: shop.order, subject: north, datacontenttype: application/json,
    time: "2026-01-01T00:00:00Z", ext: { page: "7" } } ] }
- name: attributes that a test names
  given: { id: o-1, subject: south, ext: { region: eu }, data: { total: 1 } }
  expect: { archive: [ { id: o-1, type: shop.order, subject: south, ext: { region: eu, nothing: ~ } } ] }
- name: a CloudEvent keeps what it has
  given: { id: o-1, source: /x, type: y, data: { total: 1 } }
  expect: { archive: [ { id: o-1, source: /x, type: y, subject: ~, time: ~ } ] }
- name: an idempotency key is the id
  given: { headers: { Idempotency-Key: key-1 }, data: { total: 1 } }
  expect: { archive: [ { id: key-1 } ] }
- name: many, and a sink that is down for each of them
  given: [ { data: { total: 100 } }, { data: { total: 101 } }, { data: { total: 102 } }, { data: { total: 103 } },
    { data: { total: 104 } }, { data: { total: 105 } }, { data: { total: 106 } } ]
  mock: { payments: { fail: 4 } }
  expect:
    payments: [ { id: test-1 }, { id: test-2 }, { id: test-3 }, { id: test-4 }, { id: test-5 }, { id: test-6 }, { id: test-7 } ]
    attempts: { payments: 35 }
    dead_letters: []
`

func TestPassing(t *testing.T) {
	for _, r := range run(t, passing) {
		if !r.OK() || r.Notes != nil {
			t.Errorf("%s: %s\n%v", r.Name, faults(r), r.Notes)
		}
	}
}

// What a pipeline leaves out is left out of its tests too, for as long as its window.
func TestDuplicates(t *testing.T) {
	p := plan(t, `
- name: the same key twice
  given: [ { headers: { Idempotency-Key: k }, data: { total: 100 } }, { headers: { Idempotency-Key: k }, data: { total: 100 } },
    { id: k, data: { total: 1 } } ]
  expect: { payments: [ { id: k } ], archive: [ { id: k, data: { total: 100 } } ], attempts: { payments: 1 } }
- name: another body
  given: [ { headers: { Idempotency-Key: k }, data: { total: 1 } }, { headers: { idempotency-key: k }, data: { total: 2 } } ]
  expect: { archive: [ { data: { total: 1 } } ] }
`)
	p.Pipelines[0].Dedupe = &pipelines.Dedupe{Window: time.Hour, MaxKeys: 10}
	r, err := Run(t.Context(), p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !r[0].OK() {
		t.Error(faults(r[0]))
	}
	if got := faults(r[1]); got != "given: an event that the source takes | the key was used before with another body" {
		t.Error(got)
	}
}

// Of a body that holds many events each is one, in the order of the body, with what the source makes of its line.
func TestManyInOneBody(t *testing.T) {
	r := run(t, `
- name: lines
  given:
    datacontenttype: application/x-ndjson
    data: |
      {"total":1}
      {"total":2}
      {"total":3}
      {"total":4}
      {"total":5}
      {"total":6}
  expect:
    archive:
      - { id: test-1, datacontenttype: application/json, data: { total: 1 } }
      - { id: test-1/2, data: { total: 2 } }
      - { id: test-1/3, data: { total: 3 } }
      - { id: test-1/4, data: { total: 4 } }
      - { id: test-1/5, data: { total: 5 } }
      - { id: test-1/6, data: { total: 6 } }
`)[0]
	if !r.OK() {
		t.Error(faults(r))
	}
}

// An attribute is a text: what looks like a number or a boolean is compared as it is written.
func TestAttributesAreText(t *testing.T) {
	r := run(t, `
- name: the same
  given: { id: 007, type: True, subject: 0x10, data: { total: 100 } }
  mock: { payments: { status: 400 } }
  expect: { archive: [ { id: 007, type: True, subject: 0x10 } ], dead_letters: [ { event_id: 007, status: 400, attempts: 1 } ] }
- name: another
  given: { id: 7, data: { total: 1 } }
  expect: { archive: [ { id: 007 } ] }
`)
	if !r[0].OK() {
		t.Error(faults(r[0]))
	}
	if got := faults(r[1]); got != `archive[0].id: "007" | "7"` {
		t.Error(got)
	}
}

// What happens in a test does not depend on how many run beside it, nor on how often.
func TestSameEveryTime(t *testing.T) {
	p := plan(t, passing)
	p.Pipelines[0].Tests = append(p.Pipelines[0].Tests, plan(t, `
- name: several events and an outage
  given: [ { data: { total: 100 } }, { data: { total: 100 } }, { data: { total: 100 } }, { data: { total: 100 } },
    { data: { total: 100 } }, { data: { total: 100 } }, { data: { total: 100 } } ]
  mock: { payments: { status: 503, delay: 3s } }
  expect: { payments: [], archive: [], attempts: { payments: 0 }, dead_letters: [] }
`).Pipelines[0].Tests...)
	var first []Result
	for n := range 6 {
		results, err := Run(t.Context(), p, Options{Parallel: 1 + n%3, Clock: NewClock(beginning)})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = results
		}
		if d := cmp.Diff(first, results); d != "" {
			t.Errorf("run %d: %s", n+1, d)
		}
	}
}

func TestFailing(t *testing.T) {
	for name, c := range map[string]struct{ test, want string }{
		"too many": {`
  given: { data: { total: 1 } }
  expect: { archive: [] }`,
			`archive: 0 events | 1 event: {"specversion":"1.0","id":"test-1","source":"/orders","type":"shop.order","subject":"none",` +
				`"time":"2026-01-01T00:00:00Z","datacontenttype":"application/json","data":{"total":1,"cents":100}}`},
		"too few": {`
  given: { data: { total: 1 } }
  expect: { payments: [ {} ], attempts: { payments: 1 } }`,
			"payments: 1 event | none\nattempts.payments: 1 | 0"},
		"members": {`
  given: { data: { total: 1, list: [1, { a: 2 }] } }
  expect: { archive: [ { id: x, subject: ~, ext: { page: "1" }, data: { cents: 1, list: [1, { a: 3 }], more: x } } ] }`,
			`archive[0].id: "x" | "test-1"` + "\n" + `archive[0].subject: no such member | "none"` + "\n" +
				`archive[0].ext.page: "1" | nothing` + "\narchive[0].data.cents: 1 | 100\narchive[0].data.list[1].a: 3 | 2\n" + `archive[0].data.more: "x" | nothing`},
		"dead letters": {`
  given: { data: { total: 100 } }
  mock: { payments: { status: 422 } }
  expect: { dead_letters: [] }`,
			"dead_letters: 0 dead letters | 1 dead letter: event test-1, sink payments, permanent after 1 attempt: the sink answered 422 " +
				"Unprocessable Entity"},
		"another dead letter": {`
  given: { data: { total: 100 } }
  mock: { payments: { status: 422 } }
  expect: { dead_letters: [ { sink: archive, reason: age, status: 503, attempts: 2, last_error: nothing } ] }`,
			`dead_letters[0].sink: "archive" | "payments"` + "\n" + `dead_letters[0].reason: "age" | "permanent"` + "\n" +
				"dead_letters[0].status: 503 | 422\ndead_letters[0].attempts: 2 | 1\n" +
				`dead_letters[0].last_error: a text that holds "nothing" | "the sink answered 422 Unprocessable Entity"`},
		"gone": {`
  given: [ { data: { total: 100 } }, { data: { total: 100 } } ]
  mock: { payments: { status: 410 } }
  expect: { archive: [ {}, {} ] }`,
			": every event settled or a dead letter | after 0s these still wait: " +
				"event test-1 for sink payments, event test-2 for sink payments"},
		"refused by the source": {`
  given: { data: text, datacontenttype: application/x-www-form-urlencoded, headers: { Content-Encoding: gzip } }
  expect: { archive: [] }`,
			"given: an event that the source takes | 415 Unsupported media type: " +
				"Content-Encoding gzip is not taken; send the body as it is"},
		"secrets": {`
  given: { data: { total: 1, token: "${TOKEN}" } }
  expect: { archive: [ { data: { token: other } } ] }`,
			`archive[0].data.token: "other" | "${TOKEN}"`},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, "- name: n"+c.test)[0]
			if d := cmp.Diff(c.want, faults(r)); d != "" {
				t.Error(d)
			}
			if len(r.Notes) == 0 {
				t.Error("nothing tells what happened")
			}
			for _, f := range r.Faults {
				if f.Place.Line <= r.Place.Line && f.Path != "" {
					t.Errorf("%s is at %s, above what it demands", f.Path, f.Place)
				}
			}
		})
	}
}

// A sink that is down for longer than a test waits keeps the test from passing, and from running for ever.
func TestLongest(t *testing.T) {
	p := plan(t, `
- name: n
  given: { data: { total: 1 } }
  mock: { archive: { fail: 1000000 } }
  expect: { payments: [] }
`)
	r, err := Run(t.Context(), p, Options{})
	if err != nil || len(r) != 1 || r[0].OK() {
		t.Fatalf("%+v, %v", r, err)
	}
	if got := r[0].Passed; got < longest || got > 100*24*time.Hour {
		t.Errorf("%s passed", got)
	}
}

// The log of the tests keeps what every log promises.
func TestHeardLogConforms(t *testing.T) {
	routertest.Run(t, routertest.Harness{Open: func(t *testing.T, _ string) (router.Log, func() error) {
		e, err := engine.NewMemory(engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return newHeardLog(e), e.Close
	}})
}

// Whoever stops waiting gets the reason, and nothing goes on behind his back (see TestMain).
func TestCanceled(t *testing.T) {
	p := plan(t, passing)
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	results, err := Run(ctx, p, Options{Parallel: 1, Done: func(r Result) {
		if r.Name == "fails twice, then accepts" {
			cancel(stopped)
		}
	}})
	if !errors.Is(err, stopped) || len(results) < 3 {
		t.Errorf("%d results, %v", len(results), err)
	}
	if results, err := Run(ctx, p, Options{}); !errors.Is(err, stopped) || len(results) != 0 {
		t.Errorf("%d results, %v after the end", len(results), err)
	}
}

func TestRunSelects(t *testing.T) {
	results, err := Run(t.Context(), plan(t, passing), Options{Run: regexp.MustCompile(`^orders/a (filter|stage)`)})
	if err != nil || len(results) != 2 || results[0].Name != "a filter drops" || results[1].Name != "a stage that fails" {
		t.Errorf("%v, %v", results, err)
	}
}

// What waits for its time is played without waiting.
func TestTiming(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipelines.yaml")
	text := `
pipelines:
  reminders:
    source: { webhook: { path: /reminders } }
    sinks:
      later: { http: { url: "http://127.0.0.1:9/" }, delay: 40d }
      then: { http: { url: "http://127.0.0.1:9/" }, delay: { until: data.at }, expire: 3d }
      paced: { http: { url: "http://127.0.0.1:9/" }, rate: { limit: 1/d, key: data.who } }
      tried: { http: { url: "http://127.0.0.1:9/" }, retry: { schedule: [1s, 1d], on: [422] } }
    tests:
      - name: all in their time
        given:
          - { data: { who: a, at: "2026-01-02T08:00:00Z" } }
          - { data: { who: a, at: "2026-01-09T08:00:00Z" } }
          - { data: { who: b } }
        mock: { tried: { status: 422 } }
        expect:
          later: [ {}, {}, {} ]
          then: [ { id: test-1 }, { id: test-3 } ]
          paced: [ { id: test-1 }, { id: test-2 }, { id: test-3 } ]
          tried: []
          attempts: { then: 2, paced: 3, tried: 9 }
          dead_letters:
            - { event_id: test-1, sink: tried, reason: attempts, attempts: 3 }
            - { event_id: test-2, sink: then, reason: expired, attempts: 0 }
            - { event_id: test-2, sink: tried, reason: attempts }
            - { event_id: test-3, sink: tried, reason: attempts }
      - name: not within a lifetime
        given: { data: { who: a, at: "9999-12-31T23:59:59Z" } }
        expect: { then: [], dead_letters: [ { sink: then, reason: expired } ] }
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, report := app.Load(app.Source{Path: path})
	if p == nil {
		t.Fatal(report.Text())
	}
	results, err := Run(t.Context(), p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if !r.OK() || r.Notes != nil {
			t.Errorf("%s: %s\n%v", r.Name, faults(r), r.Notes)
		}
	}
}
