package syslog

import (
	"errors"
	"net"
	"net/netip"
)

const (
	datagramMost  = 64 << 10
	receiveBuffer = 4 << 20 // asked for; the system gives no more than net.core.rmem_max
	knownPeers    = 1024    // of which makers are kept
)

// datagrams reads a socket until the run ends. While a batch is full it waits, and what then overflows the system's buffer is dropped by
// the system, which counts it.
func (r *run) datagrams(c *net.UDPConn) {
	buffer, control := make([]byte, datagramMost), make([]byte, 128)
	makers := map[netip.Addr]*maker{}
	var drops dropCount
	for {
		n, extra, _, from, err := c.ReadMsgUDPAddrPort(buffer, control)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || r.sockets.stopped() {
				return
			}
			r.told.warn(r.log, r.clock.Now(), "a datagram cannot be read", "err", err)
			if !r.pause(acceptPause) {
				return
			}
			continue
		}
		if lost := drops.since(control[:extra]); lost > 0 {
			r.counts.dropped.Add(lost)
			r.told.warn(r.log, r.clock.Now(), "the system dropped datagrams, which came faster than they were stored", "dropped", lost)
		}
		m := message{text: trimEnd(buffer[:n])}
		if len(m.text) > int(r.config.MaxMessage) {
			m = message{m.text[:r.config.MaxMessage], true}
		}
		if len(m.text) > 0 {
			var one chunk
			one.add(r.makerOf(makers, from.Addr()).make(m))
			r.chunks <- one
		}
	}
}

// makerOf is the maker of a peer. Senders of datagrams may be anybody, so that only so many are kept.
func (r *run) makerOf(makers map[netip.Addr]*maker, peer netip.Addr) *maker {
	m := makers[peer]
	if m == nil {
		if len(makers) >= knownPeers {
			clear(makers)
		}
		m = r.newMaker(protocolUDP, peer)
		makers[peer] = m
	}
	return m
}
