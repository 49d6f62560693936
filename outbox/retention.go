package outbox

import (
	"database/sql/driver"
	"io"
	"math"
	"sync/atomic"
	"time"

	"github.com/millrace-run/millrace/event"
)

// Retention bounds the history that an outbox keeps: events that every subscription has settled. Zero is no bound.
type Retention struct {
	Age  time.Duration // a segment goes when its newest event was received longer ago
	Size int64         // bytes of history, of all topics together; beyond it the oldest goes
}

const (
	pieceBytes    = 256 << 10             // what a commit purges at least while there is something to purge: about 0.1 ms
	pieceSegments = 128                   // and how many segments: each costs a place in two trees, 2 µs
	idleBytes     = 1 << 20               // what a commit of its own purges
	idlePause     = 10 * time.Millisecond // between two of those
	lookEvery     = time.Second           // how often a busy writer looks whether something must go
	lookBytes     = 1 << 20               // or after how many appended bytes
	longestSleep  = time.Hour             // of an idle writer with history whose age is bounded, as the clock may jump
	clockSlack    = time.Second           // a difference of clocks that is no jump
	leastRoom     = 1 << 20               // how far below the bound history begins to yield, at least; receipts do at twice as much
)

// retention is what the writer knows of purging. Only its goroutine touches it, but for the atomics.
type retention struct {
	Retention
	looked time.Time    // when it last looked
	grown  int64        // bytes appended since
	dirty  bool         // there were commits since
	more   bool         // the last look left something to do
	due    time.Time    // when the oldest history will be too old; zero: nothing will
	tight  bool         // the disk was full and history made room: it goes on while there is little of that
	helped bool         // history made room for the commit that is tried again
	kept   atomic.Int64 // bytes of history at the last look
	purged atomic.Int64 // events, since the start
}

// purge is the beginning of a topic's history that a commit deletes.
type purge struct {
	topic  *topic
	to     event.Offset // last event that goes
	total  int64        // of the last segment that goes
	behind place        // the segment behind it, if it was seen
}

// place is a segment without its body.
type place struct {
	first event.Offset
	n     int64
	at    int64
	total int64
}

func (p place) last() event.Offset { return p.first + event.Offset(p.n) - 1 }

// floor is the last offset that no subscription needs any more.
func (t *topic) floor() event.Offset {
	t.mu.Lock()
	defer t.mu.Unlock()
	floor := t.head()
	for _, s := range t.subscriptions {
		s.mu.Lock()
		if !s.ended || s.cursor.at < s.until {
			floor = min(floor, s.cursor.at)
		}
		s.mu.Unlock()
	}
	return floor
}

// oldestOf returns the first segment of a topic that there is. It is looked up once and again after each purge.
func (w *writer) oldestOf(t *topic) (place, error) {
	if t.oldest.n == 0 && int64(t.purgedTo()) < t.last.Load() {
		err := w.places(t, 0, 1, func(p place) bool { t.oldest = p; return true })
		if err != nil {
			return place{}, err
		}
	}
	return t.oldest, nil
}

// places calls each with at most limit segments of a topic from an offset on, until it returns false.
func (w *writer) places(t *topic, from event.Offset, limit int, each func(place) bool) error {
	return w.conn.each("SELECT first, n, at, total FROM segments WHERE topic = ? AND first >= ? ORDER BY first LIMIT ?",
		func(columns []driver.Value) error {
			if !each(toPlace(columns)) {
				return io.EOF
			}
			return nil
		}, t.id, int64(from), int64(limit))
}

func toPlace(columns []driver.Value) (p place) {
	first, _ := columns[0].(int64)
	p.first = event.Offset(first)
	p.n, _ = columns[1].(int64)
	p.at, _ = columns[2].(int64)
	p.total, _ = columns[3].(int64)
	return p
}

// settledTotal is the total of the last segment at or below floor: what lies between it and what was freed is history.
func (w *writer) settledTotal(t *topic, floor event.Offset) (int64, error) {
	switch {
	case floor >= t.head():
		return t.total.Load(), nil
	case floor <= t.purgedTo():
		return t.freed.Load(), nil
	case floor == t.floorAt && t.floorTotal >= t.freed.Load():
		return t.floorTotal, nil
	}
	total, err := totalUpTo(w.conn, t, floor)
	if err == nil {
		t.floorAt, t.floorTotal = floor, total
	}
	return total, err
}

// totalUpTo is the total of the last segment of t that ends at or before an offset.
func totalUpTo(c *conn, t *topic, to event.Offset) (int64, error) {
	total := t.freed.Load()
	err := c.each("SELECT first, n, at, total FROM segments WHERE topic = ? AND first <= ? ORDER BY first DESC LIMIT 2",
		func(columns []driver.Value) error {
			p := toPlace(columns)
			if p.last() > to {
				return nil
			}
			total = p.total
			return io.EOF
		}, t.id, int64(to))
	return total, err
}

// history is the beginning of a topic that nobody needs.
type history struct {
	topic *topic
	floor event.Offset
	next  place  // its oldest segment that stays so far; none when n is 0
	purge *purge // what goes, nil if nothing does
}

