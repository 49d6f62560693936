package app

import (
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/sources/syslog"
)

func syslogFile(address string) string {
	return fmt.Sprintf(`
admin: { listen: "127.0.0.1:0" }
outbox: { sqlite: { path: data/millrace.db, reserve: 1MiB } }
pipelines:
  hosts:
    source: { syslog: { listen: "%s" } }
    stages: [ { filter: data.severity != "debug" } ]
    sinks:
      all: { storage: { path: data/all.ndjson } }
`, address)
}

// What logger of util-linux sends, in every form that it knows, arrives in a file and is counted; so it is with nc and the like.
func TestSyslog(t *testing.T) {
	t.Chdir(t.TempDir())
	address := freeAddress(t)
	r := start(t, syslogFile(address))
	_, port, _ := net.SplitHostPort(address)
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("<15>Jan  2 11:59:59 web su: not this\n<11>Jan  2 11:59:59 web su: by hand\n")); err != nil {
		t.Fatal(err)
	}
	holds(t, "data/all.ndjson", `"message":"by hand"`)
	if _, err := exec.LookPath("logger"); err == nil {
		for _, form := range []string{"-T --rfc5424", "-T --octet-count --rfc5424", "-T --rfc3164", "-d --rfc5424", "-d --rfc3164"} {
			args := append(strings.Fields("-n 127.0.0.1 -P "+port+" -t shop "+form), "sent with "+form)
			if out, err := exec.CommandContext(t.Context(), "logger", args...).CombinedOutput(); err != nil {
				t.Fatalf("logger %s: %v\n%s", form, err, out)
			}
			holds(t, "data/all.ndjson", `"app":"shop","proc_id":null,"msg_id":null,"message":"sent with `+form+`"`)
		}
	}
	_, metrics := ask(t, "GET", r.started.Console+"metrics", "")
	for _, want := range []string{
		`millrace_syslog_messages_total{pipeline="hosts",protocol="tcp"}`, `millrace_syslog_connections_refused_total{pipeline="hosts",reason="framing"} 0`,
		`millrace_syslog_connections{pipeline="hosts"} 1`, `millrace_syslog_datagrams_dropped_total{pipeline="hosts"} 0`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("%s is not in\n%s", want, metrics)
		}
	}
	r.end()
}

// For development syslog is received on this machine only, at a port that is free.
func TestDevMovesSyslog(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	plan, report := load(t, syslogFile(":"+port))
	if plan == nil {
		t.Fatal(report.Text())
	}
	d := &Dev{Logger: slog.New(slog.DiscardHandler)}
	if err := d.adapt(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	at := plan.Pipelines[0].Source.Value.(*syslog.Source).Address()
	if !strings.HasPrefix(at, "127.0.0.1:") || at == taken.Addr().String() || !strings.Contains(strings.Join(d.notes, "\n"), "syslog.listen of hosts: ") {
		t.Errorf("%s, %q", at, d.notes)
	}
}
