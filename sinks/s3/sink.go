package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

const (
	sideBySide = 4       // uploads at once
	usualMost  = 1 << 16 // members of pins that nobody came for
)

// Sink stores events as objects. Open, Deliver and Close must not be called at the same time.
type Sink struct {
	bucket   string
	prefix   rules.Template
	size     int64
	age      time.Duration
	partSize int64
	encoder  encoder
	log      *slog.Logger
	most     int
	store    store

	save   func(context.Context, event.Changes) error // nil before the first Open
	pins   []*pin                                     // committed and not settled, by number
	next   uint64                                     // number of the next object
	sent   map[string]*object                         // stored by this process and not settled, by key; without events and bodies
	placed []string                                   // see Placed
}

// object is what a batch brings to one key.
type object struct {
	*pin
	prefix  string
	members []int // indexes in the batch
	body    []byte
	sum     [32]byte
	err     error // why the store did not take it
}

// Gather says how much a delivery has at most, and how long its first event waits for others.
func (s *Sink) Gather() (bytes int64, wait time.Duration) { return s.size, s.age }

// Open takes the committed state. It asks nobody over the network. save is kept until the next Open.
func (s *Sink) Open(_ context.Context, state map[string][]byte, save func(context.Context, event.Changes) error) error {
	s.save = nil
	pins, next, err := readState(state)
	if err == nil {
		err = s.store.open()
	}
	if err != nil {
		return err
	}
	s.pins, s.next, s.save = pins, next, save
	if s.sent == nil {
		s.sent = map[string]*object{}
	}
	return nil
}

// Close closes connections that nobody uses. The sink can be opened again.
func (s *Sink) Close() error {
	s.store.close()
	s.save = nil
	return nil
}

// Deliver stores the events as objects and answers one verdict for all, but for events whose key cannot be made and for objects
// that the store refuses because of what they are: those are Permanent, once all others are stored. It returns when ctx ends.
func (s *Sink) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	out := event.Settled(len(batch), nil)
	if len(batch) == 0 {
		return out
	}
	objects, err := s.prepare(ctx, batch, out.Verdicts)
	if err == nil {
		err = s.sweep(ctx)
	}
	if err == nil {
		err = s.upload(ctx, objects)
	}
	if err != nil {
		return event.Settled(len(batch), unavailable(ctx, err))
	}
	s.settle(batch, objects, &out)
	return out
}

// Placed is where the i-th event of the last delivery was stored; empty if it was not. It must not be called while Deliver runs.
func (s *Sink) Placed(i int) string {
	if s.placed[i] == "" {
		return ""
	}
	return s.store.place(s.placed[i])
}

// unavailable keeps the verdict of an error that has one.
func unavailable(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return event.Unavailable(cause)
	}
	var f *event.Failure
	if errors.As(err, &f) {
		return err
	}
	return event.Unavailable(err)
}

