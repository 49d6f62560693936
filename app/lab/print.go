package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

// Printer shows what is delivered, for a person at a terminal. What comes from events can neither move the cursor nor color
// anything. Each delivery is one write, so that nothing comes between its lines. Its methods may be called concurrently.
type Printer struct {
	out   io.Writer
	color bool
	now   func() time.Time
	mu    sync.Mutex // held while writing
}

// NewPrinter returns a printer that writes to out, in color if that is wanted, with the time of now before each delivery.
func NewPrinter(out io.Writer, color bool, now func() time.Time) *Printer {
	return &Printer{out: out, color: color, now: now}
}

// Request is a request that was caught.
type Request struct {
	Method string
	URL    string // where the sink meant to send it
	Header http.Header
	Body   []byte // its beginning
	Size   int64  // of the whole body
}

const (
	maxLines = 100 // of a body or a text
	indent   = "          "
)

// page is what is written at once.
type page struct {
	strings.Builder
	color bool
}

func (p *Printer) begin(sink SinkName) *page {
	b := &page{color: p.color}
	b.WriteString(b.paint(dim, p.now().Format("15:04:05")) + "  " + b.paint(bold, sink.String()) + "  ")
	return b
}

func (p *Printer) write(b *page) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = io.WriteString(p.out, b.String()) // a terminal that is gone has nobody who misses it
}

// Stored prints a line that a file got.
func (p *Printer) Stored(sink SinkName, e *event.Event, path string) {
	b := p.begin(sink)
	fmt.Fprintf(b, "%s ← %s %s\n", codec.Legible(shorten(path)), codec.Legible(e.ID), b.paint(dim, codec.Legible(e.Type)))
	p.write(b)
}

// Row prints a row that a table got.
func (p *Printer) Row(sink SinkName, table string, columns []string, values []any) {
	b := p.begin(sink)
	b.WriteString("row of " + b.paint(cyan, codec.Legible(table)) + "\n")
	for i, name := range columns {
		text := "NULL"
		switch v := values[i].(type) {
		case nil:
		case []byte:
			text = sized(int64(len(v)))
		default:
			text = fmt.Sprint(v)
		}
		if len(text) > maxCell {
			text = strings.ToValidUTF8(text[:maxCell], "") + "…"
		}
		b.field(codec.Legible(name), text)
	}
	b.WriteByte('\n')
	p.write(b)
}

// maxCell is how much of a value in a row is shown, in bytes.
const maxCell = 400

// shorten writes a path from the working directory, if it is below it.
func shorten(path string) string {
	if working, err := os.Getwd(); err == nil {
		if name, err := filepath.Rel(working, path); err == nil && filepath.IsLocal(name) {
			return name
		}
	}
	return path
}

// request prints a request.
func (p *Printer) request(sink SinkName, r Request) {
	b := p.begin(sink)
	fmt.Fprintf(b, "%s %s", codec.Legible(r.Method), b.paint(cyan, codec.Legible(r.URL)))
	if attempt := r.Header.Get("Millrace-Attempt"); attempt != "" && attempt != "1" {
		b.WriteString("  attempt " + codec.Legible(attempt))
	}
	b.WriteByte('\n')
	b.field("event", attributes(r.Header))
	b.field("headers", strings.Join(further(r.Header), ", "))
	if !b.batch(r) {
		b.body(r.Header.Get("Content-Type"), r.Body, r.Size)
	}
	b.WriteByte('\n')
	p.write(b)
}

// attributes are the attributes of a CloudEvent in binary mode, those that everybody looks for first.
func attributes(h http.Header) string {
	rest := map[string]string{}
	for name, values := range h {
		if attribute, ok := strings.CutPrefix(strings.ToLower(name), "ce-"); ok && len(values) > 0 {
			rest[attribute] = decoded(values[0])
		}
	}
	delete(rest, "specversion")
	var all []string
	for _, name := range append([]string{"type", "id", "source", "subject"}, slices.Sorted(maps.Keys(rest))...) {
		if value, ok := rest[name]; ok {
			all = append(all, name+" "+value)
			delete(rest, name)
		}
	}
	return strings.Join(all, " · ")
}

