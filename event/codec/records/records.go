// Package records takes a stream of bytes apart into records, each of which becomes the data of an event: lines, NDJSON, CSV, one
// JSON document, or the whole as it is. It says how far a record reaches, so that a reader of the same bytes can go on behind it.
package records

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/millrace-run/millrace/event/codec"
)

// The formats.
const (
	Lines  = "lines"  // each line is text
	NDJSON = "ndjson" // each line is a JSON value; blank ones are left out
	CSV    = "csv"    // each record is a JSON object whose members are named by the first record, or by Options.Columns
	JSON   = "json"   // the whole is one JSON value
	Whole  = "whole"  // the whole is one record, whatever it is
)

// Formats are all of them.
func Formats() []string { return []string{Lines, NDJSON, CSV, JSON, Whole} }

// Options say how to read. Format and Max must be set.
type Options struct {
	Format    string
	Max       int64             // bytes of a record, at least 1
	Delimiter rune              // of CSV; 0 is a comma
	Columns   []string          // of CSV without a line of names; nil: the first record has the names
	Types     map[string]string // of columns of CSV: one of those of CheckType; text where it says nothing
}

// Position is how far a stream was read. The zero Position is its beginning.
type Position struct {
	Offset  int64 `json:"offset"`  // bytes
	Records int64 `json:"records"` // taken
	Lines   int64 `json:"lines"`   // that ended before Offset
}

// Record is one record. Data is the caller's.
type Record struct {
	Data        []byte
	ContentType string
}

// Fault says what is wrong with a record. The reader stands behind it, unless Fatal says that nothing can be read any more.
type Fault struct {
	Line  int64 // where it begins, from 1; 0 where lines mean nothing
	Err   error
	Fatal bool
}

