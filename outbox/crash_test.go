package outbox

import (
	"bufio"
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/millrace-run/millrace/event"
)

// The crash tests run the same work in a child process again and again, with a fault at the n-th thing that SQLite does to the
// file, for every n until the work gets through untouched. Then they open the file and compare it with what the child said.
//
// The work is rounds of one commit each. Round k appends size events "k/i", settles those of round k-1 for one subscription (the
// first of them by a row that stays), and writes the state k: all of it is on disk, or nothing.

//
// Work that purges has more rounds: from the third on history goes, of which rows name the first event of each round, and the last
// settles the rows of the first, so that the body which was rescued goes too.

const (
	crashRounds = 3
	purgeRounds = 4
)

// child is the work. It says "acked k" once round k was answered, and anything else it thinks worth a line.
func child(scenario string) int {
	what, size, _ := strings.Cut(scenario, ":")
	n, _ := strconv.Atoi(size)
	options := Options{Path: os.Getenv("OUTBOX_PATH"), Reserve: 64 << 10, Clock: hasty{}, idBlock: childBlock(what)}
	rounds := crashRounds
	if what == "restore" {
		_, err := Restore(context.Background(), RestoreOptions{From: options.Path + ".from", To: options.Path, Force: true})
		fmt.Println("restored:", err)
		return 0
	}
	if what == "purge" {
		options.Retention.Size, options.Clock = 1, &leaping{}
		rounds = purgeRounds
	}
	o, err := Open(context.Background(), options)
	if err != nil {
		fmt.Println("open:", err)
		return 3
	}
	if what == "open" {
		return 0
	}
	if err := o.Configure(context.Background(), crashLayout); err != nil {
		fmt.Println("configure:", err)
		return 4
	}
	for k := 1; k <= rounds; k++ {
		err := round(o, what, k, n)
		if err != nil {
			fmt.Println("failed", k, err)
		} else {
			fmt.Println("acked", k)
		}
	}
	switch what {
	case "close":
		fmt.Println("closed:", o.Close())
	case "backup":
		_, err := save(context.Background(), o, options.Path+".copy")
		fmt.Println("saved:", err)
	case "hot":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	if o.Err() != nil {
		fmt.Println("fatal:", o.Err())
		return 5
	}
	return 0
}

// idsRound is the size of a round in the work "ids", whose rounds are blocks too.
const idsRound = 16

// childBlock makes the work "ids" come to a block of ids in each round.
func childBlock(what string) int {
	if what == "ids" {
		return idsRound
	}
	return 0
}

// indexedChild waits until the blocks that are complete have their index.
func indexedChild(o *Outbox, k, size int) error {
	for {
		_, whole, err := o.ids.blocks(context.Background(), o.topic("t"), 1<<20)
		if err != nil || len(whole) >= k*size/idsRound || o.Err() != nil {
			return err
		}
		runtime.Gosched()
	}
}

// hasty is a clock whose waits are short, so that a child that waits for room need not take seconds.
type hasty struct{ event.SystemClock }

func (h hasty) After(d time.Duration) (<-chan time.Time, func()) { return h.SystemClock.After(d / 100) }

var crashLayout = event.Layout{Topics: []event.Topic{{
	Name: "t", Subscriptions: []string{"t/eager", "t/lazy"}, Dedupe: &event.Dedupe{Window: time.Hour, MaxKeys: 1000},
}}}

// leaping is a hasty clock that shows an hour more at each look, so that the writer looks for history with each commit.
type leaping struct {
	hasty
	looks atomic.Int64
}

func (l *leaping) Now() time.Time {
	return time.Unix(0, 0).Add(time.Duration(l.looks.Add(1)) * time.Hour)
}

func round(o *Outbox, what string, k, size int) error {
	if what == "checkpoint" {
		err := o.do(context.Background(), func(*conn) (func(), error) { o.writer.written = checkpointEvery; return nil, nil })
		if err != nil {
			return err
		}
	}
	c := event.Commit{
		Appends: []event.Append{{Topic: "t"}},
		States:  []event.State{{Owner: "work", Changes: event.Changes{"round": []byte(strconv.Itoa(k))}}},
	}
	for i := range size {
		e := event.Event{ID: fmt.Sprintf("%d/%d", k, i), Source: "/work", Type: "t", Data: bytes.Repeat([]byte{byte(k)}, 700)}
		c.Appends[0].Events, c.Appends[0].Keys = append(c.Appends[0].Events, e), append(c.Appends[0].Keys, e.ID)
	}
	if k > 1 {
		outcomes := roundOutcomes(k-1, size)
		c.Settles = []event.Settle{{Subscription: "t/eager", Outcomes: outcomes}}
		if err := o.subscription("t/lazy").Settle(context.Background(), outcomes); err != nil {
			return err
		}
	}
	if k == purgeRounds {
		last := []event.Outcome{{Offset: 1, Row: true}}
		for _, name := range []string{"t/eager", "t/lazy"} {
			c.Settles = append(c.Settles, event.Settle{Subscription: name, Outcomes: last})
		}
	}
	_, err := o.Commit(context.Background(), c)
	if err == nil && what == "ids" {
		err = indexedChild(o, k, size)
	}
	return err
}

func roundOutcomes(k, size int) []event.Outcome {
	first := event.Offset((k-1)*size + 1)
	outcomes := []event.Outcome{{Offset: first, Exception: &event.Exception{State: event.Retry, Reason: event.ReasonFailed, Attempts: k}}}
	for o := first + 1; o < first+event.Offset(size); o++ {
		outcomes = append(outcomes, event.Outcome{Offset: o, Receipt: event.Receipt{Attempt: k, Status: 200}})
	}
	return outcomes
}

// shim builds the library that makes the faults.
func shim(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "fault.so")
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	if b, err := exec.Command(cc, "-shared", "-fPIC", "-O1", "-o", out, "testdata/fault.c", "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("building the fault library: %v\n%s", err, b)
	}
	return out
}

