package tail

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding/unicode"
	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
)

func TestMaxLine(t *testing.T) {
	for over, want := range map[string][]string{
		overSkip:     {"0123456789", "after", "end"},
		overTruncate: {"0123456789", "0123456789", "after", "AAAAAAAAAA", "end"},
	} {
		r := newRig(t, t.TempDir(), "*.log", func(c *Config) { c.MaxLine = MaxLine{10, over} })
		r.write("a.log", "0123456789\n0123456789x\nafter\n"+strings.Repeat("A", 1<<20))
		r.look()
		r.start() // inside the long line
		r.look()
		r.write("a.log", strings.Repeat("A", 1<<20)+"\nend\n")
		r.want(want...)
		if c := r.counts.read(); c.Over != 2 {
			t.Errorf("%s: %+v", over, c)
		}
	}
}

// A line of 100 MB is passed over in pieces, and the next one is whole.
func TestHugeLine(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log", func(c *Config) { c.MaxLine.Size = 1 << 10 })
	r.write("a.log", "before\n")
	block := strings.Repeat("z", 1<<20)
	for range 100 {
		r.write("a.log", block)
	}
	r.write("a.log", "\nafter\n")
	r.engine.look(r.now)
	for turns := 0; ; turns++ {
		b, ok := r.engine.next(r.now)
		if !ok {
			if turns < 5 {
				t.Errorf("it was read in %d turns", turns)
			}
			break
		}
		r.commit(b)
		r.start() // it need not begin anew
		r.engine.look(r.now)
	}
	r.want("before", "after")
}

func TestMultiline(t *testing.T) {
	start := func(c *Config) { c.Multiline = &Multiline{Start: `^\d`, Timeout: 2 * time.Second} }
	r := newRig(t, t.TempDir(), "*.log", start)
	r.write("a.log", "  left over\n1 one\n  at a\n  at b\n2 two\n3 three\n  at c\n")
	r.want("  left over", "1 one\n  at a\n  at b", "2 two")
	r.start() // no part of a record that is not complete was committed
	r.want()
	r.now = r.now.Add(time.Second)
	r.write("a.log", "  at d\n  at")
	r.want()
	r.now = r.now.Add(time.Second)
	r.want()
	if at, ok := r.engine.deadline(); !ok || !at.Equal(r.now.Add(time.Second)) {
		t.Errorf("it waits until %v, %v", at, ok)
	}
	r.now = r.now.Add(time.Second)
	r.engine.expire(r.now)
	r.read()
	r.want("3 three\n  at c\n  at d")
	r.write("a.log", " e\n4 four\n")
	r.want("  at e")
	r.remove("a.log")
	r.pass(10 * time.Second)
	r.want("4 four")
}

func TestMultilineTooLong(t *testing.T) {
	for over, want := range map[string][]string{overSkip: {"1 a", "3 b"}, overTruncate: {"1 a", "2 xxxxxxxx", "3 b"}} {
		r := newRig(t, t.TempDir(), "*.log", func(c *Config) {
			c.Multiline = &Multiline{Start: `^\d`}
			c.MaxLine = MaxLine{10, over}
		})
		r.limits.chunk = 16
		r.start()
		r.write("a.log", "1 a\n2 xxxxxxxxxxxx\n more\n"+strings.Repeat("y", 100)+"\n more\n3 b\n")
		r.pass(10 * time.Second)
		r.want(want...)
		if c := r.counts.read(); c.Over != 1 {
			t.Errorf("%s: %+v", over, c)
		}
	}
}

