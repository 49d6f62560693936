package databases

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// nameMost is how many bytes PostgreSQL keeps of a name: a longer one would be cut, and then mean another.
const nameMost = 63

// ColumnsMost is how many columns a table of PostgreSQL can have; SQLite takes 2,000.
const ColumnsMost = 1600

// CheckName says why a text is no name of a column or table. Everything that a database takes as a quoted name is one.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("a name is empty")
	case len(name) > nameMost:
		return fmt.Errorf("a name has at most %d bytes", nameMost)
	case !utf8.ValidString(name) || strings.ContainsRune(name, 0):
		return errors.New("a name must be UTF-8 without a NUL character")
	}
	return nil
}

// Quote writes a name so that it is nothing but a name, whatever it holds: select"; drop table x is a column of that name.
// Upper and lower case are kept.
func Quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// QuoteAll quotes names and puts commas between them.
func QuoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = Quote(n)
	}
	return strings.Join(quoted, ", ")
}

// Table is a table's name, quoted.
type Table string

// ParseTable reads table or schema.table.
func ParseTable(text string) (Table, error) {
	parts := strings.Split(text, ".")
	if text == "" {
		return "", errors.New("required")
	}
	if len(parts) > 2 {
		return "", fmt.Errorf("%q is neither a table nor schema.table", text)
	}
	for i, part := range parts {
		if err := CheckName(part); err != nil {
			return "", err
		}
		parts[i] = Quote(part)
	}
	return Table(strings.Join(parts, ".")), nil
}
