package tail

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/millrace-run/millrace/event"
)

// Config are the settings of a follower. Begin with Defaults.
type Config struct {
	Path      string     `yaml:"path,required" doc:"The files, such as /var/log/nginx/*.log; ** is any folders. Compressed ones are left out."`
	Start     string     `yaml:"start,oneof=beginning|end" doc:"Where files are begun that are there at the very first run; later ones at their beginning."`
	MaxLine   MaxLine    `yaml:"max_line" doc:"The bound of a line, or of a record of several lines."`
	Multiline *Multiline `yaml:"multiline" doc:"Makes one event of several lines."`
	Encoding  string     `yaml:"encoding,oneof=utf-8|utf-16|utf-16le|utf-16be" doc:"utf-8 keeps every byte; utf-16 goes by the byte order mark and becomes UTF-8."`
	Rotated   string     `yaml:"rotated" doc:"The names that rotated files get: not followed, but searched for what was left unread."`
}

// MaxLine bounds what one event may hold.
type MaxLine struct {
	Size int64  `yaml:"size,size,min=1" doc:"The most bytes of a line, without its end."`
	Over string `yaml:"over,oneof=skip|truncate" doc:"What becomes of a longer line: it is left out, or cut. Both are counted."`
}

// Multiline says which lines belong together.
type Multiline struct {
	Start   string        `yaml:"start,required" doc:"A line that matches this regular expression begins an event; others belong to the one before."`
	Timeout time.Duration `yaml:"timeout" doc:"How long the last lines of a file wait for more."`
}

// The values of Start, Over and Encoding.
const (
	startBeginning = "beginning"
	startEnd       = "end"
	overSkip       = "skip"
	overTruncate   = "truncate"
	utf8Encoding   = "utf-8"
	utf16Encoding  = "utf-16"
	utf16LE        = "utf-16le"
	utf16BE        = "utf-16be"

	multilineTimeout = 4 * time.Second
	maxLineMost      = 64 << 20
)

// Defaults are the settings where the file says nothing.
func Defaults() Config {
	return Config{Start: startBeginning, MaxLine: MaxLine{Size: 1 << 20, Over: overSkip}, Encoding: utf8Encoding}
}

// Option is a setting that the program makes, not the user.
type Option func(*Source)

// Logger is where the source reports what it loses, skips and cannot read. Without it nothing is reported.
func Logger(l *slog.Logger) Option { return func(s *Source) { s.log = l } }

// Clock is the clock that the source waits by. Without it that is the machine's.
func Clock(c event.Clock) Option { return func(s *Source) { s.clock = c } }

// settings are a Config as it is used.
type settings struct {
	glob, rotated string // absolute; rotated may be empty
	fromEnd       bool
	max           int
	truncate      bool
	start         *regexp.Regexp // nil: each line is an event
	timeout       time.Duration
	encoding      string
}

// check returns the settings that a Config means. Its error joins one *event.KeyError for each fault.
func (c Config) check() (settings, error) {
	s := settings{
		fromEnd: c.Start == startEnd, max: int(c.MaxLine.Size), truncate: c.MaxLine.Over == overTruncate, encoding: c.Encoding,
	}
	var faults []error
	fault := func(key string, err error) {
		if err != nil {
			faults = append(faults, &event.KeyError{Key: key, Err: err})
		}
	}
	var err error
	s.glob, err = globOf(c.Path)
	fault("path", err)
	if c.Rotated != "" {
		s.rotated, err = globOf(c.Rotated)
		fault("rotated", err)
	}
	fault("start", oneOf(c.Start, startBeginning, startEnd))
	fault("max_line.over", oneOf(c.MaxLine.Over, overSkip, overTruncate))
	fault("encoding", oneOf(c.Encoding, utf8Encoding, utf16Encoding, utf16LE, utf16BE))
	if c.MaxLine.Size < 1 || c.MaxLine.Size > maxLineMost {
		fault("max_line.size", errors.New("must be from 1 byte to 64MiB"))
	}
	if c.Multiline != nil {
		key, err := s.multiline(*c.Multiline)
		fault(key, err)
	}
	return s, errors.Join(faults...)
}

// multiline names the key that is wrong.
func (s *settings) multiline(m Multiline) (key string, err error) {
	if m.Start == "" {
		return "multiline.start", errors.New("required")
	}
	if s.start, err = regexp.Compile(m.Start); err != nil {
		return "multiline.start", err
	}
	if s.timeout = m.Timeout; s.timeout == 0 {
		s.timeout = multilineTimeout
	}
	if s.timeout < time.Millisecond || s.timeout > time.Hour {
		return "multiline.timeout", errors.New("must be from 1ms to 1h")
	}
	return "", nil
}

// Validate returns an error that joins one *event.KeyError for each setting that cannot be used.
func (c Config) Validate() error {
	_, err := c.check()
	return err
}

func oneOf(value string, valid ...string) error {
	for _, v := range valid {
		if v == value {
			return nil
		}
	}
	return fmt.Errorf("%q is none of %s", value, strings.Join(valid, ", "))
}

// globOf makes a pattern absolute: relative ones start at the working directory of this moment.
func globOf(pattern string) (string, error) {
	switch {
	case pattern == "":
		return "", errors.New("required")
	case strings.ContainsRune(pattern, 0):
		return "", errors.New("there is a NUL character in it")
	case strings.HasSuffix(pattern, "/"):
		return "", errors.New("it names a folder: a file name or a pattern such as *.log is missing at its end")
	case !doublestar.ValidatePathPattern(pattern):
		return "", errors.New("it is not a pattern: a bracket or brace is open, or a \\ stands at its end")
	}
	if filepath.IsAbs(pattern) {
		return filepath.Clean(pattern), nil
	}
	working, err := filepath.Abs(".")
	if err != nil {
		return "", fmt.Errorf("the working directory cannot be told: %w", err)
	}
	return filepath.Join(escape(working), pattern), nil
}

// escape keeps the characters of a folder's name from being taken for a pattern.
func escape(folder string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `{`, `\{`).Replace(folder)
}
