package webhook

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"time"
)

// randomness is fetched for many ids at once: asking the kernel for each costs more than all the rest of an id.
type randomness struct {
	mu   sync.Mutex // guards both
	room [64 * 10]byte
	left int // bytes at the end of room that nobody was given
}

// fill gives out bytes that nobody else gets. len(b) is at most the size of room.
func (r *randomness) fill(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left < len(b) {
		_, _ = rand.Read(r.room[:]) // it never fails: crypto/rand ends the process rather than return an error
		r.left = len(r.room)
	}
	copy(b, r.room[len(r.room)-r.left:])
	r.left -= len(b)
}

// newUUID makes a UUID of version 7 (RFC 9562): milliseconds since 1970 and 74 random bits, so that ids sort by time.
func newUUID(now time.Time, random *randomness) string {
	var b [16]byte
	random.fill(b[6:])
	binary.BigEndian.PutUint32(b[0:], uint32(now.UnixMilli()>>16))
	binary.BigEndian.PutUint16(b[4:], uint16(now.UnixMilli()))
	b[6] = 0x70 | b[6]&0x0F
	b[8] = 0x80 | b[8]&0x3F
	var s [36]byte
	hex.Encode(s[0:], b[0:4])
	hex.Encode(s[9:], b[4:6])
	hex.Encode(s[14:], b[6:8])
	hex.Encode(s[19:], b[8:10])
	hex.Encode(s[24:], b[10:])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}
