package tail

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Many files are read with few descriptors, and no line is lost.
func TestManyFiles(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.limits.open = 5
	r.start()
	for round := range 3 {
		for i := range 200 {
			r.write(fmt.Sprintf("%d.log", i), fmt.Sprintf("line %d of %d\n", round, i))
		}
		r.look()
		if r.engine.open > 5 {
			t.Fatalf("%d files are open", r.engine.open)
		}
	}
	if n := len(r.lines()); n != 600 {
		t.Errorf("%d lines", n)
	}
	for i := range 200 {
		r.remove(fmt.Sprintf("%d.log", i))
	}
	r.pass(15 * time.Second)
	if len(r.state) != 1 || len(r.engine.files) != 0 || r.engine.open != 0 {
		t.Errorf("%d positions, %d files, %d open after all were deleted", len(r.state), len(r.engine.files), r.engine.open)
	}
}

// A file that has much does not keep the others waiting.
func TestFair(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.limits.chunk = 1 << 10
	r.start()
	r.write("a.log", strings.Repeat("much\n", 100_000))
	r.write("b.log", "little\n")
	r.engine.look(r.now)
	b, _ := r.engine.next(r.now)
	for i, e := range b.All() {
		if string(e.Data) == "little" {
			if i > 1000 {
				t.Errorf("it comes after %d lines of the other", i)
			}
			return
		}
	}
	t.Error("it is not in the first batch")
}

func TestBatchesAreBounded(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", strings.Repeat("short\n", 10_000)+strings.Repeat(strings.Repeat("x", 100_000)+"\n", 30))
	r.engine.look(r.now)
	n := 0
	for {
		b, ok := r.engine.next(r.now)
		if !ok {
			break
		}
		size := 0
		for _, e := range b.All() {
			size += len(e.Data)
		}
		if b.Len() > 8192 || size > 1<<20 {
			t.Errorf("a batch of %d events and %d bytes", b.Len(), size)
		}
		n += b.Len()
	}
	if n != 10_030 {
		t.Errorf("%d lines", n)
	}
}

// What an event holds stays as it is, whatever is read later.
func TestEventsKeepTheirBytes(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	var want bytes.Buffer
	for i := range 50 {
		text := numbered(i*100, i*100+100)
		want.WriteString(text)
		r.write("a.log", text)
		r.look()
	}
	if got := strings.Join(r.lines(), "\n") + "\n"; got != want.String() {
		t.Error("the lines changed after they were handed out")
	}
}

// broken is a disk on which some things fail.
type broken struct {
	systemDisk
	openErr, folderErr error
	device2            uint64 // added to the device of every file
	unmounted          bool
}

func (b *broken) open(path string) (handle, error) {
	if b.openErr != nil {
		return nil, b.openErr
	}
	if b.unmounted && b.folderErr == nil {
		return nil, fs.ErrNotExist
	}
	h, err := b.systemDisk.open(path)
	if err != nil {
		return nil, err
	}
	return brokenHandle{h, b}, nil
}

type brokenHandle struct {
	handle
	disk *broken
}

func (h brokenHandle) stat() (info, error) {
	i, err := h.handle.stat()
	i.dev += h.disk.device2
	return i, err
}

func (b *broken) glob(pattern string) ([]entry, error) {
	if b.unmounted {
		return nil, nil
	}
	all, err := b.systemDisk.glob(pattern)
	for i := range all {
		all[i].dev += b.device2
	}
	return all, err
}

func (b *broken) folder(path string) ([]entry, error) {
	if b.folderErr != nil || b.unmounted {
		return nil, b.folderErr
	}
	return b.systemDisk.folder(path)
}

func (b *broken) device(folder string) (uint64, error) {
	dev, err := b.systemDisk.device(folder)
	if b.unmounted {
		dev += 100
	}
	return dev + b.device2, err
}

func TestUnreadableFile(t *testing.T) {
	var said bytes.Buffer
	r := newRig(t, t.TempDir(), "*.log")
	r.log = slog.New(slog.NewTextHandler(&said, nil))
	d := &broken{openErr: &fs.PathError{Op: "open", Path: "a.log", Err: syscall.EACCES}}
	r.disk = d
	r.start()
	r.write("a.log", "one\n")
	r.pass(10 * time.Second)
	if n := strings.Count(said.String(), "a file cannot be read"); n != 1 {
		t.Errorf("told %d times:\n%s", n, said.String())
	}
	d.openErr = nil
	r.want("one")
}

// While a folder cannot be listed, or another file system is to be mounted over it, nothing in it counts as lost.
func TestFolderIsAway(t *testing.T) {
	for name, away := range map[string]func(*broken, bool){
		"unmounted": func(d *broken, yes bool) { d.unmounted = yes },
		"forbidden": func(d *broken, yes bool) {
			d.unmounted, d.folderErr = yes, nil
			if yes {
				d.folderErr = fs.ErrPermission
			}
		},
	} {
		d := &broken{}
		r := newRig(t, t.TempDir(), "*.log")
		r.disk = d
		r.start()
		r.write("a.log", "one\n")
		r.want("one")
		r.write("a.log", "two\n")
		r.start()
		away(d, true)
		r.pass(time.Minute)
		away(d, false)
		r.want("two")
		if c := r.counts.read(); c.Losses != 0 {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// A device may have another number after the machine was started.
func TestDeviceRenumbered(t *testing.T) {
	d := &broken{}
	r := newRig(t, t.TempDir(), "*.log")
	r.disk = d
	r.start()
	r.write("a.log", "one\n")
	r.want("one")
	d.device2 = 7
	r.write("a.log", "two\n")
	r.start()
	r.want("two")
	r.start()
	r.want()
}

// A pipe is neither read nor waited for.
func TestNotRegular(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	if err := syscall.Mkfifo(r.path("a.log"), 0o600); err != nil {
		t.Skip(err)
	}
	r.check(os.Mkdir(r.path("b.log"), 0o700))
	r.check(os.Symlink("nowhere", r.path("c.log")))
	r.want()
	if _, err := (systemDisk{}).open(r.path("a.log")); err == nil {
		t.Error("a pipe was opened")
	}
}

func TestUnreadableState(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	for _, state := range []string{"", "{", `{"offset":-1}`, `{"head_sum":"x"}`, `{"head":5000}`} {
		if _, err := newEngine(r.engine.settings, r.disk, r.log, &r.counts, map[string][]byte{"k": []byte(state)}); err == nil {
			t.Errorf("%q was taken for a position", state)
		}
	}
}
