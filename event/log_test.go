package event

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestFailed: the last attempts are kept, the newest whole; of the older ones the answers go first.
func TestFailed(t *testing.T) {
	var x Exception
	for i := range 50 {
		before := x
		x.Failed(Attempt{At: time.Unix(int64(i), 0), Status: i, Error: fmt.Sprintf("error %d %s", i, strings.Repeat("e", 90)), Answer: make([]byte, 1024)})
		if i > 0 && (len(before.History[len(before.History)-1].Answer) != 1024 || before.Status != i-1) {
			t.Fatalf("attempt %d changed a copy: %+v", i, before)
		}
	}
	newest, oldest := x.History[len(x.History)-1], x.History[0]
	if len(x.History) != HistoryMax || newest.Status != 49 || len(newest.Answer) != 1024 || oldest.Status != 30 || oldest.Answer != nil || oldest.Error == "" {
		t.Errorf("%d attempts from %+v to %+v", len(x.History), oldest, newest)
	}
	if x.Status != 49 || x.Error != newest.Error || !x.LastAt.Equal(newest.At) || len(x.Answer) != 1024 {
		t.Errorf("the last attempt is %+v", x)
	}
	for range 10 {
		x.Failed(Attempt{Error: strings.Repeat("e", 1024), Answer: make([]byte, 1024)})
	}
	size := 0
	for _, a := range x.History {
		size += len(a.Error) + len(a.Answer)
	}
	if size > HistoryBytes || len(x.History) != 3 || len(x.History[2].Answer) != 1024 {
		t.Errorf("%d attempts of %d bytes", len(x.History), size)
	}
}

func TestDeadQuerySelects(t *testing.T) {
	at := time.Unix(100, 0)
	d := DeadLetter{ID: 7, Subscription: "p/a", Exceptional: Exceptional{Exception: Exception{
		Reason: ReasonAge, Status: 503, LastAt: at, Error: "no such host",
	}}}
	for _, c := range []struct {
		q    DeadQuery
		want bool
	}{
		{DeadQuery{}, true},
		{DeadQuery{IDs: []int64{1, 7}, Subscriptions: []string{"p/a"}, Reasons: []Reason{ReasonAge}, Statuses: []int{503}, Text: "such"}, true},
		{DeadQuery{Since: at, Until: at.Add(1)}, true},
		{DeadQuery{Since: at.Add(1)}, false},
		{DeadQuery{Until: at}, false},
		{DeadQuery{Statuses: []int{0}}, false},
		{DeadQuery{Text: "SUCH"}, false},
		{DeadQuery{Subscriptions: []string{"p/b"}}, false},
	} {
		if c.q.Selects(&d) != c.want {
			t.Errorf("%+v: %v", c.q, !c.want)
		}
	}
}
