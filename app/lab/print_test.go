package lab

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

func printed(color bool, show func(*Printer)) string {
	var out bytes.Buffer
	show(NewPrinter(&out, color, at))
	return out.String()
}

func TestStored(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	got := printed(false, func(p *Printer) {
		p.Stored(orders, &event.Event{ID: "o-1", Type: "order"}, filepath.Join(dir, ".millrace", "dev", "a.ndjson"))
		p.Stored(orders, &event.Event{ID: "o\n2", Type: "t"}, "/elsewhere/a.ndjson")
	})
	want := "03:04:05  orders/warehouse  .millrace/dev/a.ndjson ← o-1 order\n" +
		"03:04:05  orders/warehouse  /elsewhere/a.ndjson ← o\\u000a2 t\n"
	if got != want {
		t.Errorf("printed:\n%s\nwant:\n%s", got, want)
	}
}

func TestColor(t *testing.T) {
	got := printed(true, func(p *Printer) {
		body := []byte(`{"a":"x: y","b\"":[1,true],"c":{}}`)
		p.request(orders, Request{Method: "POST", URL: "http://a/", Header: http.Header{"Content-Type": {"application/json"}}, Body: body, Size: int64(len(body))})
	})
	in := strings.NewReplacer("<", "\x1b[", ">", "m", "|", "\x1b[0m")
	want := in.Replace("<2>03:04:05|  <1>orders/warehouse|  POST <36>http://a/|\n" +
		"          {\n" +
		"            <34>\"a\"|: <32>\"x: y\"|,\n" +
		"            <34>\"b\\\"\"|: [\n" +
		"              <33>1|,\n" +
		"              <33>true|\n" +
		"            ],\n" +
		"            <34>\"c\"|: {}\n" +
		"          }\n\n")
	if got != want {
		t.Errorf("printed %q\nwant    %q", got, want)
	}
}

// A long body is shown in part, and so is one that is longer than what is kept of it.
func TestLong(t *testing.T) {
	show := func(kind string, body []byte, size int64) string {
		return printed(false, func(p *Printer) {
			p.request(orders, Request{Method: "POST", URL: "/", Header: http.Header{"Content-Type": {kind}}, Body: body, Size: size})
		})
	}
	list := []byte("[" + strings.Repeat("1,", 999) + "1]")
	if got := show("application/json", list, int64(len(list))); strings.Count(got, "\n") != 103 || !strings.Contains(got, "… 902 more lines") {
		t.Errorf("%d lines: %s", strings.Count(got, "\n"), got)
	}
	if got := show("application/json", []byte(`{"a":`), 3<<20); !strings.Contains(got, "{\"a\":\n") || !strings.Contains(got, "… 3.0 MiB more") {
		t.Error(got)
	}
	if got := show("application/json", []byte(`{"a":`), 5); !strings.Contains(got, `{"a":`) {
		t.Errorf("JSON that is none: %s", got)
	}
	if got := show("", []byte{0, 1, 2}, 3); !strings.Contains(got, "3 bytes of data of no type") {
		t.Error(got)
	}
}

func TestBrokenMails(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"empty":            {"", "Bcc      x@example.com"},
		"no end":           {"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhalf", "the rest cannot be read"},
		"unknown charset":  {"Content-Type: text/plain; charset=klingon\r\n\r\nnuqneH", "nuqneH"},
		"unknown encoding": {"Content-Transfer-Encoding: rot13\r\n\r\nuryyb", "cannot be read"},
		"only HTML":        {"Content-Type: text/html\r\n\r\n<p>", "+ text/html, 3 bytes"},
		"bad address":      {"To: <<<\r\nSubject: s\r\n\r\n", "Subject  s"},
	} {
		t.Run(name, func(t *testing.T) {
			got := printed(false, func(p *Printer) { p.mail(orders, readMail([]byte(c.text), []string{"x@example.com"})) })
			if !strings.Contains(got, c.want) {
				t.Errorf("no %q in\n%s", c.want, got)
			}
		})
	}
}

// Whatever events hold, nothing of it reaches the terminal as a command, and no line looks like the beginning of another delivery.
func TestHarmless(t *testing.T) {
	wild := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.SampledFrom([]string{"\x1b[2J", "\u009b31m", "a\nb", "\r", "\u202e", "\u2028", "{\"a\":\"\u007f\u0085\"}", "[\"\u2066\"]"}))
	rapid.Check(t, func(t *rapid.T) {
		s := func(label string) string { return wild.Draw(t, label) }
		body := []byte(s("body"))
		header := http.Header{
			"Content-Type": {s("type")}, "ce-id": {s("id")}, "Ce-" + s("name"): {s("value")}, s("header"): {"v"}, "Millrace-Attempt": {s("attempt")},
		}
		got := printed(false, func(p *Printer) {
			p.request(orders, Request{Method: s("method"), URL: s("url"), Header: header, Body: body, Size: int64(len(body))})
			p.mail(orders, Mail{From: s("from"), To: s("to"), Subject: s("subject"), Others: []string{s("other")}, Text: body, HasText: true,
				Parts: []Part{{s("kind"), s("file"), 1}}, Broken: s("broken")})
			p.mail(orders, readMail(body, []string{s("recipient")}))
			p.Stored(orders, &event.Event{ID: s("id"), Type: s("type")}, s("path"))
		})
		for _, r := range got {
			if r != '\n' && codec.Legible(string(r)) != string(r) {
				t.Fatalf("%U in %q", r, got)
			}
		}
		begins := 0
		for line := range strings.Lines(got) {
			if line != "\n" && !strings.HasPrefix(line, indent) {
				begins++
			}
		}
		if begins != 4 {
			t.Fatalf("%d beginnings in %s", begins, got)
		}
	})
}

func TestSized(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 1: "1 byte", 1023: "1023 bytes", 1536: "1.5 KiB", 3 << 20: "3.0 MiB"} {
		if got := sized(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}
