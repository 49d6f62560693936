package webhook

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// newUUID makes a UUID of version 7 (RFC 9562): milliseconds since 1970 and 74 random bits, so that ids sort by time.
func newUUID(now time.Time) string {
	var b [16]byte
	_, _ = rand.Read(b[6:]) // it never fails: crypto/rand ends the process rather than return an error
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