// survey is all history, and how many bytes it has.
type survey struct {
	topics []history
	bytes  int64
}

// survey looks at the oldest segment of each topic. A topic whose oldest segment is needed has no history.
func (w *writer) survey() (s survey, err error) {
	w.box.mu.RLock()
	defer w.box.mu.RUnlock()
	for _, t := range w.box.topics {
		floor := t.floor()
		if t.stuck || floor <= t.purgedTo() {
			continue
		}
		oldest, err := w.oldestOf(t)
		if err != nil {
			return s, w.ofHistory(t, err)
		}
		if oldest.n == 0 || oldest.last() > floor {
			continue
		}
		total, err := w.settledTotal(t, floor)
		if err != nil {
			return s, w.ofHistory(t, err)
		}
		s.bytes += total - t.freed.Load()
		s.topics = append(s.topics, history{topic: t, floor: floor, next: oldest})
	}
	w.retention.kept.Store(s.bytes)
	return s, nil
}

// hasHistory says whether there is any. It runs outside of a transaction.
func (w *writer) hasHistory() (bool, error) {
	for {
		if s, err := w.survey(); !goWithout(err) {
			return s.bytes > 0, err
		}
	}
}

// oldest returns the topic that has the oldest history and when that of the others begins; nil if there is none.
func (s *survey) oldest() (oldest *history, others int64) {
	others = math.MaxInt64 - int64(time.Second)
	for i := range s.topics {
		h := &s.topics[i]
		switch {
		case h.next.n == 0:
		case oldest == nil:
			oldest = h
		case h.next.at < oldest.next.at:
			oldest, others = h, oldest.next.at
		default:
			others = min(others, h.next.at)
		}
	}
	return oldest, others
}

// pressed says whether history must yield, whatever its age and size.
func (w *writer) pressed() bool {
	return w.retention.tight && w.spare < 2*maxCommit || w.maxSize > 0 && w.usedNow() >= w.bound()-w.room()
}

// scarce says whether receipts must yield: they are the first to make room.
func (w *writer) scarce() bool { return w.maxSize > 0 && w.used >= w.bound()-2*w.room() }

// room is what history keeps free below the bound.
func (w *writer) room() int64 { return max(leastRoom, w.maxSize/64) }

// wall is the time as people see it, which may go back; what a Time knows beside it, so that it never does, is left out.
func (w *writer) wall() time.Time { return w.clock.Now().Round(0) }

// mustLook says whether it is time to look for something to purge: not at each commit, as a look costs some for each topic.
func (w *writer) mustLook(now time.Time) bool {
	r := &w.retention
	if w.pressed() {
		return true
	}
	return (r.Age > 0 || r.Size > 0) &&
		(r.more || r.grown >= lookBytes || now.Sub(r.looked) >= lookEvery || now.Before(r.looked))
}

// piece bounds one purge.
type piece struct {
	bytes    int64
	segments int
}

// choose adds to a plan what must go now, about as much as the piece says, and notes when to look again.
func (w *writer) choose(p *plan, most piece, pressed bool) error {
	r, now := &w.retention, w.wall()
	s, err := w.survey()
	if err != nil {
		return err
	}
	if now.Before(r.looked.Add(-clockSlack)) || r.looked.IsZero() {
		w.clockWentBack()
	}
	r.looked, r.grown, r.dirty, r.due = now, 0, false, time.Time{}
	if r.more, err = w.retime(p, &s, now, most); r.more && !pressed || err != nil {
		return err
	}
	goes := func(at int64) bool {
		return pressed || r.Size > 0 && s.bytes > r.Size || r.Age > 0 && at <= now.Add(-r.Age).UnixNano()
	}
	for {
		h, others := s.oldest()
		if h == nil {
			return nil
		}
		if !goes(h.next.at) {
			if r.Age > 0 {
				r.due = time.Unix(0, h.next.at).Add(r.Age)
			}
			return nil
		}
		if most.bytes <= 0 || most.segments <= 0 {
			r.more = true
			return nil
		}
		// The oldest of all goes first, to within a second: topics that grow together are not cut one segment at a time.
		now := func(at int64) bool { return at <= others+int64(time.Second) && goes(at) }
		if err := w.cut(p, h, now, &s.bytes, &most); err != nil {
			return err
		}
	}
}

// cut takes segments off the beginning of a topic's history while goes says so and the piece lasts. The first always goes.
func (w *writer) cut(p *plan, h *history, goes func(at int64) bool, left *int64, most *piece) error {
	t := h.topic
	if h.purge == nil {
		h.purge = &purge{topic: t, total: t.freed.Load()}
		p.purges = append(p.purges, h.purge)
	}
	from := h.next.first
	h.next, h.purge.behind = place{}, place{}
	return w.ofHistory(t, w.places(t, from, most.segments+1, func(x place) bool {
		if x.last() > h.floor {
			h.purge.behind = x
			return false
		}
		if x.first > from && (most.bytes <= 0 || most.segments <= 0 || !goes(x.at)) {
			h.next, h.purge.behind = x, x
			return false
		}
		size := x.total - h.purge.total
		h.purge.to, h.purge.total = x.last(), x.total
		*left, most.bytes, most.segments = *left-size, most.bytes-size, most.segments-1
		return true
	}))
}

