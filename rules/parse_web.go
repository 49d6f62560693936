package rules

import "strings"

// webParser reads the lines of a web server: the Common Log Format (https://httpd.apache.org/docs/current/logs.html#common), and with
// combined two more quoted fields behind it, referer and agent. A virtual host in front (Apache's vhost_combined) becomes vhost, and
// what follows the last field becomes extra, as it is.
func webParser(combined bool) lineParser {
	return func(line string, _ *Subject, into *record) error {
		line = strings.TrimSuffix(line, "\r")
		if plainWeb(line, into, combined) {
			return nil
		}
		return parseWeb(line, into, combined)
	}
}

func parseWeb(line string, into *record, combined bool) error {
	w := webLine{line: line, into: into}
	w.client()
	w.clock()
	w.request()
	w.number("status", 3)
	w.number("bytes", 0)
	if combined {
		w.quoted("referer")
		w.quoted("agent")
	}
	if w.problem == "" && w.at < len(w.line) {
		w.into.push("extra", found{foundText, strings.TrimPrefix(w.line[w.at:], " ")})
	}
	if w.problem != "" {
		return fault("not a line of a web server's log: %s at byte %d", w.problem, w.at+1)
	}
	return nil
}

// webLine goes through a line from left to right. After the first problem it does nothing.
type webLine struct {
	line    string
	at      int
	into    *record
	problem string
}

func (w *webLine) fail(problem string) {
	if w.problem == "" {
		w.problem = problem
	}
}

// word is what stands up to the next space, which it steps over.
func (w *webLine) word() string {
	rest := w.line[w.at:]
	end := strings.IndexByte(rest, ' ')
	if end < 0 {
		end = len(rest)
	}
	w.at = min(w.at+end+1, len(w.line))
	return rest[:end]
}

// client reads host, ident and user. A user may hold spaces, so it ends where the time begins. Four words before the time, the first
// with a port, are those of a virtual host.
func (w *webLine) client() {
	end := strings.Index(w.line, " [")
	if end < 0 {
		w.fail("no time in brackets")
		return
	}
	head := w.line[:end]
	first, rest, _ := strings.Cut(head, " ")
	if colon := strings.IndexByte(first, ':'); colon > 0 && strings.Count(head, " ") == 3 && isPort(first[colon+1:]) {
		w.into.push("vhost", found{foundText, first})
		first, rest, _ = strings.Cut(rest, " ")
	}
	ident, user, ok := strings.Cut(rest, " ")
	if first == "" || !ok {
		w.fail("fewer than three words before the time")
		return
	}
	w.into.push("host", found{foundText, first})
	w.into.push("ident", orDash(ident))
	w.into.push("user", orDash(user))
	w.at = end + 2
}

func isPort(text string) bool {
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return text != "" && len(text) <= 5
}

// orDash is a text; a dash stands for nothing.
func orDash(text string) found {
	if text == "-" || text == "" {
		return found{}
	}
	return found{foundText, text}
}

func (w *webLine) clock() {
	if w.problem != "" {
		return
	}
	end := w.at + len(clockForm)
	if end+2 > len(w.line) || w.line[end:end+2] != "] " || !isClock(w.line[w.at:end]) {
		w.fail("no time such as 10/Oct/2000:13:55:36 -0700")
		return
	}
	w.into.push("time", found{foundClock, w.line[w.at:end]})
	w.at = end + 2
}

// request reads the request line. One that is none, which scanners send, is kept as request.
func (w *webLine) request() {
	text, ok := w.quote()
	if !ok {
		return
	}
	method, rest, _ := strings.Cut(text, " ")
	space := strings.LastIndexByte(rest, ' ')
	if space <= 0 || !strings.HasPrefix(rest[space+1:], "HTTP/") {
		for _, name := range [...]string{"method", "path", "protocol"} {
			w.into.push(name, found{})
		}
		w.into.push("request", orDash(text))
		return
	}
	w.into.push("method", found{foundText, method})
	w.into.push("path", found{foundText, rest[:space]})
	w.into.push("protocol", found{foundText, rest[space+1:]})
}

// number reads a number of so many digits (0: any), or a dash.
func (w *webLine) number(name string, digits int) {
	if w.problem != "" {
		return
	}
	start := w.at
	text := w.word()
	switch {
	case text == "-":
		w.into.push(name, found{})
	case !isJSONNumber(text) || text[0] == '-' || digits > 0 && len(text) != digits || strings.ContainsAny(text, ".eE"):
		w.at = start
		w.fail("no number for " + name)
	default:
		w.into.push(name, found{foundNumber, text})
	}
}

func (w *webLine) quoted(name string) {
	if text, ok := w.quote(); ok {
		w.into.push(name, orDash(text))
	}
}

// quote reads a text in quotes and the space behind it.
func (w *webLine) quote() (text string, ok bool) {
	if w.problem != "" {
		return "", false
	}
	if w.at >= len(w.line) || w.line[w.at] != '"' {
		w.fail("no quoted text")
		return "", false
	}
	rest, escaped := w.line[w.at+1:], false
	end := strings.IndexByte(rest, '"')
	for end > 0 && oddSlashes(rest[:end]) {
		more := strings.IndexByte(rest[end+1:], '"')
		if more < 0 {
			end = -1
			break
		}
		end += 1 + more
	}
	if end < 0 || end+1 < len(rest) && rest[end+1] != ' ' {
		w.fail("a quoted text without its end")
		return "", false
	}
	escaped = strings.IndexByte(rest[:end], '\\') >= 0
	w.at = min(w.at+end+3, len(w.line))
	if escaped {
		return unescapeWeb(rest[:end]), true
	}
	return rest[:end], true
}

// oddSlashes says whether a text ends with a backslash that is not itself escaped.
func oddSlashes(text string) bool {
	n := len(text)
	for n > 0 && text[n-1] == '\\' {
		n--
	}
	return (len(text)-n)%2 == 1
}

// unescapeWeb resolves what Apache and nginx write for characters that would break a line: \" \\ \n \t and such, \xhh for a byte. Any
// other backslash stays.
func unescapeWeb(text string) string {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			out = append(out, text[i])
			continue
		}
		i++
		if at := strings.IndexByte(`"\bfnrtv`, text[i]); at >= 0 {
			out = append(out, "\"\\\b\f\n\r\t\v"[at])
			continue
		}
		if text[i] == 'x' && i+2 < len(text) && hexDigit(text[i+1]) >= 0 && hexDigit(text[i+2]) >= 0 {
			out = append(out, byte(hexDigit(text[i+1])<<4|hexDigit(text[i+2])))
			i += 2
			continue
		}
		out = append(out, '\\', text[i])
	}
	return string(out)
}
