package outbox

import (
	"cmp"
	"database/sql/driver"
	"fmt"
	"slices"
	"sort"

	"github.com/millrace-run/millrace/event"
)

// topicScan is a topic whose row is sound, with its segments.
type topicScan struct {
	id, purged, freed int64
	name              string
	segments          []segmentScan // sound ones, by offset
	bad               []segmentScan // rows that are there, with the reason why their events are not
	holes             []gap         // offsets whose events are lost
	known             []gap         // those of which a repair told
	end               int64         // last offset that is there, or that was purged
	reached           int64         // last offset that something else in the file names
}

// segmentScan is a row of segments without its body.
type segmentScan struct {
	id, topic, first, n, total, size int64
	why                              string // the body does not say what was written to it
}

func (t *topicScan) label(id int64) string {
	if t == nil {
		return fmt.Sprintf("%d (its name is lost)", id)
	}
	return t.name
}

func (t *topicScan) has(o int64) bool {
	i := sort.Search(len(t.segments), func(i int) bool { return t.segments[i].first > o })
	return i > 0 && o < t.segments[i-1].first+t.segments[i-1].n
}

// segments judges every row of events. A body has a checksum, but its place in the topic has none: it must be confirmed by the index, or
// by a neighbor that it continues or that continues it. So no event ever gets the offset of another.
func (s *scan) segments() error {
	found := map[int64][]segmentScan{}
	err := s.rows("segments", func(r *rowScan) error {
		x := segmentScan{id: r.integer("id"), topic: r.integer("topic"), first: r.integer("first"), n: r.integer("n")}
		x.total = r.integer("total")
		body := r.blob("body")
		x.size = int64(len(body))
		if _, err := decodeSegment(body, event.Offset(x.first), int(x.n)); err != nil {
			x.why = err.Error()
		}
		found[x.topic] = append(found[x.topic], x)
		return nil
	}, func(id int64, why error) {
		x := segmentScan{id: id, why: fmt.Sprintf("pages of its body are damaged (%v)", why)}
		_ = s.conn.each("SELECT topic, first, n FROM segments WHERE id = ?", func(columns []driver.Value) error {
			x.topic, _ = columns[0].(int64)
			x.first, _ = columns[1].(int64)
			x.n, _ = columns[2].(int64)
			return nil
		}, id) // what that cannot read either is known by the hole alone
		found[x.topic] = append(found[x.topic], x)
	})
	if err != nil {
		return err
	}
	for _, id := range sortedKeys(found) {
		t := s.topics[id]
		if t == nil {
			s.damage(Damage{
				Table: "segments", Topic: t.label(id), Rows: int64(len(found[id])),
				What: "the row of their topic is lost, so that nobody can reach the events",
			})
			continue
		}
		s.judge(t, found[id])
		delete(found, id)
	}
	s.knownLosses()
	for _, id := range sortedKeys(s.topics) {
		s.findHoles(s.topics[id])
	}
	return s.keepSegments()
}

