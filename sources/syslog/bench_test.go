package syslog

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// BenchmarkTCP measures messages from a socket to a log that takes them at once.
func BenchmarkTCP(b *testing.B) {
	message := `<165>1 2026-01-02T11:14:15.003Z web.example.com app 42 ID47 - ` + strings.Repeat("the quick brown fox ", 6)
	for _, c := range []struct {
		name string
		raw  bool
		text string
	}{
		{"parsed/counted", false, fmt.Sprintf("%d %s", len(message), message)}, {"parsed/lines", false, message + "\n"}, {"raw/lines", true, message + "\n"},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := serve(b, func(config *Config) { config.Raw = c.raw })
			benchmarkConn(b, s, s.dial(b, "tcp"), c.text)
		})
	}
}

func benchmarkConn(b *testing.B, s *server, c net.Conn, text string) {
	const most = 1000 // of one write
	piece := []byte(strings.Repeat(text, most))
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	b.ResetTimer()
	begun := time.Now()
	for left := b.N; left > 0; left -= min(left, most) {
		if _, err := c.Write(piece[:len(text)*min(left, most)]); err != nil {
			b.Fatal(err)
		}
	}
	s.wait(b, b.N)
	b.ReportMetric(float64(b.N)/time.Since(begun).Seconds(), "messages/s")
}

func BenchmarkFraming(b *testing.B) {
	line := strings.Repeat("x", 150)
	for name, text := range map[string]string{"counted": "154 <13>" + line, "lines": "<13>" + line + "\n"} {
		b.Run(name, func(b *testing.B) {
			f := newFramer(64 << 10)
			stream := []byte(strings.Repeat(text, 1000))
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			at, n := 0, 0
			for n < b.N {
				k := copy(f.space(), stream[at:])
				f.filled(k)
				if at += k; at == len(stream) {
					at = 0
				}
				for _, ok, err := f.next(); ok; _, ok, err = f.next() {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
			}
		})
	}
}
