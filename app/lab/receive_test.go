package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// at is the time that every delivery is printed with.
func at() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// catch opens receivers that print to the buffer; read it when nothing is on its way any more.
func catch(t *testing.T) (*Receivers, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	r, err := Receive(t.Context(), NewPrinter(&out, false, at), quiet, elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		r.Close(ctx)
	})
	return r, &out
}

var orders = SinkName{Pipeline: "orders", Sink: "warehouse"}

// client sends requests as a sink does.
func client(t *testing.T, r *Receivers) *http.Client {
	through := func(scheme string) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, _, address string) (net.Conn, error) {
			return r.Dial(ctx, orders, scheme, address)
		}
	}
	transport := &http.Transport{DialContext: through("http"), DialTLSContext: through("https"), DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func send(t *testing.T, c *http.Client, method, url, body string, header ...string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); res.StatusCode != http.StatusNoContent || len(b) > 0 || err != nil {
		t.Fatalf("%s %q %v", res.Status, b, err)
	}
}

func TestRequests(t *testing.T) {
	r, out := catch(t)
	c := client(t, r)
	send(t, c, "POST", "https://shop.example.com/a%20b?c=d", `{"id":"o-1","total":12.50,"lines":[{"n":1},[],{}],"note":null}`,
		"Content-Type", "application/json", "ce-specversion", "1.0", "ce-id", "o-1", "ce-type", "order", "ce-source", "/a%20b", "ce-zone", "%E2%82%AC",
		"Idempotency-Key", `"0123"`, "Millrace-Attempt", "1", "User-Agent", "millrace", "Authorization", "Bearer secret")
	send(t, c, "PUT", "http://192.0.2.7:81/", "two\r\nlines\n", "Content-Type", "text/plain", "Millrace-Attempt", "2", "User-Agent", "millrace")
	send(t, c, "DELETE", "http://shop.example.com/", "")
	send(t, c, "POST", "http://shop.example.com/", "\x00\x01\xff", "Content-Type", "image/png")
	want := `03:04:05  orders/warehouse  POST https://shop.example.com/a%20b?c=d
          event    type order · id o-1 · source /a b · zone €
          headers  Authorization
          {
            "id": "o-1",
            "total": 12.50,
            "lines": [
              {
                "n": 1
              },
              [],
              {}
            ],
            "note": null
          }

03:04:05  orders/warehouse  PUT http://192.0.2.7:81/  attempt 2
          two
          lines

03:04:05  orders/warehouse  DELETE http://shop.example.com/
          no data

03:04:05  orders/warehouse  POST http://shop.example.com/
          3 bytes of image/png

`
	if got := out.String(); got != want {
		t.Errorf("printed:\n%s\nwant:\n%s", got, want)
	}
}

// Nobody but the sinks of this process reaches a receiver.
func TestStrangers(t *testing.T) {
	r, out := catch(t)
	for _, address := range []string{r.web.door.Addr().String(), r.mail.door.Addr().String(), r.mail.doorTLS.Addr().String()} {
		if !strings.HasPrefix(address, "127.0.0.1:") {
			t.Errorf("it listens on %s", address)
		}
		for _, said := range []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "guess orders warehouse http x:80\nGET / HTTP/1.1\r\n\r\n"} {
			c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(c, said)
			answer, _ := io.ReadAll(c) // a reset is as good as an end
			if bytes.Contains(answer, []byte("204")) || bytes.Contains(answer, []byte("250")) {
				t.Errorf("%s answered %q", address, answer)
			}
			_ = c.Close()
		}
	}
	if out.Len() > 0 {
		t.Errorf("printed %s", out)
	}
}

func TestUnknownScheme(t *testing.T) {
	r, _ := catch(t)
	if _, err := r.Dial(t.Context(), orders, "amqp", "q.example.com:5672"); err == nil {
		t.Error("there is a receiver for amqp")
	}
}

const sampleMail = "From: =?utf-8?q?Sh=C3=B6p?= <shop@example.com>\r\nTo: \"Ada\" <ada@example.com>, <bob@example.com>\r\nSubject: =?utf-8?q?Order_=E2=82=AC?=\r\n" +
	"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n" +
	"Content-Transfer-Encoding: quoted-printable\r\n\r\nThank you=2C =\r\nAda.\r\n.dot\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>Hi</p>\r\n--b\r\n" +
	"Content-Type: application/pdf\r\nContent-Disposition: attachment; filename=\"in\x1bvoice.pdf\"\r\n\r\n12345\r\n--b--\r\n"

const printedLetter = `03:04:05  orders/warehouse  mail
          From     Shöp <shop@example.com>
          To       Ada <ada@example.com>, bob@example.com
          Bcc      boss@example.com
          Subject  Order €

          Thank you, Ada.
          .dot
          + text/html, 9 bytes
          + in\u001bvoice.pdf (application/pdf), 5 bytes

`

// A mail arrives however a sink speaks to its server: in the clear, with STARTTLS, with TLS from the beginning, logged in or not.
// The certificate is for the host that the sink means to reach.
func TestMails(t *testing.T) {
	for _, c := range []struct {
		scheme, host string
		tls          bool
		auth         sasl.Client
	}{
		{"smtp", "mail.example.com", false, nil},
		{"smtp", "mail.example.com", true, sasl.NewPlainClient("", "u", "p")},
		{"smtp", "192.0.2.1", true, sasl.NewLoginClient("u", "p")},
		{"smtps", "mail.example.com", true, sasl.NewPlainClient("", "u", "p")},
		{"smtps", "::1", true, nil},
	} {
		t.Run(fmt.Sprint(c.scheme, c.host, c.tls), func(t *testing.T) {
			r, out := catch(t)
			conn, err := r.Dial(t.Context(), orders, c.scheme, net.JoinHostPort(c.host, "25"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			config := &tls.Config{ServerName: c.host, RootCAs: r.Roots(), MinVersion: tls.VersionTLS12}
			var m *smtp.Client
			switch {
			case c.scheme == "smtps":
				m = smtp.NewClient(tls.Client(conn, config))
			case c.tls:
				if m, err = smtp.NewClientStartTLS(conn, config); err != nil {
					t.Fatal(err)
				}
			default:
				m = smtp.NewClient(conn)
			}
			if c.auth != nil {
				if err := m.Auth(c.auth); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.SendMail("bounce@example.com", []string{"ADA@example.com", "boss@example.com"}, strings.NewReader(sampleMail)); err != nil {
				t.Fatal(err)
			}
			if err := m.Quit(); err != nil {
				t.Fatal(err)
			}
			if got := out.String(); got != printedLetter {
				t.Errorf("printed:\n%s\nwant:\n%s", got, printedLetter)
			}
		})
	}
}

// Closing does not wait for a sink that keeps its connection, and cuts it off.
func TestCloseWithConnections(t *testing.T) {
	r, _ := catch(t)
	var conns []net.Conn
	for _, scheme := range []string{"http", "smtp", "smtps"} {
		c, err := r.Dial(t.Context(), orders, scheme, "shop.example.com:25")
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	r.Close(ctx)
	for _, c := range conns {
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Log(err) // an end and a reset are both right
		}
		_ = c.Close()
	}
}

// elsewhere is the Onward of a process without webhooks.
func elsewhere(string, string) (string, bool) { return "", false }
