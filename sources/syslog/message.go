package syslog

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net"
	"net/netip"
	"time"

	"github.com/millrace-run/millrace/event"
)

// eventType is the type of all events of this source.
const eventType = "millrace.syslog"

// maker makes events of the messages of one peer. It is not safe for concurrent use.
type maker struct {
	*Source
	by         *protocolCounts
	peer       string
	extensions []event.Extension // shared by all events of the peer
	cut        []event.Extension
	host       string // of the last message, with its source: a peer is mostly one host
	source     string
}

func (s *Source) newMaker(protocol string, peer netip.Addr) *maker {
	peer = peer.Unmap()
	address := event.Extension{Name: "peer", Kind: event.String, Text: peer.String()}
	return &maker{
		Source: s, by: s.counts.of(protocol), peer: address.Text, source: sourceOf(address.Text), extensions: []event.Extension{address},
		cut: []event.Extension{address, {Name: "truncated", Kind: event.Boolean, Text: "true"}},
	}
}

// make returns the event of a message, which may be changed afterwards.
func (m *maker) make(in message) event.Event {
	m.by.messages.Add(1)
	now := m.clock.Now()
	e := event.Event{ID: m.newID(now), Type: eventType, Extensions: m.extensions}
	if in.cut {
		m.counts.truncated.Add(1)
		e.Extensions = m.cut
	}
	if m.config.Raw {
		e.Source, e.Data, e.DataContentType = m.source, bytes.Clone(in.text), "text/plain"
		e.Time = now.UTC().Format(time.RFC3339Nano)
		return e
	}
	parsed, err := m.reader.Read(in.text, now)
	if err != nil {
		m.counts.unparsed.Add(1)
	}
	e.Source, e.Time, e.Data, e.DataContentType = m.sourceFor(parsed.Host), parsed.Time, parsed.Data, "application/json"
	if e.Time == "" {
		e.Time = now.UTC().Format(time.RFC3339Nano)
	}
	return e
}

// Shape makes an event that stands in a test one of this source: what it does not name is as in the event of a message of this machine. Its
// data, if that is a JSON string, is the message; any other is taken for what a message was parsed to.
func (s *Source) Shape(e *event.Event) {
	made := event.Event{Source: "syslog://127.0.0.1", Data: e.Data, DataContentType: "application/json"}
	var text string
	if e.DataContentType == "" && json.Unmarshal(e.Data, &text) == nil {
		made = s.newMaker("", netip.AddrFrom4([4]byte{127, 0, 0, 1})).make(message{text: []byte(text)})
	}
	e.Type, e.Source, e.Time = cmp.Or(e.Type, eventType), cmp.Or(e.Source, made.Source), cmp.Or(e.Time, made.Time)
	e.Data, e.DataContentType = made.Data, cmp.Or(e.DataContentType, made.DataContentType)
	if _, ok := e.Extension("peer"); !ok {
		e.SetExtension(event.Extension{Name: "peer", Text: "127.0.0.1"})
	}
}

// sourceFor is the source of a message that names a host; of one that names none, or what cannot be in a URI, it is the peer's.
func (m *maker) sourceFor(host string) string {
	if host == m.host {
		return m.source
	}
	m.host, m.source = host, sourceOf(m.peer)
	if isHost(host) {
		m.source = sourceOf(host)
	}
	return m.source
}

// sourceOf is a URI of a host name or an address.
func sourceOf(host string) string {
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		return "syslog://[" + a.WithZone("").String() + "]"
	}
	return "syslog://" + host
}

// isHost says whether a text can be the host of a URI as it is.
func isHost(text string) bool {
	if text == "" || len(text) > 255 {
		return false
	}
	for i := range len(text) {
		c := text[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			a, err := netip.ParseAddr(text)
			return err == nil && a.Is6()
		}
	}
	return true
}

// addressOf is the address of a peer without its port, which says nothing about who it is.
func addressOf(a net.Addr) netip.Addr {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.IPv4Unspecified()
	}
	return p.Addr()
}
