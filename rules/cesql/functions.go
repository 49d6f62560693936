package cesql

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/millrace-run/millrace/event"
)

// function is a function of the language with the types of its arguments. With more it takes further ones, of the type of the
// last: a function that takes none needs no type for them, since texts are what those take.
type function struct {
	takes []valueType
	more  bool
	do    func(a []value) (value, error)
}

func (f function) arity() string {
	switch {
	case f.more:
		return fmt.Sprintf("at least %d arguments", len(f.takes))
	case len(f.takes) == 1:
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", len(f.takes))
}

var (
	oneText    = []valueType{stringType}
	textAndInt = []valueType{stringType, integerType}
	oneAny     = []valueType{anyType}
)

// functions are those of the standard, by name and then by how many arguments they take.
var functions = map[string][]function{
	"LENGTH":    {{oneText, false, func(a []value) (value, error) { return intValue(int32(utf8.RuneCountInString(a[0].text))), nil }}},
	"CONCAT":    {{nil, true, func(a []value) (value, error) { return textValue(joined(a, "")), nil }}},
	"CONCAT_WS": {{oneText, true, func(a []value) (value, error) { return textValue(joined(a[1:], a[0].text)), nil }}},
	"LOWER":     {{oneText, false, onText(strings.ToLower)}},
	"UPPER":     {{oneText, false, onText(strings.ToUpper)}},
	"TRIM":      {{oneText, false, onText(strings.TrimSpace)}},
	"LEFT":      {{textAndInt, false, left}},
	"RIGHT":     {{textAndInt, false, right}},
	"SUBSTRING": {{textAndInt, false, substring}, {append(textAndInt[:2:2], integerType), false, substring}},
	"ABS":       {{[]valueType{integerType}, false, abs}},
	"INT":       {{oneAny, false, func(a []value) (value, error) { return a[0].cast(integerType) }}},
	"BOOL":      {{oneAny, false, func(a []value) (value, error) { return a[0].cast(booleanType) }}},
	"STRING":    {{oneAny, false, func(a []value) (value, error) { return a[0].cast(stringType) }}},
	"IS_INT":    {{oneAny, false, isA(integerType)}},
	"IS_BOOL":   {{oneAny, false, isA(booleanType)}},
}

// called evaluates the arguments to the types that a function takes, and then the function.
func called(f function, args []eval) eval {
	return func(ev *event.Event) (value, error) {
		var room [4]value
		a := room[:0]
		for i, x := range args {
			t := stringType
			if i < len(f.takes) {
				t = f.takes[i]
			}
			v, err := x.as(ev, t)
			if err != nil {
				return v, err
			}
			a = append(a, v)
		}
		return f.do(a)
	}
}

func joined(a []value, by string) string {
	texts := make([]string, len(a))
	for i, v := range a {
		texts[i] = v.text
	}
	return strings.Join(texts, by)
}

func onText(change func(string) string) func([]value) (value, error) {
	return func(a []value) (value, error) { return textValue(change(a[0].text)), nil }
}

func isA(t valueType) func([]value) (value, error) {
	return func(a []value) (value, error) {
		_, err := a[0].cast(t)
		return boolValue(err == nil), nil
	}
}

func abs(a []value) (value, error) {
	switch n := a[0].n; {
	case n == math.MinInt32:
		return intValue(math.MaxInt32), beyond("ABS of " + a[0].String())
	case n < 0:
		return intValue(-n), nil
	}
	return a[0], nil
}

// part is the characters [from, to) of a text, as far as there are any. There are from or more.
func part(s string, from, to int) value {
	r := []rune(s)
	return textValue(string(r[from:max(from, min(to, len(r)))]))
}

func left(a []value) (value, error) {
	if a[1].n < 0 {
		return a[0], &FunctionError{"LEFT takes no negative length"}
	}
	return part(a[0].text, 0, int(a[1].n)), nil
}

func right(a []value) (value, error) {
	if a[1].n < 0 {
		return a[0], &FunctionError{"RIGHT takes no negative length"}
	}
	n := utf8.RuneCountInString(a[0].text)
	return part(a[0].text, max(0, n-int(a[1].n)), n), nil
}

// substring counts from 1, and from the end where the position is negative; 0 is no position, and nothing is there.
func substring(a []value) (value, error) {
	n, from := utf8.RuneCountInString(a[0].text), int(a[1].n)
	length := n
	if len(a) > 2 {
		length = int(a[2].n)
	}
	switch {
	case length < 0:
		return textValue(""), &FunctionError{"SUBSTRING takes no negative length"}
	case from == 0:
		return textValue(""), nil
	case from > n || from < -n:
		return textValue(""), &FunctionError{fmt.Sprintf("SUBSTRING from %d of a text of %d", from, n)}
	case from < 0:
		from += n
	default:
		from--
	}
	return part(a[0].text, from, from+length), nil
}
