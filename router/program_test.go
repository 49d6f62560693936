package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/outbox"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/rules"
)

// program is what TestPrograms draws: the settings of one sink, the events that come to it, and what happens meanwhile.
type program struct {
	Order                                 string // "", key, hold, strict; or serial, a sink that needs none
	MaxHeld, Concurrency, Batch, Attempts int
	Breaker, Until                        bool
	Delay, Expire                         time.Duration
	Jitter                                uint64 // seed
	Steps                                 []progStep
}

func (p program) String() string {
	var b strings.Builder
	steps := p.Steps
	p.Steps = nil
	type settings program // without this method
	fmt.Fprintf(&b, "%+v", settings(p))
	for i, s := range steps {
		fmt.Fprintf(&b, "\n%d %+v", i+1, s)
	}
	return b.String()
}

// progStep is one thing that happens. Lag keeps what the router settles meanwhile from the disk.
type progStep struct {
	Do     string
	By     time.Duration
	N      int
	Events []progEvent
	Lag    bool
}

// progEvent is an event with the answers that its attempts get, whoever makes them; then they succeed. Key 0 is none.
type progEvent struct {
	Key            int
	Until, Expires time.Duration // from when it is sent; 0: it has none
	Answers        []progAnswer
}

type progAnswer struct {
	Kind  string
	Takes time.Duration
}

// What an attempt is answered.
const (
	answersWell        = "ok"
	answersFailed      = "fail"
	answersUnavailable = "unavailable"
	answersLater       = "later"
	answersPermanent   = "permanent"
)

// progLater is what a destination asks for that says later.
const progLater = 20 * time.Second

func durations(all ...time.Duration) *rapid.Generator[time.Duration] { return rapid.SampledFrom(all) }

func drawProgram(t *rapid.T) program {
	p := program{
		Order:       rapid.SampledFrom([]string{"key", "", "hold", "strict", "serial"}).Draw(t, "order"),
		MaxHeld:     rapid.SampledFrom([]int{3, 1000}).Draw(t, "max_held"),
		Concurrency: rapid.SampledFrom([]int{1, 2, 4, 16}).Draw(t, "concurrency"),
		Batch:       rapid.SampledFrom([]int{1, 1, 3}).Draw(t, "batch"),
		Attempts:    rapid.IntRange(1, 4).Draw(t, "max_attempts"),
		Breaker:     rapid.Bool().Draw(t, "breaker"),
		Jitter:      rapid.Uint64Range(0, 9).Draw(t, "jitter"),
		Expire:      durations(0, 0, 30*time.Minute).Draw(t, "expire"),
	}
	switch p.Until = rapid.Bool().Draw(t, "until") && p.Order != "strict"; {
	case p.Until:
	default:
		p.Delay = durations(0, 0, time.Minute, 10*time.Minute).Draw(t, "delay")
	}
	p.Steps = rapid.SliceOfN(rapid.Custom(p.drawStep), 4, 14).Draw(t, "steps")
	return p
}

func (p program) drawStep(t *rapid.T) progStep {
	does := []string{"append", "append", "append", "pass", "pass", "pass", "crash", "redrive", "redrive one", "drop", "clock", "stop"}
	s := progStep{Do: rapid.SampledFrom(does).Draw(t, "do"), Lag: rapid.IntRange(0, 3).Draw(t, "lag") == 0}
	switch s.Do {
	case "append":
		s.Events = rapid.SliceOfN(rapid.Custom(p.drawEvent), 1, 6).Draw(t, "events")
	case "pass":
		s.By = durations(5*time.Millisecond, time.Second, 10*time.Second, time.Minute, 11*time.Minute, time.Hour).Draw(t, "by")
	case "clock":
		s.By = durations(-24*time.Hour, -time.Hour, -time.Minute, -time.Second, time.Second, time.Minute, time.Hour).Draw(t, "by")
	case "crash", "drop", "redrive one":
		s.N = rapid.IntRange(0, 9).Draw(t, "n")
	}
	return s
}

