package codec

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxElement is how many bytes PathElement yields at most.
const maxElement = 120

// PathElement makes one element of a path, or a part of one, out of any text. Different texts make different elements: the percent
// sign is encoded too, an underscore alone is encoded because it stands for the empty text, and the mark between the beginning
// of a long text and its hash is one that no encoding yields.
func PathElement(text string) string {
	switch text {
	case "":
		return "_"
	case "_":
		return "%5F"
	}
	const hashed = "%h" // followed by 32 hexadecimal digits
	var b strings.Builder
	fits := 0 // how much of b may stay in front of a hash
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if breaksPath(r, size, i) {
			for _, c := range []byte(text[i : i+size]) {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		} else {
			b.WriteString(text[i : i+size])
		}
		i += size
		if b.Len() <= maxElement-len(hashed)-32 {
			fits = b.Len()
		}
		if b.Len() > maxElement {
			sum := sha256.Sum256([]byte(text))
			return b.String()[:fits] + hashed + hex.EncodeToString(sum[:16])
		}
	}
	return b.String()
}

// breaksPath looks at the rune at an index. Bytes that are not UTF-8 are encoded too, since some file systems refuse them.
func breaksPath(r rune, size, at int) bool {
	return r == '/' || r == '\\' || r == '%' || r == '.' && at == 0 || unicode.IsControl(r) || r == utf8.RuneError && size == 1
}
