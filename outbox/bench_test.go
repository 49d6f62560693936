package outbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

func openBench(b *testing.B) *Outbox {
	o, err := Open(b.Context(), Options{Path: b.TempDir() + "/outbox.db"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = o.Close() })
	err = o.Configure(b.Context(), event.Layout{Topics: []event.Topic{{Name: "t", Subscriptions: []string{"t/a", "t/b", "t/c"}}}})
	if err != nil {
		b.Fatal(err)
	}
	return o
}

func benchEvent(i int) event.Event {
	return event.Event{
		ID: fmt.Sprintf("order-%d", i), Source: "/orders", Type: "shop.order.created", Time: "2026-01-01T00:00:00Z",
		DataContentType: "application/json", Received: time.Unix(int64(i), 0).UTC(), Data: bytes.Repeat([]byte("x"), 1000),
	}
}

// BenchmarkAppend is one event a commit by each of 64 callers: what group commit makes of single webhooks.
func BenchmarkAppend(b *testing.B) {
	o := openBench(b)
	e := benchEvent(1)
	var work sync.WaitGroup
	each := b.N/64 + 1
	b.SetBytes(1000)
	b.ResetTimer()
	for range 64 {
		work.Go(func() {
			for range each {
				if _, err := o.Commit(context.Background(), event.Commit{Appends: []event.Append{{Topic: "t", Events: []event.Event{e}}}}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	work.Wait()
	b.ReportMetric(float64(each*64)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(each*64)/float64(o.writer.commits), "events/commit")
}

// BenchmarkAppendKeys compares appends with and without dedupe, of single events and of batches, with ids that come in no order.
func BenchmarkAppendKeys(b *testing.B) {
	day := event.Dedupe{Window: 24 * time.Hour, MaxKeys: 1_000_000}
	sameID, other := day, day
	sameID.SameID, other.Name = true, "data.order"
	for _, size := range []int{1, 100} {
		for _, c := range []struct {
			keys   string
			dedupe *event.Dedupe
		}{{"none", nil}, {"id", &sameID}, {"other", &other}} {
			b.Run(fmt.Sprintf("events=%d,keys=%s", size, c.keys), func(b *testing.B) { benchmarkKeys(b, c.dedupe, 64, size) })
		}
	}
}

func benchmarkKeys(b *testing.B, d *event.Dedupe, callers, size int) {
	o := openBench(b)
	if err := o.Configure(b.Context(), event.Layout{Topics: []event.Topic{{Name: "t", Dedupe: d}}}); err != nil {
		b.Fatal(err)
	}
	e := benchEvent(1)
	var work sync.WaitGroup
	each := b.N/callers/size + 1
	b.ReportAllocs()
	cpu := cpuTime()
	b.ResetTimer()
	for range callers {
		work.Go(func() {
			e := e
			for range each {
				a := event.Append{Topic: "t"}
				for range size {
					e.ID = uuid()
					a.Events = append(a.Events, e)
					if d != nil {
						a.Keys = append(a.Keys, e.ID)
					}
				}
				if _, err := o.Commit(context.Background(), event.Commit{Appends: []event.Append{a}}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	work.Wait()
	n := float64(each * callers * size)
	b.ReportMetric(n/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(cpuTime()-cpu)/n, "cpu-ns/event")
}

// BenchmarkLoadKeys is the start of an outbox with a million keys.
func BenchmarkLoadKeys(b *testing.B) {
	path, layout := b.TempDir()+"/outbox.db", event.Layout{Topics: []event.Topic{{
		Name: "t", Dedupe: &event.Dedupe{Name: "data.order", Window: 24 * time.Hour, MaxKeys: 1_000_000},
	}}}
	begin := func() *Outbox {
		o, err := Open(b.Context(), Options{Path: path})
		if err == nil {
			err = o.Configure(b.Context(), layout)
		}
		if err != nil {
			b.Fatal(err)
		}
		return o
	}
	o := begin()
	for range 250 {
		a := event.Append{Topic: "t"}
		for range 4000 {
			a.Events, a.Keys = append(a.Events, event.Event{ID: uuid()}), append(a.Keys, uuid())
		}
		if _, err := o.Commit(b.Context(), event.Commit{Appends: []event.Append{a}}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		b.StopTimer()
		if err := o.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		o = begin()
	}
	if _, next := o.topic("t").dedupe.Load().set.Bounds(); next != 1_000_001 {
		b.Errorf("%d keys", next-1)
	}
	if err := o.Close(); err != nil {
		b.Fatal(err)
	}
}

func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkQueue is one producer with batches of 512 and three subscriptions that settle everything.
func BenchmarkQueue(b *testing.B) { benchQueue(b, event.Receipt{}) }

func benchQueue(b *testing.B, r event.Receipt) {
	o := openBench(b)
	batch := make([]event.Event, 512)
	for i := range batch {
		batch[i] = benchEvent(i)
	}
	rounds := b.N/512 + 1
	b.SetBytes(1000)
	b.ResetTimer()
	var work sync.WaitGroup
	work.Go(func() {
		for range rounds {
			if _, err := o.Commit(context.Background(), event.Commit{Appends: []event.Append{{Topic: "t", Events: batch}}}); err != nil {
				b.Error(err)
			}
		}
	})
	for _, name := range []string{"t/a", "t/b", "t/c"} {
		s, err := o.Subscribe(name)
		if err != nil {
			b.Fatal(err)
		}
		work.Go(func() { consume(b, s, rounds*512, r) })
	}
	work.Wait()
	b.ReportMetric(float64(rounds*512)/b.Elapsed().Seconds(), "events/s")
}

func consume(b *testing.B, s event.Subscription, want int, r event.Receipt) {
	ctx := context.Background()
	for got := 0; got < want; {
		records, err := s.Next(ctx, 1<<62, 512)
		if err != nil {
			b.Error(err)
			return
		}
		if len(records) == 0 {
			<-s.Wake()
			continue
		}
		outcomes := make([]event.Outcome, len(records))
		for i := range records {
			outcomes[i] = event.Outcome{Offset: records[i].Offset, Receipt: r}
		}
		if err := s.Settle(ctx, outcomes); err != nil {
			b.Error(err)
			return
		}
		got += len(records)
	}
}

// BenchmarkRead reads a backlog from disk.
func BenchmarkRead(b *testing.B) {
	o := openBench(b)
	batch := make([]event.Event, 4096)
	for i := range batch {
		batch[i] = benchEvent(i)
	}
	for range 20 {
		if _, err := o.Commit(b.Context(), event.Commit{Appends: []event.Append{{Topic: "t", Events: batch}}}); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(1000)
	b.ResetTimer()
	for n := 0; n < b.N; {
		for at := event.Offset(1); at < 20*4096 && n < b.N; {
			records, err := o.read(b.Context(), o.topic("t"), at)
			if err != nil {
				b.Fatal(err)
			}
			n += len(records)
			at += event.Offset(len(records))
		}
	}
}

// BenchmarkQueueReceipts is BenchmarkQueue with a receipt for each delivery.
func BenchmarkQueueReceipts(b *testing.B) {
	benchQueue(b, event.Receipt{Attempt: 1, Status: 202, Took: 3 * time.Millisecond})
}

// BenchmarkFind looks for ids among a million small events, every one of which has its index or is in memory.
func BenchmarkFind(b *testing.B) {
	const n = 1_000_000
	o := openBench(b)
	fillBench(b, o, n)
	if found, err := o.Find(b.Context(), "order-1", 0); err != nil || len(found) != 1 { // waits for the tail
		b.Fatal(found, err)
	}
	for {
		_, whole, err := o.ids.blocks(b.Context(), o.topic("t"), 1<<30)
		if err != nil {
			b.Fatal(err)
		}
		if len(whole) == n/idBlock {
			break
		}
		runtime.Gosched()
	}
	for _, c := range []struct {
		name string
		want int
	}{{"there", 1}, {"absent", 0}} {
		b.Run(c.name, func(b *testing.B) {
			for i := range b.N {
				id := fmt.Sprintf("order-%d", i*7919%n)
				if c.want == 0 {
					id += "x"
				}
				if found, err := o.Find(b.Context(), id, 0); err != nil || len(found) != c.want {
					b.Fatal(id, found, err)
				}
			}
		})
	}
}

// fillBench appends small events order-0 and so on.
func fillBench(b *testing.B, o *Outbox, n int) {
	for at := 0; at < n; at += 4096 {
		batch := make([]event.Event, min(4096, n-at))
		for i := range batch {
			batch[i] = event.Event{ID: fmt.Sprintf("order-%d", at+i), Source: "/orders", Type: "t"}
		}
		if _, err := o.Commit(b.Context(), event.Commit{Appends: []event.Append{{Topic: "t", Events: batch}}}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIndex is what the index of ids costs of CPU for each event, away from those who append.
func BenchmarkIndex(b *testing.B) {
	x, t := openBench(b).ids, &topic{id: 1}
	const uuids = "0198c5a2-7d1e-7c3a-9a52-3f1f6f0f6a11 0298c5a2-7d1e-7c3a-9a52-3f1f6f0f6a11 0398c5a2-7d1e-7c3a-9a52-3f1f6f0f6a11"
	hashes := make([]uint64, idBlock)
	b.ReportAllocs()
	for done := 0; done < b.N; done += idBlock {
		for i := range hashes {
			hashes[i] = x.hash(uuids[i%70:i%70+36]) * uint64(i)
		}
		x.rows(t, int64(done/idBlock), hashes)
	}
}

// BenchmarkHash is the hash of one id.
func BenchmarkHash(b *testing.B) {
	x := &ids{key: make([]byte, idSize)}
	for b.Loop() {
		x.hash("0198c5a2-7d1e-7c3a-9a52-3f1f6f0f6a11")
	}
}
