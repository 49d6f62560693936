package console_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/console"
)

func TestSeek(t *testing.T) {
	const path = "/api/v1/subscriptions/seek"
	in := &instance{sought: []console.Sought{{
		Pipeline: "orders", Sink: "payments", Cursor: 9, Next: 4, Head: 12, Again: 5, DeadLetters: 1, Gone: 3,
		OldestAt: new(time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)), DryRun: true,
	}}}
	want := `[{"pipeline":"orders","sink":"payments","cursor":9,"next":4,"head":12,"again":5,"skipped":0,"waiting":0,"dead_letters":1,"gone":3,` +
		`"oldest_at":"2026-05-01T10:00:00Z","dry_run":true}]` + "\n"
	post := func(body string) (int, string) {
		res, answer := ask(t, in, "POST", path, body, "Content-Type", "application/json")
		return res.StatusCode, answer
	}
	status, body := post(`{"pipeline":"orders","sink":"payments","to":"4","dry_run":true}`)
	if d := cmp.Diff(want, body); status != 200 || d != "" {
		t.Errorf("%d %s", status, d)
	}
	if d := cmp.Diff(console.Seek{Pipeline: "orders", Sink: "payments", To: "4", DryRun: true}, in.seek); d != "" {
		t.Error(d)
	}
	for to, want := range map[string]int{"nowhere": 400, "memory": 501, "": 400} {
		if status, body := post(`{"pipeline":"orders","sink":"payments","to":"` + to + `"}`); status != want {
			t.Errorf("%q: %d %s", to, status, body)
		}
	}
	in.err = errors.New("the outbox is closed")
	if status, body := post(`{"pipeline":"orders","sink":"payments","to":"end"}`); status != 503 || !strings.Contains(body, "is closed") {
		t.Errorf("%d %s", status, body)
	}
}
