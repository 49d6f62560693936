package event

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"time"
)

// UUIDs makes UUIDs of version 7 (RFC 9562): milliseconds since 1970 and 74 random bits, so that ids sort by time. Randomness is fetched for
// many at once, since asking the kernel for each costs more than all the rest. The zero value is ready; safe for concurrent use.
type UUIDs struct {
	mu   sync.Mutex // guards both
	room [64 * 10]byte
	left int // bytes at the end of room that nobody was given
}

// Next makes a UUID that begins with a time.
func (u *UUIDs) Next(now time.Time) string {
	var b [16]byte
	u.fill(b[6:])
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

// fill gives out bytes that nobody else gets.
func (u *UUIDs) fill(b []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.left < len(b) {
		_, _ = rand.Read(u.room[:]) // it never fails: crypto/rand ends the process rather than return an error
		u.left = len(u.room)
	}
	copy(b, u.room[len(u.room)-u.left:])
	u.left -= len(b)
}
