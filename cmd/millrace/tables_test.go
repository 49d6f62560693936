package main

import (
	"strings"
	"testing"
	"time"

	"github.com/millrace-run/millrace/app"
)

func TestCut(t *testing.T) {
	for _, c := range []struct {
		in    string
		width int
		want  string
	}{
		{"abcdef", 0, "abcdef"}, {"abcdef", 6, "abcdef"}, {"abcdef", 5, "abcd…"}, {"abcdef", 1, "…"}, {"", 1, ""},
		{"äöüß", 4, "äöüß"}, {"äöüß", 3, "äö…"}, {"日本語", 6, "日本語"}, {"日本語", 5, "日本…"}, {"日本語", 4, "日…"},
		{"e\u0301e\u0301", 2, "e\u0301e\u0301"},
	} {
		if got := cut(c.in, c.width); got != c.want {
			t.Errorf("%q at %d: %q, want %q", c.in, c.width, got, c.want)
		}
	}
}

func TestTableOfHostileCells(t *testing.T) {
	var b strings.Builder
	if err := table(&b, [][]string{{"ID", "ERROR"}, {"1", "a\x1b[2Jb\tc\nd\u202e"}, {"22", ""}}); err != nil {
		t.Fatal(err)
	}
	if want := "ID  ERROR\n1   a·[2Jb·c·d·\n22\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"ok\n  {\"a\": \"ä 日\"}": "ok\n  {\"a\": \"ä 日\"}",
		"\x1b[31m\r\t\x7f":       `\u001b[31m\r\t\u007f`,
		"a\u009bb\u202ec\xff":    `a\u009bb\u202ec\xff`,
		"\U000e0041":             `\udb40\udc41`,
	} {
		if got := visible(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestShownLetter(t *testing.T) {
	var b strings.Builder
	at := time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)
	showLetter(&b, &app.DeadLetter{
		ID: 7, EventID: "o-1", Pipeline: "orders", Sink: "payments", Reason: "permanent", Status: 422, LastError: "no\x1b[1m", Attempts: 2, LastAt: &at, Durable: true,
		Offset: 41, ReceivedAt: &at, From: "books", History: []app.Attempt{{At: at, Error: "no route"}, {At: at, Status: 422, Answer: "first\nsecond\n"}},
		Edited: []byte(`{"id":"o-1"}`),
		Event:  []byte(`{"id":"o-1","data":{"note":"a\u009bb"}}`), Answer: new("first\r\nsecond\n"),
	})
	want := `dead letter 7
  event     o-1
  pipeline  orders
  sink      payments
  reason    permanent
  status    422
  attempts  2
  last      2026-05-01T10:00:00Z
  offset    41
  received  2026-05-01T10:00:00Z
  error     no·[1m
  from      books

event:
  {
    "id": "o-1",
    "data": {
      "note": "a\u009bb"
    }
  }

edited:
  {
    "id": "o-1"
  }

answer:
  first\r
  second

attempts:
  AT                    STATUS  ERROR     ANSWER
  2026-05-01T10:00:00Z  -       no route
  2026-05-01T10:00:00Z  422               first·second
`
	if b.String() != want {
		t.Errorf("%s\nwant\n%s", b.String(), want)
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 900 * time.Millisecond: "0s", 192*time.Second + 1: "3m12s", time.Hour: "1h0m0s", 51*time.Hour + time.Minute: "2d3h",
	} {
		if got := age(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestSizeText(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 1: "1B", 1023: "1023B", 1024: "1.0KiB", 10000: "9.8KiB", 10240: "10KiB", 1<<20 - 1: "1.0MiB", 31 << 20: "31MiB",
		1 << 40: "1.0TiB", 1 << 52: "4096TiB",
	} {
		if got := sizeText(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestStandings(t *testing.T) {
	var b strings.Builder
	now := time.Date(2026, 5, 1, 10, 3, 12, 0, time.UTC)
	err := table(&b, standings([]app.Subscription{
		{Pipeline: "orders", State: "running", Cursor: 4, Head: 4, Durable: true},
		{Pipeline: "orders", Sink: "payments", State: "down", Lag: 3, Retrying: 2, Held: 7, DeadLetters: 1, Attempts: 5, OldestAt: new(now.Add(-192 * time.Second)), Pinned: 9000, Cursor: 1, Head: 4},
		{Pipeline: "orders", Sink: "mail", State: "paused", Head: 4, Durable: true, PausedAt: new(now.Add(-time.Minute)), PausedReason: "a\nmove"},
	}, now))
	want := `PIPELINE  SINK      STATE    LAG  RETRYING  HELD  DEAD  ATTEMPTS  OLDEST  PINNED  POSITION  DURABLE  PAUSED
orders    (stages)  running  0    0         0     0     0         -       0       4/4       yes      -
orders    payments  down     3    2         7     1     5         3m12s   8.8KiB  1/4       no       -
orders    mail      paused   0    0         0     0     0         -       0       0/4       yes      1m0s ago: a·move
`
	if err != nil || b.String() != want {
		t.Errorf("%v\n%s\nwant\n%s", err, b.String(), want)
	}
}