// decoded undoes the percent-encoding of the HTTP binding.
func decoded(value string) string {
	if text, err := url.PathUnescape(value); err == nil {
		return text
	}
	return value
}

// usual are headers that every request has, and that tell nothing about this one.
var usual = []string{"Accept-Encoding", "Content-Length", "Content-Type", "Idempotency-Key", "Idempotency-Keys", "Millrace-Attempt", "User-Agent"}

// further are the names of the headers that the file adds. Their values may be secrets.
func further(h http.Header) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if !slices.Contains(usual, http.CanonicalHeaderKey(name)) && !strings.HasPrefix(strings.ToLower(name), "ce-") {
			names = append(names, name)
		}
	}
	return names
}

// mail prints a mail.
func (p *Printer) mail(sink SinkName, m Mail) {
	b := p.begin(sink)
	b.WriteString("mail\n")
	b.field("From", m.From)
	b.field("To", m.To)
	b.field("Cc", m.Cc)
	b.field("Bcc", strings.Join(m.Others, ", "))
	b.field("Reply-To", m.ReplyTo)
	b.field("Subject", m.Subject)
	b.WriteByte('\n')
	if m.HasText {
		b.lines(string(m.Text))
	}
	for _, part := range m.Parts {
		name := part.Type
		if part.Name != "" {
			name = part.Name + " (" + part.Type + ")"
		}
		b.note("+ " + name + ", " + sized(part.Size))
	}
	if m.Broken != "" {
		b.note("the rest cannot be read: " + m.Broken)
	}
	b.WriteByte('\n')
	p.write(b)
}

// field writes a named line, if there is something to say.
func (b *page) field(name, value string) {
	if value != "" {
		fmt.Fprintf(b, "%s%s %s\n", indent, b.paint(dim, fmt.Sprintf("%-8s", name)), codec.Legible(value))
	}
}

// note writes a line of our own words.
func (b *page) note(text string) { b.WriteString(indent + b.paint(dim, codec.Legible(text)) + "\n") }

// body writes a body as what it is: JSON, text, or a number of bytes.
func (b *page) body(contentType string, body []byte, size int64) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind = contentType
	}
	var pretty bytes.Buffer
	switch {
	case size == 0:
		b.note("no data")
	case event.IsJSONType(kind) && int64(len(body)) == size && json.Indent(&pretty, body, "", "  ") == nil:
		b.json(pretty.String())
	case isText(body):
		b.lines(string(body))
		if rest := size - int64(len(body)); rest > 0 {
			b.note("… " + sized(rest) + " more")
		}
	default:
		b.note(sized(size) + " of " + or(kind, "data of no type"))
	}
}

// isText says whether bytes are worth to be read: UTF-8 with few control characters. The last character may be cut.
func isText(body []byte) bool {
	controls := 0
	for i := 0; i < len(body); {
		r, n := utf8.DecodeRune(body[i:])
		if r == utf8.RuneError && n == 1 && (i < len(body)-utf8.UTFMax || len(body) < maxShown) {
			return false
		}
		if r < ' ' && r != '\n' && r != '\r' && r != '\t' {
			controls++
		}
		i += n
	}
	return controls*20 <= len(body)
}

// lines writes text, its first lines if there are many.
func (b *page) lines(text string) {
	all := strings.Split(strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), "\n")
	for _, line := range all[:min(len(all), maxLines)] {
		b.WriteString(strings.TrimRight(indent+codec.Legible(line), " ") + "\n")
	}
	b.more(len(all))
}

func (b *page) more(lines int) {
	if lines > maxLines {
		b.note(fmt.Sprintf("… %d more lines", lines-maxLines))
	}
}

func or(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// sized writes a size as people do.
func sized(n int64) string {
	switch {
	case n == 1:
		return "1 byte"
	case n < 1<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
