package codec

import (
	"encoding/base64"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/millrace-run/millrace/event"
)

// AttributeError says which attribute (or data) keeps an event from being a valid CloudEvent, and why.
type AttributeError struct {
	Name    string
	Problem string
}

// Error is "name: problem".
func (e *AttributeError) Error() string { return e.Name + ": " + e.Problem }

// Validate says whether e is a valid CloudEvent: required attributes are there, each has the form of its type, and no text
// holds what CloudEvents forbid (control characters, noncharacters, invalid UTF-8). It does not look into the data. Its
// error is an *AttributeError about the first fault. A name longer than 20 characters is allowed, as is a fragment in dataschema.
func Validate(e *event.Event) error {
	for _, required := range [...]struct{ name, text string }{{"id", e.ID}, {"source", e.Source}, {"type", e.Type}} {
		if required.text == "" {
			return &AttributeError{required.name, "is missing"}
		}
	}
	problem, name := "", ""
	switch {
	case fails(&problem, textProblem(e.ID)):
		name = "id"
	case fails(&problem, uriReferenceProblem(e.Source)):
		name = "source"
	case fails(&problem, textProblem(e.Type)):
		name = "type"
	case fails(&problem, textProblem(e.Subject)):
		name = "subject"
	case e.Time != "" && fails(&problem, timeProblem(e.Time)):
		name = "time"
	case e.DataContentType != "" && fails(&problem, mediaTypeProblem(e.DataContentType)):
		name = "datacontenttype"
	case e.DataSchema != "" && fails(&problem, uriProblem(e.DataSchema)):
		name = "dataschema"
	default:
		return validateExtensions(e.Extensions)
	}
	return &AttributeError{name, problem}
}

func fails(to *string, problem string) bool {
	*to = problem
	return problem != ""
}

func validateExtensions(all []event.Extension) error {
	for i, x := range all {
		problem := NameProblem(x.Name)
		if problem == "" {
			problem = valueProblem(x)
		}
		if problem == "" && i > 0 && all[i-1].Name >= x.Name {
			problem = "extensions must be sorted by name and unique"
		}
		if problem != "" {
			return &AttributeError{x.Name, problem}
		}
	}
	return nil
}

// NameProblem says why name cannot be that of an extension attribute; empty if it can.
func NameProblem(name string) string {
	switch name {
	case "":
		return "a name must not be empty"
	case "data":
		return "the name is reserved by CloudEvents"
	case "id", "source", "type", "specversion", "subject", "time", "datacontenttype", "dataschema":
		return "is not an extension attribute"
	}
	for i := range len(name) {
		if b := name[i]; !isDigit(b) && (b < 'a' || b > 'z') {
			return "a name consists of lower-case letters and digits"
		}
	}
	return ""
}

func valueProblem(x event.Extension) string {
	switch x.Kind {
	case event.Boolean:
		if x.Text != "true" && x.Text != "false" {
			return `must be "true" or "false"`
		}
	case event.Integer:
		return integerProblem(x.Text)
	case event.Binary:
		if _, err := base64.StdEncoding.DecodeString(x.Text); err != nil {
			return "is not base64"
		}
	case event.URI:
		return uriProblem(x.Text)
	case event.URIReference:
		return uriReferenceProblem(x.Text)
	case event.Timestamp:
		return timeProblem(x.Text)
	}
	return textProblem(x.Text)
}

// integerProblem takes what JSON and CloudEvents both call an integer: digits with a minus at most, within 32 bits.
func integerProblem(s string) string {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || (digits[0] == '0' && len(digits) > 1) || strings.Trim(digits, "0123456789") != "" {
		return "must be an integer"
	}
	if _, err := strconv.ParseInt(s, 10, 32); err != nil {
		return "must be an integer of 32 bits; send a larger one as a string"
	}
	return ""
}

func textProblem(s string) string {
	for i := 0; i < len(s); i++ {
		if b := s[i]; b < ' ' || b > '~' {
			return unicodeProblem(s[i:])
		}
	}
	return ""
}

func unicodeProblem(s string) string {
	for i, r := range s {
		switch {
		case r < ' ' || (r >= 0x7F && r <= 0x9F):
			return "must not contain control characters"
		case r == utf8.RuneError && strings.HasPrefix(s[i:], "\xEF\xBF\xBD"):
			// U+FFFD itself is allowed.
		case r == utf8.RuneError:
			return "is not valid UTF-8"
		case (r >= 0xFDD0 && r <= 0xFDEF) || r&0xFFFE == 0xFFFE:
			return "must not contain noncharacters of Unicode"
		}
	}
	return ""
}

// uriReferenceProblem checks the characters of RFC 3986, its escapes, and that what precedes a first colon is a scheme.
func uriReferenceProblem(s string) string {
	for i := 0; i < len(s); i++ {
		switch b := s[i]; {
		case b == '%':
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return `is not a URI reference: "%" needs two hexadecimal digits`
			}
		case !uriBytes[b]:
			return "is not a URI reference: " + strconv.QuoteRune(firstRune(s[i:])) + " must be percent-encoded"
		}
	}
	if colon := strings.IndexAny(s, ":/?#"); colon >= 0 && s[colon] == ':' && !isScheme(s[:colon]) {
		return `is not a URI reference: what precedes ":" is not a scheme; begin a relative one with "./"`
	}
	return authorityProblem(s)
}

