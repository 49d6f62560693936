package routertest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/millrace-run/millrace/event"
)

// seedVariable makes the random test repeat one run.
const seedVariable = "ROUTERTEST_SEED"

func modeling() []testCase {
	var all []testCase
	for i := range 6 {
		all = append(all, testCase{fmt.Sprint("model/", i), needs(shared, ordered), func(s *subject) { runModel(s, seed(uint64(i))) }})
	}
	return all
}

// seed is the one that was asked for, else a fixed one for the first runs and a new one for the last.
func seed(i uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64); err == nil {
		return n
	}
	if i < 5 {
		return i
	}
	return rand.Uint64()
}

// model drives the log and a Memory with the same random calls, and compares all that they say.
type model struct {
	*subject
	rand   *rand.Rand
	ref    *Memory
	layout []event.Topic
	pairs  []*pair
	events int
	now    int // seconds; each exception gets a time of its own, so that their order is one
	last   int
	trace  []string
}

// pair is one subscription in both.
type pair struct {
	name      string
	real, ref *reader
	open      []open // handed out and not settled
}

type open struct {
	rec event.Record
	row bool
}

func runModel(s *subject, seed uint64) {
	s.Logf("repeat this run with %s=%d", seedVariable, seed)
	m := &model{
		subject: s, rand: rand.New(rand.NewPCG(seed, 1)), ref: NewMemory(),
		layout: []event.Topic{topic("a", "a/1", "a/2"), topic("b", "b/1"), topic(flushTopic)},
	}
	m.begin()
	for range 250 {
		m.step()
		m.compare()
		if s.Failed() {
			s.Fatalf("after these steps:\n%s", strings.Join(m.trace, "\n"))
		}
	}
	m.finish()
}

// begin configures both logs and reads from the beginning.
func (m *model) begin() {
	l := event.Layout{Topics: m.layout}
	if err := m.log.Configure(m.Context(), l); err != nil {
		m.Fatalf("configure: %v", err)
	}
	ref := &subject{T: m.T, log: m.ref}
	if err := m.ref.Configure(m.Context(), l); err != nil {
		m.Fatalf("configure the model: %v", err)
	}
	m.pairs = nil
	for _, t := range m.layout {
		for _, name := range t.Subscriptions {
			m.pairs = append(m.pairs, &pair{name: name, real: m.subscribe(name), ref: ref.subscribe(name)})
		}
	}
}

