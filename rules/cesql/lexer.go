package cesql

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// kind is what a token is.
type kind uint8

const (
	end kind = iota
	word
	number
	quoted
	sign // an operator or a bracket
)

// token is a piece of the source: [from, to) in bytes. text is the upper-case word, the sign, or the value of a text in quotes.
type token struct {
	kind     kind
	text     string
	from, to int
}

// lex takes a source apart.
func lex(src string) ([]token, error) {
	var tokens []token
	for at := 0; ; {
		at += len(src[at:]) - len(strings.TrimLeft(src[at:], " \t\r\n"))
		if at == len(src) {
			return append(tokens, token{end, "the end", at, at}), nil
		}
		t, err := next(src, at)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
		at = t.to
	}
}

func next(src string, at int) (token, error) {
	rest := src[at:]
	n := 0
	for n < len(rest) && isWord(rest[n]) {
		n++
	}
	switch {
	case n > 0 && strings.Trim(rest[:n], "0123456789") == "":
		return token{number, rest[:n], at, at + n}, nil
	case n > 0:
		return token{word, strings.ToUpper(rest[:n]), at, at + n}, nil
	case rest[0] == '\'' || rest[0] == '"':
		return lexText(src, at)
	}
	for _, s := range []string{"!=", "<>", ">=", "<=", "=", "<", ">", "(", ")", ",", "+", "-", "*", "/", "%"} {
		if strings.HasPrefix(rest, s) {
			return token{sign, s, at, at + len(s)}, nil
		}
	}
	r, size := utf8.DecodeRuneInString(rest)
	hint := ""
	switch {
	case r == '!':
		hint = "not equal is written != or <>, and a negation NOT"
	case r == '&' || r == '|':
		hint = "write AND or OR"
	case r == '.':
		hint = "the names of attributes have no dots, and the data cannot be seen: an expression without cesql can"
	}
	return token{}, faultAt(src, at, at+size, fmt.Sprintf("%q has no meaning in CESQL", r), hint)
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// lexText reads a text in quotes. A backslash before the quote that it is in stands for that quote; any other is itself.
func lexText(src string, at int) (token, error) {
	quote := src[at]
	for i := at + 1; i < len(src); i++ {
		switch {
		case src[i] == '\\':
			i++
		case src[i] == quote && i+1 < len(src) && src[i+1] == quote:
			return token{}, faultAt(src, i, i+2, "a quote within a text is not written twice",
				fmt.Sprintf("write \\%c, or put the text into the other quotes", quote))
		case src[i] == quote:
			text := strings.ReplaceAll(src[at+1:i], `\`+string(quote), string(quote))
			return token{quoted, text, at, i + 1}, nil
		}
	}
	return token{}, faultAt(src, at, at+1, "this quote is never closed", "")
}

func faultAt(src string, from, to int, problem, hint string) *Error {
	width := max(1, utf8.RuneCountInString(src[from:to]))
	return &Error{At: utf8.RuneCountInString(src[:from]), Width: width, Problem: problem, Hint: hint}
}
