package rules

import (
	"fmt"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"

	"github.com/millrace-run/millrace/event"
)

// target is what set writes and remove takes away: an attribute, an extension, or a path in the data.
type target struct {
	text      string
	attribute *attribute
	extension string
	path      []step // empty where it is no path; whole is the data itself
	whole     bool
}

// parseTarget reads a path as expressions write it: data.a.b, data.items[0].sku, data["a.b"], subject, ext.region.
func parseTarget(path string) (target, *Error) {
	t := target{text: path}
	source := text{src: path, whole: path}
	refuse := func(n ast.Node, problem, hint string) (target, *Error) {
		var at file.Location
		if n != nil {
			at = n.Location()
		}
		return target{}, source.fault(at, fmt.Sprintf("%s: %s", path, problem), hint)
	}
	if len(path) > maxSource || strings.TrimSpace(path) == "" {
		return refuse(nil, "not a path", pathHint)
	}
	tree, err := parser.ParseWithConfig(path, userConfig(EventScope))
	if err != nil {
		e := source.place(err)
		e.Problem, e.Hint = path+": "+e.Problem, pathHint
		return target{}, e
	}
	base, steps, ok := stepsOf(tree.Node)
	if !ok {
		return refuse(tree.Node, "not a path", pathHint)
	}
	attr, isAttribute := attributeOf(base)
	switch {
	case base == "data":
		t.path, t.whole = steps, len(steps) == 0
	case base == "ext" && len(steps) == 1 && !steps[0].item:
		t.extension = steps[0].name
		if !validExtensionName(t.extension) {
			return refuse(nil, "no extension attribute can have this name",
				"the names of extensions have only lower-case letters and digits")
		}
	case isAttribute && attr != attrReceived && len(steps) == 0:
		t.attribute = &attr
	case base == "received":
		return refuse(nil, "when the event was accepted cannot be changed", "")
	default:
		return refuse(nil, "not a part of an event", hintFrom(base, targets, "parts"))
	}
	return t, nil
}

var targets = []string{"data", "datacontenttype", "dataschema", "ext", "id", "source", "subject", "time", "type"}

const pathHint = `a path is written like data.total, data.items[0].sku, data["a name"], subject or ext.region`

// stepsOf takes a path apart.
func stepsOf(n ast.Node) (base string, path []step, ok bool) {
	switch t := n.(type) {
	case *ast.IdentifierNode:
		return t.Value, nil, true
	case *ast.MemberNode:
		base, path, ok = stepsOf(t.Node)
		if !ok || t.Optional || len(path) >= maxSteps {
			return "", nil, false
		}
		switch key := t.Property.(type) {
		case *ast.StringNode:
			return base, append(path, step{name: key.Value}), true
		case *ast.IntegerNode:
			return base, append(path, step{index: key.Value, item: true}), true
		case *ast.UnaryNode:
			if i, whole := key.Node.(*ast.IntegerNode); whole && key.Operator == "-" {
				return base, append(path, step{index: -i.Value, item: true}), true
			}
		}
	}
	return "", nil, false
}

// write puts the value of x there. missing is as in Expr.Value. Its error says what cannot be written.
func (t target) write(ev *event.Event, x *Expr) (missing string, err error) {
	if t.path == nil {
		return t.writeAttribute(ev, x)
	}
	value, missing, err := x.JSON(&Input{Event: ev})
	if err != nil {
		return "", err
	}
	if !ev.IsJSON() {
		return "", fault("%s: the data is %s, not JSON", t.text, ev.DataContentType)
	}
	data := ev.Data
	if data == nil {
		data = []byte("{}")
	}
	if data, err = setIn(data, t.path, value); err != nil {
		return "", fmt.Errorf("%s: %w", t.text, err)
	}
	if ev.Data == nil && ev.DataContentType == "" {
		ev.DataContentType = jsonType
	}
	ev.Data = data
	return missing, nil
}

