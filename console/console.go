// Package console serves the admin listener: health, metrics and the API that commands use beside a running instance.
//
// It has no users and no tokens, so it is for loopback only (CheckListen), and it trusts a browser with nothing: requests
// under a foreign Host name are refused, which is what DNS rebinding needs, and so are changes that another site sends.
package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/millrace-run/millrace/event"
)

// Instance is what the console shows and changes: one running Millrace. All methods are called concurrently.
type Instance interface {
	// NotReady returns the reasons why the instance does not do all of its work, nil when it does.
	NotReady() []string

	// Metrics returns what the instance counts, as it is now.
	Metrics() []Metric

	// DeadLetters lists the dead letters that q selects, in the order of their ids.
	DeadLetters(ctx context.Context, q Query) ([]DeadLetter, error)

	// CountDead counts the dead letters that q selects, by pipeline, sink, reason and status.
	CountDead(ctx context.Context, q Query) ([]Count, error)

	// Redrive hands the selected dead letters to their sinks again, or to another one, as how says, until the limit of q is reached. Ids
	// that are no dead letters (any more) are passed over. An *UnknownError says what is wrong with q or how, and then nothing happened;
	// another error comes beside what was done before it.
	Redrive(ctx context.Context, q Query, how Redrive) (Redriven, error)

	// Drop settles the selected dead letters for good, those of pipelines and sinks that the configuration no longer has too. Limit, ids
	// and errors are as for Redrive.
	Drop(ctx context.Context, q Query) (Dropped, error)

	// Events finds the events with an id, at most limit of them, and says how each stands with every sink. None is no error;
	// errors.ErrUnsupported says that this instance cannot look for ids.
	Events(ctx context.Context, id string, limit int) ([]Place, error)

	// Backup copies the outbox while it is in use. progress hears how many bytes of how many are copied. The file has no name, and
	// whoever gets it closes it. errors.ErrUnsupported says that there is no outbox on disk.
	Backup(ctx context.Context, progress func(done, total int64)) (*os.File, error)

	// Subscriptions says how all subscriptions stand, by pipeline and sink, those that were removed from the configuration too.
	Subscriptions(ctx context.Context) ([]Subscription, error)

	// Pause makes the sinks that p names rest, also over restarts, and returns how many they are; those that rest already keep their
	// reason. Resume ends that. An *UnknownError says that there is no such pipeline or sink.
	Pause(ctx context.Context, p Pause) (int, error)
	Resume(ctx context.Context, p Pause) (int, error)

	// Seek moves the subscription of a sink, or says what that would come to. An *UnknownError says that there is no such sink, an
	// *InvalidError that there is no such place, errors.ErrUnsupported that its events are in memory only.
	Seek(ctx context.Context, k Seek) ([]Sought, error)
}

// Query selects dead letters. Zero fields select all; those that are set must all hold.
type Query struct {
	IDs      []int64
	Pipeline string
	Sink     string
	Reasons  []string
	Statuses []int     // of the last answer; 0 is none
	Since    time.Time // the last attempt was not before this
	Until    time.Time // and before this
	Text     string    // that the last error contains
	Where    string    // an expression on the event as it was stored; where it fails, it is not true
	After    int64     // ids greater than this
	Limit    int       // at most so many; 0 is no limit
	Event    bool      // with what was to be delivered, and what was answered; for lists only
}

// DeadLetter is an event that could not be delivered, as people and programs see it.
type DeadLetter struct {
	ID        int64      `json:"id"`       // names it in commands; never used again
	EventID   string     `json:"event_id"` // the event's own id
	Pipeline  string     `json:"pipeline"`
	Sink      string     `json:"sink"`   // empty when a stage failed, before any sink, and where none wanted it
	Stage     string     `json:"stage"`  // the stage that failed; empty for a sink's own failure
	Reason    string     `json:"reason"` // permanent, attempts, age, expired, on_error, unmatched or overflow
	Status    int        `json:"status"` // the last answer's status code, 0 if there was none
	LastError string     `json:"last_error"`
	Attempts  int        `json:"attempts"` // all, counted or not
	FirstAt   *time.Time `json:"first_at"` // UTC; null when there was no attempt
	LastAt    *time.Time `json:"last_at"`
	Durable   bool       `json:"durable"` // false: it is in memory only and gone when the process ends

	Offset     int64      `json:"offset"`      // the event's place in its topic
	ReceivedAt *time.Time `json:"received_at"` // when the event was accepted, UTC; null when it cannot be read any more

	// The rest is there only when it was asked for.
	Event   json.RawMessage `json:"event,omitempty"`   // as it was stored, a structured CloudEvent; null when it cannot be read any more
	Edited  json.RawMessage `json:"edited,omitempty"`  // what an edit made of it, which is what was delivered last
	From    string          `json:"from,omitempty"`    // the sink that a redrive took it from
	Answer  *string         `json:"answer,omitempty"`  // the first KiB of the last answer
	History []Attempt       `json:"history,omitempty"` // the last attempts, oldest first
}

// Attempt is one that failed.
type Attempt struct {
	At     time.Time `json:"at"`     // UTC
	Status int       `json:"status"` // 0 if there was none
	Error  string    `json:"error"`
	Answer string    `json:"answer"` // the beginning of what came back; of older ones it may be left out
}

// Count is how many dead letters have the rest in common.
type Count struct {
	Pipeline string `json:"pipeline"`
	Sink     string `json:"sink"`
	Reason   string `json:"reason"`
	Status   int    `json:"status"`
	Count    int    `json:"count"`
}