func TestUTF16(t *testing.T) {
	text := "eins\r\nzw\u010a\u0a0aei\n\n\U0001F600\nrest"
	for name, endian := range map[string]unicode.Endianness{utf16LE: unicode.LittleEndian, utf16BE: unicode.BigEndian} {
		for _, setting := range []string{name, utf16Encoding} {
			for _, policy := range []unicode.BOMPolicy{unicode.UseBOM, unicode.IgnoreBOM} {
				if setting == utf16Encoding && policy == unicode.IgnoreBOM && name == utf16BE {
					continue // nothing says that it is big endian
				}
				r := newRig(t, t.TempDir(), "*.log", func(c *Config) { c.Encoding = setting })
				r.limits.chunk = 8
				r.start()
				raw, err := unicode.UTF16(endian, policy).NewEncoder().String(text)
				r.check(err)
				for i := range len(raw) { // every byte may be the last that was written
					r.write("a.log", raw[i:i+1])
					r.look()
				}
				r.start()
				r.want("eins\r", "zw\u010a\u0a0aei", "", "\U0001F600")
			}
		}
	}
}

func TestByteOrderMark(t *testing.T) {
	r := newRig(t, t.TempDir(), "*.log")
	r.write("a.log", "\xEF\xBB\xBFone\n\xEF\xBB\xBFtwo\n")
	r.want("one", "\xEF\xBB\xBFtwo")
}

// However a text is cut into writes, reads and crashes, its records are those of the whole.
func TestAnyCut(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringMatching(`([ab1]{0,12}\n){0,12}`).Draw(rt, "text")
		multiline := rapid.Bool().Draw(rt, "multiline")
		change := func(c *Config) {
			c.MaxLine.Size = int64(rapid.IntRange(1, 12).Draw(rt, "max"))
			c.MaxLine.Over = rapid.SampledFrom([]string{overSkip, overTruncate}).Draw(rt, "over")
			if multiline {
				c.Multiline = &Multiline{Start: "^1"}
			}
		}
		var config Config
		r := newRig(rt, t.TempDir(), "*.log", change, func(c *Config) { config = *c })
		whole := newRig(rt, t.TempDir(), "*.log", func(c *Config) { path := c.Path; *c = config; c.Path = path })
		if text != "" {
			whole.write("a.log", text)
		}
		whole.pass(10 * time.Second)
		r.limits.chunk, r.limits.bytes = rapid.IntRange(1, 20).Draw(rt, "chunk"), 20
		r.limits.events = rapid.IntRange(1, 4).Draw(rt, "events")
		r.start()
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(rt, "write")
			r.write("a.log", rest[:n])
			rest = rest[n:]
			r.look()
			if rapid.Bool().Draw(rt, "crash") {
				r.start()
			}
		}
		r.pass(10 * time.Second)
		if got, want := strings.Join(r.lines(), "|"), strings.Join(whole.lines(), "|"); got != want {
			rt.Fatalf("%q in pieces is %q, as a whole %q", text, got, want)
		}
	})
}

func TestSettings(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		key    string
	}{
		"no path":   {func(c *Config) { c.Path = "" }, "path"},
		"a folder":  {func(c *Config) { c.Path = "/var/log/" }, "path"},
		"a bracket": {func(c *Config) { c.Path = "/var/log/[a" }, "path"},
		"rotated":   {func(c *Config) { c.Rotated = "/var/{a" }, "rotated"},
		"start":     {func(c *Config) { c.Start = "middle" }, "start"},
		"size":      {func(c *Config) { c.MaxLine.Size = 0 }, "max_line.size"},
		"large":     {func(c *Config) { c.MaxLine.Size = 1 << 30 }, "max_line.size"},
		"over":      {func(c *Config) { c.MaxLine.Over = "cut" }, "max_line.over"},
		"encoding":  {func(c *Config) { c.Encoding = "latin-1" }, "encoding"},
		"no start":  {func(c *Config) { c.Multiline = &Multiline{} }, "multiline.start"},
		"regex":     {func(c *Config) { c.Multiline = &Multiline{Start: "("} }, "multiline.start"},
		"timeout":   {func(c *Config) { c.Multiline = &Multiline{Start: "a", Timeout: -1} }, "multiline.timeout"},
	} {
		config := Defaults()
		config.Path = "/var/log/*.log"
		if _, err := New(config); err != nil {
			t.Fatal(err)
		}
		c.change(&config)
		_, err := New(config)
		var fault *event.KeyError
		if !errors.As(err, &fault) || fault.Key != c.key {
			t.Errorf("%s: %v", name, err)
		}
	}
}
