package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/sinks/sinktest"
)

// bench is a sink on the real file system with the state that was committed.
type bench struct {
	*Sink
	t     *testing.T
	state map[string][]byte
	log   output
	saves int
	mu    sync.Mutex    // guards state and saves: what goes on beside the deliveries saves too
	set   func(*Config) // nil for a sink that closes no file
	clock event.Clock
}

// output is a log that may be read while it is written.
type output struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func newBench(t *testing.T, path string) *bench {
	t.Helper()
	b := &bench{t: t, state: map[string][]byte{}}
	b.restart(path)
	return b
}

// restart is a new process on the committed state, as after a kill.
func (b *bench) restart(path string) {
	b.t.Helper()
	config := Defaults()
	config.Path, config.Content = template(b.t, path), contentData
	options := []Option{Logger(slog.New(slog.NewTextHandler(&b.log, nil)))}
	if b.set != nil {
		b.set(&config)
		options = append(options, Clock(b.clock))
	}
	s, err := New(config, options...)
	if err != nil {
		b.t.Fatal(err)
	}
	if b.Sink != nil {
		b.keeper.close() // a killed process leaves no goroutine
	}
	b.Sink = s
	b.open()
	b.t.Cleanup(func() { _ = s.Close() })
}

func (b *bench) open() {
	b.t.Helper()
	b.mu.Lock()
	state := maps.Clone(b.state)
	b.mu.Unlock()
	if err := b.Open(b.t.Context(), state, b.save); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) save(_ context.Context, changes event.Changes) error {
	b.apply(changes)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.saves++
	return nil
}

func (b *bench) apply(changes event.Changes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, v := range changes {
		if v == nil {
			delete(b.state, k)
		} else {
			b.state[k] = v
		}
	}
}

// event is an event whose line is text, for the path that subject chooses.
func line(subject, text string) event.Delivery {
	return event.Delivery{Event: &event.Event{ID: text, Source: "/s", Type: "t", Subject: subject, Data: []byte(text)}, Attempt: 1}
}

// put delivers lines and commits the answer, which must be a success.
func (b *bench) put(subject string, lines ...string) {
	b.t.Helper()
	out := b.lose(subject, lines...)
	for _, err := range out.Verdicts {
		if err != nil {
			b.t.Fatal(err)
		}
	}
	b.apply(out.Changes)
}

// lose delivers lines and does not commit the answer.
func (b *bench) lose(subject string, lines ...string) event.Settling {
	var batch []event.Delivery
	for _, text := range lines {
		batch = append(batch, line(subject, text))
	}
	return b.Deliver(b.t.Context(), batch)
}

func (b *bench) holds(path, want string) {
	b.t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		b.t.Errorf("%s holds %q (%v), want %q", path, got, err, want)
	}
}

func (b *bench) said(want string) {
	b.t.Helper()
	if !strings.Contains(b.log.String(), want) {
		b.t.Errorf("log %q does not say %q", b.log.String(), want)
	}
}

func (b *bench) fails(class event.Class, want string, subject string) {
	b.t.Helper()
	err := b.lose(subject, "x").Verdicts[0]
	if err == nil {
		b.t.Fatal("accepted")
	}
	if f := event.VerdictOf(err); f.Class != class || !strings.Contains(err.Error(), want) {
		b.t.Errorf("class %d: %v, want %d and %q", f.Class, err, class, want)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAndFoldersAreMade(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t, dir+"/new/er/{{ subject }}/x/f.log")
	if _, err := os.Stat(dir + "/new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder is made before the first delivery: %v", err)
	}
	b.put("../a", "1", "2")
	b.put("../a", "3")
	b.holds(dir+"/new/er/%2E.%2Fa/x/f.log", "1\n2\n3\n")
	if b.saves != 1 {
		t.Errorf("%d saves for one file", b.saves)
	}
}

func TestUnsettledLinesAreCut(t *testing.T) {
	path := t.TempDir() + "/f.log"
	b := newBench(t, path)
	b.put("", "1")
	b.lose("", "2", "3")
	b.holds(path, "1\n2\n3\n")
	b.restart(path)
	b.holds(path, "1\n")
	b.put("", "2")
	b.lose("", "3")
	b.open() // the router's answer to a commit that failed
	b.put("", "3")
	b.holds(path, "1\n2\n3\n")
	if b.log.String() != "" {
		t.Errorf("log %s", b.log.String())
	}
}

