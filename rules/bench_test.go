package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/millrace-run/millrace/event"
)

// benchEvent is an order of about 1 KB.
func benchEvent() *event.Event {
	var b strings.Builder
	b.WriteString(`{"order_id":"8f14e45f-ceea-467f-ab5d-1c1b0a9d2f11","amount":149.95,"currency":"EUR","customer":{"id":48213,` +
		`"name":"Ada Lovelace","email":"ada@example.com","address":{"street":"1 Example Road","city":"London","zip":"N1 1AA"}},"items":[`)
	for i := range 8 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"sku":"SKU-%05d","name":"An example article","qty":%d,"price":%d.99}`, i*7919, i+1, i*10)
	}
	b.WriteString(`],"note":"Please leave the parcel with the neighbours if nobody opens the door, thank you.","channel":"web"}`)
	return &event.Event{ID: "1", Source: "/shop", Type: "order.created", DataContentType: "application/json", Data: []byte(b.String())}
}

func BenchmarkFilter(b *testing.B) {
	for _, src := range []string{
		`data.amount > 100 && type == "order.created"`,
		`type == "order.created"`,
		`data.channel == "web"`,
		`any(data.items, .qty > 7)`,
		`len(data) > 3`,
	} {
		b.Run(src, func(b *testing.B) {
			x, in := mustCompile(b, src), &Input{Event: benchEvent()}
			b.SetBytes(int64(len(in.Event.Data)))
			b.ReportAllocs()
			for b.Loop() {
				if ok, _, err := x.Bool(in); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

// BenchmarkRoute is what decides where an event goes: none of it costs memory for an event. The last two are one decision in both
// languages.
func BenchmarkRoute(b *testing.B) {
	ev := benchEvent()
	ev.SetExtension(event.Extension{Name: "region", Text: "eu"})
	for _, src := range []string{
		`type == "order.created"`,
		`topic(type, "order.*")`,
		`topic(type, "#.created")`,
		`ext.region != nil && ext.region in ["us", "eu"]`,
		`topic(type, "order.*") && ext.region != nil && ext.region in ["us", "eu"]`,
		`type startsWith "order." && ext.region == "eu"`,
		`cesql("type LIKE 'order.%' AND region = 'eu'")`,
	} {
		b.Run(src, func(b *testing.B) {
			x, in := mustCompile(b, src), &Input{Event: ev}
			if n := testing.AllocsPerRun(10, func() { _, _, _ = x.Bool(in) }); n != 0 {
				b.Errorf("%v allocations for an event", n)
			}
			b.ReportAllocs()
			for b.Loop() {
				if ok, _, err := x.Bool(in); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

func BenchmarkScan(b *testing.B) {
	data := benchEvent().Data
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		s := scanner{}
		if s.scan(data, nil) != nil {
			b.Fatal("not JSON")
		}
	}
}

// BenchmarkFields fetches the three fields of a rule and checks the whole: by our scanner, and by gjson, which needs a pass for the
// check and one for each field. See docs/decisions/0002-own-json-scanner.md.
func BenchmarkFields(b *testing.B) {
	data := benchEvent().Data
	names := []string{"amount", "currency", "channel"}
	b.Run("own", func(b *testing.B) {
		root := &want{slot: -1}
		for i, name := range names {
			root.members = append(root.members, &member{name: name, id: i, next: &want{slot: i}})
		}
		s := scanner{spans: make([]span, len(names)), seen: make([]bool, len(names))}
		b.ReportAllocs()
		for b.Loop() {
			clear(s.seen)
			if s.scan(data, root) != nil || s.spans[2].start == 0 {
				b.Fatal("not found")
			}
		}
	})
	b.Run("gjson", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !gjson.ValidBytes(data) {
				b.Fatal("not JSON")
			}
			for _, name := range names {
				if !gjson.GetBytes(data, name).Exists() {
					b.Fatal("not found")
				}
			}
		}
	})
}

func BenchmarkTemplate(b *testing.B) {
	t, err := CompileTemplate(`Order {{ data.order_id }} of {{ data.customer.name ?? "customer" }}: {{ data.amount }}`, Options{})
	if err != nil {
		b.Fatal(err)
	}
	in := &Input{Event: benchEvent()}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := t.Render(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSet(b *testing.B) {
	op := set(b, `data.total_cents = int(data.amount * 100)`, `subject = data.order_id`)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := op.Apply(benchEventCopy()); err != nil {
			b.Fatal(err)
		}
	}
}

var benchOrder = *benchEvent()

func benchEventCopy() *event.Event {
	ev := benchOrder
	return &ev
}

func BenchmarkMap(b *testing.B) {
	x := mustCompile(b, `{order: data.order_id, total: data.amount, customer: data.customer.name, items: len(data.items)}`)
	op := Map(x)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := op.Apply(benchEventCopy()); err != nil {
			b.Fatal(err)
		}
	}
}
