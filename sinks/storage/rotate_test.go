package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

// dial is a clock that a test sets. Nothing ever waits for it to move but who asks again.
type dial struct {
	mu sync.Mutex // guards at
	at time.Time
}

func newDial() *dial { return &dial{at: time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)} }

func (d *dial) Now() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at
}

func (d *dial) After(time.Duration) (<-chan time.Time, func()) { return nil, func() {} }

func (d *dial) add(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = d.at.Add(by)
}

// keep is a turn of what goes on beside the deliveries.
func (w *world) keep() error {
	w.sink.keeper.turn(w.t.Context())
	if w.disk.dead {
		return errCrash
	}
	return nil
}

// closeAll lets time pass until every file is closed and packed.
func (w *world) closeAll(power bool, r *rand.Rand) {
	w.t.Helper()
	for turn := 0; ; turn++ {
		if turn > 200 {
			w.t.Fatalf("files stay open: due %v, moving %d, log", w.sink.Due(), len(w.sink.moving))
		}
		if w.disk.dead {
			if err := w.reboot(power, r, w.then()); err != nil && !errors.Is(err, errCrash) {
				w.t.Fatal(err)
			}
			continue
		}
		if w.disk.fault.at == 0 && w.sink.Due().IsZero() && len(w.sink.moving) == 0 && w.sink.Counts().Waiting == 0 {
			return
		}
		if w.disk.steps > w.disk.fault.at+20 {
			w.disk.fault = fault{}
		}
		w.clock.add(2 * time.Hour)
		err := w.sink.Tend(w.t.Context())
		if w.disk.dead {
			err = errCrash
		} else if err != nil {
			err = w.open()
		}
		if err == nil {
			err = w.keep()
		}
		if turn > 100 {
			w.disk.fault = fault{}
		}
		if errors.Is(err, errCrash) {
			err = w.reboot(power, r, w.then())
		}
		if err != nil && !errors.Is(err, errCrash) {
			w.t.Fatal(err)
		}
	}
}

// recordOf is an event as it is compared: without what the form puts around it.
func (w *world) recordOf(ev *event.Event) string {
	line, err := w.sink.form.append(nil, ev)
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimPrefix(strings.TrimSuffix(string(line), "\n"), ",\n") + "\n"
}

var closedName = regexp.MustCompile(`^(.*?)(\.[0-9]{8}T[0-9]{6}\.[0-9]{3}Z)?(\.[0-9]+)?(\.(?:ndjson|csv|json|log))(\.gz|\.zst)?$`)

// checkClosed compares the files of each path, the closed ones by name and the open one last, with the model. Only when nothing is
// under way there must be nothing else; before that a file may stand there plain and packed, if both hold the same.
func (w *world) checkClosed(when string) {
	w.t.Helper()
	files := w.disk.files()
	got, quiet := map[string]string{}, w.sink.Counts().Waiting == 0 && len(w.sink.moving) == 0
	for _, name := range slices.SortedFunc(maps.Keys(files), w.compareClosed) {
		if strings.HasSuffix(name, ".partial") && !quiet {
			continue
		}
		m := closedName.FindStringSubmatch(path.Base(name))
		if m == nil {
			w.t.Fatalf("%s: a further file %s", when, name)
		}
		content := unwrap(w.t, name, files[name])
		if plain, ok := files[strings.TrimSuffix(name, m[5])]; ok && m[5] != "" && m[2] != "" {
			if quiet || plain != content {
				w.t.Fatalf("%s: %s stands there plain too", when, name)
			}
			continue
		}
		open := m[2] == "" && m[5] == "" && w.isOpen(name)
		got[m[1]+".ndjson"] += w.records(name, content, open)
	}
	want := w.want()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !quiet && w.sink.packing != "" && !w.sink.stamps {
			continue // the plain form of a file of another name may stand beside it
		}
		if got[name] != want[name] {
			w.t.Fatalf("%s: %s holds\n%s\nwant\n%s\nfiles %q", when, name, got[name], want[name], slices.Sorted(maps.Keys(files)))
		}
	}
}

