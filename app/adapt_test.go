package app

import "testing"

// Only the webhooks of this very process are let through, under any name of this machine.
func TestLeadsTo(t *testing.T) {
	for _, c := range []struct {
		address, listener string
		want              bool
	}{
		{"127.0.0.1:8080", "127.0.0.1:8080", true},
		{"localhost:8080", ":8080", true},
		{"[::1]:8080", "0.0.0.0:8080", true},
		{"127.0.0.1:8081", "127.0.0.1:8080", false},
		{"example.com:8080", "127.0.0.1:8080", false},
		{"192.0.2.1:8080", ":8080", false},
		{"nonsense", ":8080", false},
	} {
		if got := leadsTo(c.address, c.listener); got != c.want {
			t.Errorf("%s reaches %s: %v", c.address, c.listener, got)
		}
	}
}
