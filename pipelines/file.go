package pipelines

import (
	"fmt"
	"net"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func fileDefaults() fileKeys {
	return fileKeys{
		HTTP:            Listener{Listen: "127.0.0.1:8080"},
		Admin:           Listener{Listen: "127.0.0.1:8081"},
		ShutdownTimeout: 10 * time.Second,
	}
}

func sqliteDefaults() SQLite {
	return SQLite{
		Path: "data/millrace.db", MaxSize: 10 << 30, Reserve: 64 << 20, Retention: Retention{Age: 72 * time.Hour, Size: 2 << 30},
	}
}

// engineTypes are the engines of the outbox: a table like those of components, so that exactly one is chosen the same way.
func engineTypes() []Type {
	sqlite := sqliteDefaults()
	return []Type{
		{Name: "sqlite", Doc: "The embedded log on disk.", Config: &sqlite, Build: func(decode Decode) (any, error) {
			s := sqliteDefaults()
			return &s, decode(&s)
		}},
		{Name: "memory", Doc: "A log in memory only: what it holds is lost when the process ends.", Config: &Memory{},
			Build: func(decode Decode) (any, error) {
				m := Memory{}
				return &m, decode(&m)
			}},
	}
}

// file reads the keys of the merged files.
func (l *loader) file(root *node) *Plan {
	keys := fileDefaults()
	top := &section{title: "the file", node: root, shape: l.schema}
	l.fill(top, reflect.ValueOf(&keys).Elem())
	plan := &Plan{HTTP: keys.HTTP, Admin: keys.Admin, ShutdownTimeout: keys.ShutdownTimeout}
	l.listen = keys.HTTP.Listen
	l.checkListeners(root, keys)
	l.outbox(top, plan)
	l.pipelines(top, keys.Pipelines, plan)
	return plan
}

func (l *loader) outbox(top *section, plan *Plan) {
	e, given := top.node.find("outbox")
	if !given {
		s := sqliteDefaults()
		plan.Outbox.SQLite = &s
		return
	}
	f, _ := l.schema.field("outbox")
	s := &section{title: top.below("outbox"), key: e.key, node: e.value, shape: f.shape, up: top}
	if !l.isSection(s) {
		return
	}
	l.checkKeys(s)
	chosen, ok := l.pick(s, typeNames(engineTypes()))
	if !ok {
		return
	}
	c := l.build(engineTypes(), s, chosen)
	plan.Outbox.SQLite, _ = c.Value.(*SQLite)
	if plan.Outbox.Memory, ok = c.Value.(*Memory); ok {
		l.memory = &chosen.key.at
	}
	if path, ok := chosen.value.find("path"); ok && plan.Outbox.SQLite != nil && plan.Outbox.SQLite.Path == "" {
		l.fault(path.value, codeValue, "path: expected the name of a file, found nothing", "")
	}
	if plan.Outbox.SQLite != nil {
		l.checkRetention(chosen.value, plan.Outbox.SQLite)
	}
}

// checkRetention holds that there is room for the history that somebody asks for. The default takes what there is room for.
func (l *loader) checkRetention(n *node, s *SQLite) {
	most := s.MaxSize / 10 * 9
	size, bound := n.below("retention", "size"), n.below("max_size")
	switch {
	case s.Retention.Size <= most:
	case size == nil:
		s.Retention.Size = most
	case !l.anyBad(size) && (bound == nil || !l.anyBad(bound)):
		l.fault(size, codeRange, fmt.Sprintf("size: expected at most nine tenths of max_size, which is %s", formatSize(s.MaxSize)), "")
	}
}

// checkListeners checks the two addresses: their form, that the admin one needs no token, and that they differ.
func (l *loader) checkListeners(root *node, keys fileKeys) {
	web, okWeb := l.listener(root, "http", keys.HTTP)
	admin, okAdmin := l.listener(root, "admin", keys.Admin)
	if okAdmin && admin != nil && !loopback(keys.Admin.Listen) {
		l.fault(admin, codeAdmin,
			"a token is required beyond loopback, and there is none: everyone who reaches this address could use the API",
			"listen on 127.0.0.1:8081 or [::1]:8081; to reach it from elsewhere use a tunnel, or a proxy that asks who is there")
	}
	if !okWeb || !okAdmin || keys.HTTP.Listen != keys.Admin.Listen || strings.HasSuffix(keys.HTTP.Listen, ":0") {
		return
	}
	n := admin
	if n == nil {
		n = web
	}
	if n != nil {
		l.fault(n, codeAddress, "http and admin listen on the same address", "give one of them another port")
	}
}

// listener checks an address. The node is nil when the file does not name it; false: it was not good.
func (l *loader) listener(root *node, name string, given Listener) (*node, bool) {
	n := root.below(name, "listen")
	if n == nil || n.kind == skippedNode || l.standIns[n] {
		return nil, true
	}
	if l.bad[n] {
		return n, false
	}
	if problem := addressProblem(given.Listen); problem != "" {
		l.fault(n, codeAddress, "listen: expected an address host:port; "+problem, "such as 127.0.0.1:8080, or :8080 for every interface")
		return n, false
	}
	return n, true
}

// below follows keys from a node; nil when one is not there.
func (n *node) below(path ...string) *node {
	for _, key := range path {
		e, ok := n.find(key)
		if !ok {
			return nil
		}
		n = e.value
	}
	return n
}

var hostForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$`)

// addressProblem says what is wrong with an address, without repeating it: it may have come from the environment.
func addressProblem(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "the port is missing, or an IPv6 address stands without [ ]"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || fmt.Sprint(n) != port {
		return "the port is not a number from 0 to 65535"
	}
	bare, _, _ := strings.Cut(host, "%")
	if host != "" && net.ParseIP(bare) == nil && !hostForm.MatchString(host) {
		return "the host is neither a name nor an IP address"
	}
	return ""
}

// loopback says whether an address can be reached from this machine only.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
