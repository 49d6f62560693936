package http

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"net"
	nethttp "net/http"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	inlineMax = 16 << 10 // of a request: it fits into the kernel's buffer of a connection that has nothing under way
	interims  = 5        // answers of 1xx before the real one
)

var (
	errInterims = errors.New("too many answers of 1xx without a final one")
	errHeaders  = errors.New("the head of the answer is longer than 64 KiB")
)

// conn is one connection. One attempt has it at a time; only abort may be called by another goroutine.
type conn struct {
	net.Conn
	in      *bufio.Reader
	limit   int64           // what may still be read of the head of an answer
	below   syscall.RawConn // nil where the system cannot tell whether the connection is alive: then it is used once
	look    func(fd uintptr)
	quiet   bool      // what look found
	secure  bool      // with TLS, which may have read more than it handed out
	until   time.Time // the deadline of the present attempt; zero: none
	stop    func()    // abort, bound once
	sent    sending
	used    bool      // it has carried an answer before
	since   time.Time // when it became idle
	written int64     // of the present request

	mu      sync.Mutex // guards aborted, and deadlines set with it
	aborted bool
}

func newConn(n net.Conn) *conn {
	k := &conn{Conn: n}
	k.look, k.stop = k.poll, k.abort
	k.in = bufio.NewReaderSize(readerFunc(k.read), 4<<10)
	below := n
	if t, ok := n.(interface{ NetConn() net.Conn }); ok {
		below, k.secure = t.NetConn(), true
	}
	if s, ok := below.(syscall.Conn); ok {
		k.below, _ = s.SyscallConn()
	}
	return k
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (k *conn) read(p []byte) (int, error) {
	if k.limit <= 0 {
		return 0, errHeaders
	}
	n, err := k.Conn.Read(p[:min(int64(len(p)), k.limit)])
	k.limit -= int64(n)
	return n, err
}

// alive says whether an idle connection may be used: the other side has not closed it and has sent nothing. What comes without
// a question (an answer of 408 before it closes, a ticket of TLS) is no answer to the next one.
func (k *conn) alive() bool {
	k.quiet = false
	return k.below != nil && k.below.Control(k.look) == nil && k.quiet && (!k.secure || k.drained())
}

// drained says whether TLS has nothing at hand: a read whose time is over brings what was read with an earlier record, and nothing
// of the connection.
func (k *conn) drained() bool {
	_ = k.SetReadDeadline(time.Unix(1, 0))
	n, err := k.Conn.Read(make([]byte, 1))
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

func (k *conn) poll(fd uintptr) {
	events := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // a descriptor is a small number
	n, err := unix.Poll(events[:], 0)
	k.quiet = err == nil && n == 0
}

// begin makes the connection end its waits with ctx.
func (k *conn) begin(ctx context.Context) {
	k.written, k.limit = 0, maxHeaders
	k.until, _ = ctx.Deadline()
	_ = k.SetDeadline(k.until)
}

// abort ends every wait at the connection, now and later.
func (k *conn) abort() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.aborted = true
	_ = k.SetDeadline(time.Unix(1, 0))
}

// hurry lets reading end at a time, unless it ends earlier anyway.
func (k *conn) hurry(at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.aborted && (k.until.IsZero() || at.Before(k.until)) {
		_ = k.SetReadDeadline(at)
	}
}

// unwritten says that nothing of the request has left.
func (k *conn) unwritten() bool { return k.written == 0 }

// sending is a request on its way.
type sending struct {
	err  error
	over chan struct{} // closed when all is written or failed; nil when that was so at once
}

func (s *sending) wait() {
	if s.over != nil {
		<-s.over
	}
}

// done says whether the whole request was written.
func (s *sending) done() bool {
	if s.over != nil {
		select {
		case <-s.over:
		default:
			return false
		}
	}
	return s.err == nil
}

// send writes a request. One that the kernel might not take at once is written by a goroutine, which ends with the connection
// at the latest: whoever is sent too much may answer so before it has read all of it.
func (k *conn) send(m *message) *sending {
	k.sent = sending{}
	s := &k.sent
	if len(m.head)+len(m.body) <= inlineMax {
		s.err = k.write(m.joined())
		return s
	}
	s.over = make(chan struct{})
	go func() {
		defer close(s.over)
		if s.err = k.write(m.head); s.err == nil {
			s.err = k.write(m.body)
		}
	}()
	return s
}

func (k *conn) write(p []byte) error {
	n, err := k.Conn.Write(p)
	k.written += int64(n)
	return err
}

// glance waits for the beginning of the answer and takes one that has come whole and needs no closer look; see the function
// glance. It is nil for any other.
func (k *conn) glance(sent *sending, keep keeper) (*reply, error) {
	if sent.over == nil && sent.err != nil {
		return nil, sent.err
	}
	if _, err := k.in.Peek(1); err != nil {
		return nil, closedEarly(err)
	}
	text, _ := k.in.Peek(k.in.Buffered())
	status, head, body, ok := glance(text)
	if !ok || len(text)-head < body {
		return nil, nil //nolint:nilnil // neither an answer that it takes nor a fault
	}
	bytes, _ := keep(status)
	a := &reply{status: status, text: slices.Clone(text[head : head+int(min(int64(body), bytes))]), whole: int64(body) <= bytes}
	_, _ = k.in.Discard(head + body)
	return a, nil
}

func closedEarly(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("the connection was closed before an answer")
	}
	return err
}

