package rules

import (
	"testing"
	"time"
)

// A source has of a message what the stage has of it; what is no message is kept with the reason.
func TestSyslog(t *testing.T) {
	r, err := NewSyslog("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	received := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct{ in, data, host, time, fault string }{
		{"<165>1 2003-10-11T22:14:15.003Z host.example.com app 42 ID47 [ex@1 b=\"2\"] \ufeffhello\x00",
			`{"priority":165,"facility":"local4","severity":"notice","time":"2003-10-11T22:14:15.003Z","host":"host.example.com",` +
				`"app":"app","proc_id":"42","msg_id":"ID47","message":"hello\u0000","structured_data":{"ex@1":{"b":"2"}}}`,
			"host.example.com", "2003-10-11T22:14:15.003Z", ""},
		{"<34>Dec 31 23:59:59 web su[7]: denied",
			`{"priority":34,"facility":"auth","severity":"critical","time":"2025-12-31T23:59:59+01:00","host":"web","app":"su",` +
				`"proc_id":"7","msg_id":null,"message":"denied"}`,
			"web", "2025-12-31T23:59:59+01:00", ""},
		{"<34>1 - - - - - -", `{"priority":34,"facility":"auth","severity":"critical","time":null,"host":null,"app":null,"proc_id":null,` +
			`"msg_id":null,"message":null}`, "", "", ""},
		{"hello\x00\xff", `{"message":"hello\u0000` + "\ufffd" + `","parse_error":"not a syslog message of RFC 3164: expecting a priority value ` +
			`within angle brackets [col 0]"}`, "", "", "not a syslog message of RFC 3164: expecting a priority value within angle brackets [col 0]"},
		{"<0>0", `{"message":"<0>0","parse_error":"not a syslog message of RFC 3164: it ends before its time and text"}`, "", "",
			"not a syslog message of RFC 3164: it ends before its time and text"},
	} {
		got, err := r.Read([]byte(c.in), received)
		fault := ""
		if err != nil {
			fault = err.Error()
		}
		if string(got.Data) != c.data || got.Host != c.host || got.Time != c.time || fault != c.fault {
			t.Errorf("%q:\n got %s %q %q %q\nwant %s %q %q %q", c.in, got.Data, got.Host, got.Time, fault, c.data, c.host, c.time, c.fault)
		}
	}
	if _, err := NewSyslog("Nowhere/X"); err == nil {
		t.Error("a zone that does not exist is taken")
	}
}

func BenchmarkSyslog(b *testing.B) {
	r, err := NewSyslog("")
	if err != nil {
		b.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for name, line := range map[string]string{
		"rfc5424": `<165>1 2026-01-02T11:14:15.003Z host.example.com app 42 ID47 - the quick brown fox jumps over the lazy dog, again and again`,
		"rfc3164": `<34>Jan  2 11:59:59 web su[7]: the quick brown fox jumps over the lazy dog, again and again and again and again`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(line)))
			for b.Loop() {
				if _, err := r.Read([]byte(line), now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Whatever is sent, there is data, and it is JSON.
func FuzzSyslog(f *testing.F) {
	for _, s := range []string{
		"<165>1 2003-10-11T22:14:15.003Z host.example.com app 42 ID47 [ex@1 b=\"2\"] hello", "<34>Dec 31 23:59:59 web su[7]: denied", "<34>1 - - - - - -",
		"hello\x00\xff", "<191>999 2003-10-11T22:14:15.003Z - - - - [a b=\"\\]\"][c] \ufeff", "<34>2003-10-11T22:14:15Z a b: c", "<0>Feb 29 00:00:60 ::1 x", "<0>0",
	} {
		f.Add(s)
	}
	r, err := NewSyslog("Europe/Berlin")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line string) {
		m, err := r.Read([]byte(line), time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC))
		var s scanner
		if fault := s.scan(m.Data, nil); fault != nil {
			t.Errorf("%q gives %q (%v): %v", line, m.Data, err, fault)
		}
		if _, fault := time.Parse(time.RFC3339Nano, m.Time); m.Time != "" && fault != nil {
			t.Errorf("%q: %v", line, fault)
		}
	})
}
