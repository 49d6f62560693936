package outbox

import (
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/millrace-run/millrace/event"
)

// The keys of a topic are in memory, and in rows of the table keys, which are what a start loads. The events that they are of may
// be gone long since: a row lives until the last of its keys is over or forgotten. The commit that appends an event also writes its
// key, into the row that is open: one that the next key would make longer than a page, or in which the first key is old already, is
// left as it is, and a new one begun. So a commit changes one page, whatever the number of keys. Rows that are over are deleted a
// few at a time, along with other commits.
//
// The format of a body, version 1. Integers are varints:
//
//	byte     version, 1
//	keys     each: 16 bytes of hash, milliseconds of the set's own time (see event.KeySet) since the key before (of the first:
//	         all), then 0 for nothing more, 1 and the 8 bytes of its mark, or the length of an id plus 2 and the id
//	4 bytes  CRC-32C of all before, big endian
//
// With the time of its last key and the moment at which it was written, a row says what the set's own time was then.
const (
	keysVersion  = 1
	keysRow      = 8000 // bytes of a body that just fit into a page
	keysBuckets  = 16   // a row is closed when its first key is older than this part of the window
	keysTrim     = 4096 // keys that are over and forgotten after one commit, at most
	keysFreed    = 2    // rows that are deleted in one commit, beside twice as many as it begins
	keysOrphaned = 30 * 24 * time.Hour
)

// dedupe is what the writer knows of the keys of a topic. Others read the settings only, which do not change.
type dedupe struct {
	event.Dedupe
	owner *topic // whose keys they are; others may share them
	set   *event.KeySet
	rows  []keyRow // all that hold keys, oldest first; of the open one the end is in open
	open  openRow
	// early is how many keys were forgotten before their time and no commit has told yet.
	early int
}

// keyRow is a row of the table. end is the number after its last key.
type keyRow struct {
	id  int64
	end uint64
}

// openRow is the row that takes more keys; none when its body is empty.
type openRow struct {
	keyRow
	body        []byte // without its checksum
	first, last int64  // times of its keys
}

// keys are those of one append.
type keys struct {
	hashes []event.KeyHash
	mark   uint64
	sameID bool
	set    *event.KeySet // that they were added to, beginning with number from; nil: to none. Of the writer.
	from   uint64
}

// keyed is what a commit does to the keys of one topic, and of those that share them.
type keyed struct {
	dedupe *dedupe
	from   uint64 // the first key of this commit
	open   openRow
	rows   []keyRow // that it begins
	// extended is the number after the last key that it adds to the row that was open; 0 if it adds none.
	extended uint64
	account  *event.Appended // of a member, to tell how many keys were forgotten early
}

// loadSecret reads what makes the hashes of this file its own.
func (b *Outbox) loadSecret(c *conn) error {
	var err error
	if b.secret, err = secret(c, "keys"); err == nil && len(b.secret) == 0 {
		err = errors.New("the file has no secret for its keys")
	}
	return err
}

// hashKeys prepares the keys of an append, in the goroutine of its caller.
func (b *Outbox) hashKeys(r *request, t *topic, a *event.Append) error {
	d := t.dedupe.Load()
	if d == nil {
		return fmt.Errorf("topic %q does not leave out duplicates, it takes no keys", t.name)
	}
	if len(a.Keys) != len(a.Events) {
		return fmt.Errorf("%d keys for %d events of topic %q", len(a.Keys), len(a.Events), t.name)
	}
	k := keys{hashes: make([]event.KeyHash, len(a.Keys)), sameID: d.SameID}
	for i, key := range a.Keys {
		if key != "" {
			k.hashes[i] = event.HashKey(b.secret, d.Name, key)
		}
	}
	if a.Body != nil && d.SameID {
		k.mark = event.HashBody(b.secret, a.Body)
	}
	for len(r.keys) < len(r.topics)-1 {
		r.keys = append(r.keys, keys{})
	}
	r.keys = append(r.keys, k)
	return nil
}

// decide finds the duplicates of a request. On an error nothing of it is remembered.
func (p *plan) decide(r *request, clock event.Clock) error {
	for i := range r.keys {
		k := &r.keys[i]
		r.appended[i], k.set = event.Appended{}, nil
		d := r.topics[i].dedupe.Load()
		if k.hashes == nil || d == nil { // a Configure that came between may have switched it off
			continue
		}
		change := p.keysOf(d, clock)
		_, k.from = d.set.Bounds()
		duplicates, err := d.set.Decide(&r.commit.Appends[i], k.hashes, k.mark, k.sameID)
		if err != nil {
			r.undecide(i)
			return err
		}
		k.set, r.appended[i].Duplicates, change.account = d.set, duplicates, &r.appended[i]
	}
	return nil
}

// undecide takes back the keys of the first n appends.
func (r *request) undecide(n int) {
	for _, k := range slices.Backward(r.keys[:n]) {
		if k.set != nil {
			k.set.Truncate(k.from)
		}
	}
}

