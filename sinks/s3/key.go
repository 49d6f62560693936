package s3

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/rules"
)

// maxPrefix is how long a prefix may be: a key has 1,024 bytes at most, of which the name takes less than a hundred.
const maxPrefix = 900

// prefixOf is what the key of the event's object begins with. Its error is the event's fault.
func prefixOf(t rules.Template, ev *event.Event) (string, error) {
	text, literal := t.Literal()
	if literal {
		return text, nil
	}
	text, err := t.RenderEscaped(&rules.Input{Event: ev}, codec.PathElement)
	if err == nil {
		err = checkKey(text)
	}
	if err != nil {
		return "", fmt.Errorf("key: %w", err)
	}
	return text, nil
}

// checkKey refuses keys that stores take, and the tools of their users do not.
func checkKey(prefix string) error {
	switch {
	case !utf8.ValidString(prefix) || strings.ContainsFunc(prefix, unicode.IsControl):
		return errors.New("there is a control character in it, or it is not UTF-8")
	case len(prefix) > maxPrefix:
		return fmt.Errorf("it is longer than %d bytes", maxPrefix)
	}
	folders := strings.Split(prefix, "/")
	for _, name := range folders[:len(folders)-1] {
		if name == "" || name == "." || name == ".." {
			return errors.New("there is /, // or a folder named . or .. in it, which tools read as something else")
		}
	}
	return nil
}

// member is who an event is, at every attempt and after every restart.
type member [16]byte

func memberOf(d *event.Delivery) member {
	sum := sha256.Sum256([]byte(d.Key))
	return member(sum[:16])
}

// nameOf names an object: see the package comment.
func nameOf(first time.Time, number uint64, members []byte, suffix string) string {
	h := sha256.New()
	_ = binary.Write(h, binary.BigEndian, number)
	h.Write(members)
	sum := h.Sum(nil)
	return fmt.Sprintf("%s-%010d-%s%s", first.UTC().Format("20060102T150405.000Z"), number, hex.EncodeToString(sum[:8]), suffix)
}
