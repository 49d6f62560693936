package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-run/millrace/pipelines"
)

// maxShown bounds what is shown of a value, in characters.
const maxShown = 200

// differ collects the differences between what is demanded and what came.
type differ struct{ faults []Fault }

func (d *differ) fault(at pipelines.Place, path, want, got string) {
	d.faults = append(d.faults, Fault{Place: at, Path: path, Want: want, Got: got})
}

// decode reads JSON with numbers as they are written. Of repeated members the first counts, as everywhere in Millrace.
func decode(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return decodeValue(d)
}

func decodeValue(d *json.Decoder) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		object := map[string]any{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := decodeValue(d)
			if err != nil {
				return nil, err
			}
			if key, _ := name.(string); !has(object, key) {
				object[key] = v
			}
		}
		_, err = d.Token()
		return object, err
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := decodeValue(d)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = d.Token()
		return list, err
	}
	return t, nil
}

func has(object map[string]any, key string) bool {
	_, ok := object[key]
	return ok
}

// value compares a value of JSON: of a map the members that are written, of a list all items. null is what is null or not there.
func (d *differ) value(path string, want pipelines.Value, got any, there bool) {
	if got == nil {
		if want.Kind != pipelines.NullValue {
			d.fault(want.Place, path, show(want), map[bool]string{true: "null", false: "nothing"}[there])
		}
		return
	}
	same := false
	switch want.Kind {
	case pipelines.MapValue:
		if object, ok := got.(map[string]any); ok {
			for _, m := range want.Members {
				v, there := object[m.Name]
				d.value(path+member(m.Name), m.Value, v, there)
			}
			return
		}
	case pipelines.ListValue:
		if list, ok := got.([]any); ok && len(list) == len(want.Items) {
			for i, it := range want.Items {
				d.value(fmt.Sprintf("%s[%d]", path, i), it, list[i], true)
			}
			return
		}
	case pipelines.TextValue:
		text, ok := got.(string)
		same = ok && text == want.Text
	case pipelines.BoolValue:
		b, ok := got.(bool)
		same = ok && strconv.FormatBool(b) == want.Text
	case pipelines.NumberValue:
		n, ok := got.(json.Number)
		same = ok && sameNumber(n.String(), want.Text)
	}
	if !same {
		d.fault(want.Place, path, show(want), showAny(got))
	}
}

// member is how a path goes on to a member of a map.
func member(name string) string {
	if name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return "." + name
	}
	return "[" + quoted(name) + "]"
}

// sameNumber says whether two numbers of JSON have the same value, however they are written and whatever their size.
func sameNumber(a, b string) bool {
	return a == b || decimal(a) == decimal(b)
}

// decimal is a number in a form that only it has: the sign, the digits without zeros at their ends, and the exponent of the last.
func decimal(text string) [3]string {
	sign, rest := "", text
	if strings.HasPrefix(rest, "-") {
		sign, rest = "-", rest[1:]
	}
	exponent := 0
	if i := strings.IndexAny(rest, "eE"); i >= 0 {
		n, err := strconv.Atoi(rest[i+1:])
		if err != nil || n > 1<<30 || n < -1<<30 {
			return [3]string{text} // only its own text is equal to it
		}
		exponent, rest = n, rest[:i]
	}
	whole, fraction, _ := strings.Cut(rest, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	trimmed := strings.TrimRight(digits, "0")
	if trimmed == "" {
		return [3]string{"", "0", ""}
	}
	exponent += len(digits) - len(trimmed) - len(fraction)
	return [3]string{sign, trimmed, strconv.Itoa(exponent)}
}

func show(v pipelines.Value) string { return clip(string(v.AppendJSON(nil))) }

func showAny(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return clip(strings.TrimSuffix(b.String(), "\n"))
}

func quoted(s string) string { return showAny(s) }

func clip(s string) string {
	if r := []rune(s); len(r) > maxShown {
		return string(slices.Concat(r[:maxShown-1], []rune("…")))
	}
	return s
}

// duration is a time span for people: exact below an hour, else to the second.
func duration(d time.Duration) string {
	if d >= time.Hour {
		d = d.Round(time.Second)
	}
	return d.String()
}
