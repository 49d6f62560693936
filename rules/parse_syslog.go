package rules

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/rfc3164"
	"github.com/leodido/go-syslog/v4/rfc5424"
)

// syslogParser is the format syslog of a parse stage.
func syslogParser(zone *time.Location) lineParser {
	r := newSyslogReader(zone)
	return func(line string, s *Subject, into *record) error {
		_, err := r.read(line, s.Event.Received, into)
		return err
	}
}

// syslogReader reads messages of RFC 5424, or of RFC 3164 where the version behind the priority is missing. A time of RFC 3164 has no
// year: it gets the one that brings it nearest to when the message was received, and zone is its time zone. It is safe for concurrent use.
type syslogReader struct{ modern, old sync.Pool }

func newSyslogReader(zone *time.Location) *syslogReader {
	r := &syslogReader{}
	r.modern.New = func() any { return rfc5424.NewMachine() }
	r.old.New = func() any {
		return rfc3164.NewMachine(rfc3164.WithLocaleTimezone(zone), rfc3164.WithRFC3339(), rfc3164.WithLenientDay(), rfc3164.WithSecondFractions(),
			rfc3164.WithEmbeddedNewlines())
	}
	return r
}

// read adds the members of a message, and returns what both formats have.
func (r *syslogReader) read(line string, received time.Time, into *record) (*syslog.Base, error) {
	if isModern(line) {
		m, err := parseWith(&r.modern, line)
		if err != nil {
			return nil, fault("not a syslog message of RFC 5424: %v", err)
		}
		message := m.(*rfc5424.SyslogMessage)
		if message.Message != nil { // the mark only says that the text is UTF-8
			*message.Message = strings.TrimPrefix(*message.Message, "\ufeff")
		}
		addSyslog(into, &message.Base)
		addStructured(into, message.StructuredData)
		return &message.Base, nil
	}
	m, err := parseWith(&r.old, line)
	if err != nil {
		return nil, fault("not a syslog message of RFC 3164: %v", err)
	}
	base := &m.(*rfc3164.SyslogMessage).Base
	if t := base.Timestamp; t != nil && t.Year() == 0 {
		*t = nearestYear(*t, received)
	}
	addSyslog(into, base)
	return base, nil
}

// parseWith parses with a machine, which serves one message at a time. The machines are generated, and what they read comes from
// anybody: one that fails must not end the process, so that a panic is an error of the message, and its machine is not used again.
func parseWith(pool *sync.Pool, line string) (m syslog.Message, err error) {
	machine := pool.Get().(syslog.Machine)
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("the parser failed: %v", p)
			return
		}
		pool.Put(machine)
	}()
	m, err = machine.Parse(bytesOf(line))
	if err == nil && m == nil { // of a message of RFC 3164 that ends too early
		return nil, errors.New("it ends before its time and text")
	}
	return m, err
}

// isModern says whether a version follows the priority, as in <34>1 and a space.
func isModern(line string) bool {
	i := 0
	for i < len(line) && i < 5 && line[i] != '>' {
		i++
	}
	start := i + 1
	for i = start; i < len(line) && line[i] >= '0' && line[i] <= '9'; i++ {
	}
	return i > start && i-start <= 3 && i < len(line) && line[i] == ' '
}

// nearestYear gives a time without a year the one that brings it nearest to received; without received it stays.
func nearestYear(t, received time.Time) time.Time {
	if received.IsZero() {
		return t
	}
	best := t
	for i, year := range []int{received.Year() - 1, received.Year(), received.Year() + 1} {
		candidate := time.Date(year, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), t.Location())
		if i == 0 || candidate.Sub(received).Abs() < best.Sub(received).Abs() {
			best = candidate
		}
	}
	return best
}

// addSyslog adds what both formats have; what a message lacks is null.
func addSyslog(into *record, m *syslog.Base) {
	number := func(name string, n *uint8) {
		v := found{}
		if n != nil {
			v = found{foundNumber, strconv.Itoa(int(*n))}
		}
		into.add(name, v)
	}
	text := func(name string, s *string) {
		v := found{}
		if s != nil {
			v = found{foundText, *s}
		}
		into.add(name, v)
	}
	number("priority", m.Priority)
	text("facility", m.FacilityLevel())
	text("severity", m.SeverityLevel())
	at := found{}
	if m.Timestamp != nil {
		at = found{foundText, m.Timestamp.Format(time.RFC3339Nano)}
	}
	into.add("time", at)
	text("host", m.Hostname)
	text("app", m.Appname)
	text("proc_id", m.ProcID)
	text("msg_id", m.MsgID)
	text("message", m.Message)
}

// addStructured adds the structured data of RFC 5424 as an object of objects.
func addStructured(into *record, data *map[string]map[string]string) {
	if data == nil {
		return
	}
	out := []byte{'{'}
	for i, id := range sortedNames(*data) {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendString(out, id), ':', '{')
		for j, name := range sortedNames((*data)[id]) {
			if j > 0 {
				out = append(out, ',')
			}
			out = appendString(append(appendString(out, name), ':'), (*data)[id][name])
		}
		out = append(out, '}')
	}
	into.add("structured_data", found{foundJSON, alias(append(out, '}'))})
}
