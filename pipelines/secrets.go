package pipelines

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// secrets knows the values that must not be shown: what came from the environment or a file, and what stands at keys that
// hold secrets. Messages of the loader never quote such a value; messages of others go through hide.
type secrets struct {
	values map[string]string // value to what is shown instead
}

func (s *secrets) add(value, instead string) {
	if value == "" {
		return
	}
	if s.values == nil {
		s.values = map[string]string{}
	}
	if _, ok := s.values[value]; !ok {
		s.values[value] = instead
	}
}

// hide replaces the values in a message, longest first: as they are, as Go and URLs quote them, and pieces of them.
func (s *secrets) hide(message string) string {
	if len(s.values) == 0 {
		return message
	}
	values := make([]string, 0, len(s.values))
	for v := range s.values {
		values = append(values, v)
	}
	slices.SortFunc(values, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	for _, v := range values {
		quoted := strconv.Quote(v)
		for _, form := range []string{v, quoted[1 : len(quoted)-1], url.QueryEscape(v), url.PathEscape(v)} {
			message = replaceValue(message, form, s.values[v])
		}
	}
	return hidePieces(message, values, s.values)
}

// replaceValue replaces a value; a short one only where it stands alone, because as a part of a word it says nothing.
func replaceValue(message, value, instead string) string {
	if len(value) >= 4 {
		return strings.ReplaceAll(message, value, instead)
	}
	var b strings.Builder
	for {
		i := strings.Index(message, value)
		if i < 0 {
			b.WriteString(message)
			return b.String()
		}
		after := i + len(value)
		alone := (i == 0 || !isWord(message[i-1])) && (after == len(message) || !isWord(message[after]))
		b.WriteString(message[:i])
		if alone {
			b.WriteString(instead)
		} else {
			b.WriteString(value)
		}
		message = message[after:]
	}
}

// hidePieces hides what was cut out of a value: text in quotes that is a part of one, and words of eight bytes or more, or of
// four with something other than letters in them. Parsers of the standard library quote the part that they stumbled over.
func hidePieces(message string, values []string, instead map[string]string) string {
	piece := func(s string) bool {
		return s != "" && slices.ContainsFunc(values, func(v string) bool { return len(s) < len(v) && strings.Contains(v, s) })
	}
	parts := strings.Split(message, `"`)
	for i := range parts {
		if i%2 == 1 {
			if piece(parts[i]) && !shownInstead(parts[i], instead) {
				parts[i] = "…"
			}
			continue
		}
		words := strings.Split(parts[i], " ")
		for k, w := range words {
			t := strings.Trim(w, ".,:;()'`")
			if (len(t) >= 8 || len(t) >= 4 && strings.ContainsFunc(t, notLetter)) && piece(t) {
				words[k] = strings.Replace(w, t, "…", 1)
			}
		}
		parts[i] = strings.Join(words, " ")
	}
	return strings.Join(parts, `"`)
}

func shownInstead(s string, instead map[string]string) bool {
	for _, v := range instead {
		if s == v {
			return true
		}
	}
	return false
}

func notLetter(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') }
