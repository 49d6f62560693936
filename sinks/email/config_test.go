package email

import (
	"errors"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

func TestNewRefuses(t *testing.T) {
	server := func(s string) func(*testing.T, *Config) { return func(_ *testing.T, c *Config) { c.Server = s } }
	html := func(s string) func(*testing.T, *Config) {
		return func(t *testing.T, c *Config) { c.HTML = template(t, s) }
	}
	header := func(name, value string) func(*testing.T, *Config) {
		return func(t *testing.T, c *Config) { c.Headers = map[string]rules.Template{name: template(t, value)} }
	}
	attach := func(name, content string) func(*testing.T, *Config) {
		return func(t *testing.T, c *Config) { c.Attachments = map[string]rules.Template{name: template(t, content)} }
	}
	from := func(s string) func(*testing.T, *Config) {
		return func(t *testing.T, c *Config) { c.From = template(t, s) }
	}
	login := func(server, tls string) func(*testing.T, *Config) {
		return func(_ *testing.T, c *Config) { c.Server, c.TLS, c.Username, c.Password = server, tls, "u", "hunter2" }
	}
	for _, c := range []struct {
		name, key, want string
		change          func(*testing.T, *Config)
	}{
		{"no server", "server", "required", server("")},
		{"no scheme", "server", "smtp://", server("example.com:25")},
		{"another scheme", "server", "smtp://", server("http://example.com")},
		{"host from the event", "server", "literal", server("smtp://{{ data.host }}")},
		{"user info", "server", "username", server("smtp://u:hunter2@example.com")},
		{"no host", "server", "host", server("smtp://:25")},
		{"bad host", "server", "host", server("smtp://exa_mple..com")},
		{"empty port", "server", "port", server("smtp://example.com:")},
		{"port 0", "server", "port", server("smtp://example.com:0")},
		{"bad port", "server", "port", server("smtp://example.com:99999")},
		{"path", "server", "follow", server("smtp://example.com/x")},
		{"query", "server", "follow", server("smtp://example.com?x")},
		{"fragment", "server", "follow", server("smtp://example.com#x")},
		{"tls", "tls", "none of", func(_ *testing.T, c *Config) { c.TLS = "maybe" }},
		{"smtps without", "tls", "smtps", func(_ *testing.T, c *Config) { c.Server, c.TLS = "smtps://127.0.0.1", "none" }},
		{"smtps offered", "tls", "smtps", func(_ *testing.T, c *Config) { c.Server, c.TLS = "smtps://example.com", "offered" }},
		{"password in the clear", "tls", "password", login("smtp://example.com", "none")},
		{"password in the clear to a number", "tls", "password", login("smtp://10.0.0.1", "none")},
		{"password only", "username", "password", func(_ *testing.T, c *Config) { c.Password = "hunter2" }},
		{"username only", "password", "username", func(_ *testing.T, c *Config) { c.Username = "u" }},
		{"no from", "from", "required", func(_ *testing.T, c *Config) { c.From = rules.Template{} }},
		{"bad from", "from", "@", from("Shop")},
		{"name without quotes", "from", "quotes", from("Shop, Inc <shop@example.com>")},
		{"bracket", "from", "<", from("shop@example.com>")},
		{"line feed", "from", "control", from("Shop\n <shop@example.com>")},
		{"no recipient", "to", "required", func(_ *testing.T, c *Config) { c.To = nil }},
		{"bad second recipient", "to.1", "@", func(t *testing.T, c *Config) { c.To = templates(t, "a@example.com", "b") }},
		{"bad cc", "cc", "host name", func(t *testing.T, c *Config) { c.Cc = templates(t, "a@exa mple.com") }},
		{"bad bcc", "bcc", "before the @", func(t *testing.T, c *Config) { c.Bcc = templates(t, "a b@example.com") }},
		{"list in reply_to", "reply_to", "address", func(t *testing.T, c *Config) { c.ReplyTo = templates(t, "a@example.com, b@example.com") }},
		{"subject of two lines", "subject", "line break", func(t *testing.T, c *Config) { c.Subject = template(t, "a\n{{ id }}") }},
		{"no body", "text", "required", func(_ *testing.T, c *Config) { c.Text = rules.Template{} }},
		{"script", "html", "script", html("<script>var a = {{ data.id }}</script>")},
		{"handler", "html", "script", html(`<a onclick="f({{ data.id }})">x</a>`)},
		{"style", "html", "style", html("<style>a { color: {{ data.id }} }</style>")},
		{"style attribute", "html", "style", html(`<p style="color: {{ data.id }}">x</p>`)},
		{"comment", "html", "comment", html("<!-- {{ data.id }} -->")},
		{"conditional comment", "html", "comment", html("<!--[if mso]>{{ data.id }}<![endif]-->")},
		{"tag name", "html", "name of a tag", html("<p{{ data.id }}>")},
		{"attribute name", "html", "name of a tag", html("<a {{ data.id }}=1>")},
		{"open attribute", "html", "", html(`<a href="{{ data.id }}`)},
		{"control character", "html", "control", html("a\x01{{ data.id }}")},
		{"header from", "headers.From", "key of its own: from", header("From", "x")},
		{"header bcc", "headers.bcc", "key of its own", header("bcc", "x")},
		{"header reply-to", "headers.Reply-To", "reply_to", header("Reply-To", "x")},
		{"header date", "headers.date", "Millrace", header("date", "x")},
		{"header message id", "headers.MESSAGE-ID", "Millrace", header("MESSAGE-ID", "x")},
		{"header mime version", "headers.MIME-Version", "Millrace", header("MIME-Version", "x")},
		{"header content", "headers.Content-Language", "structure", header("Content-Language", "x")},
		{"header resent", "headers.Resent-To", "structure", header("Resent-To", "x")},
		{"header sender", "headers.Sender", "transport", header("Sender", "x")},
		{"header name", "headers.a b", "name", header("a b", "x")},
		{"header colon", "headers.a:b", "name", header("a:b", "x")},
		{"header value", "headers.X-A", "control", header("X-A", "a\r\nBcc: b@example.com")},
		{"attachment type", "attachments.a.pdf", "type", attach("a.pdf", "data:pdf;base64,{{ data.id }}")},
		{"attached mail", "attachments.a.eml", "attached", attach("a.eml", "data:message/rfc822,{{ data.id }}")},
		{"type from the event", "attachments.a", "comma", attach("a", "data:{{ data.id }}")},
		{"attachment name", "attachments...", "empty", attach("..", "x")},
		{"attachment expression", "attachments.{{ x }}", "x", attach("{{ x }}", "x")},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := settings(t, "127.0.0.1:1")
			c.change(t, &config)
			_, err := New(config)
			var k *event.KeyError
			if !errors.As(err, &k) {
				t.Fatalf("%v is no KeyError", err)
			}
			if k.Key != c.key || !strings.Contains(k.Err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q: %v, want key %q and %q", k.Key, k.Err, c.key, c.want)
			}
		})
	}
}