func (p program) drawEvent(t *rapid.T) progEvent {
	e := progEvent{Key: rapid.IntRange(0, 2).Draw(t, "key")}
	e.Expires = durations(0, 0, 0, 5*time.Minute, 2*time.Hour).Draw(t, "expires")
	if p.Until {
		e.Until = durations(0, -time.Hour, time.Second, time.Minute, 20*time.Minute).Draw(t, "until")
	}
	kinds := []string{answersFailed, answersFailed, answersUnavailable, answersLater, answersPermanent, answersWell}
	e.Answers = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) progAnswer {
		return progAnswer{rapid.SampledFrom(kinds).Draw(t, "kind"), durations(0, 0, 50*time.Millisecond, 20*time.Second).Draw(t, "takes")}
	}), 0, 5).Draw(t, "answers")
	return e
}

// owed is what the model knows of one event. What a process knows beyond the disk is gone with it.
type owed struct {
	progEvent
	id             string
	at             event.Offset
	until, expires time.Time     // by the clock; zero: never
	sent           time.Duration // of the model's age
	peak           time.Time     // the latest that the clock showed since, apart from the present
	calls          int           // ever: the answer that comes next
	took           int           // it was taken, in whatever process
	redriven       bool

	diskState
	disk  diskState // what a crash leaves
	last  string    // answer to its last attempt, empty when an outcome has followed it
	going bool
	over  bool // it keeps no other from its turn: it was taken, or has failed for good and holds nothing
}

// diskState is what becomes of an event, as far as a row or a cursor keeps it.
type diskState struct {
	state     event.ExceptionState // 0: none; see gone
	gone      bool                 // settled or dropped
	reason    event.Reason
	attempts  int
	low, high int           // counted failures, as far as one can tell from outside: an outage may count or not
	began     time.Time     // the first attempt since it was accepted or redriven
	notBefore time.Duration // of the model's age: the pause behind a failure
}

// progRun runs a program. The model is in it, and is told by the sink and by the log.
type progRun struct {
	program
	t     *testing.T
	path  string
	scene *scene
	clock steppedClock
	zero  time.Time
	dice  *rand.Rand // of the goroutine of the sink

	mu    sync.Mutex // guards what follows
	ahead time.Duration
	all   []*owed
	live  *attempts
	fault string

	life *life
	cut  *cutLog
}

// steppedClock is a clock that a person sets. Its times know nothing of how long the process runs.
type steppedClock struct {
	event.SystemClock
	by atomic.Int64
}

func (c *steppedClock) Now() time.Time { return time.Now().Round(0).Add(time.Duration(c.by.Load())) }

func (m *progRun) failf(format string, args ...any) {
	if m.fault == "" {
		m.fault = fmt.Sprintf(format, args...)
	}
}

// age is the time that has passed, counting what the clock was set ahead and not what it was set back. Where it is never set back
// this is the clock; where it is, less than this has passed by any reading of it.
func (m *progRun) age() time.Duration { return time.Since(m.zero) + m.ahead }

// came says whether the clock has shown a time since an event was sent.
func (m *progRun) came(e *owed, at time.Time) bool {
	return !m.clock.Now().Before(at) || !e.peak.Before(at)
}

// ordered says whether an event keeps an order with another.
func (m *progRun) ordered(a, b *owed) bool {
	switch m.Order {
	case "key", "hold":
		return a.Key != 0 && a.Key == b.Key
	}
	return m.Order == "strict"
}

// attempts is the sink of one process. When that is over, nobody listens to it any more.
type attempts struct{ m *progRun }

func (k *attempts) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	var s event.Settling
	var answers []progAnswer
	longest := time.Duration(0)
	for _, d := range batch {
		a := k.begin(d)
		answers = append(answers, a)
		longest = max(longest, a.Takes)
	}
	select {
	case <-time.After(longest):
	case <-ctx.Done():
	}
	for i, d := range batch {
		s.Verdicts = append(s.Verdicts, k.end(ctx, d, answers[i].Kind))
	}
	return s
}

func (k *attempts) begin(d event.Delivery) (a progAnswer) {
	m := k.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.live != k {
		return progAnswer{Kind: answersFailed}
	}
	var n int
	if _, err := fmt.Sscanf(d.Event.ID, "e%d", &n); err != nil || n < 1 || n > len(m.all) {
		m.failf("an event that nobody sent: %s", d.Event.ID)
		return a
	}
	e := m.all[n-1]
	m.mayBegin(e, d)
	a = progAnswer{Kind: answersWell}
	if e.calls < len(e.Answers) {
		a = e.Answers[e.calls]
	}
	e.calls++
	e.attempts++
	e.going, e.last = true, ""
	if e.began.IsZero() {
		e.began = m.clock.Now()
	}
	return a
}

