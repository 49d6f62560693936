package pipelines

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Options say what to load and what it may refer to.
type Options struct {
	// Path is a file, or a folder: of it all *.yaml and *.yml are read in the order of their names, without those that end in
	// _test.yaml or _test.yml or begin with a dot, and without folders in it. Diagnostics print it as it is given.
	Path string
	// Types are the components that a file may name.
	Types Types
	// Env looks up variables for ${NAME} and env("NAME"). nil: none is set.
	Env func(name string) (string, bool)
	// ReadFile reads the file of a ${file:…}. nil is os.ReadFile.
	ReadFile func(path string) ([]byte, error)
	// AllowUnset lets variables pass that are not set. The plan then names them in Unset and must not be run.
	AllowUnset bool
	// Tests reads the files of tests too: those that end in _test.yaml or _test.yml, in the folder or beside the file.
	Tests bool
}

// File is a configuration file in memory. One whose name ends in _test.yaml or _test.yml holds tests.
type File struct {
	Name   string
	Data   []byte
	Public bool // everyone on this machine can read the file
}

// Load reads and checks what o.Path names. It reports all faults at once, sorted by place. The plan is nil when there is a
// fault; warnings alone leave it whole and are in Plan.Warnings too. Nothing is opened, created or connected to.
func Load(o Options) (*Plan, []Diagnostic) {
	files, faults := readFiles(o.Path)
	if len(faults) == 0 && o.Tests {
		var tests []File
		tests, faults = readTests(o.Path)
		files = append(files, tests...)
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return Parse(files, o)
}

// Parse is Load for files in memory, in the order in which they are given. o.Path is not used.
func Parse(files []File, o Options) (*Plan, []Diagnostic) {
	l := newLoader(o)
	plan := l.load(files)
	diagnostics := l.finish()
	if Faults(diagnostics) {
		return nil, diagnostics
	}
	plan.Warnings, plan.Hide = slices.Clone(diagnostics), l.secrets.hide
	for name := range l.unset {
		plan.Unset = append(plan.Unset, name)
	}
	slices.Sort(plan.Unset)
	return plan, diagnostics
}

func readFiles(path string) ([]File, []Diagnostic) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if !info.IsDir() {
		f, faults := readFile(path)
		return []File{f}, faults
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	var files []File
	var faults []Diagnostic
	folder := strings.TrimRight(path, string(filepath.Separator)) + string(filepath.Separator)
	for _, e := range entries { // sorted by name
		name := folder + e.Name()
		if !isConfig(e.Name()) {
			continue
		}
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			continue
		}
		f, fault := readFile(name)
		files, faults = append(files, f), append(faults, fault...)
	}
	if len(files) == 0 {
		faults = append(faults, Diagnostic{Place: Place{File: path}, Code: codeUnreadable, Width: 1,
			Problem: "the folder holds no *.yaml or *.yml file", Hint: "name a file with -c, or the folder of your pipelines"})
	}
	return files, faults
}

func isConfig(name string) bool {
	base, yes := strings.CutSuffix(name, ".yaml")
	if !yes {
		base, yes = strings.CutSuffix(name, ".yml")
	}
	return yes && !strings.HasSuffix(base, "_test") && !strings.HasPrefix(name, ".")
}

// readFile reads at most a little more than a file may have, so that a huge one is refused without being read whole.
func readFile(path string) (File, []Diagnostic) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, unreadable(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return File{}, unreadable(path, err)
	}
	public := false
	if info, err := f.Stat(); err == nil {
		public = info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0
		if info.Size() > maxFile {
			return File{}, []Diagnostic{*tooLarge(path, info.Size())}
		}
	}
	return File{Name: path, Data: data, Public: public}, nil
}

func unreadable(path string, err error) []Diagnostic {
	hint := ""
	if errors.Is(err, fs.ErrNotExist) {
		hint = "name another file or folder with -c"
	}
	problem := "cannot read it: " + reason(err)
	return []Diagnostic{{Place: Place{File: path}, Code: codeUnreadable, Problem: problem, Hint: hint, Width: 1}}
}

