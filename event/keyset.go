package event

import (
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"math"
	"time"
)

// Dedupe says how a log leaves out duplicates of a topic: an event whose key was appended less than Window ago is not appended
// again.
type Dedupe struct {
	// Name says what the keys are made of, such as an expression. Keys that were made under another name never match.
	Name    string
	Window  time.Duration // more than 0
	MaxKeys int           // more than 0; when there are more, the oldest is forgotten before its time
	// SameID says that events with the same key have the same id, so that no id need be kept to tell whose duplicate one is.
	SameID bool
}

// KeyHash stands for a dedupe key. 128 bits of a keyed hash: two keys of a topic never have the same, for all that can happen.
type KeyHash [16]byte

// HashKey is the hash of a key that was made under a name. The secret belongs to the log.
func HashKey(secret []byte, name, key string) KeyHash {
	var room [256]byte
	b := append(room[:0], secret...)
	b = append(binary.AppendUvarint(b, uint64(len(name))), name...)
	sum := sha256.Sum256(append(b, key...))
	return KeyHash(sum[:len(KeyHash{})])
}

// HashBody is a fingerprint of a body, never 0. 64 bits are enough, since only two bodies of one key are ever compared.
func HashBody(secret, body []byte) uint64 {
	h := sha256.New()
	h.Write(secret)
	h.Write(body)
	var room [sha256.Size]byte
	return max(1, binary.BigEndian.Uint64(h.Sum(room[:0])))
}

// Key is what a KeySet remembers of an event.
type Key struct {
	Hash KeyHash
	At   int64  // when it came, in milliseconds of the set's own time, see Tick
	Mark uint64 // HashBody of what it was made of; 0 is none. A key has a mark or an id
	ID   string // of the event; empty when it is that of every event with this key
}

// KeySet holds the dedupe keys of a topic in memory, in the order in which they came, which gives them numbers. It takes 37 to 43
// bytes for a key without an id. The commit that is being formed adds keys at the end, and takes them back (Truncate) if it fails.
//
// A set has a time of its own, so that no clock can make it forget early or keep for ever. It is what passed while somebody looked
// at the clock: where the clock has a monotonic part, as the machine's has within a process, steps of the wall clock do not show
// at all (but time in which the machine slept does not either, so keys then stay longer). Between two looks without one, such
// as before and after a restart, time passes as the wall clock says; a clock that went back lets none pass, so that keys stay
// longer by what really passed between the two looks, and not by how far the clock went; one that jumped ahead cannot be told from
// a machine that was off, and the keys that are then too old are forgotten.
//
// It is not safe for concurrent use.
type KeySet struct {
	window, passed time.Duration
	last           time.Time // when the clock was looked at
	most           int

	head, next uint64 // number of the oldest key, and of the next one
	chunks     []*keyChunk
	// table finds keys by hash: open addressing, a slot holds the low half of a key's number, 0 is empty. No key has a number whose
	// low half is 0. Of two keys with one hash, of which the older one is over, it holds the newer.
	table []uint32
	used  int
}

const keyChunkBits = 12 // keys of a chunk, as a power of two

// keyChunk holds the keys whose numbers differ in the low bits only.
type keyChunk struct {
	records []keyRecord
	ids     []byte
}

// keyRecord holds no pointer, so that a million of them cost the collector nothing.
type keyRecord struct {
	hash  KeyHash
	at    int64  // milliseconds doubled, plus 1 if extra is an id
	extra uint64 // mark, or place and length of the id in the chunk
}

// NewKeySet returns an empty set whose own time begins now.
func NewKeySet(d Dedupe, now time.Time) *KeySet {
	s := &KeySet{last: now, head: 1, next: 1}
	s.Resize(d)
	return s
}

// Resume goes on with the set's own time, which was passed (in milliseconds) at the moment last.
func (s *KeySet) Resume(passed int64, last time.Time) {
	s.passed, s.last = time.Duration(passed)*time.Millisecond, last
}

// Resize changes window and bound.
func (s *KeySet) Resize(d Dedupe) { s.window, s.most = d.Window, d.MaxKeys }

// Tick looks at the clock and returns the set's own time.
func (s *KeySet) Tick(now time.Time) time.Duration {
	if d := now.Sub(s.last); d > 0 {
		s.passed += min(d, math.MaxInt64-s.passed)
	}
	s.last = now
	return s.passed
}

