package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

const (
	maxList = 1 << 20 // of an answer to a batch, which may name the events that failed

	// keysMax is the most keys that a header carries: with more it would be longer than servers take.
	keysMax = 100
)

var errMember = errors.New("mode: data sends a batch as a JSON array, and the data of this event is not JSON")

// Batched makes the sink send every delivery in the form of a batch, also one of a single event, so that receivers see one form.
// One request has one URL and one set of headers, so neither may depend on an event. Call it before Deliver.
func (s *Sink) Batched() error {
	var errs []error
	if s.fixed == nil {
		errs = append(errs, keyError("url", errors.New("a batch is one request for several events, so the URL cannot hold {{ }}")))
	}
	for _, h := range s.headers {
		err := errors.New("a batch is one request for several events, so its headers cannot hold {{ }}")
		errs = append(errs, keyError("headers."+h.key, err))
	}
	s.batched, s.batchType = true, codec.TypeBatch
	switch {
	case s.ownType:
		s.batchType = ""
	case s.mode == modeData:
		s.batchType = "application/json"
	}
	return errors.Join(errs...)
}

// deliverBatch sends deliveries as one request, or as several when the destination refuses them as a whole.
func (s *Sink) deliverBatch(ctx context.Context, batch []event.Delivery) event.Settling {
	verdicts := make([]error, len(batch))
	statuses := make([]int, len(batch))
	good := make([]int, 0, len(batch))
	for i, d := range batch {
		if s.mode == modeData && !isMember(d.Event) {
			verdicts[i] = event.Permanent(errMember)
			continue
		}
		good = append(good, i)
	}
	if len(good) > 0 {
		b := &halving{sink: s, batch: batch, verdicts: verdicts, statuses: statuses}
		b.send(ctx, good)
	}
	return event.Settling{Verdicts: verdicts, Statuses: statuses}
}

// isMember says whether an event's data can stand in a JSON array; no data is null there.
func isMember(e *event.Event) bool {
	return e.Data == nil || e.IsJSON() && codec.HasJSON(e)
}

// halving is one Deliver of a batch.
type halving struct {
	sink     *Sink
	batch    []event.Delivery
	verdicts []error
	statuses []int // of the answers; those of failures are in their verdicts
	down     error // the destination is unavailable: nothing more is sent
}

// send sends some of the events. A Permanent answer to several says nothing about which of them it means: each half is sent by
// itself, until single events answer for themselves. That is at most two requests for each event, less one.
func (h *halving) send(ctx context.Context, some []int) {
	if h.down != nil {
		h.all(some, h.down)
		return
	}
	err := h.exchange(ctx, some)
	if err == nil {
		return
	}
	f := event.VerdictOf(err)
	if f.Class == event.PermanentClass && len(some) > 1 {
		h.send(ctx, some[:len(some)/2])
		h.send(ctx, some[len(some)/2:])
		return
	}
	if f.Class == event.UnavailableClass || f.Class == event.GoneClass {
		h.down = err
	}
	h.all(some, err)
}

func (h *halving) all(some []int, err error) {
	for _, i := range some {
		h.verdicts[i] = err
	}
}

// exchange makes one request. Its error is the verdict of all; with nil the verdicts are set.
func (h *halving) exchange(ctx context.Context, some []int) error {
	m := messages.Get().(*message)
	defer m.release()
	if err := h.build(m, some); err != nil {
		return event.Permanent(err)
	}
	a, err := h.sink.network.exchange(ctx, m, keepList)
	if err != nil {
		return h.sink.unreachable(err)
	}
	if err := h.sink.verdict(a); err != nil {
		return err
	}
	for _, i := range some {
		h.statuses[i] = a.status
	}
	return h.read(a, some)
}

// keepList keeps of a success what may be a list of failures, for which it waits as long as the attempt may take: without the
// list nobody knows what was taken.
func keepList(status int) (bytes int64, patient bool) {
	if isSuccess(status) {
		return maxList, true
	}
	return keepFailure(status)
}