// isOpen says whether a file is in the state as one that is written.
func (w *world) isOpen(name string) bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(w.sink.files)), func(e *entry) bool { return e.at == name })
}

// compareClosed sorts a path's packed file without a time first, then those with a time or number, the open one last.
// Where closing leaves a file its name, the numbers follow it.
func (w *world) compareClosed(a, b string) int {
	rank := func(name string) string {
		m := closedName.FindStringSubmatch(path.Base(name))
		switch {
		case m == nil:
			return name
		case m[2] == "" && m[3] == "" && (m[5] != "" || !w.sink.renames):
			return m[1] + "\x01"
		case m[2] == "" && m[3] == "":
			return m[1] + "~"
		}
		return m[1] + m[2] + fmt.Sprintf("%8s", m[3])
	}
	return strings.Compare(rank(a), rank(b))
}

// wrapping packs nothing, but shows where what is packed begins and ends: the real packers are too slow for a thousand crashes.
type wrapping struct {
	io.Writer
	begun bool
}

func (p *wrapping) Write(b []byte) (int, error) {
	if !p.begun {
		p.begun = true
		if _, err := io.WriteString(p.Writer, "<packed>"); err != nil {
			return 0, err
		}
	}
	return p.Writer.Write(b)
}

func (p *wrapping) Close() error {
	_, err := io.WriteString(p.Writer, "</packed>")
	return err
}

func wrap(_ string, w io.Writer) (io.WriteCloser, error) { return &wrapping{Writer: w}, nil }

func unwrap(t tb, name, content string) string {
	t.Helper()
	if ext := path.Ext(name); ext != suffixGzip && ext != suffixZstd {
		return content
	}
	rest, begins := strings.CutPrefix(content, "<packed>")
	rest, ends := strings.CutSuffix(rest, "</packed>")
	if !begins || !ends {
		t.Fatalf("%s is not whole: %q", name, content)
	}
	return rest
}

// records are the lines of a file without what belongs to its form.
func (w *world) records(name, content string, open bool) string {
	w.t.Helper()
	switch {
	case content == "":
		return ""
	case w.sink.form.header != nil:
		rest, ok := strings.CutPrefix(content, string(w.sink.form.header))
		if !ok {
			w.t.Fatalf("%s has no header: %q", name, content)
		}
		return rest
	case w.sink.form.format != formatJSON:
		if !strings.HasSuffix(content, "\n") {
			w.t.Fatalf("%s ends in a torn line: %q", name, content)
		}
		return content
	}
	if open {
		content += endOf(formatJSON)
	}
	var all []json.RawMessage
	if err := json.Unmarshal([]byte(content), &all); err != nil {
		w.t.Fatalf("%s (open %v) is no array: %v\n%s", name, open, err, content)
	}
	var b strings.Builder
	for _, one := range all {
		b.Write(append(one, '\n'))
	}
	return b.String()
}

// closing is a way of closing files.
type closing struct {
	name, path string
	config     func(t tb) func(*Config)
}

// closings are those whose every step is made to fail.
var closings = []closing{
	{"by size", "{{ subject }}.ndjson", func(tb) func(*Config) {
		return func(c *Config) { c.Rotate = Rotate{Size: 400, Age: time.Hour} }
	}},
	{"by size, zstd", "{{ subject }}.ndjson.zst", func(tb) func(*Config) {
		return func(c *Config) { c.Rotate = Rotate{Size: 400, Age: time.Hour} }
	}},
	{"idle, gzip", "{{ subject }}.ndjson.gz", func(tb) func(*Config) { return func(*Config) {} }},
	{"array", "{{ subject }}.json", func(tb) func(*Config) { return func(*Config) {} }},
	{"array by size, zstd", "{{ subject }}.json", func(tb) func(*Config) {
		return func(c *Config) { c.Rotate, c.Compress = Rotate{Size: 400, Age: time.Hour}, "zstd" }
	}},
	{"csv by size", "{{ subject }}.csv", func(t tb) func(*Config) {
		all := columns(t, "id", "id", "n", "data.n", "fill", "data.fill")
		return func(c *Config) { c.Rotate, c.Columns = Rotate{Size: 100, Age: time.Hour}, all }
	}},
	{"kept, zstd", "{{ subject }}.ndjson.zst", func(tb) func(*Config) {
		return func(c *Config) { c.Rotate, c.Keep = Rotate{Size: 400, Age: time.Hour}, Keep{Files: 100} }
	}},
}

