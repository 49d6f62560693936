package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

// The colors, as a terminal takes them.
const (
	bold  = "\x1b[1m"
	dim   = "\x1b[2m"
	cyan  = "\x1b[36m"
	plain = "\x1b[0m"
)

// Bounds of what a person is shown of the data of one event.
const (
	maxLines = 100
	maxShown = 64 << 10
	indent   = "          "
)

// page appends an event for a person: a line with its time, type, id and source, and its data below.
func (o *Output) page(dst []byte, e *event.Event) []byte {
	var b strings.Builder
	b.WriteString(o.paint(dim, o.timeOf(e)) + "  " + o.paint(bold, codec.Legible(e.Type)) + "  " + codec.Legible(e.ID) + "  " + o.paint(cyan, codec.Legible(e.Source)))
	if e.Subject != "" {
		b.WriteString("  " + codec.Legible(e.Subject))
	}
	b.WriteByte('\n')
	for _, x := range e.Extensions {
		b.WriteString(indent + o.paint(dim, codec.Legible(x.Name)) + " " + codec.Legible(x.Text) + "\n")
	}
	o.data(&b, e)
	return append(dst, b.String()...)
}

// timeOf is when the event happened if it says so, else when it was accepted.
func (o *Output) timeOf(e *event.Event) string {
	at, err := time.Parse(time.RFC3339Nano, e.Time)
	if err != nil {
		at = e.Received
	}
	return at.In(o.now().Location()).Format("15:04:05")
}

func (o *Output) data(b *strings.Builder, e *event.Event) {
	var pretty bytes.Buffer
	switch {
	case len(e.Data) == 0:
		return
	case e.IsJSON() && len(e.Data) <= maxShown && codec.CheckJSON(e.Data, 0) == nil && json.Indent(&pretty, e.Data, "", "  ") == nil:
		o.lines(b, pretty.String())
	case isText(e.Data):
		shown := e.Data[:min(len(e.Data), maxShown)]
		o.lines(b, strings.TrimRight(string(shown), "\r\n"))
		if rest := len(e.Data) - len(shown); rest > 0 {
			o.note(b, fmt.Sprintf("… %d more bytes", rest))
		}
	default:
		kind := e.DataContentType
		if kind == "" {
			kind = "data of no type"
		}
		o.note(b, fmt.Sprintf("%d bytes of %s", len(e.Data), kind))
	}
}

// isText says whether bytes are worth to be read: UTF-8 without NUL.
func isText(data []byte) bool { return utf8.Valid(data) && bytes.IndexByte(data, 0) < 0 }

func (o *Output) lines(b *strings.Builder, text string) {
	all := strings.Split(text, "\n")
	for _, line := range all[:min(len(all), maxLines)] {
		b.WriteString(strings.TrimRight(indent+codec.Legible(strings.TrimSuffix(line, "\r")), " ") + "\n")
	}
	if rest := len(all) - maxLines; rest > 0 {
		o.note(b, fmt.Sprintf("… %d more lines", rest))
	}
}

// note writes a line of our own words.
func (o *Output) note(b *strings.Builder, text string) {
	b.WriteString(indent + o.paint(dim, codec.Legible(text)) + "\n")
}

// paint colors text that was cleaned.
func (o *Output) paint(color, text string) string {
	if !o.color || text == "" {
		return text
	}
	return color + text + plain
}