// reason is an error of the file system without the path, which the message has already.
func reason(err error) string {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err.Error()
	}
	return err.Error()
}

// loader turns files into a plan. It is used once.
type loader struct {
	o           Options
	schema      *shape
	sources     []*source
	diagnostics []Diagnostic
	faults      int                // of values, so far
	bad         map[*node]bool     // values with a fault
	missed      map[missedKey]bool // keys that were reported as missing
	standIns    map[*node]bool     // values that hold a stand-in
	unset       map[string]bool    // variables that are not set
	envUnset    bool               // the expression at hand asked for one
	secrets     secrets
	secretKeys  map[string]bool // the names of all keys that hold secrets; nil until they are asked for
	claims      map[string]claim
	public      map[string]bool // files that everyone can read
	unreadable  bool            // a file was not understood, so parts of the plan are unknown
	suites      []*suite        // the pipelines as tests see them
	listen      string          // where webhooks and queues are
	memory      *Place          // of an outbox in memory; nil where there is none
}

// missedKey is a key that is missing in a map.
type missedKey struct {
	node *node
	key  string
}

func newLoader(o Options) *loader {
	return &loader{o: o, schema: schemaOf(o.Types), bad: map[*node]bool{}, missed: map[missedKey]bool{},
		standIns: map[*node]bool{}, unset: map[string]bool{}, claims: map[string]claim{}, public: map[string]bool{}}
}

// finish adds the lines to the diagnostics and sorts them.
func (l *loader) finish() []Diagnostic {
	byPath := map[string]*source{}
	for _, s := range l.sources {
		byPath[s.path] = s
	}
	for i := range l.diagnostics {
		d := &l.diagnostics[i]
		if s := byPath[d.Place.File]; s != nil && d.Place.Line > 0 {
			d.Source = s.shown(d.Place.Line)
		}
	}
	all := sortDiagnostics(l.diagnostics)
	if len(all) > maxDiagnostics {
		last := all[maxDiagnostics]
		all = append(all[:maxDiagnostics], Diagnostic{Place: Place{File: last.Place.File}, Width: 1, Code: codeLimit,
			Problem: fmt.Sprintf("more than %d faults: the rest is not shown", maxDiagnostics)})
	}
	return all
}

// maxDiagnostics is how many are told at once. Nobody reads more, and a file made to have very many must not cost much.
const maxDiagnostics = 1000

// fault reports a fault of a value: at its place, as wide as it is.
func (l *loader) fault(n *node, code, problem, hint string) {
	l.faultAt(n, n.at, n.width(), code, problem, hint)
}

// faultAt reports a fault of a value at a place within it.
func (l *loader) faultAt(n *node, at Place, width int, code, problem, hint string) {
	l.bad[n] = true
	l.faults++
	l.diagnostics = append(l.diagnostics, n.src.fault(at, width, code, problem, hint))
}

func (l *loader) warn(n *node, code, problem, hint string) {
	d := n.src.fault(n.at, n.width(), code, problem, hint)
	d.Warning = true
	l.diagnostics = append(l.diagnostics, d)
}

func (l *loader) readFile(path string) ([]byte, error) {
	if l.o.ReadFile != nil {
		return l.o.ReadFile(path)
	}
	return readSecret(path)
}

// readSecret is os.ReadFile that does not read on beyond what a file may have.
func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// load parses the files, merges them and builds the plan.
func (l *loader) load(files []File) *Plan {
	merged := &node{kind: mapNode, at: Place{Line: 1, Col: 1}}
	var tests []*node
	for _, f := range files {
		l.public[f.Name] = f.Public
		if isTests(f.Name) {
			if root := l.parse(f, testFileShape()); root != nil {
				tests = append(tests, root)
			}
			continue
		}
		root := l.parse(f, l.schema)
		if root == nil {
			l.unreadable = true
			continue
		}
		if merged.src == nil {
			merged.src, merged.at = root.src, root.at
		}
		l.merge(merged, root)
	}
	if merged.src == nil {
		if len(l.diagnostics) == 0 {
			l.diagnostics = append(l.diagnostics, Diagnostic{Code: codeEmpty, Problem: "there is no file", Width: 1})
		}
		return nil
	}
	plan := l.file(merged)
	for _, root := range tests {
		l.testFile(root)
	}
	return plan
}

