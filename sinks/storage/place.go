package storage

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
	"github.com/millrace-run/millrace/rules"
)

const (
	maxName = 220  // bytes of a file's or folder's name; file systems take 255, and a number or a time and suffixes may be added
	maxPath = 3072 // bytes of a path below the root
)

// place says in which file an event belongs.
type place struct {
	template  rules.Template
	templated bool
	root      string // absolute: the folder of the literal part before the first expression
	lead      int    // bytes of a rendered path that the root stands for
	trail     int    // bytes of the suffix that an open file does not have yet
	fixed     string // the path below the root, if the template is literal
	claim     string
}

// of returns the path of the event's file, relative to the root. Its error is the event's fault.
func (p *place) of(ev *event.Event) (string, error) {
	text, err := p.render(ev)
	if err != nil {
		return "", err
	}
	return p.name(text)
}

// render fills in the template. Equal texts have equal names.
func (p *place) render(ev *event.Event) (string, error) {
	if !p.templated {
		return p.fixed, nil
	}
	text, err := p.template.RenderEscaped(&rules.Input{Event: ev}, codec.PathElement)
	if err != nil {
		return "", fmt.Errorf("path: %w", err)
	}
	return text, nil
}

// name is the path, relative to the root, that a rendered template names.
func (p *place) name(text string) (string, error) {
	if !p.templated {
		return p.fixed, nil
	}
	name, err := p.below(text)
	if err != nil {
		return "", fmt.Errorf("path: %w", err)
	}
	return name, nil
}

func (p *place) below(text string) (string, error) {
	if hasControl(text) {
		return "", errors.New("there is a control character in it")
	}
	name := path.Clean(text[p.lead : len(text)-p.trail])
	if name == "." || !filepath.IsLocal(name) {
		return "", errors.New("it does not name a file below its literal folder")
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxName {
			return "", fmt.Errorf("a name in it is longer than %d bytes", maxName)
		}
	}
	if len(name) > maxPath {
		return "", fmt.Errorf("it is longer than %d bytes", maxPath)
	}
	return name, nil
}

func hasControl(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }

// stampForm is how the time at which a file was closed stands in its name: it sorts, and no file system minds it.
const stampForm = "20060102T150405.000Z"

// stamped returns the name of a path's file that was closed at a time: a.20260102T150405.000Z.ndjson.
func stamped(name string, at time.Time) string { return inserted(name, at.UTC().Format(stampForm)) }

var stamp = regexp.MustCompile(`\.[0-9]{8}T[0-9]{6}\.[0-9]{3}Z(\.[^.]*)?$`)

// isStamped says whether a name is one that stamped makes.
func isStamped(name string) bool { return stamp.MatchString(name) }

// partial is the name of the file that is packed until it is whole. The dot keeps it out of most patterns, such as *.gz.
func partial(name string) string {
	folder, base := path.Split(name)
	return folder + "." + base + ".partial"
}

// numbered returns the name that takes a path's lines when n names before it are taken: a.ndjson, a.1.ndjson, a.2.ndjson.
func numbered(name string, n int) string {
	if n == 0 {
		return name
	}
	return inserted(name, strconv.Itoa(n))
}

// inserted puts a part before the suffix of a name.
func inserted(name, part string) string {
	folder, base := path.Split(name)
	suffix := path.Ext(base)
	stem := strings.TrimSuffix(base, suffix)
	if stem == "" {
		stem, suffix = base, ""
	}
	return folder + stem + "." + part + suffix
}
