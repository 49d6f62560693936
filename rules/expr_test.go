package rules

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
)

// order is the event of most tests.
const order = `{"id":"o-1","total":19.99,"count":3,"paid":true,"note":null,"big":12345678901234567890,"price":10.50,
 "customer":{"name":"Ada","email":"ada@example.com","tags":["new","eu"]},
 "items":[{"sku":"a","qty":2,"price":1.10},{"sku":"b","qty":1,"price":5},{"sku":"c","qty":7}],
 "a.b":"dotted","*":"star","":"empty","x-y":{"#":1},"1":"one"}`

func orderEvent() *event.Event {
	return &event.Event{
		ID: "e-1", Source: "/shop", Type: "order.created", Time: "2026-03-04T12:30:00.250+02:00",
		DataContentType: "application/json", Data: []byte(order),
		Extensions: []event.Extension{
			{Name: "count", Kind: event.Integer, Text: "7"},
			{Name: "region", Text: "eu"},
			{Name: "test", Kind: event.Boolean, Text: "true"},
		},
		Received: time.Date(2026, 3, 4, 11, 0, 0, 0, time.UTC),
	}
}

func mustCompile(t testing.TB, src string) *Expr {
	t.Helper()
	x, err := Compile(src, Options{Env: testEnv})
	if err != nil {
		t.Fatalf("%s: %v (%s)", src, err, err.(*Error).Hint)
	}
	return x
}

func testEnv(name string) (string, bool) { return "from-env", name == "REGION" }

// value evaluates and returns what a person would see, as JSON.
func value(t testing.TB, src string, ev *event.Event) (string, string) {
	t.Helper()
	data, missing, err := mustCompile(t, src).JSON(&Input{Event: ev})
	if err != nil {
		return "error: " + err.Error(), missing
	}
	return string(data), missing
}