// newClosing is a world whose files are closed. The subjects lead to files of the scenario's suffix.
func newClosing(t tb, at int, size int) *world {
	c := closings[at]
	w := newWorld(t, template(t, "/files/"+c.path), size)
	w.config = c.config(t)
	return w
}

func TestEveryStepOfClosing(t *testing.T) {
	for i, c := range closings {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			start := func() *world {
				w := newClosing(t, i, 3)
				w.prepare(func(w *world) { w.owe("a.ndjson") })
				w.clock.add(time.Second)
				w.owe("a.ndjson", "b.ndjson", "a.ndjson", "a.ndjson", "a.ndjson")
				return w
			}
			probe := start()
			probe.finish(false, nil)
			probe.check("without a fault")
			steps := probe.disk.steps
			if steps < 20 {
				t.Fatalf("only %d steps: %v", steps, probe.disk.trace)
			}
			t.Logf("%d steps, files %q", steps, slices.Sorted(maps.Keys(probe.disk.files())))
			for n := 1; n <= steps; n++ {
				everyFault(start, n, (n+i)%2 == 0, closingFaults) // the other way it is in another of the ways of closing
				if os.Getenv("MILLRACE_TORTURE") != "" {
					everyFault(start, n, (n+i)%2 == 1, closingFaults)
				}
			}
		})
	}
}

// closingFaults are fewer for each step: there are more steps, and those of writing have had them all.
var closingFaults = faults{errs: []error{syscall.ENOSPC}, times: []int{1, 9}, seeds: 3}

// TestRecoveryOfClosing crashes each step of the recovery that follows a crash in each step.
func TestRecoveryOfClosing(t *testing.T) {
	start := func() *world {
		w := newClosing(t, slices.IndexFunc(closings, func(c closing) bool { return c.name == "kept, zstd" }), 3)
		w.prepare(func(w *world) { w.owe("a.ndjson") })
		w.owe("a.ndjson", "a.ndjson", "a.ndjson", "a.ndjson")
		return w
	}
	probe := start()
	probe.finish(false, nil)
	for n := 1; n <= probe.disk.steps; n++ {
		for m := 1; m <= 5; m++ {
			for _, power := range []bool{false, true} {
				w := start()
				r := rand.New(rand.NewPCG(uint64(n), uint64(m)))
				w.disk.fault = fault{at: n, crash: true}
				w.after = fault{at: m, crash: true}
				w.finish(power, r)
				w.check(fmt.Sprintf("crash at %d, then at %d, power %v", n, m, power))
			}
		}
	}
}

// TestModelOfClosing delivers random batches under random faults, with few files remembered and time passing between, and compares
// with the model after every round.
func TestModelOfClosing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newClosing(rt, rapid.IntRange(0, len(closings)-1).Draw(rt, "closing"), rapid.IntRange(1, 6).Draw(rt, "batch"))
		w.limits = limits{open: rapid.IntRange(1, 3).Draw(rt, "open"), known: rapid.IntRange(2, 5).Draw(rt, "known"), keep: 2}
		if err := w.open(); err != nil {
			rt.Fatal(err)
		}
		for range rapid.IntRange(1, 8).Draw(rt, "rounds") {
			w.round(rt)
			w.clock.add(time.Duration(rapid.IntRange(-5, 4000).Draw(rt, "seconds")) * time.Second)
		}
		w.disk.fault = fault{}
		w.finish(false, nil)
		w.check("at the end")
	})
}

