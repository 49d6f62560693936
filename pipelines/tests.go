package pipelines

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/millrace-run/millrace/event"
)

// Test is one test of a pipeline: what goes in, how its sinks answer meanwhile, and what must come out. It is checked: every
// name in it exists.
type Test struct {
	Name   string
	Place  Place
	Given  []Given
	Mocks  map[string]Mock // by sink; one that is not named accepts everything
	Expect Expect
}

// Given is one event as a test gives it to the source.
type Given struct {
	Place Place
	// Event holds the attributes and the data that the test names; what it does not name is zero.
	Event event.Event
	// Headers, Query and Params are of the request, for the expressions of a webhook.
	Headers, Query, Params map[string]string
}

// Mock is how a sink answers in a test. Attempts are counted for each event.
type Mock struct {
	// Fail is how many attempts fail before the sink accepts: with the Status, or without one because the sink is down.
	Fail int
	// Status is the answer to each attempt, the last one to all that follow; it has one item at most when Fail is set.
	Status []int
	// Delay is how long each answer takes.
	Delay time.Duration
}

// Expect is what a test demands. What it does not name may be anything.
type Expect struct {
	Place       Place
	Sinks       []ExpectedEvents
	Attempts    []ExpectedAttempts
	DeadLetters *ExpectedLetters // nil demands nothing
}

// ExpectedEvents are the events that a sink accepted, in the order in which they were given. Each is a map of the members that
// are compared; null stands for a member that is not there.
type ExpectedEvents struct {
	Sink   string
	Place  Place
	Events []Value
}

// ExpectedAttempts is how many attempts a sink got, for all events together.
type ExpectedAttempts struct {
	Sink  string
	Place Place
	Count int
}

// ExpectedLetters are the dead letters at the end, in the order of events and sinks; each is a map of members to compare.
type ExpectedLetters struct {
	Place   Place
	Letters []Value
}

// isTests says whether a file holds tests, by its name.
func isTests(name string) bool {
	return strings.HasSuffix(name, "_test.yaml") || strings.HasSuffix(name, "_test.yml")
}

// TestFiles are the files of tests that belong to a configuration: those in the folder, or beside the file. They are sorted.
func TestFiles(path string) []string {
	folder, prefix := filepath.Dir(path), strings.TrimSuffix(path, filepath.Base(path))
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		folder, prefix = path, strings.TrimRight(path, string(filepath.Separator))+string(filepath.Separator)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil // the file itself could be read: then this folder only hides what else it holds
	}
	var names []string
	for _, e := range entries {
		if isTests(e.Name()) && !strings.HasPrefix(e.Name(), ".") && !e.IsDir() {
			names = append(names, prefix+e.Name())
		}
	}
	return names
}

// ConfigFiles are the files of a configuration without those of tests: the file, or those in the folder.
func ConfigFiles(path string) []string {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if isConfig(e.Name()) && !e.IsDir() {
			names = append(names, filepath.Join(path, e.Name()))
		}
	}
	return names
}

func readTests(path string) (files []File, faults []Diagnostic) {
	for _, name := range TestFiles(path) {
		f, fault := readFile(name)
		files, faults = append(files, f), append(faults, fault...)
	}
	return files, faults
}

// testFile reads a file of tests, whose pipelines are known by now.
func (l *loader) testFile(root *node) {
	s := &section{title: "the file", node: root, shape: testFileShape()}
	l.checkKeys(s)
	e, ok := root.find("tests")
	if !ok {
		l.missing(s, &s.shape.fields[0])
		return
	}
	list, _ := s.shape.field("tests")
	for i, n := range l.listOf(e, "a test") {
		t := &section{title: fmt.Sprintf("test %d", i+1), node: n, shape: list.shape.elem, up: s}
		var keys fileTestKeys
		if !l.fill(t, reflect.ValueOf(&keys).Elem()) {
			continue
		}
		if suite := l.suiteOf(t, keys.Pipeline); suite != nil {
			suite.test(t, testKeys{Name: keys.Name, Given: keys.Given, Mock: keys.Mock, Expect: keys.Expect})
		}
	}
}

// suiteOf is the suite of the pipeline that a test names; nil after a fault.
func (l *loader) suiteOf(t *section, pipeline string) *suite {
	e, ok := t.node.find("pipeline")
	if !ok || l.anyBad(e.value) {
		return nil
	}
	var names []string
	for _, suite := range l.suites {
		if suite.section.key.text == pipeline {
			return suite
		}
		names = append(names, suite.section.key.text)
	}
	if !l.unreadable && !l.standIns[e.value] {
		l.fault(e.value, codeNoSuch, fmt.Sprintf("there is no pipeline %s", l.secrets.hide(quote(pipeline))), suggest(pipeline, names))
	}
	return nil
}

// listOf are the items of a list; anything else is a fault.
func (l *loader) listOf(e entry, item string) []*node {
	switch n := e.value; {
	case n.kind == listNode:
		return n.items
	case n.kind == skippedNode:
	default:
		l.fault(n, codeType, e.key.text+": expected a list, found "+n.describe(), "begin each item, "+item+", with '- '")
	}
	return nil
}

// suite is a pipeline as its tests see it: what they may name.
type suite struct {
	l        *loader
	section  *section
	pipeline *Pipeline
	sinks    []string
	stages   []string // nil when they are not all known
	names    map[string]Place
}