func TestUnknownFileIsContinued(t *testing.T) {
	path := t.TempDir() + "/f.log"
	write(t, path, "theirs\ntorn")
	b := newBench(t, path)
	b.lose("", "1")
	b.holds(path, "theirs\ntorn\n1\n")
	b.restart(path)
	b.holds(path, "theirs\ntorn")
	b.put("", "1")
	b.put("", "2")
	b.holds(path, "theirs\ntorn\n1\n2\n")
	b.state = map[string][]byte{} // a new outbox
	b.restart(path)
	b.put("", "3")
	b.holds(path, "theirs\ntorn\n1\n2\n3\n")
}

// What somebody did to a file, while the sink ran or between two runs.
func TestLostFiles(t *testing.T) {
	for _, c := range []struct {
		name  string
		touch func(t *testing.T, path string)
		want  map[string]string
		said  string
	}{
		{"deleted", func(t *testing.T, path string) { _ = os.Remove(path) }, map[string]string{"f.log": "3\n"}, "gone"},
		{"moved", func(t *testing.T, path string) {
			rename(t, path, path+".old")
		}, map[string]string{"f.log": "3\n", "f.log.old": "1\n2\n"}, "gone"},
		{"moved, empty one made", func(t *testing.T, path string) {
			rename(t, path, path+".old")
			write(t, path, "")
		}, map[string]string{"f.log": "3\n", "f.log.old": "1\n2\n"}, "another file"},
		{"replaced", func(t *testing.T, path string) {
			write(t, path+".new", "something else\n")
			rename(t, path+".new", path)
		}, map[string]string{"f.log": "something else\n", "f.1.log": "3\n"}, "another file"},
		{"replaced, first number taken", func(t *testing.T, path string) {
			write(t, path+".new", "something else\n")
			rename(t, path+".new", path)
			write(t, strings.Replace(path, ".log", ".1.log", 1), "taken\n")
		}, map[string]string{"f.log": "something else\n", "f.1.log": "taken\n", "f.2.log": "3\n"}, "f.2.log"},
		{"shortened", func(t *testing.T, path string) {
			_ = os.Truncate(path, 3)
		}, map[string]string{"f.log": "1\n2", "f.1.log": "3\n"}, "3 bytes"},
		{"emptied", func(t *testing.T, path string) { _ = os.Truncate(path, 0) }, map[string]string{"f.log": "3\n"}, "0 bytes"},
		{"made a folder", func(t *testing.T, path string) {
			_ = os.Remove(path)
			_ = os.Mkdir(path, 0o700)
		}, map[string]string{"f.1.log": "3\n"}, "another file"},
	} {
		for _, running := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, running %v", c.name, running), func(t *testing.T) {
				dir := t.TempDir()
				b := newBench(t, dir+"/f.log")
				b.put("", "1", "2")
				if !running {
					_ = b.Close()
				}
				c.touch(t, dir+"/f.log")
				if !running {
					b.restart(dir + "/f.log")
				}
				b.put("", "3")
				b.said(c.said)
				for name, want := range c.want {
					b.holds(filepath.Join(dir, name), want)
				}
				// The new file is in the state: it is cut and continued like any other.
				b.lose("", "4")
				b.restart(dir + "/f.log")
				for name, want := range c.want {
					b.holds(filepath.Join(dir, name), want)
				}
			})
		}
	}
}

