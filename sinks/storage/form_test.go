package storage

import (
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// columns are made of names and expressions in turn.
func columns(t tb, pairs ...string) (all []Column) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		x, err := rules.Compile(pairs[i+1], rules.Options{})
		if err != nil {
			t.Fatalf("%s: %v", pairs[i+1], err)
		}
		all = append(all, Column{Name: pairs[i], Value: x})
	}
	return all
}

func formFor(t tb, c Config) form {
	t.Helper()
	f, err := newForm(c, "")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLine(t *testing.T) {
	for _, c := range []struct{ path, content, contentType, data, want string }{
		{"f.log", "raw", "application/json", "{ \"a\":\n1 }", "{ \"a\":\n1 }"},
		{"f.ndjson", "raw", "", "", ""},
		{"f.ndjson", "data", "application/json", "{ \"a\":\r\n 1.0, \"b\": \"x y\" }", `{"a":1.0,"b":"x y"}` + "\n"},
		{"f.ndjson", "data", "", "[1, 2]", "[1,2]\n"},
		{"f.ndjson", "data", "application/json", "<a>&\u2028", `"PGE+JuKAqA=="` + "\n"},
		{"f.ndjson", "data", "application/json", `"<a>&"`, `"<a>&"` + "\n"},
		{"f.jsonl", "data", "text/plain", "a\n\"b\"", `"a\n\"b\""` + "\n"},
		{"f.ndjson", "data", "text/plain", "\xff", `"/w=="` + "\n"},
		{"f.ndjson", "data", "application/octet-stream", "abc", `"YWJj"` + "\n"},
		{"f.log", "data", "text/plain", "GET /\xff \"b\"\r", "GET /\xff \"b\"\r\n"},
		{"f.log", "data", "text/plain", "panic\n  at x", "panic\n  at x\n"},
		{"f.log", "data", "application/json", "{ \"a\":\n1 }", `{"a":1}` + "\n"},
		{"f.log", "data", "application/json", `{ "a": 1 }`, `{ "a": 1 }` + "\n"},
		{"f.json", "data", "application/json", "{ \"a\":\n1 }", ",\n" + `{"a":1}`},
		{"f.log", "event", "application/json", "{\n\"a\":1}",
			`{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"application/json","data":{"a":1}}` + "\n"},
	} {
		config := Defaults()
		config.Path, config.Content = template(t, c.path), c.content
		f := formFor(t, config)
		ev := &event.Event{ID: "1", Source: "/s", Type: "t", DataContentType: c.contentType, Data: []byte(c.data)}
		if got, err := f.append(nil, ev); err != nil || string(got) != c.want {
			t.Errorf("%s of %q in %s: %q %v, want %q", c.content, c.data, c.path, got, err, c.want)
		}
	}
	for key, want := range map[[2]string]string{{"raw", "f.log"}: "", {"data", "f.log"}: "\n", {"data", "f.ndjson"}: "null\n"} {
		config := Defaults()
		config.Path, config.Content = template(t, key[1]), key[0]
		f := formFor(t, config)
		if got, err := f.append(nil, &event.Event{}); err != nil || string(got) != want {
			t.Errorf("%v without data: %q %v", key, got, err)
		}
	}
}

func TestCSV(t *testing.T) {
	config := Defaults()
	config.Path = template(t, "f.csv")
	config.Columns = columns(t, "id", "id", "a \"b\", c", "data.a", "list", "data.list")
	f := formFor(t, config)
	if got := string(f.header); got != "id,\"a \"\"b\"\", c\",list\n" {
		t.Errorf("header %q", got)
	}
	for data, want := range map[string]string{
		`{"a":"plain"}`:                     "1,plain,\n",
		`{"a":null,"list":[1,"x"]}`:         "1,,\"[1,\"\"x\"\"]\"\n",
		`{"a":-5}`:                          "1,-5,\n",
		`{"a":"-5.0e3"}`:                    "1,-5.0e3,\n",
		`{"a":"+4930"}`:                     "1,+4930,\n",
		`{"a":"+49 30"}`:                    "1,'+49 30,\n",
		`{"a":"=1+1"}`:                      "1,'=1+1,\n",
		`{"a":"@SUM(A1)"}`:                  "1,'@SUM(A1),\n",
		`{"a":"-cmd|' /C calc'!A0"}`:        "1,'-cmd|' /C calc'!A0,\n",
		`{"a":"\t=1"}`:                      "1,'\t=1,\n",
		`{"a":"\r=1"}`:                      "1,\"'\r=1\",\n",
		`{"a":"=A1,\"x\""}`:                 "1,\"'=A1,\"\"x\"\"\",\n",
		`{"a":" two\nlines "}`:              "1,\" two\nlines \",\n",
		`{"a":12345678901234567890.10}`:     "1,12345678901234567890.10,\n",
		`{"a":true,"list":{"b":1.0,"a":2}}`: "1,true,\"{\"\"b\"\":1.0,\"\"a\"\":2}\"\n",
	} {
		ev := &event.Event{ID: "1", Source: "/s", Type: "t", DataContentType: "application/json", Data: []byte(data)}
		got, err := f.append(nil, ev)
		if err != nil || string(got) != want {
			t.Errorf("%s: %q %v, want %q", data, got, err, want)
		}
	}
	config.Formulas, config.Header, config.Path = formulasKeep, false, template(t, "f.tsv")
	f = formFor(t, config)
	ev := &event.Event{
		ID: "1", Source: "/s", Type: "t", DataContentType: "application/json", Data: []byte(`{"a":"=1","list":"a,b\tc"}`),
	}
	if got, err := f.append(nil, ev); err != nil || string(got) != "1\t=1\t\"a,b\tc\"\n" || f.header != nil {
		t.Errorf("%q %v", got, err)
	}
	config.Columns = columns(t, "only", "data.none", "bad", "int(data.a)")
	f = formFor(t, config)
	if _, err := f.append(nil, ev); err == nil || !strings.Contains(err.Error(), "columns.bad") {
		t.Errorf("an expression that fails: %v", err)
	}
	f.columns = f.columns[:1]
	if got, _ := f.append(nil, ev); string(got) != "\"\"\n" {
		t.Errorf("a line of one empty cell is %q", got)
	}
}

// What is written is read back the same by a reader of RFC 4180, whatever is in it.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{"", "a", "\"", ",", "\r\n", " x", "=1", "\x00", "'"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.Contains(a+b, "\r") {
			t.Skip("encoding/csv reads CR LF within quotes as LF")
		}
		form := form{comma: ','}
		line := form.appendCell(nil, a)
		line = form.endLine(form.appendCell(append(line, ','), b), 0)
		got, err := csv.NewReader(strings.NewReader(string(line))).Read()
		if err != nil || cmp.Diff([]string{a, b}, got) != "" {
			t.Errorf("%q: %q %v", line, got, err)
		}
	})
}

func TestIsNumeric(t *testing.T) {
	for text, want := range map[string]bool{
		"1": true, "-1.5": true, "+2": true, "-1e9": true, "": false, "-": false, "+": false, "+-1": false, "--1": false, "1-2": false,
		"-1+cmd()": false, "0x1": false, "-.5": false, "true": false, "[1]": false, "\"1\"": false,
	} {
		if got := isNumeric(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// A closed array of JSON is one, whatever is in it.
func TestArray(t *testing.T) {
	config := Defaults()
	config.Path, config.Content = template(t, "{{ id }}.json"), contentData
	f := formFor(t, config)
	var lines []byte
	for _, data := range []string{`{"a":1}`, `"]"`, "[\n]"} {
		lines, _ = f.append(lines, &event.Event{Data: []byte(data)})
	}
	text := string(f.place(lines, nil)) + endOf(f.id)
	var got []any
	if err := json.Unmarshal([]byte(text), &got); err != nil || len(got) != 3 || text != "[\n{\"a\":1},\n\"]\",\n[]\n]\n" {
		t.Errorf("%q: %v %v", text, got, err)
	}
}
