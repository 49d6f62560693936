package console

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

func (c *console) index(w http.ResponseWriter, _ *http.Request) {
	var b strings.Builder
	fmt.Fprintf(&b, "Millrace %s\n\n", c.Version)
	for _, rt := range c.routes {
		fmt.Fprintf(&b, "%-4s %-30s %s\n", rt.method, rt.path, rt.doc)
	}
	text(w, http.StatusOK, b.String())
}

// livez says yes by answering: what keeps a process from working ends it, so there is nothing else to ask.
func (c *console) livez(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") }

// readyz lists its reasons only when asked to, because load balancers log what they get at each probe.
func (c *console) readyz(w http.ResponseWriter, r *http.Request) {
	reasons := c.Instance.NotReady()
	status, body := http.StatusOK, "ready\n"
	if len(reasons) > 0 {
		status, body = http.StatusServiceUnavailable, "not ready\n"
	}
	if r.URL.Query().Has("verbose") {
		for _, reason := range reasons {
			body += "- " + reason + "\n"
		}
	}
	text(w, status, body)
}

func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}
