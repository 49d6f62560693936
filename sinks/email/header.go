package email

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/millrace-run/millrace/rules"
)

const (
	maxHeader = 10_000 // bytes of a header's value
	maxWord   = 70     // bytes of plain text without a space, so that a line can be folded
	maxToken  = 900    // the same where an encoded value would not be understood; a line may have 998
)

// header is one header that the user asked for.
type header struct {
	name  string
	value rules.Template
}

func checkHeaders(set map[string]rules.Template) ([]header, error) {
	var headers []header
	var errs []error
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		err := checkHeader(name, canonical, set[name])
		if first, twice := seen[canonical]; twice && err == nil {
			err = fmt.Errorf("the same header as %q", first)
		}
		seen[canonical] = name
		if err != nil {
			errs = append(errs, keyError("headers."+name, err))
			continue
		}
		headers = append(headers, header{name: name, value: set[name]})
	}
	return headers, errors.Join(errs...)
}

func checkHeader(name, canonical string, value rules.Template) error {
	if name == "" || len(name) > maxWord || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) {
		return errors.New("not a valid name of a header")
	}
	if err := reserved(canonical); err != nil {
		return err
	}
	return checkSubject(value)
}

// reserved says why a header is not the user's to set.
func reserved(canonical string) error {
	switch canonical {
	case "From", "To", "Cc", "Bcc", "Reply-To", "Subject":
		return fmt.Errorf("this header has a key of its own: %s", strings.ReplaceAll(strings.ToLower(canonical), "-", "_"))
	case "Date", "Message-Id", "Mime-Version", "Auto-Submitted", attemptHeader:
		return errors.New("this header is set by Millrace")
	case "Sender", "Return-Path", "Received", "Received-Spf", "Delivered-To", "Authentication-Results", "Dkim-Signature":
		return errors.New("this header belongs to the transport and cannot be set")
	}
	for _, prefix := range []string{"Content-", "Resent-", "Arc-"} {
		if strings.HasPrefix(canonical, prefix) {
			return errors.New("this header belongs to the structure of the mail and cannot be set")
		}
	}
	return nil
}

// checkSubject looks at what is known of a line before the first event. White space around it is no fault: a YAML block ends
// with a line feed.
func checkSubject(t rules.Template) error {
	text, _, err := skeleton(t)
	if err != nil {
		return err
	}
	return checkLine(strings.TrimSpace(text))
}

// checkLine refuses what could end a header or a command, or hide in it.
func checkLine(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("it is not valid UTF-8")
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("there is a control character or a line break in it")
	}
	return nil
}

// renderLine fills in the value of a header. A line break in what an expression yields is an error, even at its end.
func renderLine(t rules.Template, in *rules.Input) (string, error) {
	var fault error
	text, err := t.RenderEscaped(in, func(s string) string {
		if err := checkLine(s); err != nil {
			fault = err
		}
		return s
	})
	if err := errors.Join(err, fault); err != nil {
		return "", withoutSource(err)
	}
	text = strings.TrimSpace(text)
	if len(text) > maxHeader {
		return "", fmt.Errorf("it is longer than %d bytes", maxHeader)
	}
	return text, checkLine(text)
}

// withoutSource takes the template's text off its error and leaves what happened and where: a header's value may be a secret.
func withoutSource(err error) error {
	var e *rules.Error
	if !errors.As(err, &e) {
		return err
	}
	at := fmt.Sprintf(", at %d:%d", e.Line, e.Col)
	problem, _, _ := strings.Cut(e.Problem, at+" of ")
	return &rules.Error{Line: e.Line, Col: e.Col, Width: e.Width, Problem: strings.TrimSuffix(problem, at) + at, Hint: e.Hint}
}

// isPlain says whether text stands for itself in a header: printable ASCII that survives folding and that no reader takes for
// an encoded word. Without that last point, text out of an event could carry a line break past every check.
func isPlain(s string, longest int) bool {
	if strings.Contains(s, "=?") || strings.Contains(s, "  ") || strings.TrimSpace(s) != s {
		return false
	}
	for word := range strings.SplitSeq(s, " ") {
		if len(word) > longest {
			return false
		}
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// encode writes text for a header, as encoded words of RFC 2047 where it is not plain.
func encode(s string, longest int) string {
	if isPlain(s, longest) {
		return s
	}
	return strings.Join(encodedWords(s), " ")
}

// encodedWords encodes all of the text, whatever it holds. A reader drops the white space between two of the words.
func encodedWords(s string) []string {
	const most = 45 // bytes, which make a word of 72
	var words []string
	for s != "" {
		n := min(len(s), most)
		for n < len(s) && !utf8.RuneStart(s[n]) {
			n--
		}
		words = append(words, "=?utf-8?B?"+base64.StdEncoding.EncodeToString([]byte(s[:n]))+"?=")
		s = s[n:]
	}
	return words
}

// write returns the mailbox for a header, folded.
func (m mailbox) write() string {
	address := "<" + m.address() + ">"
	switch {
	case m.name == "":
		return address
	case isPlain(m.name, maxWord) && len(m.name) <= maxWord && !strings.ContainsAny(m.name, `"\`):
		return `"` + m.name + `" ` + address
	}
	return strings.Join(append(encodedWords(m.name), address), "\r\n ")
}

func writeMailboxes(list []mailbox) string {
	written := make([]string, len(list))
	for i, m := range list {
		written[i] = m.write()
	}
	return strings.Join(written, ",\r\n ")
}
