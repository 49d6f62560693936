package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/rules"
	"github.com/millrace-run/millrace/sinks/sinktest"
)

// batchSink returns a sink that sends batches.
func batchSink(t testing.TB, url string, change ...func(*Config)) *Sink {
	t.Helper()
	s := newSink(t, url, change...)
	if err := s.Batched(); err != nil {
		t.Fatal(err)
	}
	return s
}

func orders(ids ...string) []event.Delivery {
	all := make([]event.Delivery, len(ids))
	for i, id := range ids {
		all[i] = order()
		all[i].Event.ID, all[i].Key, all[i].Attempt = id, strings.Repeat(id[:1], 32), i+1
		all[i].Event.Data = fmt.Appendf(nil, `{"id": %q}`, id)
	}
	return all
}

// sendAll delivers a batch within 10 s and returns the verdicts.
func sendAll(t testing.TB, s *Sink, batch []event.Delivery) []error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	out := s.Deliver(ctx, batch)
	if len(out.Verdicts) != len(batch) {
		t.Fatalf("%d verdicts for %d events", len(out.Verdicts), len(batch))
	}
	return out.Verdicts
}

func TestBatchIsOneRequest(t *testing.T) {
	url, next := capture(t)
	for _, mode := range []string{modeBinary, modeStructured} {
		s := batchSink(t, url+"/in", func(c *Config) {
			c.Mode, c.Headers = mode, map[string]rules.Template{"Authorization": template(t, "Bearer x"), "user-agent": template(t, "me")}
		})
		for _, ids := range [][]string{{"a", "b", "c"}, {"d"}} {
			batch := orders(ids...)
			for i, err := range sendAll(t, s, batch) {
				if err != nil {
					t.Errorf("%s: %v", ids[i], err)
				}
			}
			r := next()
			if r.header.Get("Content-Type") != codec.TypeBatch || r.header.Get("Idempotency-Key") != "" ||
				r.header.Get("Authorization") != "Bearer x" || r.header["User-Agent"][0] != "me" || r.uri != "/in" {
				t.Errorf("%s: %+v", mode, r)
			}
			if got := r.header.Get("Millrace-Attempt"); got != fmt.Sprint(len(ids)) {
				t.Errorf("attempt %s, want the highest", got)
			}
			back, err := codec.DecodeBatch(r.body, 0)
			if err != nil || len(back) != len(ids) {
				t.Fatalf("%s: %v", r.body, err)
			}
			for i, e := range back {
				key, _ := e.Extension("idempotencykey")
				if e.ID != ids[i] || key.Text != batch[i].Key || !bytes.Equal(e.Data, batch[i].Event.Data) {
					t.Errorf("%+v", e)
				}
			}
			if _, has := batch[0].Event.Extension("idempotencykey"); has {
				t.Error("the event itself was changed")
			}
		}
	}
}

func TestBatchOfData(t *testing.T) {
	url, next := capture(t)
	s := batchSink(t, url, func(c *Config) { c.Mode = modeData })
	batch := orders("a", "b", "c", "d")
	batch[1].Event.Data, batch[1].Event.DataContentType = []byte("no JSON"), "text/plain"
	batch[2].Event.Data, batch[2].Event.DataContentType = nil, ""
	verdicts := sendAll(t, s, batch)
	for i, err := range verdicts {
		if (err != nil) != (i == 1) {
			t.Errorf("event %d: %v", i, err)
		}
	}
	if f := event.VerdictOf(verdicts[1]); f.Class != event.PermanentClass || !strings.Contains(f.Error(), "JSON") {
		t.Errorf("%+v", f)
	}
	r := next()
	if string(r.body) != `[{"id": "a"},null,{"id": "d"}]` || r.header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %v", r.body, r.header)
	}
	want := fmt.Sprintf("%q, %q, %q", batch[0].Key, batch[2].Key, batch[3].Key)
	if got := r.header.Get("Idempotency-Keys"); got != want {
		t.Errorf("keys %s, want %s", got, want)
	}
	if err := sendAll(t, s, batch[1:2])[0]; event.VerdictOf(err).Class != event.PermanentClass {
		t.Errorf("a batch with nothing to send: %v", err)
	}
	many := make([]event.Delivery, keysMax+1)
	for i := range many {
		many[i] = batch[0]
	}
	sendAll(t, s, many)
	if r := next(); r.header.Get("Idempotency-Keys") != "" || bytes.Count(r.body, []byte("id")) != keysMax+1 {
		t.Errorf("%d bytes, keys %s", len(r.body), r.header.Get("Idempotency-Keys"))
	}
}

func TestBatchOfDataWithATypeOfItsOwn(t *testing.T) {
	url, next := capture(t)
	s := batchSink(t, url, func(c *Config) {
		c.Mode, c.Headers = modeData, map[string]rules.Template{"Content-Type": template(t, "application/x-list+json")}
	})
	sendAll(t, s, orders("a"))
	if r := next(); len(r.header["Content-Type"]) != 1 || r.header.Get("Content-Type") != "application/x-list+json" {
		t.Errorf("%v", r.header)
	}
}

