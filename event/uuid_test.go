package event

import (
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestUUIDs(t *testing.T) {
	now := time.UnixMilli(0x0123456789AB)
	form := regexp.MustCompile(`^01234567-89ab-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen, random := map[string]bool{}, &UUIDs{}
	for range 1000 {
		id := random.Next(now)
		if !form.MatchString(id) || seen[id] {
			t.Fatalf("got %s", id)
		}
		seen[id] = true
	}
	var ids []string
	for i := range 100 {
		ids = append(ids, random.Next(now.Add(time.Duration(i)*time.Millisecond)))
	}
	if !slices.IsSorted(ids) {
		t.Error("ids do not sort by time")
	}
	var group sync.WaitGroup // everybody gets bytes of their own
	parts := make([][1000][10]byte, 4)
	for p := range parts {
		group.Go(func() {
			for i := range parts[p] {
				random.fill(parts[p][i][:])
			}
		})
	}
	group.Wait()
	given := map[[10]byte]bool{}
	for _, part := range parts {
		for _, b := range part {
			given[b] = true
		}
	}
	if len(given) != 4000 {
		t.Errorf("%d of 4000 times other bytes", len(given))
	}
}
