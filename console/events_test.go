package console_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/console"
)

func TestEventAsTheContractHasIt(t *testing.T) {
	at := time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)
	places := []console.Place{{
		Pipeline: "orders", Topic: "orders", Offset: 12, ReceivedAt: &at, Attributes: json.RawMessage(`{"specversion":"1.0","id":"o-1"}`),
		Deliveries: []console.Delivery{{
			Sink: "payments", State: console.DeliverySettled, Receipts: []console.Receipt{{Attempt: 2, Status: 202, Millis: 15, At: at}},
		}},
	}}
	want := `[{"pipeline":"orders","topic":"orders","offset":12,"received_at":"2026-05-01T10:00:00Z",` +
		`"attributes":{"specversion":"1.0","id":"o-1"},"deliveries":[{"sink":"payments","state":"settled","attempts":0,"reason":"",` +
		`"status":0,"last_error":"","last_at":null,"next_at":null,` +
		`"receipts":[{"attempt":2,"status":202,"ms":15,"at":"2026-05-01T10:00:00Z"}]}]}]` + "\n"
	res, body := ask(t, &instance{places: places}, "GET", "/api/v1/events/o-1", "")
	if d := cmp.Diff(want, body); d != "" || res.StatusCode != 200 {
		t.Error(res.StatusCode, d)
	}
	if _, body := ask(t, &instance{}, "GET", "/api/v1/events/o-2", ""); body != "[]\n" {
		t.Errorf("no event is %q", body)
	}
}

func TestEventIDs(t *testing.T) {
	for _, c := range []struct {
		path   string
		status int
		id     string
		limit  int
	}{
		{"o-1", 200, "o-1", console.DefaultPage},
		{"o-1?limit=7", 200, "o-1", 7},
		{"o%2F1", 200, "o/1", console.DefaultPage},
		{"o/1", 200, "o/1", console.DefaultPage},
		{"%2F", 200, "/", console.DefaultPage},
		{"..", 200, "..", console.DefaultPage},
		{"a%20b%3Fc%23", 200, "a b?c#", console.DefaultPage},
		{"", 404, "", 0},
		{"o-1?limit=0", 400, "", 0},
		{"o-1?limit=1001", 400, "", 0},
		{"o-1?limit=x", 400, "", 0},
		{"o-1?limit=1&limit=2", 400, "", 0},
		{"o-1?pipeline=orders", 400, "", 0},
	} {
		in := &instance{}
		res, body := ask(t, in, "GET", "/api/v1/events/"+c.path, "")
		if res.StatusCode != c.status || in.askedID != c.id || in.asked.Limit != c.limit {
			t.Errorf("%q: %d, asked for %q, %d: %s", c.path, res.StatusCode, in.askedID, in.asked.Limit, body)
		}
	}
	if res, _ := ask(t, &instance{}, "POST", "/api/v1/events/o-1", ""); res.StatusCode != 405 {
		t.Errorf("POST is answered with %d", res.StatusCode)
	}
}

func TestEventThatCannotBeFound(t *testing.T) {
	for status, err := range map[int]error{
		501: fmt.Errorf("events in memory: %w", errors.ErrUnsupported), 503: errors.New("topic orders, events 1 to 9: segment is damaged"),
	} {
		res, body := ask(t, &instance{err: err}, "GET", "/api/v1/events/o-1", "")
		if res.StatusCode != status || !strings.Contains(body, err.Error()) {
			t.Errorf("%v: %d %s", err, res.StatusCode, body)
		}
	}
}
