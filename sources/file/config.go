package file

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec/records"
)

// Config are the settings of a reader of files. Begin with Defaults.
type Config struct {
	Path      string            `yaml:"path,required" doc:"The files, such as /srv/in/*.csv; ** is any number of folders. Names that begin with a dot are left out."`
	Format    string            `yaml:"format,oneof=lines|ndjson|csv|json|whole" doc:"By the suffix unless set: .json, .ndjson, .jsonl, .csv, .tsv, .txt, .log; before .gz or .zst, which are unpacked. json: one document; whole: the file as it is."`
	Columns   []string          `yaml:"columns" doc:"Of csv whose first line is not the names of the columns: their names."`
	Types     map[string]string `yaml:"types" doc:"Of columns of csv that are not text, by name: integer, number, boolean. An empty value is null."`
	Delimiter string            `yaml:"delimiter" doc:"Between the columns of csv: one character; a comma unless set, a tab in .tsv."`
	MaxRecord int64             `yaml:"max_record,size,min=1,max=64MiB" doc:"The most bytes of a record; of a file that is one record, of the file."`
	Stable    time.Duration     `yaml:"stable,min=0s,max=1h" doc:"How long size and time of a file must be the same before it is read."`
	Then      Then              `yaml:"then,oneof=keep|delete" doc:"What becomes of a file once all of it is on disk. One that is kept is read again only when it has changed, as a new file."`
	Failed    Failed            `yaml:"failed,oneof=keep" doc:"What becomes of a file that cannot be read as what it is. One that is kept is not tried again until it has changed."`
}

// Then is what becomes of a file that was read: a word, or a folder.
type Then struct {
	Word string `yaml:"-"`
	Move string `yaml:"move,required" doc:"A folder on any disk. The folders below the path's first are kept, and a number is added to a name that is taken."`
}

// Failed is what becomes of a file that could not be read: a word, or a folder.
type Failed struct {
	Word string `yaml:"-"`
	Move string `yaml:"move,required" doc:"A folder, as in then."`
}

// The words.
const (
	keepWord   = "keep"
	deleteWord = "delete"
)

// Defaults are the settings where the file says nothing.
func Defaults() Config {
	return Config{MaxRecord: 1 << 20, Stable: 2 * time.Second, Then: Then{Word: keepWord}, Failed: Failed{Word: keepWord}}
}

// Option is a setting that the program makes, not the user.
type Option func(*Source)

// Logger is where the source reports what it could not read. Without it nothing is reported.
func Logger(l *slog.Logger) Option { return func(s *Source) { s.log = l } }

// Clock is the clock that the source waits by. Without it that is the machine's.
func Clock(c event.Clock) Option { return func(s *Source) { s.clock = c } }

// KeepAll leaves every file where it is, whatever the settings say, so that a configuration can be tried on real files.
func KeepAll() Option {
	return func(s *Source) { s.settings.then, s.settings.failed = fate{}, fate{} }
}

// settings are a Config as it is used.
type settings struct {
	glob, base   string // absolute
	format       string // empty: by the suffix
	records      records.Options
	stable       time.Duration
	then, failed fate
}

// fate is what becomes of a file. The zero fate leaves it where it is.
type fate struct {
	remove bool
	folder string // absolute; empty: it is not moved
}

func (f fate) keeps() bool { return !f.remove && f.folder == "" }

// check returns the settings that a Config means. Its error joins one *event.KeyError for each fault.
func (c Config) check() (settings, error) {
	s := settings{format: c.Format, stable: c.Stable, records: records.Options{Max: c.MaxRecord, Columns: c.Columns, Types: c.Types}}
	var faults []error
	fault := func(key string, err error) {
		if err != nil {
			faults = append(faults, &event.KeyError{Key: key, Err: err})
		}
	}
	var err error
	if s.glob, err = globOf(c.Path); err == nil {
		s.base, _ = doublestar.SplitPattern(s.glob)
		fault("path", c.checkSuffix())
	}
	fault("path", err)
	s.then, err = s.fateOf(c.Then.Word, c.Then.Move)
	fault(fateKey("then", c.Then.Move), err)
	s.failed, err = s.fateOf(c.Failed.Word, c.Failed.Move)
	fault(fateKey("failed", c.Failed.Move), err)
	s.records.Delimiter, err = delimiterOf(c.Delimiter)
	fault("delimiter", err)
	if c.Columns != nil {
		fault("columns", records.CheckColumns(c.Columns))
	}
	for column, kind := range c.Types {
		fault("types."+column, records.CheckType(kind))
	}
	if c.MaxRecord < 1 || c.MaxRecord > 64<<20 {
		fault("max_record", errors.New("must be from 1 byte to 64MiB"))
	}
	if c.Stable < 0 || c.Stable > time.Hour {
		fault("stable", errors.New("must be from 0s to 1h"))
	}
	return s, errors.Join(faults...)
}