// applyRetention carries out what was chosen.
func (w *writer) applyRetention(p *plan) error {
	if x := p.retiming; x != nil {
		w.written += pieceBytes
		err := w.conn.exec("UPDATE segments SET at = ? WHERE topic = ? AND first BETWEEN ? AND ?", x.at, x.topic.id, int64(x.from), int64(x.to))
		if err != nil {
			return w.ofHistory(x.topic, err)
		}
	}
	for _, g := range p.purges {
		if err := w.applyPurge(g); err != nil {
			return w.ofHistory(g.topic, err)
		}
	}
	return nil
}

func (w *writer) applyPurge(g *purge) error {
	from := g.topic.purgedTo() + 1
	if err := w.rescue(g.topic, from, g.to); err != nil {
		return err
	}
	err := w.conn.exec("DELETE FROM segments WHERE topic = ? AND first BETWEEN ? AND ?", g.topic.id, int64(from), int64(g.to))
	if err != nil {
		return err
	}
	w.written += 8 * pageSize
	return w.conn.exec("UPDATE topics SET purged = ?, freed = ? WHERE id = ?", int64(g.to), g.total, g.topic.id)
}

// publishRetention moves memory after the commit.
func (w *writer) publishRetention(p *plan) {
	r := &w.retention
	r.dirty = true
	for i := range p.appends {
		r.grown += p.appends[i].bytes
	}
	if x := p.retiming; x != nil {
		x.topic.oldest, x.topic.retime = place{}, x.from
		if x.end {
			x.topic.retime = 0
		}
	}
	for _, g := range p.purges {
		w.box.ids.shrunk(g.topic.purgedTo(), g.to)
		r.purged.Add(int64(g.to - g.topic.purgedTo()))
		r.kept.Add(g.topic.freed.Load() - g.total)
		g.topic.freed.Store(g.total)
		g.topic.purged.Store(int64(g.to))
		g.topic.oldest = g.behind
	}
}

// purgeWith adds to a plan what must be purged: at least twice what it appends, so that the purge keeps up.
func (w *writer) purgeWith(p *plan) error {
	if !w.mustLook(w.wall()) {
		return nil
	}
	most := piece{pieceBytes, pieceSegments + 2*len(p.appends)}
	for i := range p.appends {
		most.bytes = max(most.bytes, 2*p.appends[i].bytes)
	}
	return w.choose(p, most, w.pressed())
}

// purgeAlone makes a commit of its own for the purge; it reports whether there was anything to do.
func (w *writer) purgeAlone(most piece, pressed bool) (bool, error) {
	if err := w.conn.exec("BEGIN IMMEDIATE"); err != nil {
		return false, w.rollback(err)
	}
	p := &plan{}
	if err := w.choose(p, most, pressed); err != nil {
		return false, w.rollback(err)
	}
	if p.retiming == nil && len(p.purges) == 0 {
		return false, w.rollback(nil)
	}
	if err := w.applyRetention(p); err != nil {
		return false, w.rollback(err)
	}
	if err := w.seal(); err != nil {
		return false, w.rollback(err)
	}
	w.publish(p)
	return true, nil
}

// idle purges when nothing else is to be done. An error ends the outbox.
func (w *writer) idle() error {
	r := &w.retention
	if now := w.wall(); !r.more && !r.dirty && !w.pressed() && (r.due.IsZero() || now.Before(r.due) && !now.Before(r.looked)) {
		return nil
	}
	did, err := w.purgeAlone(piece{idleBytes, 4 * pieceSegments}, w.pressed())
	r.dirty = r.dirty || err != nil // to look again
	switch {
	case goWithout(err):
		r.more = true
		return nil
	case isFull(err):
		w.fill("the disk is full")
		w.reserve.release()
		return nil
	case isBusy(err):
		return nil
	case err != nil:
		return w.end(err)
	case did:
		return w.checkpoint()
	}
	return nil
}

// nextLook is how long an idle writer may sleep before it has to look at its history; false: for ever.
func (w *writer) nextLook() (time.Duration, bool) {
	r := &w.retention
	switch {
	case r.more:
		return idlePause, true
	case r.Age <= 0 && r.Size <= 0:
		return 0, false
	case r.dirty:
		return lookEvery, true
	case r.due.IsZero():
		return 0, false
	}
	return min(max(r.due.Sub(w.wall()), idlePause), longestSleep), true
}

// makeRoom purges history, of whatever age, since the disk has no room for a commit. It reports whether the commit should be
// tried again; it does so only once for each.
func (w *writer) makeRoom() (bool, error) {
	r := &w.retention
	if w.full.Load() || r.helped {
		return false, nil
	}
	did, err := w.purgeAlone(piece{2 * maxCommit, 4 * pieceSegments}, true)
	if goWithout(err) {
		return true, nil
	}
	if err != nil && !isFull(err) && !isBusy(err) {
		return false, err
	}
	if did {
		r.tight, r.helped = true, true
		w.log.Warn("the disk is full, history makes room", "path", w.box.path)
	}
	return did, nil
}
