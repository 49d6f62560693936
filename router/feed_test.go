package router

import "testing"

// A log may hand an event to the runner before it hands it to a sink. The sink was told of it by then and found nothing: it has
// to look again when its own subscription wakes it.
func TestWokenBehindTheRunner(t *testing.T) {
	f := &feed{subscriber: &subscriber{topic: &topic{}, shared: true}, dues: &dues{}}
	if f.woken(); f.more {
		t.Error("it reads although the runner has shaped nothing")
	}
	f.topic.position.Store(1)
	if f.woken(); !f.more {
		t.Error("it does not read what the runner has shaped")
	}
	f.more, f.read = false, 1
	if f.woken(); f.more {
		t.Error("it reads again what it has read")
	}
}