func TestBatchedRefuses(t *testing.T) {
	s := newSink(t, "http://127.0.0.1:1/{{ id }}", func(c *Config) {
		c.Headers = map[string]rules.Template{"x-one": template(t, "{{ id }}"), "x-two": template(t, "two")}
	})
	err := s.Batched()
	var key *event.KeyError
	if !errors.As(err, &key) || !strings.Contains(err.Error(), "url: ") || !strings.Contains(err.Error(), "headers.x-one: ") ||
		strings.Contains(err.Error(), "x-two") {
		t.Errorf("%v", err)
	}
}

// answering is a server that answers every request alike.
func answering(t testing.TB, status int, header, body string) string {
	srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if header != "" {
			w.Header().Set("Content-Type", header)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestPartialFailures(t *testing.T) {
	const taken, counted, permanent, unavailable, gone = -1, int(event.Counted), int(event.PermanentClass),
		int(event.UnavailableClass), int(event.GoneClass)
	all := func(class int) []int { return []int{class, class, class, class} }
	none := all(taken)
	item := func(s string) string { return `{"batchItemFailures":[` + s + `]}` }
	for _, c := range []struct {
		name, answer string
		want         []int // of a, b, c and c
	}{
		{"nothing", "", none},
		{"no JSON", "thanks", none},
		{"another JSON", `{"ok":true}`, none},
		{"an array", `[{"batchItemFailures":[{"itemIdentifier":"a"}]}]`, none},
		{"braces that are no JSON", "{thanks}", none},
		{"no failures", item(""), none},
		{"null", `{"batchItemFailures":null}`, none},
		{"one", item(`{"itemIdentifier":"b"}`), []int{taken, counted, taken, taken}},
		{"white space before", "\r\n\t " + item(`{"itemIdentifier":"b"}`), []int{taken, counted, taken, taken}},
		{"one with more members", `{"x":1,"batchItemFailures":[{"itemIdentifier":"a","status":422,"error":"no","y":{}}]}`,
			[]int{permanent, taken, taken, taken}},
		{"several", item(`{"itemIdentifier":"a","status":503},{"itemIdentifier":"b","status":418}`),
			[]int{unavailable, counted, taken, taken}},
		{"gone", item(`{"itemIdentifier":"a","status":410}`), []int{gone, taken, taken, taken}},
		{"a status of success", item(`{"itemIdentifier":"a","status":204}`), none},
		{"two of one id", item(`{"itemIdentifier":"c"}`), []int{taken, taken, counted, counted}},
		{"unknown id", item(`{"itemIdentifier":"b"},{"itemIdentifier":"z"}`), all(counted)},
		{"no id", item(`{"status":422}`), all(counted)},
		{"empty id", item(`{"itemIdentifier":""}`), all(counted)},
		{"id of another kind", item(`{"itemIdentifier":7}`), all(counted)},
		{"status that is none", item(`{"itemIdentifier":"a","status":7}`), all(counted)},
		{"status of another kind", item(`{"itemIdentifier":"a","status":"422"}`), all(counted)},
		{"not a list", `{"batchItemFailures":"a"}`, all(counted)},
		{"cut off", `{"batchItemFailures":[{"itemIdenti`, all(counted)},
		{"error of another kind", item(`{"itemIdentifier":"a","error":{"code":7}}`), []int{counted, taken, taken, taken}},
		{"too long", `{"x":"` + strings.Repeat("x", maxList) + `"}`, all(counted)},
		{"long text", strings.Repeat("x", maxList+10), none},
	} {
		t.Run(c.name, func(t *testing.T) {
			verdicts := sendAll(t, batchSink(t, answering(t, 200, "", c.answer)), orders("a", "b", "c", "c"))
			for i, err := range verdicts {
				got := taken
				if err != nil {
					got = int(event.VerdictOf(err).Class)
				}
				if got != c.want[i] {
					t.Errorf("event %d: %d, want %d: %v", i, got, c.want[i], err)
				}
			}
		})
	}
	url := answering(t, 207, "", item(`{"itemIdentifier":"a","status":422,"error":"no such shop"}`))
	err := sendAll(t, batchSink(t, url), orders("a", "b"))[0]
	if f := event.VerdictOf(err); f.Status != 422 || string(f.Answer) != "no such shop" {
		t.Errorf("%+v", f)
	}
}

// A list that does not come whole must not turn failures into successes, and what says nothing must not hold a success back.
func TestPartialFailuresCutOff(t *testing.T) {
	for answer, ok := range map[string]bool{
		"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"batchItem":                   false,
		"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n":                               false,
		"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthanks":                         true,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"b\r\n":           false,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n":    true,
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"batchItemFailures\":[]}":       true,
		"HTTP/1.1 204 No Content\r\n\r\n":                                              true,
		"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n": true,
	} {
		url := rawServer(t, func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, answer)
		})
		for _, err := range sendAll(t, batchSink(t, url), orders("a", "b")) {
			if (err == nil) != ok {
				t.Errorf("%q: %v", answer, err)
			}
			if err != nil && event.VerdictOf(err).Class != event.Counted {
				t.Errorf("%q: %v", answer, err)
			}
		}
	}
}