// checkSuffix refuses a pattern of which every file would fail.
func (c Config) checkSuffix() error {
	name, _ := unpacked(c.Path)
	suffix := filepath.Ext(name)
	if c.Format != "" || suffix == "" || strings.ContainsAny(suffix, `*?[]{}\`) || formatOf(name) != "" {
		return nil
	}
	return fmt.Errorf("the suffix %s names no format: set format", suffix)
}

// formatOf is the format of a file by its name, without the suffix of what it is packed in; empty if the name does not tell.
func formatOf(name string) string {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".json":
		return records.JSON
	case ".ndjson", ".jsonl":
		return records.NDJSON
	case ".csv", ".tsv":
		return records.CSV
	case ".txt", ".log":
		return records.Lines
	}
	return ""
}

// unpacked is a name without the suffix that says what the file is packed in, and that suffix.
func unpacked(name string) (rest, packing string) {
	switch suffix := strings.ToLower(filepath.Ext(name)); suffix {
	case gzipSuffix, zstdSuffix:
		return name[:len(name)-len(suffix)], suffix
	}
	return name, ""
}

const (
	gzipSuffix = ".gz"
	zstdSuffix = ".zst"
)

// options are those by which a file is read; false: its name tells no format.
func (s *settings) options(path string) (records.Options, bool) {
	o := s.records
	name, _ := unpacked(path)
	if o.Format = s.format; o.Format == "" {
		o.Format = formatOf(name)
	}
	if o.Delimiter == 0 && strings.EqualFold(filepath.Ext(name), ".tsv") {
		o.Delimiter = '\t'
	}
	return o, o.Format != ""
}

// fateKey is the key to blame.
func fateKey(key, folder string) string {
	if folder != "" {
		return key + ".move"
	}
	return key
}

func (s *settings) fateOf(word, folder string) (fate, error) {
	switch {
	case strings.ContainsRune(folder, 0):
		return fate{}, errors.New("there is a NUL character in it")
	case folder != "":
		absolute, err := filepath.Abs(folder)
		if absolute == s.base {
			err = errors.New("it is the folder that the files are read from")
		}
		return fate{folder: absolute}, err
	case word == keepWord:
		return fate{}, nil
	case word == deleteWord:
		return fate{remove: true}, nil
	}
	return fate{}, fmt.Errorf("%q is neither keep, delete nor a folder to move to", word)
}

func delimiterOf(text string) (rune, error) {
	if text == "" {
		return 0, nil
	}
	r, n := utf8.DecodeRuneInString(text)
	if n != len(text) {
		return 0, fmt.Errorf("%q is not one character", text)
	}
	return r, records.CheckDelimiter(r)
}

// globOf makes a pattern absolute: relative ones start at the working directory of this moment.
func globOf(pattern string) (string, error) {
	switch {
	case pattern == "":
		return "", errors.New("required")
	case strings.ContainsRune(pattern, 0):
		return "", errors.New("there is a NUL character in it")
	case strings.HasSuffix(pattern, "/"):
		return "", errors.New("it names a folder: a file name or a pattern such as *.csv is missing at its end")
	case !doublestar.ValidatePathPattern(pattern):
		return "", errors.New("it is not a pattern: a bracket or brace is open, or a \\ stands at its end")
	case filepath.IsAbs(pattern):
		return filepath.Clean(pattern), nil
	}
	working, err := filepath.Abs(".")
	if err != nil {
		return "", fmt.Errorf("the working directory cannot be told: %w", err)
	}
	literal := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `{`, `\{`).Replace(working)
	return filepath.Join(literal, pattern), nil
}
