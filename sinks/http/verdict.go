package http

import (
	nethttp "net/http"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-run/millrace/event"
)

// maxRetryAfter bounds what a destination may ask for, so that a typing error of theirs does not stop a sink for a week.
const maxRetryAfter = time.Hour

// verdict says what an answer means.
func (s *Sink) verdict(a *reply) error {
	f := failureOf(s.to.host, a.status)
	if f == nil {
		return nil
	}
	f.Answer = a.text
	if f.Class == event.UnavailableClass {
		after, asked := retryAfter(a.header.Get("Retry-After"), s.now())
		f.After, f.Deferred = after, f.Deferred || asked
	}
	return f
}

// StatusVerdict is the verdict of an answer with a status and nothing else; nil for success.
func StatusVerdict(status int) error {
	if f := failureOf("the sink", status); f != nil {
		return f
	}
	return nil
}

// failureOf is what a status says by itself; nil for success.
func failureOf(host string, status int) *event.Failure {
	if isSuccess(status) {
		return nil
	}
	return &event.Failure{
		Class: classOf(status), Status: status, Deferred: status == nethttp.StatusTooManyRequests, Err: statusError(host, status),
	}
}

// classOf sorts a status that is not a success. A status which speaks of the event makes it Permanent; one that speaks of the
// destination, of its addresses, its locks or its keys says nothing about the event. What is in neither list counts.
func classOf(status int) event.Class {
	switch status {
	case nethttp.StatusBadRequest, nethttp.StatusNotAcceptable, nethttp.StatusLengthRequired, nethttp.StatusRequestEntityTooLarge,
		nethttp.StatusRequestURITooLong, nethttp.StatusUnsupportedMediaType, nethttp.StatusUnprocessableEntity,
		nethttp.StatusRequestHeaderFieldsTooLarge:
		return event.PermanentClass
	case nethttp.StatusUnauthorized, nethttp.StatusForbidden, nethttp.StatusNotFound, nethttp.StatusProxyAuthRequired,
		nethttp.StatusRequestTimeout, nethttp.StatusConflict, nethttp.StatusTooEarly, nethttp.StatusTooManyRequests:
		return event.UnavailableClass
	case nethttp.StatusGone:
		return event.GoneClass
	}
	if status >= 300 && status <= 399 || status >= 500 && status <= 599 {
		return event.UnavailableClass
	}
	return event.Counted
}

// retryAfter reads a Retry-After header: whole seconds or an HTTP date. ok says that there was one that could be read; a date
// that has passed, or 0, asks for no particular time. It never returns more than an hour.
func retryAfter(value string, now time.Time) (after time.Duration, ok bool) {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0, false
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter, true // digits that do not fit are very many seconds
		}
		return time.Duration(seconds) * time.Second, true
	}
	at, err := nethttp.ParseTime(value)
	if err != nil {
		return 0, false
	}
	return min(max(at.Sub(now), 0), maxRetryAfter), true
}