// What is packed is not packed anew, and what is removed is what keep says, the oldest first.
func TestKeep(t *testing.T) {
	for _, c := range []struct {
		name string
		keep Keep
		want int
	}{
		{"files", Keep{Files: 3}, 3},
		{"age", Keep{Age: 150 * time.Minute}, 3},
		{"size", Keep{Size: 700}, 2},
		{"all", Keep{Files: 100}, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, template(t, "/files/{{ subject }}.ndjson"), 10)
			w.config = func(config *Config) { config.Rotate, config.Keep = Rotate{Age: time.Hour}, c.keep }
			w.foreign("a.20200102T150405.000Z.ndjson", "theirs\n")
			if err := w.open(); err != nil {
				t.Fatal(err)
			}
			for range 6 {
				w.owe("a.ndjson")
				if err := w.deliver(); err != nil {
					t.Fatal(err)
				}
				w.clock.add(time.Hour)
				if err := errors.Join(w.sink.Tend(t.Context()), w.keep()); err != nil {
					t.Fatal(err)
				}
			}
			files := w.disk.files()
			if got := len(files) - 1; got != c.want || files["a.20200102T150405.000Z.ndjson"] == "" {
				t.Errorf("%d files are left, want %d: %q", got, c.want, slices.Sorted(maps.Keys(files)))
			}
			if got := w.sink.Counts(); got.Closed != 6 || got.Removed != int64(6-c.want) || got.Left != 0 {
				t.Errorf("counts %+v", got)
			}
			if len(w.state) != c.want+1 { // and the last time
				t.Errorf("the state holds %d files", len(w.state))
			}
		})
	}
}

// A file that is not what the sink closed is not removed and not packed.
func TestClosedFilesOfOthers(t *testing.T) {
	for _, touch := range []func(w *world, name string){
		func(w *world, name string) { w.disk.put(name, w.disk.files()[name]+"theirs\n") },
		func(w *world, name string) { w.disk.put(name, "theirs, and as long as it was before or longer\n") },
		func(w *world, name string) { w.disk.take(name); w.disk.put(name, "theirs\n") },
	} {
		for _, suffix := range []string{"", ".zst"} {
			w := newWorld(t, template(t, "/files/{{ subject }}.ndjson"+suffix), 10)
			w.config = func(c *Config) { c.Rotate, c.Keep = Rotate{Age: time.Hour}, Keep{Files: 1} }
			if err := w.open(); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				w.owe("a.ndjson")
				if err := w.deliver(); err != nil {
					t.Fatal(err)
				}
				w.clock.add(time.Hour)
				if err := w.sink.Tend(t.Context()); err != nil {
					t.Fatal(err)
				}
				if names := slices.Sorted(maps.Keys(w.disk.files())); len(names) == 1 {
					touch(w, names[0])
				}
			}
			if err := w.keep(); err != nil {
				t.Fatal(err)
			}
			theirs := strings.Contains(fmt.Sprint(w.disk.files()), "theirs")
			if got := w.sink.Counts(); got.Left != 1 || got.Removed != 0 || !theirs {
				t.Errorf("counts %+v, files %q", got, w.disk.files())
			}
		}
	}
}

// Names sort in the order of the events, though the clock is set back.
func TestNamesSort(t *testing.T) {
	w := newWorld(t, template(t, "/files/{{ subject }}.log"), 1)
	w.config = func(c *Config) { c.Rotate = Rotate{Size: 1} }
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		w.owe("a")
		if err := w.deliver(); err != nil {
			t.Fatal(err)
		}
		w.clock.add(-time.Minute)
	}
	files := w.disk.files()
	var all []byte
	for _, name := range slices.Sorted(maps.Keys(files)) {
		all = append(all, files[name]...)
	}
	for i := range 5 {
		at := bytes.Index(all, fmt.Appendf(nil, "e-%04d", i))
		if at < 0 || i > 0 && at < bytes.Index(all, fmt.Appendf(nil, "e-%04d", i-1)) {
			t.Errorf("event %d is out of order: %q", i, files)
		}
	}
}
