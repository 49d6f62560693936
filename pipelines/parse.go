package pipelines

import (
	"errors"
	"reflect"

	"github.com/millrace-run/millrace/rules"
)

// parseKeys are the settings of a parse stage.
type parseKeys struct {
	Format    string            `yaml:"format,required,oneof=json|logfmt|common|combined|syslog|csv|regex" doc:"What the text is."`
	From      string            `yaml:"from" doc:"The path of the text, such as data.message."`
	Into      string            `yaml:"into" doc:"The path of the result; data replaces the text."`
	Columns   []string          `yaml:"columns" doc:"The names of the fields of csv, in their order."`
	Delimiter string            `yaml:"delimiter" doc:"The character between the fields of csv; a comma when empty."`
	Pattern   string            `yaml:"pattern" doc:"The RE2 expression of regex, with named groups."`
	Types     map[string]string `yaml:"types" doc:"Names to string, int, float, bool or auto, for regex, csv and logfmt."`
	Timezone  string            `yaml:"timezone" doc:"The zone of times of syslog that name none, such as Europe/Berlin; UTC when empty."`
}

func parseDefaults() parseKeys { return parseKeys{From: "data", Into: "data"} }

// parseStage reads the settings of a parse stage; a text alone is the format.
func (l *loader) parseStage(s *section, chosen entry) rules.Op {
	n := chosen.value
	if n.kind == skippedNode {
		return nil
	}
	keys := parseDefaults()
	sh := shapeOf(reflect.ValueOf(keys))
	before := l.faults
	settings := &section{title: "parse of " + s.title, key: chosen.key, node: n, shape: sh, up: s}
	if n.kind == scalarNode && !n.isNull() {
		f, _ := sh.field("format")
		l.decodeScalar(n, f, reflect.ValueOf(&keys.Format).Elem())
	} else if !l.fill(settings, reflect.ValueOf(&keys).Elem()) {
		return nil
	}
	if l.faults > before || l.anyBad(n) || l.holdsStandIn(n) {
		return nil
	}
	op, err := rules.Parse(rules.ParseOptions{Format: keys.Format, From: keys.From, Into: keys.Into, Columns: keys.Columns,
		Delimiter: keys.Delimiter, Pattern: keys.Pattern, Types: keys.Types, Timezone: keys.Timezone})
	if err != nil {
		l.parseFault(settings, err)
	}
	return op
}

// parseFault reports a setting at its place, or at the stage where the setting is missing.
func (l *loader) parseFault(s *section, err error) {
	at := s.key
	var fault *rules.ParseFault
	if errors.As(err, &fault) {
		if e, ok := s.node.find(fault.Key); ok {
			at = e.value
		}
	}
	l.fault(at, codeSetting, l.secrets.hide("parse: "+err.Error()), "")
}