// Reasons are the words that a dead letter's reason can be.
func Reasons() []string {
	all := []event.Reason{event.ReasonPermanent, event.ReasonAttempts, event.ReasonAge, event.ReasonExpired, event.ReasonOnError, event.ReasonUnmatched,
		event.ReasonOverflow}
	words := make([]string, len(all))
	for i, r := range all {
		words[i] = string(r)
	}
	return words
}

// UnknownError says that a selection names what there is not, and what there is.
type UnknownError struct{ Detail string }

// Error is the detail.
func (e *UnknownError) Error() string { return e.Detail }

// Options are the settings of a console.
type Options struct {
	Listen   string // admin.listen as configured; its host is an allowed Host name
	Version  string
	Instance Instance
}

// CheckListen says whether an admin listener may be opened at this address: it must be of loopback, because the admin API has
// no authentication. A name other than localhost is refused, since what it resolves to may change.
func CheckListen(listen string) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("%q is no address to listen on: write host:port, such as 127.0.0.1:8081", listen)
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Unmap().IsLoopback() || host == "localhost" {
		return nil
	}
	return fmt.Errorf("%q can be reached from other machines and the admin API asks for no password: "+
		"listen on 127.0.0.1 and reach it through a tunnel", listen)
}

// New returns the handler of the admin listener.
func New(o Options) http.Handler {
	c := &console{Options: o, hosts: allowedHosts(o.Listen)}
	c.metrics = metricsHandler(o.Version, o.Instance)
	c.routes = c.table()
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusForbidden, "a page of another site may not change anything here")
	}))
	return c.harden(guard.Handler(http.HandlerFunc(c.serve)))
}

type console struct {
	Options
	hosts   map[string]bool
	metrics http.Handler
	routes  []route
}

// route is one path of the admin listener with what answers it. GET answers HEAD too.
type route struct {
	method, path, doc string
	handle            http.HandlerFunc
}

const (
	filterDoc  = "?pipeline= &sink= &reason= &status= &since= &until= &error= &where="
	redriveDoc = `{"ids":[1,2]} or {"all":true,"pipeline":"…","sink":"…","reasons":["age"],"statuses":[422],"since":"…","until":"…",` +
		`"error":"…","where":"…","after":0,"limit":0,"to":"…","edit":["data.total = 1"],"rate":"100/s","dry_run":true}`
)

func (c *console) table() []route {
	return []route{
		{"GET", "/", "this page", c.index},
		{"GET", "/livez", "200 while the process answers", c.livez},
		{"GET", "/readyz", "200 when everything runs, else 503; ?verbose says why not", c.readyz},
		{"GET", "/metrics", "numbers for Prometheus", c.metrics.ServeHTTP},
		{"GET", "/api/v1/dead-letters", "dead letters; " + filterDoc + " &id= &after= &limit= &event=true", c.listDead},
		{"GET", "/api/v1/dead-letters/counts", "how many; " + filterDoc, c.countDead},
		{"POST", "/api/v1/dead-letters/redrive", redriveDoc, c.redrive},
		{"POST", "/api/v1/dead-letters/drop", "the same selection: they are settled for good", c.drop},
		{"GET", eventsPath + "{id}", "where an event is and what became of it; ?limit=", c.findEvent},
		{"POST", "/api/v1/backup", "a copy of the outbox, to be checked by who asks: millrace backup", c.backup},
		{"GET", "/api/v1/subscriptions", "how far each sink has come; ?pipeline= &sink=", c.listSubscriptions},
		{"POST", "/api/v1/subscriptions/pause", `{"pipeline":"…","sink":"…","reason":"…"}: it rests until it is resumed`, c.pause},
		{"POST", "/api/v1/subscriptions/resume", `{"pipeline":"…","sink":"…"}: the end of a pause`, c.resume},
		{"POST", "/api/v1/subscriptions/seek", `{"pipeline":"…","sink":"…","to":"beginning","dry_run":true}: where it goes on`, c.seek},
	}
}

// matches says whether a path is the route's. An {id} at its end is whatever follows, slashes too, but not nothing.
func (r *route) matches(path string) bool {
	if before, ok := strings.CutSuffix(r.path, "{id}"); ok {
		return len(path) > len(before) && strings.HasPrefix(path, before)
	}
	return r.path == path
}

// serve finds the route. It is written out because http.ServeMux answers unknown paths and methods in plain text.
func (c *console) serve(w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, rt := range c.routes {
		if !rt.matches(r.URL.Path) {
			continue
		}
		if rt.method == r.Method || rt.method == http.MethodGet && r.Method == http.MethodHead {
			rt.handle(w, r)
			return
		}
		allow = append(allow, rt.method)
	}
	if allow == nil {
		problem(w, http.StatusNotFound, fmt.Sprintf("there is nothing at %s; / lists what there is", r.URL.Path))
		return
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	problem(w, http.StatusMethodNotAllowed, fmt.Sprintf("%s takes %s", r.URL.Path, strings.Join(allow, ", ")))
}

// harden sets the headers that every answer carries and refuses a foreign Host.
func (c *console) harden(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if !c.hosts[hostname(r.Host)] {
			problem(w, http.StatusForbidden, fmt.Sprintf("this listener does not answer to the name %q; use %s", r.Host, c.Listen))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func allowedHosts(listen string) map[string]bool {
	hosts := map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true}
	if h := hostname(listen); h != "" {
		hosts[h] = true
	}
	return hosts
}

// hostname is the name in a Host header: lower case, without port and brackets.
func hostname(hostport string) string {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
}