func TestValues(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		// attributes
		{`id`, `"e-1"`},
		{`type + "/" + source`, `"order.created//shop"`},
		{`time`, `"2026-03-04T10:30:00.25Z"`},
		{`time.Format("15:04")`, `"10:30"`},
		{`received`, `"2026-03-04T11:00:00Z"`},
		{`received.Format('2006-01-02')`, `"2026-03-04"`},
		{`received - time`, `"29m59.75s"`},
		{`received > time`, `true`},
		{`(received + duration("1h")).Hour()`, `12`},
		{`received.Weekday() in ["Wednesday"]`, `true`},
		{`received.In(timezone("Europe/Berlin")).Hour()`, `12`},
		{`ext.region`, `"eu"`},
		{`ext.count + 1`, `8`},
		{`not ext.test`, `false`},
		{`ext`, `{"count":7,"region":"eu","test":true}`},
		{`ext["reg" + "ion"]`, `"eu"`},
		{`env("REGION")`, `"from-env"`},
		// fields
		{`data.customer.name`, `"Ada"`},
		{`data.customer`, `{"name":"Ada","email":"ada@example.com","tags":["new","eu"]}`},
		{`data["a.b"]`, `"dotted"`},
		{`data["*"]`, `"star"`},
		{`data[""]`, `"empty"`},
		{`data["1"]`, `"one"`},
		{`data["x-y"]["#"]`, `1`},
		{`data.items[0].sku`, `"a"`},
		{`data.items[-1].sku`, `"c"`},
		{`data.items[1:3] | map(.sku)`, `["b","c"]`},
		{`data["cust" + "omer"].name`, `"Ada"`},
		{`data.customer?.name`, `"Ada"`},
		{`get(data, "count")`, `3`},
		{`"count" in data`, `true`},
		{`"nothing" in data`, `false`},
		{`let c = data.customer; c.name + "/" + c.tags[1]`, `"Ada/eu"`},
		{`{name: data.customer.name, n: [1, data.count]}`, `{"name":"Ada","n":[1,3]}`},
		{`data.paid ? "yes" : "no"`, `"yes"`},
		{`if data.count > 5 { "many" } else { "few" }`, `"few"`},
		// predicates
		{`all(data.items, .qty > 0)`, `true`},
		{`any(data.items, .sku == "b")`, `true`},
		{`none(data.items, .qty > 10)`, `true`},
		{`one(data.items, .qty == 7)`, `true`},
		{`filter(data.items, .qty > 1) | map(.sku)`, `["a","c"]`},
		{`map(data.items, #index)`, `[0,1,2]`},
		{`count(data.items, .qty > 1)`, `2`},
		{`find(data.items, .qty == 1).sku`, `"b"`},
		{`findIndex(data.items, .qty == 1)`, `1`},
		{`findLast(data.items, .qty > 1).sku`, `"c"`},
		{`findLastIndex(data.items, .qty > 1)`, `2`},
		{`sum(data.items, .qty)`, `10`},
		{`sum([1.1, 2.2])`, `3.3`},
		{`sum(data.items[:2], .qty * .price)`, `7.2`},
		{`reduce(data.items, #acc + .qty, 100)`, `110`},
		{`reduce(1..4, #acc * #)`, `24`},
		{`groupBy(data.items, .qty > 1 ? "bulk" : "single") | keys()`, `["bulk","single"]`},
		{`sortBy(data.items, -.qty) | map(.sku)`, `["c","a","b"]`},
		{`sortBy(data.items, .sku, "desc") | map(.sku)`, `["c","b","a"]`},
		{`any(data.items, let q = .qty; q > 5)`, `true`},
		// functions
		{`len(data.items)`, `3`},
		{`len("grün")`, `4`},
		{`"grün"[2:]`, `"ün"`},
		{`upper(data.customer.name) + lower("B") + trim(" c ")`, `"ADAbc"`},
		{`split("a,b,c", ",")`, `["a","b","c"]`},
		{`join(data.customer.tags, "+") + join([1, true], "")`, `"new+eu1true"`},
		{`replace("aXbX", "X", "-")`, `"a-b-"`},
		{`indexOf("grün", "n")`, `3`},
		{`max(1, 2.5, [7, 3])`, `7`},
		{`min(data.count, 2)`, `2`},
		{`mean(1, 2, 4.5)`, `2.5`},
		{`median([5, 1, 3, 2])`, `2.5`},
		{`toJSON(data.customer.tags)`, `"[\"new\",\"eu\"]"`},
		{`fromJSON('{"a":1.50,"a":2}').a`, `1.50`},
		{`fromBase64(toBase64("hi"))`, `"hi"`},
		{`date("2026-01-02").Month()`, `1`},
		{`date("02.01.2026 10:00", "02.01.2006 15:04", "Europe/Berlin")`, `"2026-01-02T10:00:00+01:00"`},
		{`duration("90m").Hours()`, `1.5`},
		{`first(data.items).sku + last(data.items).sku`, `"ac"`},
		{`take(reverse([1, 2, 3]), 2)`, `[3,2]`},
		{`uniq([1, 1.0, 2, "1"])`, `[1,2,"1"]`},
		{`concat([1], [2]) == flatten([1, [2]])`, `true`},
		{`sort([3, 1, 2])`, `[1,2,3]`},
		{`keys({b: 1, a: 2})`, `["b","a"]`},
		{`values({b: 1, a: 2})`, `[1,2]`},
		{`toPairs({b: 1})`, `[["b",1]]`},
		{`fromPairs([["b", 1]])`, `{"b":1}`},
		{`bitand(6, 3) + bitshl(1, 4)`, `18`},
		{`"abc" matches "^a.c$"`, `true`},
		{`"abc" contains "b" and "abc" startsWith "a" and "abc" endsWith "c"`, `true`},
		{`data.count in 1..3`, `true`},
		{`data.count in [1, 2]`, `false`},
		{`data.count not in [1, 2]`, `true`},
		{`1 < data.count < 5`, `true`},
	} {
		if got, _ := value(t, c.src, orderEvent()); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.src, got, c.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{`data.price`, `10.50`},
		{`data.big`, `12345678901234567890`},
		{`data.big == data.big`, `true`},
		{`data.big > 9223372036854775807`, `true`},
		{`data.big == int("12345678901234567891")`, `false`},
		{`9007199254740993 == 9007199254740992`, `false`},
		{`9007199254740993 > 9007199254740992.0`, `true`},
		{`data.total * 100`, `1999`},
		{`int(data.total * 100)`, `1999`},
		{`0.1 + 0.2 == 0.3`, `true`},
		{`data.big + 1`, `12345678901234567891`},
		{`9223372036854775807 + 1`, `9223372036854775808`},
		{`10 / 4`, `2.5`},
		{`6 / 3`, `2`},
		{`1 / 3`, `0.3333333333333333`},
		{`data.total / 100`, `0.1999`},
		{`7 % 3`, `1`},
		{`-7 % 3`, `-1`},
		{`2 ** 10`, `1024`},
		{`2 ** 0.5`, `1.4142135623730951`},
		{`int(-1.9)`, `-1`},
		{`int("42")`, `42`},
		{`float("1.50")`, `1.50`},
		{`round(2.5)`, `3`},
		{`round(-2.5)`, `-3`},
		{`floor(-1.1)`, `-2`},
		{`ceil(1.1)`, `2`},
		{`ceil(-1.9)`, `-1`},
		{`abs(-10.50)`, `10.5`},
		{`-data.price`, `-10.5`},
		{`string(data.price) + "/" + string(data.big)`, `"10.50/12345678901234567890"`},
		{`1.0 == 1`, `true`},
		{`1e3 == 1000`, `true`},
		{`1_000 + 0x10`, `1016`},
		{`"1" == string(1)`, `true`},
	} {
		if got, _ := value(t, c.src, orderEvent()); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.src, got, c.want)
		}
	}
}

