package email

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

func TestMail(t *testing.T) {
	p := newPost(t)
	s := newSink(t, p.address, func(c *Config) {
		c.To = templates(t, "{{ data.name }} <{{ data.email }}>", "{{ data.nobody ?? '' }}")
		c.Cc = templates(t, "cc@example.com")
		c.Bcc = templates(t, "bcc@example.com", "CC@example.com", "cc@EXAMPLE.com")
		c.ReplyTo = templates(t, "Help <help@example.com>", "more@example.com")
		c.Subject = template(t, "Order {{ data.id }} für {{ data.name }}\n")
		c.HTML = template(t, "<p>Thank you, {{ data.name }}</p>")
		c.Headers = map[string]rules.Template{"X-Shop": template(t, "{{ data.id }}/{{ data.name }}"),
			"List-Unsubscribe": template(t, "<https://example.com/"+strings.Repeat("u", 200)+"?id={{ data.id }}>")}
	})
	accept(t, s, order())
	m := p.last(t)
	if want := []string{"zoe@example.com", "cc@example.com", "bcc@example.com", "CC@example.com"}; !slices.Equal(m.to, want) ||
		m.from != "shop@example.com" || m.utf8 {
		t.Errorf("%+v", m)
	}
	h, parts := read(t, m.bytes)
	for key, want := range map[string]string{
		"From": `"Shop" <shop@example.com>`, "To": "Zoë <zoe@example.com>", "Cc": "<cc@example.com>",
		"Reply-To": `"Help" <help@example.com>, <more@example.com>`, "Subject": "Order o-1 für Zoë", "X-Shop": "o-1/Zoë",
		"Message-Id": "<0123456789abcdef0123456789abcdef@example.com>", "Date": "Wed, 04 Mar 2026 11:00:00 +0000",
		"Auto-Submitted": "auto-generated", "Mime-Version": "1.0", "Millrace-Attempt": "1", "Bcc": "", "User-Agent": "",
		"List-Unsubscribe": "<https://example.com/" + strings.Repeat("u", 200) + "?id=o-1>",
	} {
		if got, err := h.Text(key); got != want || err != nil {
			t.Errorf("%s: %q, want %q (%v)", key, got, want, err)
		}
	}
	if typ, _, _ := h.ContentType(); typ != "multipart/alternative" || len(parts) != 2 ||
		parts[0].typ != "text/plain" || string(parts[0].body) != "Thank you, Zoë.\r\n" ||
		parts[1].typ != "text/html" || string(parts[1].body) != "<p>Thank you, Zoë</p>" {
		t.Errorf("%s %+v", typ, parts)
	}
	checkWire(t, m.bytes)
}

// checkWire looks at the bytes: ASCII, lines of at most 998 that end in CRLF.
func checkWire(t *testing.T, b []byte) {
	t.Helper()
	for line := range bytes.SplitSeq(bytes.TrimSuffix(b, []byte("\r\n")), []byte("\r\n")) {
		if len(line) > 998 || bytes.ContainsAny(line, "\r\n\x00") || bytes.ContainsFunc(line, func(r rune) bool { return r > 0x7e }) {
			t.Errorf("line of %d bytes: %.100q", len(line), line)
		}
	}
}

func TestOnlyBlindCopies(t *testing.T) {
	p := newPost(t)
	s := newSink(t, p.address, func(c *Config) { c.To, c.Bcc = nil, templates(t, "a@example.com") })
	accept(t, s, order())
	m := p.last(t)
	if h, _ := read(t, m.bytes); h.Get("To") != "undisclosed-recipients:;" || !slices.Equal(m.to, []string{"a@example.com"}) {
		t.Errorf("%+v", m)
	}
}

