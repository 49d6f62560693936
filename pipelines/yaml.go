package pipelines

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds on what a file may make the parser and the walker do. The parser recurses and needs quadratic time for the keys of a
// file, so both are bounded before it runs.
const (
	maxDepth    = 64     // maps and lists within each other
	maxKeys     = 20_000 // of one file
	maxExpanded = 10_000 // values that aliases repeat
)

// tree parses the text of a source, in which the parts in skip (by byte offset) were replaced, and returns its root.
// A file that holds nothing has a nil root and a fault.
func tree(src *source, text string, skip map[int]bool) (*node, []Diagnostic) {
	file, fault := parseYAML(src, text)
	if fault != nil {
		return nil, []Diagnostic{*fault}
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if _, ok := doc.Body.(*ast.DirectiveNode); ok || doc.Body == nil {
			continue
		}
		if body != nil {
			at := Place{File: src.path, Line: doc.Body.GetToken().Position.Line, Col: 1}
			if doc.Start != nil {
				at.Line, at.Col = doc.Start.Position.Line, doc.Start.Position.Column
			}
			return nil, []Diagnostic{src.fault(at, 3, codeDocuments, "a second document begins here: a file holds one",
				"remove the line ---, or put the rest into a file of its own: -c takes a folder too")}
		}
		body = doc.Body
	}
	if body == nil {
		return nil, []Diagnostic{*src.whole(codeEmpty, "the file is empty",
			"a file names at least one pipeline:  pipelines: { name: { source: ..., sinks: ... } }")}
	}
	w := &walker{src: src, skip: skip, anchors: map[string]ast.Node{}, open: map[string]bool{}}
	root := w.node(body, 0)
	return root, w.faults
}

// parseYAML runs the library. It is known to have panicked on bad input, so a panic is a fault of the file that says so.
func parseYAML(src *source, text string) (file *ast.File, fault *Diagnostic) {
	defer func() {
		if r := recover(); r != nil {
			fault = src.whole(codeSyntax, "the YAML parser gave up on this file", "look for unusual punctuation where values begin")
			file = nil
		}
	}()
	tokens := lexer.Tokenize(text)
	if fault := checkBounds(src, tokens); fault != nil {
		return nil, fault
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err == nil {
		return file, nil
	}
	var syntax *yaml.SyntaxError
	if !errors.As(err, &syntax) || syntax.Token == nil || syntax.Token.Position == nil {
		return nil, src.whole(codeSyntax, "this is not YAML: "+firstLine(err.Error()), "")
	}
	return nil, syntaxFault(src, syntax)
}

func syntaxFault(src *source, e *yaml.SyntaxError) *Diagnostic {
	line := min(max(e.Token.Position.Line, 1), len(src.lines))
	col := min(max(e.Token.Position.Column, 1), utf8.RuneCountInString(src.line(line))+1)
	problem, hint := plainWords(firstLine(e.Message))
	d := src.fault(Place{File: src.path, Line: line, Col: col}, 1, codeSyntax, problem, hint)
	return &d
}

// plainWords puts the parser's commonest messages into words of the user.
func plainWords(message string) (problem, hint string) {
	const indent = "check the indentation of this line and of its neighbors; a value that contains ': ' needs quotes"
	switch {
	case strings.Contains(message, "unexpected key name"):
		return "this is not YAML: a colon is missing behind a key, or the text does not belong here", indent
	case strings.Contains(message, "could not find end character"):
		return "a quote is opened here and never closed", "close it; inside single quotes a ' is written twice"
	case strings.Contains(message, "mapping value is not allowed"), strings.Contains(message, "map key-value is pre-defined"),
		strings.Contains(message, "value is not allowed in this context"), strings.Contains(message, "non-map value is specified"):
		return "this is not YAML: there is already a value here, and another one or a key follows", indent
	case strings.Contains(message, "must be specified"), strings.Contains(message, "could not find flow"),
		strings.Contains(message, "end token"):
		return "this is not YAML: a { or [ that was opened is not closed, or a comma is missing",
			"check the brackets; a value that contains { } [ ] or a comma needs quotes"
	case strings.Contains(message, "block sequence entries are not allowed"):
		return "this is not YAML: a list cannot begin on the line of its key", "begin each item with '- ' on a line of its own"
	}
	return "this is not YAML: " + message, indent
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// checkBounds counts keys and depth from the tokens, before the recursive parser sees them.
func checkBounds(src *source, tokens token.Tokens) *Diagnostic {
	var columns []int // of the block maps and lists that are open
	flow, properties, keys := 0, 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.AnchorType, token.TagType:
			properties++ // a chain of them nests too
		case token.SequenceEntryType, token.MappingKeyType:
			if flow > 0 {
				properties++
			} else {
				columns = nest(columns, t.Position.Column)
			}
		case token.MappingValueType:
			keys++
			if flow == 0 && t.Prev != nil && t.Prev.Position.Line == t.Position.Line {
				columns = nest(columns, t.Prev.Position.Column)
			}
		case token.StringType, token.SingleQuoteType, token.DoubleQuoteType:
			properties = 0
		}
		at := Place{File: src.path, Line: t.Position.Line, Col: max(t.Position.Column, 1)}
		if flow+len(columns)+properties > maxDepth {
			d := src.fault(at, 1, codeLimit, fmt.Sprintf("more than %d levels within each other", maxDepth), "")
			return &d
		}
		if keys > maxKeys {
			d := src.fault(at, 1, codeLimit, fmt.Sprintf("more than %d keys in one file", maxKeys),
				"split it: -c takes a folder too, whose files are read together")
			return &d
		}
	}
	return nil
}

