package rules_test

import (
	"fmt"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

func ExampleExpr_Bool() {
	x, err := rules.Compile(`data.total >= 100 && type == "order.created"`, rules.Options{Decision: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, data := range []string{`{"total": 120.00}`, `{"total": 99.99}`, `{"sum": 120}`} {
		ok, missing, err := x.Bool(&rules.Input{Event: &event.Event{Type: "order.created", Data: []byte(data)}})
		fmt.Printf("%v %q %v\n", ok, missing, err)
	}
	// Output:
	// true "" <nil>
	// false "" <nil>
	// false "data.total" <nil>
}

func ExampleCompile_error() {
	_, err := rules.Compile("data.total > 5 &&\n  subjct == 'a'", rules.Options{})
	e := err.(*rules.Error)
	fmt.Printf("%d:%d %s\n", e.Line, e.Col, e.Problem)
	// Output: 2:3 unknown name "subjct"
}

func ExampleTemplate_Render() {
	t, err := rules.CompileTemplate(`Order {{ data.id }} of {{ data.name ?? "somebody" }}: {{ data.total }}`, rules.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(t.Render(&rules.Input{Event: &event.Event{Data: []byte(`{"id":"o-1","total":10.50}`)}}))
	// Output: Order o-1 of somebody: 10.50 <nil>
}

func ExampleSet() {
	cents, err := rules.Compile(`int(data.total * 100)`, rules.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	set, err := rules.Set([]rules.Assignment{{Path: "data.total_cents", Value: cents}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ev := event.Event{Data: []byte(`{ "total": 19.90 }`)}
	if _, _, err := set.Apply(&ev); err != nil {
		fmt.Println(err)
	}
	fmt.Printf("%s\n", ev.Data)
	// Output: { "total": 19.90,"total_cents":1990 }
}
