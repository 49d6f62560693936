package router

import (
	"cmp"
	"slices"

	"github.com/millrace-run/millrace/event"
)

// releaseAhead is how many held rows of a key are released while its events succeed, so that a commit serves many of them.
const releaseAhead = 64

// orderer keeps the events of a key in the order of their offsets: of each key at most one is under way, and it is the first that
// is not done. What comes behind it waits, in memory or in a held row. It belongs to the goroutine of a loop, which does what it
// says; it touches nothing but itself and the places of tasks. It is of one lane, whose offsets these are: a sink with
// an order has others only of priorities that its pipeline had before.
//
// # Where an event of a key is
//
//	in memory  a task. The first may go; one that failed without counting waits for its time, the others wait behind it
//	in a row   the log hands it out when it is due: a counted failure, a redrive, or one that was released
//	held       a row that the log does not hand out
//	dead       with on_dead: hold, a dead letter that keeps its key
//
// An event goes where the one before it in its key is: to a held row when that one is on disk, else to memory. When memory is
// full, the keys whose first does not run go to disk. While those are too many, nothing new begins.
//
// # What a crash leaves
//
// The rows of a key are always the first of what is not settled of it: when an event gets a row, all before it have one, or are done.
// Outcomes reach the disk in the order in which they were given, so this holds after a crash at any moment. Hence what is pending
// without a row comes behind all rows, and the order is found anew from the rows alone (load): the first goes, and if it is held
// it is released. That a held row is released, and that the one before it ended, are outcomes of one commit; if only the end is on disk,
// load releases it.
//
// The exception is an event that was a dead letter of the pipeline: a redrive gives it a row beyond what this sink has come to.
type orderer struct {
	most int  // rows held at a time, but for those that had a row before
	hold bool // a dead letter keeps its key

	chains map[orderKey]*chain
	rows   map[event.Offset]*chain // of what is on disk
	stuck  map[*chain]bool         // whose first waits for a time or a person while others wait in memory
	dead   int
	held   int
	behind int   // tasks in memory that wait for others
	bytes  int64 // of them

	// What is to be done since the loop last did it.
	ready    []*task // may go now
	released []event.Offset
}

// orderKey is a hash of what an order_key yields.
type orderKey [16]byte

// chain is what is not done of one key.
type chain struct {
	key     orderKey
	links   []link // by offset
	running *task  // under way, or about to be
	behind  int    // tasks in memory that wait for others
	bare    int    // tasks without a row when they came
	room    [2]link
}

type link struct {
	offset event.Offset
	place  linkPlace
	task   *task // in memory
}

type linkPlace uint8

const (
	inMemory linkPlace = iota
	inRow
	inHeldRow
	inDeadRow
)

// entered is what becomes of a task that comes to the orderer.
type entered uint8

const (
	turnNow   entered = iota // it may begin
	turnWaits                // it waits in memory
	turnHeld                 // it is to get a held row
)

func newOrderer(most int, hold bool) *orderer {
	return &orderer{
		most: most, hold: hold, chains: map[orderKey]*chain{}, rows: map[event.Offset]*chain{}, stuck: map[*chain]bool{},
	}
}

// enter takes a task: a new event, or one whose row was handed out. crowded says that memory is full.
func (o *orderer) enter(t *task, key orderKey, crowded bool) entered {
	c := o.rows[t.offset]
	if c == nil {
		c = o.chain(key)
	}
	i := o.place(c, t.offset)
	o.move(c, i, inMemory)
	c.links[i].task, t.chain = t, c
	if !t.row {
		c.bare++
		t.bare = true
	}
	if i == 0 && c.running == nil {
		c.running = t
		delete(o.stuck, c)
		return turnNow
	}
	o.queue(c, t)
	if i > 0 && o.toDisk(c, t, c.links[i-1].task == nil, crowded) {
		return turnHeld
	}
	o.review(c)
	return turnWaits
}

// toDisk says whether a task that is not the first of its key is to have a held row. One that has a row anyway is not kept in memory
// when that is full; a new one gets none while an earlier one of its key has none, nor beyond most.
func (o *orderer) toDisk(c *chain, t *task, behindRow, crowded bool) bool {
	if t.row {
		return behindRow || crowded
	}
	return behindRow && c.bare == 1 && o.held < o.most
}

func (o *orderer) chain(key orderKey) *chain {
	c := o.chains[key]
	if c == nil {
		c = &chain{key: key}
		c.links = c.room[:0]
		o.chains[key] = c
	}
	return c
}

// place returns the index of an offset's link, which it makes if it is not there.
func (o *orderer) place(c *chain, at event.Offset) int {
	if n := len(c.links); n == 0 || c.links[n-1].offset < at {
		c.links = append(c.links, link{offset: at})
		return n
	}
	i, found := c.find(at)
	if !found {
		c.links = slices.Insert(c.links, i, link{offset: at})
	}
	return i
}

func (c *chain) find(at event.Offset) (i int, found bool) {
	return slices.BinarySearchFunc(c.links, at, func(l link, o event.Offset) int { return cmp.Compare(l.offset, o) })
}

// move notes where a link is from now on.
func (o *orderer) move(c *chain, i int, to linkPlace) {
	l := &c.links[i]
	o.count(l.place, -1)
	l.place = to
	o.count(to, 1)
	if to == inMemory {
		delete(o.rows, l.offset)
	} else {
		l.task = nil
		o.rows[l.offset] = c
	}
}

