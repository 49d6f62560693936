package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/millrace-run/millrace/event"
)

// closingBench is a bench whose sink closes files, by a clock that the test sets.
func closingBench(t *testing.T, path string, set func(*Config)) (*bench, *dial) {
	t.Helper()
	clock := newDial()
	b := &bench{t: t, state: map[string][]byte{}}
	b.set, b.clock = set, clock
	b.restart(path)
	return b, clock
}

// tend lets time pass and closes what is due.
func (b *bench) tend(clock *dial, after time.Duration) {
	b.t.Helper()
	clock.add(after)
	if err := b.Tend(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// settled waits until everything that was closed is packed.
func (b *bench) settled() {
	b.t.Helper()
	end := time.After(10 * time.Second)
	for b.Counts().Waiting > 0 {
		select {
		case <-end:
			b.t.Fatalf("files wait to be packed: %+v\n%s", b.Counts(), b.log.String())
		case <-time.After(time.Millisecond):
		}
	}
}

// names are the files of a folder.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		all = append(all, e.Name())
	}
	return all
}

func readPacked(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b strings.Builder
	if strings.HasSuffix(path, suffixGzip) {
		r, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.WriteTo(&b)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return b.String()
	}
	r, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.WriteTo(&b); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return b.String()
}

func TestRotateAndPack(t *testing.T) {
	for _, suffix := range []string{suffixGzip, suffixZstd} {
		dir := t.TempDir()
		b, clock := closingBench(t, dir+"/f.log"+suffix, func(c *Config) { c.Rotate = Rotate{Size: 4, Age: time.Hour} })
		b.put("", "1", "2")
		b.holds(dir+"/f.log", "1\n2\n")
		b.put("", "3")
		b.settled()
		b.tend(clock, 2*time.Hour)
		b.settled()
		want := []string{"f.20260102T150405.000Z.log" + suffix, "f.20260102T170405.000Z.log" + suffix}
		if got := names(t, dir); !slices.Equal(got, want) {
			t.Fatalf("files %q, want %q", got, want)
		}
		if got := readPacked(t, dir+"/"+want[0]) + readPacked(t, dir+"/"+want[1]); got != "1\n2\n3\n" {
			t.Errorf("they hold %q", got)
		}
		b.said("is closed")
		b.said("is packed")
		if got := b.Counts(); got != (Counts{Closed: 2, Packed: 2}) {
			t.Errorf("counts %+v", got)
		}
	}
}

// A path that has moved on closes the file before, and what comes late has a file of its own.
func TestPathMovesOn(t *testing.T) {
	dir := t.TempDir()
	b, clock := closingBench(t, dir+"/{{ subject }}.csv.gz", func(c *Config) {
		c.Content, c.Columns = contentEvent, columns(t, "id", "id")
	})
	b.put("mon", "1")
	clock.add(30 * time.Minute)
	b.put("tue", "2")
	if due := b.Due(); !due.Equal(clock.Now().Add(30 * time.Minute)) {
		t.Errorf("due at %v, it is %v", due, clock.Now())
	}
	b.tend(clock, 30*time.Minute)
	b.settled()
	if got := names(t, dir); !slices.Equal(got, []string{"mon.csv.gz", "tue.csv"}) {
		t.Fatalf("files %q", got)
	}
	b.put("mon", "late")
	b.tend(clock, 2*time.Hour)
	b.settled()
	if got := names(t, dir); len(got) != 3 || got[1] != "mon.csv.gz" || readPacked(t, dir+"/"+got[1]) != "id\n1\n" ||
		readPacked(t, dir+"/"+got[0]) != "id\nlate\n" {
		t.Fatalf("files %q", got)
	}
}

// What somebody did to the open file of an array, while the sink ran or between two runs: it is left alone and a new one is begun.
func TestArrayThatOthersTouch(t *testing.T) {
	for _, running := range []bool{true, false} {
		dir := t.TempDir()
		b, clock := closingBench(t, dir+"/f.json", func(c *Config) { c.Rotate = Rotate{Age: time.Hour} })
		b.put("", "1")
		if !running {
			_ = b.Close()
		}
		text, _ := os.ReadFile(dir + "/f.json")
		if running {
			write(t, dir+"/f.json", string(text)+"theirs")
		} else {
			write(t, dir+"/f.json", "[theirs")
			b.restart(dir + "/f.json")
		}
		b.put("", "2")
		b.tend(clock, time.Hour)
		b.said("left alone")
		got := names(t, dir)
		if len(got) != 2 || got[1] != "f.json" && got[0] != "f.json" {
			t.Fatalf("files %q", got)
		}
		if b.Counts().Left != 1 || b.Counts().Closed != 1 {
			t.Errorf("counts %+v", b.Counts())
		}
	}
}