func TestMissingFields(t *testing.T) {
	for _, c := range []struct {
		src  string
		want bool
		miss string
	}{
		// ordering is false, whichever way it is asked
		{`data.x > 1`, false, "data.x"},
		{`1 < data.x`, false, "data.x"},
		{`data.x <= 1`, false, "data.x"},
		{`not (data.x > 1)`, false, "data.x"},
		{`data.note > 1`, false, "data.note"},
		{`data.customer.age > 18`, false, "data.customer.age"},
		{`data.a.b.c > 1`, false, "data.a.b.c"},
		{`data.items[9].qty > 1`, false, "data.items[9].qty"},
		{`subject > "a"`, false, "subject"},
		{`ext.nope > "a"`, false, "ext.nope"},
		// the order of terms does not matter
		{`data.x > 1 || type == "order.created"`, true, ""},
		{`type == "order.created" || data.x > 1`, true, ""},
		{`data.x > 1 && type == "other"`, false, ""},
		{`type == "other" && data.x > 1`, false, ""},
		{`not (data.x > 1 && type == "other")`, true, ""},
		{`not (type == "other" && data.x > 1)`, true, ""},
		{`data.x > 1 && data.y > 1`, false, "data.x"},
		{`data.x == 1 && type == "other"`, false, ""},
		// a boolean that is missing
		{`data.x`, false, "data.x"},
		{`not data.x`, false, "data.x"},
		{`data.paid && data.x`, false, "data.x"},
		{`data.paid || data.x`, true, ""},
		// equality knows nil
		{`data.x == nil`, true, ""},
		{`data.x != nil`, false, ""},
		{`data.note == nil`, true, ""},
		{`data.x == data.y`, true, ""},
		{`data.x == 1`, false, "data.x"},
		{`data.x != 1`, true, ""},
		{`not (data.x == 1)`, true, ""},
		{`data.x in [1, 2]`, false, "data.x"},
		{`data.x not in [1, 2]`, true, ""},
		{`1 in data.x`, false, "data.x"},
		{`"x" in data`, false, ""},
		// a default
		{`(data.x ?? 5) > 1`, true, ""},
		{`data?.x == 1`, false, ""},
		{`(data.x > 1) ?? true`, true, ""},
		// functions
		{`len(data.x) > 1`, false, "data.x"},
		{`upper(data.x) == "A"`, false, "data.x"},
		{`data.x contains "a"`, false, "data.x"},
		{`not (data.x matches "a")`, false, "data.x"},
		{`topic(subject, "a.#")`, false, "subject"},
		{`int(data.x * 100) > 5`, false, "data.x"},
		// predicates
		{`all(data.x, # > 1)`, false, "data.x"},
		{`none(data.x, # > 1)`, false, "data.x"},
		{`len(filter(data.x, # > 1)) == 0`, false, "data.x"},
		{`all(data.items, .price > 1)`, false, "data.items[].price"},
		{`any(data.items, .price > 4)`, true, ""},
		{`any(data.items, .price > 9)`, false, "data.items[].price"},
		{`none(data.items, .price > 4)`, false, ""},
		{`none(data.items, .price > 9)`, false, "data.items[].price"},
		{`none(data.items, .price == 9)`, true, ""},
		{`all(data.items, .price == 1)`, false, ""},
		{`count(data.items, .price > 4) == 1`, true, ""},
		{`count(data.items, .price > 4) == 2`, false, "data.items[].price"},
		{`data.x ? true : data.paid`, true, ""},
		{`data.x ? true : false`, false, "data.x"},
	} {
		ok, miss, err := mustCompile(t, c.src).Bool(&Input{Event: orderEvent()})
		if err != nil || ok != c.want || miss != c.miss {
			t.Errorf("%s: got %v, missing %q, %v; want %v, missing %q", c.src, ok, miss, err, c.want, c.miss)
		}
	}
}

