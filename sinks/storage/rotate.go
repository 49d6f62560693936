package storage

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/millrace-run/millrace/event"
)

// rotation is when files are closed, and what is under way of it.
type rotation struct {
	when      Rotate
	packing   string // suffix of what closed files are packed with; empty: they stay as they are
	closes    bool   // files are closed at all
	renames   bool   // a closed file does not keep its name
	stamps    bool   // a closed file always has the time in its name, not only where it must
	due       int64  // when a file may have to be closed, in milliseconds of Unix time; 0 is never
	lastStamp int64  // the last time that went into a name: names sort and differ though the machine's clock may be set back
	mixed     bool   // there may be files of another form
	moving    []*closed
	rides     event.Changes // what goes into the state with the next changes; nothing is lost if it does not get there
	doubt     error         // why the state is not known; the sink must be opened again
	ended     bool          // the sink ended in order before it was opened: nothing behind a settled length is its own
	uncut     bool          // a file of an earlier path may have bytes that nobody settled
}

// closed is what the state holds of a closed file: until it has its name and is packed, or for as long as keep counts it.
type closed struct {
	Root   string  `json:"root"`
	Path   string  `json:"path"`           // that the template gave, as are the names relative to the root
	From   string  `json:"from,omitempty"` // where it may still stand; empty once it is known to have its name
	Name   string  `json:"name"`
	To     string  `json:"to,omitempty"` // what it is packed into
	Dev    uint64  `json:"dev"`
	Ino    uint64  `json:"ino"`
	Length int64   `json:"length"`
	Tail   string  `json:"tail"`
	Closed int64   `json:"closed"` // when, in milliseconds of Unix time
	Stamp  int64   `json:"stamp"`  // later than that of every file closed before; the time in its name
	Packed *packed `json:"packed,omitempty"`

	problem string      // that was logged last; empty if there is none
	resting atomic.Bool // nothing is left to do but to remove it one day
}

// packed is a closed file in its packed form: whole and synced, under its temporary name or its own.
type packed struct {
	Dev   uint64 `json:"dev"`
	Ino   uint64 `json:"ino"`
	Size  int64  `json:"size"`
	Tail  string `json:"tail"`            // hash of its last bytes
	Alone bool   `json:"alone,omitempty"` // the plain file is removed
}

const (
	lastKey  = "last-closed" // the key of the state under which lastStamp is, in decimal
	endedKey = "ended"       // the key that is there while the sink has ended in order
)

// closedPrefix tells the state's keys of closed files from those of open ones, which begin with a slash.
const closedPrefix = "closed:"

func (c *closed) key() string { return closedPrefix + filepath.Join(c.Root, c.Name) }

func (c *closed) encode() []byte {
	b, _ := json.Marshal(c) // a struct of strings and numbers always encodes
	return b
}

func decodeClosed(b []byte) (*closed, error) {
	c := &closed{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, err
	}
	for _, name := range []string{c.Path, c.Name, cmp.Or(c.From, c.Name), cmp.Or(c.To, c.Name)} {
		if !filepath.IsLocal(name) {
			return nil, errors.New("it is not complete")
		}
	}
	if !filepath.IsAbs(c.Root) || c.Length < 0 {
		return nil, errors.New("it is not complete")
	}
	return c, nil
}

// at is the file as an entry, to look whether it still is what it was.
func (c *closed) at(name string) *entry {
	m := mark{Root: c.Root, Name: path.Base(name), Dev: c.Dev, Ino: c.Ino, Length: c.Length, Tail: c.Tail}
	return &entry{mark: m, path: c.Path, at: name}
}

func (s *Sink) now() int64 { return s.clock.Now().UnixMilli() }

// Due is when a file has to be closed, by Deliver or by Tend, whichever is called; zero is never. It must not be called while Open,
// Deliver, Tend or Close runs.
func (s *Sink) Due() time.Time {
	if s.due == 0 {
		return time.Time{}
	}
	return time.UnixMilli(s.due)
}

// Tend closes the files whose time has come. What was answered before must be committed, as before Deliver. After an error the sink
// must be opened again.
func (s *Sink) Tend(ctx context.Context) error {
	if err := s.attach(); err != nil {
		s.due = s.now() + retryPause.Milliseconds()
		return nil // who delivers next hears it
	}
	s.closeRipe(ctx, nil)
	return s.doubt
}

// expect notes that a file may have to be closed at a time.
func (s *Sink) expect(at int64) {
	if s.due == 0 || at < s.due {
		s.due = at
	}
}

