package outbox

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/millrace-run/millrace/event"
)

// The format of a history: for each attempt, oldest first, its time in nanoseconds since 1970 (0 is none) and its status as signed
// varints, then the error and the answer, each as its length, an unsigned varint, and its bytes.

// encodeHistory writes attempts; nil for none.
func encodeHistory(attempts []event.Attempt) (b []byte) {
	for i := range attempts {
		a := &attempts[i]
		at, _ := nanos(a.At).(int64)
		b = binary.AppendVarint(binary.AppendVarint(b, at), int64(a.Status))
		b = append(binary.AppendUvarint(b, uint64(len(a.Error))), a.Error...)
		b = append(binary.AppendUvarint(b, uint64(len(a.Answer))), a.Answer...)
	}
	return b
}

// decodeHistory reads attempts. What does not say what was written ends it: the row is worth more than its past.
func decodeHistory(b []byte) (attempts []event.Attempt) {
	for len(b) > 0 {
		at, n := binary.Varint(b)
		if n <= 0 {
			return attempts
		}
		status, m := binary.Varint(b[n:])
		if m <= 0 {
			return attempts
		}
		text, rest, ok := cutBytes(b[n+m:])
		if !ok {
			return attempts
		}
		answer, rest, ok := cutBytes(rest)
		if !ok {
			return attempts
		}
		a := event.Attempt{At: fromNanos(at), Status: int(status), Error: string(text)}
		if len(answer) > 0 {
			a.Answer = answer
		}
		attempts, b = append(attempts, a), rest
	}
	return attempts
}

// cutBytes takes what was written with its length from the front.
func cutBytes(b []byte) (head, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, false
	}
	end := n + int(size) //nolint:gosec // it is not greater than len(b)
	return b[n:end:end], b[end:], true
}

// fingerprint is that of the event that an edit made; nil for none. Edits that made the same event have the same.
func fingerprint(edited []byte) []byte {
	if edited == nil {
		return nil
	}
	sum := sha256.Sum256(edited)
	return sum[:16]
}