func (p *plan) keysOf(d *dedupe, clock event.Clock) *keyed {
	for _, k := range p.keyed {
		if k.dedupe == d {
			return k
		}
	}
	d.set.Tick(clock.Now())
	_, next := d.set.Bounds()
	k := &keyed{dedupe: d, from: next}
	p.keyed = append(p.keyed, k)
	return k
}

// forget takes back the keys of a commit that failed.
func (p *plan) forget() {
	for _, k := range p.keyed {
		k.dedupe.set.Truncate(k.from)
	}
}

// applyKeys writes the keys of a commit and deletes some rows that are over. A commit that the reserve makes room for deletes none:
// that would take room first.
func (w *writer) applyKeys(p *plan) error {
	begun := 0
	for _, k := range p.keyed {
		if err := w.applyKeyed(k); err != nil {
			return err
		}
		begun += len(k.rows)
	}
	if w.tight() {
		return nil
	}
	for p.freed < min(len(w.doomed), keysFreed+2*begun) {
		if err := w.conn.exec("DELETE FROM keys WHERE id = ?", w.doomed[p.freed]); err != nil {
			return err
		}
		p.freed++
		w.written += pageSize
	}
	return nil
}

func (w *writer) applyKeyed(k *keyed) error {
	d := k.dedupe
	k.open = d.open
	bucket := max(1, d.Window.Milliseconds()/keysBuckets)
	changed := false
	for n, key := range d.set.From(k.from) {
		if o := &k.open; len(o.body) == 0 || len(o.body)+keySize(key) > keysRow || key.At-o.first >= bucket {
			if changed {
				if err := w.applyKeyRow(k); err != nil {
					return err
				}
			}
			w.keyRow++
			k.open = openRow{keyRow: keyRow{id: w.keyRow}, body: append(make([]byte, 0, 256), keysVersion), first: key.At}
			k.rows = append(k.rows, k.open.keyRow)
		}
		o := &k.open
		o.body = appendKey(o.body, key, o.last)
		o.last, o.end, changed = key.At, n+1, true
		if len(k.rows) > 0 {
			k.rows[len(k.rows)-1].end = o.end
		} else {
			k.extended = o.end
		}
	}
	if !changed {
		return nil
	}
	return w.applyKeyRow(k)
}

// applyKeyRow writes the open row. What it adds behind the body lies beyond its end: a commit that fails has changed nothing.
func (w *writer) applyKeyRow(k *keyed) error {
	o := &k.open
	body := sealed(o.body)
	w.written += int64(len(body)) + pageSize
	written := w.clock.Now().UnixNano()
	if o.id == k.dedupe.open.id {
		return w.conn.exec("UPDATE keys SET written = ?, body = ? WHERE id = ?", written, body, o.id)
	}
	return w.conn.exec("INSERT INTO keys (id, topic, written, body) VALUES (?, ?, ?, ?)", o.id, k.dedupe.owner.id, written, body)
}

// sealed is a body with its checksum.
func sealed(body []byte) []byte {
	return binary.BigEndian.AppendUint32(body, crc32.Checksum(body, castagnoli))
}

// remember takes over the keys that were committed, and forgets those that are over.
func (w *writer) remember(p *plan) {
	w.doomed = w.doomed[p.freed:]
	for _, k := range p.keyed {
		d := k.dedupe
		if k.extended > 0 {
			d.rows[len(d.rows)-1].end = k.extended
		}
		d.open, d.rows = k.open, append(d.rows, k.rows...)
		d.early += d.set.Trim(keysTrim)
		if k.account != nil {
			k.account.Forgotten, d.early = d.early, 0
		}
		w.doomed = append(w.doomed, d.over()...)
	}
}

// over removes the rows of which every key is forgotten, and returns their ids.
func (d *dedupe) over() (ids []int64) {
	first, _ := d.set.Bounds()
	for len(d.rows) > 0 && d.rows[0].end <= first {
		if d.rows[0].id == d.open.id {
			d.open = openRow{}
		}
		ids = append(ids, d.rows[0].id)
		d.rows = d.rows[1:]
	}
	return ids
}

// keySize is the most that a key takes in a row.
func keySize(k event.Key) int { return len(k.Hash) + 2*binary.MaxVarintLen64 + 8 + len(k.ID) }

func appendKey(b []byte, k event.Key, last int64) []byte {
	b = binary.AppendUvarint(append(b, k.Hash[:]...), uint64(k.At-last))
	switch {
	case k.ID != "":
		return append(binary.AppendUvarint(b, uint64(len(k.ID))+2), k.ID...)
	case k.Mark != 0:
		return binary.BigEndian.AppendUint64(append(b, 1), k.Mark)
	}
	return append(b, 0)
}

// decodeKeys adds the keys of a body to the set, or none if it does not say what was written to it. last is the time of its last
// key.
func decodeKeys(body []byte, into *event.KeySet) (last int64, err error) {
	n := len(body) - 4
	if n < 1 || body[0] != keysVersion || crc32.Checksum(body[:n], castagnoli) != binary.BigEndian.Uint32(body[n:]) {
		return 0, errDamaged
	}
	_, begin := into.Bounds()
	d := decoder{bytes: body[:n], text: string(body[:n]), at: 1}
	for d.at < n && !d.bad {
		var k event.Key
		if d.at += copy(k.Hash[:], d.bytes[d.at:]); d.at >= n {
			d.bad = true
			break
		}
		last += int64(d.uvarint())
		k.At = last
		d.rest(&k)
		into.Add(k)
	}
	if d.bad {
		into.Truncate(begin)
		return 0, errDamaged
	}
	return last, nil
}

