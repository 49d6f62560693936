package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/millrace-run/millrace/app"
)

// pile is a target that has dead letters and remembers how they were changed.
type pile struct {
	target
	letters int
	asked   []app.Query
	until   time.Time
	fail    int // the change that fails, from 1; 0 is none
}

func (p *pile) CountDead(_ context.Context, q app.Query) ([]app.Count, error) {
	p.until = q.Until
	return []app.Count{{Count: p.letters - 1}, {Count: 1}}[:min(2, p.letters)], nil
}

func (p *pile) Drop(_ context.Context, q app.Query) (app.Dropped, error) {
	if !q.Until.Equal(p.until) {
		return app.Dropped{}, errors.New("others are dropped than those that were counted")
	}
	q.Until = time.Time{}
	if p.asked = append(p.asked, q); len(p.asked) == p.fail {
		return app.Dropped{}, errors.New("the outbox is closed")
	}
	n := min(q.Limit, p.letters-int(q.After))
	after := q.After + int64(n)
	if int(after) == p.letters {
		after = 0
	}
	return app.Dropped{Dropped: n, After: after}, nil
}

// dropper is a command line of dead-letters drop.
func dropper(c *command, all, yes bool) *deadCommand {
	d := c.dead()
	d.all, d.yes, d.query.Reasons = all, yes, []string{"age"}
	return d
}

// Only what was counted is changed after a yes, and nothing after anything else.
func TestChangeAsks(t *testing.T) {
	for typed, want := range map[string][]app.Query{
		"y\n": {{Reasons: []string{"age"}, Limit: pageSize}}, "YES\n": {{Reasons: []string{"age"}, Limit: pageSize}},
		"n\n": nil, "\n": nil, "": nil, "yeah\n": nil,
	} {
		var shown bytes.Buffer
		p := &pile{letters: 2}
		d := dropper(&command{streams: streams{in: strings.NewReader(typed), err: &shown, ask: true}}, true, false)
		err := d.changeIn(t.Context(), &dropping{d}, p)
		n := d.dropped.Dropped
		if d := cmp.Diff(want, p.asked); d != "" || (err == nil) != (want != nil) || n != 2*len(want) {
			t.Errorf("%q: %d, %v %s", typed, n, err, d)
		}
		if shown.String() != "Drop 2 dead letters for good? [y/N] " {
			t.Errorf("it asks %q", shown.String())
		}
	}
}

// Ctrl-C is an answer too: it does not wait for a line.
func TestQuestionHearsCtrlC(t *testing.T) {
	in, keyboard := io.Pipe()
	defer keyboard.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupt received"))
	p := &pile{letters: 2}
	d := dropper(&command{streams: streams{in: in, err: io.Discard, ask: true}}, true, false)
	err := d.changeIn(ctx, &dropping{d}, p)
	if err == nil || !strings.Contains(err.Error(), "nothing was changed") || !strings.Contains(err.Error(), "interrupt") || p.asked != nil {
		t.Errorf("%v, %v", err, p.asked)
	}
}

func TestChangeWithoutAsking(t *testing.T) {
	for _, d := range []*deadCommand{
		dropper(&command{streams: streams{err: &bytes.Buffer{}, ask: true}}, true, true),
		dropper(&command{streams: streams{err: &bytes.Buffer{}}}, true, false),
		dropper(&command{streams: streams{err: &bytes.Buffer{}, ask: true}}, false, false), // ids
	} {
		p := &pile{letters: 2}
		if err := d.changeIn(t.Context(), &dropping{d}, p); err != nil || len(p.asked) != 1 || d.dropped.Dropped != 2 {
			t.Errorf("%v %v", err, p.asked)
		}
	}
	p := &pile{letters: 0}
	d := dropper(&command{streams: streams{err: &bytes.Buffer{}, ask: true}}, true, false)
	if err := d.changeIn(t.Context(), &dropping{d}, p); err != nil || p.asked != nil {
		t.Errorf("of none: %v %v", err, p.asked)
	}
}

// Many are changed in pieces, each id in one of them; a failure tells how many were done.
func TestChangeInPieces(t *testing.T) {
	for _, fail := range []int{0, 3} {
		var shown bytes.Buffer
		p := &pile{letters: 2*pageSize + 1, fail: fail}
		d := dropper(&command{streams: streams{err: &shown}}, true, true)
		err := d.inPieces(t.Context(), &dropping{d}, p, 2*pageSize+1, true)
		for i, q := range p.asked {
			if q.After != int64(i*pageSize) || q.Limit != pageSize || !cmp.Equal(q.Reasons, []string{"age"}) {
				t.Errorf("piece %d is %+v", i, q)
			}
		}
		if want := 2*pageSize + 1 - min(fail, 1); d.dropped.Dropped != want || (err != nil) != (fail > 0) {
			t.Errorf("%d done, want %d: %v", d.dropped.Dropped, want, err)
		}
		if want := fmt.Sprintf("\r%d of 2001\r%d of 2001\r%d of 2001\n", pageSize, 2*pageSize, d.dropped.Dropped); shown.String() != want {
			t.Errorf("shown %q", shown.String())
		}
	}
}

// The table on a terminal is as wide as that.
func TestTableFitsTheTerminal(t *testing.T) {
	if terminalWidth(&bytes.Buffer{}) != 0 {
		t.Error("a buffer is no terminal")
	}
	keyboard, tty := terminal(t)
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 10, Col: 20}); err != nil {
		t.Fatal(err)
	}
	if err := table(tty, [][]string{{"ID", "ERROR"}, {"1", strings.Repeat("long ", 20)}}); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 200)
	read := 0
	for want := "ID  ERROR\r\n1   long long long …\r\n"; ; {
		n, err := keyboard.Read(got[read:])
		read += n
		if err != nil || read >= len(want) {
			if string(got[:read]) != want {
				t.Errorf("%q, want %q (%v)", got[:read], want, err)
			}
			return
		}
	}
}
