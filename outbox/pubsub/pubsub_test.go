package pubsub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/outbox"
	"github.com/millrace-run/millrace/outbox/pubsub"
)

// receive is the next message, which must come.
func receive(t testing.TB, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case m, ok := <-messages:
		if !ok {
			t.Fatal("the channel is closed")
		}
		return m
	case <-time.After(20 * time.Second):
		t.Fatal("no message came")
	}
	return nil
}

// take receives and acknowledges n messages, and returns their UUIDs.
func take(t testing.TB, messages <-chan *message.Message, n int) string {
	t.Helper()
	var ids []string
	for range n {
		m := receive(t, messages)
		ids = append(ids, m.UUID)
		m.Ack()
	}
	return strings.Join(ids, " ")
}

// nothing fails if a message comes within a moment.
func nothing(t testing.TB, messages <-chan *message.Message) {
	t.Helper()
	select {
	case m, ok := <-messages:
		if ok {
			t.Fatalf("message %q came too early", m.UUID)
		}
		t.Fatal("the channel is closed")
	case <-time.After(30 * time.Millisecond):
	}
}

func ids(from, to int) (list []string) {
	for i := from; i <= to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

func want(t testing.TB, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestBytes looks at what comes out of memory, and out of the file after a restart.
func TestBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	all := []*message.Message{
		{UUID: "plain", Payload: []byte("x"), Metadata: message.Metadata{"key": "value"}},
		{UUID: "", Payload: []byte{}, Metadata: message.Metadata{"": "", "empty": ""}},
		{UUID: "none", Payload: nil, Metadata: message.Metadata{}},
		{UUID: "\x00\xff", Payload: []byte{0, 0xff, '\n'}},
		{UUID: "odd", Metadata: message.Metadata{"Upper-Case_name": "\xfe\x00", "id": "a", "data": "b", "ä": "ö"}},
		{UUID: "large", Payload: bytes.Repeat([]byte("large"), 1<<19), Metadata: message.Metadata{"key": strings.Repeat("v", 1<<16)}},
	}
	check := func(p *pubsub.PubSub, group string) {
		t.Helper()
		messages := subscribed(t, p, group, "t")
		for _, sent := range all {
			m := receive(t, messages)
			if !m.Equals(sent) || (m.Payload == nil) != (sent.Payload == nil) || !maps.Equal(m.Metadata, sent.Metadata) || m.Metadata == nil {
				t.Errorf("sent %.100v, got %.100v", sent, m)
			}
			m.Ack()
		}
	}
	t.Run("memory", func(t *testing.T) {
		p := reopened(t, path, pubsub.Config{})
		for _, group := range []string{"a", "b"} {
			if err := subscriber(t, p, group).SubscribeInitialize("t"); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Publisher().Publish("t", all...); err != nil {
			t.Fatal(err)
		}
		check(p, "a")
	})
	t.Run("file", func(t *testing.T) { check(reopened(t, path, pubsub.Config{}), "b") })
}

func TestMessagesAreCopies(t *testing.T) {
	p := opened(t, pubsub.Config{})
	a, b := subscribed(t, p, "a", "t"), subscribed(t, p, "b", "t")
	sent := message.NewMessage("1", []byte("payload"))
	sent.Metadata.Set("key", "value")
	if err := p.Publisher().Publish("t", sent); err != nil {
		t.Fatal(err)
	}
	ofA := receive(t, a)
	for _, m := range []*message.Message{sent, ofA} {
		copy(m.Payload, "changed")
		m.Metadata.Set("key", "changed")
	}
	ofA.Nack()
	for _, m := range []*message.Message{receive(t, a), receive(t, b)} {
		want(t, string(m.Payload)+" "+m.Metadata.Get("key"), "payload value")
	}
}

// TestGroupsShareMemory: what one group is through with is still there for another that comes to it later.
func TestGroupsShareMemory(t *testing.T) {
	p := opened(t, pubsub.Config{})
	late := subscriber(t, p, "late")
	if err := late.SubscribeInitialize("t"); err != nil {
		t.Fatal(err)
	}
	early := subscribed(t, p, "early", "t")
	var messages []*message.Message
	for _, id := range ids(1, 5) {
		messages = append(messages, message.NewMessage(id, nil))
	}
	if err := p.Publisher().Publish("t", messages...); err != nil {
		t.Fatal(err)
	}
	want(t, take(t, early, 5), "1 2 3 4 5")
	want(t, take(t, subscribed(t, p, "late", "t"), 5), "1 2 3 4 5")
}

// TestFirstSubscribe shows from when on a group is owed messages.
func TestFirstSubscribe(t *testing.T) {
	p := opened(t, pubsub.Config{})
	publish(t, p, "t", "1")
	late := subscriber(t, p, "late")
	if err := late.SubscribeInitialize("t"); err != nil {
		t.Fatal(err)
	}
	publish(t, p, "t", "2", "3")
	want(t, take(t, subscribed(t, p, "late", "t"), 2), "2 3")
}

// TestNames has topics and groups that would be one if their names were only joined.
func TestNames(t *testing.T) {
	p := opened(t, pubsub.Config{})
	names := [][2]string{{"a", "b/c"}, {"a/b", "c"}, {"a%2Fb", "c"}, {"a%2Fb/c", "c"}, {"", "c"}}
	for _, n := range names[:4] {
		if err := subscriber(t, p, n[1]).SubscribeInitialize(n[0]); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range names[:4] {
		publish(t, p, n[0], n[0])
		want(t, take(t, subscribed(t, p, n[1], n[0]), 1), n[0])
	}
	if err := subscriber(t, p, "c").SubscribeInitialize(""); err == nil {
		t.Error("a topic without a name was taken")
	}
	if err := p.Publisher().Publish("", message.NewMessage("1", nil)); err == nil {
		t.Error("a topic without a name was taken")
	}
}

// TestRestart closes everything with one message in hand.
func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	t.Run("before", func(t *testing.T) {
		p := reopened(t, path, pubsub.Config{})
		messages := subscribed(t, p, "g", "t")
		publish(t, p, "t", ids(1, 9)...)
		want(t, take(t, messages, 4), "1 2 3 4")
		want(t, receive(t, messages).UUID, "5")
	})
	t.Run("after", func(t *testing.T) {
		p := reopened(t, path, pubsub.Config{})
		publish(t, p, "t", "10") // the group need not subscribe before it is owed what comes
		messages := subscribed(t, p, "g", "t")
		want(t, take(t, messages, 6), "5 6 7 8 9 10")
		nothing(t, messages)
	})
}

// TestAckIsOnDisk looks at the file as a crash right after Close of a Subscriber would leave it.
func TestAckIsOnDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	box, err := outbox.Open(t.Context(), outbox.Options{Path: path, Clock: never{}}) // nothing is settled but by a commit
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = box.Close() }()
	p, err := pubsub.New(t.Context(), box, pubsub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	const n = 50
	if err := subscriber(t, p, "g").SubscribeInitialize("t"); err != nil {
		t.Fatal(err)
	}
	publish(t, p, "t", ids(1, n)...)
	for i := range event.Offset(n) {
		s := subscriber(t, p, "g")
		messages, err := s.Subscribe(t.Context(), "t")
		if err != nil {
			t.Fatal(err)
		}
		want(t, take(t, messages, 1), fmt.Sprint(i+1))
		if at := cursor(t, box); at != i {
			t.Fatalf("the cursor is at %d already: this test shows nothing", at)
		}
		if err := s.Close(); err != nil || cursor(t, box) != i+1 {
			t.Fatalf("after Close of %d the cursor is at %d (%v)", i+1, cursor(t, box), err)
		}
	}
}

// never is a clock whose timers do not fire.
type never struct{ event.SystemClock }

func (never) After(time.Duration) (<-chan time.Time, func()) { return nil, func() {} }

// cursor is that of the only subscription, as far as it is on disk.
func cursor(t *testing.T, box *outbox.Outbox) event.Offset {
	t.Helper()
	list, err := box.Status(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	return list[0].Cursor
}

// TestOneAfterTheOther has two subscriptions of a group; only one of them gets a message until it is settled or the one ends.
func TestOneAfterTheOther(t *testing.T) {
	for name, end := range map[string]func(cancel func(), s *pubsub.Subscriber){
		"cancel": func(cancel func(), _ *pubsub.Subscriber) { cancel() },
		"close":  func(_ func(), s *pubsub.Subscriber) { _ = s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			p := opened(t, pubsub.Config{})
			s := subscriber(t, p, "g")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			first, err := s.Subscribe(ctx, "t")
			if err != nil {
				t.Fatal(err)
			}
			publish(t, p, "t", ids(1, 3)...)
			held := receive(t, first)
			want(t, held.UUID, "1")
			second := subscribed(t, p, "g", "t")
			nothing(t, second)
			end(cancel, s)
			<-held.Context().Done()
			want(t, take(t, second, 3), "1 2 3")
			if _, open := <-first; open {
				t.Error("the channel is open")
			}
			held.Ack() // too late, and harmless
			publish(t, p, "t", "4")
			want(t, take(t, second, 1), "4")
		})
	}
}

func TestInFlight(t *testing.T) {
	p := opened(t, pubsub.Config{MaxInFlight: 3})
	messages := subscribed(t, p, "g", "t")
	publish(t, p, "t", ids(1, 5)...)
	hand := map[string]*message.Message{}
	for range 3 {
		m := receive(t, messages)
		hand[m.UUID] = m
	}
	if hand["1"] == nil || hand["2"] == nil || hand["3"] == nil {
		t.Fatal(hand)
	}
	nothing(t, messages)
	hand["2"].Nack() // keeps its place
	want(t, receive(t, messages).UUID, "2")
	nothing(t, messages)
	hand["3"].Ack()
	want(t, receive(t, messages).UUID, "4")
	nothing(t, messages)
}

// TestWindow holds one message while others go on, as far as the outbox can remember it.
func TestWindow(t *testing.T) {
	const n = event.Window + 200
	path := filepath.Join(t.TempDir(), "outbox.db")
	t.Run("held", func(t *testing.T) {
		p := reopened(t, path, pubsub.Config{MaxInFlight: 2})
		messages := subscribed(t, p, "g", "t")
		var all []*message.Message
		for _, id := range ids(1, n) {
			all = append(all, message.NewMessage(id, nil))
		}
		if err := p.Publisher().Publish("t", all...); err != nil {
			t.Fatal(err)
		}
		var held *message.Message
		for range event.Window {
			if m := receive(t, messages); m.UUID == "1" {
				held = m
			} else {
				m.Ack()
			}
		}
		nothing(t, messages)
		held.Ack()
		take(t, messages, n-event.Window)
	})
	t.Run("after", func(t *testing.T) {
		p := reopened(t, path, pubsub.Config{})
		publish(t, p, "t", "new")
		want(t, take(t, subscribed(t, p, "g", "t"), 1), "new")
	})
}

// clock is a clock that stands until it is advanced. It tells of each timer that is asked for.
type clock struct {
	asked chan time.Duration

	mu     sync.Mutex // guards all below
	now    time.Time
	timers map[chan time.Time]time.Time
}

func newClock() *clock {
	return &clock{asked: make(chan time.Duration, 100), now: time.Unix(1000, 0), timers: map[chan time.Time]time.Time{}}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) After(d time.Duration) (<-chan time.Time, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	timer := make(chan time.Time, 1)
	c.timers[timer] = c.now.Add(d)
	c.asked <- d
	return timer, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.timers, timer)
	}
}