func (h *halving) build(m *message, some []int) error {
	s := h.sink
	if err := s.begin(m, nil); err != nil {
		return err
	}
	if s.batchType != "" {
		m.head = append(append(append(m.head, "Content-Type: "...), s.batchType...), "\r\n"...)
	}
	attempt := 0
	m.body = append(m.grow(h.size(some)), '[')
	for n, i := range some {
		if n > 0 {
			m.body = append(m.body, ',')
		}
		m.body = s.member(m.body, &h.batch[i])
		attempt = max(attempt, h.batch[i].Attempt)
	}
	m.body = append(m.body, ']')
	if s.mode == modeData && len(some) <= keysMax {
		h.keys(m, some)
	}
	m.end(attempt)
	return nil
}

// size is about how long the body is going to be.
func (h *halving) size(some []int) int {
	n := 2
	for _, i := range some {
		n += h.batch[i].Event.Size() + 256
	}
	return n
}

// member appends one event. A CloudEvent has its key as the attribute idempotencykey.
func (s *Sink) member(dst []byte, d *event.Delivery) []byte {
	if s.mode == modeData {
		if d.Event.Data == nil {
			return append(dst, "null"...)
		}
		return append(dst, d.Event.Data...)
	}
	e := *d.Event
	e.SetExtension(event.Extension{Name: "idempotencykey", Text: d.Key})
	return codec.EncodeJSON(dst, &e)
}

// keys writes the keys of the members in their order, as a list of strings (RFC 8941).
func (h *halving) keys(m *message, some []int) {
	m.head = append(m.head, "Idempotency-Keys: "...)
	for n, i := range some {
		if n > 0 {
			m.head = append(m.head, ", "...)
		}
		m.head = append(append(append(m.head, '"'), h.batch[i].Key...), '"')
	}
	m.head = append(m.head, "\r\n"...)
}

// partial is what an answer of 2xx says when not all was taken. Other members are not looked at.
type partial struct {
	Failures []struct {
		ID     *string         `json:"itemIdentifier"`
		Status *int            `json:"status"`
		Error  json.RawMessage `json:"error"` // usually a string
	} `json:"batchItemFailures"`
}

var errList = errors.New("the answer has a list batchItemFailures that cannot be read, so the whole batch counts as failed")

// read takes what a success says about single events. What cannot be understood must not lose one: then all have failed.
func (h *halving) read(a *reply, some []int) error {
	text := bytes.TrimLeft(a.text, " \t\r\n")
	if !a.whole && (len(text) == 0 || text[0] == '{') {
		return &event.Failure{Status: a.status, Err: fmt.Errorf("%s: %w", h.sink.to.host, errList)}
	}
	if len(text) == 0 || text[0] != '{' {
		return nil
	}
	var p partial
	if err := json.Unmarshal(text, &p); err != nil {
		if !bytes.Contains(text, []byte("batchItemFailures")) {
			return nil
		}
		return &event.Failure{Status: a.status, Err: fmt.Errorf("%s: %w", h.sink.to.host, errList)}
	}
	return h.mark(p, a.status, some)
}

// mark sets the verdicts of the failures. All of a name have failed where several events have one id.
func (h *halving) mark(p partial, status int, some []int) error {
	ids := make(map[string][]int, len(some))
	if len(p.Failures) > 0 {
		for _, i := range some {
			ids[h.batch[i].Event.ID] = append(ids[h.batch[i].Event.ID], i)
		}
	}
	for _, f := range p.Failures {
		if f.ID == nil || ids[*f.ID] == nil || f.Status != nil && (*f.Status < 100 || *f.Status > 599) {
			err := fmt.Errorf("%s: %w: it names an event or a status that there is not", h.sink.to.host, errList)
			return &event.Failure{Status: status, Err: err}
		}
	}
	for _, f := range p.Failures {
		err := h.sink.itemFailure(status, f.Status, f.Error)
		for _, i := range ids[*f.ID] {
			h.verdicts[i] = err
		}
	}
	return nil
}

// itemFailure is the verdict of one event of a batch: what its own status means, or a failure that counts.
func (s *Sink) itemFailure(status int, own *int, said json.RawMessage) error {
	f := &event.Failure{Status: status, Err: fmt.Errorf("%s names the event in batchItemFailures", s.to.host)}
	if own != nil {
		if f = failureOf(s.to.host, *own); f == nil {
			return nil
		}
	}
	text := string(said)
	_ = json.Unmarshal(said, &text) // else it is shown as it is
	f.Answer = []byte(text)[:min(len(text), maxAnswer)]
	return f
}
