// Package routertest is the one suite that every router.Log must pass, and a log in memory for tests of those who use one.
package routertest

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/router"
)

// Harness makes the log that is tested.
type Harness struct {
	// Open opens the log that lives in the folder dir and returns what closes it. Opening it in the same folder again, after it
	// was closed, is a restart; the suite does that only when the log's Can has Reopening. close may be called twice.
	Open func(t *testing.T, dir string) (log router.Log, close func() error)
}

// patience bounds every wait of the suite, so that a log that forgets to wake its reader fails instead of hanging.
const patience = 30 * time.Second

// everything is an upTo beyond every offset.
const everything = event.Offset(math.MaxInt64)

// tomorrow is later than any clock of a log: what is due at all is due then.
var tomorrow = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)

// Run runs the whole suite. It skips only what the log's Can denies, and names the capability.
func Run(t *testing.T, h Harness) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, h)
			for _, need := range c.needs {
				if !need.of(s.can) {
					t.Skipf("Can() denies %s", need.name)
				}
			}
			c.run(s)
		})
	}
}

// testCase is one promise of the contract and the capabilities that it is about.
type testCase struct {
	name  string
	needs []capability
	run   func(*subject)
}

// capability is a field of event.Capabilities by its name.
type capability struct {
	name string
	of   func(event.Capabilities) bool
}

var (
	atomic    = capability{"Atomic", func(c event.Capabilities) bool { return c.Atomic }}
	shared    = capability{"Shared", func(c event.Capabilities) bool { return c.Shared }}
	ordered   = capability{"Ordered", func(c event.Capabilities) bool { return c.Ordered }}
	stateful  = capability{"Stateful", func(c event.Capabilities) bool { return c.Stateful }}
	dead      = capability{"Dead", func(c event.Capabilities) bool { return c.Dead }}
	holds     = capability{"Keyed", func(c event.Capabilities) bool { return c.Keyed }}
	history   = capability{"History", func(c event.Capabilities) bool { return c.History }}
	reopening = capability{"Reopening", func(c event.Capabilities) bool { return c.Reopening }}
)

func needs(c ...capability) []capability { return c }

// cases is the table of contents of the contract.
func cases() []testCase {
	var all []testCase
	for _, part := range [][]testCase{
		appending(), reading(), settling(), exceptions(), holding(), deadLetters(), dropping(), committing(), deduping(), states(), configuring(), closing(),
		restarting(), seeking(), modeling(),
	} {
		all = append(all, part...)
	}
	return all
}

// subject is one opened log with the helpers of the cases.
type subject struct {
	*testing.T
	h     Harness
	dir   string
	log   router.Log
	close func() error
	can   event.Capabilities
}