// mayBegin holds an attempt to all that is promised of it.
func (m *progRun) mayBegin(e *owed, d event.Delivery) {
	now := m.clock.Now()
	switch {
	case e.going:
		m.failf("%s is under way twice", e.id)
	case e.gone:
		m.failf("%s is delivered after it was settled", e.id)
	case e.state == event.Dead:
		m.failf("%s is delivered, and a dead letter (%s)", e.id, e.reason)
	case e.state == event.Held:
		m.failf("%s is delivered, and held", e.id)
	case d.Attempt != e.attempts+1:
		m.failf("%s has attempt %d behind %d", e.id, d.Attempt, e.attempts)
	case e.low >= m.Attempts:
		m.failf("%s is tried after %d counted failures of %d", e.id, e.low, m.Attempts)
	case m.age() < e.notBefore:
		m.failf("%s is tried %s before the pause behind its failure is over", e.id, e.notBefore-m.age())
	case !e.redriven && m.age()-e.sent < m.Delay:
		m.failf("%s is delivered after %s, its delay is %s", e.id, m.age()-e.sent, m.Delay)
	case !e.redriven && m.Until && !m.came(e, e.until):
		m.failf("%s is delivered %s before its time", e.id, e.until.Sub(now))
	case !e.expires.IsZero() && !now.Before(e.expires) && !(e.redriven && (e.began.IsZero() || !e.began.Before(e.expires))):
		m.failf("%s is delivered %s after it expired", e.id, now.Sub(e.expires))
	}
	// In a strict order, a destination that takes the later ones of a batch and refuses an earlier one decides about the order itself.
	for _, other := range m.all {
		if other == e || !m.ordered(e, other) {
			continue
		}
		if other.going && m.Order != "strict" {
			m.failf("%s and %s of one key are under way", e.id, other.id)
		}
		if other.at < e.at && !other.going && !m.lets(other) && !(m.Order == "strict" && m.Batch > 1 && e.redriven) {
			m.failf("%s begins before %s", e.id, other.id)
		}
	}
}

// lets says whether an event lets later ones of its key go. One that has expired may: it is a dead letter when it is looked at.
func (m *progRun) lets(e *owed) bool {
	if e.gone || e.over || e.redriven {
		return true
	}
	expired := !e.expires.IsZero() && m.came(e, e.expires)
	mayBeDead := expired || e.state == event.Dead || e.high >= m.Attempts || e.last == answersPermanent
	return m.Order != "hold" && mayBeDead
}

func (k *attempts) end(ctx context.Context, d event.Delivery, kind string) error {
	m := k.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.live != k || m.fault != "" {
		return errors.New("the process is over")
	}
	var n int
	_, _ = fmt.Sscanf(d.Event.ID, "e%d", &n)
	e := m.all[n-1]
	e.going = false
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch e.last = kind; kind {
	case answersFailed:
		e.low, e.high = e.low+1, e.high+1
		return errOdd
	case answersUnavailable:
		e.high++
		return errDown
	case answersLater:
		if m.Batch == 1 || m.Order != "strict" && m.Order != "serial" { // else the first of a batch says when all go
			e.notBefore = m.age() + progLater
		}
		return event.RetryAfter(errors.New("429"), progLater)
	case answersPermanent:
		return errPermanent
	}
	e.over = true
	e.took++
	return nil
}

// cutLog is an outbox whose outcomes can be kept from the disk: a crash loses those that have not arrived.
type cutLog struct {
	*outbox.Outbox
	m *progRun

	mu  sync.Mutex // guards what follows; taken before that of the run
	lag bool
	off bool
	way []event.Outcome
	sub event.Subscription // of the sink
}

type cutSubscription struct {
	event.Subscription
	log *cutLog
}

func (l *cutLog) Subscribe(name string) (event.Subscription, error) {
	s, err := l.Outbox.Subscribe(name)
	if err != nil || name != "p/a" {
		return s, err
	}
	l.sub = s
	return &cutSubscription{s, l}, nil
}

