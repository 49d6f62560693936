package email

import (
	"testing"

	"github.com/millrace-run/millrace/event"
)

func TestStatusVerdict(t *testing.T) {
	for code, want := range map[int]event.Class{
		421: event.UnavailableClass, 450: event.Counted, 451: event.Counted, 535: event.UnavailableClass, 550: event.PermanentClass,
		354: event.UnavailableClass,
	} {
		if f := event.VerdictOf(StatusVerdict(code)); f.Class != want || f.Status != code {
			t.Errorf("%d: %+v", code, f)
		}
	}
	if err := StatusVerdict(250); err != nil {
		t.Errorf("250: %v", err)
	}
}