// result is how a child ended.
type result struct {
	killed bool
	code   int
	acked  int    // last round that was answered
	output string // all that it said
}

// run runs a child. fault holds the FAULT_ variables; none runs it untouched.
func run(t *testing.T, lib, path, scenario string, fault ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "OUTBOX_CHILD="+scenario, "OUTBOX_PATH="+path,
		"GORACE=atexit_sleep_ms=0") // the race detector would sleep a second at each exit
	if len(fault) > 0 {
		cmd.Env = append(append(cmd.Env, "LD_PRELOAD="+lib), fault...)
	}
	out, err := cmd.CombinedOutput()
	r := result{output: string(out)}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.code = exit.ExitCode()
		r.killed = exit.Sys().(syscall.WaitStatus).Signaled()
	} else if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	if ctx.Err() != nil {
		t.Fatalf("child hangs with %v:\n%s", fault, out)
	}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if k, ok := strings.CutPrefix(lines.Text(), "acked "); ok {
			r.acked, _ = strconv.Atoi(k)
		}
	}
	return r
}

// verify opens the file and compares it with the promise: what was acknowledged is there, rounds are whole, all parts of a
// commit are, and the outbox works.
func verify(t *testing.T, scenario, path string, size, acked int) {
	t.Helper()
	options := Options{Path: path, Reserve: 64 << 10}
	if size == idsRound {
		options.idBlock = childBlock("ids")
	}
	o, err := Open(t.Context(), options)
	if err != nil {
		t.Fatalf("opening after the fault: %v", err)
	}
	defer func() {
		if err := o.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	}()
	if err := o.Configure(t.Context(), crashLayout); err != nil {
		t.Fatal(err)
	}
	ids := allEvents(t, o)
	gone := int(o.topic("t").purgedTo())
	rounds := (gone + len(ids)) / size
	for i, id := range ids {
		if want := fmt.Sprintf("%d/%d", (gone+i)/size+1, (gone+i)%size); id != want || rounds*size != gone+len(ids) {
			t.Fatalf("event %d of %d is %q, want %q: %v", i, len(ids), id, want, ids)
		}
	}
	if rounds < acked {
		t.Fatalf("round %d was acknowledged, the file has %d", acked, rounds)
	}
	state, err := o.State(t.Context(), "work")
	if got := string(state["round"]); err != nil || rounds > 0 && got != strconv.Itoa(rounds) {
		t.Fatalf("the state is of round %q, the events of %d (%v)", got, rounds, err)
	}
	verifySettled(t, o, size, rounds)
	verifyFound(t, o, size, ids)
	rowsReadable(t, o)
	integrity(t, o)
	if _, err := o.Commit(t.Context(), event.Commit{Appends: []event.Append{{Topic: "t", Events: []event.Event{{ID: "fresh"}}}}}); err != nil {
		t.Fatalf("a fresh event: %v", err)
	}
	if ids := allEvents(t, o); ids[len(ids)-1] != "fresh" {
		t.Fatalf("the fresh event is not there: %v", ids)
	}
	verifyKeys(t, scenario, o, size)
}

