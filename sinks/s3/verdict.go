package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

const (
	maxRetryAfter = time.Hour // so that a typing error of theirs does not stop a sink for a week
	maxError      = 512       // bytes of an error's text, which may quote what the store sent
)

// answer is what the library does not tell of an answer.
type answer struct {
	after time.Duration
	asked bool // there was a Retry-After that could be read
}

type answerKey struct{}

// listener hears the headers of answers.
type listener struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (l *listener) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := l.Transport.RoundTrip(req)
	if a, ok := req.Context().Value(answerKey{}).(*answer); ok && err == nil {
		if seconds, bad := strconv.ParseUint(res.Header.Get("Retry-After"), 10, 32); bad == nil {
			a.after, a.asked = min(time.Duration(seconds)*time.Second, maxRetryAfter), true
		} else if at, bad := http.ParseTime(res.Header.Get("Retry-After")); bad == nil {
			a.after, a.asked = min(max(time.Until(at), 0), maxRetryAfter), true
		}
	}
	return res, err
}

// hints say what to do about what stores answer.
var hints = map[string]string{
	minio.NoSuchBucket: "create the bucket, or correct bucket, endpoint and region",
	minio.AccessDenied: "the credentials must allow s3:PutObject here, and for large objects s3:ListBucketMultipartUploads and " +
		"s3:AbortMultipartUpload",
	"InvalidAccessKeyId":           "correct credentials",
	"SignatureDoesNotMatch":        "correct credentials and region",
	"ExpiredToken":                 "renew the credentials",
	"RequestTimeTooSkewed":         "set the clock of this machine",
	"AuthorizationHeaderMalformed": "correct region",
	"PermanentRedirect":            "correct region or endpoint",
	"EntityTooLarge":               "lower size",
	"NotImplemented":               "the store does not know a setting: sse, storage_class, tags",
	"MetadataTooLarge":             "shorten metadata",
}

// failure is the verdict of a request that failed. It is the store's failure, but for what says that this very object cannot be: a
// key that the store refuses, or one event that is larger than it takes. o is nil where no object is meant.
func (r *remote) failure(err error, o *object, heard *answer) error {
	f := &event.Failure{Class: event.UnavailableClass, After: heard.after, Deferred: heard.asked}
	f.Refused = errors.Is(err, syscall.ECONNREFUSED)
	var no minio.ErrorResponse
	var broken *url.Error
	switch {
	case errors.As(err, &no):
		f.Status = no.StatusCode
		if o != nil && isOfObject(no.Code, len(o.members)) {
			f.Class = event.PermanentClass
		}
		err = fmt.Errorf("%s: %w", no.Code, err)
		if hint := hints[no.Code]; hint != "" {
			err = fmt.Errorf("%w: %s", err, hint)
		}
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no answer in time: raise timeout, or lower size: %w", err)
	case errors.As(err, &broken):
		err = broken.Err // the URL tells nothing more
	}
	f.Err = &storeError{text: fmt.Sprintf("bucket %s at %s: %s", r.bucket, r.host, codec.Legible(err.Error())), err: err}
	return f
}

// storeError bounds a text.
type storeError struct {
	text string
	err  error
}

func (e *storeError) Error() string {
	return strings.ToValidUTF8(e.text[:min(len(e.text), maxError)], "")
}
func (e *storeError) Unwrap() error { return e.err }

func isOfObject(code string, members int) bool {
	switch code {
	case "KeyTooLongError", "InvalidObjectName", "XMinioInvalidObjectName":
		return true
	case "EntityTooLarge":
		return members == 1
	}
	return false
}

func codeOf(err error) string {
	var no minio.ErrorResponse
	_ = errors.As(err, &no)
	return no.Code
}

// isForbidden says that the store does not let the sink do something, or does not know how to.
func isForbidden(err error) bool {
	code := codeOf(err)
	return code == minio.AccessDenied || code == "NotImplemented"
}
