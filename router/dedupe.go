package router

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/rules"
)

// keyer makes the dedupe keys of a pipeline's events and counts what comes of them. A nil keyer leaves every event in. It is safe
// for concurrent use.
type keyer struct {
	key    *rules.Expr // nil is source and id
	sameID bool
	clock  event.Clock
	logger *slog.Logger

	duplicates, unkeyed, forgotten atomic.Int64
	lacks, crowded                 fold
}

func newKeyer(d *pipelines.Dedupe, clock event.Clock, logger *slog.Logger) *keyer {
	return &keyer{key: d.Key, sameID: settingsOf(d).SameID, clock: clock, logger: logger}
}

// settingsOf is what a log needs to know. The text of the expression is the name of its keys, so that those of another expression
// never match: an event is rather taken twice than lost.
func settingsOf(d *pipelines.Dedupe) *event.Dedupe {
	if d == nil {
		return nil
	}
	settings := &event.Dedupe{Window: d.Window, MaxKeys: d.MaxKeys, SameID: true}
	if d.Key != nil {
		settings.Name = strings.TrimSpace(d.Key.String())
		settings.SameID = settings.Name == "id"
	}
	return settings
}

// keys adds the keys to an append. The body counts where equal keys mean equal ids: a key that an expression takes from elsewhere
// says by itself what a duplicate is, whatever else is in the body.
func (k *keyer) keys(a *event.Append, body []byte) {
	if k == nil {
		return
	}
	a.Keys = make([]string, len(a.Events))
	for i := range a.Events {
		a.Keys[i] = k.of(&a.Events[i])
	}
	if k.sameID {
		a.Body = body
	}
}

// of is the key of an event; empty when it has none. Such an event must not be lost, so it is taken without a look for others.
func (k *keyer) of(e *event.Event) string {
	if k.key == nil {
		var room [128]byte
		b := append(binary.AppendUvarint(room[:0], uint64(len(e.Source))), e.Source...) // the length keeps joins apart
		return string(append(b, e.ID...))
	}
	text, missing, err := evaluate(k.key, e)
	if err == nil && text != "null" {
		return text
	}
	reason := "it is nil"
	switch {
	case err != nil:
		reason = err.Error()
	case missing != "":
		reason = missing + " is missing"
	}
	k.tell(&k.lacks, "an event has no dedupe key, it is accepted whatever came before", reason, "event_id", e.ID, "reason", reason)
	return ""
}

// evaluate is the value of an expression as JSON, so that a number and a text differ.
func evaluate(x *rules.Expr, e *event.Event) (text, missing string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	data, missing, err := x.JSON(&rules.Input{Event: e})
	return string(data), missing, err
}

// answer puts the ids of the first events in place of those of their duplicates, and returns how many there are. It counts what was
// committed, so that a batch which is refused and comes again counts once.
func (k *keyer) answer(ids []string, of *event.Append, a *event.Appended) int {
	if k == nil {
		return 0
	}
	for _, key := range of.Keys {
		if key == "" {
			k.unkeyed.Add(1)
		}
	}
	for i, id := range a.Duplicates {
		ids[i] = id
	}
	k.duplicates.Add(int64(len(a.Duplicates)))
	if a.Forgotten > 0 {
		all := k.forgotten.Add(int64(a.Forgotten))
		k.tell(&k.crowded, "dedupe forgets keys before their window ends: max_keys is too small for what arrives", "", "keys", all)
	}
	return len(a.Duplicates)
}

// tell logs a line, unless the same was logged just before.
func (k *keyer) tell(f *fold, text, reason string, args ...any) {
	if hidden, ok := f.allow(k.clock.Now(), reason); ok {
		k.logger.Warn(text, append(args, "folded", hidden)...)
	}
}
