package outbox

import (
	"cmp"
	"context"
	"database/sql/driver"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/millrace-run/millrace/event"
)

// Condition is how a check found a file.
type Condition struct {
	ID      string   `json:"id"`      // of the file, in hex
	Schema  int64    `json:"schema"`  // version
	Commits int64    `json:"commits"` // number of the last commit
	Events  int64    `json:"events"`  // those that can be read
	Bytes   int64    `json:"bytes"`   // of the pages
	Damages []Damage `json:"damages"`
}

// Count says how many damages there are.
func (r *Condition) Count() string {
	if len(r.Damages) == 1 {
		return "1 damage"
	}
	return fmt.Sprintf("%d damages", len(r.Damages))
}

// Damage is something in a file that does not say what was written to it.
type Damage struct {
	Table string `json:"table"`
	Topic string `json:"topic"` // empty when it is of no topic
	From  int64  `json:"from"`  // offsets of the events, 0 when it is of no event
	To    int64  `json:"to"`
	Rows  int64  `json:"rows"` // rows of the table that are lost with it, as far as they could be counted
	What  string `json:"what"`
}

// Error says all of it in a line.
func (d *Damage) Error() string {
	s := d.Table
	if d.Topic != "" {
		s += ", topic " + d.Topic
	}
	switch {
	case d.From > 0 && d.From == d.To:
		s += fmt.Sprintf(", event %d", d.From)
	case d.From > 0:
		s += fmt.Sprintf(", events %d to %d", d.From, d.To)
	}
	return s + ": " + d.What
}

// How a file that is checked is opened: with its WAL under the outbox's lock, or as one that nobody writes to, such as a backup.
const (
	locked = "ro"
	still  = "ro&immutable=1"
)

// Check looks for damage in the file of an outbox that nobody has open. It changes nothing, whatever the schema. A *LockedError
// names the process that has it. An error is of what cannot be checked, such as a file that is no outbox.
func Check(ctx context.Context, path string) (*Condition, error) {
	return checkLocked(ctx, path, nil)
}

func checkLocked(ctx context.Context, path string, keep *keeper) (*Condition, error) {
	path, held, err := hold(path)
	if err != nil {
		return nil, err
	}
	defer held.Close()
	return check(ctx, path, locked, keep)
}

// check reads everything once. keep gets what is sound, when it is not nil.
func check(ctx context.Context, path, mode string, keep *keeper) (_ *Condition, err error) {
	s := &scan{
		ctx: ctx, keep: keep, report: &Condition{Damages: []Damage{}},
		topics: map[int64]*topicScan{}, subscriptions: map[int64]*subscriptionScan{}, bodies: map[place2]bool{}, roots: map[int64]string{},
	}
	if mode == locked {
		s.marked = path
	}
	err = s.run(path, mode)
	if s.conn != nil {
		err = errors.Join(err, s.conn.close())
	}
	return s.report, err
}

// open opens a file that can be checked. SQLite refuses one whose end is cut off, and one whose first page, with the list of tables, is
// damaged. What there is of those is read from a copy that is mended: first of its length, then with the first page of a new outbox.
func (s *scan) open(path, mode string) (ok bool, err error) {
	for _, mend := range []func(*os.File) error{nil, mendLength, mendFirst} {
		at := path
		if mend != nil {
			if at, err = mended(path, mend); err != nil {
				return false, err
			}
			defer func() { err = errors.Join(err, removeAll(at)) }() // SQLite has it open
		}
		s.conn, err = openConn(at, mode)
		if err == nil {
			err = s.head(path)
		}
		if err == nil || !broken(err) {
			return err == nil, err
		}
		if mend == nil {
			s.damage(Damage{Table: "file", What: fmt.Sprintf("its first page, or its length, is not as it was written (%v)", err)})
		}
		if s.conn != nil {
			_ = s.conn.close() // it was of no use
			s.conn = nil
		}
	}
	return false, nil
}