// A file of another form is closed before lines are written in the new one.
func TestFormChanges(t *testing.T) {
	dir := t.TempDir()
	b, _ := closingBench(t, dir+"/f.out", func(c *Config) { c.Format, c.Rotate = formatJSON, Rotate{Age: time.Hour} })
	b.put("", "1")
	b.set = func(*Config) {}
	b.restart(dir + "/f.out")
	b.put("", "2")
	got := names(t, dir)
	if len(got) != 2 || got[1] != "f.out" {
		t.Fatalf("files %q", got)
	}
	b.holds(dir+"/f.out", "2\n")
	b.holds(dir+"/"+got[0], "[\n1\n]\n")
	b.restart(dir + "/f.out")
	b.put("", "3")
	b.holds(dir+"/f.out", "2\n3\n")
}

// Nobody can make the sink write to a closed file by naming it.
func TestClosedFileIsFinal(t *testing.T) {
	dir := t.TempDir()
	b, clock := closingBench(t, dir+"/{{ subject }}.log", func(c *Config) { c.Rotate = Rotate{Age: time.Hour} })
	b.put("a", "1")
	b.tend(clock, time.Hour)
	b.put("a.20260102T160405.000Z", "x")
	b.holds(dir+"/a.20260102T160405.000Z.log", "1\n")
	b.holds(dir+"/a.20260102T160405.000Z.1.log", "x\n")
}

// The oldest files are closed when there are more than max_files, and no more descriptors are open than may be.
func TestMaxFilesCloses(t *testing.T) {
	dir := t.TempDir()
	b, _ := closingBench(t, dir+"/{{ subject }}.log", func(c *Config) { c.MaxFiles, c.Rotate = 8, Rotate{Size: 1 << 20} })
	b.limits.open = 4
	for i := range 40 {
		b.put(fmt.Sprintf("s%02d", i), "1")
		if len(b.opened) > 4 || len(b.files) > 9 {
			t.Fatalf("%d open, %d known", len(b.opened), len(b.files))
		}
	}
	if got := b.Counts().Closed; got < 30 {
		t.Errorf("%d are closed", got)
	}
	for _, name := range names(t, dir) {
		b.holds(dir+"/"+name, "1\n")
	}
}

// A disk that is full in the middle of a batch, of closing and of packing: everything waits, and goes on when there is room.
func TestFullDiskInTheFolder(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("a small disk cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	b, clock := closingBench(t, dir+"/f.log.zst", func(c *Config) { c.Rotate = Rotate{Age: time.Hour} })
	line := strings.Repeat("x", 1000)
	b.put("", line)
	ballast, err := os.Create(dir + "/ballast")
	if err != nil {
		t.Fatal(err)
	}
	for room := make([]byte, 4096); err == nil; {
		_, err = ballast.Write(room)
	}
	_ = ballast.Close()
	out := b.lose("", slices.Repeat([]string{line}, 20)...)
	for _, err := range out.Verdicts {
		if !errors.Is(err, syscall.ENOSPC) || event.VerdictOf(err).Class != event.UnavailableClass {
			t.Fatalf("verdict %v", err)
		}
	}
	b.holds(dir+"/f.log", line+"\n")
	b.tend(clock, time.Hour)
	b.eventually("a problem is told", func() bool { return b.Counts().Problems > 0 })
	if err := os.Remove(dir + "/ballast"); err != nil {
		t.Fatal(err)
	}
	b.put("", "2")
	b.restart(dir + "/f.log.zst") // its clock does not wake the keeper
	b.settled()
	got := names(t, dir)
	if len(got) != 2 || readPacked(t, dir+"/"+got[0]) != line+"\n" {
		t.Fatalf("files %q", got)
	}
	b.holds(dir+"/f.log", "2\n")
}

func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatal("not within 10 s: " + what)
		}
	}
}

// A folder that is removed, or may not be written any more, is waited for; closing goes on behind it.
func TestFolderIsTaken(t *testing.T) {
	dir := t.TempDir()
	b, clock := closingBench(t, dir+"/data/{{ subject }}.log", func(c *Config) { c.Rotate = Rotate{Size: 2} })
	b.put("a", "1")
	if err := os.RemoveAll(dir + "/data"); err != nil {
		t.Fatal(err)
	}
	b.put("a", "2")
	b.said("it is gone")
	b.tend(clock, time.Second)
	got := names(t, dir+"/data")
	if len(got) != 1 {
		t.Fatalf("files %q", got)
	}
	b.holds(filepath.Join(dir, "data", got[0]), "2\n")
}