func nest(columns []int, col int) []int {
	for len(columns) > 0 && columns[len(columns)-1] >= col {
		columns = columns[:len(columns)-1]
	}
	return append(columns, col)
}

// walker turns the library's tree into ours: aliases replaced and counted, places checked, what we do not take refused.
type walker struct {
	src      *source
	skip     map[int]bool
	anchors  map[string]ast.Node
	open     map[string]bool // anchors whose value is being read
	inAlias  int
	expanded int
	faults   []Diagnostic
}

func (w *walker) fault(at Place, width int, code, problem, hint string) {
	w.faults = append(w.faults, w.src.fault(at, width, code, problem, hint))
}

func (w *walker) node(n ast.Node, depth int) *node {
	out := &node{src: w.src, kind: skippedNode, at: w.place(n)}
	if w.inAlias > 0 {
		if w.expanded++; w.expanded > maxExpanded {
			if w.expanded == maxExpanded+1 {
				w.fault(out.at, 1, codeLimit, fmt.Sprintf("aliases repeat more than %d values", maxExpanded), "")
			}
			return out
		}
	}
	if depth > 2*maxDepth {
		w.fault(out.at, 1, codeLimit, "aliases nest too deeply", "")
		return out
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		w.mapping(out, n.Values, depth)
		if n.Start != nil && n.Start.Type == token.MappingStartType {
			out.at = w.tokenPlace(n.Start)
		}
	case *ast.MappingValueNode:
		w.mapping(out, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		out.kind = listNode
		for _, item := range n.Values {
			out.items = append(out.items, w.node(item, depth+1))
		}
	case *ast.AnchorNode:
		return w.anchor(n, depth)
	case *ast.AliasNode:
		return w.alias(n, depth)
	case *ast.TagNode:
		name := n.GetToken().Value
		w.fault(out.at, len(name), codeTag, fmt.Sprintf("the tag %s: tags have no meaning here", quote(name)),
			"remove it; to write text that begins with !, put it in single quotes")
	case *ast.LiteralNode:
		out.kind, out.style = scalarNode, literalStyle
		if n.Start.Type == token.FoldedType {
			out.style = foldedStyle
		}
		if n.Value != nil {
			out.text = n.Value.Value
		}
	default:
		w.scalar(out, n)
	}
	return out
}

func (w *walker) scalar(out *node, n ast.Node) {
	t := n.GetToken()
	switch n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode, *ast.NullNode,
		*ast.MergeKeyNode:
	default:
		w.fault(out.at, 1, codeSyntax, "this is not YAML that is understood here", "write plain keys and values")
		return
	}
	out.kind = scalarNode
	switch t.Type {
	case token.SingleQuoteType:
		out.style, out.text = singleStyle, t.Value
	case token.DoubleQuoteType:
		out.style, out.text = doubleStyle, t.Value
	case token.ImplicitNullType:
		out.absent = true
	default:
		out.text = t.Value
	}
	if !out.absent && w.skip[w.src.offset(out.at.Line, out.at.Col)] {
		out.kind = skippedNode
	}
}

