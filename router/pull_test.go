package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

// queue adds a sink from which workers take events.
func (s *scene) queue(name string) *pipelines.Sink {
	k := s.sink(name, nil)
	k.Pull, k.Retry.MaxAttempts = true, 3
	return k
}

// worker takes from the queue of a life.
func (l *life) worker() *hand { return &hand{l.t, l.r.Lender("p", "work")} }

type hand struct {
	t *testing.T
	event.Lender
}

// take asks for events without waiting, and wants these.
func (h *hand) take(most int, want ...string) []event.Leased {
	h.t.Helper()
	got, err := h.Receive(h.t.Context(), event.Ask{Max: most, Lease: 30 * time.Second})
	if err != nil {
		h.t.Fatal(err)
	}
	var ids []string
	for _, l := range got {
		ids = append(ids, fmt.Sprint(l.Delivery.Event.ID, "#", l.Delivery.Attempt))
	}
	if !slices.Equal(ids, want) {
		h.t.Fatalf("received %v, want %v", ids, want)
	}
	return got
}

// give gives events back, and wants so many of them to be gone.
func (h *hand) give(back event.Return, gone int, leased ...event.Leased) {
	h.t.Helper()
	var receipts []string
	for _, l := range leased {
		receipts = append(receipts, l.Receipt)
	}
	got, err := h.Return(h.t.Context(), receipts, back)
	if err != nil || len(got) != gone {
		h.t.Fatalf("Return: gone %v, %v; want %d of %d", got, err, gone, len(leased))
	}
}

var (
	done    = event.Return{Action: event.Acked}
	failing = event.Return{Action: event.Nacked, Delay: 10 * time.Second, Problem: "the shelf is empty"}
)

// The life of events in a queue, over three processes.
func TestLeases(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	play(t, func(s *scene) {
		t := s.t
		s.queue("work")
		l := s.live(path, nil)
		w := l.worker()
		w.take(1)
		l.append(1, 4)
		synctest.Wait()
		first := w.take(3, "e1#1", "e2#1", "e3#1")
		w.take(9, "e4#1")
		w.take(1)
		w.give(done, 0, first[0])
		w.give(done, 1, first[0]) // twice is once
		w.give(failing, 0, first[1])
		l.pass(9 * time.Second)
		w.take(1)
		l.pass(time.Second)
		again := w.take(1, "e2#2")
		w.give(done, 1, first[1]) // the old receipt is worth nothing now
		w.give(event.Return{Action: event.Extended, Delay: time.Minute}, 0, again...)
		l.pass(20 * time.Second) // the leases of e3 and e4 end
		w.take(9, "e3#2", "e4#2")
		l.end()
		if _, err := w.Receive(t.Context(), event.Ask{Max: 1, Wait: time.Hour, Lease: time.Minute}); !errors.Is(err, event.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}

		l = s.live(path, nil)
		w = l.worker()
		synctest.Wait()
		w.take(9)                 // leases survive
		w.give(done, 0, again...) // and so do receipts
		l.pass(30 * time.Second)
		last := w.take(1, "e3#3")
		w.give(event.Return{Action: event.Rejected, Problem: "no such shelf"}, 0, last...)
		w.take(9, "e4#3")
		l.end()

		l = s.live(path, nil)
		l.pass(time.Minute) // the third lease of e4 ends
		if got := l.dead(); !slices.Equal(got, []string{"p/work e3 permanent", "p/work e4 attempts"}) {
			t.Errorf("dead letters: %v", got)
		}
		l.worker().take(1)
		if _, err := l.box.Drop(t.Context(), event.DeadQuery{}); err != nil {
			t.Error(err)
		}
		l.settledAll()
		l.end()
	})
}

// Who waits gets an event when it comes; who leaves takes none along.
func TestReceiveWaits(t *testing.T) {
	play(t, func(s *scene) {
		t := s.t
		s.queue("work")
		l := s.live(filepath.Join(t.TempDir(), "outbox.db"), nil)
		w := l.worker()
		leaves, leave := context.WithCancel(t.Context())
		ask := event.Ask{Max: 1, Wait: time.Minute, Lease: time.Hour}
		var group sync.WaitGroup
		got := make([][]event.Leased, 3)
		for i, ctx := range []context.Context{leaves, t.Context(), t.Context()} {
			group.Go(func() { got[i], _ = w.Receive(ctx, ask) })
			synctest.Wait()
		}
		leave()
		synctest.Wait()
		l.append(1, 1)
		begun := time.Now()
		group.Wait()
		if len(got[0]) != 0 || len(got[1])+len(got[2]) != 1 {
			t.Errorf("received %v", got)
		}
		if waited := time.Since(begun); waited > time.Minute {
			t.Errorf("the one without an event waited %v", waited)
		}
		l.end()
	})
}

