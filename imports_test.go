// Package millrace_test holds what is true of the tree as a whole: who may import whom, and that the pages tell of what exists.
package millrace_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/millrace-run/millrace"

// rows says what the packages of a folder may import of this module. A package belongs to the longest row that it is in and
// may import its own row (of sources, functions, sinks and brokers: its own type). Whoever may import event may import
// event/codec too, but outbox and rules may not: they must not depend on how an event is written.
var rows = map[string][]string{
	"event":        {},
	"event/codec":  {"event"},
	"rules":        {"event"},
	"outbox":       {"event"},
	"brokers":      {"event", "event/codec"},
	"databases":    {"event"}, // what the sql source and the sql sink share, as they must not import each other
	"signatures":   {"event", "event/codec"},
	"sources":      {"event", "event/codec", "rules", "brokers", "databases", "signatures"},
	"functions":    {"event", "event/codec", "rules", "signatures"},
	"sinks":        {"event", "event/codec", "rules", "brokers", "databases", "signatures"},
	"pipelines":    {"event", "event/codec", "rules"},
	"router":       {"event", "event/codec", "rules", "pipelines"},
	"console":      {"event", "event/codec"},
	"cmd/millrace": {"app"},
	"examples":     {},
	"torture":      {},
	"bench":        {"event", "outbox", "databases", "internal"},
	"internal":     {},
	"app": {
		"event", "event/codec", "rules", "outbox", "brokers", "signatures", "sources", "functions", "sinks", "pipelines", "router", "console",
	},
}

// perType are the rows in which each folder stands for itself: one sink does not import another.
var perType = []string{"brokers", "sources", "functions", "sinks"}

// homes says where a library may be imported: what it does is done in one place, so that it can be replaced there.
var homes = map[string][]string{
	"github.com/cloudevents/sdk-go/v2":        {"event/codec"},
	"github.com/cloudevents/sdk-go/sql/v2":    {}, // rules/cesql does what it does: it panics on bad text
	"github.com/expr-lang/expr":               {"rules"},
	"github.com/go-logfmt/logfmt":             {"rules"},
	"github.com/leodido/go-syslog/v4":         {"rules"},
	"github.com/mattn/go-sqlite3":             {"outbox", "bench/internal/floor", "databases"},
	"database/sql":                            {"outbox", "bench/internal/floor", "databases"},
	"github.com/jackc/pgx/v5":                 {"databases"},
	"github.com/goccy/go-yaml":                {"pipelines"},
	"github.com/ThreeDotsLabs/watermill":      {"brokers", "outbox/pubsub"},
	"github.com/prometheus/client_golang":     {"console"},
	"github.com/spf13/cobra":                  {"cmd/millrace"},
	"github.com/lmittmann/tint":               {"cmd/millrace"},
	"github.com/wneessen/go-mail":             {"sinks/email"},
	"github.com/emersion/go-smtp":             {"app/lab"},
	"github.com/emersion/go-message":          {"app/lab"},
	"github.com/minio/minio-go/v7":            {"sinks/s3"},
	"github.com/johannesboyne/gofakes3":       {},
	"github.com/klauspost/compress":           {"sources/file", "sinks/storage", "sinks/s3"},
	"github.com/rogpeppe/go-internal":         {},
	"github.com/google/go-cmp":                {},
	"go.uber.org/goleak":                      {},
	"pgregory.net/rapid":                      {},
	"github.com/stretchr/testify":             {},
	"github.com/cloudevents/sdk-go/v2/client": {}, // it brings a transport of its own
}

// suites are packages of tests that stand beside their contract: they may import test libraries, and what they test.
var suites = map[string][]string{
	"router/routertest":  {"event", "router"},
	"sources/sourcetest": {"event", "router"},
	"sinks/sinktest":     {"event", "router"},
	"outbox/outboxtest":  {"event", "outbox"},
	"brokers/brokertest": {"event", "brokers"},
}

func TestImports(t *testing.T) {
	for _, fault := range faults(listPackages(t)) {
		t.Error(fault)
	}
}

