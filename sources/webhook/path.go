package webhook

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// path is a parsed path: the parts between its slashes. The last is empty when the path ends with a slash.
type path []part

// part is a literal text, unescaped, or the name of a parameter.
type part struct {
	text  string
	param bool
}

// parsePath reads a path such as /shops/{shop}/orders.
func parsePath(s string) (path, error) {
	switch {
	case s == "":
		return nil, errors.New("must not be empty; write /orders")
	case s[0] != '/':
		return nil, fmt.Errorf("must begin with a slash: /%s", s)
	case strings.ContainsAny(s, "?#"):
		return nil, errors.New(`is a path without "?" and "#"; expressions find the query as query.name`)
	}
	texts := strings.Split(s[1:], "/")
	parts := make(path, 0, len(texts))
	names := map[string]bool{}
	for i, text := range texts {
		p, err := parsePart(text, i == len(texts)-1)
		if err != nil {
			return nil, err
		}
		if p.param && names[p.text] {
			return nil, fmt.Errorf("the parameter {%s} is there twice", p.text)
		}
		names[p.text] = names[p.text] || p.param
		parts = append(parts, p)
	}
	return parts, nil
}

func parsePart(s string, last bool) (part, error) {
	if s == "" && !last {
		return part{}, errors.New("two slashes in a row match no request")
	}
	if strings.ContainsAny(s, "{}") {
		name := strings.TrimSuffix(strings.TrimPrefix(s, "{"), "}")
		if len(name) != len(s)-2 || !isName(name) {
			return part{}, fmt.Errorf("%q: a parameter takes the whole place between two slashes and is written {name}, "+
				"in letters, digits and _", s)
		}
		return part{name, true}, nil
	}
	text, err := url.PathUnescape(s)
	switch {
	case err != nil:
		return part{}, fmt.Errorf("%q: %w", s, err)
	case text == "." || text == "..":
		return part{}, fmt.Errorf("%q matches no request", s)
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7F }) && text == s:
		return part{}, fmt.Errorf("%q: white space must be written as %%20", s)
	}
	return part{text: text}, nil
}

func isName(s string) bool {
	for i, r := range s {
		letter := r == '_' || (r|0x20 >= 'a' && r|0x20 <= 'z')
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}

// normal is the same for two paths exactly if they match the same requests.
func (p path) normal() string {
	var b strings.Builder
	for _, part := range p {
		b.WriteByte('/')
		if part.param {
			b.WriteString("{}")
		} else {
			b.WriteString(url.PathEscape(part.text))
		}
	}
	return b.String()
}