func TestForeignReceipts(t *testing.T) {
	play(t, func(s *scene) {
		s.queue("work")
		s.queue("other")
		l := s.live(filepath.Join(s.t.TempDir(), "outbox.db"), nil)
		l.append(1, 1)
		synctest.Wait()
		got := l.worker().take(1, "e1#1")
		other := l.r.Lender("p", "other")
		for _, receipt := range []string{got[0].Receipt, "", "x", "AAAA", got[0].Receipt + "A"} {
			if gone, err := other.Return(s.t.Context(), []string{receipt}, done); !errors.Is(err, event.ErrReceipt) || gone != nil {
				s.t.Errorf("%q: %v, %v", receipt, gone, err)
			}
		}
		l.end()
	})
}

// crew are workers that die at times and are slow at times. Each event must be acknowledged once.
type crew struct {
	t     *testing.T
	mu    sync.Mutex // guards acked
	acked map[string]int
}

func (c *crew) work(ctx context.Context, l event.Lender, dice *rand.Rand, dies func() bool) {
	for ctx.Err() == nil {
		got, err := l.Receive(ctx, event.Ask{Max: 1 + dice.IntN(8), Wait: time.Second, Lease: 5 * time.Second})
		if err != nil {
			return
		}
		for _, e := range got {
			_ = wait(ctx, event.SystemClock{}, time.Duration(dice.IntN(50))*time.Millisecond)
			switch {
			case dies():
				return
			case dice.IntN(20) == 0:
				_, _ = l.Return(ctx, []string{e.Receipt}, event.Return{Action: event.Nacked, Delay: time.Duration(dice.IntN(3)) * time.Second})
				continue
			}
			gone, err := l.Return(context.WithoutCancel(ctx), []string{e.Receipt}, done)
			if err == nil && len(gone) == 0 {
				c.mu.Lock()
				c.acked[e.Delivery.Event.ID]++
				c.mu.Unlock()
			}
		}
	}
}

// Eight workers, of which three are dead in the end, and three processes.
func TestWorkersDie(t *testing.T) {
	const all = 3000
	path := filepath.Join(t.TempDir(), "outbox.db")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	play(t, func(s *scene) {
		s.queue("work").Retry.MaxAttempts = 1000
		c := &crew{t: s.t, acked: map[string]int{}}
		for life := range 3 {
			l := s.live(path, nil)
			ctx, end := context.WithCancel(s.t.Context())
			var group sync.WaitGroup
			for i := range 8 {
				dice := rand.New(rand.NewPCG(seed, uint64(10*life+i)))
				killed := i == life
				group.Go(func() {
					c.work(ctx, l.worker(), dice, func() bool { return killed && dice.IntN(100) == 0 })
				})
			}
			l.append(life*all/3+1, (life+1)*all/3)
			l.pass(time.Duration(life*life*10+5) * time.Second)
			if life == 2 {
				l.pass(time.Minute)
			}
			end()
			group.Wait()
			if life == 2 {
				l.settledAll()
			}
			l.end()
		}
		for i := 1; i <= all; i++ {
			if n := c.acked[fmt.Sprint("e", i)]; n != 1 {
				s.t.Errorf("e%d was acknowledged %d times", i, n)
			}
		}
	})
}

// Workers of a queue with keys: one event of a key is in their hands at a time, the first success of each comes in order, through
// failures, leases that end and restarts.
func TestQueueInOrder(t *testing.T) {
	const all, keys = 1200, 40
	path := filepath.Join(t.TempDir(), "outbox.db")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, c := range []struct {
		name  string
		order *pipelines.Order
		keys  int
	}{{"keys", byKey(t), keys}, {"strict", &pipelines.Order{}, 1}} {
		t.Run(c.name, func(t *testing.T) {
			path := path + c.name
			play(t, func(s *scene) {
				k := s.queue("work")
				k.Retry.MaxAttempts, k.Order = 1000, c.order
				if c.order.Key != nil {
					c.order.MaxHeld = 100
				}
				b := &clerks{t: s.t, keys: c.keys, next: make([]int, c.keys), busy: make([]int, c.keys)}
				for life := range 3 {
					l := s.live(path, nil)
					ctx, end := context.WithCancel(s.t.Context())
					var group sync.WaitGroup
					for i := range 8 {
						dice := rand.New(rand.NewPCG(seed, uint64(10*life+i)))
						group.Go(func() { b.work(ctx, l.worker(), dice) })
					}
					b.append(l, life*all/3, (life+1)*all/3)
					l.pass(5 * time.Second)
					if life == 2 {
						l.pass(10 * time.Minute)
					}
					end()
					group.Wait()
					if life == 2 {
						l.settledAll()
					}
					l.end()
				}
				for key, n := range b.next {
					if want := all / c.keys; n != want {
						s.t.Errorf("%d events of key %d were acknowledged, want %d", n, key, want)
					}
				}
			})
		})
	}
}

