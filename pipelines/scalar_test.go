package pipelines

import (
	"strings"
	"testing"
)

// The word MARK stands at the places that a test looks for, so that each style of writing proves its own mapping.
var styles = map[string]string{
	"plain":                "a: x y MARK z\n",
	"plain on lines":       "a: x\n  y\n\n  é MARK\n  z\n",
	"plain in a flow":      "a: { b: x MARK, c: [y, MARK ] }\n",
	"single":               "a: 'x ''y'' é MARK'\n",
	"single on lines":      "a: 'x\n\n\n  y ''MARK'''\n",
	"single, odd ends":     "a: '\n  MARK\n\n  '\n",
	"double":               "a: \"x \\\"y\\\" \\n \\u00e9 \\x41 \\U0001F600 \\/ MARK\"\n",
	"double on lines":      "a: \"x\n  y \\\n   z\n\n  MARK\n  \"\n",
	"literal":              "a: |\n  x\n    y\n\n  é MARK\n  z\n",
	"literal, odd":         "a: |2-\n    x\n\n\n   MARK\n",
	"literal, kept":        "a: |+\n  x\n  MARK\n\n\nb: c\n",
	"literal in a list":    "a:\n  - |\n    x\n    MARK\n  - b: |\n      MARK\n",
	"literal, more indent": "a: |\n    x\n      y\n      MARK\n",
	"literal, numbered":    "a:\n  - b: |1\n      MARK\n",
	"folded":               "a: >\n  x\n  y\n\n  MARK\n  z MARK\n",
	"folded, more indent":  "a: >-\n  x\n    y\n    MARK\n  z\n\n\n  MARK\n",
	"keys":                 "MARK: x\n'MARK 2': y\n\"\\u0041 MARK\": z\n",
	"wide":                 "a: 日本 MARK\nb: \"日本 MARK\"\n",
	"crlf":                 "a: |\r\n  x\r\n  MARK\r\nb: 'x\r\n  MARK'\r\n",
	"comment before":       "# é\na: # x\n  MARK\n# y\nb: MARK # z\n",
}

func TestTextPlace(t *testing.T) {
	for name, text := range styles {
		t.Run(name, func(t *testing.T) {
			src, _ := newSource("x.yaml", []byte(text))
			root, faults := tree(src, src.text, nil)
			if len(faults) > 0 {
				t.Fatal(Format(faults))
			}
			found := 0
			root.any(func(n *node) bool {
				if n.kind != scalarNode || n.absent {
					return false
				}
				if _, _, ok := n.align(); !ok {
					t.Errorf("the text %q is not found in the file", n.text)
				}
				for from := 0; ; {
					i := strings.Index(n.text[from:], "MARK")
					if i < 0 {
						return false
					}
					at := n.textPlace(from + i)
					if got := src.text[src.offset(at.Line, at.Col):]; !strings.HasPrefix(got, "MARK") {
						t.Errorf("%s is at %q", at, got)
					}
					found++
					from += i + 4
				}
			})
			if want := strings.Count(text, "MARK"); found != want {
				t.Errorf("found %d marks, want %d", found, want)
			}
		})
	}
}

func TestWidth(t *testing.T) {
	src, _ := newSource("x.yaml", []byte("a: 'it''s' # c\nb: \"\\u00e9\"\nc: { d: plain text }\ne: |\n  x\nf: 'a\n  b'\ng:\n"))
	root, _ := tree(src, src.text, nil)
	for key, want := range map[string]int{"a": 7, "b": 8, "c": 1, "e": 1, "f": 1, "g": 1} {
		e, _ := root.find(key)
		if got := e.value.width(); got != want {
			t.Errorf("%s: width %d, want %d", key, got, want)
		}
	}
}

func TestResolve(t *testing.T) {
	for text, want := range map[string]tag{
		"": nullTag, "~": nullTag, "null": nullTag, "nULL": stringTag, "true": boolTag, "FALSE": boolTag, "yes": stringTag,
		"off": stringTag,
		"y":   stringTag, "010": intTag, "0o17": intTag, "0x1F": intTag, "-5": intTag, "+5": intTag, "1_000": stringTag,
		"1:30": stringTag,
		"1.5":  floatTag, ".5": floatTag, "1e3": floatTag, "1.": floatTag, ".inf": stringTag, ".nan": stringTag, "0b11": stringTag,
		"1.2.3":      stringTag,
		"2024-01-01": stringTag, "-": stringTag, "e3": stringTag,
	} {
		if got := resolve(text); got != want {
			t.Errorf("resolve(%q) = %d, want %d", text, got, want)
		}
	}
	for text, want := range map[string]string{"010": "10", "0x1F": "31", "0o17": "15", "+5": "5", "True": "true", ".5": "0.5",
		"1.": "1", "-5": "-5",
		"data.x": "data.x", "1.50": "1.50"} {
		if got := constant(text); got != want {
			t.Errorf("constant(%q) = %q, want %q", text, got, want)
		}
	}
}