// add appends to a file what is not the sink's.
func add(t *testing.T, path, content string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(content)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// finish ends the sink in order.
func (b *bench) finish() {
	b.t.Helper()
	if err := errors.Join(b.Finish(b.t.Context()), b.Close()); err != nil {
		b.t.Fatal(err)
	}
}

// What others added since the sink ended in order stays, by whatever path the sink comes back.
func TestAddedAfterTheEnd(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/f.log"
	b := newBench(t, path)
	b.put("", "1")
	b.finish()
	add(t, path, "theirs\n")
	b.restart(path)
	b.holds(path, "1\ntheirs\n")
	b.said("somebody added")
	b.put("", "2")
	b.lose("", "3")
	b.restart(path) // it did not end in order
	b.holds(path, "1\ntheirs\n2\n")
	b.put("", "3")
	b.finish()
	add(t, path, "theirs")
	b.restart(dir + "/elsewhere/f.log")
	b.put("", "4")
	b.holds(path, "1\ntheirs\n2\n3\ntheirs")
	b.holds(dir+"/elsewhere/f.log", "4\n")
}

// Another sink, one under a new name, went on with the file while the first had ended: its lines stay when the first comes back.
func TestSinkIsRenamedAndBack(t *testing.T) {
	path := t.TempDir() + "/f.log"
	b := newBench(t, path)
	b.put("", "1")
	b.finish()
	other := newBench(t, path)
	other.put("", "2")
	other.finish()
	b.restart(path)
	b.put("", "3")
	b.holds(path, "1\n2\n3\n")
}

// A file may get the inode of one that was removed. It has its own name nevertheless.
func TestInodeIsUsedAgain(t *testing.T) {
	w := newWorld(t, bySubject(t), 10)
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.ndjson", "b.ndjson"} {
		w.owe(name)
		if err := w.deliver(); err != nil {
			t.Fatal(err)
		}
		if name == "a.ndjson" {
			w.disk.gone = append(w.disk.gone, w.disk.take(name).inode)
		}
	}
	if w.disk.files()["b.ndjson"] == "" {
		t.Errorf("files %q", w.disk.files())
	}
}

// Files that are gone do not keep others out of the state.
func TestLostFilesAreForgotten(t *testing.T) {
	dir := t.TempDir()
	for _, set := range []func(*Config){nil, func(c *Config) { c.Rotate = Rotate{Size: 1 << 20} }} {
		b := &bench{t: t, state: map[string][]byte{}, set: set, clock: newDial()}
		b.restart(dir + "/{{ subject }}.log")
		b.limits = limits{open: 2, known: 4, keep: 2}
		for i := range 4 {
			b.put(fmt.Sprint(i), "1")
			if err := os.Remove(fmt.Sprintf("%s/%d.log", dir, i)); err != nil {
				t.Fatal(err)
			}
		}
		b.restart(dir + "/{{ subject }}.log")
		b.limits = limits{open: 2, known: 4, keep: 2}
		for i := range 8 {
			b.put(fmt.Sprint("new", i), "1")
		}
		if len(b.files) > 5 {
			t.Errorf("%d files are known", len(b.files))
		}
		for i := range 4 {
			if b.files[fmt.Sprint(i, ".log")] != nil {
				t.Errorf("file %d, which is gone, is known", i)
			}
		}
	}
}

// A file in whose settled part somebody changed bytes must not be cut, even if the inode is the same.
func TestChangedFileIsNotCut(t *testing.T) {
	path := t.TempDir() + "/f.log"
	b := newBench(t, path)
	b.put("", "1", "2")
	_ = b.Close()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("a config file, say"), 0); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	b.restart(path)
	b.holds(path, "a config file, say")
	b.put("", "3")
	b.holds(path, "a config file, say")
	b.holds(strings.Replace(path, ".log", ".1.log", 1), "3\n")
}

func TestGrownFileIsContinuedWhileRunning(t *testing.T) {
	path := t.TempDir() + "/f.log"
	b := newBench(t, path)
	b.put("", "1")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString("theirs")
	_ = f.Close()
	b.put("", "2")
	b.said("somebody added")
	b.holds(path, "1\ntheirs\n2\n")
	b.restart(path)
	b.holds(path, "1\ntheirs\n2\n")
}

func TestDeviceNumberMayChange(t *testing.T) {
	path := t.TempDir() + "/f.log"
	b := newBench(t, path)
	b.put("", "1")
	b.lose("", "2")
	m, err := decodeMark(b.state[path])
	if err != nil {
		t.Fatal(err)
	}
	m.Dev++
	e := entry{mark: m}
	b.state[path] = e.encode()
	b.restart(path)
	b.holds(path, "1\n")
}

func TestRootIsReplacedWhileRunning(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t, dir+"/data/{{ subject }}/f.log")
	b.put("a", "1")
	rename(t, dir+"/data", dir+"/old")
	b.put("a", "2")
	b.holds(dir+"/old/a/f.log", "1\n")
	b.holds(dir+"/data/a/f.log", "2\n")
}

