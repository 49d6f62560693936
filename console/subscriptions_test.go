package console_test

import (
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
		stages = `{"pipeline":"orders","sink":"","state":"running","lag":0,"retrying":0,"dead_letters":0,"attempts":0,"oldest_at":null,"pinned_bytes":0,"cursor":4,"head":4,"durable":true}`
		down   = `{"pipeline":"orders","sink":"payments","state":"down","lag":3,"retrying":2,"dead_letters":1,"attempts":5,` +
			`"oldest_at":"2026-05-01T10:00:00Z","pinned_bytes":9000,"cursor":1,"head":4,"durable":false}`
		old = `{"pipeline":"old","sink":"payments","state":"removed","lag":0,"retrying":0,"dead_letters":0,"attempts":0,"oldest_at":null,"pinned_bytes":0,"cursor":0,"head":0,"durable":false}`
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