func TestMissingInValues(t *testing.T) {
	for _, c := range []struct{ src, want, miss string }{
		{`data.x`, `null`, "data.x"},
		{`data.note`, `null`, ""},
		{`data.x * 100`, `null`, "data.x"},
		{`int(data.x * 100)`, `null`, "data.x"},
		{`"a" + data.x`, `null`, "data.x"},
		{`-data.x`, `null`, "data.x"},
		{`len(data.x)`, `null`, "data.x"},
		{`data.x[1:2]`, `null`, "data.x"},
		{`data.x.Format("2006")`, `null`, "data.x"},
		{`data.x > 1`, `false`, "data.x"},
		{`data.x ?? "none"`, `"none"`, ""},
		{`data.customer?.age`, `null`, ""},
		{`{a: data.x, b: 1}`, `{"a":null,"b":1}`, "data.x"},
		{`{a: data.note}`, `{"a":null}`, ""},
		{`[data.x == 1]`, `[false]`, "data.x"},
		{`sum(data.items, .price)`, `null`, "data.items[].price"},
		{`map(data.x, #)`, `null`, "data.x"},
		{`reduce(data.x, #acc + #)`, `null`, "data.x"},
		{`sortBy(data.items, .price) | map(.sku)`, `["a","b","c"]`, ""},
		{`find(data.items, .qty == 99)`, `null`, ""},
		{`max(data.x, 1)`, `null`, "data.x"},
	} {
		got, miss := value(t, c.src, orderEvent())
		if got != c.want || miss != c.miss {
			t.Errorf("%s: got %s, missing %q; want %s, missing %q", c.src, got, miss, c.want, c.miss)
		}
	}
}

func notJSON(how string, at int, place string) string {
	return fmt.Sprintf("error: the data is %s although its content type says JSON: not valid JSON at byte %d, at 1:%s", how, at, place)
}

