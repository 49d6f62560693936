package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-run/millrace/console"
	"github.com/millrace-run/millrace/event"
)

// mendingLog is a deadLog whose dead letters can be mended.
type mendingLog struct {
	*deadLog
	mended []event.Redrive
	at     []time.Time
	result event.RedriveResult
}

func (l *mendingLog) RedriveEach(_ context.Context, all []event.Redrive) ([]event.RedriveResult, error) {
	l.mended, l.at = append(l.mended, all...), append(l.at, time.Now())
	results := make([]event.RedriveResult, len(all))
	for i := range results {
		results[i] = l.result
	}
	return results, nil
}

func mendable(n int) *mendingLog {
	l := &mendingLog{deadLog: dead(n), result: event.RedriveDone}
	for i := range l.dead {
		e := &l.dead[i].Record.Event
		*e = event.Event{ID: fmt.Sprint("o-", i+1), Source: "/s", Type: "t", DataContentType: "application/json", Data: fmt.Appendf(nil, `{"n":%d}`, i)}
	}
	return l
}

func TestEdit(t *testing.T) {
	for _, c := range []struct {
		edit string // several are separated by |
		want string // the data and the type, or a part of the error
	}{
		{`data.n = 2`, `{"n":2} t`},
		{`data["n"]= data.n * 10|data.m = data.n`, `{"n":10,"m":10} t`},
		{`type = "a=b"`, `{"n":1} a=b`},
		{`data = {"m": data.n}`, `{"m":1} t`},
		{`{"m": data.n >= 1 && data.n != 2 && data.n == 1}`, `{"m":true} t`},
		{`let x = data.n; {"m": x}`, `{"m":1} t`},
		{`data.n = data.m ?? 3`, `{"n":3} t`},
		{`data.n = data.m`, `the field data.m is missing`},
		{`data.n = data.n + "x"`, `the edit fails`},
		{`id = "other"`, `its id and its source`},
		{`source = "other"`, `its id and its source`},
		{`dta.n = 1`, `dta`},
		{`data.n =`, `edit`},
		{``, `edit`},
	} {
		l := mendable(2)
		_, err := letters{l, twoSinks}.Redrive(t.Context(), Query{IDs: []int64{2}}, Redrive{Edit: strings.Split(c.edit, "|")})
		var got string
		switch {
		case err != nil:
			got = err.Error()
		case len(l.mended) == 1:
			got = fmt.Sprintf("%s %s", l.mended[0].Event.Data, l.mended[0].Event.Type)
		default:
			r, err := letters{l, twoSinks}.Redrive(t.Context(), Query{IDs: []int64{2}}, Redrive{Edit: []string{c.edit}})
			if got = r.Why; err != nil || r.Stay != 1 || r.Redriven != 0 {
				t.Errorf("%s: %+v, %v", c.edit, r, err)
			}
		}
		if got != c.want && (strings.HasPrefix(c.want, "{") || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %s, want %s", c.edit, got, c.want)
		}
	}
}

// An edit that changes nothing gives the stored event back, and one of a stage waits for every sink.
func TestEditOfNothing(t *testing.T) {
	l := mendable(3)
	if _, err := (letters{l, twoSinks}).Redrive(t.Context(), Query{}, Redrive{Edit: []string{"data.n = 1"}}); err != nil || len(l.mended) != 3 {
		t.Fatal(err, l.mended)
	}
	if m := l.mended[1]; !m.Plain || m.Event != nil || l.mended[0].Plain || l.mended[0].Last || !l.mended[2].Last {
		t.Errorf("%+v", l.mended)
	}
}

func TestRedriveToASink(t *testing.T) {
	unknown := func(q Query, to string) error {
		_, err := letters{mendable(4), twoSinks}.Redrive(t.Context(), q, Redrive{To: to})
		return err
	}
	for _, err := range []error{
		unknown(Query{}, "archive"), unknown(Query{Pipeline: "orders"}, "received"), unknown(Query{Pipeline: "old"}, "archive"),
		unknown(Query{Pipeline: "orders"}, "orders/archive"),
	} {
		var u *console.UnknownError
		if !errors.As(err, &u) {
			t.Errorf("%v", err)
		}
	}
	l := mendable(4)
	r, err := letters{l, twoSinks}.Redrive(t.Context(), Query{IDs: []int64{2, 3, 4}}, Redrive{To: "archive"})
	if err != nil || r.Redriven != 1 || r.Stay != 2 || len(l.mended) != 1 || l.mended[0].To != "orders/archive" || l.mended[0].ID != 2 {
		t.Errorf("%+v, %v, %+v", r, err, l.mended)
	}
	l.result = event.RedriveStays
	r, err = letters{l, twoSinks}.Redrive(t.Context(), Query{IDs: []int64{2}}, Redrive{To: "archive"})
	if err != nil || r.Redriven != 0 || r.Stay != 1 || !strings.HasPrefix(r.Why, "2: ") {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := (letters{dead(1), twoSinks}).Redrive(t.Context(), Query{IDs: []int64{1}}, Redrive{To: "archive"}); err == nil {
		t.Error("a log that cannot mend gave one to another sink")
	}
}

func TestRedriveKeepsToItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mendable(400)
		begun := time.Now()
		r, err := letters{l, twoSinks}.Redrive(t.Context(), Query{Sink: "archive"}, Redrive{Rate: "50/s", Edit: []string{"data.n = 'x'"}})
		if took := time.Since(begun); err != nil || r.Redriven != 100 || took != 2*time.Second || len(l.at) < 20 {
			t.Errorf("%+v in %v and %d pieces, %v", r, took, len(l.at), err)
		}
		l = mendable(400)
		for _, want := range []int{60, 40} { // in two requests
			q := Query{Sink: "archive", Limit: 60, After: r.After}
			if r, err = (letters{l, twoSinks}).Redrive(t.Context(), q, Redrive{Edit: []string{"data.n = 'x'"}}); err != nil || r.Redriven != want {
				t.Errorf("%+v, %v", r, err)
			}
		}
		if r.After != 0 || len(l.mended) != 100 || l.mended[60].ID <= l.mended[59].ID {
			t.Errorf("%+v, %d", r, len(l.mended))
		}
	})
}

// A dry run changes nothing and shows the first.
func TestDryRun(t *testing.T) {
	l := mendable(8)
	r, err := letters{l, twoSinks}.Redrive(t.Context(), Query{}, Redrive{DryRun: true, Edit: []string{"data.n = 100 / data.n"}, Rate: "1/s"})
	if err != nil || l.mended != nil || l.redriven.IDs != nil || r.Redriven != 5 || r.Stay != 1 || len(r.Samples) != Samples {
		t.Fatalf("%+v, %v", r, err)
	}
	if s := r.Samples[len(r.Samples)-1]; !strings.Contains(string(s.Event), `"data":{"n":4}`) || !strings.Contains(string(s.Edited), `"data":{"n":25}`) {
		t.Errorf("%s %s", s.Event, s.Edited)
	}
}
