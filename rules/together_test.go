package rules

import (
	"reflect"
	"testing"

	"github.com/millrace-run/millrace/event"
)

// Expressions that are evaluated together yield what each of them yields alone, whatever the data are.
func TestTogether(t *testing.T) {
	var all []*Expr
	for _, src := range []string{"data.a", "data.b.c", "data.b", "id", "data", "data.list[1].x", "data.list[0]", "data.b.d ?? data.a", "data.a",
		"len(data.list)", "1"} {
		x, err := Compile(src, Options{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, x)
	}
	look := NewTogether(all[:len(all)-2]...).Look()
	for _, data := range []string{
		`{"a":1,"b":{"c":"x","d":null},"list":[1,{"x":2.50}]}`, `{"b":{"c":"y"},"b":{"c":"z"},"a":true}`, `{"a":`, ``, `[1,2]`,
		`{"b":5,"list":[]}`,
		`{"\u0061":"escaped","list":[{"x":1},{"x":"t"}]}`, `null`,
	} {
		e := &event.Event{ID: "e", DataContentType: "application/json", Data: []byte(data)}
		in := look.At(e)
		for _, x := range all {
			want, _, wantErr := x.Scalar(&Input{Event: e})
			got, _, err := x.Scalar(in)
			if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(err, wantErr) {
				t.Errorf("%s of %s: %v, %v, alone %v, %v", x, data, got, err, want, wantErr)
			}
		}
	}
}