// rest reads what follows the time of a key.
func (d *decoder) rest(k *event.Key) {
	switch n := d.uvarint(); {
	case n == 0:
	case n == 1 && len(d.bytes)-d.at >= 8:
		k.Mark = binary.BigEndian.Uint64(d.bytes[d.at:])
		d.at += 8
	case n > 1 && n-2 <= uint64(len(d.bytes)-d.at):
		k.ID = d.text[d.at : d.at+int(n-2)]
		d.at += int(n - 2)
	default:
		d.bad = true
	}
}

// configureKeys takes over the settings of a layout: it loads the keys of topics whose dedupe is switched on, and deletes those of
// topics where it is switched off. The keys of a topic that is no longer named stay on disk for as long as any window may be, so
// that it can come back.
func (b *Outbox) configureKeys(c *conn, l event.Layout, topics map[string]*topic) (publish func(), err error) {
	owners, err := l.KeysOf()
	if err != nil {
		return nil, err
	}
	now := b.clock.Now()
	byID := map[int64]*loading{}
	for _, want := range l.Topics {
		t := topics[want.Name]
		byID[t.id] = &loading{topic: t, want: want.Dedupe, now: now, owner: topics[owners[t.name]]}
	}
	last := int64(0)
	var useless []int64
	err = c.each("SELECT id, topic, written, body FROM keys ORDER BY id", func(columns []driver.Value) error {
		id, _ := columns[0].(int64)
		topic, _ := columns[1].(int64)
		written, _ := columns[2].(int64)
		body, _ := columns[3].([]byte)
		last = id
		switch l := byID[topic]; {
		case l != nil && l.want != nil:
			if err := l.row(id, written, body); err != nil {
				b.log.Error("keys of a topic are lost; duplicates of their events will be taken", "topic", l.topic.name, "row", id, "err", err)
				useless = append(useless, id)
			}
		case l != nil, now.Sub(time.Unix(0, written)) > keysOrphaned:
			useless = append(useless, id)
		}
		return nil
	})
	for _, id := range useless {
		err = errors.Join(err, c.exec("DELETE FROM keys WHERE id = ?", id))
	}
	return func() { b.configuredKeys(byID, last) }, err
}

// configuredKeys takes over what was loaded. last is the last row there was.
func (b *Outbox) configuredKeys(byID map[int64]*loading, last int64) {
	w := b.writer
	w.keyRow = max(w.keyRow, last)
	for _, t := range b.topics {
		switch l := byID[t.id]; {
		case l != nil && l.want != nil:
			w.doomed = append(w.doomed, l.publish()...)
		case l == nil || l.owner == nil:
			t.dedupe.Store(nil)
		}
	}
	for _, l := range byID {
		if l.owner != nil {
			l.topic.dedupe.Store(l.owner.dedupe.Load())
		}
	}
}

// loading is a topic whose keys are configured.
type loading struct {
	topic *topic
	owner *topic // of the keys, if that is another one
	want  *event.Dedupe
	now   time.Time
	set   *event.KeySet // nil until there is a row
	rows  []keyRow
}

// keys are those of the topic's own, as far as they are in memory.
func (t *topic) keys() *dedupe {
	if d := t.dedupe.Load(); d != nil && d.owner == t {
		return d
	}
	return nil
}

// row loads a row, unless the keys of the topic are in memory.
func (l *loading) row(id, written int64, body []byte) error {
	if l.topic.keys() != nil {
		return nil
	}
	if l.set == nil {
		l.set = event.NewKeySet(*l.want, l.now)
	}
	last, err := decodeKeys(body, l.set)
	if err != nil {
		return err
	}
	_, end := l.set.Bounds()
	l.rows = append(l.rows, keyRow{id, end})
	l.set.Resume(last, time.Unix(0, written))
	return nil
}

// publish makes the settings those of the topic, and returns the rows that are no longer needed.
func (l *loading) publish() (over []int64) {
	d := &dedupe{Dedupe: *l.want, owner: l.topic, set: l.set, rows: l.rows}
	if before := l.topic.keys(); before != nil {
		d.set, d.rows, d.open, d.early = before.set, before.rows, before.open, before.early
	}
	if d.set == nil {
		d.set = event.NewKeySet(*l.want, l.now)
	}
	d.set.Resize(*l.want)
	d.set.Tick(l.now)
	first, next := d.set.Bounds()
	early := d.set.Trim(int(next - first))
	if len(l.rows) > 0 { // those of the first row may have been forgotten, and counted, before
		early = max(0, early-int(l.rows[0].end-first))
	}
	d.early += early
	l.topic.dedupe.Store(d)
	return d.over()
}
