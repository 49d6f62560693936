package pipelines

import (
	"regexp"
	"strconv"
	"strings"
)

// tag is the type that YAML 1.2 gives to a plain scalar by its form.
type tag uint8

const (
	stringTag tag = iota
	nullTag
	boolTag
	intTag
	floatTag
)

// The forms of the core schema of YAML 1.2. So yes, no, on and off are text, 010 is ten, and 1:30 is text.
var (
	intForm   = regexp.MustCompile(`^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$`)
	floatForm = regexp.MustCompile(`^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$`)
)

// resolve says which type the plain scalar text has. The infinities and not-a-number are text here: nothing in Millrace takes them.
func resolve(text string) tag {
	switch text {
	case "", "~", "null", "Null", "NULL":
		return nullTag
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return boolTag
	}
	if len(text) > 64 {
		return stringTag
	}
	if intForm.MatchString(text) {
		return intTag
	}
	if floatForm.MatchString(text) {
		return floatTag
	}
	return stringTag
}

// parseInt reads text of intTag.
func parseInt(text string) (int64, error) {
	if digits, ok := strings.CutPrefix(text, "0o"); ok {
		return strconv.ParseInt(digits, 8, 64)
	}
	if digits, ok := strings.CutPrefix(text, "0x"); ok {
		return strconv.ParseInt(digits, 16, 64)
	}
	return strconv.ParseInt(text, 10, 64)
}

// constant writes a plain number or boolean as an expression that yields it; other text is an expression already.
func constant(text string) string {
	switch resolve(text) {
	case boolTag:
		return strings.ToLower(text)
	case intTag:
		if n, err := parseInt(text); err == nil {
			return strconv.FormatInt(n, 10)
		}
	case floatTag:
		if strings.HasPrefix(strings.TrimLeft(text, "+-"), ".") || strings.HasPrefix(text, "+") || strings.Contains(text, ".e") ||
			strings.Contains(text, ".E") || strings.HasSuffix(text, ".") {
			if f, err := strconv.ParseFloat(text, 64); err == nil {
				return strconv.FormatFloat(f, 'g', -1, 64)
			}
		}
	}
	return text
}