// mended makes a copy of a file beside it and mends that.
func mended(path string, mend func(*os.File) error) (_ string, err error) {
	from, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer from.Close()
	to, err := os.CreateTemp(folder(path), filepath.Base(path)+".checking-*")
	if err != nil {
		return "", err
	}
	_, err = io.Copy(to, from)
	if err == nil {
		err = mend(to)
	}
	if err == nil {
		err = copyLog(path, to.Name())
	}
	if err = errors.Join(err, to.Close()); err != nil {
		err = errors.Join(err, os.Remove(to.Name()))
	}
	return to.Name(), err
}

// copyLog gives a copy the WAL of its original, if that has one.
func copyLog(path, to string) error {
	wal, err := os.ReadFile(path + "-wal") // at most a few times checkpointGate
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(wal) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(to+"-wal", wal, 0o600)
}

const (
	headPages   = 28 // where the first page has the number of pages,
	headFree    = 32 // the free ones, 8 bytes,
	headChanges = 24 // and a counter that is here
	headValid   = 92 // and here
)

// mendLength fills up with zeros what a file lacks of the length that its first page says.
func mendLength(f *os.File) error {
	var pages [4]byte
	if _, err := f.ReadAt(pages[:], headPages); err != nil {
		return nil //nolint:nilerr // one that has not even that is not to be mended so
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	const sparse = 1 << 40 // a number that is damaged itself shall not make a file that no disk has
	if want := int64(binary.BigEndian.Uint32(pages[:])) * pageSize; want > info.Size() && want < sparse {
		return f.Truncate(want)
	}
	return nil
}

// mendFirst gives a file the first page of a new outbox. Its tables lie where those of every outbox do that was new in this schema.
func mendFirst(f *os.File) (err error) {
	model := f.Name() + ".model"
	c, err := openFile(model)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeAll(model)) }()
	if err := c.close(); err != nil {
		return err
	}
	file, err := os.Open(model)
	if err != nil {
		return err
	}
	defer file.Close()
	page := make([]byte, pageSize)
	if _, err := io.ReadFull(file, page); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(page[headPages:], uint32(info.Size()/pageSize))
	clear(page[headFree : headFree+8])
	copy(page[headValid:headValid+4], page[headChanges:])
	_, err = f.WriteAt(page, 0)
	return err
}

// broken says whether an error is of what is in the file, or of a disk that cannot read it.
func broken(err error) bool {
	var e sqlite3.Error
	return errors.Is(err, errDamaged) || errors.As(err, &e) &&
		(e.Code == sqlite3.ErrCorrupt || e.Code == sqlite3.ErrNotADB || e.Code == sqlite3.ErrIoErr || e.Code == sqlite3.ErrError)
}

// scan is one reading of a file.
type scan struct {
	ctx    context.Context
	conn   *conn
	report *Condition
	keep   *keeper
	marked string // the path of an outbox, whose mark is beside it; empty: the file has none

	roots         map[int64]string // tables and indexes by the root page
	topics        map[int64]*topicScan
	subscriptions map[int64]*subscriptionScan
	bodies        map[place2]bool // events that are there though their segments have gone
}

// place2 is an event.
type place2 struct{ topic, offset int64 }

func (s *scan) damage(d Damage) {
	if n := len(s.report.Damages); n > 0 { // what lies side by side is one
		last := &s.report.Damages[n-1]
		if last.Table == d.Table && last.Topic == d.Topic && last.What == d.What && (d.From == 0 || last.To+1 == d.From || last.To == d.From) {
			last.To, last.Rows = d.To, last.Rows+d.Rows
			return
		}
	}
	s.report.Damages = append(s.report.Damages, d)
}

func (s *scan) run(path, mode string) error {
	if ok, err := s.open(path, mode); err != nil || !ok {
		return err
	}
	if err := s.keep.begin(s.report.Schema); err != nil {
		return err
	}
	steps := []func() error{
		s.identity, s.readTopics, s.segments, s.rescued, s.readSubscriptions, s.lostEnds, s.deliveries, s.keyed("states", "owner, key"), s.losses,
		s.keyed("secrets", "name"), s.others, s.structure,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("outbox %s: %w", path, err)
		}
	}
	return nil
}