func TestNewJoinsAllFaults(t *testing.T) {
	_, err := New(Config{})
	for _, want := range []string{"server: ", "from: ", "to: ", "text: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %q", err, want)
		}
	}
}

func TestServers(t *testing.T) {
	for text, want := range map[string]server{
		"smtp://mail.example.com":       {host: "mail.example.com", address: "mail.example.com:25", policy: tlsRequired},
		"SMTP://Mail.example.com:587/":  {host: "mail.example.com", address: "mail.example.com:587", policy: tlsRequired},
		"smtps://mail.example.com":      {host: "mail.example.com", address: "mail.example.com:465", policy: tlsRequired, implicit: true},
		"smtp://bücher.example":         {host: "xn--bcher-kva.example", address: "xn--bcher-kva.example:25", policy: tlsRequired},
		"smtp://127.0.0.1:1025":         {host: "127.0.0.1", address: "127.0.0.1:1025", policy: tlsOffered, loopback: true, insecure: true},
		"smtp://localhost":              {host: "localhost", address: "localhost:25", policy: tlsOffered, loopback: true, insecure: true},
		"smtp://[::1]:25":               {host: "::1", address: "[::1]:25", policy: tlsOffered, loopback: true, insecure: true},
		"smtps://127.0.0.2":             {host: "127.0.0.2", address: "127.0.0.2:465", policy: tlsRequired, loopback: true, implicit: true},
		"smtp://localhost.example.com":  {host: "localhost.example.com", address: "localhost.example.com:25", policy: tlsRequired},
		"smtp://127.0.0.1.example.com.": {},
	} {
		got, err := (Config{Server: text}).checkServer()
		if got != want || err != nil != (want == server{}) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestCertificateIsCheckedWhereItMatters(t *testing.T) {
	for _, c := range []struct {
		server, tls, user string
		insecure          bool
	}{
		{"smtp://example.com", tlsOffered, "", true},
		{"smtp://example.com", tlsOffered, "u", false},
		{"smtp://example.com", tlsRequired, "", false},
		{"smtp://127.0.0.1", "", "u", true},
		{"smtp://127.0.0.1", tlsRequired, "u", false},
	} {
		to, err := (Config{Server: c.server, TLS: c.tls, Username: c.user, Password: c.user}).checkServer()
		if err != nil || to.insecure != c.insecure {
			t.Errorf("%+v: %+v, %v", c, to, err)
		}
	}
}

func TestSkeleton(t *testing.T) {
	for source, want := range map[string]string{
		"": "", "plain } } text": "plain } } text", "a{{ id }}b": "a{{0}}b", "{{id}}{{ type }}": "{{0}}{{1}}",
		`{{ "}}" }}{{ {a: {b: 1}} }}x`: "{{0}}{{1}}x", "{{ 1 /* }} */ + 1 }} }}": "{{0}} }}", "{{ `}}` }}}": "{{0}}}",
		`{{ "{{" }}{ {`: "{{0}}{ {", `{{ env("HOME") }}`: "{{0}}",
	} {
		compiled, err := rules.CompileTemplate(source, rules.Options{Env: func(string) (string, bool) { return "x", true }})
		if err != nil {
			t.Fatal(err)
		}
		got, holes, err := skeleton(compiled)
		if got != want || err != nil || holes != strings.Count(want, "{{") {
			t.Errorf("%q: %q, %d, %v", source, got, holes, err)
		}
	}
}