func TestNothingLeavesTheRoot(t *testing.T) {
	dir := t.TempDir()
	outside := t.TempDir()
	b := newBench(t, dir+"/{{ subject }}/f.log")
	if err := os.Symlink(outside, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/file", "")
	if err := os.MkdirAll(dir+"/folder/f.log", 0o700); err != nil {
		t.Fatal(err)
	}
	b.fails(event.PermanentClass, "escapes", "link")
	b.fails(event.PermanentClass, "not a directory", "file")
	b.fails(event.PermanentClass, "is a directory", "folder")
	b.put("fine", "1")
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("%v is outside of the root", left)
	}
}

func TestLiteralPathThatCannotBeWaits(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/file", "")
	newBench(t, dir+"/file/f.log").fails(event.UnavailableClass, "not a directory", "")
	newBench(t, dir).fails(event.UnavailableClass, "is a directory", "")
	if err := syscall.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	newBench(t, dir+"/pipe").fails(event.UnavailableClass, "not a regular file", "")
	newBench(t, "/dev/null").fails(event.UnavailableClass, "not a regular file", "")
}

func TestOneEventWithoutPathFailsAlone(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t, dir+"/{{ subject }}.log")
	out := b.Deliver(t.Context(), []event.Delivery{line("a", "1"), line("", "2"), line("a", "3")})
	if f := event.VerdictOf(out.Verdicts[1]); f.Class != event.PermanentClass || !strings.Contains(f.Error(), "subject") {
		t.Errorf("verdict %+v", f)
	}
	if out.Verdicts[0] != nil || out.Verdicts[2] != nil {
		t.Errorf("verdicts %v", out.Verdicts)
	}
	b.holds(dir+"/a.log", "1\n3\n")
}

// Paths that lead to one file by different names must not write over each other.
func TestTwoPathsToOneFile(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t, dir+"/{{ subject }}.log")
	b.put("a", "1")
	if err := os.Link(dir+"/a.log", dir+"/b.log"); err != nil {
		t.Fatal(err)
	}
	b.put("b", "2")
	b.put("a", "3")
	b.holds(dir+"/a.log", "1\n3\n")
	b.holds(dir+"/b.1.log", "2\n")
}

func TestManyFiles(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t, dir+"/{{ subject }}.log")
	b.limits = limits{open: 8, known: 20, keep: 10}
	var batch []event.Delivery
	for i := range 40 {
		batch = append(batch, line(fmt.Sprint(i), "1"))
	}
	for round := range 3 {
		out := b.Deliver(t.Context(), batch)
		if i := slices.IndexFunc(out.Verdicts, func(err error) bool { return err != nil }); i >= 0 {
			t.Fatal(out.Verdicts[i])
		}
		b.apply(out.Changes)
		if len(b.opened) > 8 {
			t.Errorf("%d files are open", len(b.opened))
		}
		if round == 0 && b.saves != 5 {
			t.Errorf("%d saves for 40 files, 8 at a time", b.saves)
		}
	}
	b.put("0", "2") // far fewer than there were: the others are forgotten
	if len(b.state) > 20 || len(b.files) != len(b.state) {
		t.Errorf("%d files in the state, %d known", len(b.state), len(b.files))
	}
	b.restart(dir + "/{{ subject }}.log")
	for i := range 40 {
		b.put(fmt.Sprint(i), "3")
	}
	b.holds(dir+"/0.log", "1\n1\n1\n2\n3\n")
	b.holds(dir+"/39.log", "1\n1\n1\n3\n")
}

// A path whose own file is somebody else's by now keeps its numbered one, however many other files there are.
func TestNumberedFileIsNotForgotten(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t, dir+"/{{ subject }}.log")
	b.limits = limits{open: 2, known: 4, keep: 2}
	b.put("a", "1")
	write(t, dir+"/a.log.new", "theirs\n")
	rename(t, dir+"/a.log.new", dir+"/a.log")
	b.put("a", "2")
	for i := range 10 {
		b.put(fmt.Sprint(i), "x")
	}
	b.put("a", "3")
	b.holds(dir+"/a.log", "theirs\n")
	b.holds(dir+"/a.1.log", "2\n3\n")
}