func TestNoPermission(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("for root nothing is forbidden")
	}
	dir := t.TempDir()
	b, _ := closingBench(t, dir+"/f.log", func(c *Config) { c.Rotate = Rotate{Size: 2} })
	b.put("", "1")
	_ = os.Chmod(dir, 0o500)
	b.fails(event.UnavailableClass, "permission denied", "")
	_ = os.Chmod(dir, 0o700)
	b.open()
	b.put("", "2")
	b.holds(dir+"/f.log", "2\n")
}

// A sink that is closed stops packing at once and finishes it after the next start; nothing of the attempt stays.
func TestPackingHearsItsContext(t *testing.T) {
	dir := t.TempDir()
	b, clock := closingBench(t, dir+"/f.log.zst", func(c *Config) { c.Rotate = Rotate{Age: time.Hour} })
	b.inline = true
	b.keeper.close()
	b.put("", "1")
	b.tend(clock, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.keeper.turn(ctx)
	if got := names(t, dir); len(got) != 1 || !strings.HasSuffix(got[0], ".log") {
		t.Fatalf("files %q", got)
	}
	write(t, dir+"/"+partial(names(t, dir)[0]+".zst"), "what a kill left")
	b.restart(dir + "/f.log.zst")
	b.settled()
	if got := names(t, dir); len(got) != 1 || readPacked(t, dir+"/"+got[0]) != "1\n" {
		t.Fatalf("files %q", got)
	}
	if _, err := os.Stat(dir + "/f.log"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty file is there: %v", err)
	}
}

func TestSettingsThatContradict(t *testing.T) {
	for _, c := range []struct {
		path, key, want string
		set             func(*Config)
	}{
		{"a.ndjson.bz2", "compress", "gzip (.gz) or zstd (.zst)", nil},
		{"a.ndjson.gz", "compress", "contradicts", func(c *Config) { c.Compress = "zstd" }},
		{"a.ndjson.gz", "compress", "contradicts", func(c *Config) { c.Compress = "none" }},
		{"a.ndjson", "compress", "lz4", func(c *Config) { c.Compress = "lz4" }},
		{"a.ndjson", "compress", "nothing closes", func(c *Config) { c.Compress = "gzip" }},
		{"a.json", "path", "nothing closes", nil},
		{"a.json", "content", "no array", func(c *Config) { c.Content = contentRaw; c.Rotate.Size = 1 }},
		{"a.csv", "columns", "needs columns", nil},
		{"a.csv", "content", "columns say", func(c *Config) { c.Content, c.Columns = contentData, columns(t, "id", "id") }},
		{"a.log", "columns", "about csv", func(c *Config) { c.Columns = columns(t, "id", "id") }},
		{"a.log", "header", "about csv", func(c *Config) { c.Header = false }},
		{"a.log", "formulas", "about csv", func(c *Config) { c.Formulas = formulasKeep }},
		{"a.log", "format", "xml", func(c *Config) { c.Format = "xml" }},
		{"a.log", "keep", "nothing closes", func(c *Config) { c.Keep.Files = 3 }},
		{"a.log", "keep", "negative", func(c *Config) { c.Keep.Files = -3 }},
		{"a.log", "rotate", "negative", func(c *Config) { c.Rotate.Age = -3 }},
		{"a.log", "max_files", "at least 1", func(c *Config) { c.MaxFiles = 0 }},
		{"{{ id }}" + strings.Repeat("x", 300), "", "", nil},
	} {
		config := Defaults()
		config.Path = template(t, "data/"+c.path)
		if c.set != nil {
			c.set(&config)
		}
		_, err := New(config)
		var k *event.KeyError
		if errors.As(err, &k) != (c.key != "") || c.key != "" && (k.Key != c.key || !strings.Contains(k.Err.Error(), c.want)) {
			t.Errorf("%s: %v, want %s and %q", c.path, err, c.key, c.want)
		}
	}
	for _, path := range []string{"a.ndjson", "a.ndjson.zst"} { // the working name of one is the path of the other
		config := Defaults()
		config.Path, config.Rotate = template(t, "/data/"+path), Rotate{Size: 1}
		if s, err := New(config); err != nil || s.Exclusive()[0] != "/data/a.ndjson" {
			t.Errorf("%s claims %v, %v", path, s, err)
		}
	}
}

// More lines are refused while more closed files than max_files wait to be packed.
func TestPackingThatDoesNotKeepUp(t *testing.T) {
	b, clock := closingBench(t, t.TempDir()+"/{{ subject }}.log.zst", func(c *Config) { c.MaxFiles = 2 })
	b.inline = true
	b.keeper.close()
	for i := range 3 {
		b.put(fmt.Sprint(i), "1")
	}
	b.tend(clock, time.Hour)
	b.fails(event.UnavailableClass, "3 closed files wait to be packed", "3")
	b.keeper.turn(b.t.Context())
	b.put("3", "1")
}

// Two files of a path that wait to be packed do not get one name.
func TestTwoFilesOfAPathWait(t *testing.T) {
	dir := t.TempDir()
	b, clock := closingBench(t, dir+"/{{ subject }}.log.zst", func(*Config) {})
	b.inline = true
	b.keeper.close()
	for _, text := range []string{"1", "2"} {
		b.put("a", text)
		b.tend(clock, time.Hour)
	}
	b.keeper.turn(t.Context())
	if got, want := names(t, dir), []string{"a.20260102T170405.000Z.log.zst", "a.log.zst"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	if got := b.Counts(); got != (Counts{Closed: 2, Packed: 2}) {
		t.Errorf("counts %+v", got)
	}
}

// A clock that was far ahead delays neither closing nor removing once it is right again, and names still sort.
func TestClockWasAhead(t *testing.T) {
	dir := t.TempDir()
	b, clock := closingBench(t, dir+"/f.log", func(c *Config) { c.Rotate, c.Keep = Rotate{Age: time.Hour}, Keep{Age: 3 * time.Hour} })
	b.inline = true
	b.keeper.close()
	const years = 10 * 365 * 24 * time.Hour
	clock.add(years)
	b.put("", "1")
	b.tend(clock, time.Hour)
	b.put("", "2")
	clock.add(-years)
	b.put("", "3")
	b.tend(clock, time.Hour)
	b.put("", "4")
	b.restart(dir + "/f.log")
	b.inline = true
	b.keeper.close()
	b.open()
	b.tend(clock, time.Hour)
	b.keeper.turn(t.Context())
	got := names(t, dir)
	if len(got) != 3 {
		t.Fatalf("files %q", got)
	}
	for i, want := range []string{"1\n", "2\n3\n", "4\n"} {
		b.holds(dir+"/"+got[i], want)
	}
	clock.add(3 * time.Hour)
	b.keeper.turn(t.Context())
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("files %q are kept", got)
	}
}

// Where a closed file came from is not looked at for as long as keep counts the file.
func TestKeptFileIsNotLookedFor(t *testing.T) {
	w := newWorld(t, template(t, "/files/{{ subject }}.ndjson"), 10)
	w.config = func(c *Config) { c.Keep = Keep{Files: 10} }
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	w.owe("a.ndjson", "b.ndjson")
	if err := w.deliver(); err != nil {
		t.Fatal(err)
	}
	w.clock.add(time.Hour)
	if err := errors.Join(w.sink.Tend(t.Context()), w.keep()); err != nil {
		t.Fatal(err)
	}
	w.disk.trace = nil
	if err := w.reboot(false, nil, fault{}); err != nil {
		t.Fatal(err)
	}
	if len(w.sink.keeper.files) != 2 || len(w.disk.trace) > 0 {
		t.Errorf("%d closed files, steps %q", len(w.sink.keeper.files), w.disk.trace)
	}
}

// A kept file in whose place there is another of the same inode and length stays, packed or not.
func TestKeptFileIsAnother(t *testing.T) {
	for _, suffix := range []string{"", ".zst"} {
		w := newWorld(t, template(t, "/files/{{ subject }}.ndjson"+suffix), 10)
		w.config = func(c *Config) { c.Rotate, c.Keep = Rotate{Age: time.Hour}, Keep{Files: 1} }
		if err := w.open(); err != nil {
			t.Fatal(err)
		}
		for turn := range 2 {
			w.owe("a.ndjson")
			if err := w.deliver(); err != nil {
				t.Fatal(err)
			}
			w.clock.add(time.Hour)
			if err := errors.Join(w.sink.Tend(t.Context()), w.keep()); err != nil {
				t.Fatal(err)
			}
			for name, content := range w.disk.files() {
				if turn == 0 {
					w.disk.put(name, strings.Repeat("x", len(content)))
				}
			}
		}
		if got := w.sink.Counts(); got.Left != 1 || got.Removed != 0 || len(w.disk.files()) != 2 {
			t.Errorf("%s: counts %+v, files %q", suffix, got, w.disk.files())
		}
	}
}