// authorityProblem checks what stands between // and the path: a host in brackets is an IP address of version 6 or later, and a
// port is a number. Brackets elsewhere are let through, as browsers write them into queries.
func authorityProblem(s string) string {
	if colon := strings.IndexAny(s, ":/?#"); colon >= 0 && s[colon] == ':' {
		s = s[colon+1:]
	}
	s, ok := strings.CutPrefix(s, "//")
	if !ok {
		return ""
	}
	if end := strings.IndexAny(s, "/?#"); end >= 0 {
		s = s[:end]
	}
	host := s[strings.LastIndexByte(s, '@')+1:]
	if inner, bracketed := strings.CutPrefix(host, "["); bracketed {
		address, rest, closed := strings.Cut(inner, "]")
		if !closed || address == "" || rest != "" && rest[0] != ':' {
			return "is not a URI reference: its host has a [ without an address and ] behind it"
		}
		host = rest
	}
	name, port, _ := strings.Cut(host, ":")
	switch {
	case strings.ContainsAny(name, "[]"):
		return "is not a URI reference: its host has a bracket that belongs to no address"
	case strings.Trim(port, "0123456789") != "":
		return "is not a URI reference: its port is not a number"
	}
	return ""
}

// uriBytes are the characters that a URI may have, "%" apart.
var uriBytes = func() (set [256]bool) {
	for _, b := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/?#[]@!$&'()*+,;=") {
		set[b] = true
	}
	return set
}()

func firstRune(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

func uriProblem(s string) string {
	if problem := uriReferenceProblem(s); problem != "" {
		return strings.Replace(problem, "URI reference", "URI", 1)
	}
	colon := strings.IndexAny(s, ":/?#")
	if colon < 0 || s[colon] != ':' || colon+1 == len(s) {
		return "must be an absolute URI, one that begins with a scheme"
	}
	return ""
}

func isScheme(s string) bool {
	for i := range len(s) {
		letter := s[i]|0x20 >= 'a' && s[i]|0x20 <= 'z'
		if !letter && (i == 0 || (!isDigit(s[i]) && strings.IndexByte("+-.", s[i]) < 0)) {
			return false
		}
	}
	return s != ""
}

func isHex(b byte) bool {
	_, ok := hexDigit(b)
	return ok
}

// timeProblem checks the grammar of RFC 3339 and that the day exists. T and Z may be lower-case and a minute may have a
// second 60, as there.
func timeProblem(s string) string {
	const problem = "is not a time of RFC 3339, such as 2026-01-02T15:04:05Z"
	if len(s) < len("2006-01-02T15:04:05Z") || !matches(s[:19], "dddd-dd-ddTdd:dd:dd") {
		return problem
	}
	year, month, day := number(s[0:4]), number(s[5:7]), number(s[8:10])
	if month < 1 || month > 12 || day < 1 || day > daysIn(year,
		month) || number(s[11:13]) > 23 || number(s[14:16]) > 59 || number(s[17:19]) > 60 {
		return problem
	}
	zone := s[19:]
	if zone[0] == '.' {
		digits := len(zone) - 1 - len(strings.TrimLeft(zone[1:], "0123456789"))
		if digits == 0 {
			return problem
		}
		zone = zone[1+digits:]
	}
	if zone == "Z" || zone == "z" {
		return ""
	}
	if len(zone) != 6 || (zone[0] != '+' && zone[0] != '-') || !matches(zone[1:],
		"dd:dd") || number(zone[1:3]) > 23 || number(zone[4:6]) > 59 {
		return problem
	}
	return ""
}

// matches compares with a pattern of equal length in which d is a digit and T may be lower-case.
func matches(s, pattern string) bool {
	for i := range len(pattern) {
		switch p := pattern[i]; {
		case p == 'd' && isDigit(s[i]):
		case p == 'T' && s[i]|0x20 == 't':
		case p == s[i] && p != 'd':
		default:
			return false
		}
	}
	return true
}

// number reads decimal digits, which s is known to consist of.
func number(s string) int {
	n := 0
	for i := range len(s) {
		n = n*10 + int(s[i]-'0')
	}
	return n
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// mediaTypeProblem checks type, subtype and that parameters, if any, are printable.
func mediaTypeProblem(s string) string {
	kind, _, _ := strings.Cut(s, ";")
	major, minor, ok := strings.Cut(strings.TrimRight(kind, " \t"), "/")
	if !ok || !isToken(major) || !isToken(minor) {
		return "is not a media type, such as application/json"
	}
	return textProblem(s)
}

// isToken says whether s is a token of RFC 9110.
func isToken(s string) bool {
	for i := range len(s) {
		if b := s[i]; !isDigit(b) && (b|0x20 < 'a' || b|0x20 > 'z') && strings.IndexByte("!#$%&'*+-.^_`|~", b) < 0 {
			return false
		}
	}
	return s != ""
}