// head reads what tells whether the file can be checked at all.
func (s *scan) head(path string) error {
	clear(s.roots)
	app, err := s.conn.integer("PRAGMA application_id")
	if err == nil {
		s.report.Schema, err = s.conn.integer("PRAGMA user_version")
	}
	if err == nil {
		err = s.conn.each("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0", func(columns []driver.Value) error {
			root, _ := columns[1].(int64)
			s.roots[root], _ = columns[0].(string)
			return nil
		})
	}
	switch {
	case err != nil:
		return err
	case app != applicationID:
		return fmt.Errorf("%s is a database, but not an outbox", path)
	case s.report.Schema > schemaVersion || s.report.Schema < 1:
		return fmt.Errorf("outbox %s has schema %d, this program knows 1 to %d: use the version that wrote it", path, s.report.Schema, schemaVersion)
	}
	s.missing()
	for _, pragma := range []string{"cell_size_check = ON", "query_only = ON"} {
		if err := s.conn.exec("PRAGMA " + pragma); err != nil {
			return err
		}
	}
	pages, err := s.conn.integer("PRAGMA page_count")
	s.report.Bytes = pages * pageSize
	return err
}

// missing tells of tables that the list of tables lacks. Indexes are made anew from them.
func (s *scan) missing() {
	names := []string{"file", "topics", "segments", "subscriptions", "deliveries", "states"}
	if s.report.Schema > 1 {
		names = append(names, "keys", "secrets", "receipts", "bodies", "ids", "id_blocks")
	}
	there := map[string]bool{}
	for _, name := range s.roots {
		there[name] = true
	}
	for _, name := range names {
		if !there[name] {
			s.damage(Damage{Table: name, What: "the table is not in the file's list of tables, so that none of its rows can be read"})
		}
	}
}

func (s *scan) identity() error {
	id, commits, err := identity(s.conn)
	if err != nil {
		s.damage(Damage{Table: "file", Rows: 1, What: fmt.Sprintf("the id and the number of the last commit cannot be read (%v)", err)})
		return nil
	}
	s.report.ID, s.report.Commits = hex.EncodeToString(id), commits
	if s.marked == "" {
		return nil
	}
	seen, err := readMark(s.marked, id)
	if err == nil && seen > commits {
		s.damage(Damage{Table: "file", What: fmt.Sprintf("it lacks commits: it is at %d, and %s.mark has seen %d", commits, s.marked, seen)})
	}
	return err
}

// row is a row by the names of its columns.
type rowScan struct {
	table   string
	names   []string
	columns []driver.Value
}

func (r *rowScan) value(name string) driver.Value {
	if i := slices.Index(r.names, name); i >= 0 {
		return r.columns[i]
	}
	return nil
}

func (r *rowScan) integer(name string) int64 {
	n, _ := r.value(name).(int64)
	return n
}

func (r *rowScan) text(name string) string {
	t, _ := r.value(name).(string)
	return t
}

func (r *rowScan) blob(name string) []byte {
	b, _ := r.value(name).([]byte)
	return b
}

// columnsOf are the names of a table's columns, none if this schema has no such table.
func (s *scan) columnsOf(table string) (names []string, err error) {
	err = s.conn.each("SELECT name FROM pragma_table_info(?)", func(columns []driver.Value) error {
		name, _ := columns[0].(string)
		names = append(names, name)
		return nil
	}, table)
	return names, err
}

