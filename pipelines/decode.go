package pipelines

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"
)

// section is a map of the file with known keys: where it stands and what may be in it.
type section struct {
	title string // such as `sink "erp"`
	key   *node  // its key; nil for a list's item and the file
	node  *node
	shape *shape
	up    *section // around it; nil at the top
}

// fill reads a section into a struct: it reports unknown, repeated and missing keys and every value that is of the wrong type,
// and leaves the defaults of all that has a fault. It is false when there is no section to look at.
func (l *loader) fill(s *section, into reflect.Value) bool {
	if !l.isSection(s) {
		return false
	}
	l.checkKeys(s)
	for i := range s.shape.fields {
		f := &s.shape.fields[i]
		e, given := s.node.find(f.name)
		switch {
		case !given && f.required:
			l.missing(s, f)
		case given && f.index >= 0:
			l.decode(s, e, f, into.Field(f.index))
		}
	}
	return true
}

// isSection says whether the node is a map. Nothing at all is an empty one: all of its keys may be commented out.
func (l *loader) isSection(s *section) bool {
	if s.node.kind == skippedNode {
		return false
	}
	if s.node.kind == mapNode || s.node.isNull() {
		return true
	}
	l.fault(s.node, codeType, fmt.Sprintf("%s: expected a map, found %s", s.title, l.found(s.node)),
		"write keys with values; "+suggest("", s.shape.names()))
	return false
}

// found names a value in a message. What stands where a map belongs may be a secret in the wrong place only as far as the user
// typed it there; substituted values are never in the node's text.
func (l *loader) found(n *node) string { return n.describe() }

func (l *loader) checkKeys(s *section) {
	for i, e := range s.node.entries {
		if first, ok := s.node.find(e.key.text); ok && first.key != e.key {
			l.duplicate(e, first, s.title)
			continue
		}
		if _, ok := s.shape.field(e.key.text); !ok {
			l.unknown(s, s.node.entries[i])
		}
	}
}

// unknown reports a key that is not valid in a section: the nearest name, all names, and whether it belongs one level up or down.
func (l *loader) unknown(s *section, e entry) {
	names := s.shape.names()
	hint := suggest(e.key.text, names)
	if home := s.home(e.key.text); home != "" {
		hint = home + "; valid here: " + strings.TrimPrefix(suggest("", names), "valid here: ")
	}
	if near, ok := s.shape.field(nearest(e.key.text, names)); ok && near.secret {
		l.mask(e.value)
	}
	l.maskSecrets(e.value)
	l.fault(e.key, codeUnknownKey, fmt.Sprintf("unknown key %s in %s", quote(e.key.text), s.title), hint)
}

// below is the title of a section within this one.
func (s *section) below(key string) string {
	if s.up == nil {
		return key
	}
	return key + " of " + s.title
}

// home says where the key would be valid: around this section, or in one that the section has.
func (s *section) home(name string) string {
	if s.up != nil {
		if _, ok := s.up.shape.field(name); ok {
			return fmt.Sprintf("%s belongs one level up, in %s", quote(name), s.up.title)
		}
	}
	for _, f := range s.shape.fields {
		if _, given := s.node.find(f.name); !given && f.index < 0 || f.shape.kind != sectionKind {
			continue
		}
		if _, ok := f.shape.field(name); ok {
			return fmt.Sprintf("%s belongs one level down, in %s", quote(name), f.name)
		}
	}
	return ""
}

func (l *loader) missing(s *section, f *field) {
	at := s.node
	if s.key != nil {
		at = s.key
	}
	l.missed[missedKey{s.node, f.name}] = true
	l.fault(at, codeMissing, fmt.Sprintf("missing key %s in %s", quote(f.name), s.title), f.name+": "+f.doc)
}

