package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// Config is what a user may set. Begin with Defaults: the zero values of Content, Header, Formulas and MaxFiles are not theirs.
type Config struct {
	Path     rules.Template `yaml:"path,required" doc:"The file; may hold {{ expressions }}. A closed file has .gz or .zst from here, an open one is plain and does not have it yet."`
	Content  string         `yaml:"content,oneof=event|data|raw" doc:"event: a structured CloudEvent; data: the data, on one line; raw: the bytes of the data and nothing between them."`
	Format   string         `yaml:"format,oneof=lines|ndjson|csv|json" doc:"By the suffix of the path unless set: .ndjson, .jsonl, .csv, .tsv, .json (one array a file); else lines, where data that is text stays as it is."`
	Columns  []Column       `yaml:"columns" doc:"Of csv: the columns by name, in their order, each an expression. Without a value a cell is empty."`
	Header   bool           `yaml:"header" doc:"Of csv: whether the first line of a file names the columns."`
	Formulas string         `yaml:"formulas,oneof=defuse|keep" doc:"Of csv: defuse puts a ' before a cell that a spreadsheet would take for a formula: one that begins with = + - @, a tab or CR and is no number."`
	Compress string         `yaml:"compress,oneof=gzip|zstd|none" doc:"How closed files are packed; by the suffix of the path (.gz, .zst) unless set. They get the suffix if the path has none."`
	Rotate   Rotate         `yaml:"rotate" doc:"When a file is closed and a new one begun. A closed file has the time of that in its name, as orders.20260102T150405.000Z.ndjson, and is not touched again."`
	Keep     Keep           `yaml:"keep" doc:"How much of what is closed stays. Only files that this sink made and closed are ever removed. Unset: all."`
	MaxFiles int            `yaml:"max_files,min=1,max=1000000" doc:"Files that the sink remembers. Of those beyond it, the ones not written for longest are closed, or forgotten where nothing ever closes a file."`
}

// Rotate is when a file is closed. Zero is never, but see Idle.
type Rotate struct {
	Size int64         `yaml:"size,size,min=1KiB" doc:"Once it has as much; the last batch, at most 1 MiB or one event, may lead over it."`
	Age  time.Duration `yaml:"age,min=1s" doc:"So long after it was begun."`
	Idle time.Duration `yaml:"idle,min=1s" doc:"So long after it was last written. Unless set, 1h for a path with expressions whose files must be closed."`
}

// Keep is how many closed files stay, of all paths of the sink together. Zero is without bound.
type Keep struct {
	Files int           `yaml:"files,min=1" doc:"So many, the newest."`
	Age   time.Duration `yaml:"age,min=1s" doc:"So long after they were closed."`
	Size  int64         `yaml:"size,size,min=1KiB" doc:"So many bytes together, the newest."`
}

// Column is one column of csv.
type Column struct {
	Name  string      `yaml:"-"`
	Value *rules.Expr `yaml:"value,required" doc:"What is written: of nil nothing, of an array or object its JSON."`
}

func (r Rotate) any() bool { return r != Rotate{} }
func (k Keep) any() bool   { return k != Keep{} }

// The values of Content.
const (
	contentEvent = "event"
	contentData  = "data"
	contentRaw   = "raw"
)

// The values of Formulas.
const (
	formulasDefuse = "defuse"
	formulasKeep   = "keep"
)

// usualIdle closes the files of a path that has moved on. It is long, since what comes later needs a file of its own.
const usualIdle = time.Hour

// Defaults returns the settings that apply where a user sets none.
func Defaults() Config {
	return Config{Content: contentEvent, Header: true, Formulas: formulasDefuse, MaxFiles: 10000}
}

// Option is a setting that the program makes, not the user.
type Option func(*Sink)

// Logger is where the sink reports files that it leaves alone, closes, packs and removes. Without it nothing is reported.
func Logger(l *slog.Logger) Option { return func(s *Sink) { s.log = l } }

// Clock is the clock that files grow old by. Without it that is the machine's.
func Clock(c event.Clock) Option { return func(s *Sink) { s.clock = c } }

// New checks the settings and returns the sink. It opens nothing; relative paths start at the working directory of this moment.
// Its error joins one *event.KeyError for each fault.
func New(c Config, options ...Option) (*Sink, error) {
	packing, packingErr := packingOf(c)
	where, pathErr := newPlace(c.Path, packing)
	how, formErr := newForm(c, packing)
	err := errors.Join(keyError("path", pathErr), keyError("compress", packingErr), formErr)
	if err == nil {
		err = c.checkClosing(where.templated, how, packing)
	}
	if err != nil {
		return nil, err
	}
	s := &Sink{
		place: where, form: how, files: map[string]*entry{}, log: slog.New(slog.DiscardHandler), mount: mountFolder,
		clock: event.SystemClock{}, limits: limits{open: maxOpen, known: c.MaxFiles, keep: c.MaxFiles - c.MaxFiles/4},
		rotation: rotation{when: c.Rotate, rides: event.Changes{}, packing: packing, stamps: c.Rotate.any()},
	}
	s.renames = s.stamps || packing != ""
	s.closes = s.renames || c.Keep.any() || how.format == formatJSON
	if s.closes && where.templated && s.when.Idle == 0 {
		s.when.Idle = usualIdle
	}
	s.keeper = newKeeper(s, c.Keep)
	for _, o := range options {
		o(s)
	}
	return s, nil
}