func TestKindsOfData(t *testing.T) {
	for _, c := range []struct{ name, mediaType, data, src, want string }{
		{"text", "text/plain", "hello", `data`, `"hello"`},
		{"field of text", "text/plain", "hello", `data.x`, `null`},
		{"bytes", "application/octet-stream", "a\xffb", `len(data)`, `3`},
		{"no type is JSON", "", `{"a":1}`, `data.a`, `1`},
		{"suffix", "application/problem+json", `{"a":1}`, `data.a`, `1`},
		{"scalar", "application/json", `5`, `data + 1`, `6`},
		{"null", "application/json", `null`, `data == nil`, `true`},
		{"array", "application/json", ` [1, {"a":2}] `, `data[1].a`, `2`},
		{"first of repeated, by slot", "application/json", `{"a":1,"a":2}`, `data.a`, `1`},
		{"first of repeated, decoded", "application/json", `{"a":1,"a":2}`, `data`, `{"a":1}`},
		{"first of repeated, on the way", "application/json", `{"a":{},"a":{"b":1}}`, `data.a.b`, `null`},
		{"escaped name", "application/json", `{"\u0061":1,"a":2}`, `data.a`, `1`},
		{"escapes", "application/json", `{"a":"\u00e9\ud83d\ude00\ud800\n\""}`, `data.a`, "\"é😀�\\n\\\"\""},
		{"field of a scalar", "application/json", `{"a":5}`, `data.a.b`, `null`},
		{"index of an object", "application/json", `{"0":5}`, `data[0]`, `null`},
		{"name in an array", "application/json", `[5]`, `data["0"]`, `null`},
		{"broken, by slot", "application/json", `{"a":1,`, `data.a`, notJSON("broken", 8, `6 of "data.a"`)},
		{"broken, decoded", "application/json", `{"a":1}}`, `data`, notJSON("broken", 8, `1 of "data"`)},
		{"empty", "application/json", ``, `data.a`, notJSON("empty", 1, `6 of "data.a"`)},
		{"broken, not needed", "application/json", `{`, `type`, `"t"`},
	} {
		ev := &event.Event{ID: "1", Source: "s", Type: "t", DataContentType: c.mediaType, Data: []byte(c.data)}
		if got, _ := value(t, c.src, ev); got != c.want {
			t.Errorf("%s: %s\n got %s\nwant %s", c.name, c.src, got, c.want)
		}
	}
	none := &event.Event{ID: "1", Source: "s", Type: "t"}
	if got, miss := value(t, `data`, none); got != "null" || miss != "data" {
		t.Errorf("no data: got %s, missing %q", got, miss)
	}
	if got, miss := value(t, `data.a.b`, none); got != "null" || miss != "data.a.b" {
		t.Errorf("no data: got %s, missing %q", got, miss)
	}
	deep := &event.Event{Data: []byte(strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000))}
	if got, _ := value(t, `data[0]`, deep); !strings.Contains(got, "nested more than") {
		t.Errorf("deep: got %.200s", got)
	}
}

func TestIntake(t *testing.T) {
	in := &Input{
		Headers: map[string]string{"x-event": "push", "content-type": "application/json"},
		Query:   map[string]string{"q": "1"}, Params: map[string]string{"tenant": "acme"}, Body: []byte(`{"kind":"order","n":1}`),
	}
	for _, c := range []struct{ src, want string }{
		{`headers["X-Event"] + query.q + params.tenant`, "push1acme"},
		{`body.kind`, "order"},
		{`toJSON(body)`, `{"kind":"order","n":1}`},
		{`headers["x-none"] ?? "none"`, "none"},
		{`toJSON(query)`, `{"q":"1"}`},
	} {
		x, err := Compile(c.src, Options{Scope: IntakeScope})
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := x.Value(in); err != nil || got != c.want {
			t.Errorf("%s: got %v, %v", c.src, got, err)
		}
	}
	in.Headers = nil
	in.Body = []byte("plain")
	x, err := Compile(`body`, Options{Scope: IntakeScope})
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := x.Value(in); err != nil || got != "plain" {
		t.Errorf("a body without a type: got %v, %v", got, err)
	}
}

func TestValueKinds(t *testing.T) {
	x := mustCompile(t, `[1, 10.50, data.price, data.big, 1/3, received, "s", true, nil, {a: 1}]`)
	got, _, err := x.Value(&Input{Event: orderEvent()})
	want := []any{int64(1), json.Number("10.5"), json.Number("10.50"), json.Number("12345678901234567890"), 1.0 / 3,
		orderEvent().Received, "s", true, nil, map[string]any{"a": int64(1)}}
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got))
	}
}

