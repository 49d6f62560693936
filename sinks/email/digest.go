package email

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/rules"
)

// Batched makes one mail of the events of a delivery. What is written with the attributes or the data of one event would speak of one
// of them only, so the templates may use nothing but events. Call it before Deliver.
func (s *Sink) Batched() error {
	s.batched = true
	return s.single
}

// mails are the events of a batch that go into one mail each, by their places. Events with different progress were together in
// different mails before: what one recipient has of some, he has not of the others.
func (s *Sink) mails(batch []event.Delivery) [][]int {
	if !s.batched {
		all := make([][]int, len(batch))
		for i := range batch {
			all[i] = []int{i}
		}
		return all
	}
	var all [][]int
	for i := range batch {
		at := slices.IndexFunc(all, func(of []int) bool { return bytes.Equal(batch[of[0]].Progress, batch[i].Progress) })
		if at < 0 {
			at, all = len(all), append(all, nil)
		}
		all[at] = append(all[at], i)
	}
	return all
}

// identity is a delivery that stands for all events of a mail. Of one it is its own; of several the key follows from theirs in any
// order, so that the same events are the same mail, the time is that of the last, and the attempt the highest.
func identity(members []event.Delivery) event.Delivery {
	d := members[0]
	if len(members) == 1 {
		return d
	}
	keys := make([]string, len(members))
	for i, m := range members {
		keys[i] = m.Key
		d.Attempt = max(d.Attempt, m.Attempt)
		if m.Event.Received.After(d.Event.Received) {
			d.Event = m.Event
		}
	}
	slices.Sort(keys)
	h := sha256.New()
	for _, key := range keys {
		h.Write([]byte(key))
	}
	d.Key = hex.EncodeToString(h.Sum(nil)[:16])
	return d
}

// list is what templates see as events: structured CloudEvents.
func list(members []event.Delivery) []byte {
	b := []byte{'['}
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = codec.EncodeJSON(b, m.Event)
	}
	return append(b, ']')
}

// uses returns an error for each template that uses a name for which yes holds; nil: none does.
func (c Config) uses(files []attachment, yes func(name string) bool) error {
	var errs []error
	look := func(key string, t rules.Template) {
		for _, name := range t.Names() {
			if yes(name) {
				errs = append(errs, keyError(key, fmt.Errorf("a mail of several events has no %s of its own: write events[0].%s, "+
					"or map(events, .%s) for all", name, name, name)))
				return
			}
		}
	}
	look("from", c.From)
	for key, all := range map[string][]rules.Template{"to": c.To, "cc": c.Cc, "bcc": c.Bcc, "reply_to": c.ReplyTo} {
		for _, t := range all {
			look(key, t)
		}
	}
	look("subject", c.Subject)
	look("text", c.Text)
	look("html", c.HTML)
	for key, all := range map[string]map[string]rules.Template{"headers": c.Headers, "attachments": c.Attachments} {
		for _, name := range slices.Sorted(maps.Keys(all)) {
			look(key+"."+name, all[name])
		}
	}
	for _, f := range files {
		look("attachments."+f.key, f.name)
	}
	return errors.Join(errs...)
}
