package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

// ServeHTTP answers one request: 202 with the ids once all its events are committed, else a problem, and nothing is stored. The
// path was matched before; parameters are read by r.PathValue, so Mux and http.ServeMux both do.
func (s *Source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{w: w, r: r, drainFor: s.drainTimeout}
	contentType, p := s.admit(r)
	if p != nil {
		x.refuse(p)
		return
	}
	body, p := x.readBody(s.config.MaxBody, s.config.ReadTimeout)
	if p != nil {
		x.refuse(p)
		return
	}
	events, p := s.events(r, contentType, body)
	if p != nil {
		x.refuse(p)
		return
	}
	s.store(x, events, keyedBody(r, body))
}

// keyedBody is the body of a request whose events have the Idempotency-Key as their id; nil of others.
func keyedBody(r *http.Request, body []byte) []byte {
	if len(r.Header["Idempotency-Key"]) == 0 || codec.Detect(r.Header) != codec.None {
		return nil
	}
	if body == nil {
		return []byte{}
	}
	return body
}

// admit looks at what is known before the body is read, and returns the content type.
func (s *Source) admit(r *http.Request) (contentType string, p *problem) {
	if r.Method != http.MethodPost {
		return "", notAllowed(r.Method)
	}
	if headerSize(r) > s.config.MaxHeaders {
		return "", headersTooLarge(s.config.MaxHeaders)
	}
	if encodings := strings.Join(r.Header["Content-Encoding"], ","); encodings != "" {
		for coding := range strings.SplitSeq(encodings, ",") {
			if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
				p := unsupported(fmt.Sprintf("Content-Encoding %s is not taken; send the body as it is", coding))
				p.header = [2]string{"Accept-Encoding", "identity"}
				return "", p
			}
		}
	}
	switch values := r.Header["Content-Type"]; len(values) {
	case 0:
	case 1:
		contentType = values[0]
	default:
		return "", malformed("the header Content-Type was sent more than once")
	}
	if contentType != "" && !isMediaType(contentType) {
		return "", unsupported(fmt.Sprintf("Content-Type %q is not a media type", contentType))
	}
	if len(contentType) >= len("application/cloudevents") && codec.Detect(r.Header) == codec.Foreign { // shorter ones cannot be
		return "", unsupported("of the formats of CloudEvents only JSON is taken: " + codec.TypeJSON + " or " + codec.TypeBatch)
	}
	if contentType != "" {
		return contentType, s.accepts(contentType)
	}
	return "", nil
}

// accepts compares with the setting accept.
func (s *Source) accepts(contentType string) *problem {
	if len(s.config.Accept) == 0 {
		return nil
	}
	kind := mediaKind(contentType)
	for _, accepted := range s.config.Accept {
		if inMediaRange(kind, strings.ToLower(accepted)) {
			return nil
		}
	}
	return unsupported(fmt.Sprintf("%s is not taken here, only %s", kind, strings.Join(s.config.Accept, ", ")))
}

// headerSize is what the request line and the headers take as HTTP/1.1 writes them.
func headerSize(r *http.Request) int64 {
	size := len(r.Method) + len(r.RequestURI) + len(r.Proto) + len("Host: \r\n") + len(r.Host) + 4
	for name, values := range r.Header {
		for _, value := range values {
			size += len(name) + len(value) + 4
		}
	}
	return int64(size)
}

// store commits the events and answers.
func (s *Source) store(x *exchange, events []event.Event, body []byte) {
	if len(events) == 0 {
		s.accept(x.w, nil) // an empty batch holds nothing that could be lost
		return
	}
	emit := s.gate.enter()
	if emit == nil {
		x.refuse(unavailable("not-running", "the webhook does not take events at this moment; nothing was stored", 2))
		return
	}
	defer s.gate.leave()
	// A client that is gone, or has closed its side behind the request, still gets what it asked for; only time withdraws.
	ids, err := emit(s.limits.next(s.appendTimeout), event.Batch{Events: events, Body: body})
	if err != nil {
		x.refuse(refusal(err))
		return
	}
	s.accept(x.w, ids)
}

// refusal says what a failed commit means for the client, and when to come back.
func refusal(err error) *problem {
	switch {
	case errors.Is(err, event.ErrFull):
		return unavailable("outbox-full", "there is no room to store the request; nothing was stored", 10)
	case errors.Is(err, event.ErrConflict):
		return conflict()
	case errors.Is(err, event.ErrClosed):
		return unavailable("stopping", "this instance is stopping; nothing was stored", 2)
	case errors.Is(err, event.ErrBusy), errors.Is(err, context.DeadlineExceeded):
		return unavailable("outbox-busy", "the request could not be stored in time; nothing was stored", 1)
	}
	return unavailable("outbox-failed",
		"storing the request failed, and it may or may not be stored; send it again with the same id", 5)
}

// jsonHeader is the header of every answer. net/http copies it and nobody changes it.
var jsonHeader = []string{"application/json"}

// durableHeader names what a 202 is worth where that is less than elsewhere: nothing of it survives the process.
const durableHeader = "Millrace-Durable"

var notDurable = []string{"no"}

// accept answers that the events are on disk, or says that they are in memory only.
func (s *Source) accept(w http.ResponseWriter, ids []string) {
	b := append(make([]byte, 0, 16+40*len(ids)), `{"ids":[`...)
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = codec.AppendString(b, id)
	}
	b = append(b, "]}\n"...)
	w.Header()["Content-Type"] = jsonHeader
	if s.volatile {
		w.Header()[durableHeader] = notDurable
	}
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.Write(b) // an error is the connection's: the events are stored, and the client will send them again
}
