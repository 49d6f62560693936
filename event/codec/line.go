package codec

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/millrace-run/millrace/event"
)

// AppendDataLine appends an event's data as one JSON value without a line feed in it: without the space between its tokens if it is
// JSON by its content type, or has none, and the bytes agree; as a string if it is other text; else as a string of base64. An event
// without data is null.
func AppendDataLine(dst []byte, ev *event.Event) []byte {
	switch {
	case ev.Data == nil:
		return append(dst, "null"...)
	case ev.IsJSON():
		if line := bytes.NewBuffer(dst); HasJSON(ev) && json.Compact(line, ev.Data) == nil {
			return line.Bytes()
		}
	case !isOctets(ev.DataContentType) && utf8.Valid(ev.Data):
		return AppendString(dst, string(ev.Data))
	}
	dst = base64.StdEncoding.AppendEncode(append(dst, '"'), ev.Data)
	return append(dst, '"')
}

// isOctets says whether a media type promises nothing but bytes, which then are not text even where they look like it.
func isOctets(mediaType string) bool {
	kind, _, _ := strings.Cut(mediaType, ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/octet-stream")
}
