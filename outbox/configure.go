package outbox

import (
	"context"
	"database/sql/driver"
	"fmt"
	"maps"
	"slices"

	"github.com/millrace-run/millrace/event"
)

// load reads topics and subscriptions at start.
func (b *Outbox) load(c *conn) error {
	if err := b.loadSecret(c); err != nil {
		return err
	}
	byID := map[int64]*topic{}
	err := c.each("SELECT id, name, purged, freed FROM topics", func(columns []driver.Value) error {
		t := &topic{id: columns[0].(int64), name: columns[1].(string)}
		t.purged.Store(columns[2].(int64))
		t.freed.Store(columns[3].(int64))
		byID[t.id], b.topics[t.name] = t, t
		return nil
	})
	if err != nil {
		return err
	}
	for _, t := range byID {
		t.grow(t.purgedTo())
		t.total.Store(t.freed.Load())
		err := c.each("SELECT first, n, at, total FROM segments WHERE topic = ? ORDER BY first DESC LIMIT 1",
			func(columns []driver.Value) error {
				p := toPlace(columns)
				t.grow(p.last())
				t.total.Store(p.total)
				return nil
			}, t.id)
		if err != nil {
			return err
		}
	}
	return c.each("SELECT id, name, topic, cursor, ahead, ended, gaps FROM subscriptions", func(columns []driver.Value) error {
		return b.loadSubscription(columns, byID)
	})
}

func (b *Outbox) loadSubscription(columns []driver.Value, byID map[int64]*topic) error {
	s := b.newSubscription(columns[0].(int64), columns[1].(string), byID[columns[2].(int64)])
	if s.topic == nil {
		return fmt.Errorf("subscription %q has no topic: %w", s.name, errDamaged)
	}
	s.cursor.at = event.Offset(columns[3].(int64))
	ahead, _ := columns[4].([]byte)
	if err := s.cursor.setAhead(ahead); err != nil {
		return err
	}
	if until, ok := columns[5].(int64); ok {
		s.ended, s.until = true, event.Offset(until)
	}
	gaps, _ := columns[6].([]byte)
	if err := s.cursor.setGaps(gaps); err != nil {
		return err
	}
	s.topic.attach(s)
	b.subscriptions[s.name] = s
	return nil
}

func (b *Outbox) newSubscription(id int64, name string, t *topic) *subscription {
	return &subscription{
		box: b, id: id, name: name, topic: t, signal: make(chan struct{}, 1),
		out: map[event.Offset]bool{}, changing: map[event.Offset]bool{},
	}
}

// Configure makes the outbox have these topics and subscriptions, in one transaction. New subscriptions begin where the layout
// says, else behind the last event of their topic; those that are no longer named keep what they are owed.
func (b *Outbox) Configure(ctx context.Context, l event.Layout) error {
	return b.do(ctx, func(c *conn) (func(), error) { return b.configure(c, l) })
}

// do runs work in a transaction of its own.
func (b *Outbox) do(ctx context.Context, work func(c *conn) (func(), error)) error {
	r := &request{work: work, done: make(chan error, 1)}
	if err := b.queue.put(ctx, r); err != nil {
		return err
	}
	return b.queue.wait(ctx, r)
}

// configure runs on the writer's goroutine, so nothing moves meanwhile. Memory changes only in what it returns.
func (b *Outbox) configure(c *conn, l event.Layout) (func(), error) {
	var publish []func()
	topics := map[string]*topic{}
	named := map[string]bool{}
	for _, want := range l.Topics {
		t, err := b.admitTopic(c, want.Name)
		if err != nil {
			return nil, err
		}
		topics[t.name] = t
		for _, name := range want.Subscriptions {
			named[name] = true
			more, err := b.admit(c, t, name, want.From[name])
			if err != nil {
				return nil, err
			}
			publish = append(publish, more)
		}
	}
	more, err := b.dismiss(c, named)
	if err != nil {
		return nil, err
	}
	keys, err := b.configureKeys(c, l, topics)
	if err != nil {
		return nil, err
	}
	return func() { b.configured(topics, append(append(publish, more...), keys)) }, nil
}

// configured takes over what was committed.
func (b *Outbox) configured(topics map[string]*topic, changes []func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.Copy(b.topics, topics)
	for name, t := range b.topics {
		t.named.Store(topics[name] != nil)
	}
	for _, change := range changes {
		change()
	}
}

// Topics returns the names of all topics that ever had an event, those that are no longer named too, in order.
func (b *Outbox) Topics() []string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var names []string
	for name, t := range b.topics {
		if t.head() > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (b *Outbox) admitTopic(c *conn, name string) (*topic, error) {
	if t := b.topic(name); t != nil {
		return t, nil
	}
	id, err := insert(c, "INSERT INTO topics (name) VALUES (?)", name)
	return &topic{id: id, name: name}, err
}

// admit makes a subscription, or takes one up again that was not named for a while.
func (b *Outbox) admit(c *conn, t *topic, name string, from event.Start) (publish func(), err error) {
	s := b.subscription(name)
	if s == nil {
		cursor, tell, err := b.startOf(c, t, name, from)
		if err != nil {
			return nil, err
		}
		id, err := insert(c, "INSERT INTO subscriptions (name, topic, cursor) VALUES (?, ?, ?)", name, t.id, int64(cursor.at))
		s = b.newSubscription(id, name, t)
		s.cursor = cursor
		return func() { b.subscriptions[name] = s; t.attach(s); tell() }, err
	}
	if s.topic != t {
		return nil, fmt.Errorf("subscription %q reads topic %q and cannot read %q", name, s.topic.name, t.name)
	}
	cursor := s.snapshot()
	if s.ended && t.head() > s.until {
		cursor.gaps = append(cursor.gaps[:len(cursor.gaps):len(cursor.gaps)], gap{s.until + 1, t.head()})
		cursor.advance()
	}
	err = c.exec("UPDATE subscriptions SET ended = NULL, cursor = ?, ahead = ?, gaps = ? WHERE id = ?",
		int64(cursor.at), cursor.aheadBytes(), cursor.gapBytes(), s.id)
	return func() { s.moved(cursor); s.end(false, 0) }, err
}

// dismiss ends the subscriptions that are not named.
func (b *Outbox) dismiss(c *conn, named map[string]bool) (publish []func(), err error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for name, s := range b.subscriptions {
		if named[name] || s.ended {
			continue
		}
		until := s.topic.head()
		if err := c.exec("UPDATE subscriptions SET ended = ? WHERE id = ?", int64(until), s.id); err != nil {
			return nil, err
		}
		publish = append(publish, func() { s.end(true, until) })
	}
	return publish, nil
}

func (s *subscription) end(ended bool, until event.Offset) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.until = ended, until
}

// insert runs an INSERT and returns the id of the row.
func insert(c *conn, query string, args ...driver.Value) (int64, error) {
	if err := c.exec(query, args...); err != nil {
		return 0, err
	}
	return c.integer("SELECT last_insert_rowid()")
}
