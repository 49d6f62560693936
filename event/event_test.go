package event

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

func names(e *Event) []string {
	var all []string
	for _, x := range e.Extensions {
		all = append(all, x.Name+"="+x.Text)
	}
	return all
}

func TestExtensions(t *testing.T) {
	var e Event
	for _, x := range []Extension{{Name: "m", Text: "1"}, {Name: "a", Text: "2"}, {Name: "z", Text: "3"}} {
		e.SetExtension(x)
	}
	if got := names(&e); !slices.Equal(got, []string{"a=2", "m=1", "z=3"}) {
		t.Errorf("got %v", got)
	}
	before := e
	e.SetExtension(Extension{Name: "m", Kind: Integer, Text: "9"})
	e.SetExtension(Extension{Name: "b", Text: "4"})
	e.RemoveExtension("z")
	e.RemoveExtension("nothing")
	if got := names(&e); !slices.Equal(got, []string{"a=2", "b=4", "m=9"}) {
		t.Errorf("got %v", got)
	}
	if got := names(&before); !slices.Equal(got, []string{"a=2", "m=1", "z=3"}) {
		t.Errorf("a copy changed with the event: %v", got)
	}
	if x, ok := e.Extension("m"); !ok || x.Kind != Integer || x.Text != "9" {
		t.Errorf("got %v, %v", x, ok)
	}
	if x, ok := e.Extension("zz"); ok || x != (Extension{}) {
		t.Errorf("got %v, %v", x, ok)
	}
}

func TestSize(t *testing.T) {
	e := Event{ID: "1", Source: "22", Type: "333", Subject: "4", Time: "5", DataContentType: "6", DataSchema: "7",
		Data:       []byte("1234567890"),
		Extensions: []Extension{{Name: "ab", Text: "cde"}}}
	if got := e.Size(); got != 25 {
		t.Errorf("got %d", got)
	}
	if got := (&Event{}).Size(); got != 0 {
		t.Errorf("got %d", got)
	}
}

func TestIsJSON(t *testing.T) {
	for mediaType, want := range map[string]bool{
		"": true, "application/json": true, "Application/JSON; charset=utf-8": true, "text/json": true,
		"application/cloudevents+json": true, " application/ld+json ;x=y": true,
		"application/x-ndjson": false, "text/plain": false, "application/jsonl": false, "application/json5": false, "json": false,
		"text/plain; a=application/json": false,
	} {
		if got := (&Event{DataContentType: mediaType}).IsJSON(); got != want {
			t.Errorf("%q: got %v", mediaType, got)
		}
	}
}

func TestVerdicts(t *testing.T) {
	cause := errors.New("cause")
	tests := []struct {
		err  error
		want Failure
	}{
		{cause, Failure{Class: Counted}},
		{Permanent(cause), Failure{Class: PermanentClass}},
		{Unavailable(cause), Failure{Class: UnavailableClass}},
		{RetryAfter(cause, time.Minute), Failure{Class: UnavailableClass, After: time.Minute, Deferred: true}},
		{fmt.Errorf("sink payments: %w", Permanent(cause)), Failure{Class: PermanentClass}},
		{&Failure{Class: GoneClass, Status: 410, Err: cause}, Failure{Class: GoneClass, Status: 410}},
	}
	for _, tt := range tests {
		got := VerdictOf(tt.err)
		if got.Class != tt.want.Class || got.After != tt.want.After || got.Deferred != tt.want.Deferred || got.Status != tt.want.Status {
			t.Errorf("%v: got %+v", tt.err, got)
		}
		if got.Error() != tt.err.Error() || !errors.Is(&got, cause) {
			t.Errorf("%v: the verdict lost what wraps it, or the cause: %v", tt.err, got.Err)
		}
	}
}

func TestSettled(t *testing.T) {
	cause := errors.New("cause")
	s := Settled(3, cause)
	if len(s.Verdicts) != 3 || s.Verdicts[0] != cause || s.Verdicts[2] != cause || s.Changes != nil {
		t.Errorf("got %v", s)
	}
	if s := Settled(0, nil); len(s.Verdicts) != 0 {
		t.Errorf("got %v", s)
	}
}

func TestKeyError(t *testing.T) {
	cause := errors.New("must not be empty")
	err := error(&KeyError{Key: "tls.ca", Err: cause})
	if err.Error() != "tls.ca: must not be empty" || !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

func TestSystemClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var clock Clock = SystemClock{}
		started := clock.Now()
		wake, release := clock.After(time.Minute)
		if now := <-wake; now.Sub(started) != time.Minute || clock.Now() != now {
			t.Errorf("woke %v after the start", now.Sub(started))
		}
		release()
		wake, release = clock.After(time.Minute)
		release()
		select {
		case <-wake:
			t.Error("a released timer fired")
		case <-time.After(time.Hour):
		}
	})
}

func TestDetached(t *testing.T) {
	for _, e := range []Event{{}, {ID: "1", Data: []byte{}}, {
		ID: "1", Source: "/s", Type: "t", Subject: "about", Time: "2026-01-02T03:04:05Z", DataContentType: "text/plain", DataSchema: "/schema",
		Extensions: []Extension{{Name: "a", Text: "x"}, {Name: "b", Kind: Integer, Text: "7"}}, Data: []byte("data"),
		Ran: []string{"filter", "set"}, Received: time.Unix(1, 2).UTC(),
	}} {
		d := e.Detached()
		if !reflect.DeepEqual(d, e) {
			t.Errorf("%+v is %+v", e, d)
		}
		if len(e.Data) > 0 && (&d.Data[0] == &e.Data[0] || &d.Extensions[0] == &e.Extensions[0] || &d.Ran[0] == &e.Ran[0]) {
			t.Error("the copy shares memory")
		}
		if len(e.ID) > 0 && (unsafe.StringData(d.ID) == unsafe.StringData(e.ID)) {
			t.Error("the copy shares a text")
		}
	}
}
