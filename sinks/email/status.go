package email

import (
	"fmt"

	"github.com/millrace-run/millrace/event"
)

// StatusVerdict is the verdict when the server answers every recipient with this code of SMTP and says nothing else; nil for
// success.
func StatusVerdict(code int) error {
	if code >= 200 && code <= 299 {
		return nil
	}
	r := &refusal{stage: "RCPT", code: code}
	return &event.Failure{Class: r.class(), Status: code, Err: fmt.Errorf("the sink answered %d", code)}
}