// When the path in the configuration changes, what is unsettled below the old root is cut, and the old files are forgotten.
func TestRootChangesBetweenRuns(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t, dir+"/old/{{ subject }}.log")
	b.put("a", "1")
	b.lose("a", "2")
	b.restart(dir + "/new/{{ subject }}.log")
	b.holds(dir+"/old/a.log", "1\n")
	if len(b.state) != 0 {
		t.Errorf("the state still has %d files", len(b.state))
	}
	b.put("a", "2")
	b.holds(dir+"/new/a.log", "2\n")
	b.restart(dir + "/{{ type }}/{{ subject }}.log") // a root above
	b.lose("b", "3")
	b.restart(dir + "/t/{{ subject }}.log") // and one below
	b.holds(dir+"/t/b.log", "")
	b.put("b", "3")
	b.holds(dir+"/t/b.log", "3\n")
}

// When a path without expressions changes within its folder, the old file is done with: nobody's bytes are cut from it later.
func TestNameChangesBetweenRuns(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t, dir+"/old.log")
	b.put("", "1")
	b.lose("", "2")
	b.restart(dir + "/new.log")
	b.holds(dir+"/old.log", "1\n")
	b.put("", "2")
	add(t, dir+"/old.log", "theirs\n")
	b.restart(dir + "/new.log")
	b.holds(dir+"/old.log", "1\ntheirs\n")
	b.holds(dir+"/new.log", "2\n")

	b.set, b.clock = func(c *Config) { c.Rotate = Rotate{Size: 1 << 20} }, newDial()
	b.restart(dir + "/newest.log")
	b.put("", "3")
	if got := names(t, dir); len(got) != 3 || got[0] != "new.20260102T150405.000Z.log" {
		t.Errorf("files %q", got)
	}
}

func TestOpenRefusesAStateThatItCannotRead(t *testing.T) {
	for _, value := range []string{"", "{}", "not json", `{"root":"/x","name":"../y"}`, `{"root":"/x","name":"y","length":-1}`} {
		b := newBench(t, t.TempDir()+"/f.log")
		if err := b.Open(t.Context(), map[string][]byte{"/x/f.log": []byte(value)}, b.save); err == nil {
			t.Errorf("%q is accepted", value)
		}
		b.fails(event.UnavailableClass, "not open", "")
	}
}

// A sink of another type had the name: what it left in the state is not looked at, and stays.
func TestStateOfAnotherType(t *testing.T) {
	b := newBench(t, t.TempDir()+"/f.log")
	b.state["next"], b.state["pin/0000000001"] = []byte("2"), []byte(`{"key":"k"}`)
	b.open()
	b.put("", "1")
	if len(b.state) != 3 {
		t.Errorf("the state is %q", b.state)
	}
}

func TestSaveThatFails(t *testing.T) {
	path := t.TempDir() + "/f.log"
	b := newBench(t, path)
	cause := errors.New("the log is closed")
	if err := b.Open(t.Context(), nil, func(context.Context, event.Changes) error { return cause }); err != nil {
		t.Fatal(err)
	}
	b.fails(event.UnavailableClass, cause.Error(), "")
	b.holds(path, "")
	b.open()
	b.put("", "1")
	b.holds(path, "1\n")
}

