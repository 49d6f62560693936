package app

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/router"
)

// deadLog is a log of which only the dead letters exist.
type deadLog struct {
	router.Log
	dead     []event.DeadLetter
	redriven event.DeadQuery
	dropped  event.DeadQuery
}

func (l *deadLog) Status(context.Context) ([]event.SubscriptionStatus, error) {
	var all []event.SubscriptionStatus
	for _, name := range []string{"old/gone", "orders/", "orders/archive", "orders/warehouse"} {
		all = append(all, event.SubscriptionStatus{Name: name, Removed: name == "old/gone"})
	}
	return all, nil
}

func (l *deadLog) Drop(_ context.Context, q event.DeadQuery) (int, error) {
	l.dropped = q
	return 1, nil
}

func (l *deadLog) DeadLetters(_ context.Context, q event.DeadQuery) ([]event.DeadLetter, error) {
	var out []event.DeadLetter
	for _, d := range l.dead {
		if d.ID > q.After && q.Selects(&d) && len(out) < q.Limit {
			out = append(out, d)
		}
	}
	return out, nil
}

func (l *deadLog) Redrive(_ context.Context, q event.DeadQuery) (int, error) {
	l.redriven = q
	return 1, nil
}

// dead fills a log with n dead letters, in turn of a sink, of another sink, of a stage, and of a sink that is no more.
func dead(n int) *deadLog {
	l := &deadLog{}
	for i := range n {
		d := event.DeadLetter{ID: int64(i + 1), Subscription: []string{"orders/archive", "orders/warehouse", "orders/", "old/gone"}[i%4]}
		d.Record.Event.ID = "o-1"
		d.Exception = event.Exception{State: event.Dead, Reason: event.ReasonPermanent, Status: 422, Error: "no", Attempts: 2, LastAt: time.Unix(1, 0)}
		l.dead = append(l.dead, d)
	}
	return l
}

var twoSinks = &Plan{Pipelines: []*pipelines.Pipeline{
	{Name: "orders", Sinks: []*pipelines.Sink{{Name: "archive"}, {Name: "warehouse"}}},
	{Name: "warehouse", Sinks: []*pipelines.Sink{{Name: "received"}}},
}}

func TestDeadLettersAreDescribed(t *testing.T) {
	got, err := letters{dead(2), twoSinks}.DeadLetters(t.Context(), Query{After: 1})
	want := []DeadLetter{{
		ID: 2, EventID: "o-1", Pipeline: "orders", Sink: "warehouse", Reason: "permanent", Status: 422, LastError: "no", Attempts: 2,
		LastAt: new(time.Unix(1, 0).UTC()), Durable: true,
	}}
	if err != nil || !cmp.Equal(want, got) {
		t.Errorf("%v %s", err, cmp.Diff(want, got))
	}
}

func TestDeadLettersAreSelectedAcrossPages(t *testing.T) {
	l := letters{dead(3*pageSize + 2), twoSinks}
	for _, c := range []struct {
		q    Query
		want int
	}{
		{Query{}, 3*pageSize + 2},
		{Query{Limit: 7}, 7},
		{Query{Limit: pageSize}, pageSize},
		{Query{Pipeline: "orders", Sink: "archive"}, 3*pageSize/4 + 1},
		{Query{Pipeline: "old"}, 3 * pageSize / 4},
		{Query{Sink: "warehouse", Limit: 40}, 40},
		{Query{IDs: []int64{3, 3 * pageSize}}, 2},
		{Query{Statuses: []int{503}}, 0},
		{Query{Statuses: []int{422}, Text: "n", Since: time.Unix(1, 0), Until: time.Unix(2, 0), Limit: 9}, 9},
		{Query{Until: time.Unix(1, 0)}, 0},
		{Query{Text: "yes"}, 0},
		{Query{Where: "id == 'o-1'"}, 3*pageSize + 2},
		{Query{Where: "data.total > 1"}, 0},
		{Query{Pipeline: "nobody"}, 0},
	} {
		got, err := l.DeadLetters(t.Context(), c.q)
		if err != nil || len(got) != c.want {
			t.Errorf("%+v: %d, want %d (%v)", c.q, len(got), c.want, err)
		}
	}
}

