package sql

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/millrace-run/millrace/databases"
	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// Config is what a user may set. Begin with Defaults.
type Config struct {
	URL        string                 `yaml:"url,required,secret=password" doc:"The database: postgres://user:password@host/database with settings as psql takes them, or sqlite: and the path of a file."`
	Table      string                 `yaml:"table" doc:"The table to read, or schema.table; upper and lower case count. This or query."`
	Query      string                 `yaml:"query" doc:"A SELECT to read in place of a table; it has the columns of after."`
	After      []string               `yaml:"after" doc:"The columns that increase from row to row and together differ in each: an id, or [updated_at, id]. Of an outbox table its key."`
	Start      string                 `yaml:"start,oneof=beginning|end" doc:"Where to begin when nothing was read yet: at the first row, or with those that come."`
	Every      time.Duration          `yaml:"every,min=10ms,max=1h" doc:"How often to look for new rows."`
	Outbox     Outbox                 `yaml:"outbox,oneof=delete" doc:"Makes the table an outbox: every row is taken, whatever its number, and deleted once its event is on disk; or marked."`
	ID         rules.Template         `yaml:"id" doc:"The id of an event; the values of after when empty. It must be the same whenever the row is read."`
	Type       rules.Template         `yaml:"type" doc:"The type; millrace.row when empty."`
	Source     rules.Template         `yaml:"source" doc:"The source, a URI reference; database and table when empty."`
	Subject    rules.Template         `yaml:"subject" doc:"The subject; none when empty."`
	Attributes map[string]*rules.Expr `yaml:"attributes" doc:"Extensions; one without value is left out."`
	Data       string                 `yaml:"data" doc:"The column that is the data of the event; all columns as JSON when empty."`
}

// Outbox is what becomes of a row that was taken: a word, or a column.
type Outbox struct {
	Word string `yaml:"-"`
	Mark string `yaml:"mark,required" doc:"A column for a time, NULL until the row was taken."`
}

const (
	deleteWord = "delete"
	startEnd   = "end"
	startFirst = "beginning"
	rowType    = "millrace.row"
)

// Defaults are the settings where the file says nothing.
func Defaults() Config { return Config{After: []string{"id"}, Start: startFirst, Every: time.Second} }

// Option is a setting that the program makes, not the user.
type Option func(*Source)

// Logger is where the source reports what it could not read. Without it nothing is reported.
func Logger(l *slog.Logger) Option { return func(s *Source) { s.log = l } }

// Clock is the clock that the source waits by. Without it that is the machine's.
func Clock(c event.Clock) Option { return func(s *Source) { s.clock = c } }

// KeepAll leaves every row as it is, whatever the settings say, so that a configuration can be tried on a real table.
func KeepAll() Option {
	return func(s *Source) { s.takes, s.fromEnd = false, false }
}

// settings are a Config as it is used.
type settings struct {
	Config
	address databases.Address
	from    string // what stands behind FROM
	table   databases.Table
	after   string // the columns, quoted
	takes   bool   // rows are deleted or marked
	mark    string // quoted; empty: rows are deleted
	fromEnd bool
	name    string // the source of the events unless set
	ops     map[string]rules.Op
	order   []string // the names of ops
}

// check returns the settings that a Config means. Its error joins one *event.KeyError for each fault.
func (c Config) check() (*settings, error) {
	s := &settings{Config: c, fromEnd: c.Start == startEnd, after: databases.QuoteAll(c.After)}
	var faults []error
	fault := func(key string, err error) {
		if err != nil {
			faults = append(faults, &event.KeyError{Key: key, Err: err})
		}
	}
	var err error
	s.address, err = databases.ParseAddress(c.URL)
	fault("url", err)
	fault(s.findRows())
	if len(c.After) == 0 {
		fault("after", errors.New("at least one column is needed"))
	}
	for i, name := range c.After {
		if err := databases.CheckName(name); err != nil || slices.Contains(c.After[:i], name) {
			fault("after", errors.Join(err, fmt.Errorf("%q is no name of a column, or stands there twice", name)))
		}
	}
	if c.Every < 10*time.Millisecond || c.Every > time.Hour {
		fault("every", errors.New("must be from 10ms to 1h"))
	}
	if c.Start != startEnd && c.Start != startFirst {
		fault("start", fmt.Errorf("%q is neither beginning nor end", c.Start))
	}
	fault(s.findOutbox())
	if c.Data != "" {
		fault("data", databases.CheckName(c.Data))
	}
	s.ops = map[string]rules.Op{}
	for _, name := range slices.Sorted(maps.Keys(c.Attributes)) {
		s.ops[name], err = rules.Set([]rules.Assignment{{Path: "ext." + name, Value: c.Attributes[name]}})
		fault("attributes."+name, err)
		s.order = append(s.order, name)
	}
	return s, errors.Join(faults...)
}

// findRows reads table and query, and returns the key to blame.
func (s *settings) findRows() (key string, err error) {
	s.name = s.address.String()
	query := strings.TrimRight(strings.TrimSpace(s.Query), "; \n\t")
	switch {
	case s.Table != "" && s.Query != "":
		return "query", errors.New("table is set too: write one of them")
	case s.Table != "":
		s.table, err = databases.ParseTable(s.Table)
		s.from, s.name = string(s.table), s.name+"/"+escaped(s.Table)
		return "table", err
	case query == "":
		return "table", errors.New("required, or a query")
	case strings.ContainsRune(query, 0):
		return "query", errors.New("there is a NUL character in it")
	}
	s.from = "(" + query + "\n) AS millrace"
	return "", nil
}

func (s *settings) findOutbox() (key string, err error) {
	switch {
	case s.Outbox == (Outbox{}):
		return "", nil
	case s.Outbox.Word != "" && s.Outbox.Word != deleteWord:
		return "outbox", fmt.Errorf("%q is neither delete nor mark and a column", s.Outbox.Word)
	case s.Table == "":
		return "outbox", errors.New("rows can be taken out of a table only, not of a query")
	case s.fromEnd:
		return "start", errors.New("it has no meaning with outbox: every row that is there is taken")
	}
	s.takes = true
	if s.Outbox.Mark != "" {
		s.mark = databases.Quote(s.Outbox.Mark)
		return "outbox.mark", databases.CheckName(s.Outbox.Mark)
	}
	return "", nil
}

// unmarked leaves out rows that are marked.
func (s *settings) unmarked() string {
	if s.mark == "" {
		return ""
	}
	return " AND " + s.mark + " IS NULL"
}
