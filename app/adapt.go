package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"syscall"
)

// devReserve is what the outbox keeps aside on disk: nothing there is worth more.
const devReserve = 1 << 20

// adapt makes a plan one for development: its own outbox, and listeners on loopback at ports that are free. What a person must
// know about it is in notes afterwards.
func (d *Dev) adapt(ctx context.Context, plan *Plan) error {
	d.notes = nil
	if s := plan.Outbox.SQLite; s != nil {
		s.Path, s.Reserve = DevOutbox, devReserve
	}
	if err := d.listen(ctx, "admin.listen", &plan.Admin.Listen, ""); err != nil {
		return err
	}
	configured := plan.HTTP.Listen
	if err := d.listen(ctx, "http.listen", &plan.HTTP.Listen, plan.Admin.Listen); err != nil {
		return err
	}
	d.own.moved(configured, plan.HTTP.Listen)
	return d.moveSyslog(ctx, plan)
}

// ownWebhooks are the webhooks of this very process: what a sink posts to them reaches nobody else, so that one pipeline can
// feed another in development too.
type ownWebhooks struct{ address atomic.Pointer[[2]string] } // as configured, and where they are

func (o *ownWebhooks) moved(configured, actual string) {
	o.address.Store(&[2]string{configured, actual})
}

// onward says where a request to one of them goes.
func (o *ownWebhooks) onward(scheme, address string) (to string, ok bool) {
	a := o.address.Load()
	if a == nil || scheme != "http" || !leadsTo(address, a[0]) {
		return "", false
	}
	return a[1], true
}

// leadsTo says whether an address of this machine is one at which a listener would be reached.
func leadsTo(address, listener string) bool {
	_, port, err := net.SplitHostPort(address)
	_, own, bad := net.SplitHostPort(listener)
	local, unknown := toLoopback(address)
	return err == nil && bad == nil && unknown == nil && port == own && local == address
}

// listen finds an address for a listener, which is not the other one's.
func (d *Dev) listen(ctx context.Context, key string, address *string, other string) error {
	wanted := *address
	local, err := toLoopback(wanted)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	free, err := freePort(ctx, local, other)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	*address = free
	switch {
	case free != local:
		note := fmt.Sprintf("%s: %s is taken, so it is %s", key, local, free)
		if key == "admin.listen" {
			note += "; other commands need --admin " + free
		}
		d.notes = append(d.notes, note)
	case local != wanted:
		d.notes = append(d.notes, fmt.Sprintf("%s: %s instead of %s, because dev is reached from this machine only", key, local, wanted))
	}
	return nil
}

// toLoopback keeps the port of an address, and its host if that is a loopback address.
func toLoopback(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.IsLoopback() {
		return address, nil
	}
	return net.JoinHostPort("127.0.0.1", port), nil
}

// maxTries is how many ports are tried from the first on.
const maxTries = 100

// freePort returns the address, or the next one where nothing listens. Any other obstacle is left to whoever listens there, who
// says it better.
func freePort(ctx context.Context, address, other string) (string, error) {
	host, text, _ := net.SplitHostPort(address)
	first, err := strconv.Atoi(text)
	if err != nil || first == 0 {
		return address, err
	}
	for port := first; port < min(first+maxTries, 1<<16); port++ {
		candidate := net.JoinHostPort(host, strconv.Itoa(port))
		if candidate == other {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", candidate)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err == nil {
			_ = l.Close()
		}
		return candidate, nil
	}
	return "", fmt.Errorf("%s and the %d ports after it are taken; name a free one", address, maxTries-1)
}
