package outbox

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"
	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

// model is what an outbox must hold: for each subscription what is pending and which rows there are.
type model struct {
	t       *rapid.T
	ctx     context.Context
	options Options
	b       *Outbox
	head    map[string]event.Offset // by topic
	keys    map[string]string       // of topic t, the id that each stands for
	faults  faults
	subs    map[string]*modelled
}

type modelled struct {
	topic   string
	pending []event.Offset
	rows    map[event.Offset]event.ExceptionState
}

var modelLayout = event.Layout{Topics: []event.Topic{
	{Name: "t", Subscriptions: []string{"t/a", "t/b"}, Dedupe: &event.Dedupe{Window: time.Hour, MaxKeys: 1000}},
	{Name: "u", Subscriptions: []string{"u/a", "u/b", "u/c"}},
}}

// TestModel does random things to an outbox that purges whatever it may, while its commits fail now and then, and compares it with a
// model all the time: what is owed is handed out, rows have their events, no body is kept for nobody, no duplicate is taken and
// nothing else left out, and what is there is found by its id.
func TestModel(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue { // each opens a few files and syncs a lot
		if err := checks.Value.Set("25"); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		path := filepath.Join(dir, fmt.Sprint(runs), "outbox.db")
		m := &model{
			t: rt, ctx: t.Context(), head: map[string]event.Offset{}, keys: map[string]string{}, subs: map[string]*modelled{},
		}
		m.options = Options{Path: path, Clock: hasty{}, idBlock: 8, fault: m.faults.hook}
		if rapid.Bool().Draw(rt, "by age") {
			m.options.Retention.Age = time.Nanosecond
		} else {
			m.options.Retention.Size = rapid.Int64Range(1, 2000).Draw(rt, "size")
		}
		for _, topic := range modelLayout.Topics {
			for _, name := range topic.Subscriptions {
				m.subs[name] = &modelled{topic: topic.Name, rows: map[event.Offset]event.ExceptionState{}}
			}
		}
		m.open()
		defer func() { _ = m.b.Close() }()
		rt.Repeat(map[string]func(*rapid.T){
			"append": m.append, "settle": m.settle, "rows": m.settleRows, "move": m.move, "release": m.release, "redrive": m.redrive, "drop": m.drop,
			"reopen": m.reopen, "": m.check,
		})
		m.reopen(rt)
		m.check(rt)
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			rt.Fatal(err)
		}
	})
}

func (m *model) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err, m.b.Err())
	}
}

func (m *model) open() {
	b, err := Open(m.ctx, m.options)
	if err != nil {
		m.t.Fatal(err)
	}
	m.b = b
	m.must(b.Configure(m.ctx, modelLayout))
}

func (m *model) reopen(*rapid.T) {
	m.must(m.b.Close())
	m.open()
}

// commit makes a commit that looks for history too.
func (m *model) commit(c event.Commit) {
	m.t.Helper()
	m.must(m.b.do(m.ctx, func(*conn) (func(), error) { m.b.writer.retention.more = true; return nil, nil }))
	m.commitUntilRoom(c)
}

// commitUntilRoom makes a commit of which a statement may fail in a way that passes. It is given again while the outbox is full, since
// nothing of it happens then.
func (m *model) commitUntilRoom(c event.Commit) []event.Appended {
	m.t.Helper()
	cause := rapid.SampledFrom([]sqlite3.ErrNo{0, 0, sqlite3.ErrBusy, sqlite3.ErrFull}).Draw(m.t, "fault")
	left := rapid.IntRange(1, 12).Draw(m.t, "statement")
	m.faults.set(func(query string) error {
		if left--; left == 0 && cause != 0 && query != "ROLLBACK" {
			return sqlite3.Error{Code: cause}
		}
		return nil
	})
	appended, err := m.b.Commit(m.ctx, c)
	m.faults.set(func(string) error { return nil })
	for errors.Is(err, event.ErrFull) || m.b.Full() {
		state := event.State{Owner: "s", Changes: event.Changes{"k": nil}} // makes the writer look for room
		_, full := m.b.Commit(m.ctx, event.Commit{States: []event.State{state}})
		m.must(full)
		if errors.Is(err, event.ErrFull) {
			appended, err = m.b.Commit(m.ctx, c)
		}
	}
	m.must(err)
	return appended
}

func (m *model) sub() (string, *modelled) {
	name := rapid.SampledFrom(slices.Sorted(maps.Keys(m.subs))).Draw(m.t, "subscription")
	return name, m.subs[name]
}