// rows hands out every row of a table that can be read, by ascending id, and jumps over pages that cannot. bad hears of a row that is
// there and cannot be read whole; it may be nil.
func (s *scan) rows(table string, row func(*rowScan) error, bad func(id int64, why error)) error {
	names, err := s.columnsOf(table)
	if err != nil || len(names) == 0 {
		return err
	}
	r := &rowScan{table: table, names: names}
	query := "SELECT " + strings.Join(names, ", ") + " FROM " + table + " NOT INDEXED WHERE id > ? ORDER BY id"
	for at := int64(math.MinInt64); ; {
		err := s.conn.each(query, func(columns []driver.Value) error {
			id, ok := columns[0].(int64)
			if !ok || id <= at {
				return fmt.Errorf("%w: its ids do not ascend", errDamaged)
			}
			at, r.columns = id, columns
			return errors.Join(row(r), s.ctx.Err())
		}, at)
		if err == nil || !broken(err) {
			return err
		}
		id, found, fault := s.nextID(table, at)
		switch {
		case fault == nil && found: // its page is sound, what it continues on is not
			if at = id; bad != nil {
				bad(id, err)
			} else {
				s.damage(Damage{Table: table, Rows: 1, What: "rows cannot be read to their end"})
			}
		case fault == nil:
			return nil
		default:
			next, found := s.beyond(table, at)
			s.damage(Damage{Table: table, What: lostRows(at, next, found)})
			if !found {
				return nil
			}
			at = next - 1
		}
	}
}

func lostRows(at, next int64, found bool) string {
	from := strconv.FormatInt(max(at, 0)+1, 10)
	if !found {
		return "a page is damaged, so that no row from " + from + " on can be read"
	}
	return fmt.Sprintf("a page is damaged, so that rows %s to %d cannot be read", from, next-1)
}

// nextID looks for the next row after an id, without reading it whole.
func (s *scan) nextID(table string, at int64) (id int64, found bool, err error) {
	err = s.conn.each("SELECT id FROM "+table+" NOT INDEXED WHERE id > ? ORDER BY id LIMIT 1", func(columns []driver.Value) error {
		id, found = columns[0].(int64)
		if !found || id <= at {
			return errDamaged
		}
		return nil
	}, at)
	return id, found, err
}

// beyond looks for the first row behind what cannot be read after an id: at each of the next ids, since pages are small, and then in
// steps that double, of which it halves the last.
func (s *scan) beyond(table string, at int64) (next int64, found bool) {
	const each = 512
	at = max(at, 0)
	for n, step := 0, int64(1); at < math.MaxInt64-step && s.ctx.Err() == nil; n++ {
		id, found, err := s.nextID(table, at+step)
		if err != nil {
			if at += step; n > each && step < math.MaxInt64/4 {
				step *= 2
			}
			continue
		}
		for low, high := at, at+step; high-low > 1; {
			middle := low + (high-low)/2
			if better, ok, err := s.nextID(table, middle); err != nil {
				low = middle
			} else {
				id, found, high = better, ok, middle
			}
		}
		return id, found
	}
	return 0, false
}

// witness asks a unique index for the row of a key. ok is false when the index itself cannot be read.
func (s *scan) witness(query string, args ...driver.Value) (id int64, ok bool) {
	id, err := s.conn.integer(query, args...)
	return id, err == nil
}

func (s *scan) readTopics() error {
	return s.rows("topics", func(r *rowScan) error {
		t := &topicScan{id: r.integer("id"), name: r.text("name"), purged: r.integer("purged"), freed: r.integer("freed")}
		id, ok := s.witness("SELECT id FROM topics INDEXED BY sqlite_autoindex_topics_1 WHERE name = ?", t.name)
		if ok && id != t.id || t.name == "" || t.purged < 0 {
			s.damage(Damage{Table: "topics", Topic: t.name, Rows: 1, What: fmt.Sprintf("row %d and its index entry differ", t.id)})
			return nil
		}
		s.topics[t.id] = t
		return s.kept(r)
	}, nil)
}

// subscriptionScan is a subscription whose row is sound.
type subscriptionScan struct {
	name   string
	topic  *topicScan
	cursor cursor
}

