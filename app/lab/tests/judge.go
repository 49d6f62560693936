package tests

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/pipelines"
)

// judge compares what a test demands with what came.
func judge(t *pipelines.Test, out *outcome) []Fault {
	d := &differ{}
	for i, at := range out.refused {
		d.fault(at, "given", "an event that the source takes", out.refusal[i].Error())
	}
	if len(out.waiting) > 0 {
		d.fault(t.Place, "", "every event settled or a dead letter",
			fmt.Sprintf("after %s these still wait: %s", duration(out.passed), strings.Join(some(out.waiting), ", ")))
	}
	for _, x := range t.Expect.Sinks {
		d.events(x, out.sinks[x.Sink].accepted)
	}
	for _, x := range t.Expect.Attempts {
		if got := out.sinks[x.Sink].attempts; got != x.Count {
			d.fault(x.Place, "attempts."+x.Sink, strconv.Itoa(x.Count), strconv.Itoa(got))
		}
	}
	if x := t.Expect.DeadLetters; x != nil {
		d.letters(x, out.letters)
	}
	return d.faults
}

func (d *differ) events(x pipelines.ExpectedEvents, got []taken) {
	if len(got) != len(x.Events) {
		texts := make([]string, len(got))
		for i := range got {
			texts[i] = brief(&got[i].event)
		}
		d.fault(x.Place, x.Sink, plural(len(x.Events), "event"), counted(len(got), "event", texts))
		return
	}
	for i, want := range x.Events {
		d.event(fmt.Sprintf("%s[%d]", x.Sink, i), want, &got[i].event)
	}
}

// event compares the members of an event that are written.
func (d *differ) event(path string, want pipelines.Value, got *event.Event) {
	for _, m := range want.Members {
		at := path + "." + m.Name
		switch m.Name {
		case "data":
			d.data(at, m.Value, got)
		case "ext":
			for _, x := range m.Value.Members {
				v, ok := got.Extension(x.Name)
				d.text(at+"."+x.Name, x.Value, v.Text, ok)
			}
		default:
			text := attribute(got, m.Name)
			d.text(at, m.Value, text, text != "")
		}
	}
}

func attribute(e *event.Event, name string) string {
	switch name {
	case "id":
		return e.ID
	case "source":
		return e.Source
	case "type":
		return e.Type
	case "subject":
		return e.Subject
	case "time":
		return e.Time
	case "datacontenttype":
		return e.DataContentType
	}
	return e.DataSchema
}

// text compares an attribute, whose value is a text whatever it looks like in YAML.
func (d *differ) text(path string, want pipelines.Value, got string, there bool) {
	if want.Kind == pipelines.NullValue {
		if there {
			d.fault(want.Place, path, "no such member", quoted(got))
		}
		return
	}
	if !there {
		d.fault(want.Place, path, quoted(want.Text), "nothing")
		return
	}
	if want.Text != got {
		d.fault(want.Place, path, quoted(want.Text), quoted(got))
	}
}

func (d *differ) data(path string, want pipelines.Value, got *event.Event) {
	switch {
	case got.Data == nil:
		d.value(path, want, nil, false)
	case !got.IsJSON():
		d.value(path, want, string(got.Data), true)
	default:
		v, err := decode(got.Data)
		if err != nil {
			v = string(got.Data)
		}
		d.value(path, want, v, true)
	}
}

func (d *differ) letters(x *pipelines.ExpectedLetters, got []letter) {
	if len(got) != len(x.Letters) {
		texts := make([]string, len(got))
		for i := range got {
			texts[i] = got[i].text()
		}
		d.fault(x.Place, "dead_letters", plural(len(x.Letters), "dead letter"), counted(len(got), "dead letter", texts))
		return
	}
	for i, want := range x.Letters {
		for _, m := range want.Members {
			d.letter(fmt.Sprintf("dead_letters[%d].%s", i, m.Name), m, &got[i])
		}
	}
}

func (d *differ) letter(path string, m pipelines.Member, got *letter) {
	x := &got.Exception
	switch m.Name {
	case "status":
		d.number(path, m.Value, x.Status)
	case "attempts":
		d.number(path, m.Value, x.Attempts)
	case "last_error":
		if !strings.Contains(x.Error, m.Value.Text) {
			d.fault(m.Value.Place, path, "a text that holds "+quoted(m.Value.Text), quoted(x.Error))
		}
	default:
		text := map[string]string{"event_id": got.Record.Event.ID, "sink": got.sink, "stage": x.Stage, "reason": string(x.Reason)}[m.Name]
		if m.Value.Text != text {
			d.fault(m.Value.Place, path, quoted(m.Value.Text), quoted(text))
		}
	}
}

func (d *differ) number(path string, want pipelines.Value, got int) {
	if n, err := strconv.Atoi(want.Text); err != nil || n != got {
		d.fault(want.Place, path, want.Text, strconv.Itoa(got))
	}
}

// text is a dead letter in one line.
func (l *letter) text() string {
	x := &l.Exception
	where := "sink " + l.sink
	if l.sink == "" {
		where = "stage " + x.Stage
	}
	return fmt.Sprintf("event %s, %s, %s after %s: %s", l.Record.Event.ID, where, x.Reason, plural(x.Attempts, "attempt"), x.Error)
}

// notes tell what happened at each sink, for those who look into a fault.
func (o *outcome) notes(p *pipelines.Pipeline) []string {
	var notes []string
	for _, k := range p.Sinks {
		r := o.sinks[k.Name]
		note := fmt.Sprintf("%s: %s, %d accepted", k.Name, plural(r.attempts, "attempt"), len(r.accepted))
		if r.refused != "" {
			note += "; last refusal: " + r.refused
		}
		notes = append(notes, note)
	}
	var letters []string
	for i := range o.letters {
		letters = append(letters, "dead letter: "+o.letters[i].text())
	}
	return append(append(notes, some(letters)...), "time that passed: "+duration(o.passed))
}

// brief is an event in one line.
func brief(e *event.Event) string {
	return clip(string(codec.EncodeJSON(nil, e)))
}

func counted(n int, word string, texts []string) string {
	if n == 0 {
		return "none"
	}
	return plural(n, word) + ": " + strings.Join(some(texts), ", ")
}

// some are the first of many.
func some(texts []string) []string {
	const most = 5
	if len(texts) <= most {
		return texts
	}
	return append(slices.Clone(texts[:most]), fmt.Sprintf("and %d more", len(texts)-most))
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