// verifyKeys sends all rounds again, as a client does that heard no answer: what is on disk, or was until it was purged, is known,
// what is not is taken. A child whose clock leaps over the windows of its keys is left out.
func verifyKeys(t *testing.T, scenario string, o *Outbox, size int) {
	t.Helper()
	if strings.HasPrefix(scenario, "purge") {
		return
	}
	var c event.Commit
	for k := 1; k <= crashRounds; k++ {
		a := event.Append{Topic: "t"}
		for i := range size {
			id := fmt.Sprintf("%d/%d", k, i)
			a.Events, a.Keys = append(a.Events, event.Event{ID: id}), append(a.Keys, id)
		}
		c.Appends = append(c.Appends, a)
	}
	if _, err := o.Commit(t.Context(), c); err != nil {
		t.Fatalf("sending all rounds again: %v", err)
	}
	found := map[string]int{}
	for _, id := range allEvents(t, o) {
		found[id]++
	}
	delete(found, "fresh")
	for id, n := range found {
		if n != 1 {
			t.Fatalf("event %s is there %d times", id, n)
		}
	}
	if purged := int(o.topic("t").purgedTo()); len(found)+purged != crashRounds*size {
		t.Fatalf("%d events and %d purged, want %d", len(found), purged, crashRounds*size)
	}
	sameKeysOnDisk(t, o)
}

// allEvents are the ids of all events that were not purged.
func allEvents(t *testing.T, o *Outbox) (ids []string) {
	t.Helper()
	topic := o.topic("t")
	first := topic.purgedTo() + 1
	for at := first; at <= topic.head(); at = first + event.Offset(len(ids)) {
		records, err := o.read(t.Context(), topic, at)
		if err != nil || len(records) == 0 {
			t.Fatalf("reading at %d of %d: %d records, %v", at, topic.head(), len(records), err)
		}
		for i := range records {
			ids = append(ids, records[i].Event.ID)
		}
	}
	return ids
}

// verifySettled checks the cursors: the eager one moved with the rounds, the lazy one at most as far, and each with its rows.
func verifySettled(t *testing.T, o *Outbox, size, rounds int) {
	t.Helper()
	for _, name := range []string{"t/eager", "t/lazy"} {
		s, err := o.Subscribe(name)
		if err != nil {
			t.Fatal(err)
		}
		at, head := s.Position()
		rows, err := s.Rows(t.Context(), 1, head)
		if err != nil {
			t.Fatal(err)
		}
		settled := max(0, rounds-1)
		if name == "t/lazy" {
			settled = int(at) / size
		}
		left := settled
		if rounds == purgeRounds {
			left--
		}
		if int(at) != settled*size || len(rows) != left || settled > max(rounds-1, 0)+1 {
			t.Fatalf("%s is at %d with rows %v, %d rounds of %d", name, at, rows, rounds, size)
		}
	}
}

