package pipelines

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-run/millrace/rules"
)

// valueKind is what a key takes.
type valueKind uint8

const (
	unknownKind valueKind = iota
	textKind
	boolKind
	intKind
	floatKind
	durationKind
	sizeKind
	textsKind // a list of texts, or one
	textMapKind
	templateKind
	templatesKind // a list of templates, or one
	templateMapKind
	exprKind
	exprMapKind
	sectionKind // a map with known keys
	mapKind     // a map whose keys the user chooses
	listKind
	anyKind    // whatever YAML can say
	statusKind // a number or a list of them
	durationsKind
	numbersKind
	frequencyKind
	matchKind // members and what they must be, or filters
)

// kindWords says what a kind expects, in messages and in the reference.
var kindWords = map[valueKind]string{
	textKind: "text", boolKind: "true or false", intKind: "a whole number", floatKind: "a number",
	durationKind: "a duration such as 90s", sizeKind: "a size such as 10MiB", textsKind: "a text or a list of texts",
	textMapKind: "a map of texts", templateKind: "a template", templatesKind: "a template or a list of templates",
	templateMapKind: "a map of templates", exprKind: "an expression", exprMapKind: "a map of expressions", sectionKind: "a map",
	mapKind: "a map", listKind: "a list", anyKind: "any value", statusKind: "a status, or a list with one for each attempt",
	durationsKind: "a list of durations", numbersKind: "a list of whole numbers", frequencyKind: "a rate such as 100/s",
	matchKind: "a match: a map of members, or a list of filters",
}

// shape is what may stand at a place of the file. The shapes of a whole file make a tree, which is the only list of keys: the
// decoder, the hints, the scout and the reference all read it.
type shape struct {
	kind   valueKind
	fields []field // of a section
	elem   *shape  // of a map's values and a list's items
	short  bool    // a section in place of which its required key may stand alone
}

// field is one key of a section.
type field struct {
	name, doc, def   string
	required, secret bool
	password         bool     // only a password in it is a secret: of a URL
	intake           bool     // expressions see the request too
	digest           bool     // expressions see all events of a delivery too
	decision         bool     // an expression that must be true or false
	min, max         string   // bounds as they are written; empty is none
	oneof            []string // the accepted texts; empty is any
	index            int      // of the struct's field; -1 when there is none
	member           bool     // a value of a map whose keys the user chooses
	shape            *shape
}

// at follows a path of keys ("-" for a list's item) and returns nil where the file holds nothing known.
func (sh *shape) at(path []string) *shape {
	for _, key := range path {
		if sh == nil {
			return nil
		}
		if sh.elem != nil {
			sh = sh.elem
			continue
		}
		f, ok := sh.field(key)
		if !ok {
			return nil
		}
		sh = f.shape
	}
	return sh
}

func (sh *shape) field(name string) (*field, bool) {
	if sh == nil {
		return nil, false
	}
	i := slices.IndexFunc(sh.fields, func(f field) bool { return f.name == name })
	if i < 0 {
		return nil, false
	}
	return &sh.fields[i], true
}

func (sh *shape) names() []string {
	names := make([]string, len(sh.fields))
	for i, f := range sh.fields {
		names[i] = f.name
	}
	return names
}

func (sh *shape) isExpression() bool { return sh != nil && sh.kind == exprKind }
func (sh *shape) isTemplate() bool   { return sh != nil && sh.kind == templateKind }

var (
	durationType  = reflect.TypeFor[time.Duration]()
	templateType  = reflect.TypeFor[rules.Template]()
	templatesType = reflect.TypeFor[[]rules.Template]()
	exprType      = reflect.TypeFor[*rules.Expr]()
	templateMap   = reflect.TypeFor[map[string]rules.Template]()
	exprMap       = reflect.TypeFor[map[string]*rules.Expr]()
	textsType     = reflect.TypeFor[[]string]()
	textMapType   = reflect.TypeFor[map[string]string]()
	rawType       = reflect.TypeFor[*node]()
	durationsType = reflect.TypeFor[[]time.Duration]()
	numbersType   = reflect.TypeFor[[]int]()
	frequencyType = reflect.TypeFor[Frequency]()
)

// shapeOf reads the shape of a struct from its tags and its defaults from its values.
func shapeOf(v reflect.Value) *shape {
	sh := &shape{kind: sectionKind}
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		tag, ok := sf.Tag.Lookup("yaml")
		if !ok || tag == "-" || !sf.IsExported() {
			continue
		}
		sh.fields = append(sh.fields, fieldOf(sf, v.Field(i), i, tag))
	}
	return sh
}