func (m *model) note(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

func (m *model) step() {
	p := m.pairs[m.rand.IntN(len(m.pairs))]
	switch n := m.rand.IntN(100); {
	case n < 25:
		m.commitSome(p)
	case n < 50:
		m.readSome(p)
	case n < 75:
		m.settleSome(p)
	case n < 88:
		m.now += m.rand.IntN(30)
		m.dueSome(p, 1+m.rand.IntN(4))
	case n < 92 && m.can.Dead:
		m.redriveSome()
	case n < 94 && m.can.Dead:
		m.dropSome()
	case n < 95 && m.can.Keyed:
		m.releaseSome(p)
	case n < 96:
		m.note("%s is read by another", p.name)
		m.flush()
		m.renew(p)
	case n < 98:
		m.toggle(p)
	case m.can.Reopening:
		m.restart()
	}
}

// commitSome commits appends together with outcomes and state.
func (m *model) commitSome(p *pair) {
	var c event.Commit
	for _, t := range []string{"a", "b"} {
		if m.rand.IntN(2) == 0 {
			continue
		}
		a := event.Append{Topic: t}
		for range 1 + m.rand.IntN(5) {
			m.events++
			a.Events = append(a.Events, plain(fmt.Sprint("e-", m.events)))
		}
		c.Appends = append(c.Appends, a)
	}
	if m.rand.IntN(2) == 0 {
		c.Settles = []event.Settle{{Subscription: p.name, Outcomes: m.outcomes(p)}}
	}
	if m.can.Stateful && m.rand.IntN(2) == 0 {
		changes := event.Changes{fmt.Sprint("k", m.rand.IntN(4)): []byte(fmt.Sprint(m.rand.IntN(100))), "k0": nil}
		c.States = []event.State{{Owner: "o", Changes: changes}}
	}
	m.note("commit: %d appends to %v, %s settles %v", len(c.Appends), m.events, p.name, c.Settles)
	got := m.commit(c)
	want, err := m.ref.Commit(m.Context(), c)
	if err != nil {
		m.Fatalf("commit to the model: %v", err)
	}
	m.same("offsets of a commit", got, want)
}

// outcomes ends some of what is open: well, later, or as a dead letter.
func (m *model) outcomes(p *pair) []event.Outcome {
	var out []event.Outcome
	m.rand.Shuffle(len(p.open), func(i, j int) { p.open[i], p.open[j] = p.open[j], p.open[i] })
	n := m.rand.IntN(len(p.open) + 1)
	for _, o := range p.open[:n] {
		switch kind := m.rand.IntN(10); {
		case kind < 6:
			out = append(out, event.Outcome{Offset: o.rec.Offset, Row: o.row})
		case kind == 6 && m.can.Keyed:
			m.last++
			out = append(out, failed(o.rec, heldBehind(m.last), o.row))
		case kind < 8 || !m.can.Dead:
			m.last++
			x := waiting(at(m.now + m.rand.IntN(60)).Add(time.Duration(m.last)))
			x.Attempts = m.last
			out = append(out, failed(o.rec, x, o.row))
		default:
			m.last++
			out = append(out, failed(o.rec, buried(m.last), o.row))
		}
	}
	p.open = slices.Clone(p.open[n:])
	return out
}

// releaseSome releases some of what is held, and takes it: it is due at once.
func (m *model) releaseSome(p *pair) {
	m.flush()
	var out []event.Outcome
	for _, k := range p.ref.keyed(event.Held, 0, 1<<20) {
		if m.rand.IntN(2) == 0 {
			out = append(out, released(k.Offset))
		}
	}
	m.note("%s releases %v", p.name, out)
	p.real.settle(out...)
	p.ref.settle(out...)
	m.dueSome(p, 1<<20)
}

func (m *model) settleSome(p *pair) {
	out := m.outcomes(p)
	m.note("%s settles %v", p.name, out)
	p.real.settleLazily(out...)
	p.ref.settleLazily(out...)
}

func (m *model) readSome(p *pair) {
	_, head := p.ref.sub.Position()
	upTo, limit := everything, 1+m.rand.IntN(8)
	if m.rand.IntN(3) == 0 {
		upTo = event.Offset(m.rand.Int64N(int64(head) + 2))
	}
	got, want := p.real.upTo(upTo, limit), p.ref.upTo(upTo, limit)
	m.note("%s reads %d up to %d: %v", p.name, limit, upTo, ids(want))
	m.same(p.name+": next", got, want)
	for _, rec := range want {
		p.open = append(p.open, open{rec, false})
	}
}

// upTo reads until limit records came or there are no more; a log may answer with fewer at a time.
func (r *reader) upTo(upTo event.Offset, limit int) []event.Record {
	var all []event.Record
	for len(all) < limit {
		recs := r.next(upTo, limit-len(all))
		if len(recs) == 0 {
			break
		}
		all = append(all, recs...)
	}
	return all
}

func (m *model) dueSome(p *pair, limit int) {
	got, gotNext := p.real.due(at(m.now), limit)
	want, wantNext := p.ref.due(at(m.now), limit)
	m.note("%s is due %d at %d: %v", p.name, limit, m.now, ids(records(want)))
	if limit > len(want) { // all of them came: those that were redriven have no order of their own
		byPlace(got)
		byPlace(want)
	}
	m.same(p.name+": due", redriven(got), redriven(want))
	m.same(p.name+": due next", gotNext, wantNext)
	for _, x := range want {
		p.open = append(p.open, open{x.Record, true})
	}
}

func byPlace(x []event.Exceptional) {
	slices.SortFunc(x, func(a, b event.Exceptional) int { return cmp.Compare(a.Record.Offset, b.Record.Offset) })
}

// redriven leaves out when a redriven event is due, which the contract does not fix.
func redriven(x []event.Exceptional) []event.Exceptional {
	for i := range x {
		if x[i].Exception.Reason == event.ReasonRedrive {
			x[i].Exception.NextAt = time.Time{}
		}
	}
	return x
}

// redriveSome redrives the same events in both, and takes them, so that their unknown times play no part later.
func (m *model) redriveSome() {
	q, refQ := m.someDead()
	m.note("redrive %v", q.IDs)
	if len(q.IDs) == 0 {
		return
	}
	m.redrive(q, len(q.IDs))
	if _, err := m.ref.Redrive(m.Context(), refQ); err != nil {
		m.Fatalf("redrive in the model: %v", err)
	}
	for _, p := range m.pairs {
		m.dueSome(p, 1<<20)
	}
}

// dropSome drops the same events in both.
func (m *model) dropSome() {
	q, refQ := m.someDead()
	m.note("drop %v", q.IDs)
	if len(q.IDs) == 0 {
		return
	}
	m.drop(q, len(q.IDs))
	if _, err := m.ref.Drop(m.Context(), refQ); err != nil {
		m.Fatalf("drop in the model: %v", err)
	}
}

// someDead selects about half of the dead letters, by the ids that each log gave them.
func (m *model) someDead() (q, refQ event.DeadQuery) {
	m.flush()
	real, ref := m.dead(event.DeadQuery{}), m.ref.dead(event.DeadQuery{})
	for _, d := range ref {
		i := slices.IndexFunc(real, func(r event.DeadLetter) bool { return place(r) == place(d) })
		if i >= 0 && m.rand.IntN(2) == 0 {
			q.IDs, refQ.IDs = append(q.IDs, real[i].ID), append(refQ.IDs, d.ID)
		}
	}
	return q, refQ
}

func place(d event.DeadLetter) string { return fmt.Sprintf("%s %09d", d.Subscription, d.Record.Offset) }

// toggle takes a subscription away, appends, and names it again: it goes on with what it was owed before, from the beginning.
func (m *model) toggle(p *pair) {
	m.note("%s goes away and comes back", p.name)
	m.flush()
	full := m.layout
	var without []event.Topic
	for _, t := range full {
		subscriptions := slices.DeleteFunc(slices.Clone(t.Subscriptions), func(n string) bool { return n == p.name })
		without = append(without, topic(t.Name, subscriptions...))
	}
	for _, l := range [][]event.Topic{without, full} {
		if err := m.log.Configure(m.Context(), event.Layout{Topics: l}); err != nil {
			m.Fatalf("configure: %v", err)
		}
		if err := m.ref.Configure(m.Context(), event.Layout{Topics: l}); err != nil {
			m.Fatalf("configure the model: %v", err)
		}
		m.commitSome(p)
	}
	m.renew(p)
}

// renew begins to read anew: all that is not settled comes again, and what is due comes at once (see redriveSome).
func (m *model) renew(p *pair) {
	p.real, p.ref, p.open = m.subscribe(p.name), p.ref.subscribe(p.name), nil
	m.dueSome(p, 1<<20)
}

func (m *model) restart() {
	m.note("restart")
	if err := m.close(); err != nil {
		m.Fatalf("close: %v", err)
	}
	if err := m.ref.Close(); err != nil {
		m.Fatalf("close the model: %v", err)
	}
	m.open()
	m.ref = m.ref.Reopen()
	m.begin()
	for _, p := range m.pairs {
		m.dueSome(p, 1<<20)
	}
}

// compare looks at everything that can be seen without changing it.
func (m *model) compare() {
	m.flush()
	if _, err := m.ref.Commit(m.Context(), event.Commit{}); err != nil {
		m.Fatalf("commit to the model: %v", err)
	}
	for _, p := range m.pairs {
		cursor, head := p.ref.sub.Position()
		p.real.position(cursor, head)
		m.same(p.name+": rows", p.real.rows(1, head), p.ref.rows(1, head))
		for _, state := range []event.ExceptionState{event.Retry, event.Dead, event.Held} {
			m.same(p.name+": keyed", p.real.keyed(state, head/2, 3), p.ref.keyed(state, head/2, 3))
		}
	}
	if m.can.Dead {
		m.same("dead letters", withoutID(m.dead(event.DeadQuery{})), withoutID(m.ref.dead(event.DeadQuery{})))
	}
	if m.can.Stateful {
		want, err := m.ref.State(m.Context(), "o")
		if err != nil {
			m.Fatalf("state of the model: %v", err)
		}
		m.hasState("o", want)
	}
}

// withoutID makes dead letters of two logs comparable: each numbers them in its own way.
func withoutID(list []event.DeadLetter) []event.DeadLetter {
	slices.SortFunc(list, func(a, b event.DeadLetter) int { return strings.Compare(place(a), place(b)) })
	for i := range list {
		list[i].ID = 0
	}
	return list
}

// finish settles all that is left: nothing may be missing, nothing may be too much.
func (m *model) finish() {
	m.note("finish")
	if m.can.Dead {
		n := len(m.ref.dead(event.DeadQuery{}))
		m.redrive(event.DeadQuery{}, n)
		if _, err := m.ref.Redrive(m.Context(), event.DeadQuery{}); err != nil {
			m.Fatalf("redrive in the model: %v", err)
		}
	}
	m.now += 1 << 20
	for _, p := range m.pairs {
		for _, k := range p.ref.keyed(event.Held, 0, 1<<20) {
			p.real.settle(released(k.Offset))
			p.ref.settle(released(k.Offset))
		}
		m.dueSome(p, 1<<20)
		got, want := p.real.upTo(everything, 1<<20), p.ref.upTo(everything, 1<<20)
		m.same(p.name+": the rest", got, want)
		for _, rec := range want {
			p.open = append(p.open, open{rec, false})
		}
		for _, o := range p.open {
			p.real.settleLazily(event.Outcome{Offset: o.rec.Offset, Row: o.row})
		}
		p.real.flush()
		_, head := p.ref.sub.Position()
		p.real.position(head, head)
		p.real.hasRows()
		p.real.nothing()
	}
}

func (m *model) same(what string, got, want any) {
	m.Helper()
	if reflect.DeepEqual(got, want) {
		return
	}
	if d := gocmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		m.Errorf("%s differ from the model (-want +got):\n%.3000s", what, d)
	}
}
