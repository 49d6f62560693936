package pipelines

import "reflect"

// wordField is the field of a struct that takes a word which stands in place of the map, such as keep where {move: folder} may
// stand too. A key of such a struct names its words with oneof=.
const wordField = "Word"

// isWord says whether a word stands where a map may stand.
func (f *field) isWord(n *node) bool {
	return f.shape.kind == sectionKind && len(f.oneof) > 0 && n.kind == scalarNode && !n.isNull()
}

// decodeWord reads the word into its field of a struct.
func (l *loader) decodeWord(n *node, f *field, into reflect.Value) {
	word := *f
	word.shape = &shape{kind: textKind}
	l.decodeScalar(n, &word, into.FieldByName(wordField))
}

// defaultWord is the word that a struct holds, if it takes one.
func defaultWord(v reflect.Value) string {
	if v.Kind() != reflect.Struct {
		return ""
	}
	if word := v.FieldByName(wordField); word.IsValid() && word.Kind() == reflect.String {
		return word.String()
	}
	return ""
}
