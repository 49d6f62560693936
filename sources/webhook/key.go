package webhook

import (
	"fmt"
	"net/http"
	"strings"
)

// maxKey bounds an idempotency key, in bytes.
const maxKey = 255

// idempotencyKey reads the header Idempotency-Key: a string of structured fields (RFC 9651) in double quotes, whose parameters are
// ignored, or bare visible characters. Without the header it returns the empty string.
func idempotencyKey(h http.Header) (string, *problem) {
	values := h["Idempotency-Key"]
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", malformed("the header Idempotency-Key was sent more than once")
	}
	key, ok := values[0], true
	if strings.HasPrefix(key, `"`) {
		key, ok = quotedKey(key)
	} else {
		ok = !strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' })
	}
	switch {
	case !ok:
		return "", malformed(`Idempotency-Key is neither a string in double quotes nor a word of visible ASCII characters`)
	case key == "":
		return "", malformed("Idempotency-Key is empty")
	case len(key) > maxKey:
		return "", malformed(fmt.Sprintf("Idempotency-Key has more than %d characters", maxKey))
	}
	return key, nil
}

// quotedKey reads a string of structured fields; s begins with its opening quote.
func quotedKey(s string) (string, bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			rest := strings.TrimLeft(s[i+1:], " ")
			return b.String(), rest == "" || rest[0] == ';'
		case c == '\\':
			if i++; i == len(s) || (s[i] != '"' && s[i] != '\\') {
				return "", false
			}
			b.WriteByte(s[i])
		case c < ' ' || c > '~':
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}