func TestFailures(t *testing.T) {
	for _, c := range []struct {
		src       string
		line, col int
		problem   string
	}{
		{`data.id > 1`, 1, 9, "cannot compare a string with a number"},
		{"type == 'order.created' &&\n  data.id > 1", 2, 11, "cannot compare a string with a number"},
		{`data.count + data.id`, 1, 12, "+ does not work on a number and a string"},
		{`data.id && true`, 1, 9, "a string is not true or false"},
		{`data.count`, 1, 1, "a number is not true or false"},
		{`int(data.id) > 1`, 1, 1, "int: the string is not a number"},
		{`data.count / 0 > 1`, 1, 12, "division by zero"},
		{`all(data.id, # > 1)`, 1, 1, "all goes through an array, not a string"},
		{`all(data.items, .sku)`, 1, 17, "a string is not true or false"},
		{`time > "2026-01-01"`, 1, 6, "cannot compare a time with a string; date(…) makes a time of a string"},
		{`len(1..20000) > 1`, 1, 6, "a range holds at most 10000 numbers"},
		{`data.id.Format("2006") == ""`, 1, 9, "a string has no method Format"},
		{`data.id matches data.bad`, 1, 9, "error parsing regexp"},
		{`reduce([], #acc + #) == 1`, 1, 1, "reduce of empty array with no initial value"},
	} {
		ev := orderEvent()
		ev.Data = []byte(`{"id":"x","count":3,"bad":"(","items":[{"sku":"a"}]}`)
		_, _, err := mustCompile(t, c.src).Bool(&Input{Event: ev})
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: got %v", c.src, err)
			continue
		}
		if e.Line != c.line || e.Col != c.col || !strings.HasPrefix(e.Problem, c.problem) {
			t.Errorf("%s: got %d:%d %s; want %d:%d %s", c.src, e.Line, e.Col, e.Problem, c.line, c.col, c.problem)
		}
	}
	bad := &event.Event{Time: "yesterday"}
	if _, _, err := mustCompile(t, `time > received`).Bool(&Input{Event: bad}); err == nil {
		t.Error("a broken time was compared")
	}
	if ok, _, err := mustCompile(t, `id == nil`).Bool(&Input{Event: bad}); err != nil || !ok {
		t.Error("a broken time that is not used is an error:", err)
	}
}

