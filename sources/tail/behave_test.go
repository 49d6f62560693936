package tail

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestTwoFiles(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.want()
	r.write("a.log", "a1\na2\n")
	r.write("b.log", "b1\n")
	r.write("c.txt", "no\n")
	r.write("d.log.gz", "no\n")
	r.look()
	bySource := map[string][]string{}
	for _, e := range r.events {
		if e.Type != "millrace.line" || e.DataContentType != "text/plain" || len(e.ID) != 32 {
			t.Errorf("%+v", e)
		}
		bySource[e.Source] = append(bySource[e.Source], string(e.Data))
	}
	if len(bySource) != 2 ||
		strings.Join(bySource[r.path("a.log")], ",") != "a1,a2" || strings.Join(bySource[r.path("b.log")], ",") != "b1" {
		t.Errorf("%v", bySource)
	}
}

func TestEmptyLinesCRLFAndBytes(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", "\n\na\r\n\xff\x00\n\r\n")
	r.want("", "", "a\r", "\xff\x00", "\r")
}

func TestPartialLine(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", "one\nhal")
	r.want("one")
	r.pass(time.Minute)
	r.write("a.log", "f")
	r.want()
	r.start() // a crash
	r.want()
	r.write("a.log", " line\nnext")
	r.want("half line")
	r.write("a.log", "\n")
	r.want("next")
}

func TestTruncateInPlace(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", "one\ntwo\n")
	r.want("one", "two")
	r.truncate("a.log")
	r.write("a.log", "three\n")
	r.want("three")
	r.truncate("a.log")
	r.want()
	r.write("a.log", "four\n")
	r.want("four")
	if c := r.counts.read(); c.Losses != 0 {
		t.Errorf("%+v", c)
	}
}

// A file that is truncated and grows beyond its old length between two looks is noticed, running and down.
func TestTruncateAndRegrow(t *testing.T) {
	for _, down := range []bool{false, true} {
		r := newRig(t, t.TempDir(), "*.log")
		r.write("a.log", numbered(0, 10))
		r.want(split(numbered(0, 10))...)
		r.truncate("a.log")
		r.write("a.log", numbered(100, 200))
		if down {
			r.start()
		}
		r.want(split(numbered(100, 200))...)
	}
}

// The first KiB is the same, so what tells the two apart is what stood before the position.
func TestRegrowWithTheSameBeginning(t *testing.T) {
	header := strings.Repeat("# the same header\n", 100)
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", header+"old 1\nold 2\n")
	r.look()
	r.lines()
	r.truncate("a.log")
	r.write("a.log", header+"new 1\nnew 2\nnew 3\n")
	r.want(split(header + "new 1\nnew 2\nnew 3")...)
}

func TestSameLengthReplaced(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", "old\n")
	r.want("old")
	r.truncate("a.log")
	r.write("a.log", "new\n")
	r.want("new")
	r.truncate("a.log")
	r.write("a.log", "NEW\n")
	r.start()
	r.want("NEW")
}

func TestRenameAndRecreate(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", "one\n")
	r.want("one")
	r.write("a.log", "two\nthr")
	r.rename("a.log", "a.log.1")
	r.write("a.log", "four\n")
	r.want("two", "four")
	r.write("a.log.1", "ee\n") // its writer has not noticed
	r.want("three")
	r.pass(10 * time.Second)
	r.write("a.log.1", "late\n") // nor yet
	r.want("late")
	if len(r.state) != 3 {
		t.Errorf("%d positions: two files and that it was started", len(r.state))
	}
	r.remove("a.log.1")
	r.pass(10 * time.Second)
	if len(r.state) != 2 || len(r.engine.files) != 1 {
		t.Errorf("%d positions, %d files after one was deleted", len(r.state), len(r.engine.files))
	}
}

func TestRotatedWhileDown(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", "one\n")
	r.want("one")
	r.write("a.log", "two\n")
	r.rename("a.log", "a.log.1")
	r.write("a.log", "three\n")
	r.start()
	r.want("two", "three")
}

