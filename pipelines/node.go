package pipelines

// nodeKind is what a node of the file is.
type nodeKind uint8

const (
	scalarNode nodeKind = iota
	mapNode
	listNode
	skippedNode // a part that was already reported and must not be judged again
)

// style is how a scalar is written.
type style uint8

const (
	plainStyle style = iota
	singleStyle
	doubleStyle
	literalStyle
	foldedStyle
)

// node is a value of the file, with its place. Aliases are already replaced by what they name.
type node struct {
	src     *source
	at      Place
	kind    nodeKind
	style   style
	absent  bool    // a key without any value
	text    string  // of a scalar
	entries []entry // of a map, in the order of the file; a key may stand twice
	items   []*node // of a list

	index   map[string]int // the first entry of each key, made when it is first asked for
	indexed int            // how many entries the index knows
}

// entry is one key of a map with its value.
type entry struct{ key, value *node }

// width is how many columns mark the node: the whole of a scalar that is on one line as it is, else its first character.
func (n *node) width() int {
	if n.kind != scalarNode || n.style > doubleStyle {
		return 1
	}
	end := n.end()
	if at := n.src.placeAt(end); at.Line == n.at.Line {
		return max(at.Col-n.at.Col, 1)
	}
	return 1
}

// find returns the first entry with the key.
func (n *node) find(key string) (entry, bool) {
	if n.index == nil {
		n.index = make(map[string]int, len(n.entries))
	}
	for ; n.indexed < len(n.entries); n.indexed++ {
		k := n.entries[n.indexed].key.text
		if _, ok := n.index[k]; !ok {
			n.index[k] = n.indexed
		}
	}
	i, ok := n.index[key]
	if !ok {
		return entry{}, false
	}
	return n.entries[i], true
}

// isNull says whether the node is YAML's null: nothing at all, ~ or null.
func (n *node) isNull() bool {
	return n.kind == scalarNode && n.style == plainStyle && resolve(n.text) == nullTag
}

// describe names a node in messages of the kind "expected ..., found ...".
func (n *node) describe() string {
	switch n.kind {
	case mapNode:
		return "a map"
	case listNode:
		return "a list"
	}
	if n.isNull() {
		return "nothing"
	}
	if n.style == plainStyle && resolve(n.text) != stringTag {
		return n.text
	}
	return quote(n.text)
}
