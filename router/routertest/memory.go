package routertest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/router"
)

// Memory is a log for tests: the contract in the plainest words, with every capability (a restart is Close and Reopen), no
// bound and no speed. The suite's random test compares other logs with it.
type Memory struct {
	mu      sync.Mutex // guards everything below, and all that the subscriptions hold
	closed  bool
	topics  map[string]*memoryTopic
	subs    map[string]*memorySubscription
	states  map[string]map[string][]byte
	lastRow int64
	refuse  func(event.Commit) error
}

type memoryTopic struct {
	name    string
	named   bool
	records []event.Record // offset n is at n-1
	dedupe  *event.Dedupe
	keys    map[string]memoryKey
	owner   *memoryTopic // whose dedupe and keys count here
}

// memoryKey is what is known of a dedupe key.
type memoryKey struct {
	id   string
	body []byte
}

type memoryRow struct {
	id     int64
	x      event.Exception
	handed bool
}

// memorySubscription is a reader of a Memory.
type memorySubscription struct {
	log    *Memory
	name   string
	topic  *memoryTopic
	named  bool
	after  event.Offset          // where it began, or was named again
	done   map[event.Offset]bool // settled, or not owed
	rows   map[event.Offset]*memoryRow
	read   event.Offset // of the record that Next returned last
	cursor event.Offset
	wake   chan struct{}

	dropped int64 // dead letters
}

// longAgo is when a redriven event is due: Memory has no clock.
var longAgo = time.Unix(1, 0).UTC()

// NewMemory returns an empty log.
func NewMemory() *Memory {
	return &Memory{topics: map[string]*memoryTopic{}, subs: map[string]*memorySubscription{}, states: map[string]map[string][]byte{}}
}

// Refuse makes every later Commit return what f says about it, unless that is nil; refused commits change nothing. A nil f ends
// that.
func (m *Memory) Refuse(f func(event.Commit) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refuse = f
}

// Close makes all calls fail with event.ErrClosed. What the log holds stays.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// Reopen is a new start on what the log held when it was closed; it must be configured again. Readers of before get nothing
// more.
func (m *Memory) Reopen() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	again := &Memory{topics: m.topics, subs: map[string]*memorySubscription{}, states: m.states, lastRow: m.lastRow}
	for name, s := range m.subs {
		c := *s
		c.log, c.wake = again, make(chan struct{}, 1)
		c.begin()
		again.subs[name] = &c
	}
	return again
}

// Can has everything.
func (m *Memory) Can() event.Capabilities {
	return event.Capabilities{Durable: true, Atomic: true, Shared: true, Ordered: true, Stateful: true, Dead: true, Reopening: true,
		Dedupe: true, Keyed: true}
}

// enter begins a call; unless it fails, the caller unlocks mu.
func (m *Memory) enter(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", event.ErrBusy, context.Cause(ctx))
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return event.ErrClosed
	}
	return nil
}

// Configure implements router.Log.
func (m *Memory) Configure(ctx context.Context, l event.Layout) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	owners, err := l.KeysOf()
	if err != nil {
		return err
	}
	was := map[string]bool{}
	for name, s := range m.subs {
		was[name], s.named = s.named, false
	}
	for _, t := range m.topics {
		t.named = false
	}
	for _, want := range l.Topics {
		t := m.topics[want.Name]
		if t == nil {
			t = &memoryTopic{name: want.Name}
			m.topics[want.Name] = t
		}
		t.named, t.dedupe, t.owner = true, want.Dedupe, t
		if t.keys == nil || t.dedupe == nil {
			t.keys = map[string]memoryKey{}
		}
		for _, name := range want.Subscriptions {
			m.name(name, t, was[name])
		}
	}
	for name, owner := range owners {
		m.topics[name].owner = m.topics[owner]
	}
	m.leave()
	return nil
}

// name gives a subscription its topic. One that was not named until now is owed nothing of what was appended meanwhile.
func (m *Memory) name(name string, t *memoryTopic, was bool) {
	s := m.subs[name]
	if s == nil {
		s = &memorySubscription{
			log: m, name: name, topic: t, done: map[event.Offset]bool{}, rows: map[event.Offset]*memoryRow{}, wake: make(chan struct{}, 1),
		}
		m.subs[name] = s
	}
	s.named = true
	if !was {
		for o := s.after + 1; o <= t.head(); o++ {
			s.done[o] = true
		}
		s.advance()
		s.begin()
	}
}

// leave remembers where the subscriptions that are no longer named were left: they are owed what is there now.
func (m *Memory) leave() {
	for _, s := range m.subs {
		if s.named {
			s.after = everything
		} else {
			s.after = min(s.after, s.topic.head())
		}
	}
}

// begin makes a reader start anew: what is not settled comes again.
func (s *memorySubscription) begin() {
	s.read = 0
	for _, row := range s.rows {
		row.handed = false
	}
}

func (t *memoryTopic) head() event.Offset { return event.Offset(len(t.records)) }

