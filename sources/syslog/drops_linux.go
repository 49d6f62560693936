package syslog

import (
	"encoding/binary"
	"net"

	"golang.org/x/sys/unix"
)

// countDrops asks the system to say with a datagram how many it had to drop on this socket.
func countDrops(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var refused error
	if err := raw.Control(func(fd uintptr) { refused = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1) }); err != nil {
		return err
	}
	return refused
}

// dropCount is how many datagrams of a socket were dropped, as the system last said.
type dropCount struct{ last uint32 }

// since returns how many were dropped since the last call, from what came with a datagram.
func (d *dropCount) since(control []byte) int64 {
	if len(control) == 0 {
		return 0
	}
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_RXQ_OVFL && len(m.Data) >= 4 {
			now := binary.NativeEndian.Uint32(m.Data)
			lost := now - d.last // it wraps
			d.last = now
			return int64(lost)
		}
	}
	return 0
}
