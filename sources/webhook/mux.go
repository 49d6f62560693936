package webhook

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
)

// Mux serves webhooks of any number on one listener. Paths are compared part by part, exactly: nothing is redirected, and a literal
// part goes before a parameter, the leftmost deciding. Unknown paths are answered 404.
type Mux struct {
	// Logger hears of panics while a request is handled, with the stack; such a request has no answer. nil leaves them to net/http.
	Logger *slog.Logger

	root       *branch
	maxHeaders int
}

// branch is what may follow a part of a path.
type branch struct {
	literal map[string]*branch
	param   *branch
	source  *Source // receives when the path ends here; may be nil
}

// NewMux returns the handler of these sources. Two with the same path are an error.
func NewMux(sources ...*Source) (*Mux, error) {
	m := &Mux{root: &branch{}}
	for _, s := range sources {
		b := m.root
		for _, p := range s.path {
			b = b.child(p)
		}
		if b.source != nil {
			return nil, fmt.Errorf("two webhooks have the path %s", s.Path())
		}
		b.source = s
		m.maxHeaders = max(m.maxHeaders, s.MaxHeaders())
	}
	return m, nil
}

func (b *branch) child(p part) *branch {
	if p.param {
		if b.param == nil {
			b.param = &branch{}
		}
		return b.param
	}
	if b.literal == nil {
		b.literal = map[string]*branch{}
	}
	if b.literal[p.text] == nil {
		b.literal[p.text] = &branch{}
	}
	return b.literal[p.text]
}

// MaxHeaderBytes is the largest bound of the sources on request line and headers, for http.Server. 0 when there are no sources.
func (m *Mux) MaxHeaderBytes() int { return m.maxHeaders }

// ServeHTTP hands the request to the source at its path.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m.Logger != nil {
		defer m.report(r)
	}
	s := m.find(r)
	if s == nil {
		x := &exchange{w: w, r: r, drainFor: drainTimeout}
		x.refuse(notFound("no webhook receives at " + r.URL.Path))
		return
	}
	s.ServeHTTP(w, r)
}

// report logs a panic and ends the connection, so that the client does not take silence for an answer.
func (m *Mux) report(r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v != http.ErrAbortHandler { //nolint:errorlint // net/http compares it the same way
		m.Logger.Error("a request broke its handler", "path", r.URL.Path, "err", v, "stack", string(debug.Stack()))
	}
	panic(http.ErrAbortHandler)
}

// find returns the source of the request's path, and nil for an unknown one. It sets the path values.
func (m *Mux) find(r *http.Request) *Source {
	// An escaped path is split before it is unescaped, so that %2F stays within its part.
	escaped := r.URL.RawPath != ""
	text := r.URL.Path
	if escaped {
		text = r.URL.EscapedPath()
	}
	rest, ok := strings.CutPrefix(text, "/")
	if !ok {
		return nil
	}
	var room [4]string
	s, values := m.root.find(rest, escaped, room[:0])
	if s == nil {
		return nil
	}
	for _, p := range s.path {
		if p.param {
			r.SetPathValue(p.text, values[0])
			values = values[1:]
		}
	}
	return s
}

// find follows rest, and returns the source there and the values of the parameters on the way.
func (b *branch) find(rest string, escaped bool, values []string) (*Source, []string) {
	text, behind, more := strings.Cut(rest, "/")
	if escaped {
		unescaped, err := url.PathUnescape(text)
		if err != nil {
			return nil, nil
		}
		text = unescaped
	}
	if next := b.literal[text]; next != nil {
		if s, all := next.follow(behind, more, escaped, values); s != nil {
			return s, all
		}
	}
	if b.param != nil && text != "" && text != "." && text != ".." {
		return b.param.follow(behind, more, escaped, append(values, text))
	}
	return nil, nil
}

func (b *branch) follow(behind string, more, escaped bool, values []string) (*Source, []string) {
	if more {
		return b.find(behind, escaped, values)
	}
	return b.source, values
}