// Exclusive returns what no second sink may claim: the path as an absolute, cleaned template.
func (s *Sink) Exclusive() []string { return []string{s.place.claim} }

// keyError keeps nil a nil interface.
func keyError(key string, err error) error {
	if err == nil {
		return nil
	}
	return &event.KeyError{Key: key, Err: err}
}

// checkClosing refuses what has a meaning for closed files only where no file is ever closed.
func (c Config) checkClosing(templated bool, how form, packing string) error {
	if c.MaxFiles < 1 {
		return keyError("max_files", errors.New("must be at least 1"))
	}
	if c.Rotate.Size < 0 || c.Rotate.Age < 0 || c.Rotate.Idle < 0 {
		return keyError("rotate", errors.New("must not be negative"))
	}
	if c.Keep.Files < 0 || c.Keep.Age < 0 || c.Keep.Size < 0 {
		return keyError("keep", errors.New("must not be negative"))
	}
	if templated || c.Rotate.any() {
		return nil
	}
	const remedy = "set rotate (size, age or idle), or put an expression such as {{ received.Format('2006-01-02') }} into the path"
	switch {
	case how.format == formatJSON:
		const why = "an array of JSON has its end only once its file is closed, and nothing closes this one: "
		return keyError("path", errors.New(why+remedy))
	case packing != "" && c.Compress != "":
		return keyError("compress", errors.New("files are packed once they are closed, and nothing closes this one: "+remedy))
	case packing != "":
		return keyError("path", errors.New("files are packed once they are closed, and nothing closes this one: "+remedy))
	case c.Keep.any():
		return keyError("keep", errors.New("it is about closed files, and nothing closes this one: "+remedy))
	}
	return nil
}

// suffixOf is the suffix of the path's literal end, in lower case, without what packing adds.
func suffixOf(source, packing string) string {
	tail := source[strings.LastIndex(source, "}}")+1:]
	if ext := path.Ext(tail); packing != "" && strings.EqualFold(ext, packing) {
		tail = strings.TrimSuffix(tail, ext)
	}
	return strings.ToLower(path.Ext(tail))
}

// The suffixes of what closed files are packed with.
const (
	suffixGzip = ".gz"
	suffixZstd = ".zst"
)

// packingOf is the suffix of what closed files are packed with, empty if they are not.
func packingOf(c Config) (string, error) {
	suffix := suffixOf(c.Path.String(), "")
	byPath := ""
	switch suffix {
	case suffixGzip, suffixZstd:
		byPath = suffix
	case ".bz2", ".xz", ".lz4", ".lzma", ".br", ".z", ".zip", ".7z", ".tgz", ".sz":
		return "", fmt.Errorf("the path ends in %s, and files are packed as gzip (.gz) or zstd (.zst) only", suffix)
	}
	want, ok := map[string]string{"": byPath, "gzip": suffixGzip, "zstd": suffixZstd, "none": ""}[c.Compress]
	switch {
	case !ok:
		return "", fmt.Errorf("%q is none of gzip, zstd, none", c.Compress)
	case byPath != "" && want != byPath:
		return "", fmt.Errorf("%s contradicts the path, which ends in %s", c.Compress, byPath)
	}
	return want, nil
}

// newPlace divides the path into the root, which no event changes, and what is below it.
func newPlace(t rules.Template, packing string) (place, error) {
	source := t.String()
	if err := checkPath(source); err != nil {
		return place{}, err
	}
	prefix, literal := t.Literal()
	if !literal {
		prefix = t.Prefix()
	}
	if hasControl(prefix) {
		return place{}, errors.New("there is a control character in it")
	}
	lead := strings.LastIndex(prefix, "/") + 1
	root, err := filepath.Abs(prefix[:lead])
	if err != nil {
		return place{}, fmt.Errorf("the working directory cannot be told: %w", err)
	}
	p := place{template: t, root: root, lead: lead, templated: !literal}
	if packing != "" && strings.EqualFold(path.Ext(source), packing) {
		p.trail = len(packing)
	}
	if literal {
		if p.fixed, err = p.below(prefix); err != nil {
			return place{}, err
		}
	}
	p.claim = claimOf(root, source[lead:len(source)-p.trail])
	return p, nil
}

var scheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)

func checkPath(source string) error {
	switch {
	case source == "":
		return errors.New("required")
	case strings.HasPrefix(source, "s3://"):
		return errors.New("it writes files: an object store is a sink of type s3, such as s3: { bucket: my-bucket, key: orders/ }")
	case scheme.MatchString(source):
		return errors.New("this version writes local files only: give a path, not a URL")
	case strings.TrimSpace(source) != source:
		return errors.New("there is white space around it")
	case strings.HasSuffix(source, "/"):
		return errors.New("it names a folder: a file name is missing at its end")
	}
	return nil
}

var braces = regexp.MustCompile(`(\{\{)\s*|\s*(\}\})`)

// claimOf makes templates equal that differ in the space inside their braces only.
func claimOf(root, rest string) string {
	if strings.Contains(rest, "{{") {
		return strings.TrimSuffix(root, "/") + "/" + braces.ReplaceAllString(rest, "$1$2")
	}
	return filepath.Join(root, rest)
}
