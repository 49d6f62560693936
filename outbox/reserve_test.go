package outbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/millrace-run/millrace/event"
)

func TestReserve(t *testing.T) {
	const size = 1 << 20
	path := filepath.Join(t.TempDir(), "outbox.db.reserve")
	is := func(want int64) {
		t.Helper()
		info, err := os.Stat(path)
		if want == 0 && !errors.Is(err, fs.ErrNotExist) || want > 0 && (err != nil || info.Size() != want) {
			t.Errorf("want %d bytes: %v, %v", want, info, err)
		}
	}
	ensure := func(size int64, want bool) {
		t.Helper()
		if room, err := (reserve{path, size}).ensure(); room != want || err != nil {
			t.Errorf("%v, %v", room, err)
		}
	}
	ensure(size, true)
	is(size)
	ensure(size, true) // held
	write(t, path, "half made")
	ensure(size, true)
	is(size)
	if !(reserve{path, size}).release() || (reserve{path, size}).release() {
		t.Error("it is released once")
	}
	is(0)
	ensure(1<<60, false) // no room
	is(0)
	ensure(size, true)
	ensure(2*size, true) // other settings
	is(2 * size)
	ensure(0, true) // none is wanted any more
	is(0)
}

// TestFullDisk: the reserve is given up for the settlings, appends are refused until there is room again.
func TestFullDisk(t *testing.T) {
	var f faults
	b := opened(t, Options{Reserve: 1 << 20, fault: f.hook, Clock: hasty{}})
	put(t, b, "1", "2", "3")
	reserved := func() bool { _, err := os.Stat(b.path + reserveSuffix); return err == nil }
	if !reserved() {
		t.Fatal("no reserve")
	}
	f.set(func(query string) error {
		if query == "COMMIT" && reserved() {
			return sqlite3.Error{Code: sqlite3.ErrFull}
		}
		return nil
	})
	settled := make(chan error, 1)
	go func() {
		settled <- commit(t.Context(), b, event.Commit{Settles: []event.Settle{
			{Subscription: "t/eager", Outcomes: []event.Outcome{{Offset: 1}}}}})
	}()
	if err := <-settled; err != nil {
		t.Errorf("the reserve was not used: %v", err)
	}
	f.set(func(string) error { return nil })
	settle(t, b, "t/eager", event.Outcome{Offset: 2})
	if b.Full() || !reserved() {
		t.Errorf("full %v, reserved %v", b.Full(), reserved())
	}
	put(t, b, "4")
	sameOnDisk(t, b)
}

// TestFullWithoutReserve: settlings wait in memory until there is room, work is refused.
func TestFullWithoutReserve(t *testing.T) {
	var f faults
	b := opened(t, Options{fault: f.hook, Clock: hasty{}})
	put(t, b, "1")
	tries := make(chan struct{}, 1000)
	full := func(query string) error {
		if query != "COMMIT" {
			return nil
		}
		tries <- struct{}{}
		return sqlite3.Error{Code: sqlite3.ErrFull}
	}
	f.set(full)
	if err := b.subscription("t/lazy").Settle(t.Context(), []event.Outcome{{Offset: 1}}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		<-tries
	}
	if err := b.Configure(t.Context(), crashLayout); !errors.Is(err, event.ErrFull) {
		t.Error(err)
	}
	if at, _ := b.subscription("t/lazy").Position(); at != 0 {
		t.Error("not yet settled on disk")
	}
	f.set(func(string) error { return nil })
	settle(t, b, "t/eager", event.Outcome{Offset: 1})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = opened(t, Options{Path: b.path})
	if at, _ := b.subscription("t/lazy").Position(); at != 1 {
		t.Errorf("the settling is lost: at %d", at)
	}
}