func (s *scan) readSubscriptions() error {
	return s.rows("subscriptions", func(r *rowScan) error {
		x := &subscriptionScan{name: r.text("name"), topic: s.topics[r.integer("topic")]}
		const byName = "SELECT id FROM subscriptions INDEXED BY sqlite_autoindex_subscriptions_1 WHERE name = ?"
		id, ok := s.witness(byName, x.name)
		x.cursor.at = event.Offset(r.integer("cursor"))
		why := ""
		switch {
		case ok && id != r.integer("id") || x.name == "":
			why = "its row and its index entry differ"
		case x.topic == nil:
			why = "its topic is lost"
		case x.cursor.setAhead(r.blob("ahead")) != nil || x.cursor.setGaps(r.blob("gaps")) != nil || x.cursor.at < 0:
			why = "how far it has come cannot be read"
		}
		if why != "" {
			why = fmt.Sprintf("subscription %q: %s; what was pending for it is not delivered", x.name, why)
			s.damage(Damage{Table: "subscriptions", Rows: 1, What: why})
			return nil
		}
		x.topic.reached = max(x.topic.reached, int64(x.cursor.at))
		s.subscriptions[r.integer("id")] = x
		if err := s.keep.subscription(r, x); !errors.Is(err, errImpossible) {
			return err
		}
		s.damage(Damage{Table: "subscriptions", Rows: 1, What: "rows have what they cannot have"})
		return nil
	}, nil)
}

func (s *scan) rescued() error {
	return s.rows("bodies", func(r *rowScan) error {
		p := place2{r.integer("topic"), r.integer("offset")}
		id, ok := s.witness("SELECT id FROM bodies INDEXED BY bodies_by_place WHERE topic = ? AND offset = ?", p.topic, p.offset)
		t := s.topics[p.topic]
		_, err := decodeSegment(r.blob("body"), event.Offset(p.offset), 1)
		if t == nil || err != nil || ok && id != r.integer("id") || p.offset < 1 || p.offset > t.purged {
			s.damage(Damage{
				Table: "bodies", Topic: t.label(p.topic), From: p.offset, To: p.offset, Rows: 1,
				What: "the event of a delivery that waits or is dead cannot be read",
			})
			return nil
		}
		s.report.Events++
		s.bodies[p] = true
		return s.kept(r)
	}, nil)
}

func (s *scan) deliveries() error {
	return s.rows("deliveries", func(r *rowScan) error {
		sub, o := r.integer("subscription"), r.integer("offset")
		x := s.subscriptions[sub]
		id, ok := s.witness("SELECT id FROM deliveries INDEXED BY deliveries_by_place WHERE subscription = ? AND offset = ?", sub, o)
		d := Damage{Table: "deliveries", From: o, To: o, Rows: 1}
		switch {
		case x == nil:
			d.From, d.To, d.What = 0, 0, "rows are of no subscription that is known"
		case ok && id != r.integer("id"):
			d.Topic, d.What = x.topic.name, fmt.Sprintf("a row of %s and its index entry differ", x.name)
		case !s.has(x.topic, o):
			d.Topic, d.What = x.topic.name, fmt.Sprintf("rows of %s have lost their events", x.name)
		default:
			return s.kept(r)
		}
		s.damage(d)
		return nil
	}, nil)
}

// has says whether an event can be read.
func (s *scan) has(t *topicScan, o int64) bool { return t.has(o) || s.bodies[place2{t.id, o}] }

// keyed reads a table without row ids: from its beginning, and if a page is damaged from its end.
func (s *scan) keyed(table, key string) func() error {
	return func() error {
		names, err := s.columnsOf(table)
		if err != nil || len(names) == 0 {
			return err
		}
		r := &rowScan{table: table, names: names}
		read := func(order string) error {
			return s.conn.each("SELECT "+strings.Join(names, ", ")+" FROM "+table+" ORDER BY "+order, func(columns []driver.Value) error {
				r.columns = columns
				return errors.Join(s.kept(r), s.ctx.Err())
			})
		}
		if err = read(key); broken(err) {
			s.damage(Damage{Table: table, What: "a page is damaged, so that some rows cannot be read; whose they are begins anew"})
			err = read(strings.ReplaceAll(key, ", ", " DESC, ") + " DESC")
		}
		if broken(err) {
			return nil
		}
		return err
	}
}

