package app

import (
	"context"
	"mime"
	"net"
	"net/netip"
	"regexp"
	"strings"
)

// Started says where everything is.
type Started struct {
	Webhooks []Webhook // in the order of the plan
	Console  string    // the URL of the admin listener
	Data     string    // where the events are kept
	Outbox   bool      // there is an outbox on disk
}

// Webhook is where a pipeline takes events, and what may be sent there.
type Webhook struct {
	Pipeline    string
	Method      string
	URL         string // path parameters have a value, so that it can be used as it is
	ContentType string
	Example     string
}

// announce tells who started the process where everything is, unless it was asked to stop meanwhile.
func (p *process) announce(ctx context.Context) {
	if p.Started == nil || ctx.Err() != nil {
		return
	}
	s := Started{Console: "http://" + reachable(p.admin.address()) + "/", Data: p.flows.data(), Outbox: p.flows[0].memory == nil}
	for _, pipeline := range p.Plan.Pipelines {
		if h, ok := pipeline.Source.Value.(*hook); ok {
			kind, example := h.example()
			s.Webhooks = append(s.Webhooks, Webhook{
				Pipeline: pipeline.Name, Method: "POST", URL: "http://" + reachable(p.webhooks.address()) + h.examplePath(),
				ContentType: kind, Example: example,
			})
		}
	}
	p.Started(s)
}

// reachable is an address to connect to: a listener on all interfaces is reached on this machine by loopback.
func reachable(address string) string {
	a, err := netip.ParseAddrPort(address)
	if err != nil || !a.Addr().IsUnspecified() {
		return address
	}
	_, port, _ := net.SplitHostPort(address)
	return net.JoinHostPort("127.0.0.1", port)
}

var parameter = regexp.MustCompile(`\{(\w+)\}`)

// examplePath gives each parameter its name as its value.
func (h *hook) examplePath() string { return parameter.ReplaceAllString(h.Path(), "$1") }

// examples are bodies that a webhook of their type takes, the one to show first.
var examples = [...][2]string{
	{"application/json", `{"id":"o-1","total":120}`},
	{"application/cloudevents+json", `{"specversion":"1.0","id":"o-1","source":"/example","type":"com.example.order","data":{"id":"o-1","total":120}}`},
	{"application/x-ndjson", `{"id":"o-1","total":120}`},
	{"text/plain", "an event"},
}

// example is a content type that the webhook takes, with a body of it.
func (h *hook) example() (contentType, body string) {
	for _, e := range examples {
		if len(h.accept) == 0 || accepts(h.accept, e[0]) {
			return e[0], e[1]
		}
	}
	return strings.ReplaceAll(h.accept[0], "*", "octet-stream"), "an event"
}

func accepts(ranges []string, kind string) bool {
	for _, r := range ranges {
		t, _, err := mime.ParseMediaType(r)
		if err != nil {
			continue
		}
		family, rest, _ := strings.Cut(t, "/")
		if t == kind || t == "*/*" || rest == "*" && strings.HasPrefix(kind, family+"/") {
			return true
		}
	}
	return false
}
