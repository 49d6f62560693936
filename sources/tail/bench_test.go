package tail

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// BenchmarkRead takes a file of lines in page cache apart into batches, which nobody commits.
func BenchmarkRead(b *testing.B) {
	for _, length := range []int{100, 200, 1000} {
		b.Run(fmt.Sprint(length), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "a.log")
			text := strings.Repeat(strings.Repeat("x", length-1)+"\n", 64<<20/length)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				r := newRig(b, filepath.Dir(path), "*.log")
				r.engine.look(r.now)
				lines := 0
				for {
					batch, ok := r.engine.next(r.now)
					if !ok {
						break
					}
					lines += batch.Len()
				}
				if lines != len(text)/length {
					b.Fatalf("%d lines", lines)
				}
				r.engine.closeAll()
			}
		})
	}
}

// BenchmarkIdleLook is what it costs to look at a thousand files in which nothing happens.
func BenchmarkIdleLook(b *testing.B) {
	r := newRig(b, b.TempDir(), "*.log")
	for i := range 1000 {
		r.write(fmt.Sprintf("%d.log", i), "a line\n")
	}
	old := time.Now().Add(-time.Minute)
	for i := range 1000 {
		r.check(os.Chtimes(r.path(fmt.Sprintf("%d.log", i)), old, old))
	}
	r.look()
	b.ReportAllocs()
	for b.Loop() {
		r.look()
	}
}
