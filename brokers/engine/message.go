package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-run/millrace/event"
)

// An event travels in binary mode, as brokers' own bindings have it: the data is the payload, byte for byte, and each attribute is
// a header with its text. What CloudEvents does not carry has headers of its own.
const (
	metaPrefix      = "ce-"
	metaVersion     = metaPrefix + "specversion"
	metaContentType = "content-type"

	metaReceived = "millrace-received" // RFC 3339 with nanoseconds, UTC
	metaKinds    = "millrace-kinds"    // the types of the extensions that are not strings: "name:type", separated by commas
	metaRan      = "millrace-ran"      // names of the stages that ran before, separated by commas
	metaNoData   = "millrace-no-data"  // present when the event has no data, as opposed to data of length zero
)

// kinds are the names of the CloudEvents types.
var kinds = [...]string{
	event.String: "String", event.Boolean: "Boolean", event.Integer: "Integer", event.Binary: "Binary", event.URI: "URI",
	event.URIReference: "URI-reference", event.Timestamp: "Timestamp",
}

var errNoEvent = errors.New("the message is no CloudEvent")

// encode writes all of an event but its data.
func encode(e *event.Event, meta message.Metadata) {
	set := func(key, text string) {
		if text != "" {
			meta[key] = text
		}
	}
	meta[metaVersion] = "1.0"
	set("ce-id", e.ID)
	set("ce-source", e.Source)
	set("ce-type", e.Type)
	set("ce-subject", e.Subject)
	set("ce-time", e.Time)
	set("ce-dataschema", e.DataSchema)
	set(metaContentType, e.DataContentType)
	meta[metaReceived] = e.Received.UTC().Format(time.RFC3339Nano)
	set(metaRan, strings.Join(e.Ran, ","))
	if e.Data == nil {
		meta[metaNoData] = "true"
	}
	var typed []string
	for _, x := range e.Extensions {
		meta[metaPrefix+x.Name] = x.Text
		if x.Kind != event.String && int(x.Kind) < len(kinds) {
			typed = append(typed, x.Name+":"+kinds[x.Kind])
		}
	}
	set(metaKinds, strings.Join(typed, ","))
}

// decode is the event of a message. One that others published has no time of receipt; it is received now.
func decode(m *message.Message, now time.Time) (event.Event, error) {
	meta := m.Metadata
	if meta[metaVersion] != "1.0" {
		return event.Event{}, fmt.Errorf("%w of version 1.0", errNoEvent)
	}
	e := event.Event{
		ID: meta["ce-id"], Source: meta["ce-source"], Type: meta["ce-type"], Subject: meta["ce-subject"], Time: meta["ce-time"],
		DataContentType: meta[metaContentType], DataSchema: meta["ce-dataschema"], Data: m.Payload, Received: now.UTC(),
	}
	if e.ID == "" || e.Source == "" || e.Type == "" {
		return event.Event{}, fmt.Errorf("%w: id, source or type is missing", errNoEvent)
	}
	if text, ok := meta[metaReceived]; ok {
		received, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return event.Event{}, fmt.Errorf("%w of ours: %w", errNoEvent, err)
		}
		e.Received = received.UTC()
	}
	if _, none := meta[metaNoData]; none {
		e.Data = nil
	} else if e.Data == nil {
		e.Data = []byte{}
	}
	if ran := meta[metaRan]; ran != "" {
		e.Ran = strings.Split(ran, ",")
	}
	e.Extensions = extensions(meta)
	return e, nil
}

// extensions are all attributes that are not the specification's own.
func extensions(meta message.Metadata) []event.Extension {
	var list []event.Extension
	for key, text := range meta {
		name, ok := strings.CutPrefix(key, metaPrefix)
		if !ok {
			continue
		}
		switch name {
		case "specversion", "id", "source", "type", "subject", "time", "dataschema":
		default:
			list = append(list, event.Extension{Name: name, Text: text})
		}
	}
	if len(list) == 0 {
		return nil
	}
	slices.SortFunc(list, func(a, b event.Extension) int { return cmp.Compare(a.Name, b.Name) })
	for pair := range strings.SplitSeq(meta[metaKinds], ",") {
		name, kind, _ := strings.Cut(pair, ":")
		i, found := slices.BinarySearchFunc(list, name, func(x event.Extension, n string) int { return cmp.Compare(x.Name, n) })
		if k := slices.Index(kinds[:], kind); found && k > 0 {
			list[i].Kind = event.Kind(k)
		}
	}
	return list
}