func TestCompileErrors(t *testing.T) {
	for _, c := range []struct {
		src              string
		line, col, width int
		problem, hint    string
	}{
		{`totl > 5`, 1, 1, 4, `unknown name "totl"`, "data.totl"},
		{"data.x > 1 &&\n   subjct == 'a'", 2, 4, 6, `unknown name "subjct"`, `did you mean "subject"?`},
		{`dat.total > 5`, 1, 1, 3, `unknown name "dat"`, `did you mean "data"?`},
		{`$env.data`, 1, 1, 4, `unknown name "$env"`, "the names here are"},
		{`headers.host`, 1, 1, 7, `unknown name "headers"`, "the names here are"},
		{`uper(type)`, 1, 1, 4, `unknown function "uper"`, `did you mean "upper"?`},
		{`now() > time`, 1, 1, 3, `now is not a function here`, "received"},
		{`repeat("a", 5)`, 1, 1, 6, `repeat is not a function here`, "any size"},
		{`type(data.x)`, 1, 1, 4, `type is not a function`, ""},
		{`received.Foo()`, 1, 10, 3, `unknown method "Foo"`, "Format"},
		{`received.Local()`, 1, 10, 5, `unknown method "Local"`, ""},
		{`received.Format()`, 1, 10, 6, `Format takes 1 argument, not 0`, ""},
		{`env("NOPE")`, 1, 5, 6, `the environment variable NOPE is not set`, ""},
		{`env(data.x)`, 1, 1, 3, `env takes the name of a variable in quotes`, ""},
		{`timezone("Local")`, 1, 10, 7, `unknown time zone "Local"`, ""},
		{`ext.Region == "a"`, 1, 5, 6, `no extension attribute can be called "Region"`, ""},
		{`data.x >`, 1, 8, 1, `unexpected token EOF`, ""},
		{`type > 5`, 1, 6, 1, `invalid operation: > (mismatched types string and int)`, ""},
		{`"é" + 'unclosed`, 1, 16, 1, `literal not terminated`, ""},
		{`data.x matches "("`, 1, 8, 7, "error parsing regexp: missing closing ): `(`", ""},
		{`topic(type)`, 1, 1, 5, `topic takes 2 arguments, not 1`, ""},
		{`all(data.a, any(#.b, all(#.c, # > 1)))`, 1, 31, 1, `predicates are nested more than 2 deep`, ""},
		{``, 1, 1, 1, `the expression is empty`, ""},
		{`1 + ` + strings.Repeat("1 + ", 1500) + "1", 1, 1, 1, `the expression is longer than 4096 bytes`, ""},
		{strings.Repeat("1+", 600) + "1", 1, 1002, 1, `expression exceeds maximum allowed nodes`, ""},
		{`99999999999999999999 > 1`, 1, 22, 1, `invalid integer literal`, ""},
	} {
		_, err := Compile(c.src, Options{Env: testEnv})
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%.60s: got %v", c.src, err)
			continue
		}
		if e.Line != c.line || e.Col != c.col || e.Width != c.width ||
			!strings.HasPrefix(e.Problem, c.problem) || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%.60s: got %d:%d+%d %s (%s); want %d:%d+%d %s (%s)", c.src, e.Line, e.Col, e.Width, e.Problem, e.Hint,
				c.line, c.col, c.width, c.problem, c.hint)
		}
	}
}

func TestDecisions(t *testing.T) {
	for _, src := range []string{`5`, `type`, `"a"`, `[1]`, `1 + 2`, `{a: 1}`} {
		if _, err := Compile(src, Options{Decision: true}); err == nil {
			t.Errorf("%s may decide", src)
		}
	}
	for _, src := range []string{
		`true`, `data.x`, `subject`, `type == "a"`, `data.x > 1`, `nil`, `data.x ?? false`, `topic(type, "a.#")`,
	} {
		if _, err := Compile(src, Options{Decision: true}); err != nil {
			t.Errorf("%s may not decide: %v", src, err)
		}
	}
}

func TestTopic(t *testing.T) {
	for _, c := range []struct {
		pattern, topic string
		want           bool
	}{
		{"orders.*.created", "orders.eu.created", true},
		{"orders.*.created", "orders.created", false},
		{"orders.*.created", "orders.eu.de.created", false},
		{"orders.#", "orders", true},
		{"orders.#", "orders.eu.created", true},
		{"#.created", "created", true},
		{"#.created", "a.b.created", true},
		{"#.created", "a.b.created.x", false},
		{"#", "", true},
		{"#", "a.b", true},
		{"*", "", false},
		{"*", "a", true},
		{"*.*", "a", false},
		{"#.a.#.b.#", "x.a.y.z.b", true},
		{"#.a.#.b.#", "x.b.y.a", false},
		{"a.#.#.b", "a.b", true},
		{"#.*.b", "b", false},
		{"#.*.b", "a.b", true},
		{"a..b", "a..b", true},
		{"a.*.b", "a..b", true},
		{"", "", true},
		{"", "a", false},
	} {
		if got := matchTopic(c.topic, words(c.pattern)); got != c.want {
			t.Errorf("%q matches %q: got %v", c.topic, c.pattern, got)
		}
	}
	x := mustCompile(t, `topic(type, "order.*") && topic(type, "#." + "created")`)
	if ok, _, err := x.Bool(&Input{Event: orderEvent()}); err != nil || !ok {
		t.Error(ok, err)
	}
}
