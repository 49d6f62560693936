package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// Config is what a user may set. The zero value of Content is not valid: begin with Defaults.
type Config struct {
	Path    rules.Template `yaml:"path,required" doc:"The file, one event a line; may hold {{ expressions }}."`
	Content string         `yaml:"content" doc:"event: a structured CloudEvent a line; data: the data as JSON; raw: the data as it is."`
}

// The values of Content.
const (
	contentEvent = "event"
	contentData  = "data"
	contentRaw   = "raw"
)

// Defaults returns the settings that apply where a user sets none.
func Defaults() Config { return Config{Content: contentEvent} }

// Option is a setting that the program makes, not the user.
type Option func(*Sink)

// Logger is where the sink reports files that it leaves alone. Without it nothing is reported.
func Logger(l *slog.Logger) Option { return func(s *Sink) { s.log = l } }

// New checks the settings and returns the sink. It opens nothing; relative paths start at the working directory of this moment.
// Its error joins one *event.KeyError for each fault.
func New(c Config, options ...Option) (*Sink, error) {
	where, pathErr := newPlace(c.Path)
	if err := errors.Join(keyError("path", pathErr), keyError("content", checkContent(c.Content))); err != nil {
		return nil, err
	}
	s := &Sink{
		place: where, content: c.Content, files: map[string]*entry{},
		log: slog.New(slog.DiscardHandler), mount: mountFolder, limits: usual,
	}
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

func checkContent(content string) error {
	if slices.Contains([]string{contentEvent, contentData, contentRaw}, content) {
		return nil
	}
	return fmt.Errorf("%q is none of event, data, raw", content)
}

// newPlace divides the path into the root, which no event changes, and what is below it.
func newPlace(t rules.Template) (place, error) {
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
	if literal {
		if p.fixed, err = p.below(prefix); err != nil {
			return place{}, err
		}
	}
	p.claim = claimOf(root, source[lead:])
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
	// What is behind the last expression is literal.
	tail := source[strings.LastIndex(source, "}}")+1:]
	switch suffix := strings.ToLower(path.Ext(tail)); suffix {
	case ".csv", ".json", ".gz", ".zst":
		return fmt.Errorf("this version writes NDJSON, one event a line, and does not write %s files: end the path in .ndjson", suffix)
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
