package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/millrace-run/millrace/app"
)

// pile is a target that has dead letters and remembers how they were changed.
type pile struct {
	target
	letters int
	asked   []app.Query
	fail    int // the change that fails, from 1; 0 is none
}

func (p *pile) DeadLetters(context.Context, app.Query) ([]app.DeadLetter, error) {
	all := make([]app.DeadLetter, p.letters)
	for i := range all {
		all[i].ID = int64(i + 1)
	}
	return all, nil
}

func (p *pile) Drop(_ context.Context, q app.Query) (int, error) {
	if p.asked = append(p.asked, q); len(p.asked) == p.fail {
		return 0, errors.New("the outbox is closed")
	}
	return max(len(q.IDs), 1), nil
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
		"y\n": {{IDs: []int64{1, 2}, Reasons: []string{"age"}}}, "YES\n": {{IDs: []int64{1, 2}, Reasons: []string{"age"}}},
		"n\n": nil, "\n": nil, "": nil, "yeah\n": nil,
	} {
		var shown bytes.Buffer
		p := &pile{letters: 2}
		d := dropper(&command{streams: streams{in: strings.NewReader(typed), err: &shown, ask: true}}, true, false)
		n, err := d.changeIn(t.Context(), dropping, p)
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
	_, err := d.changeIn(ctx, dropping, p)
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
		p := &pile{letters: 2 * pageSize}
		if _, err := d.changeIn(t.Context(), dropping, p); err != nil || len(p.asked) != 1 || !cmp.Equal(d.query, p.asked[0]) {
			t.Errorf("%v %v", err, p.asked)
		}
	}
	p := &pile{}
	d := dropper(&command{streams: streams{err: &bytes.Buffer{}, ask: true}}, true, false)
	if n, err := d.changeIn(t.Context(), dropping, p); n != 0 || err != nil || p.asked != nil {
		t.Errorf("of none: %d %v %v", n, err, p.asked)
	}
}

// Many are changed in pieces, each id in one of them; a failure tells how many were done.
func TestChangeInPieces(t *testing.T) {
	for _, fail := range []int{0, 3} {
		var shown bytes.Buffer
		p := &pile{letters: 2*pageSize + 1, fail: fail}
		d := dropper(&command{streams: streams{err: &shown}}, true, true)
		letters, err := p.DeadLetters(t.Context(), app.Query{})
		if err != nil {
			t.Fatal(err)
		}
		n, err := d.inPieces(t.Context(), dropping, p, letters, true)
		var ids []int64
		for _, q := range p.asked {
			if ids = append(ids, q.IDs...); len(q.IDs) > pageSize || !cmp.Equal(q.Reasons, []string{"age"}) {
				t.Errorf("a piece of %d ids with %v", len(q.IDs), q.Reasons)
			}
		}
		if len(ids) != 2*pageSize+1 || ids[0] != 1 || ids[2*pageSize] != 2*pageSize+1 {
			t.Errorf("%d ids", len(ids))
		}
		if want := 2*pageSize + 1 - min(fail, 1); n != want || (err != nil) != (fail > 0) {
			t.Errorf("%d done, want %d: %v", n, want, err)
		}
		if want := fmt.Sprintf("\r%d of 2001\r%d of 2001\r2001 of 2001\n", pageSize, 2*pageSize); shown.String() != want {
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
