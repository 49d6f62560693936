package freeport_test

import (
	"net"
	"testing"

	"github.com/millrace-run/millrace/internal/freeport"
)

func TestFind(t *testing.T) {
	found, err := freeport.Find(20)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, address := range found {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		_ = l.Close()
		seen[address] = true
	}
	if len(seen) != 20 {
		t.Errorf("%d of 20 differ", len(seen))
	}
}
