package storage

import (
	"bytes"
	"encoding/json"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

// appendText appends the data as it is. Only JSON with line breaks between its tokens loses them: any other data keeps its own.
func appendText(dst []byte, ev *event.Event) []byte {
	if bytes.IndexByte(ev.Data, '\n') >= 0 && ev.IsJSON() {
		if line := bytes.NewBuffer(dst); codec.HasJSON(ev) && json.Compact(line, ev.Data) == nil {
			return line.Bytes()
		}
	}
	return append(dst, ev.Data...)
}
