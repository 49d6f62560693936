package storage

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tb is what testing.T and rapid.T have in common.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Context() context.Context
}

func template(t tb, source string) rules.Template {
	t.Helper()
	c, err := rules.CompileTemplate(source, rules.Options{})
	if err != nil {
		t.Fatalf("template %q: %v", source, err)
	}
	return c
}

// appendLine appends an event as a line of a file of events.
func appendLine(dst []byte, ev *event.Event) []byte { return append(codec.EncodeJSON(dst, ev), '\n') }