// Bounds returns the number of the oldest key and that of the next one.
func (s *KeySet) Bounds() (first, next uint64) { return s.head, s.next }

// Decide finds the duplicates among the events of a, whose keys have these hashes, and adds the keys of the others. mark is that
// of a.Body, 0 for none. On ErrConflict the set is as it was.
func (s *KeySet) Decide(a *Append, hashes []KeyHash, mark uint64, sameID bool) (duplicates map[int]string, err error) {
	begin, at := s.next, s.stamp()
	for i, key := range a.Keys {
		if key == "" {
			continue
		}
		place := s.room(hashes[i])
		first, ok := s.in(place)
		switch {
		case !ok && sameID:
			s.put(Key{Hash: hashes[i], At: at, Mark: mark}, place)
			continue
		case !ok:
			s.put(Key{Hash: hashes[i], At: at, ID: a.Events[i].ID}, place)
			continue
		case mark != 0 && first.Mark != 0 && mark != first.Mark:
			s.Truncate(begin)
			return nil, ErrConflict
		}
		if duplicates == nil {
			duplicates = map[int]string{}
		}
		if duplicates[i] = first.ID; first.ID == "" {
			duplicates[i] = a.Events[i].ID
		}
	}
	return duplicates, nil
}

// stamp is the set's own time for a key, rounded up: no key is over before its time.
func (s *KeySet) stamp() int64 {
	at := int64(s.passed / time.Millisecond)
	if s.passed%time.Millisecond > 0 {
		at++
	}
	return at
}

func (s *KeySet) isOver(at int64) bool {
	return s.passed/time.Millisecond-time.Duration(at) >= s.window/time.Millisecond
}

// Find returns the key with a hash, unless its time is over.
func (s *KeySet) Find(h KeyHash) (Key, bool) {
	if len(s.table) == 0 {
		return Key{}, false
	}
	return s.in(s.slotOf(h))
}

// in returns the key at a place of the table, if there is one whose time is not over.
func (s *KeySet) in(place int) (Key, bool) {
	if s.table[place] == 0 {
		return Key{}, false
	}
	n := s.number(s.table[place])
	if _, r := s.record(n); s.isOver(r.at >> 1) {
		return Key{}, false
	}
	return s.At(n), true
}

// At returns a key by its number, which lies within the bounds.
func (s *KeySet) At(n uint64) Key {
	c, r := s.record(n)
	k := Key{Hash: r.hash, At: r.at >> 1}
	if r.at&1 == 0 {
		k.Mark = r.extra
	} else {
		place, length := r.extra>>32, r.extra&math.MaxUint32
		k.ID = string(c.ids[place : place+length])
	}
	return k
}

func (s *KeySet) record(n uint64) (*keyChunk, *keyRecord) {
	c := s.chunks[n>>keyChunkBits-s.head>>keyChunkBits]
	return c, &c.records[n&(1<<keyChunkBits-1)]
}

// number is the number that a slot of the table stands for.
func (s *KeySet) number(slot uint32) uint64 { return s.head + uint64(slot-uint32(s.head)) }

// Add adds a key at the end. One with the same hash is no longer found.
func (s *KeySet) Add(k Key) { s.put(k, s.room(k.Hash)) }

// room is the place in the table where a key with a hash is, or belongs.
func (s *KeySet) room(h KeyHash) int {
	if (s.used+1)*4 > len(s.table)*3 {
		s.grow()
	}
	return s.slotOf(h)
}

// put adds a key whose place is known.
func (s *KeySet) put(k Key, place int) {
	if uint32(s.next) == 0 {
		s.push(Key{})
	}
	s.fill(place, uint32(s.next))
	s.push(k)
}

func (s *KeySet) fill(place int, slot uint32) {
	if s.table[place] == 0 {
		s.used++
	}
	s.table[place] = slot
}

