package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestTail writes 60,000 lines at speed through eight rotations while the program is killed five times. The output has each line
// that the filter lets through, once and in order.
func TestTail(t *testing.T) {
	lines, rotations, kills := 60000, 8, 5
	if testing.Short() {
		lines, rotations, kills = 12000, 3, 2
	}
	for name, glob := range map[string]string{"rename within the pattern": "access.log*", "rename out of the pattern": "*.log"} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, "path: data/millrace.db", `
  access:
    source: { tail: { path: "logs/`+glob+`" } }
    stages:
      - filter: 'data matches " 5[0-9][0-9]$"'
    sinks:
      errors: { storage: { path: data/errors.log, content: data } }
`)
			if err := os.Mkdir(filepath.Join(p.dir, "logs"), 0o700); err != nil {
				t.Fatal(err)
			}
			r, _ := p.start()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			written := make(chan error, 1)
			// A file that is made and rotated out of the pattern while the program is down is not found: it is down between rotations.
			var up sync.Mutex
			go func() { written <- accessLog(ctx, &up, filepath.Join(p.dir, "logs"), lines, rotations, 4*time.Second) }()
			live := 0
			for range kills {
				before := len(errorLines(t, p, true))
				<-time.After(time.Duration(200+rand.IntN(400)) * time.Millisecond)
				up.Lock()
				r.kill()
				if len(errorLines(t, p, true)) > before {
					live++
				}
				r, _ = p.start()
				up.Unlock()
			}
			if err := <-written; err != nil {
				t.Fatal(err)
			}
			want := lines / 10
			p.eventually(30*time.Second, "every line is there", func() bool { return len(errorLines(t, p, true)) >= want })
			r.signal(syscall.SIGTERM)
			if code := r.code(4 * time.Second); code != 0 {
				t.Errorf("exit code %d:\n%s", code, r.output)
			}
			got := errorLines(t, p, false)
			for i, n := range got {
				if n != i*10 {
					t.Fatalf("line %d of the output is line %d of the log, not %d", i, n, i*10)
				}
			}
			if len(got) != want {
				t.Errorf("%d lines of %d", len(got), want)
			}
			t.Logf("%d lines through %d rotations, %d of %d kills hit live load", lines, rotations, live, kills)
			if strings.Contains(r.output.String(), "lost") {
				t.Errorf("a loss was told:\n%s", r.output)
			}
		})
	}
}

// accessLog writes numbered lines in pieces that end anywhere, and renames the log now and then. Every tenth is an error.
func accessLog(ctx context.Context, up sync.Locker, folder string, lines, rotations int, takes time.Duration) error {
	path := filepath.Join(folder, "access.log")
	var pending bytes.Buffer
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	begin := time.Now()
	for i := 0; i < lines && err == nil; i++ {
		status := 200
		if i%10 == 0 {
			status = 503
		}
		fmt.Fprintf(&pending, `127.0.0.1 - - "GET /%d HTTP/1.1" %d`+"\n", i, status)
		if rotate := i%(lines/rotations) == lines/rotations-1; rotate {
			if _, err = f.Write(pending.Bytes()); err == nil {
				up.Lock()
				err = rotated(f, path, i)
				up.Unlock()
			}
			pending.Reset()
			if err == nil {
				f, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
			}
		} else if pending.Len() > 5000 {
			_, err = f.Write(pending.Next(pending.Len() - 17)) // the last line is written in two parts
		}
		if wait := time.Until(begin.Add(takes * time.Duration(i) / time.Duration(lines))); wait > time.Millisecond {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	if err == nil {
		_, err = f.Write(pending.Bytes())
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func rotated(f *os.File, path string, i int) error {
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(path, path+"."+strconv.Itoa(i))
}

// errorLines are the numbers of the lines in the output. While the program writes, or after it was killed, the last may be torn.
func errorLines(t *testing.T, p *place, torn bool) []int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, "data/errors.log"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var numbers []int
	for line := range bytes.Lines(b) {
		text := string(line)
		var quoted string
		if json.Unmarshal(line, &quoted) == nil {
			text = quoted
		}
		_, rest, _ := strings.Cut(text, "/")
		digits, end, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(digits)
		if whole := err == nil && strings.HasPrefix(end, `HTTP/1.1" 503`); !whole || !bytes.HasSuffix(line, []byte("\n")) {
			if torn {
				break
			}
			t.Fatalf("a torn line: %q", line)
		}
		numbers = append(numbers, n)
	}
	return numbers
}
