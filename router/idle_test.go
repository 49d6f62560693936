package router

import "testing"

// A ring is heard when the one who waits begins to wait again, not when he receives it.
func TestBell(t *testing.T) {
	b := NewBell()
	if c := b.C(); len(c) != 0 || !b.Heard() {
		t.Error("a new bell rings")
	}
	b.Ring()
	b.Ring()
	if b.Heard() {
		t.Error("nobody has received it yet")
	}
	c := b.C()
	if len(c) != 1 || b.Heard() {
		t.Error("a ring that is left when the wait begins was not heard")
	}
	<-c
	if b.Heard() {
		t.Error("it was received, and nothing done about it")
	}
	b.Ring()
	<-b.C()
	if b.C(); !b.Heard() {
		t.Error("all was done")
	}
}
