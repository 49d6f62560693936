package rules

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/millrace-run/millrace/event"
)

// TestCostIsBounded evaluates expressions that would take minutes or gigabytes: each is an error that says so.
func TestCostIsBounded(t *testing.T) {
	var numbers strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&numbers, "%d,", i)
	}
	data := fmt.Sprintf(`{"list":[%s0],"s":%q}`, numbers.String(), strings.Repeat("a", 100_000))
	doubled := `let a0 = data.s;`
	shared := `let a0 = [data.s];`
	for i := range 60 {
		doubled += fmt.Sprintf(" let a%d = a%d + a%d;", i+1, i, i)
		shared += fmt.Sprintf(" let a%d = [a%d, a%d];", i+1, i, i)
	}
	for _, c := range []struct{ name, src, problem string }{
		{"nested predicates", `all(data.list, let x = #; all(data.list, # + x > -1))`, "too expensive"},
		{"product of texts", `replace(data.s, "a", data.s)`, "too expensive"},
		{"doubled text", doubled + " len(a60)", "too expensive"},
		{"shared parts", shared + " a60", "too expensive"},
		{"shared parts as text", shared + " string(a60)", "too expensive"},
		{"shared parts compared", strings.ReplaceAll(shared, "a0", "b0") + " true", ""},
		{"growing text", `reduce(data.list, #acc + data.s, "")`, "too expensive"},
		{"growing array", `reduce(1..100, concat(#acc, #acc), [1])`, "too expensive"},
		{"many elements", `map(1..10000, map(1..10000, 1))`, "too expensive"},
		{"uniq", `uniq(data.list)`, "too expensive"},
		{"regular expressions", `all(data.list, data.s matches "(a|b)*c|a")`, "too expensive"},
		{"join", `join(map(data.list, data.s), ",")`, "too expensive"},
		{"range", `1..1000000000000`, "a range holds at most"},
		{"power", `9 ** 9 ** 9`, "out of the range of numbers"},
		{"far exponent", `1e300 * 1e300`, "out of the range of numbers"},
	} {
		if c.name == "shared parts compared" {
			c.src = strings.TrimSuffix(shared, " ") + " [a60] == [[a60]]"
		}
		_, _, err := mustCompile(t, c.src).JSON(&Input{Event: &event.Event{Data: []byte(data)}})
		if c.problem == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
	if _, _, err := mustCompile(t, shared+" a60").Value(&Input{Event: &event.Event{Data: []byte(data)}}); err == nil {
		t.Error("a huge value was built")
	}
}

func TestConcurrentUse(t *testing.T) {
	x := mustCompile(t, `data.n == int(id) && all(data.list, # == data.n)`)
	var done sync.WaitGroup
	for g := range 8 {
		done.Go(func() {
			for i := range 200 {
				n := g*1000 + i
				ev := &event.Event{ID: fmt.Sprint(n), Data: fmt.Appendf(nil, `{"n":%d,"list":[%d,%d]}`, n, n, n)}
				if ok, missing, err := x.Bool(&Input{Event: ev}); !ok {
					t.Errorf("%d: missing %q, %v", n, missing, err)
				}
			}
		})
	}
	done.Wait()
}

// TestNothingIsKept evaluates on an event with everything and then on one with nothing: no value of the first shows in the second.
func TestNothingIsKept(t *testing.T) {
	x := mustCompile(t, `[data, data.count, subject, ext.region, data.paid && data.id == "o-1", filter(data.items, .qty > 1)]`)
	if _, _, err := x.JSON(&Input{Event: orderEvent()}); err != nil {
		t.Fatal(err)
	}
	if got, _, err := x.JSON(&Input{}); err != nil || string(got) != `[null,null,null,null,false,null]` {
		t.Errorf("got %s, %v", got, err)
	}
}