func TestClosedSink(t *testing.T) {
	b := newBench(t, t.TempDir()+"/f.log")
	b.put("", "1")
	for range 2 {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	b.fails(event.UnavailableClass, "not open", "")
}

// What happens to a file while a batch is being written to it.
func TestTouchedDuringAWrite(t *testing.T) {
	for _, c := range []struct {
		name  string
		touch func(t *testing.T, path string) error
		want  map[string]string
	}{
		{"moved", func(t *testing.T, path string) error {
			rename(t, path, path+".old")
			return nil
		}, map[string]string{"f.log.old": "1\n", "f.log": "2\n"}},
		{"replaced", func(t *testing.T, path string) error {
			rename(t, path, path+".old")
			write(t, path, "theirs\n")
			return nil
		}, map[string]string{"f.log.old": "1\n", "f.log": "theirs\n", "f.1.log": "2\n"}},
		{"emptied, and the sync fails", func(t *testing.T, path string) error {
			return errors.Join(os.Truncate(path, 0), syscall.EIO)
		}, map[string]string{"f.log": "2\n"}},
		{"the sync fails", func(*testing.T, string) error { return syscall.EIO }, map[string]string{"f.log": "1\n2\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			b := newBench(t, dir+"/f.log")
			hook := func() error { return nil }
			b.mount = func(folder string, create bool) (volume, error) {
				v, err := mountFolder(folder, create)
				if err != nil {
					return nil, err
				}
				return hooked{v, &hook}, nil
			}
			b.put("", "1")
			hook = func() error {
				hook = func() error { return nil }
				return c.touch(t, dir+"/f.log")
			}
			b.fails(event.UnavailableClass, "f.log", "")
			b.put("", "2")
			for name, want := range c.want {
				b.holds(filepath.Join(dir, name), want)
			}
		})
	}
}

// hooked is a volume that calls a function before each sync of a file.
type hooked struct {
	volume
	hook *func() error
}

func (h hooked) create(name string) (file, error) {
	f, err := h.volume.create(name)
	return hookedFile{f, h.hook}, err
}

func (h hooked) open(name string) (file, error) {
	f, err := h.volume.open(name)
	return hookedFile{f, h.hook}, err
}

type hookedFile struct {
	file
	hook *func() error
}

func (f hookedFile) Sync() error {
	if err := (*f.hook)(); err != nil {
		return err
	}
	return f.file.Sync()
}

// gate lets syncs wait.
type gate struct {
	mu      sync.Mutex // guards what follows
	stall   chan struct{}
	reached chan struct{}
}

func (g *gate) wait() error {
	g.mu.Lock()
	stall, reached := g.stall, g.reached
	g.mu.Unlock()
	if stall == nil {
		return nil
	}
	select {
	case reached <- struct{}{}:
	default:
	}
	<-stall
	return nil
}

func TestConformance(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{
		New: newSubject, Serial: true,
		Deaf: "a write to a file cannot be interrupted; the sink hears its context between files",
	})
}

func newSubject(t *testing.T) *sinktest.Subject {
	dir := t.TempDir()
	root := dir + "/root"
	config := Defaults()
	config.Path = template(t, root+"/{{ type }}/f.ndjson")
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{}
	hook := g.wait
	s.mount = func(folder string, create bool) (volume, error) {
		v, err := mountFolder(folder, create)
		if err != nil {
			return nil, err
		}
		return hooked{v, &hook}, nil
	}
	return &sinktest.Subject{
		Sink:     s,
		Received: func(t *testing.T) []sinktest.Received { return readBack(t, root+"/test.event/f.ndjson") },
		Down: func() {
			rename(t, root, dir+"/away")
			write(t, root, "in the way")
		},
		Up: func() { rename(t, root, dir+"/in-the-way"); rename(t, dir+"/away", root) },
		Stall: func() (<-chan struct{}, func()) {
			g.mu.Lock()
			defer g.mu.Unlock()
			stall, reached := make(chan struct{}), make(chan struct{}, 1)
			g.stall, g.reached = stall, reached
			return reached, func() { close(stall) }
		},
		Verdicts: []sinktest.Verdict{
			{Name: "a file where a folder must be", Prepare: func() {
				if err := os.MkdirAll(root, 0o700); err != nil {
					t.Fatal(err)
				}
				write(t, root+"/blocked", "")
			}, Spoil: func(ev *event.Event) { ev.Type = "blocked" }, Class: event.PermanentClass},
			{Name: "no root", Prepare: func() {
				rename(t, root, dir+"/away")
				write(t, root, "in the way")
			}, Class: event.UnavailableClass},
		},
		Close: func() { _ = s.Close() },
	}
}

func readBack(t *testing.T, path string) []sinktest.Received {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var got []sinktest.Received
	for text := range bytes.Lines(content) {
		ev, err := codec.DecodeJSON(text, 0)
		if err != nil || !bytes.HasSuffix(text, []byte("\n")) {
			t.Fatalf("line %q: %v", text, err)
		}
		got = append(got, sinktest.Received{ID: ev.ID, Data: ev.Data})
	}
	return got
}