// decode reads one value by the shape of its field.
func (l *loader) decode(s *section, e entry, f *field, into reflect.Value) {
	n := e.value
	if n.kind == skippedNode {
		return
	}
	if into.Type() == rawType {
		into.Set(reflect.ValueOf(n))
		return
	}
	switch f.shape.kind {
	case sectionKind:
		if into.Kind() == reflect.Pointer {
			if into.IsNil() {
				into.Set(reflect.New(into.Type().Elem()))
			}
			into = into.Elem()
		}
		if f.isWord(n) {
			l.decodeWord(n, f, into)
			return
		}
		l.fill(&section{title: s.below(e.key.text), key: e.key, node: n, shape: f.shape, up: s}, into)
	case textsKind, templatesKind, durationsKind, numbersKind:
		l.decodeList(n, f, into)
	case textMapKind, templateMapKind, exprMapKind:
		l.decodeMap(n, f, into)
	case mapKind:
		l.decodeNamed(s, n, f, into)
	default:
		l.decodeScalar(n, f, into)
	}
}

// decodeList reads a list of scalars; a scalar alone is a list of one.
func (l *loader) decodeList(n *node, f *field, into reflect.Value) {
	items := n.items
	if n.kind == scalarNode && !n.isNull() {
		items = []*node{n}
	} else if n.kind != listNode {
		l.wrongType(n, f, n.describe())
		return
	}
	item := *f
	item.shape = f.shape.elem
	list := reflect.MakeSlice(into.Type(), len(items), len(items))
	for i, it := range items {
		l.decodeScalar(it, &item, list.Index(i))
	}
	into.Set(list)
}

// decodeMap reads a map whose keys the user chooses.
func (l *loader) decodeMap(n *node, f *field, into reflect.Value) {
	if n.kind != mapNode {
		if n.isNull() {
			return // all of its keys may be commented out
		}
		l.wrongType(n, f, n.describe())
		return
	}
	item := *f
	item.shape, item.member = f.shape.elem, true
	out := reflect.MakeMap(into.Type())
	for _, e := range n.entries {
		if l.repeated(n, e, f.name) {
			continue
		}
		item.name = f.name + "." + e.key.text
		v := reflect.New(into.Type().Elem()).Elem()
		l.decodeScalar(e.value, &item, v)
		out.SetMapIndex(reflect.ValueOf(e.key.text), v)
	}
	into.Set(out)
}

// decodeNamed reads a map of sections into a list, in the order of the file. A scalar in place of a section is its required key.
func (l *loader) decodeNamed(up *section, n *node, f *field, into reflect.Value) {
	if n.kind != mapNode {
		if !n.isNull() {
			l.wrongType(n, f, n.describe())
		}
		return
	}
	list := reflect.MakeSlice(into.Type(), 0, len(n.entries))
	for _, e := range n.entries {
		if l.repeated(n, e, f.name) {
			continue
		}
		item := reflect.New(into.Type().Elem()).Elem()
		item.FieldByName(nameField).SetString(e.key.text)
		name := f.name + "." + e.key.text
		if alone := f.shape.elem.alone(); f.shape.elem.short && e.value.kind == scalarNode && !e.value.isNull() {
			only := *alone
			only.name = name
			l.decodeScalar(e.value, &only, item.Field(alone.index))
		} else {
			l.fill(&section{title: up.below(name), key: e.key, node: e.value, shape: f.shape.elem, up: up}, item)
		}
		list = reflect.Append(list, item)
	}
	into.Set(list)
}

// repeated reports a key that stood in the map before.
func (l *loader) repeated(n *node, e entry, title string) bool {
	first, _ := n.find(e.key.text)
	if first.key == e.key {
		return false
	}
	l.duplicate(e, first, title)
	return true
}

func (l *loader) duplicate(e, first entry, title string) {
	where := "twice in " + title
	if e.key.src != first.key.src {
		where = "in two files"
	}
	l.fault(e.key, codeDuplicate, fmt.Sprintf("the key %s stands %s, first at %s", quote(e.key.text), where, first.key.at),
		"remove one of them")
}

func (l *loader) wrongType(n *node, f *field, found string) {
	if f.secret {
		l.mask(n)
		if n.kind == scalarNode && !n.isNull() {
			found = "a value that is not shown"
		}
	}
	l.fault(n, codeType, fmt.Sprintf("%s: expected %s, found %s", f.name, kindWords[f.shape.kind], found), typeHint(n, f))
}

