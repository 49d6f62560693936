package email

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

func digestTemplate(t testing.TB, source string) rules.Template {
	t.Helper()
	c, err := rules.CompileTemplate(source, rules.Options{Scope: rules.DigestScope})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newDigest(t testing.TB, address string) *Sink {
	t.Helper()
	s := newSink(t, address, func(c *Config) {
		c.To = templates(t, "team@example.com")
		c.Subject = digestTemplate(t, "{{ len(events) }} orders, the first {{ events[0].data.id }}")
		c.Text = digestTemplate(t, "{{ join(map(events, .data.id), ', ') }}")
		c.HTML = digestTemplate(t, "<p>{{ join(map(events, .data.name), ' & ') }}</p>")
	})
	if err := s.Batched(); err != nil {
		t.Fatal(err)
	}
	return s
}

func orders(n int) (batch []event.Delivery) {
	for i := range n {
		d := withData(fmt.Sprintf(`{"id":"o-%d","name":"<b>"}`, i+1))
		d.Key, d.Attempt = fmt.Sprintf("%032d", i+1), i+1
		d.Event.Received = d.Event.Received.Add(time.Duration(i) * time.Hour)
		batch = append(batch, d)
	}
	return batch
}

func TestDigest(t *testing.T) {
	p := newPost(t)
	s := newDigest(t, p.address)
	out := s.Deliver(t.Context(), orders(3))
	if err := errors.Join(out.Verdicts...); err != nil || len(out.Verdicts) != 3 || out.Status(2) != 250 {
		t.Fatalf("%+v", out)
	}
	h, parts := read(t, p.last(t).bytes)
	if got, _ := h.Text("Subject"); got != "3 orders, the first o-1" || h.Get("Date") != "Wed, 04 Mar 2026 13:00:00 +0000" || h.Get("Millrace-Attempt") != "3" {
		t.Errorf("headers %v", h)
	}
	if string(parts[0].body) != "o-1, o-2, o-3" || string(parts[1].body) != "<p>&lt;b&gt; &amp; &lt;b&gt; &amp; &lt;b&gt;</p>" {
		t.Errorf("%q %q", parts[0].body, parts[1].body)
	}
	id := h.Get("Message-Id")
	again := orders(3)
	again[0], again[2] = again[2], again[0]
	s.Deliver(t.Context(), again)
	if h, _ := read(t, p.last(t).bytes); h.Get("Message-Id") != id || id == "" {
		t.Errorf("the same events are %s and %s", id, h.Get("Message-Id"))
	}
	s.Deliver(t.Context(), orders(2))
	if h, _ := read(t, p.last(t).bytes); h.Get("Message-Id") == id {
		t.Error("other events have the same Message-ID")
	}
}

// One event that makes no mail, or a mail that the server refuses, does not take the others with it.
func TestDigestWithABadEvent(t *testing.T) {
	p := newPost(t)
	s := newDigest(t, p.address)
	batch := orders(5)
	batch[3] = withData(`{"id":["no","text"]}`)
	out := s.Deliver(t.Context(), batch)
	for i, v := range out.Verdicts {
		if bad := i == 3; bad != (v != nil) || bad && event.VerdictOf(v).Class != event.PermanentClass {
			t.Errorf("event %d: %v", i+1, v)
		}
	}
	if h, _ := read(t, p.last(t).bytes); !strings.HasPrefix(h.Get("Subject"), "1 orders, the first o-5") {
		t.Errorf("the last mail is %q", h.Get("Subject"))
	}
}

// What the destination answers is for all: of an unknown recipient there is no second mail.
func TestDigestRefused(t *testing.T) {
	p := newPost(t)
	var asked int
	p.onRcpt(func(string) error { asked++; return &smtp.SMTPError{Code: 550, Message: "nobody here"} })
	s := newDigest(t, p.address)
	for i, v := range s.Deliver(t.Context(), orders(4)).Verdicts {
		if v == nil || event.VerdictOf(v).Status != 550 || event.VerdictOf(v).Class != event.PermanentClass {
			t.Errorf("event %d: %v", i+1, v)
		}
	}
	if asked != 1 {
		t.Errorf("the recipient was asked for %d times", asked)
	}
}

func TestDigestByProgress(t *testing.T) {
	p := newPost(t)
	s := newDigest(t, p.address)
	batch := orders(4)
	batch[1].Progress = []byte(`{"accepted":{"team@example.com":true}}`)
	batch[3].Progress = []byte(`{"accepted":{"team@example.com":true}}`)
	if err := errors.Join(s.Deliver(t.Context(), batch).Verdicts...); err != nil {
		t.Fatal(err)
	}
	if h, _ := read(t, p.last(t).bytes); !strings.HasPrefix(h.Get("Subject"), "2 orders, the first o-1") {
		t.Errorf("the mail is %q", h.Get("Subject"))
	}
}

func TestDigestNeedsEvents(t *testing.T) {
	s := newSink(t, "127.0.0.1:1", func(c *Config) {
		c.Text = digestTemplate(t, "{{ join(map(events, .data.id), ', ') }} {{ data.id }}")
		c.Attachments = map[string]rules.Template{"{{ id }}.txt": digestTemplate(t, "{{ events }}")}
	})
	err := s.Batched()
	for _, key := range []string{"to: ", "subject: ", "text: ", "attachments.{{ id }}.txt: "} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("no fault of %sin %v", key, err)
		}
	}
}
