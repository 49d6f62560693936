package engine

import (
	"cmp"
	"container/heap"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-run/millrace/event"
)

// row is an event of a subscription that could not simply be settled.
type row struct {
	sub     *subscription
	record  event.Record
	message *message.Message // over a broker: not acknowledged yet
	x       event.Exception
	id      int64 // as a dead letter
	place   int   // in the queue of those that wait, from 1; 0 is not in it: handed out, or dead
}

// queue are the rows that wait for their time: the one that is due first is first. It is a heap.
type queue []*row

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	return cmp.Or(q[i].x.NextAt.Compare(q[j].x.NextAt), cmp.Compare(q[i].record.Offset, q[j].record.Offset)) < 0
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i+1, j+1
}

// Push is for package heap.
func (q *queue) Push(x any) {
	r := x.(*row)
	*q = append(*q, r)
	r.place = len(*q)
}

// Pop is for package heap.
func (q *queue) Pop() any {
	old := *q
	r := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	r.place = 0
	return r
}

func (q *queue) add(r *row) {
	if r.place == 0 {
		heap.Push(q, r)
	}
}

func (q *queue) remove(r *row) {
	if r.place != 0 {
		heap.Remove(q, r.place-1)
	}
}

// due takes the first row away if its time has come.
func (q *queue) due(now time.Time) *row {
	if len(*q) == 0 || (*q)[0].x.NextAt.After(now) {
		return nil
	}
	return heap.Pop(q).(*row)
}

// next is when the first row is due; zero if none waits.
func (q queue) next() time.Time {
	if len(q) == 0 {
		return time.Time{}
	}
	return q[0].x.NextAt
}