// kept keeps a row, unless it has what no row of its table can have.
func (s *scan) kept(r *rowScan) error {
	err := s.keep.add(r)
	if errors.Is(err, errImpossible) {
		s.damage(Damage{Table: r.table, Rows: 1, What: "rows have what they cannot have"})
		return nil
	}
	return err
}

// losses is after the states are read, which may have those of an earlier repair.
func (s *scan) losses() error {
	for _, t := range s.topics {
		if err := s.keep.losses(t); err != nil {
			return err
		}
	}
	return nil
}

// others reads what can be done without.
func (s *scan) others() error {
	err := s.rows("keys", func(r *rowScan) error {
		set := event.NewKeySet(event.Dedupe{MaxKeys: math.MaxInt32, Window: math.MaxInt64}, event.SystemClock{}.Now())
		t := s.topics[r.integer("topic")]
		if _, err := decodeKeys(r.blob("body"), set); err != nil || t == nil {
			s.damage(Damage{
				Table: "keys", Topic: t.label(r.integer("topic")), Rows: 1, What: "keys of duplicates are lost: what comes again may be taken twice",
			})
			return nil
		}
		return s.kept(r)
	}, nil)
	if err != nil {
		return err
	}
	err = s.rows("receipts", func(r *rowScan) error {
		sub := s.subscriptions[r.integer("subscription")]
		if !soundReceipts(r.integer("subscription"), r.integer("at"), r.value("low"), r.value("high"), r.blob("body")) {
			s.damage(Damage{Table: "receipts", Rows: 1, What: "receipts of deliveries are lost"})
			return nil
		}
		if sub != nil && r.integer("high") > sub.topic.end {
			return nil // of events that are lost, whose offsets are used again
		}
		return s.kept(r)
	}, nil)
	if err != nil {
		return err
	}
	x := &ids{}
	if x.key, err = secret(s.conn, "ids"); err != nil && !broken(err) {
		return err
	}
	return s.rows("ids", func(r *rowScan) error {
		if err == nil && !x.sound(r.integer("id"), r.blob("body")) {
			s.damage(Damage{Table: "ids", Rows: 1, What: "parts of the index of ids do not say what was written; it is made again"})
		}
		return nil
	}, nil)
}

var treePage = regexp.MustCompile(`^Tree (\d+) page (\d+)`)

// structure has SQLite look at every page, which finds what no reading of rows comes to, such as a damaged index.
func (s *scan) structure() error {
	names := make([]string, 0, len(s.roots))
	for _, name := range s.roots {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	err := s.conn.each("PRAGMA integrity_check(100)", func(columns []driver.Value) error {
		text, _ := columns[0].(string)
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "ok" && !strings.HasPrefix(line, "***") {
				s.damage(s.ofPages(line, names))
			}
		}
		return s.ctx.Err()
	})
	if broken(err) {
		s.damage(Damage{Table: "file", What: fmt.Sprintf("pages are damaged (%v)", err)})
		return nil
	}
	return err
}

// ofPages puts a line of SQLite's check to the table that it is of.
func (s *scan) ofPages(line string, names []string) Damage {
	if m := treePage.FindStringSubmatch(line); m != nil {
		root, _ := strconv.ParseInt(m[1], 10, 64)
		return Damage{Table: cmp.Or(s.roots[root], "file"), What: fmt.Sprintf("page %s is damaged (%s)", m[2], line)}
	}
	for _, name := range names { // the longest first: names of indexes begin with those of their tables
		if strings.Contains(line, name) {
			return Damage{Table: name, What: line}
		}
	}
	return Damage{Table: "file", What: line}
}
