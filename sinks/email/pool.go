package email

import (
	"sync"
	"time"
)

// maxIdle bounds how many sessions are kept; more than any concurrency that a mail server would bear.
const maxIdle = 64

// pool keeps sessions that nobody uses, for a short time: a server has few of them to give.
type pool struct {
	idleFor time.Duration

	mu      sync.Mutex // guards what follows
	idle    []*idler
	closing int        // timers that end a session right now
	quiet   *sync.Cond // closing is 0
}

type idler struct {
	session *session
	timer   *time.Timer
}

func newPool(idleFor time.Duration) *pool {
	p := &pool{idleFor: idleFor}
	p.quiet = sync.NewCond(&p.mu)
	return p
}

// take returns the session that was used last, or nil.
func (p *pool) take() *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	last := len(p.idle) - 1
	i := p.idle[last]
	p.idle[last], p.idle = nil, p.idle[:last]
	i.timer.Stop()
	return i.session
}

// put keeps a session whose context is still alive, and closes any other.
func (p *pool) put(se *session) {
	if !se.release() {
		se.close()
		return
	}
	i := &idler{session: se}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= maxIdle {
		_ = se.conn.Close()
		return
	}
	i.timer = time.AfterFunc(p.idleFor, func() { p.expire(i) })
	p.idle = append(p.idle, i)
}

// expire ends a session that was idle for too long. It was not if take was faster.
func (p *pool) expire(i *idler) {
	p.mu.Lock()
	found := p.removeLocked(i)
	if found {
		p.closing++
	}
	p.mu.Unlock()
	if !found {
		return
	}
	i.session.quit()
	p.mu.Lock()
	p.closing--
	p.quiet.Broadcast()
	p.mu.Unlock()
}

func (p *pool) removeLocked(i *idler) bool {
	for at, other := range p.idle {
		if other == i {
			p.idle = append(p.idle[:at], p.idle[at+1:]...)
			return true
		}
	}
	return false
}

// close ends all idle sessions and waits for those that end already.
func (p *pool) close() {
	for se := p.take(); se != nil; se = p.take() {
		se.quit()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.closing > 0 {
		p.quiet.Wait()
	}
}
