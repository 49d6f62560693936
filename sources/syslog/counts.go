package syslog

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Reason says why a connection was refused or closed.
type Reason string

// The reasons.
const (
	ReasonFraming     Reason = "framing"     // what came is no stream of syslog
	ReasonTooLong     Reason = "too_long"    // a message of 16 times max_message or without an end
	ReasonConnections Reason = "connections" // there were max_connections already
	ReasonHandshake   Reason = "handshake"   // TLS did not come about, such as without the certificate that is asked for
	ReasonSlow        Reason = "slow"        // a message was begun and not ended for a minute
	ReasonIdle        Reason = "idle"        // idle_timeout
)

// reasons are all reasons, in a fixed order.
var reasons = [...]Reason{ReasonFraming, ReasonTooLong, ReasonConnections, ReasonHandshake, ReasonSlow, ReasonIdle}

// Counts tell what a source has done since it was made. Maps have a value for each key that there can be.
type Counts struct {
	Messages    map[string]int64 // taken, by protocol
	Refused     map[Reason]int64 // connections that were refused or closed
	Unparsed    int64            // messages that are none of RFC 5424 or 3164; they are kept
	Truncated   int64            // messages that were longer than max_message
	Incomplete  int64            // counted messages whose connection ended before they did; they are left out
	Dropped     int64            // datagrams that the system dropped because they came faster than they were taken, where it says so
	Lost        int64            // messages that were taken and could not be stored before the process had to end
	Connections int64            // open now
}

type protocolCounts struct {
	name     string
	messages atomic.Int64
}

// counts may be used by many at once.
type counts struct {
	protocols                                                   []protocolCounts // not changed after New
	refused                                                     [len(reasons)]atomic.Int64
	unparsed, truncated, incomplete, dropped, lost, connections atomic.Int64
}

func (c *counts) of(protocol string) *protocolCounts {
	for i := range c.protocols {
		if c.protocols[i].name == protocol {
			return &c.protocols[i]
		}
	}
	return &protocolCounts{}
}

// Counts may be called at any time.
func (s *Source) Counts() Counts {
	c := &s.counts
	out := Counts{
		Messages: map[string]int64{}, Refused: map[Reason]int64{}, Unparsed: c.unparsed.Load(), Truncated: c.truncated.Load(),
		Incomplete: c.incomplete.Load(), Dropped: c.dropped.Load(), Lost: c.lost.Load(), Connections: c.connections.Load(),
	}
	for i := range c.protocols {
		out.Messages[c.protocols[i].name] = c.protocols[i].messages.Load()
	}
	for i, r := range reasons {
		out.Refused[r] = c.refused[i].Load()
	}
	return out
}

func (s *Source) refuse(reason Reason, peer string, err error) {
	for i, r := range reasons {
		if r == reason {
			s.counts.refused[i].Add(1)
		}
	}
	s.told.warn(s.log, s.clock.Now(), "a connection is closed", "reason", string(reason), "peer", peer, "err", err)
}

// teller keeps those who can make a warning from filling the log: each kind is told at once, then once a minute with how many there were.
type teller struct {
	mu   sync.Mutex // guards kinds
	kind map[string]*told
}

type told struct {
	at   time.Time
	more int // since then
}

const tellEvery = time.Minute

// warn logs a message; its kind is the text with the first value.
func (t *teller) warn(log *slog.Logger, now time.Time, text string, args ...any) {
	kind := text
	if len(args) > 1 {
		if value, ok := args[1].(string); ok {
			kind += value
		}
	}
	t.mu.Lock()
	last, known := t.kind[kind]
	if known && now.Sub(last.at) < tellEvery {
		last.more++
		t.mu.Unlock()
		return
	}
	more := 0
	if known {
		more = last.more
	}
	t.kind[kind] = &told{at: now}
	t.mu.Unlock()
	if more > 0 {
		args = append(args, "more", more)
	}
	log.Warn(text, args...)
}