func (w *walker) mapping(out *node, values []*ast.MappingValueNode, depth int) {
	out.kind = mapNode
	for i, v := range values {
		key := w.key(v.Key)
		if i == 0 && key != nil {
			out.at = key.at
		}
		var value *node
		if v.Value == nil {
			value = &node{src: w.src, absent: true}
		} else {
			value = w.node(v.Value, depth+1)
		}
		if key == nil {
			continue
		}
		if value.absent {
			value.at = key.at // there is nothing else to point at
		}
		out.entries = append(out.entries, entry{key, value})
	}
}

// key reads a key, which must be a scalar. nil: it was refused.
func (w *walker) key(k ast.Node) *node {
	if explicit, ok := k.(*ast.MappingKeyNode); ok && explicit.Value != nil {
		k = explicit.Value
	}
	if _, ok := k.(*ast.MergeKeyNode); ok {
		w.fault(w.place(k), 2, codeMerge, "the merge key << is not part of YAML 1.2",
			"write the keys out, or repeat a whole value with an alias, such as  retry: *slow")
		return nil
	}
	n := w.node(k, maxDepth)
	switch {
	case n.kind == skippedNode:
		return nil
	case n.kind != scalarNode || n.absent:
		w.fault(n.at, 1, codeSyntax, "a key must be plain text", "put it in quotes")
		return nil
	}
	return n
}

func (w *walker) anchor(n *ast.AnchorNode, depth int) *node {
	name := n.Name.GetToken().Value
	if n.Value == nil {
		return &node{src: w.src, at: w.place(n), absent: true}
	}
	w.open[name] = true
	value := w.node(n.Value, depth)
	delete(w.open, name)
	w.anchors[name] = n.Value
	return value
}

func (w *walker) alias(n *ast.AliasNode, depth int) *node {
	out := &node{src: w.src, at: w.place(n), kind: skippedNode}
	name := n.Value.GetToken().Value
	width := utf8.RuneCountInString(name) + 1
	if w.open[name] {
		w.fault(out.at, width, codeAlias, fmt.Sprintf("the alias %s stands inside the value that it names", quote("*"+name)), "")
		return out
	}
	value, ok := w.anchors[name]
	if !ok {
		w.fault(out.at, width, codeAlias, fmt.Sprintf("the alias %s names no anchor above it", quote("*"+name)),
			"to write text that begins with *, put it in single quotes")
		return out
	}
	w.inAlias++
	w.open[name] = true
	out = w.node(value, depth+1)
	delete(w.open, name)
	w.inAlias--
	return out
}

func (w *walker) place(n ast.Node) Place {
	if l, ok := n.(*ast.LiteralNode); ok {
		return w.tokenPlace(l.Start)
	}
	return w.tokenPlace(n.GetToken())
}

// tokenPlace is where a token begins, held inside the file whatever the library says.
func (w *walker) tokenPlace(t *token.Token) Place {
	line := min(max(t.Position.Line, 1), len(w.src.lines))
	return w.src.placeAt(w.src.offset(line, max(t.Position.Column, 1)))
}
