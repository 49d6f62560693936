package app

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/sinks/queue"
)

// QueueURL is where a queue, {pipeline}.{sink}, is: below base, or if that is empty where http.listen of the plan says.
func QueueURL(plan *Plan, name, base string) (string, error) {
	var names []string
	for _, p := range plan.Pipelines {
		for _, s := range p.Sinks {
			if s.Pull {
				names = append(names, queueName(p.Name, s.Name))
			}
		}
	}
	if base == "" {
		at, err := listenURL(plan)
		if err != nil {
			return "", err
		}
		base = at
	}
	for _, n := range names {
		if n == name {
			return QueueBelow(base, name), nil
		}
	}
	if len(names) == 0 {
		return "", fmt.Errorf("there is no queue %q, and no other: no sink has the type queue", name)
	}
	return "", fmt.Errorf("there is no queue %q; there are %s", name, strings.Join(names, ", "))
}

// QueueBelow is where a queue is below the address of a Millrace.
func QueueBelow(base, name string) string {
	return strings.TrimRight(base, "/") + queue.Prefix + url.PathEscape(name)
}

// Work is what is done with an event: nil says that it is done, a verdict (event.Permanent, event.RetryAfter) or any other error that
// it failed. When ctx ends the event is in other hands.
type Work func(ctx context.Context, j Job) error

// Job is an event in the hands of a worker.
type Job struct {
	Event   event.Event
	Attempt int
	Key     string // the same at every attempt of this delivery
}

// Consumer takes events from a queue and has work done on them. URL, Workers, Lease and Logger must be set.
type Consumer struct {
	URL     string // of the queue
	Token   string
	Workers []Work // each has one event at a time
	Lease   time.Duration
	Max     int           // events, after which Run ends; 0: never
	Idle    time.Duration // Run ends when there was no event for so long; 0: never
	Clock   event.Clock   // nil: the machine's
	Logger  *slog.Logger
}

// Run works until ctx ends, which is no error: events that are in work then are finished first. The error is an *UnreachableError
// if no Millrace answers at the first request, a *RefusedError if the queue is not there for us. Later it waits until it is there again.
func (c *Consumer) Run(ctx context.Context) (Consumed, error) {
	run, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if c.Clock == nil {
		c.Clock = event.SystemClock{}
	}
	s := &shift{Consumer: c, client: newQueueClient(), stop: stop}
	defer s.client.CloseIdleConnections()
	var group sync.WaitGroup
	for _, w := range c.Workers {
		group.Go(func() { s.work(run, w) })
	}
	group.Wait()
	if ctx.Err() != nil {
		return s.consumed, nil
	}
	return s.consumed, context.Cause(run)
}

// Consumed is how many events were done, and how many failed attempts there were.
type Consumed struct{ Done, Failed int }

// shift is one Run.
type shift struct {
	*Consumer
	client *http.Client
	stop   context.CancelCauseFunc

	mu       sync.Mutex // guards all below
	begun    int        // events asked for and not denied
	consumed Consumed
	reached  bool
}

func newQueueClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

const (
	longPoll     = 20 * time.Second
	queueTimeout = 10 * time.Second // of an answer that does not wait for events
	retryPause   = time.Second
)

// work is one worker.
func (s *shift) work(ctx context.Context, do Work) {
	quiet := time.Duration(0)
	for ctx.Err() == nil && s.take() {
		wait := longPoll
		if s.Idle > 0 {
			wait = min(wait, s.Idle-quiet)
		}
		got, err := s.receive(ctx, wait)
		if err != nil || got == nil {
			s.untake()
		}
		switch {
		case err != nil:
			s.failed(ctx, err)
		case got != nil:
			quiet = 0
			s.job(ctx, do, got)
		default:
			if quiet += wait; s.Idle > 0 && quiet >= s.Idle {
				return
			}
		}
	}
}

// take says whether one more event is wanted.
func (s *shift) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Max > 0 && s.begun >= s.Max {
		return false
	}
	s.begun++
	return true
}

func (s *shift) untake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun--
}

// failed takes an error of a request for events. Before the first answer it ends the run: the address is probably wrong.
func (s *shift) failed(ctx context.Context, err error) {
	s.mu.Lock()
	reached := s.reached
	s.mu.Unlock()
	var refused *RefusedError
	final := errors.As(err, &refused) && refused.Status < http.StatusInternalServerError
	switch {
	case ctx.Err() != nil:
	case !reached || final:
		s.stop(err)
	default:
		s.Logger.Warn("the queue does not answer; trying again", "err", err)
		pause, release := s.Clock.After(retryPause)
		defer release()
		select {
		case <-ctx.Done():
		case <-pause:
		}
	}
}

