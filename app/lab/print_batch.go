package lab

import (
	"fmt"
	"mime"
	"strings"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

// maxMembers is how many events of a batch are shown, each with its data.
const maxMembers = 20

// batch prints a CloudEvents batch event by event, and says whether the request is one that can be read.
func (b *page) batch(r Request) bool {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != codec.TypeBatch || int64(len(r.Body)) != r.Size {
		return false
	}
	events, err := codec.DecodeBatch(r.Body, 0)
	if err != nil {
		return false
	}
	b.note("a batch of " + counted(len(events)))
	for i := range events[:min(len(events), maxMembers)] {
		e := &events[i]
		b.field("event", described(e))
		b.body(e.DataContentType, e.Data, int64(len(e.Data)))
	}
	if rest := len(events) - maxMembers; rest > 0 {
		b.note(fmt.Sprintf("… and %s more", counted(rest)))
	}
	return true
}

func counted(n int) string {
	if n == 1 {
		return "1 event"
	}
	return fmt.Sprintf("%d events", n)
}

// described are the attributes of an event, in the order in which attributes shows them. The key is in every member and tells
// nothing.
func described(e *event.Event) string {
	var all []string
	add := func(name, value string) {
		if value != "" {
			all = append(all, name+" "+value)
		}
	}
	add("type", e.Type)
	add("id", e.ID)
	add("source", e.Source)
	add("subject", e.Subject)
	add("dataschema", e.DataSchema)
	for _, x := range e.Extensions {
		if x.Name != "idempotencykey" {
			add(x.Name, x.Text)
		}
	}
	add("time", e.Time)
	return strings.Join(all, " · ")
}
