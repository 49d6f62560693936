package torture

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFullDisk fills the disk of the outbox under a backlog: events are refused with 503 and a time to come back, deliveries go
// on, and with room again everything goes on by itself.
func TestFullDisk(t *testing.T) {
	audit := newReceiver(t)
	audit.answers(func(string) int { return 503 })
	p := newPlace(t, "path: disk/millrace.db, reserve: 8MiB", orders+`
      audit: { http: { url: "`+audit.url+`/audit" } }
`)
	disk := filepath.Join(p.dir, "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("a small disk can't be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	r, _ := p.start()
	t.Cleanup(r.kill)
	acked := p.load(t.Context(), 8, 2000, 4000, func(int) int { return 1 })
	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	client := &http.Client{Timeout: 10 * time.Second}
	refused := 0
	p.eventually(20*time.Second, "an event is refused", func() bool {
		id := "x-" + itoa(len(acked))
		if refused = p.post(client, "/orders", id, 1); refused == http.StatusAccepted {
			acked[id] = 1
		}
		return refused != http.StatusAccepted
	})
	res, err := client.Post("http://"+p.events+"/orders", "application/json", strings.NewReader(`{"total":1}`))
	if err != nil || res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || refused != 503 {
		t.Fatalf("on a full disk: %v, %v, and %d before", res, err, refused)
	}
	res.Body.Close()
	audit.answers(nil)
	p.eventually(30*time.Second, "the backlog is delivered though the disk is full", func() bool { return len(audit.missing(acked, positive)) == 0 })
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	again := p.load(t.Context(), 8, 500, 1000, func(int) int { return 1 })
	p.eventually(10*time.Second, "new events are delivered", func() bool { return len(audit.missing(again, positive)) == 0 })
	audit.check(t)
	if d := audit.duplicates(); d != 0 {
		t.Errorf("%d duplicates without a crash", d)
	}
}

// fill writes a file until there is no room, to the last byte.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(bytes.Repeat([]byte{'x'}, size)); err != nil {
			size /= 2
		}
	}
}

// TestReadOnlyDisk starts the program on an outbox whose disk has become read-only: it ends with the reason, and with a writable
// disk everything that was accepted before is delivered.
func TestReadOnlyDisk(t *testing.T) {
	audit := newReceiver(t)
	audit.answers(func(string) int { return 503 })
	p := newPlace(t, "path: disk/millrace.db, reserve: 1MiB", orders+`
      audit: { http: { url: "`+audit.url+`/audit" } }
`)
	disk := filepath.Join(p.dir, "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("a disk of its own can't be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	r, _ := p.start()
	t.Cleanup(r.kill)
	acked := p.load(t.Context(), 8, 500, 2000, func(int) int { return 1 })
	r.kill() // a disk cannot become read-only while files on it are open for writing
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	refused := p.launch()
	if code := refused.code(5 * time.Second); code != 1 {
		t.Errorf("exit code %d on a read-only disk", code)
	}
	if said := refused.output.String(); !strings.Contains(said, "read-only file system") || !strings.Contains(said, "millrace.db") {
		t.Errorf("the reason is not said:\n%s", said)
	}
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	audit.answers(nil)
	p.start()
	p.eventually(20*time.Second, "what was accepted is delivered", func() bool { return len(audit.missing(acked, positive)) == 0 })
	audit.check(t)
}

// TestFailingSync makes a sync of the outbox fail under load: nothing is acknowledged that is not there, and the program ends with
// the reason.
func TestFailingSync(t *testing.T) {
	lib := filepath.Join(t.TempDir(), "fault.so")
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", lib, "../outbox/testdata/fault.c", "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("building the fault library: %v\n%s", err, out)
	}
	audit := newReceiver(t)
	p := newPlace(t, "path: data/outbox.db", orders+`
      audit: { http: { url: "`+audit.url+`/audit" } }
`)
	p.env = []string{"LD_PRELOAD=" + lib, "FAULT_AT=600", "FAULT_DO=EIO", "FAULT_ONLY=sync", "FAULT_FOREVER=1"}
	r, _ := p.start()
	acked := map[string]int{}
	client := &http.Client{Timeout: 10 * time.Second}
	for i := range 5000 {
		id := "s-" + itoa(i)
		status := p.post(client, "/orders", id, 1)
		if status != http.StatusAccepted {
			t.Logf("order %d was answered %d", i, status)
			break
		}
		acked[id] = 1
	}
	if code := r.code(5 * time.Second); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if said := r.output.String(); !strings.Contains(said, "disk I/O error") {
		t.Errorf("the reason is not said:\n%s", said)
	}
	p.env = nil
	p.start()
	p.eventually(20*time.Second, "what was acknowledged is delivered", func() bool { return len(audit.missing(acked, positive)) == 0 })
	t.Logf("%d orders acknowledged before the sync failed", len(acked))
}

// TestSecondProcess starts the program twice on one outbox: the second names the first and touches nothing.
func TestSecondProcess(t *testing.T) {
	p := newPlace(t, "path: data/millrace.db", orders)
	r, _ := p.start()
	p.events, p.admin = freePort(t), freePort(t)
	p.write("path: data/millrace.db", orders)
	second := p.launch()
	if code := second.code(5 * time.Second); code == 0 {
		t.Error("the second process ended with code 0")
	}
	if said := second.output.String(); !strings.Contains(said, "in use by process "+itoa(r.cmd.Process.Pid)) {
		t.Errorf("the holder is not named:\n%s", said)
	}
}
