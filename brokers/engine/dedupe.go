package engine

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/millrace-run/millrace/event"
)

// errNoDedupe: over a broker of others several processes append, and none of them knows what the others have seen.
var errNoDedupe = errors.New("this engine does not leave out duplicates")

// dedupe holds the keys of a topic, as long as the process runs.
type dedupe struct {
	owner *topic // others may share them
	event.Dedupe
	set    *event.KeySet
	secret []byte
}

// configureDedupe takes over settings; keys stay as long as the topic has any.
func (t *topic) configureDedupe(topic event.Topic, now time.Time) {
	want := topic.Dedupe
	switch {
	case want == nil:
		t.dedupe = nil
	case t.dedupe == nil || t.dedupe.owner != t:
		t.dedupe = &dedupe{t, *want, event.NewKeySet(*want, now), []byte(rand.Text())}
	default:
		t.dedupe.Dedupe = *want
		t.dedupe.set.Resize(*want)
	}
}

func (t *topic) checkKeys(a *event.Append) error {
	switch {
	case a.Keys == nil:
		return nil
	case t.dedupe == nil:
		return fmt.Errorf("topic %q does not leave out duplicates, it takes no keys", t.name)
	case len(a.Keys) != len(a.Events):
		return fmt.Errorf("%d keys for %d events of topic %q", len(a.Keys), len(a.Events), t.name)
	}
	return nil
}

// decide returns c without the events that are duplicates, and remembers the keys of the others until undo.
func (e *Engine) decide(c event.Commit) (rest event.Commit, appended []event.Appended, undo func(), err error) {
	appended = make([]event.Appended, len(c.Appends))
	var undone []func()
	undo = func() {
		for _, f := range slices.Backward(undone) {
			f()
		}
	}
	given := c.Appends
	c.Appends = slices.Clone(given)
	for i := range given {
		d := e.topics[given[i].Topic].dedupe
		if given[i].Keys == nil {
			continue
		}
		d.set.Tick(e.options.Clock.Now())
		_, next := d.set.Bounds()
		appended[i].Duplicates, err = d.decide(&given[i])
		if err != nil {
			undo()
			return c, nil, nil, err
		}
		undone = append(undone, func() { d.set.Truncate(next) })
		c.Appends[i].Events = given[i].Rest(appended[i].Duplicates)
	}
	return c, appended, undo, nil
}

func (d *dedupe) decide(a *event.Append) (map[int]string, error) {
	hashes := make([]event.KeyHash, len(a.Keys))
	for i, key := range a.Keys {
		hashes[i] = event.HashKey(d.secret, d.Name, key)
	}
	mark := uint64(0)
	if a.Body != nil && d.SameID {
		mark = event.HashBody(d.secret, a.Body)
	}
	return d.set.Decide(a, hashes, mark, d.SameID)
}

// forgetKeys lets go of the keys that are over, and of those that are too many.
func (e *Engine) forgetKeys(t *topic, a *event.Appended) {
	if t.dedupe != nil {
		a.Forgotten = t.dedupe.set.Trim(math.MaxInt)
	}
}
