package http

import (
	nethttp "net/http"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// A status means by itself what it means in an answer that says nothing else.
func TestStatusVerdict(t *testing.T) {
	s := &Sink{to: target{host: "the sink"}, now: time.Now}
	for status := 200; status < 600; status++ {
		got, want := StatusVerdict(status), s.verdict(&reply{status: status, header: nethttp.Header{}})
		if status < 300 {
			if got != nil || want != nil {
				t.Errorf("%d is a success, not %v or %v", status, got, want)
			}
			continue
		}
		a, b := event.VerdictOf(got), event.VerdictOf(want)
		same := a.Class == b.Class && a.Deferred == b.Deferred && a.Error() == b.Error()
		if !same || a.Status != status || a.Deferred != (status == 429) {
			t.Errorf("%d: %+v by itself, %+v as an answer", status, a, b)
		}
	}
	late := nethttp.Header{"Retry-After": {"7"}}
	f := event.VerdictOf(s.verdict(&reply{status: 503, header: late, text: []byte("later")}))
	if !f.Deferred || f.After != 7*time.Second || string(f.Answer) != "later" {
		t.Errorf("%+v", f)
	}
}