func (m *model) append(*rapid.T) {
	topic := rapid.SampledFrom([]string{"t", "u"}).Draw(m.t, "topic")
	a := event.Append{Topic: topic}
	duplicates := map[int]string{}
	for i := range rapid.IntRange(1, 5).Draw(m.t, "events") {
		key := ""
		if topic == "t" {
			key = rapid.StringOf(rapid.RuneFrom([]rune("abcdef"))).Draw(m.t, "key")
			a.Keys = append(a.Keys, key)
		}
		size := rapid.IntRange(0, 300).Draw(m.t, "bytes")
		e := event.Event{ID: modelID(topic, m.head[topic]+1), Source: "/m", Data: make([]byte, size), Received: time.Now()}
		a.Events = append(a.Events, e)
		if first, known := m.keys[key]; known && key != "" {
			duplicates[i] = first
			continue
		}
		m.keys[key] = e.ID
		m.appended(topic)
	}
	if a.Keys == nil && rapid.Bool().Draw(m.t, "packed") {
		var err error
		a.Packed, err = m.b.Pack(len(a.Events), func(i int, e *event.Event) { *e = a.Events[i] })
		m.must(err)
		a.Events = nil
	}
	got := m.commitUntilRoom(event.Commit{Appends: []event.Append{a}})
	if !maps.Equal(got[0].Duplicates, duplicates) {
		m.t.Fatalf("duplicates %v, want %v", got[0].Duplicates, duplicates)
	}
}

// appended notes one more event of a topic.
func (m *model) appended(topic string) {
	m.head[topic]++
	for _, s := range m.subs {
		if s.topic == topic {
			s.pending = append(s.pending, m.head[topic])
		}
	}
}

func modelID(topic string, o event.Offset) string { return fmt.Sprintf("%s-%d", topic, o) }

// outcome draws what becomes of an event, and notes it.
func (m *model) outcome(s *modelled, o event.Offset) event.Outcome {
	_, row := s.rows[o]
	switch rapid.IntRange(0, 4).Draw(m.t, "outcome") {
	case 0:
		s.rows[o] = event.Dead
		return dead(o, row)
	case 1:
		s.rows[o] = event.Retry
		return retrying(o, row)
	case 2:
		s.rows[o] = event.Held
		x := event.Exception{State: event.Held, Reason: event.ReasonOrder, Key: []byte("k")}
		return event.Outcome{Offset: o, Row: row, Exception: &x}
	}
	delete(s.rows, o)
	return event.Outcome{Offset: o, Row: row, Receipt: event.Receipt{Attempt: 1}}
}

// settle ends some of what is pending, most of it in order.
func (m *model) settle(*rapid.T) {
	name, s := m.sub()
	var outcomes []event.Outcome
	for range rapid.IntRange(1, 8).Draw(m.t, "outcomes") {
		if len(s.pending) == 0 {
			break
		}
		i := rapid.IntRange(0, min(2, len(s.pending)-1)).Draw(m.t, "which")
		outcomes = append(outcomes, m.outcome(s, s.pending[i]))
		s.pending = slices.Delete(s.pending, i, i+1)
	}
	m.commit(event.Commit{Settles: []event.Settle{{Subscription: name, Outcomes: outcomes}}})
}

// settleRows ends rows that wait, or renews them.
func (m *model) settleRows(*rapid.T) {
	name, s := m.sub()
	var outcomes []event.Outcome
	for _, o := range slices.Sorted(maps.Keys(s.rows)) {
		if s.rows[o] == event.Retry && rapid.Bool().Draw(m.t, "now") {
			outcomes = append(outcomes, m.outcome(s, o))
		}
	}
	m.commit(event.Commit{Settles: []event.Settle{{Subscription: name, Outcomes: outcomes}}})
}

// release lets some held rows go, and may hold others in the same commit.
func (m *model) release(*rapid.T) {
	name, s := m.sub()
	var outcomes []event.Outcome
	for _, o := range slices.Sorted(maps.Keys(s.rows)) {
		if s.rows[o] == event.Held && rapid.Bool().Draw(m.t, "now") {
			s.rows[o] = event.Retry
			outcomes = append(outcomes, event.Outcome{Offset: o, Row: true, Exception: &event.Exception{State: event.Released}})
		}
	}
	m.commit(event.Commit{Settles: []event.Settle{{Subscription: name, Outcomes: outcomes}}})
}

