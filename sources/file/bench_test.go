package file

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
)

// BenchmarkRead reads a file of lines, of NDJSON and of CSV; ids are made for all of its records.
func BenchmarkRead(b *testing.B) {
	for _, c := range []struct{ name, text string }{
		{"a.txt", strings.Repeat(strings.Repeat("x", 199)+"\n", 50_000)},
		{"a.ndjson", strings.Repeat(`{"id":"`+strings.Repeat("x", 180)+`","n":12}`+"\n", 50_000)},
		{"a.csv", "id,n,t\n" + strings.Repeat(strings.Repeat("x", 180)+",12,text\n", 50_000)},
	} {
		b.Run(c.name, func(b *testing.B) {
			dir := b.TempDir()
			if err := os.WriteFile(filepath.Join(dir, c.name), []byte(c.text), 0o600); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(c.text)))
			b.ReportAllocs()
			for b.Loop() {
				config := Defaults()
				config.Path, config.Stable = filepath.Join(dir, "*"), 0
				s, err := New(config)
				if err != nil {
					b.Fatal(err)
				}
				r, err := newReader(s, nil)
				if err != nil {
					b.Fatal(err)
				}
				n := 0
				r.emit = func(_ context.Context, batch event.Batch) error {
					for i := range batch.Events {
						batch.Complete(i, &batch.Events[i])
					}
					n += len(batch.Events)
					return nil
				}
				if err := r.turn(b.Context()); err != nil || n != 50_000 {
					b.Fatal(n, err)
				}
			}
		})
	}
}
