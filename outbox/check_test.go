package outbox

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// varied is an outbox with something in every table, closed: events of all sizes in two topics, purged ones, rows that wait and are
// dead, rescued events, keys, receipts, an index of ids, states.
func varied(t *testing.T, path string) map[string]event.Event {
	t.Helper()
	layout := event.Layout{Topics: []event.Topic{
		{Name: "t", Subscriptions: []string{"t/eager", "t/lazy"}, Dedupe: &event.Dedupe{Window: time.Hour, MaxKeys: 1000}},
		{Name: "u", Subscriptions: []string{"u/only"}},
	}}
	b, err := Open(t.Context(), Options{Path: path, idBlock: smallBlock, Retention: Retention{Size: 300 << 10}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Configure(t.Context(), layout); err != nil {
		t.Fatal(err)
	}
	model := map[string]event.Event{}
	sizes := []int{10, 300, 40, 5000, 120, 2500, 20_000, 700}
	for i := range 150 {
		topic := []string{"t", "t", "u"}[i%3]
		var events []event.Event
		for k := range 1 + i%4 {
			e := event.Event{ID: fmt.Sprintf("%s-%d-%d", topic, i, k), Source: "/a", Type: "x", Received: b.clock.Now()}
			e.Data = bytes.Repeat([]byte{byte(i)}, sizes[i%len(sizes)])
			model[e.ID] = e
			events = append(events, e)
		}
		c := event.Commit{
			Appends: []event.Append{{Topic: topic, Events: events}},
			States:  []event.State{{Owner: fmt.Sprintf("o%d", i%7), Changes: event.Changes{"k": fmt.Append(nil, i)}}},
		}
		if topic == "t" {
			c.Appends[0].Keys = idsOf(events)
		}
		if _, err := b.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"t/eager", "t/lazy", "u/only"} {
		var outcomes []event.Outcome
		for o := event.Offset(1); o <= 110; o++ {
			switch {
			case o%40 == 0:
				outcomes = append(outcomes, dead(o, false))
			case o%55 == 0:
				outcomes = append(outcomes, retrying(o, false))
			case o%7 != 3 || o < 80:
				outcomes = append(outcomes, delivered(o, 1, 200, time.Millisecond))
			}
		}
		settle(t, b, name, outcomes...)
	}
	until(t, "purge", func() bool { return b.topic("t").purgedTo() > 20 })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return model
}

func idsOf(events []event.Event) (ids []string) {
	for i := range events {
		ids = append(ids, events[i].ID)
	}
	return ids
}

// allOf reads every event of an outbox by its topic and offset.
func allOf(t *testing.T, b *Outbox) map[string]event.Record {
	t.Helper()
	all := map[string]event.Record{}
	for _, topic := range b.allTopics() {
		for o := topic.purgedTo() + 1; o <= topic.head(); {
			records, err := b.read(t.Context(), topic, o)
			if err != nil {
				t.Fatal(err)
			}
			if len(records) == 0 {
				break
			}
			for _, r := range records {
				all[fmt.Sprintf("%s@%d", topic.name, r.Offset)] = r
			}
			o = records[len(records)-1].Offset + 1
		}
	}
	return all
}

// TestCheckSound: an outbox with something in every table has no damage, closed, killed, or of an older schema.
func TestCheckSound(t *testing.T) {
	dir := t.TempDir()
	path, old, hot := filepath.Join(dir, "outbox.db"), filepath.Join(dir, "old.db"), filepath.Join(t.TempDir(), "outbox.db")
	varied(t, path)
	version1(t, old, false)
	if r := run(t, "", hot, "hot:20"); !r.killed {
		t.Fatal(r.output)
	}
	was := files(t, dir)
	for _, p := range []string{path, old, hot} {
		r, err := Check(t.Context(), p)
		if err != nil || len(r.Damages) > 0 || r.Events == 0 {
			t.Errorf("%s: %+v, %v", p, r, err)
		}
		to := p + ".repaired"
		if _, err := Repair(t.Context(), p, to); err != nil {
			t.Error(err)
		}
		again, err := Check(t.Context(), to)
		if err != nil || len(again.Damages) > 0 || again.Events != r.Events || again.Commits != r.Commits || again.ID == r.ID {
			t.Errorf("%s repaired: %+v, %v", p, again, err)
		}
	}
	if now := files(t, dir); now["outbox.db"] != was["outbox.db"] || now["old.db"] != was["old.db"] {
		t.Error("a check changed the file")
	}
}

// TestCheckNames: damages are told of in the words of topics and offsets, and what is lost is owed to nobody after a repair.
func TestCheckNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := opened(t, Options{Path: path})
	for i := range 6 {
		if err := commit(t.Context(), b, appending(event.Event{ID: fmt.Sprint(i + 1), Data: bytes.Repeat([]byte{byte('a' + i)}, 50_000)})); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, b, "t/eager", event.Outcome{Offset: 1}, retrying(2, false), retrying(3, false))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	breakChain(t, path, 'b')                                                           // event 2, which a row names
	change(t, path, "UPDATE segments SET body = substr(body, 1, 40000) WHERE first=4") // event 4, which is pending
	r, err := Check(t.Context(), path)
	if err != nil || r.Events != 4 {
		t.Fatalf("%+v, %v", r, err)
	}
	var said []string
	for _, d := range r.Damages {
		said = append(said, d.Error())
	}
	for i, want := range []string{
		"segments, topic t, event 2: pages of its body are damaged", "segments, topic t, event 4: segment is damaged",
		"deliveries, topic t, event 2: rows of t/eager have lost their events",
	} {
		if i >= len(said) || !strings.HasPrefix(said[i], want) {
			t.Errorf("want %q, got %q", want, said)
		}
	}
	to := path + ".repaired"
	if lost, err := Repair(t.Context(), path, to); err != nil || len(lost.Damages) != len(r.Damages) {
		t.Fatalf("%+v, %v", lost, err)
	}
	b = opened(t, Options{Path: to})
	put(t, b, "7")
	next(t, subscribed(t, b, "t/eager"), 5, 6, 7)
	if got := due(t, subscribed(t, b, "t/eager")); got != "[3]" {
		t.Error(got)
	}
	next(t, subscribed(t, b, "t/lazy"), 1, 3, 5, 6, 7)
	settle(t, b, "t/lazy", append(all(5, 7), event.Outcome{Offset: 1}, event.Outcome{Offset: 3})...)
	if at, head := b.subscription("t/lazy").Position(); at != head {
		t.Errorf("a cursor waits at %d of %d for what is lost", at, head)
	}
}

// TestCheckDamaged damages copies of a file at random: bits, bytes, pages, the end. None may end the check with anything but a report
// or a plain error; what a repair saves has only events that were written, at their offsets; and what lies on pages that were not
// touched is there.
func TestCheckDamaged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "outbox.db")
	varied(t, path)
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), Options{Path: path, idBlock: smallBlock})
	if err != nil {
		t.Fatal(err)
	}
	model := allOf(t, b)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %d pages, %d events", seed, len(sound)/pageSize, len(model))
	d := &damaging{sound: sound, model: model, seed: seed}
	t.Run("damaged", func(t *testing.T) {
		for n := range uint64(200) {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				d.one(t, n)
			})
		}
	})
	t.Logf("%.1f %% of the events saved; %d files not readable, %d damages without effect",
		float64(d.saved.Load())/float64(2*len(model)), d.unreadable.Load(), d.unnoticed.Load())
	if int(d.saved.Load()) < 200*len(model)*7/10 || d.unreadable.Load() > 10 {
		t.Error("that is too little")
	}
}