// Error names the line.
func (f *Fault) Error() string {
	if f.Line == 0 {
		return f.Err.Error()
	}
	return fmt.Sprintf("line %d: %v", f.Line, f.Err)
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

// The media types of records.
const (
	jsonType = "application/json"
	textType = "text/plain"

	// maxDepth is how deep JSON may be nested, as at a webhook.
	maxDepth = 64
	// buffered is how much is read at once.
	buffered = 64 << 10
)

// Reader reads the records of one stream. Its methods are not concurrent.
type Reader struct {
	o    Options
	at   Position
	in   *bufio.Reader
	csv  *table // nil unless the format is CSV
	slab slab
	done bool // of JSON and Whole
}

// New returns a reader of src from a position on, which an earlier reader of the same bytes with the same options gave. src must
// stand at its beginning; if it is an io.Seeker, what lies before the position is not read again. Errors are those of src, or a
// *Fault.
func New(src io.Reader, o Options, from Position) (*Reader, error) {
	r := &Reader{o: o, at: from}
	if o.Delimiter == 0 {
		r.o.Delimiter = ','
	}
	if o.Format == CSV {
		t, err := newTable(src, r.o, &r.at)
		if err != nil {
			return nil, err
		}
		r.csv = t
		return r, nil
	}
	if from.Offset > 0 {
		if err := skip(src, from.Offset); err != nil {
			return nil, err
		}
	}
	r.in = bufio.NewReaderSize(src, buffered)
	return r, nil
}

// Position is how far the records reach that were returned, and those that were faulty.
func (r *Reader) Position() Position { return r.at }

// Next returns the next record; io.EOF behind the last one; a *Fault of a record; or an error of the stream.
func (r *Reader) Next() (Record, error) {
	switch r.o.Format {
	case Lines, NDJSON:
		return r.line()
	case CSV:
		data, err := r.csv.next(&r.slab)
		return Record{data, jsonType}, err
	}
	return r.all()
}

var errTooLong = errors.New("it is longer than max_record")

// line returns a line, without its end (a line feed, or a carriage return and a line feed).
func (r *Reader) line() (Record, error) {
	for {
		if err := r.leaveMark(); err != nil {
			return Record{}, err
		}
		begun := r.at.Lines + 1
		text, err := r.readLine()
		if err != nil {
			return Record{}, err
		}
		if text == nil {
			return Record{}, &Fault{Line: begun, Err: fmt.Errorf("%w (%d bytes)", errTooLong, r.o.Max)}
		}
		if r.o.Format == Lines {
			r.at.Records++
			return Record{r.slab.keep(text), textType}, nil
		}
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		if err := codec.CheckJSON(text, maxDepth); err != nil {
			return Record{}, &Fault{Line: begun, Err: err}
		}
		r.at.Records++
		return Record{r.slab.keep(text), jsonType}, nil
	}
}

// readLine returns a line until the next read, nil for one that is too long. The last line needs no end.
func (r *Reader) readLine() ([]byte, error) {
	var long []byte
	for size := int64(0); ; {
		part, err := r.in.ReadSlice('\n')
		size += int64(len(part))
		r.at.Offset += int64(len(part))
		whole := err == nil || errors.Is(err, io.EOF) && size > 0
		if !whole && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if size > r.o.Max+2 { // of which two may be the end
			long = nil
		} else if !whole || long != nil {
			long = append(long, part...)
			part = long
		}
		if !whole {
			continue
		}
		r.at.Lines++
		text := bytes.TrimSuffix(bytes.TrimSuffix(part, []byte("\n")), []byte("\r"))
		if size > r.o.Max+2 || int64(len(text)) > r.o.Max {
			return nil, nil
		}
		if text == nil {
			text = []byte{}
		}
		return text, nil
	}
}

// mark is what some programs write before text in UTF-8. It is no part of it.
var mark = []byte("\xef\xbb\xbf")

// leaveMark leaves out the mark at the beginning of the stream.
func (r *Reader) leaveMark() error {
	if r.at.Offset > 0 {
		return nil
	}
	return leaveMark(r.in, &r.at)
}

func leaveMark(in *bufio.Reader, at *Position) error {
	first, err := in.Peek(1)
	if err == nil && first[0] == mark[0] { // else more is not waited for, since there may be none for long
		first, err = in.Peek(len(mark))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if bytes.Equal(first, mark) {
		_, err = in.Discard(len(mark))
		at.Offset += int64(len(mark))
		return err
	}
	return nil
}

// all returns everything as one record. Of nothing at all that is a record too, but no JSON.
func (r *Reader) all() (Record, error) {
	if r.done || r.at.Records > 0 {
		return Record{}, io.EOF
	}
	if r.o.Format == JSON {
		if err := r.leaveMark(); err != nil {
			return Record{}, err
		}
	}
	data, err := io.ReadAll(io.LimitReader(r.in, r.o.Max+1))
	if err != nil {
		return Record{}, err
	}
	r.done = true
	if int64(len(data)) > r.o.Max {
		return Record{}, &Fault{Err: fmt.Errorf("%w (%d bytes)", errTooLong, r.o.Max), Fatal: true}
	}
	kind := kindOf(data)
	if r.o.Format == JSON {
		if err := codec.CheckJSON(data, maxDepth); err != nil {
			return Record{}, &Fault{Err: err, Fatal: true}
		}
		kind = jsonType
	}
	r.at.Offset += int64(len(data))
	r.at.Records++
	return Record{data, kind}, nil
}

// skip moves a stream forward from its beginning.
func skip(src io.Reader, n int64) error {
	if s, ok := src.(io.Seeker); ok {
		_, err := s.Seek(n, io.SeekStart)
		return err
	}
	_, err := io.CopyN(io.Discard, src, n)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF // the stream was longer when this position was reached
	}
	return err
}

// slab gives out memory in large pieces, since a record of its own for each line costs more than the line.
type slab struct{ free []byte }

const slabSize = 128 << 10

// keep copies bytes that will be overwritten.
func (s *slab) keep(b []byte) []byte {
	if len(b) > slabSize/8 {
		return slices.Clone(b)
	}
	if cap(s.free)-len(s.free) < len(b) {
		s.free = make([]byte, 0, slabSize)
	}
	n := len(s.free)
	s.free = append(s.free, b...)
	return s.free[n:len(s.free):len(s.free)]
}
