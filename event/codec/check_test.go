package codec

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

func TestCheckJSON(t *testing.T) {
	valid := []string{
		"0", "-0", "1.5", "1e9", "-1E+5", "123456789012345678901234567890", `""`, `"a"`, "true", "false", "null", "[]", "{}",
		" \t\r\n[ ] \n", `[1,2,3]`, `{"a":1,"b":[{}]}`, `{"a":1,"a":2}`, `"\ud800"`, `"\u0000\b\f\n\r\t\/\\\""`, `"€😀"`,
		`"` + strings.Repeat("long text ", 20) + `"`, `["` + strings.Repeat("é", 50) + `"]`, "\"\x7f\u2028\"",
	}
	for _, text := range valid {
		if err := CheckJSON([]byte(text), 64); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCheckJSONRefuses(t *testing.T) {
	tests := []struct {
		text    string
		offset  int
		problem string
	}{
		{"", 0, "no JSON value"},
		{" \n", 2, "no JSON value"},
		{"\xEF\xBB\xBF{}", 0, "byte order mark"},
		{"\x00", 0, `'\x00' where a value belongs`},
		{"{} {}", 3, "something follows"},
		{"1 2", 2, "something follows"},
		{"nul", 0, "where a value belongs"},
		{"nulll", 4, "something follows"},
		{"True", 0, "where a value belongs"},
		{"NaN", 0, "where a value belongs"},
		{"[", 1, "ends where a value belongs"},
		{"[1", 2, `ends where "," or "]" belongs`},
		{"[1,]", 3, "where a value belongs"},
		{"[,1]", 1, "where a value belongs"},
		{"[1}", 2, `'}' where "," or "]" belongs`},
		{`{"a":1]`, 6, `']' where "," or "}" belongs`},
		{`{"a"}`, 4, `where ":" belongs`},
		{`{"a":}`, 5, "where a value belongs"},
		{`{"a":1,}`, 7, "a member's name"},
		{`{a:1}`, 1, "a member's name"},
		{`{'a':1}`, 1, "a member's name"},
		{"{", 1, "a member's name"},
		{"]", 0, "where a value belongs"},
		{"01", 0, "leading zeros"},
		{"-01", 1, "leading zeros"},
		{"-", 1, "a digit"},
		{"+1", 0, "where a value belongs"},
		{"1.", 2, "a digit"},
		{".5", 0, "where a value belongs"},
		{"1.e5", 2, "a digit"},
		{"1e", 2, "a digit"},
		{"1e+", 3, "a digit"},
		{"0x10", 1, "something follows"},
		{`"abc`, 4, "ends inside a string"},
		{`"abc\`, 4, "ends inside a string"},
		{`"\x41"`, 1, "unknown escape"},
		{`"\u12G4"`, 1, "four hexadecimal digits"},
		{`"\u12`, 1, "four hexadecimal digits"},
		{"\"a\nb\"", 2, "control character"},
		{"\"12345678\tb\"", 9, "control character"},
		{"\"a\xffb\"", 2, "invalid UTF-8"},
		{"\"a\xc0\xafb\"", 2, "invalid UTF-8"},
		{"\"\xed\xa0\x80\"", 1, "invalid UTF-8"},
		{"{\"\xff\":1}", 2, "invalid UTF-8"},
		{"[1]\x00", 3, "something follows"},
		{"// c\n1", 0, "where a value belongs"},
	}
	for _, tt := range tests {
		var e *SyntaxError
		err := CheckJSON([]byte(tt.text), 64)
		if !errors.As(err, &e) {
			t.Errorf("%q: got %v, want a SyntaxError", tt.text, err)
			continue
		}
		if e.Offset != tt.offset || !strings.Contains(e.Problem, tt.problem) {
			t.Errorf("%q: got %v, want byte %d: …%s…", tt.text, e, tt.offset, tt.problem)
		}
	}
}

func TestCheckJSONDepth(t *testing.T) {
	nested := func(n int) []byte { return []byte(strings.Repeat(`{"a":[`, n/2) + strings.Repeat(`]}`, n/2)) }
	for _, tt := range []struct {
		depth, max int
		ok         bool
	}{{64, 64, true}, {66, 64, false}, {66, 65, false}, {66, 66, true}, {200_000, 64, false}, {200_000, 0, true}} {
		err := CheckJSON(nested(tt.depth), tt.max)
		if (err == nil) != tt.ok {
			t.Errorf("depth %d of %d: %v", tt.depth, tt.max, err)
		}
	}
	if err := CheckJSON([]byte(strings.Repeat("[", 200_000)), 64); err == nil || !strings.Contains(err.Error(),
		"byte 64: nested more than 64 deep") {
		t.Errorf("got %v", err)
	}
	if err := CheckJSON([]byte(`[[],[],{},{}]`), 2); err != nil {
		t.Errorf("neighbors are not nested: %v", err)
	}
}

// The standard library is the oracle for the grammar, except that it does not look at UTF-8.
func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5e-3,"x\u20ac\n"],"b":{}}`, "[]", `"\ud83d\ude00"`, "-0.0", "tru", `{"a":1,}`,
		"\"\xff\""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got := CheckJSON(data, 0) == nil
		if want := json.Valid(data) && utf8.Valid(data); got != want {
			t.Errorf("%q: got %v, the standard library says %v", data, got, want)
		}
	})
}

// kilobyte is an order of about 1 KB, the size that the benchmarks speak of.
func kilobyte() []byte {
	var items []string
	for i := range 6 {
		items = append(items,
			fmt.Sprintf(`{"sku":"SKU-%04d","name":"A thing with a name of some length","quantity":%d,"price":%d.99}`, i, i+1, i*10))
	}
	return []byte(`{"id":"o-100042","total":129.95,"currency":"EUR","customer":{"id":"c-77","name":"Zoë Müller","email":"zoe@example.com",` +
		`"address":{"street":"1 Example Street","city":"Exampletown","zip":"12345","country":"DE"}},"items":[` + strings.Join(items,
		",") +
		`],"note":"Please leave the parcel with the neighbor if nobody is at home.","paid":true,"coupon":null,"created":"2026-01-02T03:04:05Z"}`)
}

func BenchmarkCheckJSON(b *testing.B) {
	data := kilobyte()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := CheckJSON(data, 64); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckJSONStandardLibrary(b *testing.B) {
	data := kilobyte()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if !json.Valid(data) {
			b.Fatal("invalid")
		}
	}
}

func BenchmarkCheckJSONGjson(b *testing.B) {
	data := kilobyte()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if !gjson.ValidBytes(data) {
			b.Fatal("invalid")
		}
	}
}