// damaging is what the damaged copies of one file have in common.
type damaging struct {
	sound                        []byte
	model                        map[string]event.Record
	seed                         uint64
	saved, unreadable, unnoticed atomic.Int64
}

func (d *damaging) one(t *testing.T, n uint64) {
	content, what := spoil(rand.New(rand.NewPCG(d.seed, n)), slices.Clone(d.sound))
	at := filepath.Join(t.TempDir(), "outbox.db")
	write(t, at, string(content))
	report, err := Check(t.Context(), at)
	if err != nil {
		d.unreadable.Add(1)
		if !strings.Contains(err.Error(), "outbox") {
			t.Errorf("seed %d: %s: %v", d.seed, what, err)
		}
		return
	}
	if _, err := Repair(t.Context(), at, at+".repaired"); err != nil {
		d.unreadable.Add(1)
		if !strings.Contains(err.Error(), "nothing can be saved") {
			t.Errorf("seed %d: %s: %v", d.seed, what, err)
		}
		return
	}
	if len(report.Damages) == 0 && !bytes.Equal(content, d.sound) {
		d.unnoticed.Add(1) // in free pages and unused bytes
	}
	if left, err := filepath.Glob(at + ".checking*"); err != nil || len(left) > 0 {
		t.Error("left behind:", left, err)
	}
	got := repaired(t, at+".repaired")
	d.saved.Add(int64(len(got)))
	for place, x := range got {
		want, ok := d.model[place]
		if !ok || want.Event.ID != x.Event.ID || !bytes.Equal(want.Event.Data, x.Event.Data) || want.Event.Source != x.Event.Source {
			t.Errorf("seed %d: %s: a wrong event at %s: %q", d.seed, what, place, x.Event.ID)
		}
	}
	if lost := len(d.model) - len(got); lost > 0 && len(report.Damages) == 0 {
		t.Errorf("seed %d: %s: %d events are lost and nothing is said", d.seed, what, lost)
	}
}

