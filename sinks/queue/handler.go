package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

// Prefix is where the queues are on a listener. No webhook has a path below it.
const Prefix = "/v1/queues/"

// maxBody is room for MaxEvents receipts.
const maxBody = 1 << 20

// Served is a queue with who hands out its events.
type Served struct {
	*Queue
	Lender event.Lender
}

// Mux answers POST /v1/queues/{pipeline}.{sink}/receive, ack, nack and extend. It is an http.Handler.
type Mux struct {
	queues map[string]Served
}

// NewMux returns the handler of queues by their name, which is {pipeline}.{sink}.
func NewMux(queues map[string]Served) *Mux { return &Mux{maps.Clone(queues)} }

// request is the body of every request; which of it matters is a matter of the action.
type request struct {
	Max      *int      `json:"max"`
	Wait     duration  `json:"wait"`
	Lease    *duration `json:"lease"`
	Receipts []string  `json:"receipts"`
	Delay    *duration `json:"delay"`
	Error    string    `json:"error"`
	Reject   bool      `json:"reject"`
}

// actions are what can be done with a queue, with the members of the request that each takes.
var actions = map[string]struct {
	do    func(context.Context, Served, *request) (any, error)
	takes []string
}{
	"receive": {receive, []string{"max", "wait", "lease"}},
	"ack":     {ack, []string{"receipts"}},
	"nack":    {nack, []string{"receipts", "delay", "error", "reject"}},
	"extend":  {extend, []string{"receipts", "lease"}},
}

// ServeHTTP answers one request.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, action, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, Prefix), "/")
	q, ok := m.queues[name]
	act, known := actions[action]
	switch {
	case !ok:
		refuse(w, http.StatusNotFound, fmt.Sprintf("there is no queue %q here", name))
	case !q.admits(bearer(r)):
		w.Header().Set("WWW-Authenticate", "Bearer")
		refuse(w, http.StatusUnauthorized, "this queue wants its token, as Authorization: Bearer …")
	case !known:
		refuse(w, http.StatusNotFound, "a queue knows "+strings.Join(slices.Sorted(maps.Keys(actions)), ", "))
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, action+" takes POST, not "+r.Method)
	default:
		asked, err := read(w, r, act.takes)
		if err != nil {
			refuse(w, http.StatusBadRequest, err.Error())
			return
		}
		answer(w, r, func(ctx context.Context) (any, error) { return act.do(ctx, q, asked) })
	}
}

func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// read reads the body: one object in JSON with the members that the action takes, or nothing.
func read(w http.ResponseWriter, r *http.Request, takes []string) (*request, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("the body: %w", err)
	}
	asked := &request{}
	if len(strings.TrimSpace(string(body))) == 0 {
		return asked, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, fmt.Errorf("the body is no JSON object: %w", err)
	}
	for name := range members {
		if !slices.Contains(takes, name) {
			return nil, fmt.Errorf("%q is not known here; there are %s", name, strings.Join(takes, ", "))
		}
	}
	if err := json.Unmarshal(body, asked); err != nil {
		return nil, err
	}
	return asked, nil
}

// mistake is an error of the request.
type mistake struct{ error }

func wrong(format string, args ...any) error { return mistake{fmt.Errorf(format, args...)} }

// answer does what was asked for and tells what came of it.
func answer(w http.ResponseWriter, r *http.Request, do func(context.Context) (any, error)) {
	v, err := do(r.Context())
	var m mistake
	switch {
	case err == nil:
		write(w, http.StatusOK, "application/json", v)
	case errors.As(err, &m), errors.Is(err, event.ErrReceipt):
		refuse(w, http.StatusBadRequest, err.Error())
	default:
		refuse(w, http.StatusServiceUnavailable, "nothing was done: "+err.Error())
	}
}

func receive(ctx context.Context, q Served, r *request) (any, error) {
	ask, err := q.ask(r)
	if err != nil {
		return nil, err
	}
	events, err := q.Lender.Receive(ctx, ask)
	if err != nil {
		return nil, err
	}
	return verbatim(encode(events)), nil
}