func (o *orderer) count(p linkPlace, n int) {
	switch p {
	case inHeldRow:
		o.held += n
	case inDeadRow:
		o.dead += n
	}
}

// queue and unqueue count a task that waits in memory for others.
func (o *orderer) queue(c *chain, t *task) {
	t.behind = true
	c.behind++
	o.behind++
	o.bytes += t.item.weight()
}

func (o *orderer) unqueue(c *chain, t *task) {
	if t.behind {
		t.behind = false
		c.behind--
		o.behind--
		o.bytes -= t.item.weight()
	}
}

// mayGo says whether a task that waits for another attempt is the first of its key and no other is under way. A nil orderer lets
// all go, as it does with those that have no key.
func (o *orderer) mayGo(t *task) bool {
	return t.chain == nil || t.chain.running == nil && t.chain.links[0].task == t
}

// begin notes that a task for which mayGo holds is about to begin.
func (o *orderer) begin(t *task) {
	if c := t.chain; c != nil {
		c.running = t
		delete(o.stuck, c)
	}
}

// pause notes that a task waits in memory for another attempt.
func (o *orderer) pause(t *task) {
	if c := t.chain; c != nil {
		if c.running == t {
			c.running = nil
		}
		o.review(c)
	}
}

// end takes the outcome of a task that leaves memory. x is its exception, nil when it is done.
func (o *orderer) end(t *task, x *event.Exception, crowded bool) {
	c := t.chain
	if c == nil {
		return
	}
	if c.running == t {
		c.running = nil
	}
	o.unqueue(c, t)
	if t.bare {
		c.bare--
	}
	t.chain = nil
	i, _ := c.find(t.offset)
	o.put(c, i, x)
	o.flow(c, x == nil && !crowded)
}

// ended takes the outcome of an event that is not to be delivered after all, when its row was handed out.
func (o *orderer) ended(at event.Offset, x *event.Exception) {
	if c := o.rows[at]; c != nil {
		i, _ := c.find(at)
		o.put(c, i, x)
		o.flow(c, false)
	}
}

// put moves a link to where its outcome says that it is; it is gone when it is done.
func (o *orderer) put(c *chain, i int, x *event.Exception) {
	switch {
	case x != nil && x.State == event.Retry:
		o.move(c, i, inRow)
	case x != nil && x.State == event.Held:
		o.move(c, i, inHeldRow)
	case x != nil && x.State == event.Dead && o.hold:
		o.move(c, i, inDeadRow)
	default:
		o.move(c, i, inMemory)
		c.remove(i)
	}
}

// remove takes a link out; the first, as a rule.
func (c *chain) remove(i int) {
	if i > 0 {
		c.links = slices.Delete(c.links, i, i+1)
		return
	}
	c.links[0] = link{}
	c.links = c.links[1:]
}

// flow lets the next of a key go. ahead releases more than one held row.
func (o *orderer) flow(c *chain, ahead bool) {
	n := 1
	if ahead {
		n = releaseAhead
	}
	for i := 0; o.held > 0 && i < min(n, len(c.links)); i++ {
		if c.links[i].place == inHeldRow {
			o.move(c, i, inRow)
			o.released = append(o.released, c.links[i].offset)
		}
	}
	o.review(c)
}

// review looks whether the first of a chain may go, and whether the chain is stuck. One without links is forgotten.
func (o *orderer) review(c *chain) {
	if len(c.links) == 0 {
		delete(o.chains, c.key)
		delete(o.stuck, c)
		return
	}
	first := c.links[0].task
	if c.running == nil && first != nil && first.behind {
		o.unqueue(c, first)
		o.ready = append(o.ready, first)
	}
	if c.running == nil && c.behind > 0 && (first == nil || first.tries > 0) {
		o.stuck[c] = true
	} else {
		delete(o.stuck, c)
	}
}

// waiting are the tasks of a chain that wait in memory for others, in order.
func (c *chain) waiting() (tasks []*task) {
	for _, l := range c.links {
		if l.task != nil && l.task.behind {
			tasks = append(tasks, l.task)
		}
		if len(tasks) == c.behind {
			break
		}
	}
	return tasks
}

// load takes a row that was there at the start: p is inRow, inHeldRow or inDeadRow. The later of two calls for an offset counts.
func (o *orderer) load(at event.Offset, key orderKey, p linkPlace) {
	c := o.chain(key)
	o.move(c, o.place(c, at), p)
}

// loaded lets the first of each key go when all rows are loaded.
func (o *orderer) loaded() {
	for _, c := range o.chains {
		o.flow(c, false)
	}
}

// deadSpan is from where to where there are dead letters that keep keys.
func (o *orderer) deadSpan() (from, to event.Offset) {
	for at, c := range o.rows {
		if i, _ := c.find(at); c.links[i].place == inDeadRow {
			if from == 0 || at < from {
				from = at
			}
			to = max(to, at)
		}
	}
	return from, to
}

// drop lets go of the keys whose dead letter is no more: it is not among the offsets that have rows, which are sorted.
func (o *orderer) drop(rows []event.Offset) {
	for at, c := range o.rows {
		i, _ := c.find(at)
		if _, there := slices.BinarySearch(rows, at); c.links[i].place == inDeadRow && !there {
			o.move(c, i, inMemory)
			c.remove(i)
			o.flow(c, false)
		}
	}
}
