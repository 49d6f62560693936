package webhook

import (
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/millrace-run/millrace/event/codec"
)

// problem is a refusal as RFC 9457 has it. Its name makes the type (urn:millrace:problem:<name>), which a program can compare; the
// title is the same for all of a name, the detail tells what to do about this one and nothing of how Millrace works inside.
type problem struct {
	status              int
	name, title, detail string
	header              [2]string // one more header; empty for none
}

func malformed(detail string) *problem {
	return &problem{status: http.StatusBadRequest, name: "malformed", title: "Malformed request", detail: detail}
}

func notFound(detail string) *problem {
	return &problem{status: http.StatusNotFound, name: "not-found", title: "Unknown path", detail: detail}
}

func notAllowed(method string) *problem {
	return &problem{status: http.StatusMethodNotAllowed, name: "method-not-allowed", title: "Method not allowed",
		detail: "a webhook takes POST, not " + method, header: [2]string{"Allow", http.MethodPost}}
}

func tooSlow() *problem {
	return &problem{status: http.StatusRequestTimeout, name: "timeout", title: "Request took too long",
		detail: "the body did not arrive within read_timeout; nothing was stored"}
}

func tooLarge(detail string) *problem {
	return &problem{status: http.StatusRequestEntityTooLarge, name: "too-large", title: "Body too large", detail: detail}
}

func headersTooLarge(max int64) *problem {
	return &problem{status: http.StatusRequestHeaderFieldsTooLarge, name: "headers-too-large", title: "Headers too large",
		detail: "request line and headers take more than " + strconv.FormatInt(max, 10) + " bytes"}
}

func unsupported(detail string) *problem {
	return &problem{status: http.StatusUnsupportedMediaType, name: "unsupported-media-type", title: "Unsupported media type",
		detail: detail}
}

func conflict() *problem {
	return &problem{status: http.StatusUnprocessableEntity, name: "key-reused", title: "Idempotency-Key was used before",
		detail: "this Idempotency-Key came with another body before; nothing was stored"}
}

// unavailable is a refusal that passes: nothing is wrong with the request. after is when to come back, in seconds.
func unavailable(name, detail string, after int) *problem {
	return &problem{status: http.StatusServiceUnavailable, name: name, title: "Not accepted for now", detail: detail,
		header: [2]string{"Retry-After", strconv.Itoa(after)}}
}

// maxDetail bounds what of a request is repeated in an answer, in bytes.
const maxDetail = 1024

// body is the problem in JSON.
func (p *problem) body() []byte {
	detail := p.detail
	if len(detail) > maxDetail {
		cut := maxDetail
		for cut > 0 && !utf8.RuneStart(detail[cut]) {
			cut--
		}
		detail = detail[:cut] + "…"
	}
	b := codec.AppendString([]byte(`{"type":`), "urn:millrace:problem:"+p.name)
	b = codec.AppendString(append(b, `,"title":`...), p.title)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(p.status), 10)
	b = codec.AppendString(append(b, `,"detail":`...), strings.ToValidUTF8(detail, "\uFFFD"))
	return append(b, "}\n"...)
}

// write answers with the problem.
func (p *problem) write(w http.ResponseWriter) {
	body := p.body()
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if p.header[0] != "" {
		h.Set(p.header[0], p.header[1])
	}
	w.WriteHeader(p.status)
	_, _ = w.Write(body) // an error is the connection's; nobody is left to tell
}
