package torture

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// TestKillRolling kills the program under load while it writes, closes and packs small files: five times, or fifty where
// MILLRACE_TORTURE is set. In the end each order is in one packed file, once, and nothing else is there.
func TestKillRolling(t *testing.T) {
	kills := 5
	if os.Getenv("MILLRACE_TORTURE") != "" {
		kills = 50
	}
	if testing.Short() {
		kills = 2
	}
	p := newPlace(t, "path: data/millrace.db", `
  orders:
    source:
      webhook: { path: /orders, type: shop.order.created }
    sinks:
      archive: { storage: { path: data/orders.ndjson.zst, rotate: { size: 4KiB, age: 1s } } }
`)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	r, _ := p.start()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sent := make(chan map[string]int)
	go func() { sent <- p.load(ctx, 8, 1<<30, 2000, func(int) int { return 1 }) }()
	var torn []string
	for range kills {
		<-time.After(time.Duration(200+random.IntN(500)) * time.Millisecond)
		r.kill()
		torn = append(torn, halfDone(t, p))
		r, _ = p.start()
	}
	cancel()
	acked := <-sent
	p.eventually(30*time.Second, "every file is closed and packed", func() bool {
		_, err := os.Stat(filepath.Join(p.dir, "data/orders.ndjson"))
		return os.IsNotExist(err) && p.metric("millrace_storage_files_waiting") == "0" &&
			p.metric("millrace_subscription_lag_events") == "0"
	})
	r.signal(syscall.SIGTERM)
	if code := r.code(4 * time.Second); code != 0 {
		t.Errorf("exit code %d:\n%s", code, r.output)
	}
	got, files := rolled(t, p)
	for id := range acked {
		if got[id] == 0 {
			t.Errorf("order %s is missing", id)
		}
	}
	for id, times := range got {
		if times != 1 {
			t.Errorf("order %s is there %d times", id, times)
		}
	}
	slices.Sort(torn)
	t.Logf("%d orders acknowledged, %d in %d files, %d kills", len(acked), len(got), files, kills)
	t.Logf("what the kills left half done: %q", slices.Compact(torn))
	if len(acked) < 100*kills || files < kills {
		t.Error("the run does not count")
	}
}

var rollingTime = regexp.MustCompile(`[0-9]{8}T[0-9]{6}\.[0-9]{3}Z`)

// halfDone names what a kill left beside packed files and the open one.
func halfDone(t *testing.T, p *place) string {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(p.dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range list {
		name := rollingTime.ReplaceAllString(e.Name(), "T")
		if strings.Contains(name, "orders.T") && name != "orders.T.ndjson.zst" && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return strings.Join(all, " + ")
}

// rolled reads every file of the archive, which must all be packed and whole: how often each id stands there.
func rolled(t *testing.T, p *place) (ids map[string]int, files int) {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(p.dir, "data", "*orders*"))
	if err != nil {
		t.Fatal(err)
	}
	hidden, _ := filepath.Glob(filepath.Join(p.dir, "data", ".orders*"))
	ids = map[string]int{}
	for _, path := range append(list, hidden...) {
		if !strings.HasSuffix(path, ".zst") {
			t.Errorf("%s is left over", path)
			continue
		}
		files++
		for line := range strings.Lines(unpacked(t, path)) {
			var e struct{ ID string }
			if err := json.Unmarshal([]byte(line), &e); err != nil || !strings.HasSuffix(line, "\n") {
				t.Fatalf("%s has a torn line: %v: %.100q", path, err, line)
			}
			ids[e.ID]++
		}
	}
	return ids, files
}

func unpacked(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var b strings.Builder
	if _, err := r.WriteTo(&b); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return b.String()
}

// metric is the value of the last sample of a metric; empty while there is none.
func (p *place) metric(name string) (value string) {
	res, err := http.Get("http://" + p.admin + "/metrics")
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, name+"{") {
			value = strings.TrimSpace(line[strings.LastIndexByte(line, ' '):])
		}
	}
	return value
}