// Commit implements router.Log.
func (m *Memory) Commit(ctx context.Context, c event.Commit) ([]event.Appended, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	if err := m.check(c); err != nil {
		return nil, err
	}
	all := make([]event.Appended, len(c.Appends))
	if err := m.decide(c, all); err != nil {
		return nil, err
	}
	for i, a := range c.Appends {
		t := m.topics[a.Topic]
		all[i].First = t.head() + 1
		for _, e := range a.Rest(all[i].Duplicates) {
			t.records = append(t.records, event.Record{Offset: t.head() + 1, Event: e})
		}
		m.signal(t)
	}
	for _, s := range c.Settles {
		m.subs[s.Subscription].settle(s.Outcomes)
	}
	for _, s := range c.States {
		m.remember(s)
	}
	return all, nil
}

func (m *Memory) check(c event.Commit) error {
	if m.refuse != nil {
		if err := m.refuse(c); err != nil {
			return err
		}
	}
	for _, a := range c.Appends {
		t := m.topics[a.Topic]
		if t == nil || !t.named {
			return fmt.Errorf("unknown topic %q", a.Topic)
		}
		if a.Keys != nil && (t.owner.dedupe == nil || len(a.Keys) != len(a.Events)) {
			return fmt.Errorf("keys that do not fit topic %q", a.Topic)
		}
	}
	for _, s := range c.Settles {
		if m.subs[s.Subscription] == nil {
			return fmt.Errorf("unknown subscription %q", s.Subscription)
		}
	}
	return nil
}

// decide finds the duplicates of a commit, in the plainest way: by comparing keys. Windows and bounds are not this log's.
func (m *Memory) decide(c event.Commit, all []event.Appended) error {
	fresh := map[*memoryTopic]map[string]memoryKey{}
	for i, a := range c.Appends {
		t := m.topics[a.Topic].owner
		if fresh[t] == nil {
			fresh[t] = maps.Clone(t.keys)
		}
		for j, key := range a.Keys {
			if key == "" {
				continue
			}
			first, ok := fresh[t][t.dedupe.Name+"\x00"+key]
			switch {
			case !ok:
				fresh[t][t.dedupe.Name+"\x00"+key] = memoryKey{a.Events[j].ID, a.Body}
				continue
			case t.dedupe.SameID && a.Body != nil && first.body != nil && !bytes.Equal(a.Body, first.body):
				return event.ErrConflict
			case all[i].Duplicates == nil:
				all[i].Duplicates = map[int]string{}
			}
			all[i].Duplicates[j] = first.id
		}
	}
	for t, keys := range fresh {
		t.keys = keys
	}
	return nil
}

func (m *Memory) remember(s event.State) {
	if m.states[s.Owner] == nil {
		m.states[s.Owner] = map[string][]byte{}
	}
	for k, v := range s.Changes {
		if v == nil {
			delete(m.states[s.Owner], k)
			continue
		}
		m.states[s.Owner][k] = append([]byte{}, v...)
	}
}

func (m *Memory) signal(t *memoryTopic) {
	for _, s := range m.subs {
		if s.named && s.topic == t {
			s.signal()
		}
	}
}

func (s *memorySubscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *memorySubscription) settle(outcomes []event.Outcome) {
	for _, o := range outcomes {
		s.done[o.Offset] = true
		if o.Exception == nil {
			delete(s.rows, o.Offset)
			continue
		}
		row := s.rows[o.Offset]
		if o.Exception.State == event.Released {
			if row != nil && row.x.State == event.Held {
				row.x.State, row.x.NextAt = event.Retry, event.AtOnce
				s.signal()
			}
			continue
		}
		if row == nil {
			s.log.lastRow++
			row = &memoryRow{id: s.log.lastRow}
			s.rows[o.Offset] = row
		}
		row.x, row.handed = *o.Exception, false
		s.signal()
	}
	s.advance()
}

func (s *memorySubscription) advance() {
	for s.cursor < s.topic.head() && s.done[s.cursor+1] {
		s.cursor++
	}
}

// Subscribe implements router.Log.
func (m *Memory) Subscribe(name string) (router.Subscription, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.subs[name]
	switch {
	case m.closed:
		return nil, event.ErrClosed
	case s == nil || !s.named:
		return nil, fmt.Errorf("unknown subscription %q", name)
	}
	s.begin()
	s.signal()
	return s, nil
}

// State implements router.Log.
func (m *Memory) State(ctx context.Context, owner string) (map[string][]byte, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	state := map[string][]byte{}
	for k, v := range m.states[owner] {
		state[k] = slices.Clone(v)
	}
	return state, nil
}

// DeadLetters implements router.Log.
func (m *Memory) DeadLetters(ctx context.Context, q event.DeadQuery) ([]event.DeadLetter, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	return m.dead(q), nil
}

func (m *Memory) dead(q event.DeadQuery) []event.DeadLetter {
	var list []event.DeadLetter
	for _, s := range m.subs {
		for o, row := range s.rows {
			if row.x.State == event.Dead {
				list = append(list, event.DeadLetter{
					ID: row.id, Subscription: s.name, Topic: s.topic.name,
					Exceptional: event.Exceptional{Record: s.topic.records[o-1], Exception: row.x},
				})
			}
		}
	}
	list = slices.DeleteFunc(list, func(d event.DeadLetter) bool {
		return d.ID <= q.After || !q.Selects(&d)
	})
	slices.SortFunc(list, func(a, b event.DeadLetter) int { return cmp.Compare(a.ID, b.ID) })
	if q.Limit > 0 && len(list) > q.Limit {
		list = list[:q.Limit]
	}
	return list
}

