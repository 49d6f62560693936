package records

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// readAll returns the records and faults of a text, in words.
func readAll(t *testing.T, src io.Reader, o Options) (all []string) {
	t.Helper()
	if o.Max == 0 {
		o.Max = 1 << 20
	}
	r, err := New(src, o, Position{})
	for err == nil {
		var rec Record
		if rec, err = r.Next(); err == nil {
			all = append(all, string(rec.Data))
		}
		var fault *Fault
		if errors.As(err, &fault) && !fault.Fatal {
			all, err = append(all, "! "+fault.Error()), nil
		}
	}
	var fault *Fault
	if errors.As(err, &fault) {
		return append(all, "!! "+fault.Error())
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
	return all
}

// A fault ends its record only, where one can go on behind it.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		o          Options
		text, want string
	}{
		{Options{Format: Lines, Max: 3}, "abc\r\nabcd\n\nabcde\nx", `["abc" "! line 2: it is longer than max_record (3 bytes)" "" "! line 4: it is longer than max_record (3 bytes)" "x"]`},
		{Options{Format: NDJSON}, "{\n1\n\n2 3\n\"x\"", `["! line 1: byte 1: the text ends where a member's name in double quotes belongs" "1" "! line 4: byte 2: something follows the JSON value" "\"x\""]`},
		{Options{Format: CSV}, "a,b\n1\n\n1,2\n\"x\"y,\n3,4\n", `["! line 2: it has not as many columns as there are names (2)" "{\"a\":\"1\",\"b\":\"2\"}" "! line 5: extraneous or missing \" in quoted-field" "{\"a\":\"3\",\"b\":\"4\"}"]`},
		{Options{Format: CSV, Types: map[string]string{"b": "integer"}}, "a,b\nx,1.5\nx,-00\nx,--1\nx,+\n", `["! line 2: column \"b\": \"1.5\" is not an integer" "{\"a\":\"x\",\"b\":0}" "! line 4: column \"b\": \"--1\" is not an integer" "! line 5: column \"b\": \"+\" is not an integer"]`},
		{Options{Format: CSV, Types: map[string]string{"a": "number"}}, "a\n.5\nNaN\n1e400\n-1E2\n0x1p2\n1_0\n12345678901234567890\n", `["{\"a\":0.5}" "! line 3: column \"a\": \"NaN\" is not a number" "{\"a\":1e400}" "{\"a\":-1E2}" "! line 6: column \"a\": \"0x1p2\" is not a number" "! line 7: column \"a\": \"1_0\" is not a number" "{\"a\":12345678901234567890}"]`},
		{Options{Format: CSV, Types: map[string]string{"a": "boolean"}}, "a\ntrue\nyes\n \"\"\n", `["{\"a\":true}" "! line 3: column \"a\": \"yes\" is not a boolean" "! line 4: bare \" in non-quoted-field"]`},
		{Options{Format: CSV, Types: map[string]string{"c": "integer"}}, "a,b\n1,2\n", `["!! line 1: types names the column \"c\", which is not there"]`},
		{Options{Format: CSV}, "a,\n1,2\n", `["!! line 1: column 2 has no name"]`},
		{Options{Format: CSV}, "a\"\n1\n", `["!! line 1: bare \" in non-quoted-field"]`},
		{Options{Format: CSV}, "", "[]"},
		{Options{Format: JSON, Max: 4}, " [1]", `[" [1]"]`},
		{Options{Format: JSON, Max: 3}, " [1]", `["!! it is longer than max_record (3 bytes)"]`},
		{Options{Format: Whole}, "", `[""]`},
	} {
		for _, src := range []io.Reader{strings.NewReader(c.text), iotest.OneByteReader(strings.NewReader(c.text)), iotest.DataErrReader(strings.NewReader(c.text))} {
			if got := fmt.Sprintf("%q", readAll(t, src, c.o)); got != c.want {
				t.Errorf("%s %q\n got %s\nwant %s", c.o.Format, c.text, got, c.want)
			}
		}
	}
}

