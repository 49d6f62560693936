package rules

import (
	"errors"
	"time"
)

// Syslog reads messages of syslog for a source that receives them, so that an event has the same data whether the source or a stage
// parsed it. It is safe for concurrent use.
type Syslog struct{ reader *syslogReader }

// NewSyslog returns a reader. timezone is that of times of RFC 3164, which name none; empty is UTC.
func NewSyslog(timezone string) (*Syslog, error) {
	zone, err := time.LoadLocation(timezone)
	if err != nil {
		return nil, errors.New("not a time zone of this machine, such as Europe/Berlin")
	}
	return &Syslog{newSyslogReader(zone)}, nil
}

// SyslogMessage is what a message says. Its fields share no memory with the line.
type SyslogMessage struct {
	Data []byte // an object with the members that the format syslog of a parse stage gives
	Host string // empty where the message names none
	Time string // RFC 3339; empty where the message has none
}

// Read reads one message. received decides the year of a time of RFC 3164. A line that is no message of syslog is an error, and the
// data then has it as message, with parse_error beside it: nothing that came is without data.
func (s *Syslog) Read(line []byte, received time.Time) (SyslogMessage, error) {
	var members record
	members.names, members.values = make([]string, 0, syslogMembers), make([]found, 0, syslogMembers)
	base, err := s.reader.read(alias(line), received, &members)
	if err != nil {
		members.reset()
		members.push("message", found{foundText, alias(line)})
		members.push("parse_error", found{foundText, err.Error()})
		return SyslogMessage{Data: members.appendJSON(nil)}, err
	}
	m := SyslogMessage{Data: members.appendJSON(nil)}
	if base.Hostname != nil {
		m.Host = *base.Hostname
	}
	if base.Timestamp != nil {
		m.Time = base.Timestamp.Format(time.RFC3339Nano)
	}
	return m, nil
}

// syslogMembers is how many members a message has at most.
const syslogMembers = 10
