package outbox

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/millrace-run/millrace/event"
)

// cursor is how far a subscription has come: all up to at is settled, and so is every offset in (at, at+Window] whose bit is
// set. The bit of an offset is at its value modulo Window, so that moving the cursor moves no bits.
type cursor struct {
	at    event.Offset
	ahead [event.Window / 64]uint64
	gaps  []gap // ascending, beyond at
}

// gap is a range of offsets that the subscription is not owed, both ends included: they were appended while no configuration named
// it, or are dead letters that a seek left behind the new cursor.
type gap struct{ from, to event.Offset }

var errBeyondWindow = errors.New("settled more than a window ahead of the cursor")

// settle marks one offset; it is no error to do it twice.
func (c *cursor) settle(o event.Offset) error {
	if o <= c.at {
		return nil
	}
	if o > c.at+event.Window {
		if _, inside := c.gap(o); inside { // a dead letter that a seek left where it is
			return nil
		}
		return errBeyondWindow
	}
	c.ahead[o%event.Window/64] |= 1 << (o % 64)
	if o == c.at+1 {
		c.advance()
	}
	return nil
}

// advance moves the cursor over everything that is settled or not owed.
func (c *cursor) advance() {
	for {
		next := c.at + 1
		switch {
		case len(c.gaps) > 0 && c.gaps[0].from <= next:
			c.skip(c.gaps[0].to)
			c.gaps = c.gaps[1:]
		case c.bit(next):
			c.ahead[next%event.Window/64] &^= 1 << (next % 64)
			c.at = next
		default:
			return
		}
	}
}

// skip moves the cursor to o and forgets the bits on the way.
func (c *cursor) skip(o event.Offset) {
	if o-c.at >= event.Window {
		c.at = max(c.at, o)
		c.ahead = [event.Window / 64]uint64{}
		return
	}
	for ; c.at < o; c.at++ {
		next := c.at + 1
		c.ahead[next%event.Window/64] &^= 1 << (next % 64)
	}
}

func (c *cursor) bit(o event.Offset) bool { return c.ahead[o%event.Window/64]&(1<<(o%64)) != 0 }

// settled says whether an offset needs no handing out: settled, with a row, or not owed.
func (c *cursor) settled(o event.Offset) bool {
	if o <= c.at || o <= c.at+event.Window && c.bit(o) {
		return true
	}
	_, inside := c.gap(o)
	return inside
}

// gap finds the gap that holds an offset; if none does, the first behind it.
func (c *cursor) gap(o event.Offset) (i int, inside bool) {
	i, _ = slices.BinarySearchFunc(c.gaps, o, func(g gap, o event.Offset) int { return cmp.Compare(g.to, o) })
	return i, i < len(c.gaps) && c.gaps[i].from <= o
}

// aheadBytes is the window as it is stored; nil when no bit is set.
func (c *cursor) aheadBytes() []byte {
	if c.ahead == [event.Window / 64]uint64{} {
		return nil
	}
	b := make([]byte, 0, event.Window/8)
	for _, w := range c.ahead {
		b = binary.BigEndian.AppendUint64(b, w)
	}
	return b
}

func (c *cursor) setAhead(b []byte) error {
	if len(b) != 0 && len(b) != event.Window/8 {
		return errDamaged
	}
	for i := range len(b) / 8 {
		c.ahead[i] = binary.BigEndian.Uint64(b[i*8:])
	}
	return nil
}

func (c *cursor) gapBytes() []byte {
	var b []byte
	for _, g := range c.gaps {
		b = binary.AppendVarint(binary.AppendVarint(b, int64(g.from)), int64(g.to))
	}
	return b
}

func (c *cursor) setGaps(b []byte) error {
	for len(b) > 0 {
		from, n := binary.Varint(b)
		to, m := binary.Varint(b[max(n, 0):])
		if n <= 0 || m <= 0 {
			return errDamaged
		}
		c.gaps = append(c.gaps, gap{event.Offset(from), event.Offset(to)})
		b = b[n+m:]
	}
	return nil
}

// joinGaps sorts gaps, makes one of those that touch, and cuts them at an end.
func joinGaps(gaps []gap, end event.Offset) (joined []gap) {
	slices.SortFunc(gaps, func(a, b gap) int { return cmp.Compare(a.from, b.from) })
	for _, g := range gaps {
		g.to = min(g.to, end)
		if n := len(joined); n > 0 && g.from <= joined[n-1].to+1 {
			joined[n-1].to = max(joined[n-1].to, g.to)
		} else if g.from <= g.to {
			joined = append(joined, g)
		}
	}
	return joined
}
