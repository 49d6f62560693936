package outbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace-run/millrace/event"
)

// saved makes a backup of a running outbox under a name.
func saved(t *testing.T, b *Outbox, to string) *Condition {
	t.Helper()
	r, err := save(t.Context(), b, to)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func save(ctx context.Context, b *Outbox, to string) (*Condition, error) {
	return Save(ctx, to, func(f *os.File) error {
		from, err := b.Backup(ctx, nil)
		if err != nil {
			return err
		}
		defer from.Close()
		_, err = io.Copy(f, from)
		return err
	})
}

// TestBackupUnderLoad: copies that are made while four callers append and settle are each of one commit. Every event that was
// answered before the backup began is there, of every commit all or nothing, and the cursor stands where the state says.
func TestBackupUnderLoad(t *testing.T) {
	dir := t.TempDir()
	b := opened(t, Options{Path: filepath.Join(dir, "outbox.db")})
	var acked [4]atomic.Int64
	var group sync.WaitGroup
	stop := make(chan struct{})
	for w := range acked {
		group.Go(func() {
			for k := int64(1); ; k++ {
				select {
				case <-stop:
					return
				default:
				}
				c := event.Commit{States: []event.State{{Owner: fmt.Sprint(w), Changes: event.Changes{"k": []byte(fmt.Sprint(k))}}}}
				var events []event.Event
				for i := range 3 {
					events = append(events, event.Event{ID: fmt.Sprintf("%d/%d/%d", w, k, i), Data: make([]byte, 100+int(k*7919)%3000)})
				}
				c.Appends = []event.Append{{Topic: "t", Events: events}}
				if _, err := b.Commit(context.Background(), c); err != nil {
					t.Error(err)
					return
				}
				acked[w].Store(k)
			}
		})
	}
	for round := range 8 {
		until(t, "more commits", func() bool { return acked[0].Load() > int64(20*round) })
		var before [4]int64
		for w := range acked {
			before[w] = acked[w].Load()
		}
		copied := filepath.Join(dir, fmt.Sprint("copy", round))
		saved(t, b, copied)
		checkCopy(t, copied, filepath.Join(dir, fmt.Sprint("restored", round), "outbox.db"), before)
	}
	close(stop)
	group.Wait()
	if err := b.Close(); err != nil || b.Err() != nil {
		t.Error(err, b.Err())
	}
}

func checkCopy(t *testing.T, copied, to string, before [4]int64) {
	t.Helper()
	if _, err := Restore(t.Context(), RestoreOptions{From: copied, To: to}); err != nil {
		t.Fatal(err)
	}
	r := opened(t, Options{Path: to})
	defer r.Close()
	seen := map[string]int{}
	topic := r.topic("t")
	for o := event.Offset(1); o <= topic.head(); {
		records, err := r.read(t.Context(), topic, o)
		if err != nil || len(records) == 0 || records[0].Offset != o {
			t.Fatal(o, len(records), err)
		}
		for _, x := range records {
			id := x.Event.ID
			seen[id[:strings.LastIndexByte(id, '/')]]++
		}
		o = records[len(records)-1].Offset + 1
	}
	for w, k := range before {
		state, err := r.State(t.Context(), fmt.Sprint(w))
		if err != nil {
			t.Fatal(err)
		}
		var last int64
		_, _ = fmt.Sscan(string(state["k"]), &last)
		if last < k {
			t.Errorf("writer %d: %d were answered before the backup, it has %d", w, k, last)
		}
		for i := int64(1); i <= last; i++ {
			if seen[fmt.Sprintf("%d/%d", w, i)] != 3 {
				t.Fatalf("writer %d: commit %d of %d has %d events", w, i, last, seen[fmt.Sprintf("%d/%d", w, i)])
			}
			delete(seen, fmt.Sprintf("%d/%d", w, i))
		}
	}
	if len(seen) > 0 {
		t.Errorf("events of commits that the states do not have: %v", seen)
	}
	sameOnDisk(t, r)
}

// TestBackupEnds: a backup whose caller leaves, or whose outbox closes, ends with the reason, leaves no file and keeps nothing open.
func TestBackupEnds(t *testing.T) {
	for _, how := range []string{"left", "closed"} {
		dir := t.TempDir()
		b := opened(t, Options{Path: filepath.Join(dir, "outbox.db")})
		fillUp(t, b, 2<<20)
		ctx, cancel := context.WithCancel(t.Context())
		closed := make(chan error, 1)
		f, err := b.Backup(ctx, func(done, total int64) {
			switch {
			case done == 0 || done == total:
			case how == "left":
				cancel()
			default:
				if b.queue.isClosed() {
					return
				}
				go func() { closed <- b.Close() }()
				<-b.queue.closing
			}
		})
		cancel()
		if err == nil || f != nil {
			t.Errorf("%s: %v", how, err)
		}
		if how == "closed" {
			if err := <-closed; err != nil {
				t.Error(err)
			}
		} else {
			put(t, b, "after")
			saved(t, b, filepath.Join(dir, "copy"))
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
		for name := range files(t, dir) {
			if name != "outbox.db" && name != "outbox.db.mark" && name != "copy" {
				t.Errorf("%s: left behind %s", how, name)
			}
		}
	}
}

func fillUp(t *testing.T, b *Outbox, bytes int) {
	t.Helper()
	for i := 0; i < bytes; i += 64 << 10 {
		if _, err := b.Commit(t.Context(), appending(event.Event{ID: fmt.Sprint(i), Data: make([]byte, 64<<10)})); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBackupFile: an outbox that was killed is recovered and copied; it is not migrated, and what is held is not touched.
func TestBackupFile(t *testing.T) {
	dir := t.TempDir()
	path, to := filepath.Join(dir, "outbox.db"), filepath.Join(dir, "copy")
	version1(t, path, false)
	r, err := BackupFile(t.Context(), path, to, nil)
	if err != nil || r.Schema != 1 || r.Commits != 7 || r.Events != 12 {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := BackupFile(t.Context(), path, to, nil); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Error(err)
	}
	restored := filepath.Join(dir, "new", "outbox.db")
	if r, err := Restore(t.Context(), RestoreOptions{From: to, To: restored}); err != nil || r.Schema != schemaVersion || r.Events != 12 {
		t.Fatalf("%+v, %v", r, err)
	}
	b := opened(t, Options{Path: restored})
	put(t, b, "7")
	pid := fmt.Sprint(os.Getpid())
	if _, err := BackupFile(t.Context(), restored, filepath.Join(dir, "third"), nil); err == nil || !strings.Contains(err.Error(), pid) {
		t.Errorf("of an outbox in use: %v", err)
	}
	if _, err := Restore(t.Context(), RestoreOptions{From: restored, To: filepath.Join(dir, "fourth")}); err == nil {
		t.Error("restored from an outbox in use")
	}
	_, err = Restore(t.Context(), RestoreOptions{From: to, To: restored, Force: true})
	if err == nil || !strings.Contains(err.Error(), pid) {
		t.Errorf("over an outbox in use: %v", err)
	}
}

// TestRestoreAside: what was there is kept whole under another name, and states that have gone on are left out.
func TestRestoreAside(t *testing.T) {
	dir := t.TempDir()
	path, copied := filepath.Join(dir, "outbox.db"), filepath.Join(dir, "copy")
	b := opened(t, Options{Path: path})
	put(t, b, "1")
	_, err := b.Commit(t.Context(), event.Commit{States: []event.State{
		{Owner: "sink:t/eager", Changes: event.Changes{"a": []byte("1")}}, {Owner: "source:t", Changes: event.Changes{"a": []byte("2")}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	was := saved(t, b, copied)
	put(t, b, "2")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	o := RestoreOptions{From: copied, To: path, Forget: func(owner string) bool { return strings.HasPrefix(owner, "sink:") }}
	if _, err := Restore(t.Context(), o); err == nil || !strings.Contains(err.Error(), "there is an outbox already") {
		t.Fatal(err)
	}
	o.Force = true
	r, err := Restore(t.Context(), o)
	if err != nil || r.Aside != path+".before-restore-1" || r.ID == was.ID || r.Commits != was.Commits {
		t.Fatalf("%+v, %v", r, err)
	}
	b = opened(t, Options{Path: path})
	if h := b.topic("t").head(); h != 1 {
		t.Errorf("%d events", h)
	}
	for owner, want := range map[string]string{"sink:t/eager": "map[]", "source:t": "map[a:2]"} {
		if state, err := b.State(t.Context(), owner); err != nil || fmt.Sprintf("%s", state) != want {
			t.Errorf("state of %s: %s, %v", owner, state, err)
		}
	}
	if h := opened(t, Options{Path: r.Aside}).topic("t").head(); h != 2 {
		t.Errorf("%d events aside", h)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err = Restore(t.Context(), o); err != nil || !strings.HasSuffix(r.Aside, "-2") {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestRestoreInterrupted: at whatever move a restore ended, the next start has what was restored, whole, and what was there aside.
func TestRestoreInterrupted(t *testing.T) {
	for moves := range 4 {
		dir := t.TempDir()
		path, copied := filepath.Join(dir, "outbox.db"), filepath.Join(dir, "copy")
		if r := run(t, "", path, "hot:2"); !r.killed {
			t.Fatal(r.output)
		}
		old := opened(t, Options{Path: filepath.Join(dir, "other.db")})
		put(t, old, "only")
		saved(t, old, copied)
		if err := readied(t, path, copied); err != nil {
			t.Fatal(err)
		}
		for i, suffix := range []string{"-wal", ".mark", ""} {
			if i < moves {
				if err := os.Rename(path+suffix, path+".before-restore-1"+suffix); err != nil {
					t.Fatal(err)
				}
			}
		}
		b := opened(t, Options{Path: path})
		if records, err := b.read(t.Context(), b.topic("t"), 1); err != nil || len(records) != 1 || records[0].Event.ID != "only" {
			t.Errorf("after %d moves: %v, %v", moves, records, err)
		}
		aside := opened(t, Options{Path: path + ".before-restore-1"})
		if h := aside.topic("t").head(); h != 2*crashRounds {
			t.Errorf("after %d moves: %d events aside", moves, h)
		}
		if left, err := filepath.Glob(path + ".restor*"); err != nil || len(left) > 0 {
			t.Error(left, err)
		}
	}
}

// readied does what Restore does up to the rename that counts.
func readied(t *testing.T, path, from string) error {
	t.Helper()
	if _, err := prepareRestore(t.Context(), path, &RestoreOptions{From: from}); err != nil {
		return err
	}
	return rename(path+restoringSuffix, path+restoredSuffix)
}

// TestRestoreRefuses: what is no sound backup is refused before anything that is there is touched.
func TestRestoreRefuses(t *testing.T) {
	dir := t.TempDir()
	path, copied := filepath.Join(dir, "outbox.db"), filepath.Join(dir, "copy")
	b := opened(t, Options{Path: path})
	put(t, b, "1", "2")
	saved(t, b, copied)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	was := files(t, dir)
	content := []byte(was["copy"])
	for name, spoil := range map[string]func(b []byte) []byte{
		"empty":     func([]byte) []byte { return nil },
		"text":      func([]byte) []byte { return []byte(strings.Repeat("no database\n", 1000)) },
		"cut":       func(b []byte) []byte { return b[:len(b)/2] },
		"flipped":   func(b []byte) []byte { i := strings.LastIndex(string(b), "/a"); b[i] ^= 1; return b },
		"no outbox": func(b []byte) []byte { b[68] = 0; return b },
	} {
		bad := filepath.Join(t.TempDir(), "bad")
		write(t, bad, string(spoil(slices.Clone(content))))
		if _, err := Restore(t.Context(), RestoreOptions{From: bad, To: path, Force: true}); err == nil {
			t.Errorf("%s was restored", name)
		} else if !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", name, err)
		}
		if now := files(t, dir); len(now) != len(was) || now["outbox.db"] != was["outbox.db"] {
			t.Errorf("%s: changed what was there", name)
		}
	}
}

// TestCrashInBackup kills a process at every step of SQLite while it makes a backup, and lets every such step fail for want of room. The
// outbox goes on, and what has the backup's name is whole or not there.
func TestCrashInBackup(t *testing.T) {
	lib, from := shim(t), template(t)
	for _, how := range []string{"torn", "ENOSPC"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			for n, copies, failed := 1, 0, 0; ; n++ {
				path := prepared(t, from)
				r := run(t, lib, path, "backup:2", "FAULT_AT="+fmt.Sprint(n), "FAULT_DO="+how)
				if _, err := os.Stat(path + ".copy"); err == nil {
					copies++
					if c, err := Check(t.Context(), path+".copy"); err != nil || len(c.Damages) > 0 || c.Events < 2*int64(min(r.acked, 1)) {
						t.Fatalf("step %d: %+v, %v", n, c, err)
					}
				}
				if strings.Contains(r.output, "saved: copying the outbox") || strings.Contains(r.output, "saved: database or disk is full") {
					failed++
				}
				if left, err := filepath.Glob(path + ".*partial"); err != nil || !r.killed && len(left) > 0 {
					t.Fatalf("step %d: left behind %v, %v", n, left, err)
				}
				if left, err := filepath.Glob(path + copySuffix); err != nil || !r.killed && len(left) > 0 {
					t.Fatalf("step %d: left behind %v, %v", n, left, err)
				}
				verify(t, "backup", path, 2, r.acked)
				if how == "torn" && !r.killed || how != "torn" && n > 100 {
					if n < 10 || copies == 0 || how != "torn" && failed == 0 {
						t.Fatalf("%d steps, %d copies, %d failed", n, copies, failed)
					}
					t.Logf("%d steps, %d copies, %d failed", n, copies, failed)
					return
				}
			}
		})
	}
}

// TestCrashInRestore kills a process at every step of SQLite while it restores, or lets that fail for want of room: either what was there is
// there, or what was restored, and never anything else.
func TestCrashInRestore(t *testing.T) {
	lib, from := shim(t), template(t)
	source := opened(t, Options{Path: from})
	put(t, source, "only")
	if err := source.Close(); err != nil {
		t.Fatal(err)
	}
	there := filepath.Join(t.TempDir(), "outbox.db")
	if r := run(t, "", there, "close:2"); r.acked != crashRounds {
		t.Fatal(r.output)
	}
	for _, how := range []string{"torn", "ENOSPC"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			for n, full := 1, 0; ; n++ {
				path := prepared(t, there)
				content, err := os.ReadFile(from)
				if err != nil {
					t.Fatal(err)
				}
				write(t, path+".from", string(content))
				r := run(t, lib, path, "restore", "FAULT_AT="+fmt.Sprint(n), "FAULT_DO="+how)
				failed := !strings.Contains(r.output, "restored: <nil>")
				if failed && !r.killed {
					full++
				}
				c, err := Check(t.Context(), path)
				if want := map[bool]int64{true: 2 * crashRounds, false: 1}[failed]; err != nil || len(c.Damages) > 0 || c.Events != want {
					t.Fatalf("step %d: %s: %+v, %v", n, r.output, c, err)
				}
				if !failed && (how == "torn" || n > 30) { // want of room is no fault of a sync
					if n < 4 || how != "torn" && full == 0 {
						t.Fatalf("%d steps, %d for want of room", n, full)
					}
					t.Logf("%d steps, %d for want of room", n, full)
					return
				}
			}
		})
	}
}

// TestSaveFails: a file that cannot be written whole leaves nothing.
func TestSaveFails(t *testing.T) {
	to := filepath.Join(t.TempDir(), "copy")
	_, err := Save(t.Context(), to, func(f *os.File) error {
		_, err := f.WriteString("half of")
		return errors.Join(err, unix.ENOSPC)
	})
	if !errors.Is(err, unix.ENOSPC) {
		t.Error(err)
	}
	if _, err := Save(t.Context(), to, func(f *os.File) error {
		_, other := Save(t.Context(), to, func(*os.File) error { return nil })
		if other == nil || !strings.Contains(other.Error(), "written by another process") {
			t.Error(other)
		}
		return other
	}); err == nil {
		t.Error("two at once")
	}
	if left := files(t, filepath.Dir(to)); len(left) > 0 {
		t.Error(left)
	}
}

// TestBackupLatency prints what a backup costs those who append. It is run by hand: MILLRACE_LATENCY=1.
func TestBackupLatency(t *testing.T) {
	if os.Getenv("MILLRACE_LATENCY") == "" {
		t.Skip("for measuring by hand")
	}
	b := opened(t, Options{Path: filepath.Join(t.TempDir(), "outbox.db")})
	fillUp(t, b, 512<<20)
	measure := func(label string, stop <-chan struct{}) {
		var all []time.Duration
		var mu sync.Mutex
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				var mine []time.Duration
				e := event.Event{ID: "x", Data: make([]byte, 1000)}
				for range 1 << 20 {
					select {
					case <-stop:
						mu.Lock()
						all = append(all, mine...)
						mu.Unlock()
						return
					default:
					}
					begin := time.Now()
					if _, err := b.Commit(context.Background(), appending(e)); err != nil {
						t.Error(err)
					}
					mine = append(mine, time.Since(begin))
				}
			})
		}
		group.Wait()
		slices.Sort(all)
		t.Logf("%s: %d appends, p50 %v, p99 %v, p99.9 %v, max %v", label, len(all), all[len(all)/2], all[len(all)*99/100], all[len(all)*999/1000], all[len(all)-1])
	}
	for range 3 {
		quiet := make(chan struct{})
		time.AfterFunc(4*time.Second, func() { close(quiet) })
		measure("alone ", quiet)
		done := make(chan struct{})
		go func() {
			defer close(done)
			begin := time.Now()
			f, err := b.Backup(context.Background(), nil)
			if err != nil {
				t.Error(err)
				return
			}
			info, _ := f.Stat()
			t.Logf("backup of %d MiB in %v", info.Size()>>20, time.Since(begin))
			_ = f.Close()
		}()
		measure("backup", done)
		if info, err := os.Stat(b.path + "-wal"); err == nil {
			t.Logf("WAL %d MiB", info.Size()>>20)
		}
	}
}
