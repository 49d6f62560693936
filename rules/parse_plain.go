package rules

import "strings"

// plainWeb reads the lines that nearly all are: three words, a time, a request of three parts, status, bytes, and with combined
// referer and agent; no backslash, and nothing behind. It says false, with nothing in into, of any other line, which webLine then
// reads: what both read, they read alike.
func plainWeb(line string, into *record, combined bool) bool {
	host, at := plainWord(line, 0)
	ident, at := plainWord(line, at)
	user, at := plainWord(line, at)
	if host == "" || ident == "" || user == "" || ident[0] == '[' || user[0] == '[' {
		return false
	}
	end := at + 1 + len(clockForm)
	if end+3 > len(line) || line[at] != '[' || line[end:end+3] != `] "` || !into.isClock(line[at+1:end]) {
		return false
	}
	clock := line[at+1 : end]
	request, at := plainQuote(line, end+2)
	if at >= len(line) {
		return false
	}
	method, rest, _ := strings.Cut(request, " ")
	space := strings.LastIndexByte(rest, ' ')
	if space <= 0 || !strings.HasPrefix(rest[space+1:], "HTTP/") {
		return false
	}
	status, at := plainWord(line, at)
	size, at := plainNumber(line, at)
	if len(status) != 3 || status[0] < '1' || status[0] > '9' || !isDigit(status[1]) || !isDigit(status[2]) || size == "" {
		return false
	}
	var referer, agent string
	if combined {
		if referer, at = plainQuote(line, at); at > 0 {
			agent, at = plainQuote(line, at)
		}
	}
	// What a quote ends with is not looked for on the way: without any backslash in the line it ends at the next one.
	if at != len(line)+1 || strings.IndexByte(line, '\\') >= 0 {
		return false
	}
	into.names = append(into.names[:0], webNames[:]...)
	into.values = append(into.values[:0], found{foundText, host}, orDash(ident), orDash(user), found{foundClock, clock},
		found{foundText, method}, found{foundText, rest[:space]}, found{foundText, rest[space+1:]},
		found{foundNumber, status}, numberOrDash(size), orDash(referer), orDash(agent))
	if !combined {
		into.names, into.values = into.names[:len(webNames)-2], into.values[:len(webNames)-2]
	}
	return true
}

// webNames are the fields of a line without a virtual host, in their order.
var webNames = [...]string{"host", "ident", "user", "time", "method", "path", "protocol", "status", "bytes", "referer", "agent"}

// plainWord is the text up to the next space, and the place behind that; empty, and 0, where there is none. Words are short, so
// that a loop is faster than a call of anything that looks at many bytes at once.
func plainWord(line string, at int) (string, int) {
	for i := at; i < len(line); i++ {
		if line[i] == ' ' {
			return line[at:i], i + 1
		}
	}
	return "", 0
}

// plainNumber is a whole number or a dash, and the place behind the space after it; behind the end of the line it is one more.
func plainNumber(line string, at int) (string, int) {
	i := at
	for i < len(line) && isDigit(line[i]) {
		i++
	}
	switch {
	case i == at && i < len(line) && line[i] == '-':
		i++
	case i == at, line[at] == '0' && i > at+1:
		return "", 0
	}
	if i < len(line) && line[i] != ' ' {
		return "", 0
	}
	return line[at:i], i + 1
}

// plainQuote is a quoted text, and the place behind the space after it; 0 where there is none.
func plainQuote(line string, at int) (string, int) {
	if at >= len(line) || line[at] != '"' {
		return "", 0
	}
	n := strings.IndexByte(line[at+1:], '"')
	end := at + 1 + n
	if n < 0 || end+1 < len(line) && line[end+1] != ' ' {
		return "", 0
	}
	return line[at+1 : end], end + 2
}

func isDigit(c byte) bool { return c-'0' <= 9 }

func numberOrDash(text string) found {
	if text == "-" {
		return found{}
	}
	return found{foundNumber, text}
}

// isClock is isClock of a text that is often the same as the one before: many lines are written in one second.
func (r *record) isClock(t string) bool {
	if string(r.clock[:]) == t {
		return true
	}
	if !isClock(t) {
		return false
	}
	copy(r.clock[:], t)
	return true
}