// wait returns when a timer is asked for, which must be of this length.
func (c *clock) wait(t *testing.T, want time.Duration) {
	t.Helper()
	select {
	case d := <-c.asked:
		if d != want {
			t.Errorf("it waits for %v", d)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it does not wait")
	}
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for timer, at := range c.timers {
		if !c.now.Before(at) {
			timer <- c.now
			delete(c.timers, timer)
		}
	}
}

func TestNackDelay(t *testing.T) {
	clock := newClock()
	p := opened(t, pubsub.Config{NackDelay: time.Minute, Clock: clock})
	messages := subscribed(t, p, "g", "t")
	publish(t, p, "t", "1", "2")
	receive(t, messages).Nack()
	clock.wait(t, time.Minute)
	nothing(t, messages)
	clock.advance(time.Minute - 1)
	nothing(t, messages)
	clock.advance(1)
	want(t, take(t, messages, 2), "1 2")
}

// TestDamage shows that messages behind damage wait, that it is told once, and that other topics go on.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	t.Run("write", func(t *testing.T) {
		p := reopened(t, path, pubsub.Config{})
		subscribed(t, p, "g", "bad")
		subscribed(t, p, "g", "good")
		publish(t, p, "bad", "a message with a flipped bit")
		publish(t, p, "good", "1")
	})
	flip(t, path, "a message with a flipped bit")
	t.Run("read", func(t *testing.T) {
		clock, log := newClock(), make(lines, 10)
		p := reopened(t, path, pubsub.Config{Clock: clock, Logger: slog.New(slog.NewTextHandler(log, nil))})
		bad, good := subscribed(t, p, "g", "bad"), subscribed(t, p, "g", "good")
		if text := <-log; !strings.Contains(text, "messages cannot be read") || !strings.Contains(text, "bad/g") {
			t.Error(text)
		}
		clock.wait(t, time.Second)
		clock.advance(time.Second)
		clock.wait(t, time.Second) // it has tried again
		want(t, take(t, good, 1), "1")
		nothing(t, bad)
		if len(log) > 0 {
			t.Error("told again:", <-log)
		}
	})
}

