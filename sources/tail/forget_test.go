package tail

import (
	"errors"
	"testing"

	"github.com/millrace-run/millrace/event"
)

func TestForgets(t *testing.T) {
	for start, ok := range map[string]bool{"beginning": false, "end": true} {
		c := Defaults()
		c.Path, c.Start = "*.log", start
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Forgets()
		var key *event.KeyError
		if ok && err != nil || !ok && (!errors.As(err, &key) || key.Key != "start") {
			t.Errorf("%s: %v", start, err)
		}
	}
}