// typeHint explains the slips that come from other versions of YAML and from forgotten units.
func typeHint(n *node, f *field) string {
	if n.kind != scalarNode {
		if f.shape.kind == exprKind {
			return "put the expression in single quotes, or in a block after |"
		}
		return ""
	}
	if n.isNull() {
		return "write a value, or remove the key"
	}
	if strings.Contains(n.text, "${") {
		return ""
	}
	switch f.shape.kind {
	case durationKind:
		return "a number with a unit: ms, s, m, h or d, such as 90s, 1h30m, 7d"
	case sizeKind:
		return "a number of bytes, or one with a unit: kB, MB, GB, TB or KiB, MiB, GiB, TiB"
	case frequencyKind:
		return "a number of events in a second, minute, hour or day, more than none: 100/s, 10/m, 5/h, 1000/d"
	case boolKind:
		return "YAML 1.2 knows true and false only, without quotes"
	case intKind, floatKind:
		if n.style != plainStyle {
			return "remove the quotes"
		}
	}
	return ""
}

// decodeScalar reads a scalar into a value of its kind.
func (l *loader) decodeScalar(n *node, f *field, into reflect.Value) {
	if n.kind == skippedNode {
		return
	}
	if n.kind == mapNode && f.decision {
		if x := l.dialect(n, f); x != nil {
			into.Set(reflect.ValueOf(x))
		}
		return
	}
	if n.kind != scalarNode || n.isNull() {
		l.wrongType(n, f, n.describe())
		return
	}
	switch f.shape.kind {
	case exprKind:
		if x := l.compile(n, f); x != nil {
			into.Set(reflect.ValueOf(x))
		}
		return
	case templateKind:
		if t, ok := l.compileTemplate(n, f); ok {
			into.Set(reflect.ValueOf(t))
		}
		return
	}
	v, ok := l.substitute(n, asIs)
	if !ok {
		return
	}
	if f.secret {
		l.keepSecret(v, f)
	}
	if v.unset {
		l.standIns[n] = true
		if f.shape.kind != textKind {
			return
		}
	}
	l.decodeValue(v, f, into)
}

// keepSecret hides the value of a secret key wherever it could be shown.
func (l *loader) keepSecret(v value, f *field) {
	n := v.node
	if f.password {
		password := passwordIn(v.text)
		if password == "" {
			return
		}
		l.secrets.add(password, "a password that is not shown")
	} else if !v.unset {
		l.secrets.add(v.text, "a value that is not shown")
	}
	// Of a map such as headers only some values are secrets: none is shown, and no warning is given.
	if v.hidden == "" && !v.unset && v.text != "" && l.public[n.src.path] && !f.member {
		l.warn(n, codePublic, "a secret in a file that everyone on this machine can read", "use ${NAME} or ${file:/path}, or  chmod o-r")
	}
	if strings.Contains(n.text, ":-") || !v.whole {
		l.mask(n)
	}
}

// passwordIn is the password in a URL, before the host or among the settings; empty if there is none.
func passwordIn(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text // it may be anywhere
	}
	if password, ok := u.User.Password(); ok {
		return password
	}
	return u.Query().Get("password")
}

// keepSecretTemplate hides the text of a secret template and the texts in its expressions; the rest of an expression is shown,
// so that a fault in it can be.
func (l *loader) keepSecretTemplate(v value, f *field) {
	n := v.node
	offsets, _, ok := n.align()
	if !ok || !strings.Contains(n.text, "{{") {
		l.keepSecret(v, f)
		return
	}
	for _, p := range templateTexts(n.text) {
		text := strings.TrimSpace(n.text[p[0]:p[1]])
		if text == "" {
			continue
		}
		n.src.maskRange(offsets[p[0]], offsets[p[1]])
		if len(text) >= 4 { // less is punctuation, which would be hidden in every message
			l.secrets.add(text, "a value that is not shown")
		}
	}
}