// dueOf is when a file has to be closed; MaxInt64 is never.
func (s *Sink) dueOf(e *entry) int64 {
	switch {
	case e.lost != "" || e.Length == 0:
		return math.MaxInt64
	case e.Form != s.form.id && e.Form == formatJSON:
		return 0 // its array has no end, and nothing else would give it one
	case !s.closes:
		return math.MaxInt64
	case e.early, s.left(e.path), s.when.Size > 0 && e.Length >= s.when.Size:
		return 0
	}
	at := int64(math.MaxInt64)
	if s.when.Age > 0 {
		at = e.Began + s.when.Age.Milliseconds()
	}
	if s.when.Idle > 0 {
		at = min(at, e.Wrote+s.when.Idle.Milliseconds())
	}
	return at
}

// closeRipe closes the files whose time has come, and finishes what was begun before. It is called when all that was answered is
// committed: a file that is closed holds nothing that is not settled.
func (s *Sink) closeRipe(ctx context.Context, groups []*group) {
	s.finishMoves(ctx)
	now := s.now()
	var ripe []*entry
	if s.due != 0 && now >= s.due {
		ripe = s.ripe(now)
	}
	if s.mixed {
		for _, g := range groups {
			if e := s.files[g.path]; e != nil && s.strange(e) && !slices.Contains(ripe, e) {
				ripe = append(ripe, e)
			}
		}
	}
	for some := range slices.Chunk(ripe, s.limits.open) {
		if ctx.Err() == nil && s.doubt == nil {
			s.closeFiles(ctx, some, now)
		}
	}
}

// strange says that a file has lines in another form: what comes now must not be added to it.
func (s *Sink) strange(e *entry) bool { return e.lost == "" && e.Length > 0 && e.Form != s.form.id }

func (s *Sink) ripe(now int64) (ripe []*entry) {
	s.due = 0
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		e := s.files[name]
		switch at := s.dueOf(e); {
		case at <= now:
			ripe = append(ripe, e)
		case at < math.MaxInt64:
			s.expect(at)
		}
	}
	return ripe
}

// retryPause is how long what failed beside a delivery is left alone.
const retryPause = 10 * time.Second

// closeFiles does what the package comment's table of closing lists.
func (s *Sink) closeFiles(ctx context.Context, ripe []*entry, now int64) {
	s.turn++
	changes := maps.Clone(s.rides)
	var done []*closed
	for _, e := range ripe {
		c, err := s.seal(e, now)
		if err != nil {
			s.log.Warn("a file is not closed yet", "path", s.absolute(e.at), "err", err)
			s.keeper.counts.problems.Add(1)
			s.expect(now + retryPause.Milliseconds())
		}
		if c != nil {
			changes[s.absolute(e.path)], changes[c.key()] = nil, c.encode()
			done = append(done, c)
		}
	}
	if len(done) == 0 {
		return
	}
	changes[lastKey] = strconv.AppendInt(nil, s.lastStamp, 10)
	if err := s.save(ctx, changes); err != nil {
		s.doubt = fmt.Errorf("that files are closed could not be saved: %w", err)
		return
	}
	clear(s.rides)
	for _, c := range done {
		s.shut(s.files[c.Path])
		delete(s.files, c.Path)
		s.keeper.counts.closed.Add(1)
		s.log.Info("a file is closed", "path", s.absolute(c.Name), "bytes", c.Length)
	}
	s.moving = append(s.moving, done...)
	s.finishMoves(ctx)
}

// seal writes what belongs to a file's end, syncs it, and chooses its names. It returns nil if the file is not the sink's any
// more.
func (s *Sink) seal(e *entry, now int64) (*closed, error) {
	s.makeRoom(e)
	grown, err := e.examine(s.volume)
	s.track(e)
	if err == nil && grown {
		err = e.takeIn()
	}
	if err != nil {
		return nil, err
	}
	if e.lost != "" {
		s.report(e, false)
		s.shut(e)
		return nil, nil
	}
	c := &closed{
		Root: s.place.root, Path: e.path, From: e.at, Dev: e.Dev, Ino: e.Ino, Length: e.Length, Tail: e.Tail,
		Closed: now, Stamp: max(now, s.lastStamp+1),
	}
	if err := s.nameClosed(c, s.renames || e.Form != s.form.id); err != nil {
		return nil, err
	}
	if err := e.writeEnd(c); err != nil {
		return nil, errors.Join(err, e.cut())
	}
	s.lastStamp = c.Stamp
	return c, nil
}

// writeEnd writes what stands at the end of a closed file, and syncs it.
func (e *entry) writeEnd(c *closed) error {
	end := endOf(e.Form)
	if end == "" {
		return nil
	}
	e.dirty = true
	_, err := e.file.WriteAt([]byte(end), e.Length)
	if err == nil {
		err = e.file.Sync()
	}
	c.Length += int64(len(end))
	c.Tail = hashOf(lastBytes(append(slices.Clone(e.tail), end...)))
	return err
}