func TestAddresses(t *testing.T) {
	p := newPost(t, func(s *smtp.Server) { s.EnableSMTPUTF8 = true })
	s := newSink(t, p.address, func(c *Config) { c.To = templates(t, "{{ data.to }}") })
	for value, want := range map[string]string{
		"a@example.com": "a@example.com", " a+b_c@EXAMPLE.com ": "a+b_c@example.com", "Ann B <ann@example.com>": "ann@example.com",
		`\"Ann, B\" <ann@example.com>`: "ann@example.com", "<ann@example.com>": "ann@example.com",
		"a@bücher.example": "a@xn--bcher-kva.example", "zoë@example.com": "zoë@example.com", `\"a..b\"@example.com`: "a..b@example.com",
		"o'hara@example.com": "o'hara@example.com",
	} {
		if err := send(t, s, withData(`{"id":"1","to":"`+value+`"}`)); err != nil {
			t.Errorf("%s: %v", value, err)
		} else if m := p.last(t); m.to[0] != want || m.utf8 != strings.Contains(want, "ë") {
			t.Errorf("%s: %+v", value, m)
		}
	}
	long := strings.Repeat("a", 65)
	for value, want := range map[string]string{
		"": "no recipient", "  ": "no recipient", "ann": "no @", "ann@": "missing", "@example.com": "before the @",
		"a@example.com, b@example.com": "before the @", "a@b@example.com": "before the @", "a@exa mple.com": "host name",
		`a\r\n@example.com`: "line break", `a@example.com\n`: "line break", `a\u0000@example.com`: "control", `a\u0085@example.com`: "control",
		`a\u2028@example.com`: "before the @", "a@b> SIZE=1": "host name", `\"a@b> SIZE=1\"@example.com`: "before the @",
		`\"a b\"@example.com`: "before the @", "a@[127.0.0.1]": "host name", "a@-x.example": "host name", "a@x..example": "host name",
		long + "@example.com": "64 bytes", "a@" + long + ".example": "host name", "a@xn--zz.ü": "domain",
		"x <a@example.com>, b@example.com": "before the @", strings.Repeat("(", 5000) + "a@example.com": "longer than 1000",
		`=?utf-8?b?YQ0KQmNjOiBiCg==?= <a@example.com>`: "control", `[\"a@example.com\",\"b@example.com\"]`: "before the @",
	} {
		f := failure(t, s, withData(`{"id":"1","to":"`+value+`"}`), event.PermanentClass)
		if !strings.Contains(f.Error(), want) || !strings.Contains(f.Error(), "to") {
			t.Errorf("%s: %v, want %q", value, f.Error(), want)
		}
	}
	failure(t, s, withData(`{"id":"1"}`), event.PermanentClass)
}

func TestAddressNeedsSMTPUTF8(t *testing.T) {
	s := newSink(t, newPost(t).address)
	f := failure(t, s, withData(`{"id":"1","email":"zoë@example.com"}`), event.PermanentClass)
	if !strings.Contains(f.Error(), "SMTPUTF8") {
		t.Error(f.Error())
	}
	accept(t, s, order()) // on the same session
}

func TestMissingField(t *testing.T) {
	s := newSink(t, newPost(t).address)
	for data, want := range map[string]string{
		`{"id":"1"}`: "to: data.email is missing", `{"email":"a@example.com"}`: "subject: data.id is missing", `{`: "to: ",
	} {
		if f := failure(t, s, withData(data), event.PermanentClass); !strings.Contains(f.Error(), want) {
			t.Errorf("%s: %v", data, f.Error())
		}
	}
}

func TestSecretHeaderIsNotQuoted(t *testing.T) {
	s := newSink(t, newPost(t).address, func(c *Config) {
		c.Headers = map[string]rules.Template{"X-Token": template(t, "hunter2 {{ data.nothing }}")}
	})
	f := failure(t, s, order(), event.PermanentClass)
	if !strings.Contains(f.Error(), "data.nothing is missing") || strings.Contains(f.Error(), "hunter2") {
		t.Error(f.Error())
	}
}

func TestTooLarge(t *testing.T) {
	p := newPost(t, func(s *smtp.Server) { s.MaxMessageBytes = 2000 })
	s := newSink(t, p.address)
	d := withData(`{"id":"1","email":"a@example.com","name":"` + strings.Repeat("a ", 200) + `"}`)
	accept(t, s, d)
	s.letter.text = template(t, strings.Repeat("x ", 2000))
	if f := failure(t, s, d, event.PermanentClass); !strings.Contains(f.Error(), "the server takes 2000") {
		t.Error(f.Error())
	}
}

func TestTooManyRecipients(t *testing.T) {
	p := newPost(t)
	list := make([]string, 101)
	for i := range list {
		list[i] = fmt.Sprintf("a%d@example.com", i)
	}
	accept(t, newSink(t, p.address, func(c *Config) { c.To = templates(t, list[:100]...) }), order())
	failure(t, newSink(t, p.address, func(c *Config) { c.To = templates(t, list...) }), order(), event.PermanentClass)
}

func refuse(code int, text string) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.NoEnhancedCode, Message: text}
}