// parse returns the root of a file of this shape, nil when it is not understood.
func (l *loader) parse(f File, schema *shape) *node {
	src, fault := newSource(f.Name, f.Data)
	l.sources = append(l.sources, src)
	if fault != nil {
		l.diagnostics = append(l.diagnostics, *fault)
		return nil
	}
	found := scoutFile(src, schema)
	l.diagnostics = append(l.diagnostics, found.faults...)
	if found.tabs {
		l.maskLines(src)
		return nil
	}
	root, faults := tree(src, found.text, found.skip)
	l.diagnostics = append(l.diagnostics, faults...)
	if root == nil || root.kind == skippedNode {
		l.maskLines(src)
		return nil
	}
	if len(found.faults) > 0 {
		l.maskLines(src)
	}
	if root.kind != mapNode {
		key := "pipelines:"
		if isTests(f.Name) {
			key = "tests:"
		}
		l.fault(root, codeType, "a file is a map of keys, such as "+key+", found "+root.describe(), "")
		return nil
	}
	return root
}

// merge adds the keys of a file. Pipelines come together; every other key may stand in one file only.
func (l *loader) merge(into, root *node) {
	for _, e := range root.entries {
		first, ok := into.find(e.key.text)
		switch {
		case !ok:
			if e.key.text == "pipelines" && e.value.kind == mapNode {
				all := *e.value // its entries grow with the next file
				all.entries, all.index, all.indexed = slices.Clone(all.entries), nil, 0
				e.value = &all
			}
			into.entries = append(into.entries, e)
		case e.key.text == "pipelines" && first.key.src != e.key.src && first.value.kind == mapNode && e.value.kind == mapNode:
			first.value.entries = append(first.value.entries, e.value.entries...)
		default:
			into.entries = append(into.entries, e) // reported as a key that stands twice
		}
	}
}

// maskLines hides the values of keys that hold secrets, by the look of the lines, in a file that could not be read in full.
func (l *loader) maskLines(src *source) {
	names := secretNames(l.schema, map[string]bool{})
	off := 0
	for line := range strings.SplitAfterSeq(src.text, "\n") {
		for name := range names {
			if i := secretValue(line, name); i >= 0 {
				src.maskRange(off+i, off+len(strings.TrimRight(line, "\n")))
			}
		}
		for _, at := range passwordForm.FindAllStringSubmatchIndex(line, -1) {
			src.maskRange(off+at[2], off+at[3])
		}
		off += len(line)
	}
}

// passwordForm finds a password in a URL, in text of which nothing else is known.
var passwordForm = regexp.MustCompile(`://[^/\s"']*?:([^\s"']+)@`)

// secretNames collects the names of all keys that hold secrets as a whole.
func secretNames(sh *shape, into map[string]bool) map[string]bool {
	for _, f := range sh.fields {
		if f.secret && !f.password {
			into[f.name] = true
		}
		secretNames(f.shape, into)
	}
	if sh.elem != nil {
		secretNames(sh.elem, into)
	}
	return into
}

// secretValue is where the value begins that a line gives to the key, or -1.
func secretValue(line, name string) int {
	for from := 0; ; {
		i := strings.Index(line[from:], name)
		if i < 0 {
			return -1
		}
		i += from
		from = i + len(name)
		if i > 0 && isWord(line[i-1]) {
			continue
		}
		rest := strings.TrimLeft(line[from:], `"' `)
		if !strings.HasPrefix(rest, ":") {
			continue
		}
		value := strings.TrimLeft(rest[1:], " ")
		if strings.TrimSpace(value) == "" {
			return -1
		}
		return len(line) - len(value)
	}
}

func tooLarge(path string, size int64) *Diagnostic {
	return (&source{path: path}).whole(codeLimit, fmt.Sprintf("the file has %d bytes, more than 1 MiB", size),
		"split it: -c takes a folder too, whose files are read together")
}
