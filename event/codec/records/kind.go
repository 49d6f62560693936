package records

import (
	"unicode/utf8"
)

// kindOf is the media type of data of which nothing is known: text is UTF-8 without control characters other than those of text.
func kindOf(data []byte) string {
	for _, b := range data {
		if b < ' ' && b != '\n' && b != '\r' && b != '\t' && b != '\f' && b != 0x1b {
			return "application/octet-stream"
		}
	}
	if !utf8.Valid(data) {
		return "application/octet-stream"
	}
	return textType
}