func fieldOf(sf reflect.StructField, v reflect.Value, index int, tag string) field {
	name, options, _ := strings.Cut(tag, ",")
	f := field{name: name, doc: sf.Tag.Get("doc"), index: index}
	size := false
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "required":
			f.required = true
		case "secret":
			f.secret, f.password = true, value == "password"
		case "intake":
			f.intake = true
		case "digest":
			f.digest = true
		case "decision":
			f.decision = true
		case "size":
			size = true
		case "min":
			f.min = value
		case "max":
			f.max = value
		case "oneof":
			f.oneof = strings.Split(value, "|")
		}
	}
	f.shape = valueShape(v, size)
	f.def = defaultText(v, f.shape.kind)
	return f
}

// isNamed says whether a type is a list of structs that each have a name: in the file a map of sections, whose order is kept. In
// place of a section its required key may stand alone.
func isNamed(t reflect.Type) bool {
	if t.Kind() != reflect.Slice || t.Elem().Kind() != reflect.Struct {
		return false
	}
	name, ok := t.Elem().FieldByName(nameField)
	return ok && name.Type.Kind() == reflect.String
}

// nameField is the field of a struct that takes the key under which it stands.
const nameField = "Name"

// scalar is the shape of a scalar that stands there.
func (sh *shape) scalar() *shape {
	if sh != nil && sh.short {
		return sh.alone().shape
	}
	return sh
}

// alone is the key of a section that may stand in place of it.
func (sh *shape) alone() *field {
	for i := range sh.fields {
		if sh.fields[i].required {
			return &sh.fields[i]
		}
	}
	return nil
}

func valueShape(v reflect.Value, size bool) *shape {
	switch v.Type() {
	case durationType:
		return &shape{kind: durationKind}
	case templateType:
		return &shape{kind: templateKind}
	case templatesType:
		return &shape{kind: templatesKind, elem: &shape{kind: templateKind}}
	case exprType:
		return &shape{kind: exprKind}
	case templateMap:
		return &shape{kind: templateMapKind, elem: &shape{kind: templateKind}}
	case exprMap:
		return &shape{kind: exprMapKind, elem: &shape{kind: exprKind}}
	case textsType:
		return &shape{kind: textsKind, elem: &shape{kind: textKind}}
	case textMapType:
		return &shape{kind: textMapKind, elem: &shape{kind: textKind}}
	case rawType:
		return &shape{kind: sectionKind}
	case durationsType:
		return &shape{kind: durationsKind, elem: &shape{kind: durationKind}}
	case numbersType:
		return &shape{kind: numbersKind, elem: &shape{kind: intKind}}
	case frequencyType:
		return &shape{kind: frequencyKind}
	}
	switch v.Kind() {
	case reflect.String:
		return &shape{kind: textKind}
	case reflect.Bool:
		return &shape{kind: boolKind}
	case reflect.Int, reflect.Int64:
		if size {
			return &shape{kind: sizeKind}
		}
		return &shape{kind: intKind}
	case reflect.Float64:
		return &shape{kind: floatKind}
	case reflect.Struct:
		return shapeOf(v)
	case reflect.Slice:
		if isNamed(v.Type()) {
			elem := shapeOf(reflect.New(v.Type().Elem()).Elem())
			elem.short = elem.alone() != nil
			return &shape{kind: mapKind, elem: elem}
		}
	case reflect.Pointer:
		if v.Type().Elem().Kind() == reflect.Struct {
			if v.IsNil() {
				v = reflect.New(v.Type().Elem())
			}
			return shapeOf(v.Elem())
		}
	}
	return &shape{}
}

// defaultText writes a default as a user would; nothing when there is none worth saying.
func defaultText(v reflect.Value, kind valueKind) string {
	switch kind {
	case durationKind:
		if v.Int() == 0 {
			return ""
		}
		return formatDuration(time.Duration(v.Int()))
	case sizeKind:
		if v.Int() == 0 {
			return ""
		}
		return formatSize(v.Int())
	case boolKind:
		return strconv.FormatBool(v.Bool())
	case templateKind:
		t, _ := v.Interface().(rules.Template)
		return t.String()
	case sectionKind:
		return defaultWord(v)
	case textsKind:
		return strings.Join(v.Interface().([]string), ", ")
	case textKind, intKind, floatKind:
		if v.IsZero() {
			return ""
		}
		return fmt.Sprint(v.Interface())
	}
	return ""
}