// repaired opens a repaired outbox, uses it and returns its events.
func repaired(t *testing.T, path string) map[string]event.Record {
	t.Helper()
	b, err := Open(t.Context(), Options{Path: path, idBlock: smallBlock})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil || b.Err() != nil {
			t.Error(err, b.Err())
		}
	}()
	all := allOf(t, b)
	heads := map[string]event.Offset{}
	for _, topic := range b.allTopics() {
		heads[topic.name] = topic.head()
	}
	for name := range maps.Clone(b.subscriptions) {
		s := subscribed(t, b, name)
		if at, head := s.Position(); at > head {
			t.Errorf("%s is at %d of %d", name, at, head)
		}
		if _, _, err := s.Due(t.Context(), time.Now(), 1000); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.DeadLetters(t.Context(), event.DeadQuery{}); err != nil {
		t.Error(err)
	}
	if err := b.Configure(t.Context(), crashLayout); err != nil {
		t.Fatal(err)
	}
	put(t, b, "fresh") // every subscription of its topic gets it
	for _, name := range []string{"t/eager", "t/lazy"} {
		s := subscribed(t, b, name)
		for {
			records, err := s.Next(t.Context(), 1<<40, 1000)
			if err != nil || len(records) == 0 {
				t.Errorf("%s: the new event does not come: %v", name, err)
				break
			}
			if records[len(records)-1].Event.ID == "fresh" {
				break
			}
		}
	}
	return all
}

// spoil damages a file.
func spoil(r *rand.Rand, b []byte) ([]byte, string) {
	page := r.IntN(len(b) / pageSize)
	switch r.IntN(6) {
	case 0:
		at := r.IntN(len(b))
		b[at] ^= 1 << r.IntN(8)
		return b, fmt.Sprintf("bit of byte %d", at)
	case 1:
		clear(b[page*pageSize:][:pageSize])
		return b, fmt.Sprintf("zeros in page %d", page+1)
	case 2:
		for i := range pageSize {
			b[page*pageSize+i] = byte(r.Uint32())
		}
		return b, fmt.Sprintf("noise in page %d", page+1)
	case 3:
		n := page*pageSize + r.IntN(pageSize)
		return b[:n], fmt.Sprintf("cut to %d bytes", n)
	case 4:
		other := r.IntN(len(b) / pageSize)
		copy(b[page*pageSize:][:pageSize], b[other*pageSize:][:pageSize])
		return b, fmt.Sprintf("page %d written to %d", other+1, page+1)
	}
	what := "bytes"
	for range 1 + r.IntN(40) {
		at := r.IntN(len(b))
		b[at] = byte(r.Uint32())
		what += fmt.Sprint(" ", at)
	}
	return b, what
}