// Redrive implements router.Log.
func (m *Memory) Redrive(ctx context.Context, q event.DeadQuery) (int, error) {
	if err := m.enter(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	list := m.dead(q)
	for _, d := range list {
		s := m.subs[d.Subscription]
		row := s.rows[d.Record.Offset]
		row.x.State, row.x.Reason, row.x.Counted = event.Retry, event.ReasonRedrive, 0
		row.x.NextAt, row.x.FirstAt, row.handed = longAgo, time.Time{}, false
		s.signal()
	}
	return len(list), nil
}

// Drop implements router.Log.
func (m *Memory) Drop(ctx context.Context, q event.DeadQuery) (int, error) {
	if err := m.enter(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	list := m.dead(q)
	for _, d := range list {
		s := m.subs[d.Subscription]
		delete(s.rows, d.Record.Offset)
		s.dropped++
		s.signal()
	}
	return len(list), nil
}

// Next implements router.Subscription.
func (s *memorySubscription) Next(ctx context.Context, upTo event.Offset, limit int) ([]event.Record, error) {
	if err := s.log.enter(ctx); err != nil {
		return nil, err
	}
	defer s.log.mu.Unlock()
	var recs []event.Record
	size := 0
	for o := s.read + 1; o <= min(upTo, s.topic.head()) && len(recs) < limit; o++ {
		rec := s.topic.records[o-1]
		if !s.done[o] {
			if size += rec.Event.Size(); size > 1<<20 && len(recs) > 0 {
				break
			}
			recs = append(recs, rec)
		}
		s.read = o
	}
	return recs, nil
}

// Due implements router.Subscription.
func (s *memorySubscription) Due(ctx context.Context, now time.Time, limit int) ([]event.Exceptional, time.Time, error) {
	if err := s.log.enter(ctx); err != nil {
		return nil, time.Time{}, err
	}
	defer s.log.mu.Unlock()
	offsets := slices.DeleteFunc(slices.Collect(maps.Keys(s.rows)), func(o event.Offset) bool {
		return s.rows[o].handed || s.rows[o].x.State != event.Retry
	})
	slices.SortFunc(offsets, func(a, b event.Offset) int {
		return cmp.Or(s.rows[a].x.NextAt.Compare(s.rows[b].x.NextAt), cmp.Compare(a, b))
	})
	var due []event.Exceptional
	for _, o := range offsets {
		row := s.rows[o]
		if row.x.NextAt.After(now) || len(due) == limit {
			return due, row.x.NextAt, nil
		}
		row.handed = true
		due = append(due, event.Exceptional{Record: s.topic.records[o-1], Exception: row.x})
	}
	return due, time.Time{}, nil
}

// Settle implements router.Subscription; it takes effect at once.
func (s *memorySubscription) Settle(ctx context.Context, outcomes []event.Outcome) error {
	if err := s.log.enter(ctx); err != nil {
		return err
	}
	defer s.log.mu.Unlock()
	s.settle(outcomes)
	return nil
}

// Row implements router.Subscription.
func (s *memorySubscription) Row(ctx context.Context, o event.Offset) (*event.Exception, error) {
	if err := s.log.enter(ctx); err != nil {
		return nil, err
	}
	defer s.log.mu.Unlock()
	if row := s.rows[o]; row != nil {
		x := row.x
		return &x, nil
	}
	return nil, nil
}

// Rows implements router.Subscription.
func (s *memorySubscription) Rows(ctx context.Context, from, to event.Offset) ([]event.Offset, error) {
	if err := s.log.enter(ctx); err != nil {
		return nil, err
	}
	defer s.log.mu.Unlock()
	rows := slices.DeleteFunc(slices.Sorted(maps.Keys(s.rows)), func(o event.Offset) bool { return o < from || o > to })
	return rows, nil
}

// Keyed implements router.Subscription.
func (s *memorySubscription) Keyed(ctx context.Context, state event.ExceptionState, after event.Offset, limit int) ([]event.Keyed, error) {
	if err := s.log.enter(ctx); err != nil {
		return nil, err
	}
	defer s.log.mu.Unlock()
	var keyed []event.Keyed
	for _, o := range slices.Sorted(maps.Keys(s.rows)) {
		if x := s.rows[o].x; x.State == state && x.Key != nil && o > after && len(keyed) < limit {
			keyed = append(keyed, event.Keyed{Offset: o, Key: x.Key})
		}
	}
	return keyed, nil
}

// Dropped implements router.Subscription.
func (s *memorySubscription) Dropped() int64 {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.dropped
}

// Wake implements router.Subscription.
func (s *memorySubscription) Wake() <-chan struct{} { return s.wake }

// Position implements router.Subscription.
func (s *memorySubscription) Position() (cursor, head event.Offset) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.cursor, s.topic.head()
}