// TestProgress: each recipient is answered for alone, nobody gets the mail twice, and a redrive reaches only who was refused.
func TestProgress(t *testing.T) {
	p := newPost(t)
	s := newSink(t, p.address, func(c *Config) {
		c.To = templates(t, "ok@example.com", "grey@example.com", "gone@example.com")
	})
	says := map[string]error{"grey@example.com": refuse(450, "greylisted"), "gone@example.com": refuse(550, "no such user")}
	asked := map[string]int{}
	p.onRcpt(func(to string) error { asked[to]++; return says[to] })

	d := order()
	f := failure(t, s, d, event.Counted)
	if f.Status != 450 || string(f.Answer) != "greylisted" || !strings.Contains(f.Error(), "grey@example.com: RCPT answered 450") {
		t.Errorf("%+v", f)
	}
	if m := p.last(t); !slices.Equal(m.to, []string{"ok@example.com"}) {
		t.Errorf("%+v", m)
	}
	delete(says, "grey@example.com")
	d.Attempt, d.Progress = 2, f.Progress
	f = failure(t, s, d, event.PermanentClass)
	if f.Status != 550 || !strings.Contains(f.Error(), "gone@example.com: RCPT answered 550 no such user") ||
		strings.Contains(f.Error(), "ok@") || strings.Contains(f.Error(), "grey@") {
		t.Errorf("%+v", f)
	}
	if want := map[string]int{"ok@example.com": 1, "grey@example.com": 2, "gone@example.com": 1}; !maps.Equal(asked, want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
	// redrive, first in vain
	d.Attempt, d.Progress = 3, f.Progress
	f = failure(t, s, d, event.PermanentClass)
	delete(says, "gone@example.com")
	d.Attempt, d.Progress = 4, f.Progress
	accept(t, s, d)
	all := p.all()
	if len(all) != 3 || all[1].to[0] != "grey@example.com" || len(all[1].to) != 1 || all[2].to[0] != "gone@example.com" || len(all[2].to) != 1 {
		t.Errorf("%+v", all)
	}
	for _, m := range all {
		if h, _ := read(t, m.bytes); h.Get("Message-Id") != "<0123456789abcdef0123456789abcdef@example.com>" || !strings.Contains(h.Get("To"), "ok@") {
			t.Errorf("%s", m.bytes)
		}
	}
}

// What was accepted stays so whatever fails next.
func TestProgressOutlivesOtherFailures(t *testing.T) {
	p := newPost(t)
	s := newSink(t, p.address, func(c *Config) {
		c.To = templates(t, "ok@example.com", "grey@example.com")
		c.Text = template(t, "{{ data.name }}")
	})
	p.onRcpt(func(to string) error {
		if to == "grey@example.com" {
			return refuse(451, "later")
		}
		return nil
	})
	first := failure(t, s, order(), event.Counted)
	_ = s.Close()
	_ = p.server.Close()
	d := order()
	d.Progress = first.Progress
	second := failure(t, s, d, event.UnavailableClass)
	d = withData(`{"id":"1"}`)
	d.Progress = second.Progress
	third := failure(t, s, d, event.PermanentClass)
	if p := readProgress(third.Progress); !p.Accepted["ok@example.com"] || p.Accepted["grey@example.com"] || p.Later != 1 {
		t.Errorf("%s", third.Progress)
	}
}

func TestBrokenProgress(t *testing.T) {
	for _, b := range []string{"", "x", "[]", "null", `{"accepted":3}`} {
		p := readProgress([]byte(b))
		p.Accepted["a"], p.Refused["b"] = true, note{}
	}
}

// TestGreylist: the answers count, and the twenty attempts of a sink that sets nothing outlast any greylist.
func TestGreylist(t *testing.T) {
	p := newPost(t)
	s := newSink(t, p.address)
	p.onRcpt(func(string) error { return refuse(450, "4.2.0 greylisted") })
	d := order()
	var waited time.Duration
	pause := time.Second
	for n := 1; n < 20; n++ {
		f := failure(t, s, d, event.Counted)
		if f.After != 0 && n < patientAfter || f.Deferred {
			t.Fatalf("attempt %d: %+v", n, f)
		}
		waited += max(pause/2, f.After)
		pause = min(2*pause, 15*time.Minute)
		d.Attempt, d.Progress = n+1, f.Progress
	}
	if waited < 9*time.Hour {
		t.Errorf("given up after %v", waited)
	}
	p.onRcpt(nil)
	accept(t, s, d)
}

func TestAfterTheDot(t *testing.T) {
	for code, class := range map[int]event.Class{421: event.UnavailableClass, 451: event.Counted, 554: event.PermanentClass} {
		p := newPost(t)
		p.data = func() error { return refuse(code, "no") }
		if f := failure(t, newSink(t, p.address), order(), class); f.Status != code {
			t.Errorf("%+v", f)
		}
	}
}

func TestSessionsAreKept(t *testing.T) {
	p := newPost(t)
	s := newSink(t, p.address)
	for range 5 {
		accept(t, s, order())
	}
	p.onRcpt(func(string) error { return refuse(550, "no") })
	failure(t, s, order(), event.PermanentClass)
	p.onRcpt(nil)
	accept(t, s, order())
	if n := p.connections(); n != 1 || len(p.all()) != 6 {
		t.Errorf("%d connections, %d mails", n, len(p.all()))
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	accept(t, s, order())
	if n := p.connections(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

func TestTLS(t *testing.T) {
	cert, roots := certificate(t)
	withTLS := func(s *smtp.Server) { s.TLSConfig = cert }
	for _, c := range []struct {
		name, policy string
		change       []func(*smtp.Server)
		roots        *x509.CertPool
		ok, tls      bool
	}{
		{"required and there", tlsRequired, []func(*smtp.Server){withTLS}, roots, true, true},
		{"required and not there", tlsRequired, nil, roots, false, false},
		{"required and not trusted", tlsRequired, []func(*smtp.Server){withTLS}, x509.NewCertPool(), false, false},
		{"offered and there", tlsOffered, []func(*smtp.Server){withTLS}, roots, true, true},
		{"offered and not there", tlsOffered, nil, roots, true, false},
		{"offered and not trusted, on this machine", "", []func(*smtp.Server){withTLS}, x509.NewCertPool(), true, true},
		{"none", tlsNone, []func(*smtp.Server){withTLS}, roots, true, false},
	} {
		for _, login := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, login %v", c.name, login), func(t *testing.T) {
				p := newPost(t, c.change...)
				s := newSink(t, p.address, func(o *Config) {
					o.TLS = c.policy
					if login {
						p.password, o.Username, o.Password = "hunter2", "millrace", "hunter2"
					}
				})
				s.roots = c.roots
				if !c.ok {
					failure(t, s, order(), event.UnavailableClass)
					return
				}
				accept(t, s, order())
				if m := p.last(t); m.tls != c.tls {
					t.Errorf("TLS: %v", m.tls)
				}
			})
		}
	}
}

func TestWrongPassword(t *testing.T) {
	p := newPost(t)
	p.password = "right"
	s := newSink(t, p.address, func(c *Config) { c.Username, c.Password = "millrace", "hunter2" })
	f := failure(t, s, order(), event.UnavailableClass)
	if f.Status != 535 || strings.Contains(f.Error()+string(f.Answer), "hunter2") {
		t.Errorf("%+v", f)
	}
	f = failure(t, newSink(t, p.address), order(), event.UnavailableClass)
	if f.Status != 530 {
		t.Errorf("without a login: %+v", f)
	}
}

func TestAttachments(t *testing.T) {
	binary := make([]byte, 70_000)
	for i := range binary {
		binary[i] = byte(i * i >> 3)
	}
	p := newPost(t)
	s := newSink(t, p.address, func(c *Config) {
		c.HTML = template(t, "<p>x</p>")
		c.Attachments = map[string]rules.Template{
			"Rechnung für {{ data.name }}.pdf": template(t, "data:application/pdf;base64,{{ data.pdf }}"),
			"a/../b.json":                      template(t, "{{ data.list }}"),
			"note":                             template(t, "data:,to {{ data.name }}\r\n.\r\nMAIL"),
			"typed":                            template(t, "data:text/x-test;charset=utf-8,{{ data.name }}"),
		}
	})
	d := withData(`{"id":"1","email":"a@example.com","name":"Zoë \"x\"/y","list":[1,2.50],"pdf":"` + base64.RawURLEncoding.EncodeToString(binary) + `"}`)
	accept(t, s, d)
	m := p.last(t)
	checkWire(t, m.bytes)
	h, parts := read(t, m.bytes)
	if typ, _, _ := h.ContentType(); typ != "multipart/mixed" || len(parts) != 6 {
		t.Fatalf("%s, %d parts", typ, len(parts))
	}
	for i, want := range []part{
		{name: `Rechnung für Zoë "x"_y.pdf`, typ: "application/pdf", body: binary},
		{name: "a_.._b.json", typ: "application/json", body: []byte("[1,2.50]")},
		{name: "note", typ: "text/plain", body: []byte("to Zoë \"x\"/y\r\n.\r\nMAIL")},
		{name: "typed", typ: "text/x-test", body: []byte(`Zoë "x"/y`)},
	} {
		if got := parts[i+2]; got.name != want.name || got.typ != want.typ || !bytes.Equal(got.body, want.body) {
			t.Errorf("%q %s, %d bytes; want %q %s, %d bytes", got.name, got.typ, len(got.body), want.name, want.typ, len(want.body))
		}
	}
	for data, want := range map[string]string{
		`{"id":"1","email":"a@example.com","name":"x","list":[],"pdf":"§"}`:        "attachments.Rechnung für {{ data.name }}.pdf: the content is not base64",
		`{"id":"1","email":"a@example.com","name":"x\r\ny: z","list":[],"pdf":""}`: "file name",
		`{"id":"1","email":"a@example.com","name":"x","pdf":""}`:                   "attachments.a/../b.json: data.list is missing",
	} {
		d := withData(data)
		s.letter.to, _ = compileMailboxes("to", templates(t, "a@example.com"))
		if f := failure(t, s, d, event.PermanentClass); !strings.Contains(f.Error(), want) {
			t.Errorf("%v\nwant %s", f.Error(), want)
		}
	}
}

func TestHTML(t *testing.T) {
	p := newPost(t)
	page := `<!DOCTYPE html><title>{{ data.v }}</title><!--[if mso]><table><![endif]--><!-- gone --><style>a { color: red }</style>
<p title="{{ data.v }}" class={{ data.v }}>{{ data.v }}</p><a href="{{ data.url }}">x</a><a href="https://example.com/?q={{ data.v }}">y</a>
<!--[if !mso]><!--><b>{{ "{{" }}</b><!--<![endif]-->`
	s := newSink(t, p.address, func(c *Config) {
		c.HTML, c.Text = template(t, page), rules.Template{}
		c.To, c.Subject = templates(t, "a@example.com"), template(t, "x")
	})
	accept(t, s, withData(`{"v":"<script>a b\"'&","url":"https://example.com/a?b=c d"}`))
	_, parts := read(t, p.last(t).bytes)
	const safe = `&lt;script&gt;a b&#34;&#39;&amp;`
	want := `<!DOCTYPE html><title>` + safe + `</title><!--[if mso]><table><![endif]--><style>a { color: red }</style>` + "\r\n" +
		`<p title="` + safe + `" class=&lt;script&gt;a&#32;b&#34;&#39;&amp;>` + safe + `</p><a href="https://example.com/a?b=c%20d">x</a>` +
		`<a href="https://example.com/?q=%3cscript%3ea%20b%22%27%26">y</a>` + "\r\n" + `<!--[if !mso]><!--><b>{{</b><!--<![endif]-->` + "\r\n" // the last is SMTP's
	if len(parts) != 1 || parts[0].typ != "text/html" || string(parts[0].body) != want {
		t.Errorf("got  %s\nwant %s", parts[0].body, want)
	}
	f := failure(t, s, withData(`{"v":"","url":"javascript:alert(1)"}`), event.PermanentClass)
	if !strings.Contains(f.Error(), "html: a value is no safe URL") {
		t.Error(f.Error())
	}
	accept(t, s, withData(`{"v":"ZgotmplZ","url":""}`))
}

func TestLargeMail(t *testing.T) {
	p := newPost(t)
	s := newSink(t, p.address)
	name := strings.Repeat(`ein Satz mit Umlauten: äöü.\n.\n`, 1<<15)
	s.letter.to, _ = compileMailboxes("to", templates(t, "a@example.com"))
	s.letter.text = template(t, "{{ data.name }}")
	accept(t, s, withData(`{"id":"1","name":"`+name+`"}`))
	m := p.last(t)
	checkWire(t, m.bytes)
	_, parts := read(t, m.bytes)
	if want := strings.ReplaceAll(name, `\n`, "\r\n"); string(parts[0].body) != want || len(want) < 1<<20 {
		t.Errorf("%d bytes, want %d", len(parts[0].body), len(want))
	}
}