// move ends a row of one subscription and makes rows of others of its topic that are past it, as a redrive through stages does.
func (m *model) move(*rapid.T) {
	name, s := m.sub()
	for _, o := range slices.Sorted(maps.Keys(s.rows)) {
		if s.rows[o] != event.Retry {
			continue
		}
		c := event.Commit{Settles: []event.Settle{{Subscription: name, Outcomes: []event.Outcome{{Offset: o, Row: true}}}}}
		delete(s.rows, o)
		for other, x := range m.subs {
			if _, has := x.rows[o]; other != name && !has && x.topic == s.topic && !slices.Contains(x.pending, o) {
				c.Settles = append(c.Settles, event.Settle{Subscription: other, Outcomes: []event.Outcome{retrying(o, false)}})
				x.rows[o] = event.Retry
			}
		}
		m.commit(c)
		return
	}
}

func (m *model) redrive(*rapid.T) {
	name, s := m.sub()
	_, err := m.b.Redrive(m.ctx, event.DeadQuery{Subscriptions: []string{name}})
	m.must(err)
	for o, state := range s.rows {
		if state == event.Dead {
			s.rows[o] = event.Retry
		}
	}
}

func (m *model) drop(*rapid.T) {
	name, s := m.sub()
	_, err := m.b.Drop(m.ctx, event.DeadQuery{Subscriptions: []string{name}})
	m.must(err)
	maps.DeleteFunc(s.rows, func(_ event.Offset, state event.ExceptionState) bool { return state == event.Dead })
}

// check compares everything.
func (m *model) check(*rapid.T) {
	for name, s := range m.subs {
		m.checkPending(name, s)
		m.checkRows(name, s)
	}
	named := map[string]bool{}
	var n int64
	m.must(m.b.do(m.ctx, func(c *conn) (_ func(), err error) { // in the writer's goroutine, so that nothing is purged meanwhile
		for _, s := range m.subs {
			for o := range s.rows {
				if o <= m.b.topic(s.topic).purgedTo() {
					named[modelID(s.topic, o)] = true
				}
			}
		}
		n, err = c.integer("SELECT count(*) FROM bodies")
		return nil, err
	}))
	if int(n) != len(named) {
		m.t.Fatalf("%d bodies for %v", n, named)
	}
	for _, topic := range slices.Sorted(maps.Keys(m.head)) {
		m.checkFound(topic, rapid.Int64Range(1, int64(m.head[topic])).Draw(m.t, "found"), named)
	}
}

// checkFound looks for an event by its id. Whether it is still there is known only of what a row names.
func (m *model) checkFound(topic string, o int64, named map[string]bool) {
	id := modelID(topic, event.Offset(o))
	got, err := m.b.Find(m.ctx, id, 0)
	m.must(err)
	m.must(m.b.do(m.ctx, func(*conn) (func(), error) { return nil, nil })) // a purge that Find has seen is published now
	gone := event.Offset(o) <= m.b.topic(topic).purgedTo() && !named[id]
	if len(got) == 0 && !gone || len(got) > 1 || len(got) == 1 && (got[0].Topic != topic || int64(got[0].Record.Offset) != o) {
		m.t.Fatalf("%s is found at %v, gone: %v", id, places(got), gone)
	}
}

func (m *model) checkPending(name string, s *modelled) {
	sub, err := m.b.Subscribe(name)
	m.must(err)
	var got []event.Offset
	for {
		records, err := sub.Next(m.ctx, 1<<40, 100)
		m.must(err)
		if len(records) == 0 {
			break
		}
		for i := range records {
			got = append(got, m.checkRecord(s, &records[i]))
		}
	}
	if want := slices.Sorted(slices.Values(s.pending)); !slices.Equal(got, want) {
		m.t.Fatalf("%s is handed out %v, want %v", name, got, want)
	}
}

func (m *model) checkRecord(s *modelled, r *event.Record) event.Offset {
	if r.Event.ID != modelID(s.topic, r.Offset) {
		m.t.Fatalf("offset %d of %s is %q", r.Offset, s.topic, r.Event.ID)
	}
	return r.Offset
}

func (m *model) checkRows(name string, s *modelled) {
	got := map[event.Offset]event.ExceptionState{}
	rows, _, err := m.b.subscription(name).Due(m.ctx, time.Now(), 1000)
	m.must(err)
	letters, err := m.b.DeadLetters(m.ctx, event.DeadQuery{Subscriptions: []string{name}})
	m.must(err)
	for i := range letters {
		rows = append(rows, letters[i].Exceptional)
	}
	for i := range rows {
		got[m.checkRecord(s, &rows[i].Record)] = rows[i].Exception.State
	}
	held, err := m.b.subscription(name).Keyed(m.ctx, event.Held, 0, 1000)
	m.must(err)
	for _, k := range held {
		got[k.Offset] = event.Held
	}
	if !maps.Equal(got, s.rows) {
		m.t.Fatalf("%s has the rows %v, want %v", name, got, s.rows)
	}
}