func sortedKeys[V any](m map[int64]V) []int64 {
	keys := make([]int64, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// judge takes the rows of a topic, in the order in which they were written.
func (s *scan) judge(t *topicScan, list []segmentScan) {
	before := segmentScan{first: t.purged + 1, total: t.freed} // as if the purged ones were the row before the first
	for i := range list {
		x := &list[i]
		id, ok := s.witness("SELECT id FROM segments INDEXED BY segments_by_place WHERE topic = ? AND first = ?", x.topic, x.first)
		placed := ok && id == x.id || before.continuedBy(x) || i+1 < len(list) && x.continuedBy(&list[i+1])
		switch {
		case placed && x.why == "" && x.first > t.purged:
			t.segments = append(t.segments, *x)
			s.report.Events += x.n
		case placed && x.n > 0 && x.first > 0:
			t.bad = append(t.bad, *x)
		default:
			s.damage(Damage{Table: "segments", Topic: t.name, Rows: 1, What: fmt.Sprintf("row %d does not say which events it has", x.id)})
		}
		before = *x
	}
	byPlace := func(a, b segmentScan) int { return cmp.Compare(a.first, b.first) }
	slices.SortFunc(t.segments, byPlace)
	slices.SortFunc(t.bad, byPlace)
	for i := 1; i < len(t.segments); i++ { // two cannot both be right
		if a, b := &t.segments[i-1], &t.segments[i]; b.first < a.first+a.n {
			s.damage(Damage{Table: "segments", Topic: t.name, From: b.first, To: b.first + b.n - 1, Rows: 1, What: "its events are in two rows"})
			s.report.Events -= b.n
			t.segments = slices.Delete(t.segments, i, i+1)
			i--
		}
	}
}

// continuedBy says whether the row after this one fits it. Files of schema 1 have no totals.
func (x *segmentScan) continuedBy(next *segmentScan) bool {
	return x.first+x.n == next.first && (next.total == 0 || x.total+next.size == next.total)
}

// findHoles finds the offsets that no segment has between the purged ones and the last.
func (s *scan) findHoles(t *topicScan) {
	t.end = t.purged
	for i := range t.segments {
		x := &t.segments[i]
		if x.first > t.end+1 {
			s.hole(t, t.end+1, x.first-1)
		}
		t.end = x.first + x.n - 1
	}
	t.reached = t.end
	for _, x := range t.bad {
		t.reached = max(t.reached, x.first+min(x.n, maxSegmentEvents)-1)
	}
	// The index may know of segments behind the last that can be read.
	if last, ok := s.witness("SELECT max(first) FROM segments INDEXED BY segments_by_place WHERE topic = ?", t.id); ok && last < t.reached+1<<40 {
		t.reached = max(t.reached, last)
	}
}

// hole tells of a range that no segment has, but not again of what a repair told of.
func (s *scan) hole(t *topicScan, from, to int64) {
	t.holes = append(t.holes, gap{event.Offset(from), event.Offset(to)})
	for _, k := range t.known {
		if k.to >= event.Offset(from) && k.from <= event.Offset(to) {
			s.lost(t, from, int64(k.from)-1)
			from = int64(k.to) + 1
		}
	}
	s.lost(t, from, to)
}

// lost is a damage for each row in a range that gives a reason, and for what is between them.
func (s *scan) lost(t *topicScan, from, to int64) {
	for _, x := range t.bad {
		if x.first < from || x.first > to {
			continue
		}
		s.noRow(t, from, x.first-1)
		end := min(to, x.first+x.n-1)
		s.damage(Damage{Table: "segments", Topic: t.name, From: x.first, To: end, Rows: 1, What: x.why})
		from = end + 1
	}
	s.noRow(t, from, to)
}

func (s *scan) noRow(t *topicScan, from, to int64) {
	if from <= to {
		s.damage(Damage{Table: "segments", Topic: t.name, From: from, To: to, What: "no row has them"})
	}
}

// lossOwner is whose states say what a repair could not save: a range of offsets for each topic, under its name. Without them every
// later check, and every backup, would find the same again.
const lossOwner = "outbox:lost"

func (s *scan) knownLosses() {
	for _, t := range s.topics {
		// What cannot be read is told of by who reads the table.
		_ = s.conn.each("SELECT value FROM states WHERE owner = ? AND key = ?", func(columns []driver.Value) error {
			b, _ := columns[0].([]byte)
			var c cursor
			if c.setGaps(b) == nil {
				t.known = c.gaps
			}
			return nil
		}, lossOwner, t.name)
	}
}

// lostEnds tells of events behind the last that can be read: something else in the file names them.
func (s *scan) lostEnds() error {
	for _, id := range sortedKeys(s.topics) {
		if t := s.topics[id]; t.reached > t.end {
			holes := t.holes
			s.hole(t, t.end+1, t.reached)
			t.holes = holes // their offsets are given anew
		}
	}
	return nil
}

// keepSegments copies the sound ones. They are read a second time, since what is sound is known only at the end, and in the same way:
// looking for them one by one could miss what a walk over all rows finds.
func (s *scan) keepSegments() error {
	if s.keep == nil {
		return nil
	}
	sound := map[int64]bool{}
	for _, t := range s.topics {
		for i := range t.segments {
			sound[t.segments[i].id] = true
		}
	}
	told := s.report.Damages
	err := s.rows("segments", func(r *rowScan) error {
		if sound[r.integer("id")] {
			return s.kept(r)
		}
		return nil
	}, func(int64, error) {})
	s.report.Damages = told
	return err
}