// templateTexts finds what is text in a template: outside of {{ }}, and between quotes within.
func templateTexts(s string) [][2]int {
	var texts [][2]int
	start, inside := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case !inside && strings.HasPrefix(s[i:], "{{"):
			texts = append(texts, [2]int{start, i})
			i, inside = i+1, true
		case inside && strings.HasPrefix(s[i:], "}}"):
			i, inside = i+1, false
			start = i + 1
		case inside && strings.IndexByte("\"'`", s[i]) >= 0:
			n := stringEnd(s[i:])
			if n < 0 {
				return append(texts, [2]int{i, len(s)})
			}
			texts = append(texts, [2]int{i + 1, i + n - 1})
			i += n - 1
		}
	}
	if !inside {
		texts = append(texts, [2]int{start, len(s)})
	}
	return texts
}

// mask hides a value that stands in the file.
func (l *loader) mask(n *node) {
	switch n.kind {
	case scalarNode:
		if n.absent {
			return
		}
		from := n.src.offset(n.at.Line, n.at.Col)
		end := n.end()
		if end <= from {
			end = from + strings.IndexByte(n.src.text[from:]+"\n", '\n')
		}
		n.src.maskRange(from, end)
	case mapNode:
		for _, e := range n.entries {
			l.mask(e.value)
		}
	case listNode:
		for _, it := range n.items {
			l.mask(it)
		}
	}
}

// maskSecrets hides what stands at keys with the name of a secret, in a part of the file that is not decoded.
func (l *loader) maskSecrets(n *node) {
	if n.kind == scalarNode && passwordForm.MatchString(n.text) {
		l.mask(n)
	}
	if l.secretKeys == nil {
		l.secretKeys = secretNames(l.schema, map[string]bool{})
	}
	for _, e := range n.entries {
		if l.secretKeys[e.key.text] {
			l.mask(e.value)
		}
		l.maskSecrets(e.value)
	}
	for _, it := range n.items {
		l.maskSecrets(it)
	}
}

func (l *loader) decodeValue(v value, f *field, into reflect.Value) {
	found := v.shown()
	if f.secret && v.hidden == "" {
		found = "a value that is not shown"
	}
	if !typed(v, f.shape.kind) || !store(v.text, f.shape.kind, into) {
		l.wrongType(v.node, f, found)
		return
	}
	if problem := f.outside(v.text); problem != "" {
		l.fault(v.node, codeRange, fmt.Sprintf("%s: %s, found %s", f.name, problem, strings.Trim(found, `"`)), "")
		return
	}
	if len(f.oneof) == 0 || v.unset {
		return
	}
	for _, valid := range f.oneof {
		if v.text == valid {
			return
		}
	}
	hint := suggest("", f.oneof)
	if v.hidden == "" {
		hint = suggest(v.text, f.oneof)
	}
	l.fault(v.node, codeValue, fmt.Sprintf("%s: %s is not valid", f.name, found), hint)
}

// typed says whether the YAML type of a value fits: numbers and booleans must not be in quotes, unless the whole value is
// substituted.
func typed(v value, kind valueKind) bool {
	if v.whole {
		return true
	}
	switch kind {
	case boolKind, intKind, floatKind:
		return v.node.style == plainStyle && v.hidden == ""
	}
	return true
}

// store parses text into a value of its kind; false: it is not of that kind.
func store(text string, kind valueKind, into reflect.Value) bool {
	switch kind {
	case textKind:
		into.SetString(text)
		return true
	case boolKind:
		if resolve(text) != boolTag {
			return false
		}
		into.SetBool(strings.EqualFold(text, "true"))
		return true
	case intKind:
		if resolve(text) != intTag {
			return false
		}
		n, err := parseInt(text)
		if err != nil || into.OverflowInt(n) {
			return false
		}
		into.SetInt(n)
		return true
	case floatKind:
		n, err := measure(floatKind, text)
		into.SetFloat(n)
		return err == nil
	case durationKind:
		d, err := parseDuration(text)
		into.Set(reflect.ValueOf(d).Convert(into.Type()))
		return err == nil
	case sizeKind:
		n, err := parseSize(text)
		into.SetInt(n)
		return err == nil
	case frequencyKind:
		q, err := parseFrequency(text)
		into.Set(reflect.ValueOf(q))
		return err == nil
	}
	return false
}