// What has no sink any more is not handed to anybody.
func TestRedriveKeepsToThePlan(t *testing.T) {
	for _, c := range []struct {
		q    Query
		ids  []int64
		want []string
	}{
		{Query{}, []int64{1, 2, 3}, []string{"orders/", "orders/archive", "orders/warehouse", "warehouse/", "warehouse/received"}},
		{Query{IDs: []int64{4}}, nil, nil},
		{Query{Pipeline: "orders"}, []int64{1, 2, 3}, []string{"orders/", "orders/archive", "orders/warehouse"}},
		{Query{Sink: "warehouse"}, []int64{2}, []string{"orders/warehouse"}},
		{Query{Pipeline: "warehouse", Sink: "received"}, nil, nil},
	} {
		l := dead(4)
		if _, err := (letters{l, twoSinks}).Redrive(t.Context(), c.q, Redrive{}); err != nil {
			t.Errorf("%+v: %v", c.q, err)
		}
		if d := cmp.Diff(event.DeadQuery{IDs: c.ids, Subscriptions: c.want}, l.redriven); d != "" {
			t.Errorf("%+v: %s", c.q, d)
		}
	}
	_, err := letters{dead(4), twoSinks}.Redrive(t.Context(), Query{Pipeline: "old"}, Redrive{})
	if err == nil || !strings.Contains(err.Error(), "orders (archive, warehouse)") {
		t.Errorf("a pipeline that is not there: %v", err)
	}
}

// What has no sink any more can be dropped all the same.
func TestDropKnowsWhatIsNoMore(t *testing.T) {
	for _, c := range []struct {
		q    Query
		want event.DeadQuery
	}{
		{Query{}, event.DeadQuery{IDs: []int64{1, 2, 3, 4}}},
		{Query{IDs: []int64{4}, Reasons: []string{"permanent"}}, event.DeadQuery{IDs: []int64{4}, Reasons: []event.Reason{event.ReasonPermanent}}},
		{Query{IDs: []int64{4}, Reasons: []string{"age"}}, event.DeadQuery{}},
		{Query{Pipeline: "old"}, event.DeadQuery{IDs: []int64{4}, Subscriptions: []string{"old/gone"}}},
		{Query{Pipeline: "orders"}, event.DeadQuery{IDs: []int64{1, 2, 3}, Subscriptions: []string{"orders/", "orders/archive", "orders/warehouse"}}},
		{Query{Sink: "gone"}, event.DeadQuery{IDs: []int64{4}, Subscriptions: []string{"old/gone"}}},
		{Query{Pipeline: "warehouse"}, event.DeadQuery{}}, // it never ran
	} {
		l := dead(4)
		if _, err := (letters{l, twoSinks}).Drop(t.Context(), c.q); err != nil {
			t.Errorf("%+v: %v", c.q, err)
		}
		if d := cmp.Diff(c.want, l.dropped); d != "" {
			t.Errorf("%+v: %s", c.q, d)
		}
	}
	l := dead(4)
	_, err := letters{l, twoSinks}.Drop(t.Context(), Query{Pipeline: "odl"})
	if err == nil || !strings.Contains(err.Error(), "orders (archive, warehouse)") || !cmp.Equal(event.DeadQuery{}, l.dropped) {
		t.Errorf("a pipeline that is not there: %v, dropped %+v", err, l.dropped)
	}
}

func TestDeadLettersWithTheirEvents(t *testing.T) {
	l := dead(2)
	l.dead[0].Record.Event = event.Event{ID: "o-1", Source: "/s", Type: "t", DataContentType: "application/json", Data: []byte(`{"n": 1.00}`)}
	l.dead[0].Exception.Answer = []byte("too long")
	l.dead[1].Record.Event = event.Event{} // its segment is damaged
	got, err := letters{l, twoSinks}.DeadLetters(t.Context(), Query{Event: true})
	if err != nil || len(got) != 2 {
		t.Fatalf("%v %v", got, err)
	}
	want := `{"specversion":"1.0","id":"o-1","source":"/s","type":"t","datacontenttype":"application/json","data":{"n": 1.00}}`
	if string(got[0].Event) != want || *got[0].Answer != "too long" {
		t.Errorf("%s answered %q", got[0].Event, *got[0].Answer)
	}
	if string(got[1].Event) != "null" || *got[1].Answer != "" {
		t.Errorf("%s answered %q", got[1].Event, *got[1].Answer)
	}
}

func TestSubscriptionsStand(t *testing.T) {
	label := func(pipeline, sink string) []router.Label {
		return []router.Label{{Name: "pipeline", Value: pipeline}, {Name: "sink", Value: sink}}
	}
	states := exceptional([]router.Metric{
		{Name: "millrace_breaker_open", Labels: label("orders", "archive"), Value: 1},
		{Name: "millrace_breaker_open", Labels: label("orders", "warehouse"), Value: 1},
		{Name: "millrace_breaker_open", Labels: label("orders", ""), Value: 0},
		{Name: "millrace_breaker_open", Labels: label("old", "gone"), Value: 1},
	})
	for usual, want := range map[string]string{"running": "removed running down paused", "stopped": "removed stopped down paused"} {
		all, err := standing(t.Context(), dead(0), usual, states)
		if err != nil {
			t.Fatal(err)
		}
		rests(all, map[string]router.Pause{"orders/warehouse": {Reason: "moving"}, "old/gone": {Reason: "moving"}})
		var got []string
		for _, s := range all {
			got = append(got, s.State)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v", usual, got)
		}
	}
}