// Commit lets everything arrive that was before it.
func (l *cutLog) Commit(ctx context.Context, c event.Commit) ([]event.Appended, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(c.Settles) > 0 && c.Settles[0].Subscription == "p/a" {
		if l.off {
			return nil, event.ErrClosed
		}
		l.take(c.Settles[0].Outcomes)
		l.forward(ctx, len(l.way))
		c.Settles = c.Settles[1:]
	}
	return l.Outbox.Commit(ctx, c)
}

func (s *cutSubscription) Settle(ctx context.Context, outcomes []event.Outcome) error {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.off {
		return nil
	}
	l.take(outcomes)
	if !l.lag {
		l.forward(ctx, len(l.way))
	}
	return nil
}

func (l *cutLog) arrive(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forward(ctx, len(l.way))
}

// take lets the model judge what the router settles.
func (l *cutLog) take(outcomes []event.Outcome) {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	for _, o := range outcomes {
		l.m.judge(o)
		if x := o.Exception; x != nil {
			kept := *x
			o.Exception = &kept
		}
		l.way = append(l.way, o)
	}
}

// forward lets the first n outcomes reach the disk.
func (l *cutLog) forward(ctx context.Context, n int) {
	if l.off || n == 0 {
		return
	}
	batch := slices.Clone(l.way[:n])
	l.way = slices.Clone(l.way[n:])
	if err := l.sub.Settle(ctx, batch); err != nil {
		l.m.t.Error(err)
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	for _, o := range batch {
		l.m.all[o.Offset-1].arrived(o)
	}
}

// judge takes an outcome into what the process knows, and holds it to what the sink has answered.
func (m *progRun) judge(o event.Outcome) {
	e, x := m.all[o.Offset-1], o.Exception
	last := e.last
	e.last = ""
	switch {
	case x == nil:
		if last != answersWell {
			m.failf("%s is settled, the sink said %q", e.id, last)
		}
		if o.Receipt.Attempt != e.attempts {
			m.failf("%s is settled with attempt %d, it had %d", e.id, o.Receipt.Attempt, e.attempts)
		}
		e.gone = true
		return
	case x.State == event.Released:
		e.last = last
		return
	case e.going:
		m.failf("%s gets a row (%s) while it is under way", e.id, x.Reason)
	case last == answersWell:
		m.failf("%s is taken, and gets a row (%s)", e.id, x.Reason)
	case x.Attempts != e.attempts:
		m.failf("%s gets a row with %d attempts, it had %d", e.id, x.Attempts, e.attempts)
	case x.Counted < e.low || x.Counted > e.high:
		m.failf("%s gets a row with %d counted failures, it had %d to %d", e.id, x.Counted, e.low, e.high)
	case last == answersPermanent && x.Reason != event.ReasonPermanent:
		m.failf("%s was refused for good, and gets a row (%s)", e.id, x.Reason)
	case x.State == event.Held && (m.Order != "key" && m.Order != "hold" || e.Key == 0):
		m.failf("%s is held, and has no key", e.id)
	}
	if x.State == event.Dead {
		m.judgeDead(e, x, last)
	} else if e.low >= m.Attempts {
		m.failf("%s is kept after %d counted failures of %d", e.id, e.low, m.Attempts)
	}
	kept := e.notBefore
	if e.notBefore = 0; x.State == event.Retry && x.Reason == event.ReasonFailed {
		e.notBefore = m.age() + x.NextAt.Sub(m.clock.Now())
		m.judgePause(e, x, last)
	}
	if last == answersLater {
		e.notBefore = max(e.notBefore, m.before(e, kept))
	}
	e.state, e.reason, e.low, e.high = x.State, x.Reason, x.Counted, x.Counted
	e.began = x.FirstAt
	if x.State == event.Dead && m.Order != "hold" {
		e.over = true
	}
}

// before is a time of the model's age, or that of an event's expiry when that is earlier: then it is looked at.
func (m *progRun) before(e *owed, at time.Duration) time.Duration {
	if e.expires.IsZero() {
		return at
	}
	return min(at, m.age()+max(0, e.expires.Sub(m.clock.Now())))
}

// judgePause demands a pause behind a counted failure: half of retry.initial at least, retry.max at most.
func (m *progRun) judgePause(e *owed, x *event.Exception, last string) {
	pause := max(0, x.NextAt.Sub(m.clock.Now())) // it may have expired meanwhile
	if least := m.before(e, m.age()+time.Second/2) - m.age(); last == answersFailed && pause < least || pause > time.Minute {
		m.failf("%s is to wait %s behind a failure", e.id, pause)
	}
}

func (m *progRun) judgeDead(e *owed, x *event.Exception, last string) {
	ok := false
	switch x.Reason {
	case event.ReasonPermanent:
		ok = last == answersPermanent
	case event.ReasonAttempts:
		ok = (last == answersFailed || last == answersUnavailable) && x.Counted == m.Attempts
	case event.ReasonExpired:
		ok = !e.expires.IsZero() && m.came(e, e.expires)
	}
	if !ok {
		m.failf("%s is a dead letter (%s) with %d of %d counted failures, the sink said %q", e.id, x.Reason, x.Counted, m.Attempts, last)
	}
}

// arrived takes an outcome into what the disk has.
func (e *owed) arrived(o event.Outcome) {
	d, x := &e.disk, o.Exception
	switch {
	case x == nil:
		d.gone, d.state = true, 0
	case x.State == event.Released:
		if d.state == event.Held {
			d.state, d.notBefore = event.Retry, 0
			if e.state == event.Held {
				e.state = event.Retry
			}
		}
	default:
		d.state, d.reason, d.attempts, d.low, d.high, d.began = x.State, x.Reason, x.Attempts, x.Counted, x.Counted, x.FirstAt
		d.notBefore = e.notBefore
	}
}

// begin starts a process on what is on disk.
func (m *progRun) begin() {
	m.t.Helper()
	box, err := outbox.Open(m.t.Context(), outbox.Options{Path: m.path, Reserve: 64 << 10, Clock: &m.clock})
	if err != nil {
		m.t.Fatal(err)
	}
	sink := &attempts{m}
	m.cut = &cutLog{Outbox: box, m: m}
	m.mu.Lock()
	m.live = sink
	for _, e := range m.all {
		e.diskState = e.disk
		e.going, e.last = false, ""
		e.over = e.gone || e.state == event.Dead && m.Order != "hold"
	}
	m.mu.Unlock()
	m.scene.pipeline().Sinks[0].Value = sink
	options := Options{Clock: &m.clock, Rand: m.dice.Float64, Logger: slog.New(slog.DiscardHandler)}
	m.life = &life{t: m.t, box: box, r: New(m.scene.plan, m.cut, options)}
	m.life.runs = make(chan error, 1)
	if err := m.life.r.Configure(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(m.t.Context())
	m.life.stop = cancel
	go func() { m.life.runs <- m.life.r.Run(ctx) }()
}

// crash ends the process with the first n of the outcomes that are on the way to the disk, and nothing else.
func (m *progRun) crash(n int) {
	m.cut.mu.Lock()
	m.cut.forward(m.t.Context(), min(n, len(m.cut.way)))
	m.cut.off, m.cut.way = true, nil
	m.mu.Lock()
	m.live = nil
	m.mu.Unlock()
	m.cut.mu.Unlock()
	m.life.stop()
	<-m.life.runs
	if err := m.life.box.Close(); err != nil {
		m.t.Error(err)
	}
}

// stopInOrder ends the process as SIGTERM does.
func (m *progRun) stopInOrder() {
	m.setLag(false)
	m.life.end()
}

func (m *progRun) setLag(on bool) {
	if m.cut.mu.Lock(); !on {
		m.cut.forward(m.t.Context(), len(m.cut.way))
	}
	m.cut.lag = on
	m.cut.mu.Unlock()
}

func (m *progRun) wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (m *progRun) send(events []progEvent) {
	var b event.Batch
	m.mu.Lock()
	now := m.clock.Now()
	for _, p := range events {
		e := &owed{progEvent: p, id: fmt.Sprint("e", len(m.all)+1), at: event.Offset(len(m.all) + 1), sent: m.age()}
		m.all, b.Events = append(m.all, e), append(b.Events, m.made(e, now))
	}
	m.mu.Unlock()
	if _, err := m.life.r.Emit("p")(m.t.Context(), b); err != nil {
		m.t.Fatal(err)
	}
}

// made is the event that is sent, and when it may go and must be gone.
func (m *progRun) made(e *owed, now time.Time) event.Event {
	var data []string
	if e.Key != 0 {
		data = append(data, fmt.Sprintf(`"k":"k%d"`, e.Key))
	}
	if e.until = now.Add(e.Until); e.Until != 0 {
		data = append(data, fmt.Sprintf(`"at":%q`, e.until.UTC().Format(time.RFC3339Nano)))
	}
	ev := event.Event{ID: e.id, Source: "/test", Type: "test", DataContentType: "application/json"}
	ev.Data = []byte("{" + strings.Join(data, ",") + "}")
	if m.Expire > 0 {
		e.expires = now.Add(m.Expire)
	}
	if e.Expires > 0 {
		at := now.Add(e.Expires).Truncate(time.Second)
		e.expires = earliest(e.expires, at)
		ev.Extensions = append(ev.Extensions, expirytime(at.UTC()))
	}
	return ev
}

func (m *progRun) step(s progStep) {
	m.setLag(s.Lag)
	switch s.Do {
	case "append":
		m.send(s.Events)
	case "pass":
		m.wait(s.By)
	case "clock":
		m.mu.Lock()
		if s.By > 0 {
			m.ahead += s.By
		}
		for _, e := range m.all {
			if now := m.clock.Now(); e.peak.Before(now) {
				e.peak = now
			}
		}
		m.clock.by.Add(int64(s.By))
		m.mu.Unlock()
	case "crash":
		synctest.Wait()
		m.crash(s.N)
		m.begin()
	case "stop":
		m.stopInOrder()
		m.begin()
	case "redrive":
		m.redrive(-1)
	case "redrive one":
		m.redrive(s.N)
	case "drop":
		m.drop(s.N)
	}
	m.wait(time.Millisecond)
	m.compare()
}

// dead are the dead letters, when all that is settled is on disk.
func (m *progRun) dead() []event.DeadLetter {
	m.cut.arrive(m.t.Context())
	if _, err := m.life.box.Commit(m.t.Context(), event.Commit{}); err != nil {
		m.t.Error(err)
	}
	letters, err := m.life.box.DeadLetters(m.t.Context(), event.DeadQuery{})
	if err != nil {
		m.t.Error(err)
	}
	return letters
}

// pick selects dead letter n, or all when n is negative.
func (m *progRun) pick(n int) (q event.DeadQuery, of []*owed) {
	letters := m.dead()
	if n >= 0 && len(letters) > 0 {
		letters = letters[n%len(letters):][:1]
	}
	for _, d := range letters {
		q.IDs = append(q.IDs, d.ID)
		of = append(of, m.all[d.Record.Offset-1])
	}
	return q, of
}

func (m *progRun) redrive(n int) {
	q, of := m.pick(n)
	if len(of) == 0 {
		return
	}
	m.mu.Lock()
	for _, e := range of {
		e.redriven, e.over = true, false
		d := &e.disk
		d.state, d.reason, d.low, d.high, d.began, d.notBefore = event.Retry, event.ReasonRedrive, 0, 0, time.Time{}, 0
		e.diskState = *d
	}
	m.mu.Unlock()
	if got, err := m.life.box.Redrive(m.t.Context(), q); got != len(of) || err != nil {
		m.t.Errorf("Redrive = %d, %v", got, err)
	}
}

func (m *progRun) drop(n int) {
	q, of := m.pick(n)
	if len(of) == 0 {
		return
	}
	m.mu.Lock()
	for _, e := range of {
		e.disk.gone, e.disk.state, e.over = true, 0, true
		e.diskState = e.disk
	}
	m.mu.Unlock()
	if got, err := m.life.box.Drop(m.t.Context(), q); got != len(of) || err != nil {
		m.t.Errorf("Drop = %d, %v", got, err)
	}
}

// compare holds the dead letters and the rows of the outbox to those of the model.
func (m *progRun) compare() {
	got, want := map[string]string{}, map[string]string{}
	for _, d := range m.dead() {
		got[d.Record.Event.ID] = fmt.Sprintf("%s, %d attempts, %d counted", d.Exception.Reason, d.Exception.Attempts, d.Exception.Counted)
	}
	_, head := m.cut.sub.Position()
	rows, err := m.cut.sub.Rows(m.t.Context(), 1, head)
	if err != nil {
		m.t.Error(err)
	}
	slices.Sort(rows)
	m.mu.Lock()
	defer m.mu.Unlock()
	var expected []event.Offset
	for _, e := range m.all {
		if e.disk.state == event.Dead {
			want[e.id] = fmt.Sprintf("%s, %d attempts, %d counted", e.disk.reason, e.disk.attempts, e.disk.low)
		}
		if e.disk.state != 0 {
			expected = append(expected, e.at)
		}
	}
	if !maps.Equal(got, want) {
		m.failf("the dead letters are %v, want %v", got, want)
	}
	if !slices.Equal(rows, expected) {
		m.failf("there are rows for %v, want %v", rows, expected)
	}
}

// finish lets time go by until all is done, and takes the dead letters back until there are none.
func (m *progRun) finish() {
	m.setLag(false)
	for range 60 {
		m.wait(26 * time.Hour)
		m.compare()
		if left := m.left(); m.fault != "" || len(left) == 0 {
			break
		}
		m.redrive(-1)
	}
	if left := m.left(); m.fault == "" && len(left) > 0 {
		m.failf("these are not done: %v", left)
	}
}

func (m *progRun) left() (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.all {
		if !e.disk.gone {
			ids = append(ids, e.id)
		}
	}
	return ids
}

func (m *progRun) failed() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fault
}

// play runs the program in a bubble of its own time, and returns what was wrong.
func (m *progRun) play(t *testing.T) string {
	synctest.Test(t, func(t *testing.T) {
		m.t, m.zero, m.dice = t, time.Now(), rand.New(rand.NewPCG(m.Jitter, 0))
		p := &pipelines.Pipeline{Name: "p"}
		m.scene = &scene{t: t, plan: &pipelines.Plan{ShutdownTimeout: 10 * time.Second, Pipelines: []*pipelines.Pipeline{p}}}
		m.settings(m.scene.sink("a", nil))
		m.begin()
		for i, s := range m.Steps {
			if m.step(s); m.failed() != "" || t.Failed() {
				m.fault += fmt.Sprintf(" (in step %d)", i+1)
				break
			}
		}
		if m.failed() == "" {
			m.finish()
		}
		m.crash(0)
	})
	return m.failed()
}

func (m *progRun) settings(k *pipelines.Sink) {
	k.Timeout, k.Concurrency, k.Batch = time.Minute, m.Concurrency, pipelines.Batch{Count: m.Batch}
	k.Retry = pipelines.Retry{Initial: time.Second, Factor: 2, Max: time.Minute, MaxAttempts: m.Attempts}
	k.Expire = m.Expire
	if m.Breaker {
		k.Breaker = breakerDefaults()
	}
	if m.Delay > 0 {
		k.Delay = &pipelines.Delay{For: m.Delay}
	}
	if m.Until {
		k.Delay = &pipelines.Delay{Until: mustCompile("data.at")}
	}
	switch m.Order {
	case "key", "hold":
		k.Order = &pipelines.Order{Key: mustCompile("data.k"), Hold: m.Order == "hold", MaxHeld: m.MaxHeld}
	case "strict":
		k.Order, k.Concurrency = &pipelines.Order{}, 1
	case "serial":
		k.Serial, k.Concurrency = true, 1
	}
}

func mustCompile(src string) *rules.Expr {
	x, err := rules.Compile(src, rules.Options{})
	if err != nil {
		panic(err)
	}
	return x
}

// quickDir is a folder in memory, where the system has one: no test here is about the disk, of which each program would wait for
// hundreds of syncs.
func quickDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "programs-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestPrograms plays random programs on a router with an outbox and holds every attempt, every outcome and what is on disk to a
// model: an accepted event is pending, settled once or a dead letter with its right reason, at each moment and over crashes; it is not
// delivered again after it was settled, nor before its delay or a pause is over, nor behind an earlier one of its key that is
// not done, nor after it has expired; and its attempts and counted failures are what they are.
func TestPrograms(t *testing.T) {
	setRapid(t, "rapid.checks", "200")
	dir := quickDir(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		folder := filepath.Join(dir, fmt.Sprint(n))
		m := &progRun{program: rapid.Custom(drawProgram).Draw(rt, "program"), path: filepath.Join(folder, "outbox.db")}
		if fault := m.play(t); fault != "" {
			rt.Fatalf("%s\n%s", fault, m.program)
		}
		if err := os.RemoveAll(folder); err != nil {
			rt.Fatal(err)
		}
	})
}
