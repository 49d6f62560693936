package syslog

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// outcome is what came of a stream.
type outcome struct {
	Messages []string
	Err      string
	Whole    bool
}

// cutStream reads a stream in the pieces that size says, 0 being as much as there is room for.
func cutStream(stream string, limit int, size func() int) outcome {
	f := newFramer(limit)
	var out outcome
	keep := func(m message) {
		text := string(m.text)
		if m.cut {
			text += "…"
		}
		out.Messages = append(out.Messages, text)
	}
	for stream != "" {
		room := f.space()
		if n := size(); n > 0 && n < len(room) {
			room = room[:n]
		}
		n := copy(room, stream)
		stream = stream[n:]
		f.filled(n)
		for {
			m, ok, err := f.next()
			if err != nil {
				out.Err = err.Error()
				return out
			}
			if !ok {
				break
			}
			keep(m)
		}
	}
	m, whole := f.rest()
	if out.Whole = whole; len(m.text) > 0 {
		keep(m)
	}
	return out
}

func all() int { return 0 }

func TestFraming(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, c := range []struct {
		stream string
		want   outcome
	}{
		{"", outcome{nil, "", true}},
		{"\n\n", outcome{nil, "", true}},
		{"<1>a\n<2>b\r\n\n<3>c", outcome{[]string{"<1>a", "<2>b", "<3>c"}, "", true}},
		{"4 <1>a5 <2>b\n6 <3>c\nd", outcome{[]string{"<1>a", "<2>b", "<3>c\nd"}, "", true}},
		{"\n4 <1>a\n\r\n4 <2>b\n", outcome{[]string{"<1>a", "<2>b"}, "", true}},
		{"5 <1>a\x004 <2>b", outcome{[]string{"<1>a", "<2>b"}, "", true}},
		{"4 <1>a9 <2>b", outcome{[]string{"<1>a"}, "", false}},
		{"4 <1>a1", outcome{[]string{"<1>a"}, "", false}},
		{"4 <1>ab4 <2>b", outcome{[]string{"<1>a"}, errCount.Error(), false}},
		{"4 <1>a0 4 <2>b", outcome{[]string{"<1>a"}, errCount.Error(), false}},
		{"4 <1>a4<<2>b", outcome{[]string{"<1>a"}, errCount.Error(), false}},
		{"2026-11\n", outcome{[]string{"2026-11"}, "", true}},
		{"12 mons\n", outcome{[]string{"12 mons"}, "", true}},
		{"0 <1>a\n", outcome{[]string{"0 <1>a"}, "", true}},
		{"12 ", outcome{[]string{"12 "}, "", true}},
		{"12", outcome{[]string{"12"}, "", true}},
		{"999999999 <1>a", outcome{nil, errEndless.Error(), false}},
		{"9999999999 <1>a", outcome{nil, errCount.Error(), false}},
		{"\x16\x03\x01\x02\x00\x01\x00\n", outcome{nil, errNotSyslog.Error(), false}},
		{"\x00\x00\x00", outcome{nil, errNotSyslog.Error(), false}},
		{"<1>a\x00b\x00\n", outcome{[]string{"<1>a\x00b"}, "", true}},
		{"<1>" + long + "\n<2>b\n", outcome{[]string{"<1>xxxxx…", "<2>b"}, "", true}},
		{"<1>" + long, outcome{[]string{"<1>xxxxx…"}, "", true}},
		{"103 <1>" + long + "4 <2>b", outcome{[]string{"<1>xxxxx…", "<2>b"}, "", true}},
		{"103 <1>" + long[1:], outcome{[]string{"<1>xxxxx…"}, "", false}},
		{"<1>" + long + long, outcome{[]string{"<1>xxxxx…"}, errEndless.Error(), false}},
		{"<1>5678\n<1>56789\n", outcome{[]string{"<1>5678", "<1>56789"}, "", true}},
		{"<1>56789\r\n", outcome{[]string{"<1>56789…"}, "", true}},
	} {
		for _, size := range []int{0, 1, 2, 3, 7} {
			if d := cmp.Diff(c.want, cutStream(c.stream, 8, func() int { return size })); d != "" {
				t.Errorf("%q in pieces of %d (-want +got):\n%s", c.stream, size, d)
			}
		}
	}
}