func TestRotatedElsewhere(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir, "*.log", func(c *Config) { c.Rotated = dir + "/old/*" })
	if err := os.Mkdir(r.path("old"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.write("a.log", "one\n")
	r.want("one")
	r.write("a.log", "two\n")
	r.rename("a.log", "old/a-1")
	r.start()
	r.want("two")
}

// A rename inside the glob is the same file, running and down.
func TestRenameInsideGlob(t *testing.T) {
	for _, down := range []bool{false, true} {
		r := newRig(t, t.TempDir(), "a.log*")
		r.write("a.log", "one\n")
		r.want("one")
		r.write("a.log", "two\n")
		r.rename("a.log", "a.log.1")
		r.write("a.log", "three\n")
		if down {
			r.start()
		}
		r.want("two", "three")
		r.rename("a.log.1", "a.log.2")
		r.rename("a.log", "a.log.1")
		r.write("a.log", "four\n")
		if down {
			r.start()
		}
		r.want("four")
		if got := r.events[1].Source; got != r.path("a.log") {
			t.Errorf("the source of a line is %s", got)
		}
	}
}

// What lies in the rotated files of a whole chain is read in the order in which it was written.
func TestChainInOrder(t *testing.T) {
	r := newRig(t, t.TempDir(), "a.log*")
	r.limits.chunk = 100
	r.start()
	for i := range 5 {
		if i > 0 {
			for k := i; k > 1; k-- {
				r.rename("a.log."+string(rune('0'+k-1)), "a.log."+string(rune('0'+k)))
			}
			r.rename("a.log", "a.log.1")
		}
		r.write("a.log", numbered(i*100, i*100+100))
	}
	r.want(split(numbered(0, 500))...)
}

func TestDeleteAndRecreate(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", "one\n")
	r.want("one")
	r.write("a.log", "two\nrest")
	r.remove("a.log")
	r.write("a.log", "three\n")
	r.want("two", "three")
	r.pass(10 * time.Second)
	r.want("rest")
	if len(r.state) != 2 {
		t.Errorf("%d positions", len(r.state))
	}
}

func TestDeletedWhileDown(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", "one\n")
	r.want("one")
	r.write("a.log", "unread")
	r.look() // it knows the length, and has no whole line
	r.write("a.log", " line\n")
	r.state[r.keyOf("a.log")] = r.engine.byPath[r.path("a.log")].encode()
	r.start()
	r.remove("a.log")
	r.pass(3 * time.Second)
	if c := r.counts.read(); c.Losses != 1 || c.Lost != 6 {
		t.Errorf("%+v", c)
	}
	if len(r.state) != 1 {
		t.Errorf("%d positions", len(r.state))
	}
}

func (r *rig) keyOf(name string) string { return r.engine.byPath[r.path(name)].text }

// An inode that is used again is another file, even at another path.
func TestInodeReuse(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	reused := 0
	for i := range 50 {
		r.write("a.log", "a"+line(i)+"\n")
		r.want("a" + line(i))
		before, err := os.Stat(r.path("a.log"))
		r.check(err)
		r.engine.closeAll() // else the system cannot use it again
		r.remove("a.log")
		r.write("b.log", "b"+line(i)+"\n")
		after, err := os.Stat(r.path("b.log"))
		r.check(err)
		if os.SameFile(before, after) {
			reused++
		}
		r.want("b" + line(i))
		r.engine.closeAll()
		r.remove("b.log")
	}
	if reused == 0 {
		t.Skip("this file system never used an inode again")
	}
}

func TestCopyTruncate(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", numbered(0, 5))
	r.want(split(numbered(0, 5))...)
	r.write("a.log", numbered(5, 10)) // not read before the rotation: it is in the copy
	r.copy("a.log", "a.log.1")
	r.truncate("a.log")
	r.write("a.log", numbered(10, 12))
	r.want(split(numbered(5, 12))...)
	r.pass(10 * time.Second)
	r.write("a.log", numbered(12, 13))
	r.copy("a.log", "a.log.2")
	r.truncate("a.log")
	r.start()
	r.want(line(12))
	if c := r.counts.read(); c.Losses != 0 {
		t.Errorf("%+v", c)
	}
}

// Without a copy the loss is counted with its range.
func TestTruncatedUnread(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", "one\ntw")
	r.want("one")
	r.truncate("a.log")
	r.want()
	if c := r.counts.read(); c.Losses != 1 || c.Lost != 2 || c.Replaced != 1 {
		t.Errorf("%+v", c)
	}
}

func TestSymlinkSwap(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("target-1", "one\n")
	r.check(os.Symlink("target-1", r.path("a.log")))
	r.want("one")
	r.write("target-1", "two\n")
	r.write("target-2", "three\n")
	r.check(os.Symlink("target-2", r.path("new")))
	r.rename("new", "a.log")
	r.want("two", "three")
	r.truncate("target-2")
	r.write("target-2", "four\n")
	r.want("four")
	r.rename("target-2", "target-3")
	r.write("target-2", "five\n")
	r.want("five")
}

// A file with two names is read once.
func TestTwoNames(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("b.log", "one\n")
	r.want("one")
	r.check(os.Link(r.path("b.log"), r.path("a.log")))
	r.check(os.Symlink("b.log", r.path("c.log")))
	r.write("b.log", "two\n")
	r.want("two")
	r.start()
	r.want()
	r.remove("b.log")
	r.write("a.log", "three\n")
	r.want("three")
}

func TestEqualFirstLines(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", "header\n")
	r.write("b.log", "header\n")
	r.want("header", "header")
	r.write("b.log", "b\n")
	r.start()
	r.want("b")
}

func TestNewFolders(t *testing.T) {
	r := newRig(t, t.TempDir(), "**/*.log")
	r.want()
	r.check(os.MkdirAll(r.path("x/y"), 0o700))
	r.write("x/y/a.log", "deep\n")
	r.want("deep")
}

func TestStartAtEnd(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log", func(c *Config) { c.Start = "end" })
	r.write("a.log", "old\nwritten in tw")
	r.want()
	r.start()
	r.write("a.log", "o parts\n")
	r.write("b.log", "appeared\n")
	r.want("written in two parts", "appeared")
	r.start()
	r.write("c.log", "while down\n")
	r.want("while down")
}

// A writer that takes back an unfinished line, as after a crash of its own, does not make the file another one.
func TestUnfinishedLineTakenBack(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", "one\nunfin")
	r.want("one")
	r.check(os.Truncate(r.path("a.log"), 4))
	r.write("a.log", "other\n")
	r.want("other")
	if c := r.counts.read(); c.Replaced != 0 || c.Losses != 0 {
		t.Errorf("%+v", c)
	}
}

// Files come and go, and nothing of them stays.
func TestFilesOverTime(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.limits.open = 20
	r.start()
	most, n := 0, 0
	for round := range 50 {
		for i := range 100 {
			r.write(fmt.Sprintf("%d-%d.log", round, i), fmt.Sprintf("line %d of %d\n", i, round))
			if round > 1 {
				r.remove(fmt.Sprintf("%d-%d.log", round-2, i))
			}
		}
		r.pass(6 * time.Second)
		n += len(r.lines())
		most = max(most, len(r.engine.files), len(r.state))
	}
	if n != 5000 || most > 500 || r.engine.open > 40 {
		t.Errorf("%d lines; of 5000 files %d were known at once, %d are open", n, most, r.engine.open)
	}
}

// An inode that is used again for the same content is another file where the file system tells when it was made.
func TestInodeReuseSameContent(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	for i := range 20 {
		name := fmt.Sprintf("%d.log", i)
		r.write(name, "the same\n")
		f, err := os.Open(r.path(name))
		r.check(err)
		born := bornAt(f)
		r.check(f.Close())
		if born == 0 {
			t.Skip("this file system does not tell when a file was made")
		}
		r.want("the same")
		r.start()
		r.remove(name)
	}
}

// Files with rotated names are not followed, though the pattern names them too; the rest of a truncated file is read from them.
func TestRotatedNamesAreNotFollowed(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir, "a.log*", func(c *Config) { c.Rotated = dir + "/a.log.*" })
	r.write("a.log.7", "from before\n")
	r.write("a.log", numbered(0, 3))
	r.want(split(numbered(0, 3))...)
	r.write("a.log", numbered(3, 5))
	r.copy("a.log", "a.log.8")
	r.want(split(numbered(3, 5))...)
	r.write("a.log", numbered(5, 6))
	r.copy("a.log", "a.log.8")
	r.truncate("a.log")
	r.write("a.log", numbered(6, 8))
	r.want(split(numbered(5, 8))...)
	r.pass(10 * time.Second)
	r.start()
	r.want()
}

// Files in hidden folders are found if the pattern names the folder, and hidden files only if it begins with the dot.
func TestHidden(t *testing.T) {
	r := newRig(t, t.TempDir(), ".state/**/*.log")
	r.check(os.MkdirAll(r.path(".state/x/.cache"), 0o700))
	r.write(".state/x/a.log", "named\n")
	r.write(".state/x/.a.log", "hidden\n")
	r.write(".state/x/.cache/b.log", "in a hidden folder\n")
	r.want("named")
}
