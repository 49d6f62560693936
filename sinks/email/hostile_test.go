package email

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/emersion/go-message/mail"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// fragments are what attacks are made of; every pair of them is tried.
var fragments = []string{
	"\r\nBcc: victim@example.com", "\nBcc: victim@example.com", "\rBcc: victim@example.com", "\u2028Bcc: victim@example.com",
	"\u0085Bcc: v@example.com", "a@b> SIZE=1", "<victim@example.com>", ", victim@example.com", "\r\n.\r\nMAIL FROM:<evil@example.com>\r\n",
	"\n.\nMAIL FROM:<evil@example.com>", "\r.\rRCPT TO:<victim@example.com>", "\n.\r\nQUIT\r\n", "..", "\n..x", "\x00", "\u202egnp.exe",
	"🎉👩‍👩‍👧", "<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "=?utf-8?q?=0D=0ABcc:_victim=40example.com?=",
	"=?utf-8?b?DQpCY2M6IHZpY3RpbQ==?=", `"quoted" \ name`, "  two  spaces  ", "\r\n\r\n<html>", "(comment", "{{0}}", "{{ env(\"HOME\") }}", "%s%n\x1b[31m",
}

// hostile returns over 500 strings, the very long ones last.
func hostile() []string {
	all := slices.Clone(fragments)
	for _, a := range fragments {
		for _, b := range fragments {
			all = append(all, a+b)
		}
	}
	return append(all, strings.Repeat("x", 400), strings.Repeat("x", 5000), strings.Repeat("y ", 4000), strings.Repeat("(", 20_000),
		strings.Repeat("é", 3000), strings.Repeat("\r\nA: b", 3000), strings.Repeat("=?", 900), strings.Repeat("\u202e", 80))
}

// structure is every header that the mail of TestHostile may have.
var structure = []string{"Auto-Submitted", "Content-Transfer-Encoding", "Content-Type", "Date", "From", "Message-Id", "Millrace-Attempt", "Mime-Version",
	"Reply-To", "Subject", "To", "X-Note"}

// TestHostile puts every string into the name of the recipient, the subject, a header and both bodies: it arrives as text, or the
// delivery is Permanent. No header is born, and nobody else gets mail.
func TestHostile(t *testing.T) {
	all := hostile()
	if len(all) < 500 {
		t.Fatalf("only %d", len(all))
	}
	for place, set := range map[string]func(*Config){
		"name": func(c *Config) {
			c.To = templates(t, "{{ data.v }} <a@example.com>")
			c.ReplyTo = templates(t, `"A {{ data.v }}" <a@example.com>`)
		},
		"subject": func(c *Config) { c.Subject = template(t, "{{ data.v }}") },
		"header":  func(c *Config) { c.Headers = map[string]rules.Template{"X-Note": template(t, "{{ data.v }}")} },
		"body": func(c *Config) {
			c.Text, c.HTML = template(t, "{{ data.v }}."), template(t, `<p title="{{ data.v }}">{{ data.v }}</p>`)
		},
	} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			p := newPost(t)
			s := newSink(t, p.address, func(c *Config) {
				c.To, c.Subject, c.Text = templates(t, "a@example.com"), template(t, "fine"), template(t, "fine")
				set(c)
			})
			arrived := 0
			for _, v := range all {
				data, err := json.Marshal(map[string]string{"v": v})
				if err != nil {
					t.Fatal(err)
				}
				before := len(p.all())
				if err := send(t, s, withData(string(data))); err != nil {
					if f := event.VerdictOf(err); f.Class != event.PermanentClass || len(p.all()) != before {
						t.Errorf("%.80q: %v", v, err)
					}
					if place == "body" || harmless(v) {
						t.Errorf("%.80q was refused: %v", v, err)
					}
					continue
				}
				arrived++
				if n := len(p.all()) - before; n != 1 {
					t.Fatalf("%.80q: %d mails", v, n)
				}
				checkHostile(t, place, v, p.last(t))
			}
			if arrived < 100 {
				t.Errorf("only %d arrived", arrived)
			}
		})
	}
}

// harmless says that a header can hold the text.
func harmless(v string) bool { return len(v) < 400 && !strings.ContainsFunc(v, unicode.IsControl) }

func checkHostile(t *testing.T, place, v string, m received) {
	t.Helper()
	checkWire(t, m.bytes)
	if !slices.Equal(m.to, []string{"a@example.com"}) || m.from != "shop@example.com" {
		t.Errorf("%.80q: from %s to %q", v, m.from, m.to)
	}
	h, parts := read(t, m.bytes)
	for _, key := range slices.Sorted(maps.Keys(h.Map())) {
		if !slices.Contains(structure, key) || len(h.Map()[key]) != 1 {
			t.Errorf("%.80q: header %s was born: %q", v, key, h.Map()[key])
		}
	}
	for what, got := range holders(t, place, h, parts) {
		if want := holds(what, v); got != want {
			t.Errorf("%.80q: %s is\n%.200q, want\n%.200q", v, what, got, want)
		}
	}
}

// holders are the places in a received mail that must hold the text.
func holders(t *testing.T, place string, h *mail.Header, parts []part) map[string]string {
	t.Helper()
	switch place {
	case "body":
		return map[string]string{"text": string(parts[0].body), "html": string(parts[1].body)}
	case "name":
		to, reply := addressName(t, h, "To"), addressName(t, h, "Reply-To")
		return map[string]string{"to": to, "reply": reply}
	}
	key := map[string]string{"subject": "Subject", "header": "X-Note"}[place]
	text, err := h.Text(key)
	if err != nil {
		t.Error(err)
	}
	return map[string]string{place: text}
}

func holds(what, v string) string {
	lines := strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n").Replace(v)
	switch what {
	case "text":
		return lines + "."
	case "html":
		escaped := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;", "+", "&#43;", "\x00", "\uFFFD").Replace(lines)
		return fmt.Sprintf(`<p title="%s">%s</p>`, escaped, escaped)
	case "reply":
		return strings.TrimSpace("A " + v)
	}
	return strings.TrimSpace(v)
}

// addressName is the name in a header that must hold the one address.
func addressName(t *testing.T, h *mail.Header, key string) string {
	t.Helper()
	list, err := h.AddressList(key)
	if err != nil || len(list) != 1 || list[0].Address != "a@example.com" {
		t.Errorf("%s: %v, %v in %q", key, list, err, h.Get(key))
		return ""
	}
	return list[0].Name
}
