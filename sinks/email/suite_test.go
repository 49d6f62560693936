package email

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
	"github.com/millrace-run/millrace/sinks/sinktest"
)

// asBytes hands the sink events whose data is no JSON, which a template would print compactly: the suite compares bytes.
type asBytes struct{ *Sink }

func (s asBytes) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	batch = slices.Clone(batch)
	for i := range batch {
		ev := *batch[i].Event
		ev.DataContentType = "application/octet-stream"
		batch[i].Event = &ev
	}
	return s.Sink.Deliver(ctx, batch)
}

func TestSuite(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{New: subject})
}

// gate is how a suite's server behaves.
type gate struct {
	mu      sync.Mutex // guards what follows
	answer  error
	stalled chan struct{} // closed to go on; nil: not stalled
	reached chan struct{}
}

func (g *gate) pass() error {
	g.mu.Lock()
	answer, stalled, reached := g.answer, g.stalled, g.reached
	g.mu.Unlock()
	if stalled != nil {
		select {
		case reached <- struct{}{}:
		default:
		}
		<-stalled
	}
	return answer
}

func (g *gate) set(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answer = err
}

func (g *gate) stall() (<-chan struct{}, func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	stalled := make(chan struct{})
	g.stalled, g.reached = stalled, make(chan struct{}, 1)
	return g.reached, sync.OnceFunc(func() {
		g.mu.Lock()
		g.stalled = nil
		g.mu.Unlock()
		close(stalled)
	})
}

func subject(t *testing.T) *sinktest.Subject {
	g := &gate{}
	p := newPost(t)
	p.data = g.pass
	s := newSink(t, p.address, func(c *Config) {
		c.To, c.Subject, c.Text = templates(t, "{{ subject ?? 'a@example.com' }}"), template(t, "{{ id }}"), template(t, "x")
		c.Attachments = map[string]rules.Template{"data": template(t, "{{ data }}")}
	})
	answer := func(code int) func() { return func() { g.set(refuse(code, "so it is")) } }
	well := func() { g.set(nil) }
	return &sinktest.Subject{
		Sink:     asBytes{s},
		Received: func(t *testing.T) []sinktest.Received { return arrived(t, p) },
		Down:     answer(421),
		Up:       well,
		Stall:    g.stall,
		Verdicts: []sinktest.Verdict{
			{Name: "451", Prepare: answer(451), Class: event.Counted, Check: status(451)},
			{Name: "421", Prepare: answer(421), Class: event.UnavailableClass, Check: status(421)},
			{Name: "554", Prepare: answer(554), Class: event.PermanentClass, Check: status(554)},
			{Name: "bad address", Prepare: well, Class: event.PermanentClass, Check: status(0),
				Spoil: func(ev *event.Event) { ev.Subject = "a@example.com\r\nRCPT TO:<b@example.com>" }},
			{Name: "no recipient", Class: event.PermanentClass, Spoil: func(ev *event.Event) { ev.Subject = " " }},
		},
		Close: func() {
			_ = s.Close()
			_ = p.server.Close()
			p.wait()
		},
	}
}

func status(want int) func(event.Failure) error {
	return func(f event.Failure) error {
		if f.Status != want {
			return fmt.Errorf("status %d, want %d", f.Status, want)
		}
		return nil
	}
}

func arrived(t *testing.T, p *post) []sinktest.Received {
	var all []sinktest.Received
	for _, m := range p.all() {
		h, parts := read(t, m.bytes)
		id, err := h.Text("Subject")
		if err != nil || len(parts) != 2 {
			t.Fatalf("%v, %d parts", err, len(parts))
		}
		key, _, _ := strings.Cut(strings.TrimPrefix(h.Get("Message-Id"), "<"), "@")
		all = append(all, sinktest.Received{ID: id, Key: key, Data: parts[1].body})
	}
	return all
}

// TestStallIsHeard: a session whose delivery was cancelled is not used again, and its connection is closed.
func TestStallIsHeard(t *testing.T) {
	s := newScript(t, map[string][]string{"end": {stall}})
	sink := newSink(t, s.address, plain)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-s.reached
		cancel()
	}()
	err := sink.Deliver(ctx, []event.Delivery{order()}).Verdicts[0]
	if f := event.VerdictOf(err); f.Class != event.UnavailableClass || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if sink.idle.take() != nil {
		t.Error("the session was kept")
	}
}

// TestConnectionsOfManyEvents: no more sessions are opened than attempts run side by side.
func TestConnectionsOfManyEvents(t *testing.T) {
	p := newPost(t)
	s := newSink(t, p.address)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 25 {
				if err := send(t, s, order()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if n := p.connections(); n > 4 || len(p.all()) != 100 {
		t.Errorf("%d connections, %d mails", n, len(p.all()))
	}
}

var (
	_ smtp.AuthSession = (*postSession)(nil)
	_ net.Conn         = (*conn)(nil)
	_ io.Closer        = (*Sink)(nil)
)
