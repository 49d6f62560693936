package router

import (
	"context"
	"reflect"
	"time"
)

// feed is what every sink's goroutine has in common: the lanes that it reads, and how it sleeps. Its methods belong to that
// goroutine.
type feed struct {
	*subscriber
	timing *timing // nil: nothing holds back an event

	cases []reflect.SelectCase // room for those of sleepMany
}

func newFeed(s *subscriber) feed {
	return feed{subscriber: s, timing: newTiming(s.plan, s.lanes[0].topic.plan.Strict, s.clock.Now())}
}

// serve asks the lanes for one event to deliver, until one has one. The highest goes first; but one that was passed by so often that
// its turn has come goes before it, of several the one that waits longest. ask says whether the lane had one.
func (f *feed) serve(ask func(l *lane) (bool, error)) error {
	first := f.overdue()
	for i := -1; i < len(f.lanes); i++ {
		l := first
		if i >= 0 {
			l = f.lanes[i]
		}
		if l == nil || i >= 0 && l == first {
			continue
		}
		if len(f.lanes) > 1 {
			l.listen()
		}
		got, err := ask(l)
		if got {
			for _, other := range f.lanes[i+1:] {
				other.passed++
			}
		}
		if l.passed = 0; got || err != nil {
			return err
		}
	}
	return nil
}

// overdue is the lane that was passed by most often, if it was often enough.
func (f *feed) overdue() (first *lane) {
	for _, l := range f.lanes {
		if l.passed >= share-1 && (first == nil || l.passed > first.passed) {
			first = l
		}
	}
	return first
}

// flush hands what the lanes have to settle to the log.
func (f *feed) flush(work context.Context) error {
	if err := f.savePause(work); err != nil {
		return err
	}
	for _, l := range f.lanes {
		if err := l.flush(work); err != nil {
			return err
		}
	}
	return nil
}

// dueAlarm is when a row of a lane may be due; zero: none waits.
func (f *feed) dueAlarm() (at time.Time) {
	for _, l := range f.lanes {
		at = earliest(at, l.dues.alarm())
	}
	return at
}

// sleep waits until something can be done: for more events, a time (zero: none), or an answer.
func (f *feed) sleep(stop context.Context, at time.Time, answers chan *call) {
	alarm, release := timer(f.clock, at)
	defer release()
	if len(f.lanes) > 1 {
		f.sleepMany(stop, alarm, answers)
		return
	}
	l := f.lanes[0]
	fed, woken := l.fed.C(), l.sub.Wake()
	f.rest.sleep()
	defer f.rest.wake()
	select {
	case <-stop.Done():
	case c := <-answers:
		answers <- c // back in its place: the turn takes all that have come, and this goroutine is the only one that receives
	case <-alarm:
	case <-fed:
		l.more = true
	case <-woken:
		l.woken()
	}
}

// sleepMany is sleep for any number of lanes.
func (f *feed) sleepMany(stop context.Context, alarm <-chan time.Time, answers chan *call) {
	f.cases = append(f.cases[:0], receive(stop.Done()), receive(alarm), receive(answers))
	others := len(f.cases)
	for _, l := range f.lanes {
		f.cases = append(f.cases, receive(l.fed.C()), receive(l.sub.Wake()))
	}
	f.rest.sleep()
	defer f.rest.wake()
	chosen, value, _ := reflect.Select(f.cases)
	if chosen < others {
		if c, ok := value.Interface().(*call); ok {
			answers <- c
		}
		return
	}
	l := f.lanes[(chosen-others)/2]
	if (chosen-others)%2 == 0 {
		l.more = true
	} else {
		l.woken()
	}
}

func receive(c any) reflect.SelectCase {
	return reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c)}
}

// observe shows the state to those who look: the oldest event that holds a cursor (zero: none), and how many wait in memory.
func (f *feed) observe(oldest time.Time, b *breaker, waiting int) {
	c := &f.counts
	c.waiting.Store(int64(waiting))
	c.limit.Store(int64(b.limit))
	c.open.Store(flag(b.open))
	c.paused.Store(flag(f.pausing.on()))
	if oldest.IsZero() {
		c.oldest.Store(0)
	} else {
		c.oldest.Store(oldest.UnixNano())
	}
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
