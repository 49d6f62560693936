package tests

import (
	"testing"
	"time"
)

func fired(c <-chan time.Time) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestClock(t *testing.T) {
	c := NewClock(beginning)
	now, releaseNow := c.After(-time.Second)
	minute, releaseMinute := c.After(time.Minute)
	hour, releaseHour := c.After(time.Hour)
	same, releaseSame := c.After(time.Minute)
	if fired(now) || c.Pending() != 0 {
		t.Error("a timer fired before anybody advanced the clock")
	}
	if at, ok := c.Next(); !ok || !at.Equal(beginning) {
		t.Errorf("next is %v, %v", at, ok)
	}
	c.Advance(beginning)
	if !fired(now) || fired(minute) || c.Pending() != 1 {
		t.Errorf("%d are pending", c.Pending())
	}
	releaseNow()
	releaseNow()
	if c.Pending() != 0 {
		t.Errorf("%d are pending after the release", c.Pending())
	}
	c.Advance(beginning.Add(2 * time.Minute))
	if !fired(minute) || !fired(same) || fired(hour) || c.Pending() != 2 || !c.Now().Equal(beginning.Add(2*time.Minute)) {
		t.Errorf("%d are pending at %v", c.Pending(), c.Now())
	}
	c.Advance(beginning)
	if !c.Now().Equal(beginning.Add(2 * time.Minute)) {
		t.Errorf("the clock went back to %v", c.Now())
	}
	releaseHour()
	releaseMinute()
	releaseSame()
	if _, ok := c.Next(); ok || c.Pending() != 0 {
		t.Errorf("a released timer is left, %d are pending", c.Pending())
	}
	c.Advance(beginning.Add(2 * time.Hour))
	if fired(hour) {
		t.Error("a released timer fired")
	}
}
