package pipelines

import "strings"

// Section is one map of the file with all keys that it may have.
type Section struct {
	Path string // such as pipelines.<name>.sinks.<name>.retry; empty for the file itself
	Doc  string
	Keys []Key
}

// Key is one key of a section, for a person to read.
type Key struct {
	Name     string
	Type     string   // what it takes, in words
	Default  string   // as it would be written; empty when there is none
	Doc      string   // one sentence
	Values   []string // the accepted texts, where they are few
	Min, Max string   // the accepted range; empty is none
	Required bool
	Secret   bool
	Section  string // the path of the section that the key opens; empty for a plain value
}

// Describe lists every key that a file with these component types may have, in a fixed order: outer sections before inner
// ones. The loader decides by the same tables.
func Describe(t Types) []Section {
	return describe(nil, "", "", schemaOf(t))
}

func describe(out []Section, path, doc string, sh *shape) []Section {
	s := Section{Path: path, Doc: doc}
	type inner struct {
		path, doc string
		shape     *shape
	}
	var inners []inner
	for _, f := range sh.fields {
		key := Key{Name: f.name, Type: kindWords[f.shape.kind], Default: f.def, Doc: f.doc, Values: f.oneof, Min: f.min, Max: f.max,
			Required: f.required, Secret: f.secret}
		if f.decision {
			key.Type += ", or `{ cesql: … }`"
		}
		if below, suffix := opened(f.shape); below != nil {
			key.Section = strings.TrimPrefix(path+"."+f.name+suffix, ".")
			inners = append(inners, inner{key.Section, f.doc, below})
		}
		s.Keys = append(s.Keys, key)
	}
	out = append(out, s)
	for _, in := range inners {
		out = describe(out, in.path, in.doc, in.shape)
	}
	return out
}

// opened is the section that a key leads to, directly or through a map or list of them.
func opened(sh *shape) (*shape, string) {
	switch sh.kind {
	case sectionKind:
		return sh, ""
	case mapKind:
		return sh.elem, ".<name>"
	case listKind:
		return sh.elem, "[]"
	}
	return nil, ""
}