// job has the work done on one event, keeps the lease meanwhile, and tells the queue what came of it. The end of the run does not
// end the work.
func (s *shift) job(ctx context.Context, do Work, l *lent) {
	finish := context.WithoutCancel(ctx)
	working, lose := context.WithCancelCause(finish)
	defer lose(nil)
	var keeping sync.WaitGroup
	needed, enough := context.WithCancel(finish)
	defer enough()
	keeping.Go(func() { s.keep(needed, lose, l.receipt) })
	err := do(working, l.job)
	enough()
	keeping.Wait()
	if cause := context.Cause(working); cause != nil {
		s.Logger.Warn("the lease was lost; the event goes to another worker", "event_id", l.job.Event.ID, "err", cause)
		return
	}
	action, body := verdict(l.receipt, err)
	if err != nil {
		s.Logger.Warn("the event failed", "event_id", l.job.Event.ID, "attempt", l.job.Attempt, "err", err)
	}
	if gone, failed := s.giveBack(finish, action, body); failed != nil || gone {
		s.Logger.Warn("the event may come again: the queue did not hear what became of it", "event_id", l.job.Event.ID, "gone", gone, "err", failed)
		return
	}
	s.count(err == nil)
}

func (s *shift) count(done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if done {
		s.consumed.Done++
	} else {
		s.consumed.Failed++
	}
}

// keep asks for more time whenever a third of the lease is over, until ctx ends with the work. When the queue says that the lease is gone, the
// work is in vain.
func (s *shift) keep(ctx context.Context, lose context.CancelCauseFunc, receipt string) {
	for {
		due, release := s.Clock.After(s.Lease / 3)
		select {
		case <-ctx.Done():
			release()
			return
		case <-due:
		}
		gone, err := s.giveBack(ctx, "extend", map[string]any{"receipts": []string{receipt}, "lease": s.Lease.String()})
		if ctx.Err() != nil {
			return
		}
		if gone {
			lose(errors.New("the queue took the event back"))
			return
		}
		if err != nil {
			s.Logger.Warn("the lease could not be made longer; trying again", "err", err)
		}
	}
}

// verdict is the request that tells what became of an event.
func verdict(receipt string, err error) (action string, body map[string]any) {
	body = map[string]any{"receipts": []string{receipt}}
	if err == nil {
		return "ack", body
	}
	body["error"] = err.Error()
	switch v := event.VerdictOf(err); {
	case v.Class == event.PermanentClass:
		body["reject"] = true
	case v.After > 0:
		body["delay"] = v.After.String()
	}
	return "nack", body
}

// lent is an event with its receipt.
type lent struct {
	receipt string
	job     Job
}

// receive asks for one event; nil: there was none.
func (s *shift) receive(ctx context.Context, wait time.Duration) (*lent, error) {
	asked, cancel := context.WithTimeout(ctx, wait+queueTimeout)
	defer cancel()
	var answer struct {
		Events []struct {
			Receipt string
			Attempt int
			Key     string
			Event   json.RawMessage
		}
	}
	body := map[string]any{"max": 1, "wait": wait.String(), "lease": s.Lease.String()}
	if err := s.post(asked, "receive", body, &answer); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.reached = true
	s.mu.Unlock()
	if len(answer.Events) == 0 {
		return nil, nil
	}
	got := answer.Events[0]
	e, err := codec.DecodeJSON(got.Event, 0)
	if err != nil {
		return nil, &UnreachableError{fmt.Errorf("what answers there is no Millrace: %w", err)}
	}
	return &lent{got.Receipt, Job{Event: e, Attempt: got.Attempt, Key: got.Key}}, nil
}

// giveBack tells the queue about an event, three times if need be.
func (s *shift) giveBack(ctx context.Context, action string, body map[string]any) (gone bool, err error) {
	for range 3 {
		var answer struct{ Gone []string }
		asked, cancel := context.WithTimeout(ctx, queueTimeout)
		err = s.post(asked, action, body, &answer)
		cancel()
		var unreachable *UnreachableError
		if !errors.As(err, &unreachable) {
			return len(answer.Gone) > 0, err
		}
	}
	return false, err
}

// post asks the queue. The errors are those of Run.
func (s *shift) post(ctx context.Context, action string, body, into any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/"+action, bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if s.Token != "" {
		req.Header.Set("Authorization", "Bearer "+s.Token)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return &UnreachableError{err}
	}
	defer res.Body.Close()
	got, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return &UnreachableError{fmt.Errorf("its answer broke off: %w", err)}
	}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if kind == "application/problem+json" {
		var problem struct{ Title, Detail string }
		if json.Unmarshal(got, &problem) == nil {
			return &RefusedError{res.StatusCode, cmp.Or(problem.Detail, problem.Title, res.Status)}
		}
	}
	if res.StatusCode != http.StatusOK || json.Unmarshal(got, into) != nil {
		return &UnreachableError{fmt.Errorf("what answers there is no Millrace (%s)", res.Status)}
	}
	return nil
}