// encode writes events as a worker gets them. It is done by hand because encoding/json would rewrite the data of an event, which a
// worker may have a signature of.
func encode(events []event.Leased) []byte {
	b := []byte(`{"events":[`)
	for i := range events {
		l := &events[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = codec.AppendString(append(b, `{"receipt":`...), l.Receipt)
		b = strconv.AppendInt(append(b, `,"attempt":`...), int64(l.Delivery.Attempt), 10)
		b = codec.AppendString(append(b, `,"key":`...), l.Delivery.Key)
		b = l.Until.UTC().AppendFormat(append(b, `,"until":"`...), time.RFC3339Nano)
		b = codec.EncodeJSON(append(b, `","event":`...), l.Delivery.Event)
		b = append(b, '}')
	}
	return append(b, "]}"...)
}

// ask is what a worker asks for: one event, if it does not say.
func (q *Queue) ask(r *request) (event.Ask, error) {
	ask := event.Ask{Max: 1, Wait: time.Duration(r.Wait)}
	if r.Max != nil {
		ask.Max = *r.Max
	}
	switch {
	case ask.Max < 1 || ask.Max > MaxEvents:
		return ask, wrong("max: must be from 1 to %d", MaxEvents)
	case ask.Wait < 0 || ask.Wait > MaxWait:
		return ask, wrong("wait: must be from 0s to %s", MaxWait)
	}
	var err error
	ask.Lease, err = q.lease(r)
	return ask, err
}

func (q *Queue) lease(r *request) (time.Duration, error) {
	if r.Lease == nil {
		return q.config.Lease, nil
	}
	d := time.Duration(*r.Lease)
	if err := checkLease(d); err != nil {
		return 0, wrong("lease: %w", err)
	}
	return d, nil
}

func ack(ctx context.Context, q Served, r *request) (any, error) {
	return q.giveBack(ctx, r, event.Return{Action: event.Acked})
}

func nack(ctx context.Context, q Served, r *request) (any, error) {
	back := event.Return{Action: event.Nacked, Delay: -1, Problem: codec.Legible(r.Error)}
	if r.Delay != nil {
		if back.Delay = time.Duration(*r.Delay); back.Delay < 0 || back.Delay > MaxLease {
			return nil, wrong("delay: must be from 0s to %s", MaxLease)
		}
	}
	if r.Reject {
		if r.Delay != nil {
			return nil, wrong("delay: what is rejected does not come again")
		}
		back.Action = event.Rejected
	}
	return q.giveBack(ctx, r, back)
}

func extend(ctx context.Context, q Served, r *request) (any, error) {
	d, err := q.lease(r)
	if err != nil {
		return nil, err
	}
	return q.giveBack(ctx, r, event.Return{Action: event.Extended, Delay: d})
}

func (q Served) giveBack(ctx context.Context, r *request, back event.Return) (any, error) {
	if n := len(r.Receipts); n == 0 || n > MaxEvents {
		return nil, wrong("receipts: name 1 to %d", MaxEvents)
	}
	gone, err := q.Lender.Return(ctx, r.Receipts, back)
	if err != nil {
		return nil, err
	}
	if gone == nil {
		gone = []string{}
	}
	return map[string]any{"done": len(r.Receipts) - len(gone), "gone": gone}, nil
}

// duration is a time span in JSON: a text such as "30s", or a number of seconds.
type duration time.Duration

// UnmarshalJSON reads either form.
func (d *duration) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		span, err := time.ParseDuration(text)
		*d = duration(span)
		return err
	}
	var seconds float64
	if err := json.Unmarshal(b, &seconds); err != nil || seconds > MaxLease.Seconds() || seconds < 0 {
		return fmt.Errorf("%s is no time span; write \"30s\", or seconds as a number", b)
	}
	*d = duration(seconds * float64(time.Second))
	return nil
}