func start(t *testing.T, h Harness) *subject {
	s := &subject{T: t, h: h, dir: t.TempDir()}
	s.open()
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func (s *subject) open() {
	s.log, s.close = s.h.Open(s.T, s.dir)
	s.can = s.log.Can()
}

// reopen closes the log and opens it again with the same layout.
func (s *subject) reopen(topics ...event.Topic) {
	s.Helper()
	if err := s.close(); err != nil {
		s.Fatalf("close: %v", err)
	}
	s.open()
	s.configure(topics...)
}

// flushTopic has no subscription: appending to it takes the outcomes that wait along.
const flushTopic = "flush"

func (s *subject) configure(topics ...event.Topic) {
	s.Helper()
	l := event.Layout{Topics: append([]event.Topic{{Name: flushTopic}}, topics...)}
	if err := s.log.Configure(s.Context(), l); err != nil {
		s.Fatalf("configure %v: %v", l, err)
	}
}

func topic(name string, subscriptions ...string) event.Topic {
	return event.Topic{Name: name, Subscriptions: subscriptions}
}

// commit commits c, which must succeed.
func (s *subject) commit(c event.Commit) []event.Appended {
	s.Helper()
	first, err := s.log.Commit(s.Context(), c)
	if err != nil {
		s.Fatalf("commit: %v", err)
	}
	if len(first) != len(c.Appends) {
		s.Fatalf("commit of %d appends told of %d", len(c.Appends), len(first))
	}
	return first
}

// append appends events in one commit and returns the offset of the first.
func (s *subject) append(topic string, events ...event.Event) event.Offset {
	s.Helper()
	return s.commit(event.Commit{Appends: []event.Append{{Topic: topic, Events: events}}})[0].First
}

// flush makes every outcome that was given to Settle before take effect: outcomes are committed with the next commit.
func (s *subject) flush() {
	s.Helper()
	s.append(flushTopic, plain("flush"))
}

func (s *subject) state(owner string) map[string][]byte {
	s.Helper()
	m, err := s.log.State(s.Context(), owner)
	if err != nil {
		s.Fatalf("state of %s: %v", owner, err)
	}
	return m
}

func (s *subject) dead(q event.DeadQuery) []event.DeadLetter {
	s.Helper()
	d, err := s.log.DeadLetters(s.Context(), q)
	if err != nil {
		s.Fatalf("dead letters: %v", err)
	}
	return d
}

func (s *subject) redrive(q event.DeadQuery, want int) {
	s.Helper()
	n, err := s.log.Redrive(s.Context(), q)
	if err != nil || n != want {
		s.Fatalf("redrive %+v = %d, %v; want %d", q, n, err, want)
	}
}

// reader is one subscription with the name that messages of a test show.
type reader struct {
	*subject
	name string
	sub  router.Subscription
}

func (s *subject) subscribe(name string) *reader {
	s.Helper()
	sub, err := s.log.Subscribe(name)
	if err != nil {
		s.Fatalf("subscribe %s: %v", name, err)
	}
	return &reader{subject: s, name: name, sub: sub}
}

func (r *reader) next(upTo event.Offset, limit int) []event.Record {
	r.Helper()
	recs, err := r.sub.Next(r.Context(), upTo, limit)
	if err != nil {
		r.Fatalf("%s: next: %v", r.name, err)
	}
	if len(recs) > limit {
		r.Fatalf("%s: next with max %d returned %d records", r.name, limit, len(recs))
	}
	return recs
}

// take returns exactly n records, waiting for them as long as the log says that there may be more.
func (r *reader) take(n int) []event.Record {
	r.Helper()
	var got []event.Record
	for len(got) < n {
		recs := r.next(everything, n-len(got))
		if len(recs) == 0 {
			r.await(fmt.Sprintf("after %d of %d records", len(got), n))
		}
		got = append(got, recs...)
	}
	return got
}

// await waits for the subscription's signal.
func (r *reader) await(when string) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	select {
	case <-r.sub.Wake():
	case <-ctx.Done():
		cursor, head := r.sub.Position()
		r.Fatalf("%s: no signal %s (cursor %d, head %d)", r.name, when, cursor, head)
	}
}

// calm takes the signal away that may be there already.
func (r *reader) calm() {
	select {
	case <-r.sub.Wake():
	default:
	}
}

func (r *reader) nothing() {
	r.Helper()
	if recs := r.next(everything, 10); len(recs) > 0 {
		r.Fatalf("%s: nothing was to come, got %v", r.name, ids(recs))
	}
}

// settle gives outcomes and makes them take effect.
func (r *reader) settle(outcomes ...event.Outcome) {
	r.Helper()
	r.settleLazily(outcomes...)
	r.flush()
}

func (r *reader) settleLazily(outcomes ...event.Outcome) {
	r.Helper()
	if err := r.sub.Settle(r.Context(), outcomes); err != nil {
		r.Fatalf("%s: settle: %v", r.name, err)
	}
}

// due returns what is due at now, and when the next one is.
func (r *reader) due(now time.Time, limit int) ([]event.Exceptional, time.Time) {
	r.Helper()
	x, next, err := r.sub.Due(r.Context(), now, limit)
	if err != nil {
		r.Fatalf("%s: due: %v", r.name, err)
	}
	if len(x) > limit {
		r.Fatalf("%s: due with max %d returned %d", r.name, limit, len(x))
	}
	return x, next
}

func (r *reader) position(wantCursor, wantHead event.Offset) {
	r.Helper()
	if cursor, head := r.sub.Position(); cursor != wantCursor || head != wantHead {
		r.Errorf("%s: position is %d of %d, want %d of %d", r.name, cursor, head, wantCursor, wantHead)
	}
}

func (r *reader) rows(from, to event.Offset) []event.Offset {
	r.Helper()
	rows, err := r.sub.Rows(r.Context(), from, to)
	if err != nil {
		r.Fatalf("%s: rows: %v", r.name, err)
	}
	return rows
}