func TestImportRules(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"sinks/email", "router", "sinks/email imports router: not in its row"},
		{"sinks/email", "sinks/http", "sinks/email imports sinks/http: not in its row"},
		{"sinks/email", "sinks/email/parts", ""},
		{"sinks/email", "event", ""},
		{"outbox", "event/codec", "outbox imports event/codec: not in its row"},
		{"outbox/pubsub", "outbox", ""},
		{"event", "github.com/google/uuid", "event imports github.com/google/uuid: event has the standard library only"},
		{"event", "net/http", ""},
		{"event/codec", "github.com/cloudevents/sdk-go/v2/event", ""},
		{"event/codec", "github.com/cloudevents/sdk-go/v2/client", "event/codec imports github.com/cloudevents/sdk-go/v2/client: it is at home nowhere"},
		{"router", "github.com/expr-lang/expr/vm", "router imports github.com/expr-lang/expr/vm: it is at home in rules"},
		{"app", "database/sql", "app imports database/sql: it is at home in outbox, bench/internal/floor, databases"},
		{"app", "outbox", ""},
		{"sinks/sql", "databases", ""},
		{"sinks/sql", "sources/sql", "sinks/sql imports sources/sql: not in its row"},
		{"sources/sql", "github.com/jackc/pgx/v5/pgconn", "sources/sql imports github.com/jackc/pgx/v5/pgconn: it is at home in databases"},
		{"cmd/millrace", "pipelines", "cmd/millrace imports pipelines: not in its row"},
		{"pipelines", "go.uber.org/goleak", "pipelines imports go.uber.org/goleak: it is at home nowhere"},
		{"router/routertest", "pgregory.net/rapid", ""},
		{"util", "fmt", "util: has no row"},
	} {
		to := c.to
		if !strings.Contains(to, ".") && folderExistsInRows(to) {
			to = module + "/" + to
		}
		got := strings.Join(faults([]goPackage{{ImportPath: module + "/" + c.from, Imports: []string{to}}}), "; ")
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s → %s: %s", c.from, c.to, d)
		}
	}
}

func folderExistsInRows(path string) bool {
	_, ok := rowOf(path)
	return ok
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

// listPackages asks the go command for every package with what its files other than tests import.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); err == io.EOF {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func faults(packages []goPackage) []string {
	var found []string
	for _, p := range packages {
		from := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if from == "" {
			continue // the module's root holds tests only
		}
		row, ok := rowOf(from)
		if !ok {
			found = append(found, from+": has no row")
			continue
		}
		for _, to := range p.Imports {
			if fault := judge(from, row, to); fault != "" {
				found = append(found, fault)
			}
		}
	}
	return found
}

// judge says what is wrong with an import, or nothing.
func judge(from, row, to string) string {
	if local, ok := strings.CutPrefix(to, module+"/"); ok {
		if !mayImport(from, row, local) {
			return fmt.Sprintf("%s imports %s: not in its row", from, local)
		}
		return ""
	}
	if domain, _, _ := strings.Cut(to, "/"); from == "event" && strings.Contains(domain, ".") {
		return fmt.Sprintf("%s imports %s: event has the standard library only", from, to)
	}
	library, ok := longest(homes, to)
	if !ok || slices.ContainsFunc(homes[library], func(home string) bool { return within(from, home) }) {
		return ""
	}
	if _, suite := longest(suites, from); suite && len(homes[library]) == 0 {
		return ""
	}
	at := "nowhere"
	if len(homes[library]) > 0 {
		at = "in " + strings.Join(homes[library], ", ")
	}
	return fmt.Sprintf("%s imports %s: it is at home %s", from, to, at)
}

func mayImport(from, row, to string) bool {
	if suite, ok := longest(suites, from); ok {
		if _, ok := longestOf(suites[suite], to); ok {
			return true
		}
	}
	toRow, ok := rowOf(to)
	if !ok {
		return false
	}
	if toRow != row {
		return slices.Contains(rows[row], toRow)
	}
	return !slices.Contains(perType, row) || typeOf(from) == typeOf(to)
}

// typeOf is sinks/email of sinks/email/parts.
func typeOf(path string) string {
	parts := strings.SplitN(path, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

func rowOf(path string) (string, bool) { return longest(rows, path) }

// longest finds the longest key that path is or lies in.
func longest(table map[string][]string, path string) (string, bool) {
	keys := make([]string, 0, len(table))
	for k := range table {
		keys = append(keys, k)
	}
	return longestOf(keys, path)
}

func longestOf(keys []string, path string) (string, bool) {
	best, ok := "", false
	for _, k := range keys {
		if within(path, k) && len(k) >= len(best) {
			best, ok = k, true
		}
	}
	return best, ok
}

func within(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }
