package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/millrace-run/millrace/app"
)

func (d *deadCommand) show(ctx context.Context, args []string) error {
	if err := d.ids(args); err != nil {
		return &exit{exitUsage, err}
	}
	if len(d.query.IDs) == 0 {
		return &exit{exitUsage, errors.New("say which: ids, as millrace dead-letters list shows them")}
	}
	d.query.Event = true
	letters, err := d.letters(ctx)
	if err != nil {
		return err
	}
	if d.output == "json" {
		err = rows(d.command, letters...)
	} else {
		for i := range letters {
			if i > 0 {
				say(d.out, "\n")
			}
			showLetter(d.out, &letters[i])
		}
	}
	return errors.Join(err, d.missing(len(letters)))
}

// showLetter writes one dead letter for a person.
func showLetter(w io.Writer, l *app.DeadLetter) {
	say(w, "dead letter %d\n", l.ID)
	for _, f := range [][2]string{
		{"event", l.EventID}, {"pipeline", l.Pipeline}, {"sink", l.Sink}, {"stage", l.Stage}, {"reason", l.Reason},
		{"status", statusText(l.Status)}, {"attempts", strconv.Itoa(l.Attempts)}, {"first", moment(l.FirstAt)}, {"last", moment(l.LastAt)},
		{"offset", strconv.FormatInt(l.Offset, 10)},
		{"received", moment(l.ReceivedAt)}, {"error", l.LastError}, {"from", l.From}, {"durable", onlyNo(l.Durable)},
	} {
		if f[1] != "" && f[1] != "-" {
			say(w, "  %-9s %s\n", f[0], plain(f[1]))
		}
	}
	say(w, "\nevent:\n%s\n", indented(prettyEvent(l.Event)))
	if l.Edited != nil {
		say(w, "\nedited:\n%s\n", indented(prettyEvent(l.Edited)))
	}
	if l.Answer != nil && *l.Answer != "" {
		say(w, "\nanswer:\n%s\n", indented(visible(strings.TrimRight(*l.Answer, "\r\n"))))
	}
	if len(l.History) > 0 {
		say(w, "\nattempts:\n")
		_ = table(w, attemptLines(l.History))
	}
}

func attemptLines(history []app.Attempt) [][]string {
	lines := [][]string{{"  AT", "STATUS", "ERROR", "ANSWER"}}
	for _, a := range history {
		lines = append(lines, []string{"  " + moment(&a.At), statusText(a.Status), a.Error, strings.TrimRight(a.Answer, "\r\n")})
	}
	return lines
}

// onlyNo says what is not durable; what is, is as usual.
func onlyNo(durable bool) string {
	if durable {
		return ""
	}
	return "no: in memory only, gone when the process ends"
}

// prettyEvent is a structured event over many lines. It stays JSON: what is escaped is inside of its strings.
func prettyEvent(raw json.RawMessage) string {
	var b bytes.Buffer
	if len(raw) == 0 || string(raw) == "null" {
		return "(it cannot be read any more)"
	}
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return visible(string(raw))
	}
	return visible(b.String())
}

func indented(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }

// visible escapes, as JSON does, what would move the cursor of a terminal or hide from the eye: control characters, marks that
// turn the direction of text, bytes that are no text. Lines stay lines.
func visible(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n' || unicode.IsPrint(r):
			b.WriteString(s[i : i+n])
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		default:
			for _, u := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, `\u%04x`, u)
			}
		}
		i += n
	}
	return b.String()
}