// suite notes a pipeline for the tests that are still to come. The names of sinks are those of the file, because one with a fault
// is not in the plan.
func (l *loader) suite(s *section, p *Pipeline) *suite {
	u := &suite{l: l, section: s, pipeline: p, names: map[string]Place{}}
	if sinks := s.node.below("sinks"); sinks != nil {
		for _, e := range sinks.entries {
			u.sinks = append(u.sinks, e.key.text)
		}
	}
	u.stages = []string{"when"}
	for _, st := range p.Stages {
		u.stages = append(u.stages, st.Name)
	}
	if stages := s.node.below("stages"); stages != nil && len(stages.items) != len(p.Stages) {
		u.stages = nil
	}
	l.suites = append(l.suites, u)
	return u
}

// tests reads the tests that stand in the pipeline itself.
func (u *suite) tests(e entry) {
	if e.value.isNull() {
		return // all of them may be commented out
	}
	f, _ := u.section.shape.field("tests")
	for i, n := range u.l.listOf(e, "a test") {
		s := &section{title: fmt.Sprintf("test %d of %s", i+1, u.section.title), node: n, shape: f.shape.elem, up: u.section}
		var keys testKeys
		if u.l.fill(s, reflect.ValueOf(&keys).Elem()) {
			u.test(s, keys)
		}
	}
}

// test adds one test to the pipeline. One with a fault is left out; there is no plan then.
func (u *suite) test(s *section, keys testKeys) {
	t := &Test{Name: keys.Name, Place: s.node.at}
	if e, ok := s.node.find("name"); ok && !u.l.anyBad(e.value) {
		t.Place = e.value.at
		u.checkName(e.value, keys.Name)
		s.title = "test " + u.l.secrets.hide(quote(keys.Name))
	}
	if e, ok := s.node.find("given"); ok {
		t.Given = u.given(s, e)
	}
	if e, ok := s.node.find("mock"); ok {
		t.Mocks = u.mocks(s, e)
	}
	if e, ok := s.node.find("expect"); ok {
		t.Expect = u.expect(s, e)
	}
	u.pipeline.Tests = append(u.pipeline.Tests, t)
}

func (u *suite) checkName(n *node, name string) {
	if strings.TrimSpace(name) == "" {
		u.l.fault(n, codeValue, "name: expected what the test shows, found nothing", "")
		return
	}
	if first, taken := u.names[name]; taken {
		u.l.fault(n, codeTwice, fmt.Sprintf("two tests of %s have the name %s, the first at %s", u.section.title,
			u.l.secrets.hide(quote(name)), first), "give one of them another name")
		return
	}
	u.names[name] = n.at
}

// sink says whether the pipeline has a sink; if not, that is a fault.
func (u *suite) sink(n *node, name, title string) bool {
	if slices.Contains(u.sinks, name) {
		return true
	}
	u.l.fault(n, codeNoSuch, fmt.Sprintf("%s has no sink %s, which %s names", u.section.title, u.l.secrets.hide(quote(name)), title),
		suggest(name, u.sinks))
	return false
}

// mocks reads how sinks answer.
func (u *suite) mocks(test *section, e entry) map[string]Mock {
	n := e.value
	title := "mock of " + test.title
	if n.kind == skippedNode || n.isNull() {
		return nil
	}
	if n.kind != mapNode {
		u.l.fault(n, codeType, title+": expected a map of sinks, found "+n.describe(), suggest("", u.sinks))
		return nil
	}
	f, _ := test.shape.field("mock")
	mocks := map[string]Mock{}
	for _, e := range n.entries {
		if u.l.repeated(n, e, title) || !u.sink(e.key, e.key.text, title) {
			continue
		}
		s := &section{title: "mock of sink " + quote(e.key.text), key: e.key, node: e.value, shape: f.shape.elem, up: test}
		mocks[e.key.text] = u.mock(s)
	}
	return mocks
}

func (u *suite) mock(s *section) Mock {
	var keys mockKeys
	if !u.l.fill(s, reflect.ValueOf(&keys).Elem()) {
		return Mock{}
	}
	m := Mock{Fail: keys.Fail, Delay: keys.Delay}
	e, ok := s.node.find("status")
	if !ok {
		return m
	}
	if i := slices.IndexFunc(u.pipeline.Sinks, func(k *Sink) bool { return k.Name == s.key.text }); i >= 0 {
		if sink := u.pipeline.Sinks[i]; sink.Verdict == nil {
			u.l.fault(e.key, codeNotHere, fmt.Sprintf("the answers of a sink of type %s have no status", sink.Type), "use fail")
			return m
		}
	}
	m.Status = u.statuses(e.value)
	if _, failing := s.node.find("fail"); failing && len(m.Status) > 1 {
		problem := "status is a list, which says for each attempt what happens: fail has no effect"
		u.l.fault(e.key, codeNotHere, problem, "remove one of the two")
	}
	return m
}

// statuses reads a status or a list of them.
func (u *suite) statuses(n *node) []int {
	items := []*node{n}
	switch {
	case n.kind == skippedNode:
		return nil
	case n.kind == listNode && len(n.items) == 0:
		u.l.fault(n, codeType, "status: expected at least one, found an empty list", "")
		return nil
	case n.kind == listNode:
		items = n.items
	}
	f := &field{name: "status", shape: &shape{kind: intKind}, min: "100", max: "599"}
	statuses := make([]int, len(items))
	for i, it := range items {
		u.l.decodeScalar(it, f, reflect.ValueOf(&statuses[i]).Elem())
	}
	return statuses
}
