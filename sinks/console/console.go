// Package console writes events to standard output: for a person where that is a terminal, one line of JSON each where it is a pipe
// or a file.
//
// All sinks of a process share one Output, so that nothing comes between the lines of a batch. On a terminal nothing that an
// event holds can move the cursor or color anything.
package console

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

// Config is what a user may set. Begin with Defaults.
type Config struct {
	Format  string `yaml:"format,oneof=auto|pretty|json" doc:"pretty: for a person; json: one line for each event; auto: pretty on a terminal."`
	Content string `yaml:"content,oneof=event|data|raw" doc:"event: with its attributes, a structured CloudEvent in json; data: the data as JSON; raw: the data as it is."`
}

// The values of Format and Content.
const (
	formatAuto   = "auto"
	formatPretty = "pretty"
	formatJSON   = "json"

	contentEvent = "event"
	contentData  = "data"
	contentRaw   = "raw"
)

// Defaults returns the settings that apply where a user sets none.
func Defaults() Config { return Config{Format: formatAuto, Content: contentEvent} }

// Sink writes events to an Output. Deliver is called by one goroutine at a time.
type Sink struct {
	out     *Output
	content string
	pretty  bool
	cut     atomic.Bool
}

// New checks the settings and writes nothing. Its error joins one *event.KeyError for each fault.
func New(c Config, out *Output) (*Sink, error) {
	if err := errors.Join(oneOf("format", c.Format, formatAuto, formatPretty, formatJSON),
		oneOf("content", c.Content, contentEvent, contentData, contentRaw)); err != nil {
		return nil, err
	}
	return &Sink{out: out, content: c.Content, pretty: c.Format == formatPretty || c.Format == formatAuto && out.terminal}, nil
}

func oneOf(key, value string, valid ...string) error {
	if slices.Contains(valid, value) {
		return nil
	}
	return &event.KeyError{Key: key, Err: fmt.Errorf("%q is none of %s", value, strings.Join(valid, ", "))}
}

// Deliver writes the events in their order. Those that were written whole before an error or the end of ctx are delivered, the others
// are not: they will be written again, on a line of their own.
func (s *Sink) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	out := event.Settled(len(batch), nil)
	if len(batch) == 0 {
		return out
	}
	var text []byte
	ends := make([]int, len(batch))
	for i, d := range batch {
		text = s.append(text, d.Event)
		ends[i] = len(text)
	}
	written, err := s.out.write(ctx, text)
	s.cut.Store(errors.Is(err, unix.EPIPE))
	if err == nil {
		return out
	}
	for i := range batch {
		if ends[i] > written {
			out.Verdicts[i] = event.Unavailable(fmt.Errorf("write to standard output: %w", err))
		}
	}
	return out
}

// CutOff says whether nobody reads what is written any more. It may be called at any time.
func (s *Sink) CutOff() bool { return s.cut.Load() }

// append appends an event as it is written.
func (s *Sink) append(dst []byte, e *event.Event) []byte {
	switch {
	case s.pretty && s.content == contentEvent:
		return s.out.page(dst, e)
	case s.content == contentEvent:
		return s.line(dst, codec.EncodeJSON(nil, e))
	case s.content == contentData:
		return s.line(dst, appendData(nil, e))
	}
	return s.line(dst, e.Data)
}

// line appends a line. What goes to a terminal is made harmless there; JSON is none the worse for it.
func (s *Sink) line(dst, text []byte) []byte {
	if s.out.terminal {
		for i, part := range strings.Split(string(text), "\n") {
			if i > 0 {
				dst = append(dst, '\n')
			}
			dst = append(dst, codec.Legible(part)...)
		}
		return append(dst, '\n')
	}
	return append(append(dst, text...), '\n')
}

// appendData appends the data as one JSON value on one line: as it is but for the space between its tokens if it is JSON, as a
// string if it is other text, else as a string of base64. An event without data is null.
func appendData(dst []byte, e *event.Event) []byte {
	switch {
	case e.Data == nil:
		return append(dst, "null"...)
	case e.IsJSON():
		if line := bytes.NewBuffer(dst); codec.CheckJSON(e.Data, 0) == nil && json.Compact(line, e.Data) == nil {
			return line.Bytes()
		}
	case utf8.Valid(e.Data) && !strings.HasPrefix(strings.ToLower(e.DataContentType), "application/octet-stream"):
		return codec.AppendString(dst, string(e.Data))
	}
	dst = base64.StdEncoding.AppendEncode(append(dst, '"'), e.Data)
	return append(dst, '"')
}