// lines is a writer of log lines that a test can wait for.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// flip changes a byte of every copy of a text in a file.
func flip(t *testing.T, path, text string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(text)) {
		t.Fatal("the text is not in the file")
	}
	b = bytes.ReplaceAll(b, []byte(text), []byte("A"+text[1:]))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestContextOfPublish gives up a call by the context of one of its messages.
func TestContextOfPublish(t *testing.T) {
	p := opened(t, pubsub.Config{})
	messages := subscribed(t, p, "g", "t")
	cause := errors.New("changed my mind")
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	for i := range 3 {
		all := []*message.Message{message.NewMessage("0", nil), message.NewMessage("1", nil), message.NewMessage("2", nil)}
		all[i].SetContext(ended)
		if err := p.Publisher().Publish("t", all...); !errors.Is(err, cause) {
			t.Errorf("message %d: %v", i, err)
		}
	}
	publish(t, p, "t", "after")
	want(t, take(t, messages, 1), "after")
}

func TestClosed(t *testing.T) {
	p := opened(t, pubsub.Config{})
	s, publisher := subscriber(t, p, "g"), p.Publisher()
	messages, err := s.Subscribe(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(publisher.Close(), publisher.Close(), s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if _, open := <-messages; open {
		t.Error("the channel is open")
	}
	refused := func(s *pubsub.Subscriber, publisher *pubsub.Publisher) {
		t.Helper()
		_, err := s.Subscribe(t.Context(), "t")
		for _, err := range []error{err, s.SubscribeInitialize("t"), publisher.Publish("t", message.NewMessage("1", nil))} {
			if !errors.Is(err, pubsub.ErrClosed) {
				t.Error(err)
			}
		}
	}
	refused(s, publisher)
	publish(t, p, "t", "1") // others go on
	others := subscribed(t, p, "g", "t")
	want(t, receive(t, others).UUID, "1")
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Error(err)
	}
	if _, open := <-others; open {
		t.Error("the channel is open")
	}
	refused(subscriber(t, p, "g"), p.Publisher())
}

// TestOutboxCloses closes it in front of those who use it.
func TestOutboxCloses(t *testing.T) {
	box, err := outbox.Open(t.Context(), outbox.Options{Path: filepath.Join(t.TempDir(), "outbox.db")})
	if err != nil {
		t.Fatal(err)
	}
	p, err := pubsub.New(t.Context(), box, pubsub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	messages := subscribed(t, p, "g", "t")
	publish(t, p, "t", "1", "2")
	m := receive(t, messages)
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
	m.Ack()
	if _, open := <-messages; open {
		t.Error("the channel is open")
	}
	_, err = subscriber(t, p, "g").Subscribe(t.Context(), "t")
	m = message.NewMessage("3", nil)
	for _, err := range []error{
		err, subscriber(t, p, "h").SubscribeInitialize("t"), p.Publisher().Publish("t", m), p.Publisher().Publish("u", m),
	} {
		if !errors.Is(err, event.ErrClosed) {
			t.Error(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	box, err := outbox.Open(t.Context(), outbox.Options{Path: filepath.Join(t.TempDir(), "outbox.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = box.Close() }()
	for _, c := range []pubsub.Config{{MaxInFlight: -1}, {MaxInFlight: event.Window + 1}, {NackDelay: -1}} {
		if _, err := pubsub.New(t.Context(), box, c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	p, err := pubsub.New(t.Context(), box, pubsub.Config{MaxInFlight: event.Window})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Subscriber(""); err == nil {
		t.Error("a group without a name was taken")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestHowTo holds the page to the example, which is run.
func TestHowTo(t *testing.T) {
	page, err := os.ReadFile("../../docs/how-to.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := bytes.Cut(page, []byte("```go\n"))
	snippet, _, ended := bytes.Cut(rest, []byte("```"))
	if !found || !ended || !bytes.HasSuffix(example, snippet) {
		t.Error("the page does not show what example_test.go runs")
	}
}