// nameClosed chooses names that are free.
func (s *Sink) nameClosed(c *closed, rename bool) error {
	c.Name, c.To = c.From, ""
	for n := range maxNumber {
		if rename {
			c.Name = stamped(c.Path, time.UnixMilli(c.Stamp))
		}
		if s.packing != "" {
			c.To = c.Name + s.packing
			if n == 0 && !s.stamps {
				c.To = c.Path + s.packing
			}
		}
		free, err := s.free(c)
		if free || err != nil {
			return err
		}
		if n > 0 || c.To != c.Path+s.packing {
			c.Stamp++
		}
	}
	return fmt.Errorf("%d names for the closed file are taken", maxNumber)
}

// free says whether nothing has, or will have, the names of a closed file, its own where it stands apart.
func (s *Sink) free(c *closed) (bool, error) {
	for _, name := range []string{c.Name, c.To} {
		if name == "" || name == c.From {
			continue
		}
		if s.keeper.claims(c.Root, name) {
			return false, nil
		}
		if _, err := s.volume.stat(name); err == nil {
			return false, nil
		} else if !isMissing(err) {
			return false, err
		}
	}
	return true, nil
}

// finishMoves gives closed files their names. One that cannot be moved blocks its path, since its place is not free.
func (s *Sink) finishMoves(ctx context.Context) {
	if len(s.moving) == 0 {
		return
	}
	left := s.moving
	s.moving = nil
	for _, c := range left {
		err := s.moveIn(ctx, c)
		if err == nil {
			continue
		}
		s.moving = append(s.moving, c)
		s.expect(s.now() + retryPause.Milliseconds())
		if err.Error() != c.problem {
			s.log.Warn("a closed file does not have its name yet", "path", filepath.Join(c.Root, c.From), "err", err)
			s.keeper.counts.problems.Add(1)
		}
		c.problem = err.Error()
	}
}

// blocked says why nothing may be written for a path: a closed file still stands there.
func (s *Sink) blocked(name string) error {
	for _, c := range s.moving {
		if c.Path == name && c.Root == s.place.root {
			return fmt.Errorf("the file that was closed before does not have its name yet: %s", c.problem)
		}
	}
	return nil
}

// moveIn moves a closed file, in whatever root it is, and hands it on.
func (s *Sink) moveIn(ctx context.Context, c *closed) error {
	v := s.volume
	if c.Root != s.place.root || v == nil {
		var err error
		if v, err = s.mount(c.Root, false); err != nil {
			return err
		}
		defer func() { _ = v.close() }()
	}
	why, err := s.move(ctx, v, c)
	switch {
	case err != nil:
		return err
	case why != "":
		s.keeper.leave(c, c.Name, why)
		s.rides[c.key()] = nil
	case c.To == "" && !s.keeper.keep.any():
		s.rides[c.key()] = nil
	default:
		s.keeper.add(c)
	}
	return nil
}

// move renames a closed file and makes that durable. It may have been done before. why says that the file is not the sink's any
// more.
func (s *Sink) move(ctx context.Context, v volume, c *closed) (why string, err error) {
	there := c.at(c.Name)
	in, err := v.stat(c.Name)
	switch {
	case err == nil && there.is(in):
		return "", v.syncFolder(path.Dir(c.Name))
	case err != nil && !isMissing(err):
		return "", err
	}
	taken := err == nil
	if e := s.files[c.Path]; c.From == c.Name || e != nil && e.at == c.From && c.Root == s.place.root {
		return "it is gone", nil // a new file stands where it was: it had its name before
	}
	here := c.at(c.From)
	here.dirty = true // it may have bytes that a sink in doubt wrote behind its end
	_, err = here.examine(v)
	here.shut()
	if err != nil || here.lost != "" {
		return here.lost, err
	}
	if taken {
		if err := s.rename(ctx, c); err != nil {
			return "", err
		}
	}
	if err := v.rename(c.From, c.Name); err != nil {
		return "", err
	}
	return "", v.syncFolder(path.Dir(c.Name))
}

// rename commits another name, because somebody took the one that was chosen.
func (s *Sink) rename(ctx context.Context, c *closed) error {
	if s.volume == nil {
		return errors.New("its name is taken")
	}
	changes := event.Changes{c.key(): nil}
	if err := s.nameClosed(c, true); err != nil {
		return err
	}
	s.lastStamp = max(s.lastStamp, c.Stamp)
	changes[c.key()], changes[lastKey] = c.encode(), strconv.AppendInt(nil, s.lastStamp, 10)
	return s.save(ctx, changes)
}

// isClosedKey says whether a key of the state is that of a closed file.
func isClosedKey(key string) bool { return strings.HasPrefix(key, closedPrefix) }