// clerks are workers who see that keys are in order.
type clerks struct {
	t    *testing.T
	keys int

	mu   sync.Mutex // guards all below
	next []int      // by key: the event that is to be acknowledged next
	busy []int      // by key: how many are in the hands of workers who are at work
}

func (b *clerks) append(l *life, from, to int) {
	for i := from; i < to; i++ {
		data := fmt.Sprintf(`{"k":%d,"n":%d}`, i%b.keys, i/b.keys)
		e := event.Event{ID: fmt.Sprint("e", i), Source: "/test", Type: "test", Data: []byte(data)}
		if _, err := l.r.Emit("p")(b.t.Context(), event.Batch{Events: []event.Event{e}}); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *clerks) work(ctx context.Context, l event.Lender, dice *rand.Rand) {
	for ctx.Err() == nil {
		got, err := l.Receive(ctx, event.Ask{Max: 1 + dice.IntN(5), Wait: time.Second, Lease: time.Minute})
		if err != nil {
			return
		}
		for _, e := range got {
			b.one(ctx, l, e, dice)
		}
	}
}

func (b *clerks) one(ctx context.Context, l event.Lender, e event.Leased, dice *rand.Rand) {
	var data struct {
		Key int `json:"k"`
		N   int
	}
	if err := json.Unmarshal(e.Delivery.Event.Data, &data); err != nil {
		b.t.Error(err)
	}
	b.change(func() {
		if b.next[data.Key] != data.N || b.busy[data.Key] != 0 {
			b.t.Errorf("key %d: event %d was handed out while %d is next and %d are in work", data.Key, data.N, b.next[data.Key], b.busy[data.Key])
		}
		b.busy[data.Key]++
	})
	_ = wait(ctx, event.SystemClock{}, time.Duration(dice.IntN(20))*time.Millisecond)
	back, ahead := done, 1
	if dice.IntN(10) == 0 {
		back, ahead = event.Return{Action: event.Nacked, Delay: time.Duration(dice.IntN(2000)) * time.Millisecond}, 0
	}
	// Noted before it is said: the next one may go out before the answer is here.
	b.change(func() { b.busy[data.Key], b.next[data.Key] = b.busy[data.Key]-1, b.next[data.Key]+ahead })
	if gone, err := l.Return(context.WithoutCancel(ctx), []string{e.Receipt}, back); err != nil || len(gone) > 0 {
		b.change(func() { b.next[data.Key] -= ahead })
	}
}

func (b *clerks) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// A queue hands out what is urgent first, holds back what is to come later, and gives nobody what is of no use any more.
func TestQueueInTime(t *testing.T) {
	play(t, func(s *scene) {
		k := s.queue("work")
		k.Delay, k.Expire = &pipelines.Delay{For: time.Minute}, 10*time.Minute
		s.prioritized("data.p")
		l := s.live(filepath.Join(s.t.TempDir(), "outbox.db"), nil)
		w := l.worker()
		for _, level := range []int{2, 9, 5} {
			if _, err := l.r.Emit("p")(s.t.Context(), event.Batch{Events: ofPriority(level, 1, 1)}); err != nil {
				s.t.Fatal(err)
			}
		}
		w.take(9)
		l.pass(time.Minute)
		w.take(2, "p9-1#1", "p5-1#1")
		l.pass(10 * time.Minute) // leases and the one that nobody took
		w.take(9)
		l.pass(time.Second)
		want := []string{"p@2/work p2-1 expired", "p@5/work p5-1 expired", "p@9/work p9-1 expired"}
		if got := l.dead(); !slices.Equal(got, want) {
			s.t.Errorf("dead letters: %v, want %v", got, want)
		}
		l.end()
	})
}
