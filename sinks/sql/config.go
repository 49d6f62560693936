package sql

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/millrace-run/millrace/databases"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// Config is what a user may set. Begin with Defaults.
type Config struct {
	URL        string   `yaml:"url,required,secret=password" doc:"The database: postgres://user:password@host/database with settings as psql takes them, or sqlite: and the path of a file."`
	Table      string   `yaml:"table,required" doc:"The table, or schema.table; upper and lower case count."`
	Columns    []Column `yaml:"columns,required" doc:"The columns by name, in their order: an expression, or a map with value and type."`
	Key        []string `yaml:"key" doc:"The columns that say which row an event is; they need a unique index."`
	OnConflict string   `yaml:"on_conflict,oneof=update|ignore|error" doc:"What becomes of an event whose row is there: it is written over, left alone, or the event is a dead letter."`
	Create     bool     `yaml:"create" doc:"Make the table if it is not there, and a SQLite file; key is its primary key."`
}

// Column is one column of the table.
type Column struct {
	Name  string      `yaml:"-"`
	Value *rules.Expr `yaml:"value,required" doc:"What is written; nil is NULL, an array or object its JSON."`
	Type  string      `yaml:"type" doc:"Its type, for create: text unless the value is time or received (timestamptz) or data (jsonb); none in SQLite. Of bytea and blob the value's own bytes are written."`
}

// The values of on_conflict.
const (
	onUpdate = "update"
	onIgnore = "ignore"
	onError  = "error"
)

// Defaults returns the settings that apply where a user sets none.
func Defaults() Config { return Config{Key: []string{"source", "id"}, OnConflict: onUpdate} }

// settings are a Config as it is used.
type settings struct {
	address  databases.Address
	title    string // of the table, as the user wrote it
	table    databases.Table
	columns  []Column
	names    []string
	key      []int  // indexes of columns
	inKey    []bool // by index of a column: it must not be null
	together *rules.Together
	conflict string
	create   bool
}

// check returns the settings that a Config means. Its error joins one *event.KeyError for each fault.
func (c Config) check() (*settings, error) {
	s := &settings{title: c.Table, columns: c.Columns, conflict: c.OnConflict, create: c.Create}
	var faults []error
	fault := func(key string, err error) {
		if err != nil {
			faults = append(faults, &event.KeyError{Key: key, Err: err})
		}
	}
	var err error
	s.address, err = databases.ParseAddress(c.URL)
	fault("url", err)
	s.table, err = databases.ParseTable(c.Table)
	fault("table", err)
	if n := len(c.Columns); n == 0 || n > databases.ColumnsMost {
		fault("columns", fmt.Errorf("there are %d columns: a table has from 1 to %d", n, databases.ColumnsMost))
	}
	s.inKey = make([]bool, len(c.Columns))
	for _, column := range c.Columns {
		s.names = append(s.names, column.Name)
		fault("columns."+column.Name, databases.CheckName(column.Name))
		fault("columns."+column.Name+".type", checkType(column.Type))
	}
	if !slices.Contains([]string{onUpdate, onIgnore, onError}, c.OnConflict) {
		fault("on_conflict", fmt.Errorf("%q is none of update, ignore, error", c.OnConflict))
	}
	if c.OnConflict != onError || c.Create {
		fault("key", s.findKey(c.Key))
	}
	if c.OnConflict != onError {
		for _, i := range s.key {
			s.inKey[i] = true
		}
	}
	values := make([]*rules.Expr, len(s.columns))
	for i, column := range s.columns {
		values[i] = column.Value
	}
	s.together = rules.NewTogether(values...)
	return s, errors.Join(faults...)
}

func (s *settings) findKey(key []string) error {
	if len(key) == 0 {
		return errors.New("at least one column is needed: without it an event that comes again cannot be told from a new one")
	}
	for i, name := range key {
		at := slices.Index(s.names, name)
		switch {
		case slices.Contains(key[:i], name):
			return fmt.Errorf("%q stands there twice", name)
		case at < 0 && slices.Equal(key, Defaults().Key):
			return errors.New("it is [source, id] unless set, and columns have no such two: " +
				"add source: source and id: id to columns, or name the columns that say which row an event is")
		case at < 0:
			return fmt.Errorf("%q is not among columns", name)
		}
		s.key = append(s.key, at)
	}
	return nil
}

// typeForm is a type: words, numbers in brackets, [] of an array. Nothing in it can end a statement.
var typeForm = regexp.MustCompile(
	`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?( [A-Za-z]+)*( ?\([0-9]+(, ?-?[0-9]+)?\))?( [A-Za-z]+)*(\[\])*$`)

func checkType(text string) error {
	if text == "" || len(text) < 100 && typeForm.MatchString(text) {
		return nil
	}
	return fmt.Errorf("%q is no type such as text, numeric(10, 2) or timestamp with time zone", text)
}

// holdsBytes says whether a column is declared to hold bytes.
func (c *Column) holdsBytes() bool {
	t := strings.ToLower(c.Type)
	return t == "bytea" || t == "blob"
}

// declared is the type of a column in a table that is made.
func (s *settings) declared(c *Column) string {
	switch {
	case c.Type != "":
		return c.Type
	case s.address.Engine() == databases.SQLite:
		return ""
	}
	switch c.Value.String() {
	case "time", "received":
		return "timestamptz"
	case "data":
		return "jsonb"
	}
	return "text"
}

// createStatement makes the table.
func (s *settings) createStatement() string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s (", s.table)
	for i := range s.columns {
		fmt.Fprintf(&b, "%s %s, ", databases.Quote(s.names[i]), s.declared(&s.columns[i]))
	}
	fmt.Fprintf(&b, "PRIMARY KEY (%s))", databases.QuoteAll(s.keyNames()))
	return b.String()
}

func (s *settings) keyNames() []string {
	names := make([]string, len(s.key))
	for i, at := range s.key {
		names[i] = s.names[at]
	}
	return names
}

// onConflict is the end of an INSERT.
func (s *settings) onConflict() string {
	if s.conflict == onError {
		return ""
	}
	var sets []string
	for i, name := range s.names {
		if s.conflict == onUpdate && !slices.Contains(s.key, i) {
			sets = append(sets, databases.Quote(name)+" = excluded."+databases.Quote(name))
		}
	}
	clause := " ON CONFLICT (" + databases.QuoteAll(s.keyNames()) + ") DO "
	if len(sets) == 0 {
		return clause + "NOTHING"
	}
	return clause + "UPDATE SET " + strings.Join(sets, ", ")
}
