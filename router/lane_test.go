package router

import "testing"

// A log may hand an event to the runner before it hands it to a sink. The sink was told of it by then and found nothing: it has
// to look again when its own subscription wakes it.
func TestWokenBehindTheRunner(t *testing.T) {
	l := &lane{subscriber: &subscriber{shared: true}, topic: &topic{}, dues: &dues{}}
	if l.woken(); l.more {
		t.Error("it reads although the runner has shaped nothing")
	}
	l.topic.position.Store(1)
	if l.woken(); !l.more {
		t.Error("it does not read what the runner has shaped")
	}
	l.more, l.read = false, 1
	if l.woken(); l.more {
		t.Error("it reads again what it has read")
	}
}