// A quote that is never closed, and a line without an end, take no more memory than a record may have.
func TestEndlessRecord(t *testing.T) {
	for _, c := range []struct {
		format, begin string
		most          int64
	}{{CSV, "a\n\"", 1 << 10}, {CSV, "\"", 1 << 10}, {JSON, "", 1 << 10}, {Whole, "", 1 << 10}} {
		src := &endless{begin: c.begin}
		if got := readAll(t, src, Options{Format: c.format, Max: c.most}); len(got) != 1 || !strings.HasPrefix(got[0], "!! ") {
			t.Errorf("%s: %.100q", c.format, got)
		}
		if src.n > 4*buffered {
			t.Errorf("%s: %d bytes were read", c.format, src.n)
		}
	}
}

type endless struct {
	begin string
	n     int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.begin)
	e.begin = e.begin[n:]
	for i := n; i < len(p); i++ {
		p[i] = 'x'
	}
	e.n += len(p)
	return len(p), nil
}

func TestErrorsOfTheStream(t *testing.T) {
	broken := errors.New("broken")
	for _, format := range Formats() {
		src := io.MultiReader(strings.NewReader("1\n2\n3"), iotest.ErrReader(broken))
		r, err := New(src, Options{Format: format, Max: 100}, Position{})
		n := 0
		for err == nil {
			if _, err = r.Next(); err == nil {
				n++
			}
		}
		if !errors.Is(err, broken) {
			t.Errorf("%s: %v", format, err)
		}
		if want := map[string]int{Lines: 2, NDJSON: 2, CSV: 1}[format]; n != want {
			t.Errorf("%s: %d records, want %d", format, n, want)
		}
	}
}

// From any position that a reader gave, another one goes on with the records that the first would have returned, whether it can
// seek or not.
func TestPositions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Options{Format: rapid.SampledFrom([]string{Lines, NDJSON, CSV, JSON, Whole}).Draw(t, "format"), Max: 20}
		if o.Format == CSV && rapid.Bool().Draw(t, "named") {
			o.Columns = []string{"a", "b"}
		}
		text := strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"a,b\n", "1,\"x\ny\"\r\n", "\n", "{}\n", "[1]\r\n", "1\n", "\"", ",", "é", "\xff",
			"\xef\xbb\xbf", strings.Repeat("z", 25), "2"})).Draw(t, "text"), "")
		r, err := New(strings.NewReader(text), o, Position{})
		if err != nil {
			return // it has no names, for one
		}
		var steps []step
		for len(steps) == 0 || !steps[len(steps)-1].last {
			steps = append(steps, take(r))
			if len(steps) > len(text)+2 {
				t.Fatal("it does not end")
			}
		}
		from := rapid.IntRange(0, len(steps)-1).Draw(t, "from")
		for _, src := range []io.Reader{strings.NewReader(text), bufio.NewReaderSize(strings.NewReader(text), 16)} {
			r, err := New(src, o, steps[from].at)
			if err != nil {
				t.Fatalf("%q at %+v: %v", text, steps[from].at, err)
			}
			for _, want := range steps[from+1:] {
				if got := take(r); got != want {
					t.Fatalf("%q from %+v\n got %+v\nwant %+v", text, steps[from].at, got, want)
				}
			}
		}
	})
}

// step is one answer of a reader, with where it stands.
type step struct {
	data, fault string
	last        bool
	at          Position
}

func take(r *Reader) step {
	rec, err := r.Next()
	s := step{data: string(rec.Data), at: r.Position()}
	var fault *Fault
	if err != nil {
		s.fault = err.Error()
		s.last = !errors.As(err, &fault) || fault.Fatal
	}
	return s
}

func TestSlabKeepsRecordsApart(t *testing.T) {
	var s slab
	a := s.keep([]byte("one"))
	b := s.keep([]byte("two"))
	if a = append(a, 'x'); string(b) != "two" || string(a) != "onex" {
		t.Errorf("%s %s", a, b)
	}
	if c := s.keep(make([]byte, slabSize)); len(c) != slabSize || cap(s.free) != slabSize {
		t.Error("a large record takes a slab")
	}
}

func FuzzCSV(f *testing.F) {
	f.Add("a,b\n1,2\n")
	f.Add("\"")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > math.MaxUint16 {
			return
		}
		readAll(t, strings.NewReader(text), Options{Format: CSV, Max: 100, Types: map[string]string{"a": "number"}})
	})
}