// poisoned is a server that refuses every batch with one of some events in it.
type poisoned struct {
	mu       sync.Mutex // guards what follows
	poison   []string
	status   int
	requests [][]string
	taken    []string
	most     int // events, beyond which it answers 413; 0 for any number
}

func (p *poisoned) ServeHTTP(w nethttp.ResponseWriter, r *nethttp.Request) {
	body, _ := io.ReadAll(r.Body)
	batch, err := codec.DecodeBatch(body, 0)
	if err != nil {
		w.WriteHeader(500)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []string
	for _, e := range batch {
		ids = append(ids, e.ID)
	}
	p.requests = append(p.requests, ids)
	switch {
	case p.most > 0 && len(ids) > p.most:
		w.WriteHeader(413)
	case slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(p.poison, id) }):
		w.WriteHeader(p.status)
	default:
		p.taken = append(p.taken, ids...)
	}
}

func TestPoisonTakesNoNeighbors(t *testing.T) {
	ids := strings.Split("abcdefghijklmnop", "")
	for _, c := range []struct {
		poison   string
		most     int
		requests int // at most
	}{
		{"", 0, 1}, {"a", 0, 9}, {"h", 0, 9}, {"p", 0, 9}, {"ap", 0, 16}, {"abcdefghijklmnop", 0, 31},
		{"", 4, 7}, {"", 1, 31}, {"k", 4, 11},
	} {
		p := &poisoned{status: 422, most: c.most, poison: strings.Split(c.poison, "")}
		srv := httptest.NewServer(p)
		verdicts := sendAll(t, batchSink(t, srv.URL), orders(ids...))
		srv.Close()
		var want []string
		for i, err := range verdicts {
			bad := strings.Contains(c.poison, ids[i])
			if (err != nil) != bad || bad && event.VerdictOf(err).Class != event.PermanentClass {
				t.Errorf("poison %q: %s: %v", c.poison, ids[i], err)
			}
			if !bad {
				want = append(want, ids[i])
			}
		}
		slices.Sort(p.taken)
		if !slices.Equal(p.taken, want) {
			t.Errorf("poison %q: taken %v", c.poison, p.taken)
		}
		if len(p.requests) > c.requests {
			t.Errorf("poison %q: %d requests, want at most %d", c.poison, len(p.requests), c.requests)
		}
	}
}

// What the destination says about itself is for all, and ends the halving.
func TestUnavailableIsForAll(t *testing.T) {
	for _, status := range []int{503, 429, 302, 410, 418} {
		var n atomic.Int64
		srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if n.Add(1) == 1 {
				w.WriteHeader(422)
				return
			}
			w.WriteHeader(status)
		}))
		for i, err := range sendAll(t, batchSink(t, srv.URL), orders("a", "b", "c", "d")) {
			if f := event.VerdictOf(err); f.Class != classOf(status) {
				t.Errorf("%d: event %d: %+v", status, i, f)
			}
		}
		srv.Close()
		if want := map[bool]int{true: 3, false: 2}[status == 418]; n.Load() != int64(want) {
			t.Errorf("%d: %d requests, want %d", status, n.Load(), want)
		}
	}
}

func TestHalvingHearsItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var n atomic.Int64
	srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if n.Add(1) == 2 {
			cancel()
			<-r.Context().Done()
			return
		}
		w.WriteHeader(422)
	}))
	defer srv.Close()
	for i, err := range batchSink(t, srv.URL).Deliver(ctx, orders("a", "b", "c", "d")).Verdicts {
		if f := event.VerdictOf(err); f.Class != event.UnavailableClass {
			t.Errorf("event %d: %+v", i, f)
		}
	}
}

func TestBatchConformance(t *testing.T) { sinktest.Run(t, sinktest.Harness{New: newBatchSubject}) }

// newBatchSubject is newSubject for a sink that sends batches.
func newBatchSubject(t *testing.T) *sinktest.Subject {
	subject := newSubjectOf(t, (*Sink).Batched, "", func(r *nethttp.Request, body []byte) []sinktest.Received {
		batch, err := codec.DecodeBatch(body, 0)
		if err != nil {
			t.Errorf("%.100s: %v", body, err)
		}
		var all []sinktest.Received
		for _, e := range batch {
			key, _ := e.Extension("idempotencykey")
			all = append(all, sinktest.Received{ID: e.ID, Key: key.Text, Data: e.Data})
		}
		return all
	})
	subject.Verdicts = slices.DeleteFunc(subject.Verdicts, func(v sinktest.Verdict) bool { return v.Name == "misses a field" })
	return subject
}

func TestItemFailureIsReadable(t *testing.T) {
	s := &Sink{to: target{host: "the sink"}}
	long, _ := json.Marshal(strings.Repeat("x", 2*maxAnswer))
	if f := event.VerdictOf(s.itemFailure(200, nil, long)); len(f.Answer) != maxAnswer || f.Status != 200 || f.Class != event.Counted {
		t.Errorf("%d bytes, %+v", len(f.Answer), f)
	}
}