// push adds a record. A full chunk lets go of the room that it kept for more ids.
func (s *KeySet) push(k Key) {
	at := int(s.next & (1<<keyChunkBits - 1))
	if at == 0 || len(s.chunks) == 0 {
		if n := len(s.chunks); n > 0 {
			s.chunks[n-1].ids = append(make([]byte, 0, len(s.chunks[n-1].ids)), s.chunks[n-1].ids...)
		}
		s.chunks = append(s.chunks, &keyChunk{records: make([]keyRecord, at)})
	}
	c := s.chunks[len(s.chunks)-1]
	if len(c.records) == cap(c.records) {
		c.records = append(make([]keyRecord, 0, min(max(16, 2*len(c.records)), 1<<keyChunkBits)), c.records...)
	}
	r := keyRecord{hash: k.Hash, at: k.At << 1, extra: k.Mark}
	if k.ID != "" {
		r.at, r.extra = r.at|1, uint64(len(c.ids))<<32|uint64(len(k.ID))
		c.ids = append(c.ids, k.ID...)
	}
	c.records = append(c.records, r)
	s.next++
}

// Truncate takes back the keys from number n on, newest first.
func (s *KeySet) Truncate(n uint64) {
	for s.next > n {
		s.remove(s.next - 1)
		s.next--
		c, r := s.record(s.next)
		if r.at&1 == 1 {
			c.ids = c.ids[:r.extra>>32]
		}
		c.records = c.records[:len(c.records)-1]
		if s.next&(1<<keyChunkBits-1) == 0 {
			s.chunks = s.chunks[:len(s.chunks)-1]
		}
	}
}

// Trim forgets the oldest keys: those that are over, at most bound of them so that nobody waits long for it, and those beyond
// the most that there may be. It returns how many of them were not over.
func (s *KeySet) Trim(bound int) (early int) {
	for s.head < s.next {
		_, r := s.record(s.head)
		over := s.isOver(r.at >> 1)
		crowded := s.next-s.head > uint64(s.most)
		if !crowded && (!over || bound <= 0) {
			break
		}
		if !over && uint32(s.head) != 0 {
			early++
		}
		bound--
		s.remove(s.head)
		s.head++
		if s.head&(1<<keyChunkBits-1) == 0 {
			s.chunks[0] = nil
			s.chunks = s.chunks[1:]
		}
	}
	return early
}

// slotOf is the place in the table of the key with a hash, or the empty one where it belongs.
func (s *KeySet) slotOf(h KeyHash) int {
	mask := len(s.table) - 1
	i := home(h) & mask
	for s.table[i] != 0 {
		if _, r := s.record(s.number(s.table[i])); r.hash == h {
			break
		}
		i = (i + 1) & mask
	}
	return i
}

func home(h KeyHash) int { return int(binary.LittleEndian.Uint64(h[:]) >> 1) }

// grow makes the table twice as large.
func (s *KeySet) grow() {
	s.table, s.used = make([]uint32, max(64, 2*len(s.table))), 0
	for n := s.head; n < s.next; n++ {
		if _, r := s.record(n); uint32(n) != 0 {
			s.fill(s.slotOf(r.hash), uint32(n))
		}
	}
}

// remove takes a key out of the table, if it is still the one that its hash finds, and moves up those that had to make way for it.
func (s *KeySet) remove(n uint64) {
	if uint32(n) == 0 {
		return
	}
	_, r := s.record(n)
	i := s.slotOf(r.hash)
	if s.table[i] != uint32(n) {
		return
	}
	mask := len(s.table) - 1
	for j := (i + 1) & mask; s.table[j] != 0; j = (j + 1) & mask {
		_, r := s.record(s.number(s.table[j]))
		if (j-home(r.hash))&mask >= (j-i)&mask {
			s.table[i], i = s.table[j], j
		}
	}
	s.table[i] = 0
	s.used--
}

// From returns the keys from a number on with their numbers, oldest first. The set must not change meanwhile.
func (s *KeySet) From(n uint64) iter.Seq2[uint64, Key] {
	return func(yield func(uint64, Key) bool) {
		for n = max(n, s.head); n < s.next; n++ {
			if uint32(n) != 0 && !yield(n, s.At(n)) {
				return
			}
		}
	}
}

// Rest returns the events that are not among the duplicates.
func (a *Append) Rest(duplicates map[int]string) []Event {
	if len(duplicates) == 0 {
		return a.Events
	}
	rest := make([]Event, 0, len(a.Events)-len(duplicates))
	for i := range a.Events {
		if _, left := duplicates[i]; !left {
			rest = append(rest, a.Events[i])
		}
	}
	return rest
}