// head reads the head of the answer behind those of 1xx, of which 101 is a final one here: nobody asked for another protocol.
func (k *conn) head(r *nethttp.Request) (*nethttp.Response, error) {
	for range interims + 1 {
		res, err := nethttp.ReadResponse(k.in, r)
		if err != nil {
			return nil, closedEarly(err)
		}
		if res.StatusCode < 100 || res.StatusCode > 199 || res.StatusCode == nethttp.StatusSwitchingProtocols {
			return res, nil
		}
	}
	return nil, errInterims
}

// body reads the beginning of the answer's body into a and says whether there is no more of it. What goes wrong here changes
// nothing, the status has already said all. The rest of a body is worth a moment, for the sake of the connection, but not the
// whole time of an attempt; what a patient reader keeps is.
func (k *conn) body(res *nethttp.Response, a *reply, keep keeper, drainFor time.Duration, now func() time.Time) bool {
	bytes, patient := keep(res.StatusCode)
	switch {
	case res.StatusCode == nethttp.StatusSwitchingProtocols:
		return false // there is no body but a connection that says something else now
	case res.Body == nethttp.NoBody:
		a.whole = true
		return true
	}
	k.limit = math.MaxInt64
	if res.ContentLength >= 0 && res.ContentLength <= int64(k.in.Buffered()) {
		return k.buffered(res, a, bytes)
	}
	if !patient {
		k.hurry(now().Add(drainFor))
	}
	var err error
	if bytes > 0 {
		a.text, err = io.ReadAll(io.LimitReader(res.Body, bytes))
	}
	if err != nil || res.ContentLength > max(maxDrain, bytes) {
		return false
	}
	if patient {
		k.hurry(now().Add(drainFor))
	}
	rest, err := io.Copy(io.Discard, io.LimitReader(res.Body, maxDrain+1))
	a.whole = err == nil && rest == 0
	return err == nil && rest <= maxDrain
}

// buffered takes a body that has come with its head.
func (k *conn) buffered(res *nethttp.Response, a *reply, bytes int64) bool {
	text, err := k.in.Peek(int(res.ContentLength))
	a.text = slices.Clone(text[:min(int64(len(text)), bytes)])
	_, _ = k.in.Discard(len(text))
	a.whole = int64(len(text)) == int64(len(a.text))
	return err == nil
}

var _ exchanger = (*client)(nil)
