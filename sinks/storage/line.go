package storage

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

// appendEvent appends an event as a structured CloudEvent on one line.
func appendEvent(dst []byte, ev *event.Event) []byte { return codec.EncodeJSON(dst, ev) }

// appendText appends the data as it is. Only JSON with line breaks between its tokens loses them: any other data keeps its own.
func appendText(dst []byte, ev *event.Event) []byte {
	if bytes.IndexByte(ev.Data, '\n') >= 0 && ev.IsJSON() {
		if line := bytes.NewBuffer(dst); codec.HasJSON(ev) && json.Compact(line, ev.Data) == nil {
			return line.Bytes()
		}
	}
	return append(dst, ev.Data...)
}

// appendValue appends the data as one JSON value without a line feed in it: without the space between its tokens if it is JSON by
// its content type, or has none, and the bytes agree; as a string if it is other text; else as a string of base64. An event
// without data is null.
func appendValue(dst []byte, ev *event.Event) []byte {
	switch {
	case ev.Data == nil:
		return append(dst, "null"...)
	case ev.IsJSON():
		if line := bytes.NewBuffer(dst); codec.HasJSON(ev) && json.Compact(line, ev.Data) == nil {
			return line.Bytes()
		}
	case !isOctets(ev.DataContentType) && utf8.Valid(ev.Data):
		return codec.AppendString(dst, string(ev.Data))
	}
	dst = base64.StdEncoding.AppendEncode(append(dst, '"'), ev.Data)
	return append(dst, '"')
}

// isOctets says whether a media type promises nothing but bytes, which then are not text even where they look like it.
func isOctets(mediaType string) bool {
	kind, _, _ := strings.Cut(mediaType, ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/octet-stream")
}
