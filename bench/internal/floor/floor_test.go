package floor

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestHTTP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- HTTP(ctx, l) }()
	transport := &http.Transport{}
	client := &http.Client{Transport: transport}
	res, err := client.Post("http://"+l.Addr().String(), "text/plain", strings.NewReader(strings.Repeat("x", 1<<20)))
	if err != nil || res.StatusCode != 202 {
		t.Errorf("%v, %v", res, err)
	}
	if err == nil {
		_ = res.Body.Close()
	}
	transport.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	n, err := File(t.Context(), path, []byte("0123456789"), 8, 10*time.Millisecond)
	if err != nil || n == 0 || n%8 != 0 {
		t.Fatalf("%d, %v", n, err)
	}
	if text, err := os.ReadFile(path); err != nil || len(text) != 10*n {
		t.Errorf("%d bytes for %d bodies: %v", len(text), n, err)
	}
	if _, err := File(t.Context(), path, nil, 1, time.Second); err == nil {
		t.Error("it writes into a file that exists")
	}
}

func openQueue(t *testing.T) (*Queue, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rows.db")
	q, err := OpenQueue(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q, path
}

// left is how many events and rows there are.
func left(t *testing.T, q *Queue) (events, rows int64) {
	t.Helper()
	err := q.do(func() (err error) {
		if events, err = q.integer("SELECT count(*) FROM events"); err == nil {
			rows, err = q.integer("SELECT count(*) FROM deliveries")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return events, rows
}

func TestQueue(t *testing.T) {
	q, _ := openQueue(t)
	if err := q.Put([][]byte{[]byte("a"), []byte("b"), []byte("c")}, 2); err != nil {
		t.Fatal(err)
	}
	if events, rows := left(t, q); events != 3 || rows != 6 {
		t.Errorf("%d events, %d rows", events, rows)
	}
	ids, bodies, err := q.Claim(1, 2)
	if err != nil || len(ids) != 2 || string(bytes.Join(bodies, nil)) != "ab" {
		t.Fatalf("%v, %q, %v", ids, bodies, err)
	}
	if again, bodies, err := q.Claim(1, 2); err != nil || len(again) != 1 || string(bodies[0]) != "c" {
		t.Errorf("what is claimed is claimed again: %v, %q, %v", again, bodies, err)
	}
	if err := q.Done(1, ids); err != nil {
		t.Fatal(err)
	}
	if events, rows := left(t, q); events != 3 || rows != 4 {
		t.Errorf("%d events, %d rows", events, rows)
	}
	if ids, _, err = q.Claim(2, 10); err != nil || len(ids) != 3 {
		t.Fatalf("%v, %v", ids, err)
	}
	if err := q.Done(2, ids); err != nil {
		t.Fatal(err)
	}
	if events, rows := left(t, q); events != 1 || rows != 1 {
		t.Errorf("%d events, %d rows", events, rows)
	}
}

func TestTurnover(t *testing.T) {
	q, path := openQueue(t)
	n, err := q.Turnover(t.Context(), []byte("body"), 16, 3, 20*time.Millisecond)
	if err != nil || n == 0 || n%16 != 0 {
		t.Errorf("%d, %v", n, err)
	}
	if events, rows := left(t, q); events != 0 || rows != 0 {
		t.Errorf("%d events and %d rows are left", events, rows)
	}
	if share, err := Freed(path); err != nil || share < 0 || share >= 1 {
		t.Errorf("freed %v, %v", share, err)
	}
}

// TestTurnoverFails closes the table under a run: it ends with the reason in place of waiting for ever.
func TestTurnoverFails(t *testing.T) {
	q, _ := openQueue(t)
	if err := q.do(func() error { return q.exec("DROP TABLE deliveries") }); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Turnover(t.Context(), []byte("body"), 16, 3, time.Minute); err == nil {
		t.Error("no error")
	}
}

func TestFreed(t *testing.T) {
	q, path := openQueue(t)
	bodies := [][]byte{bytes.Repeat([]byte("x"), 1<<20)}
	if err := q.Put(bodies, 1); err != nil {
		t.Fatal(err)
	}
	ids, _, err := q.Claim(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Done(1, ids); err != nil {
		t.Fatal(err)
	}
	if share, err := Freed(path); err != nil || share < 0.9 {
		t.Errorf("freed %v, %v", share, err)
	}
	if _, err := Freed(filepath.Join(t.TempDir(), "none.db")); err == nil {
		t.Error("no error for a file that is not there")
	}
}
