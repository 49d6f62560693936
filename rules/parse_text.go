package rules

import (
	"encoding/csv"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-logfmt/logfmt"
)

// logfmtParser reads key=value pairs. Numbers and booleans are such unless types says otherwise; a key alone is true, and one with
// nothing behind its = is an empty text.
func logfmtParser(types map[string]string) lineParser {
	return func(line string, _ *Subject, into *record) error {
		d := logfmt.NewDecoderSize(strings.NewReader(line), len(line)+1)
		for rest := line; d.ScanRecord(); {
			for d.ScanKeyval() {
				var assigned bool
				assigned, rest = skipPair(rest)
				name := string(d.Key())
				v, err := logfmtValue(name, d.Value(), assigned, types)
				if err != nil {
					return err
				}
				into.add(name, v)
			}
		}
		if err := d.Err(); err != nil {
			return fault("not logfmt: %v", err)
		}
		if len(into.names) == 0 {
			return fault("not logfmt: no key")
		}
		return nil
	}
}

// skipPair says whether the pair that a text begins with has an =, which the decoder does not tell, and returns what follows the pair.
func skipPair(text string) (assigned bool, rest string) {
	at := strings.IndexFunc(text, func(c rune) bool { return c > ' ' })
	text = text[max(at, 0):]
	end := strings.IndexFunc(text, func(c rune) bool { return c == '=' || c <= ' ' })
	if end < 0 || text[end] != '=' {
		return false, text[max(end, 0):]
	}
	text = text[end+1:]
	if !strings.HasPrefix(text, `"`) {
		return true, text[max(strings.IndexFunc(text, func(c rune) bool { return c <= ' ' }), 0):]
	}
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return true, text[i+1:]
		}
	}
	return true, ""
}

func logfmtValue(name string, value []byte, assigned bool, types map[string]string) (found, error) {
	kind, given := types[name]
	switch {
	case value == nil && !assigned:
		return found{foundBool, "true"}, nil
	case !given && len(value) == 0:
		return found{kind: foundText}, nil
	case !given:
		kind = "auto"
	}
	return typed(name, string(value), kind)
}

// csvParser reads one line of comma-separated values (RFC 4180) with named columns.
func csvParser(o ParseOptions) (lineParser, error) {
	if len(o.Columns) == 0 {
		return nil, &ParseFault{"columns", errors.New("csv needs the names of the columns, such as [id, total]")}
	}
	for i, name := range o.Columns {
		if name == "" || slices.Contains(o.Columns[:i], name) {
			return nil, &ParseFault{"columns", fmt.Errorf("%q is empty or stands there twice", name)}
		}
	}
	comma := ','
	if o.Delimiter != "" {
		var size int
		if comma, size = utf8.DecodeRuneInString(o.Delimiter); size != len(o.Delimiter) || strings.ContainsRune("\"\r\n\uFFFD", comma) {
			return nil, &ParseFault{"delimiter", errors.New("expected one character, and no quote")}
		}
	}
	if err := unknownTypes(o.Types, o.Columns); err != nil {
		return nil, err
	}
	return func(line string, _ *Subject, into *record) error { return parseCSV(line, comma, o, into) }, nil
}

func parseCSV(line string, comma rune, o ParseOptions, into *record) error {
	r := csv.NewReader(strings.NewReader(line))
	r.Comma, r.FieldsPerRecord = comma, len(o.Columns)
	values, err := r.Read()
	if err != nil {
		if errors.Is(err, csv.ErrFieldCount) {
			return fault("the line has %d fields, and columns names %d", len(values), len(o.Columns))
		}
		return fault("not a line of CSV: %v", err)
	}
	if _, err := r.Read(); err == nil {
		return fault("the text has more than one line of CSV")
	}
	for i, name := range o.Columns {
		v, err := typed(name, values[i], o.Types[name])
		if err != nil {
			return err
		}
		into.add(name, v)
	}
	return nil
}

// unknownTypes holds that every name which has a type exists.
func unknownTypes(types map[string]string, names []string) error {
	for name := range types {
		if !slices.Contains(names, name) {
			return &ParseFault{"types", fmt.Errorf("there is no %s, only %s", name, strings.Join(names, ", "))}
		}
	}
	return nil
}

// regexParser reads the named groups of the first match. A group that took no part in the match is null.
func regexParser(o ParseOptions) (lineParser, error) {
	if o.Pattern == "" {
		return nil, &ParseFault{"pattern", errors.New("regex needs a pattern with named groups, such as (?P<level>[A-Z]+)")}
	}
	re, err := regexp.Compile(o.Pattern)
	if err != nil {
		return nil, &ParseFault{"pattern", err}
	}
	var names []string
	for i, name := range re.SubexpNames() {
		if slices.Contains(re.SubexpNames()[:i], name) && name != "" {
			return nil, &ParseFault{"pattern", fmt.Errorf("two groups have the name %s", name)}
		}
		if name != "" {
			names = append(names, name)
		}
	}
	if names == nil {
		return nil, &ParseFault{"pattern", errors.New("it has no named group, such as (?P<level>[A-Z]+)")}
	}
	if err := unknownTypes(o.Types, names); err != nil {
		return nil, err
	}
	groups := re.SubexpNames()
	return func(line string, _ *Subject, into *record) error {
		at := re.FindStringSubmatchIndex(line)
		if at == nil {
			return fault("the pattern does not match")
		}
		for i, name := range groups {
			if name == "" {
				continue
			}
			v := found{}
			if at[2*i] >= 0 {
				var err error
				if v, err = typed(name, line[at[2*i]:at[2*i+1]], o.Types[name]); err != nil {
					return err
				}
			}
			into.add(name, v)
		}
		return nil
	}, nil
}