// prepare divides a batch into objects, encodes them, and makes the pins of the new ones durable.
func (s *Sink) prepare(ctx context.Context, batch []event.Delivery, verdicts []error) ([]*object, error) {
	if s.save == nil {
		return nil, errors.New("the s3 sink is not open")
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	objects := s.divide(batch, verdicts)
	for _, o := range objects {
		if err := s.encode(o, batch); err != nil {
			return nil, err
		}
	}
	return objects, s.pin(ctx, batch, objects)
}

// divide gives each event its object: those of pins first, by number, then one for each prefix.
func (s *Sink) divide(batch []event.Delivery, verdicts []error) []*object {
	var pinned, fresh []*object
	byPin, byPrefix := map[*pin]*object{}, map[string]*object{}
	places := claimsOf(s.pins)
	for i := range batch {
		if p := places.take(memberOf(&batch[i])); p != nil {
			if byPin[p] == nil {
				byPin[p] = &object{pin: p}
				pinned = append(pinned, byPin[p])
			}
			byPin[p].members = append(byPin[p].members, i)
			continue
		}
		prefix, err := prefixOf(s.prefix, batch[i].Event)
		if err != nil {
			verdicts[i] = event.Permanent(err)
			continue
		}
		if byPrefix[prefix] == nil {
			byPrefix[prefix] = &object{prefix: prefix}
			fresh = append(fresh, byPrefix[prefix])
		}
		byPrefix[prefix].members = append(byPrefix[prefix].members, i)
	}
	slices.SortFunc(pinned, func(a, b *object) int { return cmp.Compare(a.number, b.number) })
	return append(pinned, fresh...)
}

func (s *Sink) encode(o *object, batch []event.Delivery) (err error) {
	events := make([]*event.Event, len(o.members))
	for i, at := range o.members {
		events[i] = batch[at].Event
	}
	form := s.encoder
	if o.pin != nil {
		form = o.Form
	}
	o.body, err = form.encode(events)
	o.sum = sumOf(o.body)
	return err
}

// pin makes the pins of new objects and saves them. Until that has succeeded nothing of them is uploaded. Of an old object it saves
// that it goes in parts now, if it did not before.
func (s *Sink) pin(ctx context.Context, batch []event.Delivery, objects []*object) error {
	changes, next := event.Changes{}, s.next
	var fresh []*pin
	for _, o := range objects {
		parts := int64(len(o.body)) > s.partSize
		switch {
		case o.pin == nil:
			o.pin = &pin{Form: s.encoder, Parts: parts, number: next, Members: membersOf(batch, o.members)}
			o.Key = o.prefix + nameOf(batch[o.members[0]].Event.Received, next, o.Members, s.encoder.suffix())
			fresh = append(fresh, o.pin)
			next++
		case parts && !o.Parts:
			o.Parts = true
		default:
			continue
		}
		changes[o.name()] = o.pin.encode()
	}
	if len(changes) == 0 {
		return nil
	}
	changes[stateNext] = []byte(strconv.FormatUint(next, 10))
	if err := s.save(ctx, changes); err != nil {
		return fmt.Errorf("the names of objects could not be saved: %w", err)
	}
	s.pins, s.next = append(s.pins, fresh...), next
	return nil
}

func membersOf(batch []event.Delivery, which []int) []byte {
	all := make([]byte, 0, len(which)*len(member{}))
	for _, i := range which {
		m := memberOf(&batch[i])
		all = append(all, m[:]...)
	}
	return all
}

// sweep aborts what uploads in parts left behind, also under pins that nobody came for. A store that does not let the sink look
// keeps the parts; that does not keep the events from being stored.
func (s *Sink) sweep(ctx context.Context) error {
	for _, p := range s.pins {
		if !p.old || !p.Parts {
			continue
		}
		err := s.store.sweep(ctx, p.Key)
		if err != nil && !isForbidden(err) {
			return err
		}
		if err != nil {
			s.log.Warn("parts of an upload that was cut off may be left in the bucket: let the sink list and abort multipart uploads, "+
				"or set a lifecycle rule", "bucket", s.bucket, "key", p.Key, "err", err)
		}
		p.old = false
	}
	return nil
}

// upload stores what is not stored yet, a few objects side by side, and returns the first failure of the store.
func (s *Sink) upload(ctx context.Context, objects []*object) error {
	for some := range slices.Chunk(objects, sideBySide) {
		var group sync.WaitGroup
		for _, o := range some {
			if was := s.sent[o.Key]; was != nil && was.sum == o.sum {
				continue
			}
			o.old = true // until it is known how this ends
			delete(s.sent, o.Key)
			group.Go(func() { o.err = s.store.put(ctx, o) })
		}
		group.Wait()
		for _, o := range some {
			if o.err == nil {
				s.sent[o.Key] = &object{sum: o.sum}
			}
		}
	}
	for _, o := range objects {
		if o.err != nil && event.VerdictOf(o.err).Class != event.PermanentClass {
			return o.err
		}
	}
	return nil
}

// settle ends the pins of a batch that is done with, and forgets those that nobody comes for any more.
func (s *Sink) settle(batch []event.Delivery, objects []*object, out *event.Settling) {
	out.Changes = event.Changes{}
	s.placed = make([]string, len(batch))
	done := map[*pin]bool{}
	for _, o := range objects {
		done[o.pin] = true
		out.Changes[o.name()] = nil
		delete(s.sent, o.Key)
		for _, i := range o.members {
			out.Verdicts[i] = o.err
			s.placed[i] = o.Key
		}
	}
	s.pins = slices.DeleteFunc(s.pins, func(p *pin) bool { return done[p] })
	var forgotten []*pin
	s.pins, forgotten = strays(s.pins, s.most, out.Changes)
	for _, p := range forgotten {
		delete(s.sent, p.Key)
		s.log.Warn("the events of an object did not come again, and nobody remembers any longer whether it was stored",
			"bucket", s.bucket, "key", p.Key)
	}
}
