package console_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/console"
)

func TestSubscriptionsAsTheContractHasThem(t *testing.T) {
	in := &instance{subs: []console.Subscription{
		{Pipeline: "orders", State: console.StateRunning, Cursor: 4, Head: 4, Durable: true},
		{
			Pipeline: "orders", Sink: "payments", State: console.StateDown, Lag: 3, Retrying: 2, DeadLetters: 1, Attempts: 5,
			OldestAt: new(time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)), Pinned: 9000, Cursor: 1, Head: 4,
		},
		{Pipeline: "old", Sink: "payments", State: console.StateRemoved},
	}}
	const (
		stages = `{"pipeline":"orders","sink":"","state":"running","lag":0,"retrying":0,"held":0,"dead_letters":0,"attempts":0,"oldest_at":null,"pinned_bytes":0,"cursor":4,"head":4,"durable":true}`
		down   = `{"pipeline":"orders","sink":"payments","state":"down","lag":3,"retrying":2,"held":0,"dead_letters":1,"attempts":5,` +
			`"oldest_at":"2026-05-01T10:00:00Z","pinned_bytes":9000,"cursor":1,"head":4,"durable":false}`
		old = `{"pipeline":"old","sink":"payments","state":"removed","lag":0,"retrying":0,"held":0,"dead_letters":0,"attempts":0,"oldest_at":null,"pinned_bytes":0,"cursor":0,"head":0,"durable":false}`
	)
	for query, want := range map[string]string{
		"":                               "[" + stages + "," + down + "," + old + "]\n",
		"?pipeline=orders":               "[" + stages + "," + down + "]\n",
		"?sink=payments":                 "[" + down + "," + old + "]\n",
		"?pipeline=orders&sink=payments": "[" + down + "]\n",
		"?pipeline=nobody":               "[]\n",
	} {
		if _, body := ask(t, in, "GET", "/api/v1/subscriptions"+query, ""); body != want {
			t.Errorf("%q: %s", query, cmp.Diff(want, body))
		}
	}
	if _, body := ask(t, &instance{}, "GET", "/api/v1/subscriptions", ""); body != "[]\n" {
		t.Errorf("an empty list is %q", body)
	}
}

func TestPauseAndResume(t *testing.T) {
	for _, c := range []struct {
		path, body, want string
		err              error
		status           int
		did              string
	}{
		{"pause", `{"pipeline":"orders","sink":"payments","reason":"moving"}`, `{"paused":1}`, nil, 200, "paused"},
		{"resume", `{"pipeline":"orders"}`, `{"resumed":1}`, nil, 200, "resumed"},
		{"pause", `{}`, "say which", nil, 400, ""},
		{"pause", `{"pipeline":"orders","until":"noon"}`, "not what this takes", nil, 400, ""},
		{"pause", `{"pipeline":"orders","reason":"` + strings.Repeat("x", 1001) + `"}`, "longer than 1000", nil, 400, ""},
		{"resume", `{"pipeline":"nobody"}`, "there are: orders", &console.UnknownError{Detail: "there are: orders"}, 400, "resumed"},
		{"resume", `{"pipeline":"orders"}`, "the disk is gone", errors.New("the disk is gone"), 503, "resumed"},
	} {
		in := &instance{subs: make([]console.Subscription, 1), err: c.err}
		res, body := ask(t, in, "POST", "/api/v1/subscriptions/"+c.path, c.body, "Content-Type", "application/json")
		if res.StatusCode != c.status || !strings.Contains(body, c.want) || in.changed != c.did {
			t.Errorf("%s %.80s: %d %s, did %q", c.path, c.body, res.StatusCode, body, in.changed)
		}
	}
}