const jsonType = "application/json"

func (t target) writeAttribute(ev *event.Event, x *Expr) (missing string, err error) {
	text, kind, missing, err := x.attribute(&Input{Event: ev})
	if err != nil {
		return "", err
	}
	if problem := t.refuses(text); problem != "" {
		if missing != "" && text == "" {
			problem += ": " + missing + " is missing"
		}
		return "", fault("%s: %s", t.text, problem)
	}
	switch {
	case t.attribute != nil:
		*t.attribute.of(ev) = text
	case text == "":
		ev.RemoveExtension(t.extension)
	default:
		ev.SetExtension(event.Extension{Name: t.extension, Kind: kind, Text: text})
	}
	return missing, nil
}

// refuses says why CloudEvents does not allow a text there. An empty text removes what is optional.
func (t target) refuses(text string) string {
	if text == "" {
		if t.attribute != nil && t.attribute.required() {
			return "an event cannot be without it"
		}
		return ""
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, forbidden) {
		return "the text holds control characters or is not UTF-8"
	}
	if t.attribute == nil {
		return ""
	}
	switch *t.attribute {
	case attrTime:
		if _, ok := parseTime(text); !ok {
			return "not an RFC 3339 time"
		}
	case attrSource:
		if u, err := url.Parse(text); err != nil || u == nil || strings.ContainsFunc(text, unicode.IsSpace) {
			return "not a URI reference"
		}
	case attrDataSchema:
		if u, err := url.Parse(text); err != nil || !u.IsAbs() || strings.ContainsFunc(text, unicode.IsSpace) {
			return "not an absolute URI"
		}
	case attrDataContentType:
		if _, _, err := mime.ParseMediaType(text); err != nil {
			return "not a media type"
		}
	}
	return ""
}

// forbidden are the characters that a CloudEvents String may not hold.
func forbidden(c rune) bool {
	return c < 0x20 || c >= 0x7f && c <= 0x9f || c >= 0xfdd0 && c <= 0xfdef || c&0xfffe == 0xfffe
}

// attribute evaluates to the text of an attribute and its kind. nil is the empty text. Arrays and objects are errors.
func (x *Expr) attribute(in *Input) (text string, kind event.Kind, missing string, err error) {
	r := x.begin(in)
	defer x.end(r)
	v, err := x.eval(r)
	if err != nil {
		return "", 0, "", err
	}
	switch v := r.settle(v).(type) {
	case nil:
	case missingValue:
		if !v.null {
			r.met(v.name)
		}
	case []any, object:
		return "", 0, "", x.failure(file.Location{To: 1}, "an attribute holds a text, not "+kindOf(v))
	default:
		if text, err = r.text(v); err != nil {
			return "", 0, "", x.failure(file.Location{To: 1}, err.Error())
		}
		kind = kindFor(v)
	}
	return strings.Clone(text), kind, r.note, nil
}

// missingValue is missing, under a name that a result called missing does not hide.
type missingValue = missing

// kindFor is the CloudEvents type of a value. Its Integer has 32 bits; longer numbers are strings.
func kindFor(v any) event.Kind {
	switch v := v.(type) {
	case bool:
		return event.Boolean
	case int64:
		if v == int64(int32(v)) {
			return event.Integer
		}
	case time.Time:
		return event.Timestamp
	}
	return event.String
}

// remove takes the target away; what is not there is no error.
func (t target) remove(ev *event.Event) error {
	switch {
	case t.attribute != nil:
		*t.attribute.of(ev) = ""
	case t.extension != "":
		ev.RemoveExtension(t.extension)
	case t.whole:
		ev.Data = nil
	case ev.Data != nil && ev.IsJSON():
		data, err := removeIn(ev.Data, t.path)
		if err != nil {
			return fmt.Errorf("%s: %w", t.text, err)
		}
		ev.Data = slices.Clip(data)
	}
	return nil
}
