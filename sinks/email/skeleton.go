package email

import (
	"errors"
	"strconv"
	"strings"

	"github.com/millrace-run/millrace/rules"
)

// hole stands for the i-th expression, counted from 0. The literal text of a template cannot hold two opening braces, so that a
// hole is never taken for text.
func hole(i int) string { return "{{" + strconv.Itoa(i) + "}}" }

// skeleton returns the literal text of a template with a hole for each expression, and how many there are. It is known when the
// file is loaded, which lets a fault in the text be found before the first event.
//
// Where an expression ends is for package rules to say: the first closing braces up to which the text compiles are its end, for
// a shorter text leaves its braces or quotes open. The expressions are not run, so what env yields does not matter.
func skeleton(t rules.Template) (text string, holes int, err error) {
	anyEnv := rules.Options{Scope: rules.DigestScope, Env: func(string) (string, bool) { return "", true }}
	var b strings.Builder
	rest := t.String()
	for {
		before, from, found := strings.Cut(rest, "{{")
		b.WriteString(before)
		if !found {
			return b.String(), holes, nil
		}
		end := 0
		for {
			at := strings.Index(from[end:], "}}")
			if at < 0 {
				return "", 0, errors.New("{{ has no }}")
			}
			// Of }}} either pair may be the end: the braces of an object stand before it.
			end += at
			if _, err := rules.CompileTemplate("{{"+from[:end]+"}}", anyEnv); err == nil {
				break
			}
			end++
		}
		b.WriteString(hole(holes))
		holes++
		rest = from[end+2:]
	}
}
