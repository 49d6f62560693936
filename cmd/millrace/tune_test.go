package main

import (
	"runtime"
	"testing"
)

func TestPaceFor(t *testing.T) {
	for _, c := range []struct {
		live int64
		want pace
	}{
		{0, pace{200, 38 << 20}}, {6 << 20, pace{200, 38 << 20}}, {12 << 20, pace{100, 38 << 20}}, {15 << 20, pace{80, 38 << 20}},
		{24 << 20, pace{75, 48 << 20}}, {1 << 30, pace{75, 2 << 30}},
	} {
		if got := paceFor(c.live); got != c.want {
			t.Errorf("with %d bytes alive: %v, want %v", c.live, got, c.want)
		}
	}
	runtime.GC()
	if live() == 0 {
		t.Error("this version of Go does not tell what lives")
	}
}