// Whatever is sent, the same comes out however it was cut into reads.
func TestFramingByAnyReads(t *testing.T) {
	parts := rapid.SampledFrom([]string{"4 <1>a", "<1>a\n", "\n", "\r\n", "\x00", "12 <1>", "7 <1>a\nb\n", "x", "99 <1>", "200 ", "1000000000 ", "<",
		"\xff", " ", strings.Repeat("y", 60), "0"})
	rapid.Check(t, func(t *rapid.T) {
		stream := strings.Join(rapid.SliceOfN(parts, 0, 30).Draw(t, "parts"), "")
		limit := rapid.IntRange(1, 20).Draw(t, "limit")
		sizes := rapid.IntRange(1, 40)
		want := cutStream(stream, limit, all)
		got := cutStream(stream, limit, func() int { return sizes.Draw(t, "size") })
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("%q (-whole +cut):\n%s", stream, d)
		}
	})
}

// What a sender means comes out, in both framings, with messages of every length around the sizes of the buffers.
func TestFramingOfSenders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 50), rapid.IntRange(usualBuffer-60, usualBuffer+60), rapid.IntRange(0, 70_000)), 1, 8).Draw(t, "lengths")
		byCount := rapid.Bool().Draw(t, "counted")
		var stream strings.Builder
		var want []string
		for i, n := range lengths {
			m := fmt.Sprintf("<%d>%s", i, strings.Repeat("m", n))
			want = append(want, m)
			if byCount {
				fmt.Fprintf(&stream, "%d %s", len(m), m)
			} else {
				stream.WriteString(m + "\n")
			}
		}
		sizes := rapid.OneOf(rapid.IntRange(1, 64<<10), rapid.IntRange(1000, 1100))
		got := cutStream(stream.String(), 80_000, func() int { return sizes.Draw(t, "size") })
		if d := cmp.Diff(outcome{want, "", true}, got); d != "" {
			t.Fatal("the messages differ: ", len(d), " bytes of difference")
		}
	})
}

func FuzzFraming(f *testing.F) {
	for _, s := range []string{"4 <1>a5 <2>b\n", "<1>a\n<2>b", "999999999 <1>a", "\x16\x03\x01", "12 <1>abc\x00", "100000000 "} {
		f.Add(s, uint8(3), uint8(8))
	}
	f.Fuzz(func(t *testing.T, stream string, size, limit uint8) {
		max := int(limit) + 1
		want := cutStream(stream, max, all)
		got := cutStream(stream, max, func() int { return int(size) + 1 })
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q in pieces of %d (-whole +cut):\n%s", stream, int(size)+1, d)
		}
		for _, m := range want.Messages {
			if len(strings.TrimSuffix(m, "…")) > max {
				t.Errorf("%q is longer than %d", m, max)
			}
		}
	})
}

// A stream without an end holds no more memory than a message may have.
func TestFramingIsBounded(t *testing.T) {
	const limit = 64 << 10
	for _, begin := range []string{"<1>", "900000 <1>"} {
		f := newFramer(limit)
		var err error
		first := begin
		for range 1000 {
			room := f.space()
			n := copy(room, first)
			first = ""
			for i := range room[n:] {
				room[n+i] = 'x'
			}
			f.filled(len(room))
			for ok := true; ok && err == nil; {
				_, ok, err = f.next()
			}
			if cap(f.buf) > 2*limit+usualBuffer {
				t.Fatalf("%q: the buffer has %d bytes", begin, cap(f.buf))
			}
			if err != nil {
				break
			}
		}
		if !errors.Is(err, errEndless) && !errors.Is(err, errCount) {
			t.Errorf("%q: %v", begin, err)
		}
	}
}