// verifyFound looks for every event by its id, and at the receipts of those that have one: each is right or not there.
func verifyFound(t *testing.T, o *Outbox, size int, ids []string) {
	t.Helper()
	gone := int(o.topic("t").purgedTo())
	for i, id := range ids {
		i += gone
		found, err := o.Find(t.Context(), id, 0)
		if err != nil || len(found) != 1 || found[0].Record.Offset != event.Offset(i+1) {
			t.Fatalf("%s is at %+v, %v", id, found, err)
		}
		receipts, err := o.Receipts(t.Context(), "t/eager", event.Offset(i+1))
		if err != nil || len(receipts) > 1 || len(receipts) == 1 && (receipts[0].Attempt != i/size+1 || i%size == 0) {
			t.Fatalf("%s has the receipts %+v, %v", id, receipts, err)
		}
	}
}

func integrity(t *testing.T, o *Outbox) {
	t.Helper()
	err := o.readers.with(t.Context(), func(c *conn) error {
		return c.each("PRAGMA integrity_check", func(columns []driver.Value) error {
			if columns[0] != "ok" {
				return fmt.Errorf("%v", columns[0])
			}
			return nil
		})
	})
	if err != nil {
		t.Fatalf("integrity: %v", err)
	}
}

// prepared is the path of a fresh copy of an outbox that exists and is configured, so that a child's steps are those of its
// work. An empty template stands for a file that is still to be made.
func prepared(t *testing.T, template string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "outbox.db")
	if template == "" {
		return path
	}
	b, err := os.ReadFile(template)
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func template(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "outbox.db")
	o, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(o.Configure(t.Context(), crashLayout), o.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// crashCases are the works that get a fault at each of their steps. The first makes its file, the others find one.
var crashCases = []struct {
	scenario string
	size     int
	fresh    bool
}{
	{"commit:1", 1, true}, {"commit:1", 1, false}, {"commit:100", 100, false}, {"checkpoint:20", 20, false}, {"purge:20", 20, false},
	{"ids:" + strconv.Itoa(idsRound), idsRound, false}, {"close:20", 20, false},
}

// TestCrashAtEveryStep kills the child at every write, sync, truncation and removal, also in the middle of a write.
func TestCrashAtEveryStep(t *testing.T) {
	lib, existing := shim(t), template(t)
	for _, c := range crashCases {
		for _, how := range []string{"kill", "torn"} {
			t.Run(fmt.Sprintf("%s fresh=%v %s", c.scenario, c.fresh, how), func(t *testing.T) {
				if how == "kill" && strings.HasPrefix(c.scenario, "purge") {
					t.Skip("torn kills at the same steps")
				}
				t.Parallel()
				from := existing
				if c.fresh {
					from = ""
				}
				n := 1
				for ; ; n++ {
					path := prepared(t, from)
					r := run(t, lib, path, c.scenario, "FAULT_AT="+strconv.Itoa(n), "FAULT_DO="+how)
					verify(t, c.scenario, path, c.size, r.acked)
					if !r.killed {
						break
					}
				}
				if n < 10 {
					t.Fatalf("only %d steps were seen; is the library in use?", n)
				}
				t.Logf("%d steps", n-1)
			})
		}
	}
}

// TestCrashInRecovery kills the child while it recovers what another child left, at every step, and again in the next recovery.
func TestCrashInRecovery(t *testing.T) {
	lib := shim(t)
	for nested := range 2 {
		t.Run(fmt.Sprint("nested ", nested), func(t *testing.T) {
			t.Parallel()
			steps := 0
			for n := 1; ; n++ {
				path := prepared(t, "")
				if r := run(t, lib, path, "hot:20"); !r.killed || r.acked != crashRounds {
					t.Fatalf("the first child: %+v", r)
				}
				killed := false
				for range nested + 1 {
					r := run(t, lib, path, "open", "FAULT_AT="+strconv.Itoa(n), "FAULT_DO=torn")
					killed = killed || r.killed
				}
				verify(t, "", path, 20, crashRounds)
				if !killed {
					break
				}
				steps++
			}
			if steps < 3 {
				t.Fatalf("only %d steps were seen", steps)
			}
			t.Logf("%d steps", steps)
		})
	}
}

// TestErrorAtEveryStep makes every step fail in turn, once or from then on. What failed was not acknowledged or is there; a
// failed sync ends the outbox, a full disk does not.
func TestErrorAtEveryStep(t *testing.T) {
	lib, existing := shim(t), template(t)
	for _, c := range crashCases[1:5] {
		for _, how := range [][]string{{"EIO"}, {"EIO", "ever"}, {"ENOSPC"}, {"ENOSPC", "ever"}} {
			t.Run(fmt.Sprint(c.scenario, how), func(t *testing.T) {
				if len(how) > 1 && strings.HasPrefix(c.scenario, "purge") {
					t.Skip("what follows a fault that stays is the same as in other work")
				}
				t.Parallel()
				total := steps(t, lib, existing, c.scenario)
				for n := 1; n <= total; n++ {
					path := prepared(t, existing)
					fault := []string{"FAULT_AT=" + strconv.Itoa(n), "FAULT_DO=" + how[0]}
					if len(how) > 1 {
						fault = append(fault, "FAULT_FOREVER=1")
					}
					checkError(t, c.scenario, path, c.size, how[0], run(t, lib, path, c.scenario, fault...))
				}
			})
		}
	}
}

// steps counts the steps of a work: the first n at which nothing is killed any more, found by bisection.
func steps(t *testing.T, lib, template, scenario string) int {
	t.Helper()
	return sort.Search(1000, func(n int) bool {
		return !run(t, lib, prepared(t, template), scenario, "FAULT_AT="+strconv.Itoa(n+1), "FAULT_DO=kill").killed
	})
}

// checkError checks what a child made of an error. Rounds that failed may be missing in the middle: the ids tell.
func checkError(t *testing.T, scenario, path string, size int, how string, r result) {
	t.Helper()
	if r.killed || strings.Contains(r.output, "panic") {
		t.Fatalf("the child died:\n%s", r.output)
	}
	if how == "EIO" && strings.Contains(r.output, "failed") && r.code != 5 && r.code != 4 {
		t.Fatalf("the outbox went on after an I/O error:\n%s", r.output)
	}
	if how == "ENOSPC" && strings.Contains(r.output, "failed") && !strings.Contains(r.output, event.ErrFull.Error()) {
		t.Fatalf("a full disk was not named:\n%s", r.output)
	}
	o, err := Open(t.Context(), Options{Path: path, Reserve: 64 << 10})
	if err != nil {
		t.Fatalf("opening after %s: %v\n%s", how, err, r.output)
	}
	defer func() { _ = o.Close() }()
	if err := o.Configure(t.Context(), crashLayout); err != nil {
		t.Fatal(err)
	}
	integrity(t, o)
	rowsReadable(t, o)
	found := map[string]int{}
	for _, id := range allEvents(t, o) {
		k, _, _ := strings.Cut(id, "/")
		found[k]++
	}
	purged := int(o.topic("t").purgedTo())
	for k := 1; k <= crashRounds; k++ {
		n := found[strconv.Itoa(k)]
		acked := strings.Contains(r.output, fmt.Sprintf("acked %d\n", k))
		if n == 0 && purged >= size && acked { // all had settled it when the disk was full
			purged -= size
			continue
		}
		if n != 0 && n != size || acked && n == 0 {
			t.Fatalf("round %d: %d of %d events, acknowledged: %v\n%s", k, n, size, acked, r.output)
		}
	}
	verifyKeys(t, scenario, o, size)
}

// rowsReadable reads the event of every row: retention must have left or rescued it. It also looks for bodies that no row names.
func rowsReadable(t *testing.T, o *Outbox) {
	t.Helper()
	named := map[event.Offset]bool{}
	for _, name := range []string{"t/eager", "t/lazy"} {
		s := o.subscription(name)
		rows, err := s.Rows(t.Context(), 1, s.topic.head())
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range rows {
			named[at] = true
			if record, err := o.record(t.Context(), s.topic, at); err != nil || record.Offset != at {
				t.Errorf("%s has a row for event %d, which cannot be read: %v", name, at, err)
			}
		}
	}
	err := o.readers.with(t.Context(), func(c *conn) error {
		return c.each("SELECT offset FROM bodies", func(columns []driver.Value) error {
			if at := event.Offset(columns[0].(int64)); !named[at] {
				t.Errorf("the body of event %d is kept for nobody", at)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}
